//! Script: rulesets as nft text, for goldens, for people, and for the boot unit that loads the last enforced ruleset.
//!
//! The kernel is programmed through `json`, never through this; the text of a rule is also what its fingerprint hashes,
//! so a change of wording here makes every node rewrite its chains once (without a gap).

use std::collections::BTreeMap;
use std::fmt::Write;

use ipnet::IpNet;

use crate::nft::fingerprint;
use crate::nft::ruleset::{
    ChainKind, CtDirection, CtState, CtStatus, Expr, Family, Hook, HookPoint, Is, LogLevel, Per, PortRange,
    Reject, Rule, Ruleset, Set, SetKind, Side, Verdict,
};

/// What the comment of a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comments {
    /// The label alone: for goldens, where a hash would only be noise.
    Labels,
    /// Fingerprint and label, as in the kernel: what is loaded at boot can be adopted unchanged.
    Fingerprints,
}

/// The whole table, `table inet … { … }`.
pub fn ruleset(ruleset: &Ruleset, comments: Comments) -> String {
    let mut text = format!("table inet {} {{\n", ruleset.table);
    let mut blocks = Vec::new();
    blocks.extend(ruleset.sets.iter().map(|(name, set)| block("set", name, &set_lines(set))));
    for (name, map) in &ruleset.maps {
        blocks.push(block("map", name, &map_lines(&map.elements)));
    }
    for (name, chain) in &ruleset.chains {
        let rules = chain.rules.iter().map(|rule| self::rule(rule, comments));
        let lines: Vec<String> = chain.hook.iter().map(hook).chain(rules).collect();
        blocks.push(block("chain", name, &lines));
    }
    text.push_str(&blocks.join("\n"));
    text.push_str("}\n");
    text
}

/// A file `nft -f` loads on any host: replaces our table, whatever is there, by `wanted`.
pub fn boot(wanted: &Ruleset) -> String {
    let table = &wanted.table;
    format!(
        "#!/usr/sbin/nft -f\n# The ruleset appliance enforced last on this host. Loaded at boot, before the network; rewritten by appliance.\n\
         add table inet {table}\ndelete table inet {table}\n{}",
        ruleset(wanted, Comments::Fingerprints)
    )
}

fn block(kind: &str, name: &str, lines: &[String]) -> String {
    let mut block = format!("  {kind} {name} {{\n");
    for line in lines {
        let _ = writeln!(block, "    {line}");
    }
    block.push_str("  }\n");
    block
}

/// What stands in the block of a set.
pub(crate) fn set_lines(set: &Set) -> Vec<String> {
    let kind = format!("type {}", set_types(set.kind).join(" . "));
    let flags = set.kind.is_interval().then(|| "flags interval".to_owned());
    let elements: Vec<String> = set.elements.iter().map(ToString::to_string).collect();
    [kind].into_iter().chain(flags).chain(element_line(&elements)).collect()
}

/// What stands in the block of a map.
pub(crate) fn map_lines(elements: &BTreeMap<String, Verdict>) -> Vec<String> {
    let pair =
        |(interface, to): (&String, &Verdict)| format!("{} : {}", quoted(&exact(interface)), verdict(to));
    let elements: Vec<String> = elements.iter().map(pair).collect();
    ["type ifname : verdict".to_owned()].into_iter().chain(element_line(&elements)).collect()
}

/// The field types of a set's key, in nft's words.
pub(crate) fn set_types(kind: SetKind) -> &'static [&'static str] {
    match kind {
        SetKind::Addresses(Family::V4) | SetKind::Nets(Family::V4) => &["ipv4_addr"],
        SetKind::Addresses(Family::V6) | SetKind::Nets(Family::V6) => &["ipv6_addr"],
        SetKind::AddressPorts(Family::V4) => &["ipv4_addr", "inet_proto", "inet_service"],
        SetKind::AddressPorts(Family::V6) => &["ipv6_addr", "inet_proto", "inet_service"],
        SetKind::ProtocolPorts => &["inet_proto", "inet_service"],
    }
}

/// nft refuses an empty element list, so nothing at all is written for none.
fn element_line(elements: &[String]) -> Option<String> {
    (!elements.is_empty()).then(|| format!("elements = {{ {} }}", elements.join(", ")))
}

/// Where a base chain is hooked, in nft's words.
pub(crate) fn hook(hook: &Hook) -> String {
    let kind = match hook.kind {
        ChainKind::Filter => "filter",
        ChainKind::Route => "route",
    };
    format!("type {kind} hook {} priority {}; policy accept;", hook_point(hook.point), hook.priority)
}

/// A hook in nft's words.
pub(crate) fn hook_point(point: HookPoint) -> &'static str {
    match point {
        HookPoint::Prerouting => "prerouting",
        HookPoint::Input => "input",
        HookPoint::Forward => "forward",
        HookPoint::Output => "output",
        HookPoint::Postrouting => "postrouting",
    }
}

