//! HostEndpoint: it names its node, and an interface or addresses to find one by.

use super::{Checker, is_address, name};
use crate::kinds::host_endpoint::{ANY_INTERFACE, HostEndpointSpec};
use crate::protocol::Protocol;

pub(super) fn check(checker: &mut Checker, spec: &HostEndpointSpec) {
    if spec.node.is_empty() {
        checker.required("spec.node", "node must be specified");
    } else {
        checker.text("spec.node", &spec.node, name::subdomain);
    }
    if spec.interface_name != ANY_INTERFACE {
        checker.optional_text("spec.interfaceName", &spec.interface_name, |text| {
            name::interface(text)
                .map_err(|reason| format!("{reason}; or '{ANY_INTERFACE}' for every interface"))
        });
    }
    if spec.interface_name.is_empty() && spec.expected_ips.is_empty() {
        checker.required("spec", "at least one of interfaceName or expectedIPs must be specified");
    }
    checker.set("spec.expectedIPs", &spec.expected_ips, is_address);
    checker.set("spec.profiles", &spec.profiles, name::endpoint);
    for (index, port) in spec.ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        // Two ports may share a name: rules that use it then mean both.
        checker.text(&format!("{path}.name"), &port.name, name::port);
        check_port(checker, &path, port.protocol, port.port);
    }
}

/// The number and protocol of a port that rules may name.
pub(super) fn check_port(checker: &mut Checker, path: &str, protocol: Protocol, port: u16) {
    if !protocol.supports_ports() {
        let value = serde_json::json!(protocol);
        checker.invalid(
            &format!("{path}.protocol"),
            value,
            "must be a protocol with ports: TCP, UDP or SCTP",
        );
    }
    if port == 0 {
        checker.invalid(
            &format!("{path}.port"),
            port,
            "port range invalid, port number must be between 1 and 65535",
        );
    }
}
