//! Policy resolver: for each endpoint of this node, its policies class by class in the order they are asked.
//!
//! A policy is in one of three classes (untracked, pre-DNAT, normal), and with applyOnForward in the forward class too.
//! The normal class is enforced; the forward class is resolved and kept for the stage that will enforce it, and until
//! then the operator is told. An endpoint selected by a policy that can not be enforced, whatever its class, is denied.

use std::collections::BTreeMap;

use appliance_resources::{HostEndpoint, Refusal, Tier};

use crate::calc::active_policies::{Policy, Stage};
use crate::calc::desired::{Endpoint, EndpointPolicies, EndpointTier, ProfileRef};
use crate::calc::policy_sorter::sort;
use crate::calc::profiles::Profiles;

/// One endpoint with its policies, and what there is to say about them.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) endpoint: Endpoint,
    /// `tier/policy` in order, for the operator.
    pub(crate) ingress: Vec<String>,
    pub(crate) egress: Vec<String>,
    /// Why it is denied, or what of it is denied; empty when all is as written.
    pub(crate) problem: String,
    pub(crate) refusals: Vec<Refusal>,
}

/// Resolves one endpoint.
pub(crate) fn resolve(
    endpoint: &HostEndpoint,
    selecting: &[&Policy],
    tiers: &BTreeMap<&str, &Tier>,
    profiles: &Profiles,
) -> Resolved {
    let name = &endpoint.metadata.name;
    let normal: Vec<&Policy> = of_class(selecting, |stage| matches!(stage, Stage::Normal { .. }));
    let forward: Vec<&Policy> = of_class(selecting, |stage| stage == Stage::Normal { forward: true });
    let refs: Vec<ProfileRef> =
        endpoint.spec.profiles.iter().map(|profile| profiles.reference(profile)).collect();
    let mut refusals: Vec<Refusal> = selecting.iter().filter_map(|policy| not_enforced(policy)).collect();
    refusals.extend(refs.iter().filter_map(|profile| missing(profile, name, profiles)));
    let unusable = selecting.iter().find_map(|policy| Some((policy, policy.prepared.problem()?)));
    let (normal, forward) = (tiers_of(&normal, tiers), tiers_of(&forward, tiers));
    let listed = |direction: fn(&EndpointTier) -> &Vec<String>| {
        normal
            .iter()
            .flat_map(|tier| direction(tier).iter().map(|policy| format!("{}/{policy}", tier.name)))
            .collect()
    };
    let (ingress, egress) = (listed(|tier| &tier.ingress), listed(|tier| &tier.egress));
    if let Some((policy, reason)) = unusable {
        let problem = format!(
            "GlobalNetworkPolicy {} can not be enforced, everything is denied: {reason}",
            policy.name
        );
        return Resolved { endpoint: Endpoint::Denied, ingress, egress, problem, refusals };
    }
    let absent: Vec<&str> = refs.iter().filter_map(|profile| profile.absent()).collect();
    let problem = match absent.as_slice() {
        [] => String::new(),
        names => format!("no profile {}: denied in its place", names.join(", ")),
    };
    let endpoint = Endpoint::Policed(EndpointPolicies { normal, forward, profiles: refs });
    Resolved { endpoint, ingress, egress, problem, refusals }
}

fn of_class<'a>(policies: &[&'a Policy], wanted: impl Fn(Stage) -> bool) -> Vec<&'a Policy> {
    policies.iter().copied().filter(|policy| wanted(policy.stage)).collect()
}

fn tiers_of(policies: &[&Policy], tiers: &BTreeMap<&str, &Tier>) -> Vec<EndpointTier> {
    sort(policies, tiers)
        .into_iter()
        .map(|tier| {
            let names = |governs: fn(&Policy) -> bool| -> Vec<String> {
                tier.policies
                    .iter()
                    .filter(|policy| governs(policy))
                    .map(|policy| policy.name.clone())
                    .collect()
            };
            EndpointTier {
                name: tier.name.to_owned(),
                end: tier.end,
                ingress: names(|policy| policy.ingress),
                egress: names(|policy| policy.egress),
            }
        })
        .collect()
}

fn not_enforced(policy: &Policy) -> Option<Refusal> {
    if policy.stage != (Stage::Normal { forward: true }) {
        return None;
    }
    let reason = "enforced for this host's own packets only: this version does not police forwarded ones";
    Some(Refusal {
        kind: "GlobalNetworkPolicy".to_owned(),
        name: policy.name.clone(),
        reason: format!("applyOnForward: {reason}"),
    })
}

fn missing(profile: &ProfileRef, endpoint: &str, profiles: &Profiles) -> Option<Refusal> {
    let name = profile.absent()?;
    let why = profiles.problem(name).unwrap_or("it does not exist");
    let reason = format!("{why}; HostEndpoint {endpoint} lists it, so what reaches it there is denied");
    Some(Refusal { kind: "Profile".to_owned(), name: name.to_owned(), reason })
}

impl ProfileRef {
    /// The name, if there is nothing behind it.
    fn absent(&self) -> Option<&str> {
        match self {
            ProfileRef::Missing(name) => Some(name),
            ProfileRef::Present(_) => None,
        }
    }
}
