//! Rules: each condition by itself, then those that exclude each other.

use serde_json::json;

use super::{Checker, metadata::check_annotations};
use crate::{
    cidr::{Cidr, CidrError},
    field_error::Cause,
    port::Port,
    protocol::Protocol,
    rule::{EntityRule, Icmp, Rule},
    selector::Expr,
};

/// A list of ports has no more entries.
const PORTS_MAX: usize = 50;
/// A list of ranges has no more entries.
const NETS_MAX: usize = 256;

pub(super) fn check(checker: &mut Checker, path: &str, rule: &Rule) {
    check_version(checker, path, rule);
    check_icmp(checker, path, rule);
    let sides = [("source", &rule.source), ("destination", &rule.destination)];
    for (side, entity) in sides {
        let path = format!("{path}.{side}");
        check_nets(checker, &path, entity, rule.ip_version);
        check_selectors(checker, &path, entity);
        check_ports(checker, &path, entity, rule.protocol);
        refuse_services(checker, &path, entity);
    }
    check_families(checker, path, rule);
    refuse_http(checker, path, rule);
    if let Some(metadata) = &rule.metadata {
        check_annotations(checker, &format!("{path}.metadata.annotations"), &metadata.annotations);
    }
}

fn check_version(checker: &mut Checker, path: &str, rule: &Rule) {
    if let Some(version) = rule.ip_version.filter(|version| !matches!(version, 4 | 6)) {
        let at = format!("{path}.ipVersion");
        checker.complain(&at, Some(version.into()), Cause::NotSupported, "supported values: 4, 6");
    }
    for (field, protocol) in [("protocol", rule.protocol), ("notProtocol", rule.not_protocol)] {
        let Some(protocol) = protocol else { continue };
        let at = format!("{path}.{field}");
        if protocol.number() == 0 {
            checker.invalid(&at, 0, "protocol number must be between 1 and 255");
        }
        if protocol.is_icmp() && rule.ip_version == Some(6) {
            checker.invalid(&at, json!(protocol), "protocol ICMP needs ipVersion 4; for IPv6 it is ICMPv6");
        }
        if protocol.is_icmp_v6() && rule.ip_version == Some(4) {
            checker.invalid(&at, json!(protocol), "protocol ICMPv6 needs ipVersion 6; for IPv4 it is ICMP");
        }
    }
}

fn check_icmp(checker: &mut Checker, path: &str, rule: &Rule) {
    let is_icmp = rule.protocol.is_some_and(|protocol| protocol.is_icmp() || protocol.is_icmp_v6());
    if rule.icmp.is_some() && !is_icmp {
        checker.forbidden(&format!("{path}.icmp"), "ICMP fields need the protocol to be ICMP or ICMPv6");
    }
    for (field, icmp) in [("icmp", rule.icmp), ("notICMP", rule.not_icmp)] {
        let Some(Icmp { r#type, code }) = icmp else { continue };
        if let Some(255) = r#type {
            checker.invalid(&format!("{path}.{field}.type"), 255, "must be a whole number between 0 and 254");
        }
        if let (None, Some(code)) = (r#type, code) {
            checker.invalid(&format!("{path}.{field}.code"), code, "an ICMP code needs an ICMP type");
        }
    }
}

fn check_nets(checker: &mut Checker, path: &str, entity: &EntityRule, version: Option<u8>) {
    for (field, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
        let path = format!("{path}.{field}");
        checker.at_most(&path, nets.len(), NETS_MAX);
        checker.set(&path, nets, |text| {
            let net = Cidr::parse(text).map_err(|error| match error {
                CidrError::Malformed => "must be an IPv4 or IPv6 CIDR".to_owned(),
                CidrError::NoLength => format!("invalid CIDR: give the prefix length, {}", example(text)),
            })?;
            if !net.is_masked() {
                return Err(format!("host bits are set, the CIDR is {}", net.masked()));
            }
            if field == "notNets" && net.is_catch_all() {
                return Err("a negated match of every address would match nothing".to_owned());
            }
            match version {
                Some(version @ (4 | 6)) if version != net.ip_version() => {
                    Err(format!("an IPv{} CIDR in a rule with ipVersion {version}", net.ip_version()))
                }
                _ => Ok(()),
            }
        });
    }
}

/// A bare address with the length it lacks.
fn example(text: &str) -> String {
    Cidr::parse_lenient(text).map(|net| net.to_string()).unwrap_or_default()
}

/// A rule whose ranges are of both families could match no packet.
fn check_families(checker: &mut Checker, path: &str, rule: &Rule) {
    let mut first = None;
    for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        for (field, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
            for (index, text) in nets.iter().enumerate() {
                let Ok(net) = Cidr::parse(text) else { continue };
                let version = *first.get_or_insert(net.ip_version());
                if net.ip_version() != version {
                    let at = format!("{path}.{side}.{field}[{index}]");
                    let reason =
                        format!("the rule has an IPv{version} CIDR already; write one rule for each family");
                    checker.invalid(&at, text.as_str(), reason);
                    return;
                }
            }
        }
    }
}

