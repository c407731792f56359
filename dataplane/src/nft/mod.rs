//! nftables: our table as data, and the ways from there to the kernel and back.

pub mod actual;
pub mod diff;
pub mod elements;
pub mod fingerprint;
pub mod json;
mod overlay;
pub mod plan;
pub mod ruleset;
pub mod script;
pub mod shield;
pub mod transaction;

pub use actual::Actual;
pub use ruleset::{
    Chain, ChainKind, CtDirection, CtState, CtStatus, Delta, Element, Elements, Expr, Family, Hook,
    HookPoint, Is, LogLevel, LogPrefix, Per, PortRange, Reject, Rule, Ruleset, Set, SetKind, Side, Verdict,
    VerdictMap,
};
pub use transaction::{Operation, Transaction};
