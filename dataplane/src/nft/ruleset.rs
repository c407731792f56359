//! Ruleset: one nftables table as plain data: sets, verdict maps, chains and rules.
//!
//! This is what `render` produces and what both encoders (`json` for the kernel, `script` for people and for boot) and
//! `diff` read. It holds exactly the expressions we render and no others; whoever needs another adds a variant here,
//! one arm in each encoder, and the case in `tests/kernel.rs` that loads every variant. It knows no JSON, no text, no
//! handles, and does not judge: a ruleset that names a chain it does not hold is refused by the kernel.
//!
//! An anonymous set that holds a prefix or a range of ports is an interval set, and so is empty for a moment when its
//! rule is new; where that matters, use a named set of kind [`SetKind::Nets`], which `plan` fills first.
//!
//! The table's family is always `inet`; a rule that reads an address therefore starts with [`Expr::NfProto`].

use std::collections::BTreeMap;

use ipnet::IpNet;

pub use crate::nft::elements::{Delta, Element, Elements};

/// The kernel's limit for a log prefix, without the terminating zero.
const LOG_PREFIX_BYTES: usize = 127;
/// The kernel takes 128 bytes of comment, the last one zero; the fingerprint and a blank before the label take 17.
pub(crate) const LABEL_BYTES: usize = 110;

/// Everything we want in our table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The name of the `inet` table; ours alone.
    pub table: String,
    /// Named sets by name.
    pub sets: BTreeMap<String, Set>,
    /// Verdict maps keyed by interface name, by name.
    pub maps: BTreeMap<String, VerdictMap>,
    /// Base and regular chains by name.
    pub chains: BTreeMap<String, Chain>,
}

impl Ruleset {
    /// An empty table called `table`.
    pub fn new(table: impl Into<String>) -> Ruleset {
        Ruleset { table: table.into(), ..Ruleset::default() }
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order we render them.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of `net`.
    pub fn of(net: &IpNet) -> Family {
        match net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }
}

/// What the members of a set are. The kind is fixed for a set's life: another kind needs another set name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// Single addresses in a hash: [`Element::Net`] of full length only. The cheapest to change.
    Addresses(Family),
    /// Prefixes in an interval set: [`Element::Net`]. No member may contain another (the kernel refuses overlaps);
    /// adjacent ones are fine.
    Nets(Family),
    /// `address . protocol . port` in a hash, for named ports: [`Element::AddressPort`].
    AddressPorts(Family),
    /// `protocol . port` in a hash, for failsafes: [`Element::ProtocolPort`].
    ProtocolPorts,
}

impl SetKind {
    /// Whether the kernel publishes this set's content a moment after the rules of the same transaction. A new set of
    /// such a kind must never share a transaction with the rule that uses it.
    pub fn is_interval(self) -> bool {
        matches!(self, SetKind::Nets(_))
    }
}

/// A named set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What its members are.
    pub kind: SetKind,
    /// Its members.
    pub elements: Elements,
}

/// A verdict map from interface name to verdict: a hash, so replacing an element is atomic for packets. Exact names
/// only; wildcards are rules after the lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerdictMap {
    /// Verdict by interface name.
    pub elements: BTreeMap<String, Verdict>,
}

/// A chain: a base chain when it has a hook, otherwise reached by jump and goto only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls it, for a base chain.
    pub hook: Option<Hook>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A regular chain.
    pub fn new(rules: Vec<Rule>) -> Chain {
        Chain { hook: None, rules }
    }

    /// A base chain with policy accept.
    pub fn base(hook: Hook, rules: Vec<Rule>) -> Chain {
        Chain { hook: Some(hook), rules }
    }
}

/// Where a base chain is called. The policy is always accept: what we do not police is not ours to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hook {
    /// The chain type.
    pub kind: ChainKind,
    /// The hook.
    pub point: HookPoint,
    /// Lower runs earlier.
    pub priority: i32,
}

/// nftables' chain types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    /// Filters packets.
    Filter,
    /// Re-routes locally made packets whose mark or address changed.
    Route,
}

/// nftables' hooks of the `inet` family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPoint {
    /// Before routing.
    Prerouting,
    /// To a local process.
    Input,
    /// Through this host.
    Forward,
    /// From a local process.
    Output,
    /// After routing.
    Postrouting,
}

/// One rule: expressions evaluated left to right until one does not match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Matches, then statements, then at most one verdict.
    pub exprs: Vec<Expr>,
    /// What a person should read next to the rule (policy and rule number). Private: it is kept printable and short.
    label: String,
}

