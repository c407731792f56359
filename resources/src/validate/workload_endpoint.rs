//! WorkloadEndpoint: its name is made of what it describes, and its addresses are single ones.

use std::{net::IpAddr, str::FromStr};

use super::{Checker, host_endpoint::check_port, is_address, is_host_net, is_net, name};
use crate::{
    cidr::Cidr,
    kinds::workload_endpoint::{IpNat, WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec},
};

pub(super) fn check(checker: &mut Checker, endpoint: &WorkloadEndpoint) {
    let spec = &endpoint.spec;
    check_name(checker, &endpoint.metadata.name, spec);
    for (field, value, rule) in [
        ("spec.orchestrator", &spec.orchestrator, name::endpoint as fn(&str) -> Result<(), String>),
        ("spec.workload", &spec.workload, name::endpoint),
        ("spec.node", &spec.node, name::subdomain),
        ("spec.containerID", &spec.container_id, name::container),
        ("spec.pod", &spec.pod, name::subdomain),
        ("spec.endpoint", &spec.endpoint, name::endpoint),
        ("spec.serviceAccountName", &spec.service_account_name, name::subdomain),
        ("spec.ipv4Gateway", &spec.ipv4_gateway, is_address),
        ("spec.ipv6Gateway", &spec.ipv6_gateway, is_address),
        ("spec.mac", &spec.mac, is_mac),
    ] {
        checker.optional_text(field, value, rule);
    }
    if spec.interface_name.is_empty() {
        checker.required("spec.interfaceName", "interfaceName must be specified");
    } else {
        checker.text("spec.interfaceName", &spec.interface_name, name::interface);
    }
    checker.set("spec.ipNetworks", &spec.ip_networks, is_host_net);
    for (index, nat) in spec.ip_nats.iter().enumerate() {
        check_nat(checker, &format!("spec.ipNATs[{index}]"), nat, spec);
    }
    checker.set("spec.profiles", &spec.profiles, name::endpoint);
    for (index, port) in spec.ports.iter().enumerate() {
        check_workload_port(checker, &format!("spec.ports[{index}]"), port);
    }
    checker.set("spec.allowSpoofedSourcePrefixes", &spec.allow_spoofed_source_prefixes, is_net);
}

/// Holds the name against the values it is made of.
fn check_name(checker: &mut Checker, given: &str, spec: &WorkloadEndpointSpec) {
    match spec.derived_name() {
        Some(name) if name == given => {}
        Some(name) => checker.invalid("metadata.name", given, format!("must be {name:?}, as the spec has it")),
        None => checker.required(
            "spec",
            "node, orchestrator, endpoint and the workload (pod for k8s, containerID for cni) must be specified, without \
             '-' at an end: the name is made of them",
        ),
    }
}

/// A translated address is one of the endpoint's own, and both are of one family.
fn check_nat(checker: &mut Checker, path: &str, nat: &IpNat, spec: &WorkloadEndpointSpec) {
    let (internal, external) = (IpAddr::from_str(&nat.internal_ip), IpAddr::from_str(&nat.external_ip));
    checker.text(&format!("{path}.internalIP"), &nat.internal_ip, is_address);
    checker.text(&format!("{path}.externalIP"), &nat.external_ip, is_address);
    let (Ok(internal), Ok(external)) = (internal, external) else { return };
    if internal.is_ipv4() != external.is_ipv4() {
        let at = format!("{path}.externalIP");
        checker.invalid(&at, nat.external_ip.as_str(), "must be of the same family as internalIP");
    }
    let own = spec.ip_networks.iter().filter_map(|net| Cidr::parse_lenient(net).ok());
    if !own.into_iter().any(|net| net.contains(internal)) {
        let at = format!("{path}.internalIP");
        checker.invalid(&at, nat.internal_ip.as_str(), "must be one of the ipNetworks");
    }
}

fn check_workload_port(checker: &mut Checker, path: &str, port: &WorkloadEndpointPort) {
    if port.name.is_empty() && port.host_port == 0 {
        checker.required(&format!("{path}.name"), "name must be specified for a port without hostPort");
    }
    checker.optional_text(&format!("{path}.name"), &port.name, name::port);
    check_port(checker, path, port.protocol, port.port);
    checker.optional_text(&format!("{path}.hostIP"), &port.host_ip, is_address);
}

/// Six bytes in hexadecimal, separated by colons or dashes.
fn is_mac(text: &str) -> Result<(), String> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let byte = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    if text.split(separator).count() != 6 || !text.split(separator).all(byte) {
        return Err("must be a MAC address".to_owned());
    }
    Ok(())
}
