//! The dataplane: from resources to packets on one node.
//!
//! ```text
//!   Update ──► calc ──► Desired ──► render ──► Ruleset ──► diff ──► plan ──► Nft ──► kernel
//!  Interfaces ──┘                                           ▲                │
//!                                                         shadow ◄───────────┘ what was committed
//! ```
//!
//! `calc` turns the cluster's resources into what this node should enforce; `render` turns that into one nftables table
//! as plain data; `nft::diff` and `nft::plan` turn the difference to what the kernel has into transactions; `nft::Nft`
//! runs them. Each arrow is a function of values, and the loop around them (`reconciler`) is the only place that waits.
//! The edges to the world are four: `nft::command` starts nft, `nft::netlink` and `interfaces` speak netlink, `saved`
//! writes the last rulesets and, at a start without a table, loads one. `clippy.toml` holds the rest of the crate to having no clock, no environment and no processes.
//!
//! **A change costs what it changes.** What is large is shared: a set of 100,000 members is a persistent value
//! (`nft::Elements`), a member more copies one chunk of it, and comparing two snapshots skips what they share. The
//! comparison is with the shadow, our book of what we committed, so that a change needs no listing; and members travel
//! by netlink, because nft would first download every interval set of the host. So one address into 100,000 is one
//! element in every step. Structure (chains, rules, sets that come and go) is small and goes through nft, in the types
//! of the `nftables` crate.
//!
//! **Whole or not at all, and never empty.** A transaction is atomic for rules and for hashed elements, but an interval
//! set shows its content a moment after the rules that use it. Hence prepare (sets filled, chains written, nothing
//! reachable), flip (one transaction), clean up: `nft::plan`. A base chain is hooked last. `tests/kernel` floods a host
//! with packets that every version of a policy drops, changes it a thousand times, and counts what got through: nothing.
//!
//! **Fail closed, stay put.** Nothing new reaches the kernel before the store is in sync and the interfaces are known;
//! until then, and after a stop or a crash, the last policy stays in force, and until then what others do to it is undone
//! with the ruleset on disk. Which revision it was is on disk too, before the kernel is changed, so that whoever feeds us
//! can tell whether a store that nobody confirms would take something back. A ruleset the kernel refuses is searched for
//! the endpoint to blame (`offenders`): that one is denied everything but failsafes and reported, the others are
//! enforced as written. What fails for another reason is retried, later each time, while the old policy holds.
//!
//! **Restart without memory.** Every rule carries a hash of itself in its comment, so a start lists our table once,
//! recognises what is already as wanted, and touches nothing else: no rule gets a new handle, no packet meets a gap.
//! The last two enforced rulesets also lie on disk, as scripts that prove to be whole and that a boot unit can load
//! before the network is up; loaded so, they are adopted in the same way. What others did to the table while we were
//! away is found by comparing it with the script (`nft::outline`), where that is known to be of what we left.
//!
//! **Drift.** The kernel announces every commit with the process that made it. A commit that touched our table and was
//! not ours leads to a listing, and what differs (a rule by hash and handle, a member, an object nobody ordered) is put
//! right through the ordinary plan and reported with what was changed and by whom. A table that was switched off (`flags
//! dormant`) is woken before it is listed: nft 1.0.6 can not list such a table, and until then everything passes. If the table is gone and large, a
//! `nft::shield` goes first: everything that needs time to load is denied until it is there. Under the announcements
//! lies a comparison of the generation every second, and under that a full listing every few minutes. Other tables are
//! never listed and never touched.
//!
//! *Questions for a reviewer.*
//! - Does a new expression have an arm in both encoders and a line in `tests/kernel/rulesets.rs`? Is it, or can it
//!   become, an anonymous set with ranges? Then it is empty for a moment when its rule is new.
//! - Could a change remove a member before the rule that needed it, or add one before the rule that excludes it?
//!   `plan` guards each chain that changes; a chain that stays and is only reached anew meets its sets a moment before
//!   their members are removed. Is that still the only exception?
//! - Does anything new wait outside `reconciler`'s one `select!`, or before policy is in force?
//! - What happens to it when nft is missing, when netlink is refused, and when someone else commits in between?

// For the one file of tests that is compiled into another crate too: `render/golden_case.rs`.
#[cfg(test)]
extern crate self as appliance_dataplane;

pub mod calc;
mod enforcer;
pub mod error;
pub mod interfaces;
mod intrusion;
pub mod nft;
mod offenders;
pub mod reconciler;
pub mod render;
pub mod report;
pub mod saved;
pub mod standing;
mod whole;

pub use calc::Update;
pub use error::StartError;
pub use nft::{NftVersion, ProbeError, probe};
pub use reconciler::{Input, Options, Reconciler};
pub use render::{Marks, Protected};
pub use report::Report;