impl Rule {
    /// A rule with the label a person reads in `nft list`. Whatever nft could not print back inside quotes is replaced,
    /// and the label is cut to what fits beside the fingerprint.
    pub fn new(label: &str, exprs: Vec<Expr>) -> Rule {
        Rule { exprs, label: quotable(label, LABEL_BYTES) }
    }

    /// The label.
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// In or out, source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The source address or port; the interface the packet came in by.
    Source,
    /// The destination address or port; the interface it leaves by.
    Destination,
}

/// Whether a match wants the value among those given, or not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Is {
    /// `==` or `@set`.
    In,
    /// `!=` or `!= @set`.
    NotIn,
}

/// A port or an inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first port.
    pub min: u16,
    /// The last port.
    pub max: u16,
}

/// Connection tracking states; a rule tests for any of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtState {
    /// Not valid.
    Invalid,
    /// Part of a connection with traffic both ways.
    Established,
    /// Begun by a known connection (ICMP errors, helpers).
    Related,
    /// The first packet.
    New,
    /// Not tracked.
    Untracked,
}

/// Bits of `ct status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtStatus {
    /// The destination was translated.
    Dnat,
    /// The source was translated.
    Snat,
}

/// Which half of a connection a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtDirection {
    /// As the first packet went.
    Original,
    /// The answers.
    Reply,
}

/// Where a verdict sends the packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Ends this base chain; later base chains still see the packet.
    Accept,
    /// Final.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// Evaluate the chain, then go on after this rule.
    Jump(String),
    /// Evaluate the chain instead of what is left of this one.
    Goto(String),
}

impl Verdict {
    /// The chain it names, if it does.
    pub fn target(&self) -> Option<&str> {
        match self {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
            Verdict::Accept | Verdict::Drop | Verdict::Return => None,
        }
    }
}

/// How a packet is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// ICMP or ICMPv6 port unreachable, by the packet's family.
    PortUnreachable,
    /// A TCP reset; only after a match on TCP.
    TcpReset,
}

/// Syslog levels as nft names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the words of syslog, in its order")]
pub enum LogLevel {
    Emerg,
    Alert,
    Crit,
    Err,
    Warn,
    Notice,
    Info,
    Debug,
}

/// The unit of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// Per second.
    Second,
    /// Per minute.
    Minute,
    /// Per hour.
    Hour,
    /// Per day.
    Day,
}

/// A log prefix nft can print back: no quotes, no control characters, at most 127 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPrefix(String);

impl LogPrefix {
    /// Takes any text; what can not be carried is replaced by `_` or cut.
    pub fn new(text: &str) -> LogPrefix {
        LogPrefix(quotable(text, LOG_PREFIX_BYTES))
    }

