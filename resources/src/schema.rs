//! Schema (follows).
