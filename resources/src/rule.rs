//! Rule: one line of a policy or profile, as Calico's schema has it.
//!
//! All conditions of a rule hold together; empty objects and empty lists are no condition. The texts in here (ranges,
//! selectors) are as the operator wrote them: `validate::rule` has checked that they parse, and who enforces them parses
//! them once more into his own form.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{labels::Labels, port::Port, protocol::Protocol};

pub use crate::icmp::Icmp;

/// What a rule does with a packet that meets its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Accepts the packet for this endpoint and direction.
    Allow,
    /// Drops the packet.
    Deny,
    /// Writes a line to the kernel's log and goes on with the next rule.
    Log,
    /// Leaves the tier; in a profile, the profile.
    Pass,
}

impl Action {
    /// Every action as manifests spell it.
    pub const NAMES: &'static [&'static str] = &["Allow", "Deny", "Log", "Pass"];

    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        Action::NAMES[self as usize]
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What happens to a packet that matches.
    pub action: Action,
    /// 4 or 6; both when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<u8>,
    /// The packet's protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// What the packet's ICMP header says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// What the packet's protocol is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<Protocol>,
    /// What the packet's ICMP header does not say.
    #[serde(default, rename = "notICMP", skip_serializing_if = "Option::is_none")]
    pub not_icmp: Option<Icmp>,
    /// Conditions on where the packet comes from.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// Conditions on where the packet goes.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// Conditions on an HTTP request; nothing here can look at one, so validation refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Value>,
    /// Notes that end up as comments on the kernel's rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
}

impl Rule {
    /// A rule with no conditions.
    pub fn new(action: Action) -> Rule {
        Rule {
            action,
            ip_version: None,
            protocol: None,
            icmp: None,
            not_protocol: None,
            not_icmp: None,
            source: EntityRule::default(),
            destination: EntityRule::default(),
            http: None,
            metadata: None,
        }
    }
}

/// One side of a rule. The positive lists are each "any of these", the negative ones each "none of these".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntityRule {
    /// The address is in one of these ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
    /// The address belongs to an endpoint or set that this selects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The endpoint or set is in a namespace that this selects; `global()`: in none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    /// The backends of a Kubernetes service; nothing here knows any, so validation refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
    /// The transport port is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The address is in none of these ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_nets: Vec<String>,
    /// The address belongs to nothing that this selects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub not_selector: String,
    /// The transport port is none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ports: Vec<Port>,
    /// The endpoint runs as one of these service accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountMatch>,
}

impl EntityRule {
    /// Whether this side has no condition.
    pub fn is_empty(&self) -> bool {
        *self == EntityRule::default()
    }
}

/// A Kubernetes service by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceMatch {
    /// The service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// Service accounts by name and by label; both hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccountMatch {
    /// One of these names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The account's labels match.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
}

/// Notes on a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleMetadata {
    /// Become comments of the form `key=value`.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
}
