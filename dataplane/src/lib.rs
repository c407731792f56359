//! Placeholder; the essay follows.
