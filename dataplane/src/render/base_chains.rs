//! Base chains: where the kernel enters our table, and what happens there before an endpoint is asked.
//!
//! ```text
//!  prerouting  -305   (untracked policy, later)          output       -305   (untracked policy, later)
//!  prerouting  -155   (pre-DNAT policy, later)
//!  input         -5   dispatch by incoming interface     output         -5   dispatch by outgoing interface
//!  forward       -5   (applyOnForward, later)            postrouting  -155   the same for translated destinations
//! ```
//!
//! The three that exist are always there, so that the first endpoint adds an element to a map and not a hook. The
//! priorities lie just before those of others (iptables, Docker, firewalld), so that we see a packet first and an accept
//! of ours leaves it to them.
//!
//! A packet of this host whose destination was translated has no final outgoing interface yet in `output`. It is
//! marked there, passed, and policed once, in `postrouting`. Forwarded packets of translated connections come by there
//! too, so what is policed is what carries the mark or a source address of this host: either is enough, because another
//! tool may have overwritten the mark in between, and a local process may send from an address that is not ours.

use crate::nft::{Chain, ChainKind, CtStatus, Expr, Family, Hook, HookPoint, Is, Rule, Side};
use crate::render::{Lane, Table, lanes, names};

/// Before everybody else who filters at the standard priority 0.
const FILTER: i32 = -5;
/// Before everybody else who changes marks at the standard priority -150, and before source translation.
const MANGLE: i32 = -155;

/// Where packets go whose destination was translated.
const TRANSLATED: &str = "translated";

/// Adds the base chains.
pub(crate) fn render(table: &mut Table<'_>) {
    let input = ipv6_passes(table).into_iter().chain(dispatch(table, Lane::In)).collect();
    let output = ipv6_passes(table)
        .into_iter()
        .chain(defer_translated(table))
        .chain(dispatch(table, Lane::Out))
        .collect();
    let translated =
        if lanes(&table.structure.settings).contains(&Lane::OutDnat) { Lane::OutDnat } else { Lane::Out };
    let translated = take_deferred(table).into_iter().chain(dispatch(table, translated)).collect();
    // A test for the bit, never for its absence: a packet without a connection (neighbour discovery) matches neither.
    let postrouting = vec![Rule::new(
        "translated destination: output left it to us",
        vec![Expr::CtStatus { is: Is::In, status: CtStatus::Dnat }, Expr::goto(TRANSLATED)],
    )];
    table.add_chain("input", Chain::base(hook(HookPoint::Input, FILTER), input));
    table.add_chain("output", Chain::base(hook(HookPoint::Output, FILTER), output));
    table.add_chain(TRANSLATED, Chain::new(translated));
    table.add_chain("postrouting", Chain::base(hook(HookPoint::Postrouting, MANGLE), postrouting));
}

fn hook(point: HookPoint, priority: i32) -> Hook {
    Hook { kind: ChainKind::Filter, point, priority }
}

/// With `ipv6Support: false` IPv6 is none of our business.
fn ipv6_passes(table: &Table<'_>) -> Option<Rule> {
    let rule = Rule::new("ipv6Support is false", vec![Expr::NfProto(Family::V6), Expr::accept()]);
    (!table.structure.settings.ipv6).then_some(rule)
}

/// To the endpoint of the interface; else to the endpoint of all interfaces, unless the interface is a workload's.
fn dispatch(table: &Table<'_>, lane: Lane) -> Vec<Rule> {
    let side = if lane == Lane::In { Side::Source } else { Side::Destination };
    let map = names::dispatch(lane).to_owned();
    let mut rules = vec![Rule::new("to the endpoint of the interface", vec![Expr::Dispatch { side, map }])];
    let Some(any) = &table.structure.any_interface else { return rules };
    for prefix in &table.structure.settings.workload_prefixes {
        let interface = Expr::Interface { side, is: Is::In, name: format!("{prefix}*") };
        rules.push(Rule::new("workload interfaces are not the host's", vec![interface, Expr::accept()]));
    }
    let chain = names::endpoint(lane, any);
    rules.push(Rule::new(&format!("hep/{any}: all other interfaces"), vec![Expr::goto(chain)]));
    rules
}

/// Marks and passes packets whose destination was translated. "Translated" is a test of one bit, never a comparison
/// of the whole status (quirk Q1).
fn defer_translated(table: &Table<'_>) -> Option<Rule> {
    let bit = table.options.marks.dnat;
    let exprs = vec![
        Expr::CtStatus { is: Is::In, status: CtStatus::Dnat },
        Expr::SetMark { keep: u32::MAX, set: bit },
        Expr::accept(),
    ];
    table.polices().then(|| Rule::new("translated destination: policed after routing", exprs))
}

fn take_deferred(table: &Table<'_>) -> [Rule; 2] {
    let bit = table.options.marks.dnat;
    let forwarded = vec![
        Expr::Mark { is: Is::In, mask: bit, value: 0 },
        Expr::Local { side: Side::Source, is: Is::NotIn },
        Expr::accept(),
    ];
    let clear = vec![Expr::SetMark { keep: !bit, set: 0 }];
    [
        Rule::new("forwarded: neither deferred by output nor from here", forwarded),
        Rule::new("the mark has done its work", clear),
    ]
}
