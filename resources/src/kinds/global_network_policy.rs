//! GlobalNetworkPolicy: rules for every endpoint a selector picks.

use serde::{Deserialize, Serialize};

use super::{kind, order};
use crate::rule::Rule;

/// The tier of a policy that names none.
pub const DEFAULT_TIER: &str = "default";
/// The only performance hint there is.
pub const ASSUME_NEEDED_ON_EVERY_NODE: &str = "AssumeNeededOnEveryNode";

kind! {
    /// Rules for the endpoints its selector picks, whatever their namespace.
    GlobalNetworkPolicy {
        /// Whom it governs and how.
        spec: GlobalNetworkPolicySpec,
    }
}

/// Whom a policy governs, when it is asked, and its rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkPolicySpec {
    /// The tier it is in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tier: String,
    /// Its place in the tier, lowest first; last when absent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "order::serialize")]
    pub order: Option<f64>,
    /// Rules for packets towards the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Which endpoints; all when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Which directions it governs, with or without rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Decides before connection tracking, packet by packet.
    #[serde(skip_serializing_if = "is_false")]
    pub do_not_track: bool,
    /// Decides before destinations are translated.
    #[serde(rename = "preDNAT", skip_serializing_if = "is_false")]
    pub pre_dnat: bool,
    /// Also decides about packets that are forwarded.
    #[serde(skip_serializing_if = "is_false")]
    pub apply_on_forward: bool,
    /// Which endpoints, by their service account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_selector: String,
    /// Which endpoints, by their namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    /// What the enforcer may assume.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
}

/// A direction a policy governs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyType {
    /// Packets towards the endpoint.
    Ingress,
    /// Packets from the endpoint.
    Egress,
}

impl PolicyType {
    /// Every direction as manifests spell it.
    pub const NAMES: &'static [&'static str] = &["Ingress", "Egress"];

    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        PolicyType::NAMES[self as usize]
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