/// One rule with its comment.
pub fn rule(rule: &Rule, comments: Comments) -> String {
    let comment = match comments {
        Comments::Labels => rule.label().to_owned(),
        Comments::Fingerprints => fingerprint::comment(rule),
    };
    let mut text = exprs(&rule.exprs);
    if !comment.is_empty() {
        let _ = write!(text, " comment {}", quoted(&comment));
    }
    text
}

/// The expressions of a rule, without its comment.
pub fn exprs(exprs: &[Expr]) -> String {
    exprs.iter().map(expr).collect::<Vec<_>>().join(" ")
}

fn expr(expr: &Expr) -> String {
    match expr {
        Expr::Interface { side, is, name } => format!("{}{}{}", interface_key(*side), op(*is), quoted(name)),
        Expr::Dispatch { side, map } => format!("{} vmap @{map}", interface_key(*side)),
        Expr::NfProto(family) => format!("meta nfproto {}", nfproto(*family)),
        Expr::L4Proto { is, protocols } => format!("meta l4proto{}{}", op(*is), any_of(protocols)),
        Expr::Address { side, is, family, nets } => {
            format!("{}{}{}", address_key(*family, *side), op(*is), any_of(&cover(nets)))
        }
        Expr::AddressSet { side, is, family, set } => {
            format!("{}{}@{set}", address_key(*family, *side), op(*is))
        }
        Expr::Port { side, is, ports } => {
            let ports: Vec<String> = port_cover(ports).iter().map(port_range).collect();
            format!("th {}{}{}", port_key(*side), op(*is), any_of(&ports))
        }
        Expr::AddressPortSet { side, is, family, set } => format!(
            "{} . meta l4proto . th {}{}@{set}",
            address_key(*family, *side),
            port_key(*side),
            op(*is)
        ),
        Expr::ProtocolPortSet { side, is, set } => {
            format!("meta l4proto . th {}{}@{set}", port_key(*side), op(*is))
        }
        Expr::IcmpType { family, is, types } => format!("{} type{}{}", icmp(*family), op(*is), any_of(types)),
        Expr::IcmpTypeCode { family, is, pairs } => {
            let pairs: Vec<String> = pairs.iter().map(|(kind, code)| format!("{kind} . {code}")).collect();
            let icmp = icmp(*family);
            format!("{icmp} type . {icmp} code{}{{ {} }}", op(*is), pairs.join(", "))
        }
        Expr::CtState(states) => {
            format!("ct state {}", states.iter().map(|state| ct_state(*state)).collect::<Vec<_>>().join(","))
        }
        Expr::CtStatus { is, status } => {
            let compare = if *is == Is::In { "!=" } else { "==" };
            format!("ct status & {} {compare} 0", ct_status(*status))
        }
        Expr::Local { side, is } => {
            let address = if *side == Side::Source { "saddr" } else { "daddr" };
            let compare = if *is == Is::In { "" } else { "!= " };
            format!("fib {address} type {compare}local")
        }
        Expr::CtDirection(direction) => format!("ct direction {}", ct_direction(*direction)),
        Expr::Mark { is, mask, value } => {
            let compare = if *is == Is::In { "==" } else { "!=" };
            format!("meta mark & {mask:#010x} {compare} {value:#010x}")
        }
        Expr::SetMark { keep, set } => format!("meta mark set meta mark & {keep:#010x} | {set:#010x}"),
        Expr::Limit { rate, per, burst } => {
            format!("limit rate {rate}/{} burst {burst} packets", self::per(*per))
        }
        Expr::Log { prefix, level } => {
            format!("log prefix {} level {}", quoted(prefix.as_str()), log_level(*level))
        }
        Expr::Counter => "counter".to_owned(),
        Expr::Notrack => "notrack".to_owned(),
        Expr::Reject(Reject::PortUnreachable) => "reject with icmpx port-unreachable".to_owned(),
        Expr::Reject(Reject::TcpReset) => "reject with tcp reset".to_owned(),
        Expr::Verdict(to) => verdict(to),
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

/// Between matching and not: one blank, or `!=` with blanks around it.
fn op(is: Is) -> &'static str {
    match is {
        Is::In => " ",
        Is::NotIn => " != ",
    }
}

fn any_of<T: ToString>(values: &[T]) -> String {
    match values {
        [one] => one.to_string(),
        many => format!("{{ {} }}", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn interface_key(side: Side) -> &'static str {
    match side {
        Side::Source => "iifname",
        Side::Destination => "oifname",
    }
}

fn nfproto(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn address_key(family: Family, side: Side) -> &'static str {
    match (family, side) {
        (Family::V4, Side::Source) => "ip saddr",
        (Family::V4, Side::Destination) => "ip daddr",
        (Family::V6, Side::Source) => "ip6 saddr",
        (Family::V6, Side::Destination) => "ip6 daddr",
    }
}

fn port_key(side: Side) -> &'static str {
    match side {
        Side::Source => "sport",
        Side::Destination => "dport",
    }
}

fn icmp(family: Family) -> &'static str {
    match family {
        Family::V4 => "icmp",
        Family::V6 => "icmpv6",
    }
}

fn port_range(range: &PortRange) -> String {
    if range.min == range.max { range.min.to_string() } else { format!("{}-{}", range.min, range.max) }
}

/// A connection tracking state in nft's words.
pub(crate) fn ct_state(state: CtState) -> &'static str {
    match state {
        CtState::Invalid => "invalid",
        CtState::Established => "established",
        CtState::Related => "related",
        CtState::New => "new",
        CtState::Untracked => "untracked",
    }
}

