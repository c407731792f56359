//! WorkloadEndpoint: an interface of a container or virtual machine. Stored, validated and listed; this version does
//! not police it yet, and its reported state says so.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kind;
use crate::protocol::Protocol;

kind! {
    /// An interface of a workload.
    WorkloadEndpoint {
        /// Which workload on which node, and what its interface carries.
        spec: WorkloadEndpointSpec,
    }
}

/// The workload's identity, addresses, profiles and ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointSpec {
    /// What started the workload.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub orchestrator: String,
    /// The workload's name there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// The node it runs on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The container behind it.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// The Kubernetes pod behind it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Which of the workload's interfaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The service account it runs as.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Its addresses, each a range of one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<String>,
    /// Addresses translated to its own.
    #[serde(rename = "ipNATs", skip_serializing_if = "Vec::is_empty")]
    pub ip_nats: Vec<IpNat>,
    /// Its IPv4 gateway.
    #[serde(rename = "ipv4Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv4_gateway: String,
    /// Its IPv6 gateway.
    #[serde(rename = "ipv6Gateway", skip_serializing_if = "String::is_empty")]
    pub ipv6_gateway: String,
    /// What decides when no policy does, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The host's end of the interface.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// The workload's hardware address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Ports that rules may name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadEndpointPort>,
    /// Sources it may pretend to be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<String>,
    /// Limits on its traffic; carried.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub qos_controls: Map<String, Value>,
}

impl WorkloadEndpointSpec {
    /// The name that goes with these values: node, orchestrator, workload and endpoint, joined by single dashes, where
    /// every dash inside a part is doubled. `None` while a part is missing, or begins or ends with a dash, so that the
    /// name could not be taken apart again.
    pub fn derived_name(&self) -> Option<String> {
        let workload = match self.orchestrator.as_str() {
            "k8s" => &self.pod,
            "cni" => &self.container_id,
            "libnetwork" => &self.orchestrator,
            _ => &self.workload,
        };
        let parts = [&self.node, &self.orchestrator, workload, &self.endpoint];
        let whole = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
        let parts: Option<Vec<String>> =
            parts.iter().map(|part| whole(part).then(|| part.replace('-', "--"))).collect();
        parts.map(|parts| parts.join("-"))
    }
}

/// An address translated to one of the workload's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpNat {
    /// The workload's own.
    #[serde(rename = "internalIP")]
    pub internal_ip: String,
    /// The one outside.
    #[serde(rename = "externalIP")]
    pub external_ip: String,
}

/// A port of a workload, under a name, or mapped to a port of the host, or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEndpointPort {
    /// What rules call it; a port without a name is not for rules.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
    /// The port of the host that leads here; none when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub host_port: u16,
    /// The address of the host that leads here.
    #[serde(rename = "hostIP", default, skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

fn is_zero(port: &u16) -> bool {
    *port == 0
}
