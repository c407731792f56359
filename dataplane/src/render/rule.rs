//! Rule: one rule of a policy as the matches of kernel rules.
//!
//! All conditions hold together, so they stand in one kernel rule, cheapest first. What is an "or" inside one condition
//! becomes alternatives: a range of ports or a set of named ports beside other ports is a kernel rule of its own. A
//! condition that looks at addresses makes the rule one of a family; one without stays common to both.
//!
//! Alternatives may overlap (a named port that is also in a range). For a verdict that is the same answer twice; a Log
//! rule writes one line per alternative that matches.
//!
//! Nothing here becomes an anonymous interval set. The kernel publishes the content of a new interval set a moment
//! after the rules of the same transaction, so lists of ranges go into named sets that are filled before a rule uses
//! them, and ranges of ports are compared, not looked up.
//!
//! A rule that can not match in a family is left out of it: `ipVersion` or an ICMP protocol by name says the other one,
//! a list of ranges has none of this family, or it wants an ICMP type of a packet that is not this family's ICMP. The
//! last holds for `notICMP` too: it speaks of ICMP packets only, and matches none that is not (quirk Q15).

use ipnet::IpNet;

use crate::calc::desired::{EntityMatch, PolicyRule, SetId};
use crate::nft::{Element, Expr, Family, Is, PortRange, Set, Side};
use crate::render::{Table, names};

/// The matches of every kernel rule that one rule becomes; the caller adds what happens then. Sets for literal lists
/// are added to the table on the way.
pub(crate) fn matches(table: &mut Table<'_>, rule: &PolicyRule) -> Vec<Vec<Expr>> {
    let families: Vec<Family> =
        Family::ALL.into_iter().filter(|family| possible(table, rule, *family)).collect();
    if families.len() == 2 && !reads_addresses(rule) {
        return for_family(table, rule, None);
    }
    families.into_iter().flat_map(|family| for_family(table, rule, Some(family))).collect()
}

/// The number of the protocol that carries ICMP in a family.
fn icmp_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}

/// Whether the rule can match any packet of a family.
fn possible(table: &Table<'_>, rule: &PolicyRule, family: Family) -> bool {
    let policed = family == Family::V4 || table.structure.settings.ipv6;
    let named = rule.family.is_none_or(|only| only == family);
    let lists =
        [&rule.source.nets, &rule.source.not_nets, &rule.destination.nets, &rule.destination.not_nets];
    let listed =
        lists.into_iter().all(|nets| nets.is_empty() || nets.iter().any(|net| Family::of(net) == family));
    let excludes_all =
        |nets: &[IpNet]| nets.iter().any(|net| Family::of(net) == family && net.prefix_len() == 0);
    let excluded = excludes_all(&rule.source.not_nets) || excludes_all(&rule.destination.not_nets);
    let wants_icmp = rule.icmp.is_some() || rule.not_icmp.is_some();
    let carries_icmp = rule.protocol.is_none_or(|protocol| protocol == icmp_protocol(family));
    policed && named && listed && !excluded && (!wants_icmp || carries_icmp)
}

fn reads_addresses(rule: &PolicyRule) -> bool {
    let entity = |entity: &EntityMatch| {
        !(entity.nets.is_empty()
            && entity.not_nets.is_empty()
            && entity.set.is_none()
            && entity.not_set.is_none()
            && entity.named_ports.is_empty()
            && entity.not_named_ports.is_empty())
    };
    entity(&rule.source) || entity(&rule.destination) || rule.icmp.is_some() || rule.not_icmp.is_some()
}

