//! Failsafes: what stays open on a policed interface whatever its policies say.
//!
//! Three things, asked in the endpoint chains before any policy: neighbour discovery (without it a default-deny endpoint
//! cuts IPv6 off its link; the kernel does not track these packets, so no "established" covers them), the cluster's
//! own ports and members, and the configured failsafe ports. Ports for everyone are elements of one set; a port for one
//! net is a rule.

use std::net::SocketAddr;

use crate::calc::desired::Failsafe;
use crate::nft::{Chain, Element, Elements, Expr, Family, Is, PortRange, Rule, Set, SetKind, Side};
use crate::render::{Lane, Table};

const TCP: u8 = 6;
/// Router solicitation and advertisement, neighbour solicitation and advertisement.
const NEIGHBOUR_DISCOVERY: [u8; 4] = [133, 134, 135, 136];

/// The chain endpoints of a lane jump to.
pub(crate) fn chain(lane: Lane) -> &'static str {
    match lane {
        Lane::In => "failsafe_in",
        Lane::Out | Lane::OutDnat => "failsafe_out",
    }
}

/// Adds both chains and their sets, if any endpoint asks them.
pub(crate) fn render(table: &mut Table<'_>) {
    if !table.polices() {
        return;
    }
    let structure = table.structure;
    let settings = &structure.settings;
    let mut inbound = vec![neighbour_discovery(table)];
    inbound.extend(protected_inbound(table));
    inbound.extend(configured(table, Lane::In, &settings.failsafe_inbound));
    let mut outbound = vec![neighbour_discovery(table)];
    outbound.extend(protected_outbound(table));
    outbound.extend(configured(table, Lane::Out, &settings.failsafe_outbound));
    let rules = |rules: Vec<Option<Rule>>| Chain::new(rules.into_iter().flatten().collect());
    table.add_chain(chain(Lane::In), rules(inbound));
    table.add_chain(chain(Lane::Out), rules(outbound));
}

fn neighbour_discovery(table: &Table<'_>) -> Option<Rule> {
    let types = NEIGHBOUR_DISCOVERY.to_vec();
    let exprs = vec![
        Expr::NfProto(Family::V6),
        Expr::IcmpType { family: Family::V6, is: Is::In, types },
        Expr::accept(),
    ];
    table.structure.settings.ipv6.then(|| Rule::new("IPv6 neighbour discovery", exprs))
}

fn protected_inbound(table: &mut Table<'_>) -> Option<Option<Rule>> {
    let ports = &table.options.protected.inbound;
    if ports.is_empty() {
        return None;
    }
    let elements = ports.iter().map(|port| Element::ProtocolPort { protocol: TCP, port: *port }).collect();
    Some(Some(port_set(table, "protected_in", elements, "this node's API and peer ports")))
}

fn protected_outbound(table: &mut Table<'_>) -> Vec<Option<Rule>> {
    let members = &table.options.protected.outbound;
    let of = |family: Family| -> Elements {
        let in_family = |member: &&SocketAddr| member.is_ipv4() == (family == Family::V4);
        let element = |member: &SocketAddr| Element::AddressPort {
            address: member.ip(),
            protocol: TCP,
            port: member.port(),
        };
        members.iter().filter(in_family).map(element).collect()
    };
    let mut rules = Vec::new();
    for (family, name) in [(Family::V4, "protected_out4"), (Family::V6, "protected_out6")] {
        let elements = of(family);
        if elements.is_empty() {
            continue;
        }
        table.add_set(name, Set { kind: SetKind::AddressPorts(family), elements });
        let exprs = vec![
            Expr::NfProto(family),
            Expr::L4Proto { is: Is::In, protocols: vec![TCP] },
            Expr::AddressPortSet { side: Side::Destination, is: Is::In, family, set: name.to_owned() },
            Expr::accept(),
        ];
        rules.push(Some(Rule::new("the members of this cluster", exprs)));
    }
    rules
}

fn configured(table: &mut Table<'_>, lane: Lane, failsafes: &[Failsafe]) -> Vec<Option<Rule>> {
    let set = if lane == Lane::In { "fs_in" } else { "fs_out" };
    let for_everyone: Elements = failsafes
        .iter()
        .filter(|failsafe| failsafe.net.is_none())
        .map(|failsafe| Element::ProtocolPort { protocol: failsafe.protocol, port: failsafe.port })
        .collect();
    let mut rules = Vec::new();
    if !for_everyone.is_empty() {
        rules.push(Some(port_set(table, set, for_everyone, "failsafe ports")));
    }
    rules.extend(failsafes.iter().map(|failsafe| for_one_net(table, lane, failsafe)));
    rules
}

/// A rule that accepts the destination ports of a set, with the set.
fn port_set(table: &mut Table<'_>, name: &str, elements: Elements, label: &str) -> Rule {
    table.add_set(name, Set { kind: SetKind::ProtocolPorts, elements });
    let lookup = Expr::ProtocolPortSet { side: Side::Destination, is: Is::In, set: name.to_owned() };
    Rule::new(label, vec![lookup, Expr::accept()])
}

/// The net is the other side: where packets come from, or where they go.
fn for_one_net(table: &Table<'_>, lane: Lane, failsafe: &Failsafe) -> Option<Rule> {
    let net = failsafe.net?;
    let family = Family::of(&net);
    if family == Family::V6 && !table.structure.settings.ipv6 {
        return None;
    }
    let side = if lane == Lane::In { Side::Source } else { Side::Destination };
    let mut exprs = vec![
        Expr::NfProto(family),
        Expr::L4Proto { is: Is::In, protocols: vec![failsafe.protocol] },
        Expr::Port {
            side: Side::Destination,
            is: Is::In,
            ports: vec![PortRange { min: failsafe.port, max: failsafe.port }],
        },
    ];
    if net.prefix_len() > 0 {
        exprs.push(Expr::Address { side, is: Is::In, family, nets: vec![net] });
    }
    exprs.push(Expr::accept());
    Some(Rule::new(&format!("failsafe port for {net}"), exprs))
}
