//! Rulesets for tests: one with every expression, and random ones.

use appliance_dataplane::nft::{
    Chain, ChainKind, CtDirection, CtState, CtStatus, Element, Elements, Expr, Family, Hook, HookPoint, Is,
    LogLevel, LogPrefix, Per, PortRange, Reject, Rule, Ruleset, Set, SetKind, Side, Verdict, VerdictMap,
};
use ipnet::IpNet;
use proptest::prelude::*;

pub(crate) const TABLE: &str = "appliance";

pub(crate) fn nets(family: Family, nets: &[&str]) -> Set {
    set(SetKind::Nets(family), nets.iter().map(|net| Element::Net(net.parse().unwrap())))
}

pub(crate) fn set(kind: SetKind, elements: impl IntoIterator<Item = Element>) -> Set {
    Set { kind, elements: elements.into_iter().collect::<Elements>() }
}

/// One set of every kind, by name.
fn sets() -> Vec<(&'static str, Set)> {
    let named_port =
        |address: &str| Element::AddressPort { address: address.parse().unwrap(), protocol: 6, port: 80 };
    vec![
        ("addresses4", set(SetKind::Addresses(Family::V4), [Element::address([10, 0, 0, 1].into())])),
        ("addresses6", set(SetKind::Addresses(Family::V6), [Element::Net("fd00::1/128".parse().unwrap())])),
        (
            "nets4",
            nets(Family::V4, &["0.0.0.0/8", "10.0.0.0/25", "10.0.0.128/25", "192.0.2.1/32", "255.0.0.0/8"]),
        ),
        ("nets6", nets(Family::V6, &["fd00::/64", "fd00:0:0:1::/64", "2001:db8::1/128", "ff00::/8"])),
        ("ports4", set(SetKind::AddressPorts(Family::V4), [named_port("10.0.0.1")])),
        ("ports6", set(SetKind::AddressPorts(Family::V6), [named_port("fd00::1")])),
        ("failsafes", set(SetKind::ProtocolPorts, [(6, 22), (17, 68), (132, 7)].map(protocol_port))),
        ("empty", nets(Family::V4, &[])),
    ]
}

fn protocol_port((protocol, port): (u8, u16)) -> Element {
    Element::ProtocolPort { protocol, port }
}

