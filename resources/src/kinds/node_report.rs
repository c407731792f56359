//! NodeReport: what one node enforces, written by that node alone. A kind of ours, not Calico's.
//!
//! Everything an operator asks a node about its firewall is in here: which revision is in force, each endpoint with its
//! interfaces and policies in the order they are asked, what was refused and why, and what had to be repaired.

use serde::{Deserialize, Serialize};

use super::kind;

kind! {
    /// What a node enforces; named like the node.
    NodeReport {
        /// The report.
        status: NodeReportStatus,
    }
}

/// What is in force on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReportStatus {
    /// The store's revision that is in force.
    pub revision: u64,
    /// Whether policy is in force.
    pub state: EnforcementState,
    /// What an operator should know about the state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The node's endpoints, by kind, namespace and name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointReport>,
    /// Objects that could not be enforced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// What others changed in our table.
    #[serde(skip_serializing_if = "DriftReport::is_empty")]
    pub drift: DriftReport,
}

/// Whether a node's policy is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnforcementState {
    /// The store's state is not complete here yet; yesterday's ruleset is in force.
    #[default]
    WaitingForSync,
    /// The reported revision is in force.
    Enforcing,
    /// The last change did not reach the kernel; the one before is in force.
    Failed,
    /// The node was started without enforcement.
    Disabled,
    /// An operator emptied the node's table.
    Disarmed,
}

/// One endpoint on its node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointReport {
    /// `HostEndpoint` or `WorkloadEndpoint`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if its kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The interfaces it governs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// How it is.
    pub state: EndpointState,
    /// Why it is not `up`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// `tier/policy` in the order they are asked about packets towards it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress_policies: Vec<String>,
    /// `tier/policy` in the order they are asked about packets from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_policies: Vec<String>,
    /// Its profiles in the order they are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
}

/// How an endpoint is on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// It governs at least one interface, and all of them are up.
    Up,
    /// An interface it governs is down.
    Down,
    /// It governs nothing, or cannot be enforced.
    Error,
}

/// An object that could not be enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What others changed in our table, and that it was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DriftReport {
    /// How often something was put back since the node started.
    pub repairs: u64,
    /// When that was last, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_repair: Option<String>,
    /// What was changed last and by whom, as far as known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_change: String,
}

impl DriftReport {
    fn is_empty(&self) -> bool {
        *self == DriftReport::default()
    }
}