/// The alternatives for one family, or for both at once when nothing in the rule depends on it.
fn for_family(table: &mut Table<'_>, rule: &PolicyRule, family: Option<Family>) -> Vec<Vec<Expr>> {
    let mut head = Vec::new();
    head.extend(family.map(Expr::NfProto));
    let protocol = |is, number| Expr::L4Proto { is, protocols: vec![number] };
    head.extend(rule.protocol.map(|number| protocol(Is::In, number)));
    head.extend(rule.not_protocol.map(|number| protocol(Is::NotIn, number)));
    let mut tail = Vec::new();
    for (side, entity) in [(Side::Source, &rule.source), (Side::Destination, &rule.destination)] {
        head.extend(excluded_ports(side, &entity.not_ports));
        let Some(family) = family else { continue };
        tail.extend(addresses(table, side, family, Is::In, &entity.nets));
        tail.extend(addresses(table, side, family, Is::NotIn, &entity.not_nets));
        let set = |is, id: &SetId| Expr::AddressSet { side, is, family, set: set_name(table, id, family) };
        tail.extend(entity.set.as_ref().map(|id| set(Is::In, id)));
        tail.extend(entity.not_set.as_ref().map(|id| set(Is::NotIn, id)));
        tail.extend(entity.not_named_ports.iter().map(|id| named_ports(table, side, family, Is::NotIn, id)));
    }
    if let Some(family) = family {
        head.extend(icmp(rule, family));
    }
    let sources = port_alternatives(table, Side::Source, family, &rule.source);
    let destinations = port_alternatives(table, Side::Destination, family, &rule.destination);
    let mut alternatives = Vec::with_capacity(sources.len() * destinations.len());
    for source in &sources {
        for destination in &destinations {
            let ports = source.iter().chain(destination);
            alternatives.push(head.iter().chain(ports).chain(&tail).cloned().collect());
        }
    }
    alternatives
}

fn icmp(rule: &PolicyRule, family: Family) -> Vec<Expr> {
    let wanted = [(Is::In, rule.icmp), (Is::NotIn, rule.not_icmp)];
    wanted
        .into_iter()
        .filter_map(|(is, icmp)| Some((is, icmp?)))
        .map(|(is, icmp)| match icmp.code {
            None => Expr::IcmpType { family, is, types: vec![icmp.kind] },
            Some(code) => Expr::IcmpTypeCode { family, is, pairs: vec![(icmp.kind, code)] },
        })
        .collect()
}

/// The ports of one side: at least one alternative, `None` when any port will do.
fn port_alternatives(
    table: &Table<'_>,
    side: Side,
    family: Option<Family>,
    entity: &EntityMatch,
) -> Vec<Option<Expr>> {
    if entity.ports.is_empty() && entity.named_ports.is_empty() {
        return vec![None];
    }
    let mut alternatives: Vec<Option<Expr>> = numeric(&entity.ports)
        .into_iter()
        .map(|ports| Some(Expr::Port { side, is: Is::In, ports }))
        .collect();
    if let Some(family) = family {
        let named = entity.named_ports.iter().map(|id| Some(named_ports(table, side, family, Is::In, id)));
        alternatives.extend(named);
    }
    alternatives
}

fn excluded_ports(side: Side, ports: &[PortRange]) -> impl Iterator<Item = Expr> {
    numeric(ports).into_iter().map(move |ports| Expr::Port { side, is: Is::NotIn, ports })
}

/// Single ports together (a hash), each range for itself (a comparison).
fn numeric(ports: &[PortRange]) -> Vec<Vec<PortRange>> {
    let (single, ranges): (Vec<PortRange>, Vec<PortRange>) =
        ports.iter().partition(|range| range.min == range.max);
    let single = Some(single).filter(|single| !single.is_empty());
    single.into_iter().chain(ranges.into_iter().map(|range| vec![range])).collect()
}

fn named_ports(table: &Table<'_>, side: Side, family: Family, is: Is, id: &SetId) -> Expr {
    Expr::AddressPortSet { side, is, family, set: set_name(table, id, family) }
}

fn set_name(table: &Table<'_>, id: &SetId, family: Family) -> String {
    // Every set a rule names is in the structure: both come out of one flush. Should that ever not hold, the name
    // exists nowhere, and the kernel refuses the change instead of enforcing half a rule.
    let shape = table.structure.sets.get(id).copied();
    shape.map_or_else(|| format!("missing_{id}"), |shape| names::ip_set(id, shape, family).0)
}

/// A list of ranges: compared when there is one of this family, a named set when there are several, nothing at all
/// when it is the whole family.
fn addresses(table: &mut Table<'_>, side: Side, family: Family, is: Is, nets: &[IpNet]) -> Option<Expr> {
    let nets: Vec<IpNet> = nets.iter().filter(|net| Family::of(net) == family).copied().collect();
    match nets.as_slice() {
        [] => None,
        [net] if net.prefix_len() == 0 => None,
        [_] => Some(Expr::Address { side, is, family, nets }),
        _ => {
            let (set, kind) = names::literal(family, &nets);
            table.add_set(
                set.clone(),
                Set { kind, elements: nets.iter().map(|net| Element::Net(*net)).collect() },
            );
            Some(Expr::AddressSet { side, is, family, set })
        }
    }
}
