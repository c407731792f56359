//! Node: a host that runs the appliance. Labels matter to policy (through `nodeSelector`); the rest is carried.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kind;

kind! {
    /// A host.
    Node {
        /// How to reach it.
        spec: NodeSpec,
        /// What other tools note about it; carried.
        status: NodeStatus,
    }
}

/// The addresses of a host and what other networking tools keep with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Routing; the addresses in here are the host's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgp>,
    /// Other systems' names for the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    /// Its VXLAN tunnel's address.
    #[serde(rename = "ipv4VXLANTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv4_vxlan_tunnel_addr: String,
    /// Its VXLAN tunnel's hardware address.
    #[serde(rename = "vxlanTunnelMACAddr", skip_serializing_if = "String::is_empty")]
    pub vxlan_tunnel_mac_addr: String,
    /// Its VXLAN tunnel's IPv6 address.
    #[serde(rename = "ipv6VXLANTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv6_vxlan_tunnel_addr: String,
    /// Its IPv6 VXLAN tunnel's hardware address.
    #[serde(rename = "vxlanTunnelMACAddrV6", skip_serializing_if = "String::is_empty")]
    pub vxlan_tunnel_mac_addr_v6: String,
    /// Its WireGuard addresses; carried.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub wireguard: Map<String, Value>,
    /// Its interfaces as other tools see them; carried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Value>,
}

/// An address of a host and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// The address, or a range that begins with it.
    pub address: String,
    /// `CalicoNodeIP`, `InternalIP` or `ExternalIP`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub r#type: String,
}

/// A host's place in the routing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeBgp {
    /// Its AS number, as a number or as Calico's dotted text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Value>,
    /// Its IPv4 address with prefix length.
    #[serde(rename = "ipv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// Its IPv6 address with prefix length.
    #[serde(rename = "ipv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    /// Its IPIP tunnel's address.
    #[serde(rename = "ipv4IPIPTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv4_ipip_tunnel_addr: String,
    /// Marks a route reflector.
    #[serde(rename = "routeReflectorClusterID", skip_serializing_if = "String::is_empty")]
    pub route_reflector_cluster_id: String,
}

/// Another system's name for the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrchRef {
    /// The host's name there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// The system.
    pub orchestrator: String,
}

/// What other tools note about a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Its WireGuard key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wireguard_public_key: String,
    /// Its WireGuard key for IPv6.
    #[serde(rename = "wireguardPublicKeyV6", skip_serializing_if = "String::is_empty")]
    pub wireguard_public_key_v6: String,
    /// The ranges its workloads live in.
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
}