/// A connection tracking status bit in nft's words.
pub(crate) fn ct_status(status: CtStatus) -> &'static str {
    match status {
        CtStatus::Dnat => "dnat",
        CtStatus::Snat => "snat",
    }
}

/// A direction in nft's words.
pub(crate) fn ct_direction(direction: CtDirection) -> &'static str {
    match direction {
        CtDirection::Original => "original",
        CtDirection::Reply => "reply",
    }
}

/// A rate's unit in nft's words.
pub(crate) fn per(per: Per) -> &'static str {
    match per {
        Per::Second => "second",
        Per::Minute => "minute",
        Per::Hour => "hour",
        Per::Day => "day",
    }
}

fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Emerg => "emerg",
        LogLevel::Alert => "alert",
        LogLevel::Crit => "crit",
        LogLevel::Err => "err",
        LogLevel::Warn => "warn",
        LogLevel::Notice => "notice",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}

/// An interface name as one exact name: nft would read a trailing `*` as a wildcard.
pub(crate) fn exact(interface: &str) -> String {
    match interface.strip_suffix('*') {
        Some(prefix) => format!("{prefix}\\*"),
        None => interface.to_owned(),
    }
}

/// nft has no escape for a quote inside quotes. Labels and prefixes hold none; an interface may be called so, and then
/// no text can name it: `?` matches no interface, while the kernel itself is programmed by JSON, which can.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "?"))
}

/// The prefixes no other one of them contains: an anonymous interval set refuses overlaps.
pub(crate) fn cover(nets: &[IpNet]) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    nets.sort_unstable();
    let mut kept: Vec<IpNet> = Vec::with_capacity(nets.len());
    for net in nets {
        if !kept.last().is_some_and(|last| last.contains(&net)) {
            kept.push(net);
        }
    }
    kept
}

/// The ranges merged where they overlap or touch, for the same reason.
pub(crate) fn port_cover(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(range.min) <= u32::from(last.max) + 1 => {
                last.max = last.max.max(range.max)
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::ruleset::{Chain, Element, Elements, VerdictMap};

    #[test]
    fn overlapping_nets_and_ports_are_covered_once() {
        let nets: Vec<IpNet> = ["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "11.0.0.0/8"]
            .map(|net| net.parse().unwrap())
            .to_vec();
        assert_eq!(any_of(&cover(&nets)), "{ 10.0.0.0/8, 11.0.0.0/8 }");
        let ports = [(80, 80), (1, 65535), (81, 90)].map(|(min, max)| PortRange { min, max });
        assert_eq!(port_cover(&ports), [PortRange { min: 1, max: 65535 }]);
        let ports = [(80, 80), (81, 90), (92, 92)].map(|(min, max)| PortRange { min, max });
        assert_eq!(port_cover(&ports).iter().map(port_range).collect::<Vec<_>>(), ["80-90", "92"]);
    }

    #[test]
    fn a_table_reads_as_a_person_would_write_it() {
        let mut wanted = Ruleset::new("appliance");
        let nets: Elements =
            ["10.0.0.0/8", "192.0.2.1/32"].iter().map(|net| Element::Net(net.parse().unwrap())).collect();
        wanted.sets.insert("s4_a".into(), Set { kind: SetKind::Nets(Family::V4), elements: nets });
        wanted
            .sets
            .insert("s6_a".into(), Set { kind: SetKind::Addresses(Family::V6), elements: Elements::new() });
        let elements = [("eth0".to_owned(), Verdict::Goto("ep_eth0_in".into()))].into();
        wanted.maps.insert("loc_in".into(), VerdictMap { elements });
        let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Input, priority: -5 };
        let dispatch = Rule::new("", vec![Expr::Dispatch { side: Side::Source, map: "loc_in".into() }]);
        wanted.chains.insert("input".into(), Chain::base(hook, vec![dispatch]));
        let drop = Rule::new("end of tier", vec![Expr::Counter, Expr::drop()]);
        wanted.chains.insert("ep_eth0_in".into(), Chain::new(vec![drop]));
        let text = "table inet appliance {
  set s4_a {
    type ipv4_addr
    flags interval
    elements = { 10.0.0.0/8, 192.0.2.1 }
  }

  set s6_a {
    type ipv6_addr
  }

  map loc_in {
    type ifname : verdict
    elements = { \"eth0\" : goto ep_eth0_in }
  }

  chain ep_eth0_in {
    counter drop comment \"end of tier\"
  }

  chain input {
    type filter hook input priority -5; policy accept;
    iifname vmap @loc_in
  }
}
";
        assert_eq!(ruleset(&wanted, Comments::Labels), text);
    }
}