    /// The prefix as the kernel will print it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr {
    /// `iifname "eth0"` / `oifname != "lo"`. A trailing `*` matches every name with that beginning.
    Interface {
        /// In or out.
        side: Side,
        /// Equal or not.
        is: Is,
        /// The name or `prefix*`.
        name: String,
    },
    /// `iifname vmap @map`: goes on with the next rule when the interface is not in the map.
    Dispatch {
        /// In or out.
        side: Side,
        /// The verdict map's name.
        map: String,
    },
    /// `meta nfproto ipv4`.
    NfProto(Family),
    /// `meta l4proto 6` / `meta l4proto != { 6, 17 }`. Must not be empty.
    L4Proto {
        /// Among them or not.
        is: Is,
        /// Protocol numbers.
        protocols: Vec<u8>,
    },
    /// `ip saddr 10.0.0.0/8` / `ip6 daddr != { … }`, all of one family. Overlaps are dropped when encoding. Must not be
    /// empty.
    Address {
        /// Source or destination.
        side: Side,
        /// Among them or not.
        is: Is,
        /// The family of every prefix in `nets`.
        family: Family,
        /// The prefixes.
        nets: Vec<IpNet>,
    },
    /// `ip saddr @set`, of kind [`SetKind::Addresses`] or [`SetKind::Nets`].
    AddressSet {
        /// Source or destination.
        side: Side,
        /// In it or not.
        is: Is,
        /// The family of the set.
        family: Family,
        /// The set's name.
        set: String,
    },
    /// `th dport { 80, 8000-8100 }`. Restrict the protocol first ([`Expr::L4Proto`]). Must not be empty.
    Port {
        /// Source or destination.
        side: Side,
        /// Among them or not.
        is: Is,
        /// Ports and ranges.
        ports: Vec<PortRange>,
    },
    /// `ip daddr . meta l4proto . th dport @set`, of kind [`SetKind::AddressPorts`].
    AddressPortSet {
        /// Source or destination, for both address and port.
        side: Side,
        /// In it or not.
        is: Is,
        /// The family of the set.
        family: Family,
        /// The set's name.
        set: String,
    },
    /// `meta l4proto . th dport @set`, of kind [`SetKind::ProtocolPorts`].
    ProtocolPortSet {
        /// Source or destination port.
        side: Side,
        /// In it or not.
        is: Is,
        /// The set's name.
        set: String,
    },
    /// `icmp type { 3, 8 }` / `icmpv6 type != 135`: implies the protocol. Must not be empty.
    IcmpType {
        /// ICMP or ICMPv6.
        family: Family,
        /// Among them or not.
        is: Is,
        /// Type numbers.
        types: Vec<u8>,
    },
    /// `icmp type . icmp code { 3 . 1 }`, which also negates as one pair. Must not be empty.
    IcmpTypeCode {
        /// ICMP or ICMPv6.
        family: Family,
        /// Among them or not.
        is: Is,
        /// Type and code numbers.
        pairs: Vec<(u8, u8)>,
    },
    /// `ct state established,related`: any of them. There is no negated form: nft's is a whole-word comparison.
    CtState(Vec<CtState>),
    /// `ct status & dnat != 0`, or with [`Is::NotIn`] `== 0`: always the bit test.
    CtStatus {
        /// Set or not.
        is: Is,
        /// The bit.
        status: CtStatus,
    },
    /// `fib saddr type local`: the address is one of this host's own. A route lookup: about as dear as a set lookup.
    Local {
        /// Source or destination address.
        side: Side,
        /// One of ours or not.
        is: Is,
    },
    /// `ct direction original`.
    CtDirection(CtDirection),
    /// `meta mark & mask == value`.
    Mark {
        /// Equal or not.
        is: Is,
        /// The bits looked at.
        mask: u32,
        /// What they must be.
        value: u32,
    },
    /// `meta mark set meta mark & keep | set`: keeps the bits of `keep`, then sets those of `set`.
    SetMark {
        /// Bits that survive.
        keep: u32,
        /// Bits set afterwards.
        set: u32,
    },
    /// `limit rate 10/second burst 5 packets`: matches while the rate is not exceeded.
    Limit {
        /// Packets per `per`; at least 1.
        rate: u32,
        /// The unit.
        per: Per,
        /// Packets above the rate that still match; at least 1.
        burst: u32,
    },
    /// `log prefix "…" level info`.
    Log {
        /// The beginning of the line.
        prefix: LogPrefix,
        /// Its level.
        level: LogLevel,
    },
    /// `counter`.
    Counter,
    /// `notrack`, in chains before connection tracking.
    Notrack,
    /// `reject with …`.
    Reject(Reject),
    /// `accept`, `drop`, `return`, `jump`, `goto`.
    Verdict(Verdict),
}

impl Expr {
    /// `accept`.
    pub fn accept() -> Expr {
        Expr::Verdict(Verdict::Accept)
    }

    /// `drop`.
    pub fn drop() -> Expr {
        Expr::Verdict(Verdict::Drop)
    }

    /// `return`.
    pub fn ret() -> Expr {
        Expr::Verdict(Verdict::Return)
    }

    /// `jump chain`.
    pub fn jump(chain: impl Into<String>) -> Expr {
        Expr::Verdict(Verdict::Jump(chain.into()))
    }

    /// `goto chain`.
    pub fn goto(chain: impl Into<String>) -> Expr {
        Expr::Verdict(Verdict::Goto(chain.into()))
    }

    /// The named set it looks into, if it does.
    pub fn set(&self) -> Option<&str> {
        match self {
            Expr::AddressSet { set, .. }
            | Expr::AddressPortSet { set, .. }
            | Expr::ProtocolPortSet { set, .. } => Some(set),
            _ => None,
        }
    }
}

/// `text` as nft can carry it between double quotes, which it offers no way to escape: at most `max` bytes, cut at a
/// character.
fn quotable(text: &str, max: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(max));
    for character in text.chars() {
        let character =
            if character.is_control() || matches!(character, '"' | '\\') { '_' } else { character };
        if kept.len() + character.len_utf8() > max {
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_prefixes_are_made_carriable() {
        assert_eq!(Rule::new("a \"b\"\n\\c", vec![]).label(), "a _b___c");
        let cut = LogPrefix::new(&"ä".repeat(100));
        assert_eq!(cut.as_str().len(), 126, "cut at a character, not inside one");
    }
}
