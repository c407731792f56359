//! Active policies and profiles: every policy prepared once, and which of this node's endpoints each one selects.
//!
//! A policy is parsed and its rules are scanned when it changes, not when it is needed: the cost is paid once however
//! many endpoints it selects. One that can not be enforced is kept as such, so that the endpoints it selects can be
//! denied. One whose selector can not be read selects nobody we could name; it is reported and otherwise missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use appliance_resources::{
    GlobalNetworkPolicy, HostEndpoint, Labels, PolicyType, Profile, Rule,
    kinds::global_network_policy::DEFAULT_TIER,
};

use crate::calc::desired::{Owner, PolicyRule, Rules, SetId};
use crate::calc::label_index::LabelIndex;
use crate::calc::rule_scanner::{ScanError, SetSpec, policy_selector, scan};

/// Where in a packet's way a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Before connection tracking.
    Untracked,
    /// Before destination translation.
    PreDnat,
    /// Where packets meet the host's processes, and when `forward` also where they are routed through.
    Normal {
        /// applyOnForward.
        forward: bool,
    },
}

/// A policy ready to be used.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) tier: String,
    pub(crate) order: Option<f64>,
    pub(crate) stage: Stage,
    /// Whether it governs packets arriving.
    pub(crate) ingress: bool,
    /// Whether it governs packets leaving.
    pub(crate) egress: bool,
    pub(crate) prepared: Prepared,
}

/// The rules of a policy or profile, or why they can not be enforced.
#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    /// They can.
    Ready { rules: Arc<Rules>, sets: BTreeMap<SetId, SetSpec> },
    /// It passed validation and still can not be enforced.
    Unusable { reason: String },
    /// It failed validation.
    Refused { reason: String },
}

impl Prepared {
    /// Why the rules can not be enforced, if so.
    pub(crate) fn problem(&self) -> Option<&str> {
        match self {
            Prepared::Ready { .. } => None,
            Prepared::Unusable { reason } | Prepared::Refused { reason } => Some(reason),
        }
    }
}

/// All policies × the endpoints of this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActivePolicies {
    index: LabelIndex<String, String>,
    policies: BTreeMap<String, Policy>,
    unreadable: BTreeMap<String, String>,
}

impl ActivePolicies {
    /// Takes in a policy; `refusal` says that it failed validation, and why.
    pub(crate) fn set_policy(&mut self, policy: &GlobalNetworkPolicy, refusal: Option<&str>) {
        let name = policy.metadata.name.clone();
        let spec = &policy.spec;
        let selector =
            policy_selector(&spec.selector, &spec.namespace_selector, &spec.service_account_selector);
        let selector = match selector {
            Ok(selector) => selector,
            Err(error) => {
                self.remove_policy(&name);
                if refusal.is_none() {
                    self.unreadable.insert(name, error.to_string());
                }
                return;
            }
        };
        self.unreadable.remove(&name);
        self.index.set_selector(name.clone(), selector);
        self.policies.insert(name, prepare_policy(policy, refusal));
    }

    /// Forgets a policy.
    pub(crate) fn remove_policy(&mut self, name: &str) {
        self.index.remove_selector(&name.to_owned());
        self.policies.remove(name);
        self.unreadable.remove(name);
    }

    /// Takes in an endpoint of this node, or its absence.
    pub(crate) fn on_endpoint(&mut self, name: &str, endpoint: Option<&HostEndpoint>) {
        match endpoint {
            Some(endpoint) => {
                let (labels, profiles) = (endpoint.metadata.labels.clone(), endpoint.spec.profiles.clone());
                self.index.set_item(name.to_owned(), labels, profiles);
            }
            None => {
                self.index.remove_item(&name.to_owned());
            }
        }
    }

    /// Takes in the labels a profile hands down.
    pub(crate) fn on_profile_labels(&mut self, name: &str, labels: Labels) {
        self.index.set_parent(name, labels);
    }

    /// The policies that select an endpoint, by name.
    pub(crate) fn selecting(&self, endpoint: &str) -> Vec<&Policy> {
        let endpoint = endpoint.to_owned();
        self.index.matched_by(&endpoint).filter_map(|name| self.policies.get(name)).collect()
    }

    /// Policies that passed validation and still can not be enforced, with the reason.
    pub(crate) fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        let unusable = self.policies.values().filter_map(|policy| match &policy.prepared {
            Prepared::Unusable { reason } => Some((policy.name.as_str(), reason.as_str())),
            Prepared::Ready { .. } | Prepared::Refused { .. } => None,
        });
        unusable.chain(self.unreadable.iter().map(|(name, reason)| (name.as_str(), reason.as_str())))
    }
}

fn prepare_policy(policy: &GlobalNetworkPolicy, refusal: Option<&str>) -> Policy {
    let spec = &policy.spec;
    // Types are always stored; without them a policy governs both directions.
    let governs = |direction| spec.types.is_empty() || spec.types.contains(&direction);
    let tier = if spec.tier.is_empty() { DEFAULT_TIER.to_owned() } else { spec.tier.clone() };
    let stage = if spec.do_not_track {
        Stage::Untracked
    } else if spec.pre_dnat {
        Stage::PreDnat
    } else {
        Stage::Normal { forward: spec.apply_on_forward }
    };
    let owner = Owner { kind: "gnp", tier: tier.clone(), name: policy.metadata.name.clone() };
    let later = |class: &str| Prepared::Unusable {
        reason: format!("{class} policy is not enforced by this version"),
    };
    let prepared = match (refusal, stage) {
        (Some(reason), _) => Prepared::Refused { reason: reason.to_owned() },
        (None, Stage::Untracked) => later("doNotTrack"),
        (None, Stage::PreDnat) => later("preDNAT"),
        (None, Stage::Normal { .. }) => prepare(owner, &spec.ingress, &spec.egress),
    };
    Policy {
        name: policy.metadata.name.clone(),
        tier,
        order: spec.order,
        stage,
        ingress: governs(PolicyType::Ingress),
        egress: governs(PolicyType::Egress),
        prepared,
    }
}

/// Prepares the rules of a profile.
pub(crate) fn prepare_profile(profile: &Profile) -> Prepared {
    let owner = Owner { kind: "pro", tier: "profile".to_owned(), name: profile.metadata.name.clone() };
    prepare(owner, &profile.spec.ingress, &profile.spec.egress)
}

fn prepare(owner: Owner, ingress: &[Rule], egress: &[Rule]) -> Prepared {
    let mut sets = BTreeMap::new();
    match (scanned("ingress", ingress, &mut sets), scanned("egress", egress, &mut sets)) {
        (Ok(ingress), Ok(egress)) => {
            Prepared::Ready { rules: Arc::new(Rules { owner, ingress, egress }), sets }
        }
        (Err(reason), _) | (_, Err(reason)) => Prepared::Unusable { reason },
    }
}

fn scanned(
    direction: &str,
    rules: &[Rule],
    sets: &mut BTreeMap<SetId, SetSpec>,
) -> Result<Vec<PolicyRule>, String> {
    scan(rules, sets)
        .map_err(|(index, error): (usize, ScanError)| format!("spec.{direction}[{index}]: {error}"))
}
