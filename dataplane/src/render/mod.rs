//! Render: from `Desired` to the table that enforces it. Pure: the same `Desired` is always the same table.
//!
//! ```text
//!  input ──► iifname vmap @ep_in ──► ep_<endpoint>_in          known connection? invalid? ──► accept, drop
//!              │ not in the map                │
//!              ▼                               ├─ jump failsafe_in      discovery, own ports, failsafes ──► accept
//!       `*` endpoint's chain, or pass          ├─ jump pi_<policy>      tier by tier ──► accept, drop, or back
//!                                              ├─ jump ri_<profile>     profile by profile ──► the same
//!                                              └─ drop
//! ```
//!
//! **One `inet` table for both families.** A rule that looks at addresses is rendered once per family and says which
//! first; one that does not is rendered once. The base chains, and where the stages still to come will be hooked, are
//! in `base_chains`.
//!
//! **Accept needs no mark, Pass needs one.** A policed interface has one endpoint, so `accept` in a policy's chain is the
//! end of this hook, and other tables are still asked. Chains of policies are shared by all endpoints; the price is
//! that Pass, which leaves a tier from inside a policy, needs one bit of the packet mark (`endpoint` explains it). Only
//! tiers with a Pass rule pay it.
//!
//! **Nothing leaks while it changes.** Names say what a thing holds wherever a change of content would not be atomic: a
//! set that turns from addresses to prefixes, or a list of ranges that is edited, is another set with another name, to
//! be filled before the rule that uses it is put in force. Rules hold no anonymous interval sets at all.
//!
//! **What policy can not close** is in `failsafe`: neighbour discovery (our choice where Calico leaves IPv6 to break,
//! quirk Q12), the cluster's own ports and members, and the failsafe ports.
//!
//! *Questions for a reviewer.* Does a new match hold for both families, and is its "or" an alternative? Can what it
//! puts in a set change under a fixed name? Is there a golden whose difference shows the change?

mod base_chains;
mod dispatch;
mod endpoint;
mod failsafe;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_case;
mod ip_set;
mod names;
mod policy;
mod rule;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::calc::desired::{Desired, Settings, Structure};
use crate::nft::{Chain, Expr, Reject, Ruleset, Set};

/// Everything rendering needs beside `Desired`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderOptions {
    /// The name of our table.
    pub table: String,
    /// The bits of the packet mark we may use.
    pub marks: Marks,
    /// What policy can never close.
    pub protected: Protected,
}

impl Default for RenderOptions {
    fn default() -> RenderOptions {
        RenderOptions {
            table: "appliance".to_owned(),
            marks: Marks::default(),
            protected: Protected::default(),
        }
    }
}

/// Bits of the packet mark, one each. Both are cleared before a packet leaves our chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// "A Pass rule ended this tier."
    pub pass: u32,
    /// "Sent by this host to a translated destination: police it when the interface it leaves by is known."
    pub dnat: u32,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks { pass: 0x2000_0000, dnat: 0x4000_0000 }
    }
}

/// The cluster's own traffic, which no policy may cut: a cluster that can cut itself in two can not be mended through
/// itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protected {
    /// TCP ports of this host: the API's and the peers'.
    pub inbound: BTreeSet<u16>,
    /// Where this host reaches its members, over TCP.
    pub outbound: BTreeSet<SocketAddr>,
}

/// The three ways through the table that a host endpoint polices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// To a process of this host.
    In,
    /// From a process of this host.
    Out,
    /// From a process of this host to a translated destination. The same rules as `Out`, asked after routing, where the
    /// kernel allows no reject; so it has chains of its own when denied packets are rejected.
    OutDnat,
}

/// Renders the whole table.
pub fn render(desired: &Desired, options: &RenderOptions) -> Ruleset {
    let mut ruleset = Ruleset::new(options.table.clone());
    ip_set::render(&desired.sets, &mut ruleset);
    let mut table = Table { structure: &desired.structure, options, ruleset };
    base_chains::render(&mut table);
    failsafe::render(&mut table);
    for lane in lanes(&desired.structure.settings).iter().copied() {
        dispatch::render(&mut table, lane);
        let asked = endpoint::render(&mut table, lane);
        policy::render(&mut table, lane, &asked);
    }
    table.ruleset
}

/// Brings a table up to date with a `Desired` of the same structure: only members of sets differ, no rule is touched.
/// Costs one step per set and nothing per member.
pub fn refresh(ruleset: &mut Ruleset, desired: &Desired) {
    ip_set::render(&desired.sets, ruleset);
}

/// The lanes that have chains of their own.
fn lanes(settings: &Settings) -> &'static [Lane] {
    if settings.reject { &[Lane::In, Lane::Out, Lane::OutDnat] } else { &[Lane::In, Lane::Out] }
}

/// A table in the making, with what everyone who adds to it reads.
pub(crate) struct Table<'a> {
    structure: &'a Structure,
    options: &'a RenderOptions,
    ruleset: Ruleset,
}

impl Table<'_> {
    fn add_chain(&mut self, name: impl Into<String>, chain: Chain) {
        self.ruleset.chains.insert(name.into(), chain);
    }

    fn add_set(&mut self, name: impl Into<String>, set: Set) {
        self.ruleset.sets.insert(name.into(), set);
    }

    /// The last step of a rule that denies.
    fn deny(&self, lane: Lane) -> Expr {
        match lane {
            Lane::In | Lane::Out if self.structure.settings.reject => Expr::Reject(Reject::PortUnreachable),
            _ => Expr::drop(),
        }
    }

    /// Whether any interface is policed.
    fn polices(&self) -> bool {
        !self.structure.endpoints.is_empty()
    }
}
