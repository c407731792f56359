//! What clients saw, and whether it can be true: histories of operations and watches, and three checks of them. Pure.
//!
//! ```text
//!   operations ──► revisions   trusts the revisions the store answers with; exact, fast, sees whole lists
//!        │    └──► search      trusts nothing but what was asked and answered, and when; object by object
//!        └─ log ─► watches     every stream against the one history that all of them must tell
//! ```
//!
//! The first two are second opinions on each other: a bug that also lies about revisions escapes the first, one that
//! tears a list apart escapes the second. Nothing here runs anything or knows the time: `chaos` records.

pub mod operation;
pub mod revisions;
pub mod search;
pub mod watches;
