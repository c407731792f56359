//! HostEndpoint: one interface of a host, or all of them, under policy.

use serde::{Deserialize, Serialize};

use super::kind;
use crate::protocol::Protocol;

/// The interface name that means every interface of the host that has no endpoint of its own.
pub const ANY_INTERFACE: &str = "*";

kind! {
    /// An interface of a host, by name, by address, or `*` for all.
    HostEndpoint {
        /// Which interface, and what it carries.
        spec: HostEndpointSpec,
    }
}

/// Which interface of which node, the addresses selectors resolve to, and what applies when no policy does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    /// The node that polices it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The interface, or `*`; empty when the addresses say which.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// The addresses other hosts know it by.
    #[serde(rename = "expectedIPs", skip_serializing_if = "Vec::is_empty")]
    pub expected_ips: Vec<String>,
    /// What decides when no policy does, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Ports that rules may name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

/// A port under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointPort {
    /// What rules call it.
    #[serde(default)]
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}
