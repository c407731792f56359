//! Failsafes: what stays open on a policed interface whatever its policies say.
//!
//! Three things, asked in the endpoint chains before any policy: neighbour discovery (without it a default-deny endpoint
//! cuts IPv6 off its link; the kernel does not track these packets, so no "established" covers them), the cluster's
//! own ports and members, and the configured failsafe ports. Ports for everyone are elements of one set; a port for one
//! net is a rule.

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
    let inbound = [
        neighbour_discovery(table),
        protected_inbound(table),
        configured(table, Lane::In, &settings.failsafe_inbound),
    ];
    let outbound = [
        neighbour_discovery(table),
        protected_outbound(table),
        configured(table, Lane::Out, &settings.failsafe_outbound),
    ];
    table.add_chain(chain(Lane::In), Chain::new(inbound.concat()));
    table.add_chain(chain(Lane::Out), Chain::new(outbound.concat()));
}

fn neighbour_discovery(table: &Table<'_>) -> Vec<Rule> {
    if !table.structure.settings.ipv6 {
        return Vec::new();
    }
    let types = NEIGHBOUR_DISCOVERY.to_vec();
    let discovery = Expr::IcmpType { family: Family::V6, is: Is::In, types };
    vec![Rule::new("IPv6 neighbour discovery", vec![Expr::NfProto(Family::V6), discovery, Expr::accept()])]
}

fn protected_inbound(table: &mut Table<'_>) -> Vec<Rule> {
    let ports = table.options.protected.inbound.iter();
    let elements = ports.map(|port| Element::ProtocolPort { protocol: TCP, port: *port }).collect();
    port_set(table, "protected_in", elements, "this node's API and peer ports")
}

fn protected_outbound(table: &mut Table<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (family, name) in [(Family::V4, "protected_out4"), (Family::V6, "protected_out6")] {
        let members = table.options.protected.outbound.iter();
        let elements: Elements = members
            .filter(|member| member.is_ipv4() == (family == Family::V4))
            .map(|member| Element::AddressPort { address: member.ip(), protocol: TCP, port: member.port() })
            .collect();
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
        rules.push(Rule::new("the members of this cluster", exprs));
    }
    rules
}

fn configured(table: &mut Table<'_>, lane: Lane, failsafes: &[Failsafe]) -> Vec<Rule> {
    let set = if lane == Lane::In { "fs_in" } else { "fs_out" };
    let for_everyone = failsafes
        .iter()
        .filter(|failsafe| failsafe.net.is_none())
        .map(|failsafe| Element::ProtocolPort { protocol: failsafe.protocol, port: failsafe.port })
        .collect();
    let mut rules = port_set(table, set, for_everyone, "failsafe ports");
    rules.extend(failsafes.iter().filter_map(|failsafe| for_one_net(table, lane, failsafe)));
    rules
}

/// A rule that accepts the destination ports of a set, with the set; nothing for no ports.
fn port_set(table: &mut Table<'_>, name: &str, elements: Elements, label: &str) -> Vec<Rule> {
    if elements.is_empty() {
        return Vec::new();
    }
    table.add_set(name, Set { kind: SetKind::ProtocolPorts, elements });
    let lookup = Expr::ProtocolPortSet { side: Side::Destination, is: Is::In, set: name.to_owned() };
    vec![Rule::new(label, vec![lookup, Expr::accept()])]
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
