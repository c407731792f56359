//! FelixConfiguration: settings of the enforcer, for all nodes, for some, or for one.
//!
//! The settings that matter to us are typed; every other setting Calico knows is carried untouched in `other`, so that
//! objects move in and out of a Calico cluster unchanged. How the objects that apply to one node become one answer is
//! in `effective`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kind;
use crate::protocol::ProtocolName;

/// The object that applies to every node.
pub const DEFAULT_NAME: &str = "default";
/// An object with this prefix applies to the node named after it.
pub const NODE_PREFIX: &str = "node.";

kind! {
    /// Settings of the enforcer.
    FelixConfiguration {
        /// The settings; absent ones are left to the next object or to the default.
        spec: FelixConfigurationSpec,
    }
}

/// The settings of one object. `None` is "not said here", which is not the same as an empty list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FelixConfigurationSpec {
    /// Which nodes, by their labels; for objects that are neither `default` nor `node.NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Ports towards the host that policy can not close; `[]` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failsafe_inbound_host_ports: Option<Vec<ProtoPort>>,
    /// Ports from the host that policy can not close; `[]` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failsafe_outbound_host_ports: Option<Vec<ProtoPort>>,
    /// Prefixes of workload interfaces, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_prefix: Option<String>,
    /// Interfaces that no endpoint gets, separated by commas; `/…/` is a regular expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_exclude: Option<String>,
    /// What becomes of packets from a workload to its own host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_endpoint_to_host_action: Option<String>,
    /// Lets packets through that connection tracking calls invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_conntrack_invalid_check: Option<bool>,
    /// Whether IPv6 is policed.
    #[serde(rename = "ipv6Support", skip_serializing_if = "Option::is_none")]
    pub ipv6_support: Option<bool>,
    /// How the lines of Log rules begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_prefix: Option<String>,
    /// How many such lines in a time: `10/minute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_action_rate_limit: Option<String>,
    /// How many such lines at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_action_rate_limit_burst: Option<u32>,
    /// `Drop` or `Reject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_filter_deny_action: Option<String>,
    /// `Accept` or `Return`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_filter_allow_action: Option<String>,
    /// `Accept` or `Return`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_mangle_allow_action: Option<String>,
    /// How often the kernel's table is read back whole, as a Go duration; `0s` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_refresh_interval: Option<String>,
    /// Every other setting, as it came.
    #[serde(flatten, skip_deserializing)]
    pub other: Map<String, Value>,
}

/// A port that policy can not close, for everyone or for one remote range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtoPort {
    /// TCP, UDP or SCTP; TCP when absent.
    #[serde(default = "default_protocol")]
    pub protocol: ProtocolName,
    /// The number.
    pub port: u16,
    /// The remote side it is open for; everyone when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
}

fn default_protocol() -> ProtocolName {
    ProtocolName::Tcp
}

impl ProtoPort {
    /// The port, open for everyone.
    pub const fn open(protocol: ProtocolName, port: u16) -> ProtoPort {
        ProtoPort { protocol, port, net: None }
    }
}

const fn tcp(port: u16) -> ProtoPort {
    ProtoPort::open(ProtocolName::Tcp, port)
}

const fn udp(port: u16) -> ProtoPort {
    ProtoPort::open(ProtocolName::Udp, port)
}

/// Open towards the host unless configured otherwise: ssh, DHCP, BGP, etcd and our peers (2379, 2380), Typha, the API
/// (6443), and etcd's first ports.
pub const FAILSAFE_INBOUND: &[ProtoPort] =
    &[tcp(22), udp(68), tcp(179), tcp(2379), tcp(2380), tcp(5473), tcp(6443), tcp(6666), tcp(6667)];

/// Open from the host unless configured otherwise: DNS, DHCP, then the same services elsewhere.
pub const FAILSAFE_OUTBOUND: &[ProtoPort] =
    &[udp(53), udp(67), tcp(179), tcp(2379), tcp(2380), tcp(5473), tcp(6443), tcp(6666), tcp(6667)];