/// Every expression in a rule of its own. `name_every_variant` makes a forgotten one a compile error.
pub(crate) fn every_expression() -> Vec<Vec<Expr>> {
    let ports =
        |list: &[(u16, u16)]| list.iter().map(|(min, max)| PortRange { min: *min, max: *max }).collect();
    let mut rules = Vec::new();
    for is in [Is::In, Is::NotIn] {
        for side in [Side::Source, Side::Destination] {
            rules.push(vec![Expr::Interface { side, is, name: "eth0".into() }]);
            rules.push(vec![Expr::Interface { side, is, name: "cali*".into() }]);
            for list in [ports(&[(80, 80)]), ports(&[(80, 90)]), ports(&[(22, 22), (80, 90), (85, 100)])] {
                rules.push(vec![tcp(), Expr::Port { side, is, ports: list }]);
            }
            for (family, nets, set, named) in [
                (Family::V4, vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1/32"], "nets4", "ports4"),
                (Family::V6, vec!["fd00::/8", "2001:db8::1/128"], "nets6", "ports6"),
            ] {
                let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
                let family_first = Expr::NfProto(family);
                let one = nets[..1].to_vec();
                rules.push(vec![family_first.clone(), Expr::Address { side, is, family, nets: one }]);
                rules.push(vec![family_first.clone(), Expr::Address { side, is, family, nets }]);
                rules
                    .push(vec![family_first.clone(), Expr::AddressSet { side, is, family, set: set.into() }]);
                rules.push(vec![family_first, Expr::AddressPortSet { side, is, family, set: named.into() }]);
            }
            rules.push(vec![Expr::ProtocolPortSet { side, is, set: "failsafes".into() }]);
        }
        for family in Family::ALL {
            rules.push(vec![Expr::IcmpType { family, is, types: vec![1] }]);
            rules.push(vec![Expr::IcmpType { family, is, types: vec![1, 3, 200] }]);
            rules.push(vec![Expr::IcmpTypeCode { family, is, pairs: vec![(3, 1)] }]);
            rules.push(vec![Expr::IcmpTypeCode { family, is, pairs: vec![(3, 1), (3, 4)] }]);
        }
        for status in [CtStatus::Dnat, CtStatus::Snat] {
            rules.push(vec![Expr::CtStatus { is, status }]);
        }
        for side in [Side::Source, Side::Destination] {
            rules.push(vec![Expr::Local { side, is }]);
        }
        rules.push(vec![Expr::L4Proto { is, protocols: vec![6] }]);
        rules.push(vec![Expr::L4Proto { is, protocols: vec![6, 17, 253] }]);
        rules.push(vec![Expr::Mark { is, mask: 0x1000_0000, value: 0x1000_0000 }]);
        rules.push(vec![Expr::Mark { is, mask: 0x1000_0000, value: 0 }]);
    }
    rules.extend(every_statement().into_iter().map(|expr| vec![expr]));
    rules.push(vec![tcp(), Expr::Reject(Reject::TcpReset)]);
    rules
}

fn tcp() -> Expr {
    Expr::L4Proto { is: Is::In, protocols: vec![6] }
}

fn every_statement() -> Vec<Expr> {
    let states = [CtState::Invalid, CtState::Established, CtState::Related, CtState::New, CtState::Untracked];
    let levels = [
        LogLevel::Emerg,
        LogLevel::Alert,
        LogLevel::Crit,
        LogLevel::Err,
        LogLevel::Warn,
        LogLevel::Notice,
        LogLevel::Info,
        LogLevel::Debug,
    ];
    let mut statements = vec![
        Expr::Dispatch { side: Side::Source, map: "in".into() },
        Expr::Dispatch { side: Side::Destination, map: "in".into() },
        Expr::CtState(states.to_vec()),
        Expr::CtDirection(CtDirection::Original),
        Expr::CtDirection(CtDirection::Reply),
        Expr::SetMark { keep: 0x0000_ffff, set: 0x1000_0000 },
        Expr::SetMark { keep: 0xefff_ffff, set: 0 },
        Expr::SetMark { keep: u32::MAX, set: 0x2000_0000 },
        Expr::Counter,
        Expr::Reject(Reject::PortUnreachable),
        Expr::accept(),
        Expr::drop(),
        Expr::ret(),
        Expr::jump("target"),
        Expr::goto("target"),
    ];
    statements.extend(states.map(|state| Expr::CtState(vec![state])));
    let prefix = LogPrefix::new("a $prefix: {with} 'signs', \"quotes\" and ünïcode");
    statements.extend(levels.map(|level| Expr::Log { prefix: prefix.clone(), level }));
    let per = [Per::Second, Per::Minute, Per::Hour, Per::Day];
    statements.extend(per.map(|per| Expr::Limit { rate: 10, per, burst: 5 }));
    statements
}

/// Does nothing but stop compiling when a variant is added, until it is also added above.
pub(crate) fn name_every_variant(expr: &Expr) -> &'static str {
    match expr {
        Expr::Interface { .. } => "interface",
        Expr::Dispatch { .. } => "dispatch",
        Expr::NfProto(_) => "nfproto",
        Expr::L4Proto { .. } => "l4proto",
        Expr::Address { .. } => "address",
        Expr::AddressSet { .. } => "address set",
        Expr::Port { .. } => "port",
        Expr::AddressPortSet { .. } => "address port set",
        Expr::ProtocolPortSet { .. } => "protocol port set",
        Expr::IcmpType { .. } => "icmp type",
        Expr::IcmpTypeCode { .. } => "icmp type and code",
        Expr::CtState(_) => "ct state",
        Expr::CtStatus { .. } => "ct status",
        Expr::Local { .. } => "local address",
        Expr::CtDirection(_) => "ct direction",
        Expr::Mark { .. } => "mark",
        Expr::SetMark { .. } => "set mark",
        Expr::Limit { .. } => "limit",
        Expr::Log { .. } => "log",
        Expr::Counter => "counter",
        Expr::Notrack => "notrack",
        Expr::Reject(_) => "reject",
        Expr::Verdict(_) => "verdict",
    }
}

/// How many there are above.
pub(crate) const VARIANTS: usize = 23;