fn check_selectors(checker: &mut Checker, path: &str, entity: &EntityRule) {
    checker.selector_without_global(&format!("{path}.selector"), &entity.selector);
    // `notSelector: global()` is let through, as upstream does: it evaluates as `all()`.
    checker.selector(&format!("{path}.notSelector"), &entity.not_selector);
    let at = format!("{path}.namespaceSelector");
    let expr = checker.selector(&at, &entity.namespace_selector);
    if expr.is_some_and(|expr| expr != Expr::Global && has_global(&expr)) {
        checker.invalid(&at, entity.namespace_selector.as_str(), "global() stands alone or not at all");
    }
    if let Some(accounts) = &entity.service_accounts {
        checker.selector(&format!("{path}.serviceAccounts.selector"), &accounts.selector);
        checker.set(&format!("{path}.serviceAccounts.names"), &accounts.names, super::name::subdomain);
    }
}

fn has_global(expr: &Expr) -> bool {
    match expr {
        Expr::Global => true,
        Expr::Not(operand) => has_global(operand),
        Expr::And(operands) | Expr::Or(operands) => operands.iter().any(has_global),
        _ => false,
    }
}

fn check_ports(checker: &mut Checker, path: &str, entity: &EntityRule, protocol: Option<Protocol>) {
    for (field, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
        let path = format!("{path}.{field}");
        checker.at_most(&path, ports.len(), PORTS_MAX);
        let reason = match protocol {
            Some(protocol) if !protocol.supports_ports() => "rules with ports need protocol TCP, UDP or SCTP",
            None => "rules with port numbers need protocol TCP, UDP or SCTP",
            Some(_) => continue,
        };
        // Without a protocol a name still means something: the ports of that name, whatever their protocol.
        let wrong = |port: &Port| protocol.is_some() || !port.is_named();
        if let Some((index, port)) = ports.iter().enumerate().find(|(_, port)| wrong(port)) {
            checker.invalid(&format!("{path}[{index}]"), json!(port), reason);
        }
    }
}

/// Services are Kubernetes' and no Kubernetes is here, so a rule about one could only ever match nothing.
fn refuse_services(checker: &mut Checker, path: &str, entity: &EntityRule) {
    if entity.services.is_some() {
        let reason = "Kubernetes services are not known here; use nets, a selector or ports";
        checker.forbidden(&format!("{path}.services"), reason);
    }
}

/// The kernel does not look into HTTP. Ignoring the condition, as upstream's kernel path does, would widen an Allow.
fn refuse_http(checker: &mut Checker, path: &str, rule: &Rule) {
    if rule.http.is_some() {
        checker.forbidden(
            &format!("{path}.http"),
            "HTTP conditions can not be enforced: nothing here reads HTTP",
        );
    }
}
