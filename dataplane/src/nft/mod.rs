//! nftables: our table as data, and the ways from there to the kernel and back.
//!
//! `ruleset` (with `elements`) is what we want, `actual` what the kernel has; `diff` finds what separates them, `plan`
//! puts it into transactions, `Nft` runs those. Everything is pure but `command` (starts nft), `netlink` and `kernel`,
//! which joins the two.

pub mod actual;
pub mod command;
pub mod commits;
pub mod diff;
pub mod elements;
pub mod fake;
pub mod fingerprint;
pub mod json;
pub mod kernel;
pub mod listing;
pub mod netlink;
pub mod outline;
mod overlay;
pub mod plan;
pub mod ruleset;
pub mod script;
pub mod shield;
pub mod transaction;

use std::collections::BTreeMap;
use std::future::Future;

pub use actual::Actual;
pub use command::{NftVersion, ProbeError, probe};
pub use fake::FakeNft;
pub use kernel::Kernel;
pub use netlink::events::{Commit, Event};
pub use ruleset::{
    Chain, ChainKind, CtDirection, CtState, CtStatus, Delta, Element, Elements, Expr, Family, Hook,
    HookPoint, Is, LogLevel, LogPrefix, Per, PortRange, Reject, Rule, Ruleset, Set, SetKind, Side, Verdict,
    VerdictMap,
};
pub use transaction::{Operation, Transaction};

/// One table of one nf_tables: the kernel's, or one in memory.
pub trait Nft: Send {
    /// Whether the table is switched off: everything is in it, and none of its base chains is called. Asked apart from
    /// and before a listing, for nft 1.0.6 lists such a table as JSON with garbage in it, or not at all.
    fn dormant(&mut self) -> impl Future<Output = Result<bool, NftError>> + Send;
    /// What the table holds.
    fn list(&mut self) -> impl Future<Output = Result<Actual, NftError>> + Send;
    /// Commits a transaction: all of it, or nothing.
    fn run(&mut self, transaction: &Transaction) -> impl Future<Output = Result<Committed, NftError>> + Send;
    /// Commits a script of [`script::boot`], which replaces the table by what it held when that was written.
    fn load(&mut self, script: String) -> impl Future<Output = Result<Committed, NftError>> + Send;
    /// Asks whether a transaction would be committed.
    fn check(&mut self, transaction: &Transaction) -> impl Future<Output = Result<(), NftError>> + Send;
    /// The generation of the ruleset, which every commit by anyone changes; none where it can not be read.
    fn generation(&mut self) -> Result<Option<u32>, NftError>;
    /// The handles of our rules by chain, in order; none where they can not be read cheaply.
    fn handles(&mut self) -> Result<Option<BTreeMap<String, Vec<u64>>>, NftError>;
    /// Waits for commits by anyone, ours included. Cancel-safe.
    fn events(&mut self) -> impl Future<Output = Vec<Event>> + Send;
    /// The commits already announced, without waiting.
    fn drain(&mut self) -> Vec<Event>;
}

/// A transaction that took effect: the generations read before and after it. When they are neighbours, the second is
/// ours; otherwise others committed at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Before.
    pub before: Option<u32>,
    /// After.
    pub after: Option<u32>,
}

/// Why a transaction did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// An object was missing or in the way: our idea of the table is old, and must be made new by a listing.
    #[error("the table is not as expected: {0}")]
    Stale(String),
    /// The kernel will not have it, whenever asked.
    #[error("refused: {0}")]
    Refused(String),
    /// Whoever was to ask the kernel was killed or hung: it may have taken effect or not.
    #[error("interrupted, so that it is not known whether it took effect: {0}")]
    Interrupted(String),
    /// The kernel could not be asked.
    #[error("not available: {0}")]
    Unavailable(String),
}
