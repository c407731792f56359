//! Profile: rules and labels for the endpoints that name it, asked when no policy decides.

use serde::{Deserialize, Serialize};

use super::kind;
use crate::{labels::Labels, rule::Rule};

kind! {
    /// Rules and labels that endpoints take over by naming it.
    Profile {
        /// The rules and labels.
        spec: ProfileSpec,
    }
}

/// Rules by direction, and labels that endpoints inherit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSpec {
    /// Rules for packets towards the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Labels of every endpoint that names the profile, unless it has its own.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels_to_apply: Labels,
}
