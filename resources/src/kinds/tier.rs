//! Tier: a group of policies that is asked as a whole, and what happens at its end.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{kind, order};

/// The order of a tier that gives none, and of the tier `default`.
pub const DEFAULT_TIER_ORDER: f64 = 1_000_000.0;

kind! {
    /// A group of policies.
    Tier {
        /// Its place and its end.
        spec: TierSpec,
        /// Conditions that other tools note; carried.
        status: Map<String, Value>,
    }
}

/// Where the tier stands and what becomes of packets that none of its policies decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TierSpec {
    /// Its place among the tiers, lowest first.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "order::serialize")]
    pub order: Option<f64>,
    /// What happens at the end of the tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<TierAction>,
}

/// What happens to a packet at the end of a tier that governs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TierAction {
    /// It is dropped.
    Deny,
    /// The next tier is asked.
    Pass,
}

impl TierAction {
    /// Every action as manifests spell it.
    pub const NAMES: &'static [&'static str] = &["Deny", "Pass"];

    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        TierAction::NAMES[self as usize]
    }
}