/// A table with every kind of everything.
pub(crate) fn everything() -> Ruleset {
    let mut wanted = Ruleset::new(TABLE);
    wanted.sets = sets().into_iter().map(|(name, set)| (name.to_owned(), set)).collect();
    let verdicts = [
        ("eth0", Verdict::Goto("target".into())),
        ("eth1.100", Verdict::Jump("target".into())),
        ("a", Verdict::Accept),
        ("b", Verdict::Drop),
        ("c", Verdict::Return),
        ("fifteen-letters", Verdict::Drop),
        ("star*", Verdict::Drop),
    ];
    let elements = verdicts.into_iter().map(|(name, to)| (name.to_owned(), to)).collect();
    wanted.maps.insert("in".into(), VerdictMap { elements });
    wanted.maps.insert("nothing".into(), VerdictMap::default());
    wanted.chains.insert("target".into(), Chain::new(vec![Rule::new("", vec![Expr::Counter])]));
    wanted.chains.insert("bare".into(), Chain::default());
    let all = every_expression().into_iter().enumerate();
    let rules = all.map(|(number, exprs)| Rule::new(&format!("tier/policy rule {number}"), exprs)).collect();
    wanted.chains.insert("all".into(), Chain::new(rules));
    for (name, kind, point, priority) in [
        ("raw_in", ChainKind::Filter, HookPoint::Prerouting, -305),
        ("input", ChainKind::Filter, HookPoint::Input, -5),
        ("forward", ChainKind::Filter, HookPoint::Forward, -5),
        ("output", ChainKind::Filter, HookPoint::Output, -5),
        ("post", ChainKind::Filter, HookPoint::Postrouting, -155),
        ("reroute", ChainKind::Route, HookPoint::Output, -155),
    ] {
        let hook = Hook { kind, point, priority };
        wanted.chains.insert(name.into(), Chain::base(hook, Vec::new()));
    }
    let notrack = Rule::new("", vec![Expr::Notrack]);
    wanted.chains.get_mut("raw_in").unwrap().rules.push(notrack);
    wanted
}

/// Small random rulesets over the same few names, so that any two differ in every way they can.
pub(crate) fn any_ruleset() -> impl Strategy<Value = Ruleset> {
    let exprs = every_expression();
    let rule = (0..exprs.len(), 0..4u8).prop_map(move |(at, label)| (exprs[at].clone(), label));
    let rules = proptest::collection::vec(rule, 0..4);
    let kinds = proptest::collection::vec((any::<bool>(), proptest::collection::vec(0u32..24, 0..12)), 3);
    let map = proptest::collection::btree_map(0..4u8, 0..3u8, 0..4);
    (proptest::collection::btree_map(0..5u8, rules, 1..5), kinds, map, any::<bool>()).prop_map(assemble)
}

type Parts = (
    std::collections::BTreeMap<u8, Vec<(Vec<Expr>, u8)>>,
    Vec<(bool, Vec<u32>)>,
    std::collections::BTreeMap<u8, u8>,
    bool,
);

fn assemble((chains, sets, map, hooked): Parts) -> Ruleset {
    // The names every expression may use exist always; what is random comes beside them.
    let mut wanted = everything();
    wanted.chains.remove("all");
    for (number, (interval, members)) in sets.into_iter().enumerate() {
        let kind = if interval { SetKind::Nets(Family::V4) } else { SetKind::Addresses(Family::V4) };
        // As `render` does, the name says the kind.
        let name = format!("s{number}_{interval}");
        wanted
            .sets
            .insert(name, set(kind, members.into_iter().filter_map(|member| element(interval, member))));
    }
    let nets = ["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "172.16.0.0/12"];
    let covered = nets[..map.len().min(1)].iter().chain(nets[1..].iter().filter(|_| map.is_empty()));
    wanted.sets.insert("nets4".into(), self::nets(Family::V4, &covered.copied().collect::<Vec<_>>()));
    for (name, rules) in chains {
        let rule = |(exprs, label): (Vec<Expr>, u8)| Rule::new(&format!("label {label}"), exprs);
        wanted.chains.insert(format!("c{name}"), Chain::new(rules.into_iter().map(rule).collect()));
    }
    let verdicts = [Verdict::Goto("target".into()), Verdict::Drop, Verdict::Jump("bare".into())];
    let elements = map.into_iter().map(|(key, to)| (format!("eth{key}"), verdicts[usize::from(to)].clone()));
    wanted.maps.insert("in".into(), VerdictMap { elements: elements.collect() });
    if !hooked {
        wanted.chains.remove("raw_in");
        wanted.maps.remove("nothing");
    }
    wanted
}

/// Disjoint prefixes for an interval set, addresses for a hash.
fn element(interval: bool, number: u32) -> Option<Element> {
    let text = if interval { format!("10.{number}.0.0/16") } else { format!("10.0.0.{number}/32") };
    Some(Element::Net(text.parse().ok()?))
}
