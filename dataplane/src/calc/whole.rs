//! Whole: the part of the answer that is small and therefore made from the start whenever any of it changed.
//!
//! One pass: settings, who governs which interface, the ordered policies of each endpoint of this node, then what those
//! need, and what the operator should read. It looks at everything and keeps nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use appliance_resources::{
    AnyResource, EndpointReport, EndpointState, HostEndpoint, Kind, Labels, Refusal, ResourceKey, Tier,
};

use crate::calc::active_policies::{ActivePolicies, Prepared};
use crate::calc::desired::{DesiredReport, Endpoint, ProfileRef, SetId, Settings, Structure};
use crate::calc::inputs::Inputs;
use crate::calc::local_endpoints::{self, Resolution};
use crate::calc::policy_resolver::{self, Resolved};
use crate::calc::profiles::Profiles;
use crate::calc::rule_scanner::SetSpec;
use crate::calc::settings::{self, InterfaceExclude};
use crate::interfaces::Interfaces;

/// What one pass comes to.
pub(crate) struct Whole {
    pub(crate) structure: Structure,
    /// The IP sets the structure's rules need; their shapes are not in the structure yet.
    pub(crate) sets: BTreeMap<SetId, SetSpec>,
    pub(crate) report: DesiredReport,
    /// What passed validation and still is not enforced as written; also in the report.
    pub(crate) told: Vec<Refusal>,
}

/// What a pass looks at.
pub(crate) struct View<'a> {
    pub(crate) node: &'a str,
    pub(crate) inputs: &'a Inputs,
    /// The HostEndpoints of this node.
    pub(crate) endpoints: BTreeMap<&'a str, &'a HostEndpoint>,
    /// The WorkloadEndpoints of this node.
    pub(crate) workloads: &'a BTreeMap<ResourceKey, Arc<AnyResource>>,
    pub(crate) policies: &'a ActivePolicies,
    pub(crate) profiles: &'a Profiles,
    pub(crate) interfaces: &'a Interfaces,
}

impl View<'_> {
    /// Makes the pass.
    pub(crate) fn whole(&self) -> Whole {
        let (settings, exclude) = self.settings();
        let resolution = local_endpoints::resolve(&self.endpoints, self.interfaces, &settings, &exclude);
        let tiers = self.tiers();
        let resolve = |name: &str, endpoint: &HostEndpoint| {
            policy_resolver::resolve(endpoint, &self.policies.selecting(name), &tiers, self.profiles)
        };
        let resolved: BTreeMap<&str, Resolved> =
            self.endpoints.iter().map(|(name, endpoint)| (*name, resolve(name, endpoint))).collect();
        let told = self.told(&resolved);
        let report = self.report(&resolution, &resolved, &told);
        let mut whole = Whole { structure: Structure::default(), sets: BTreeMap::new(), report, told };
        let governing = resolution.governing();
        for (name, resolved) in resolved.into_iter().filter(|(name, _)| governing.contains(name)) {
            self.need(name, &resolved.endpoint, &mut whole);
            whole.structure.endpoints.insert(name.to_owned(), resolved.endpoint);
        }
        whole.structure.settings = settings;
        whole.structure.interfaces = resolution.interfaces;
        whole.structure.any_interface = resolution.any_interface;
        whole
    }

    fn settings(&self) -> (Settings, InterfaceExclude) {
        let configurations = self.inputs.of_kind(Kind::FelixConfiguration);
        let configurations = configurations
            .filter_map(|(key, resource)| match resource {
                AnyResource::FelixConfiguration(configuration) => Some((key.name.clone(), configuration)),
                _ => None,
            })
            .collect();
        let own = self.inputs.of_kind(Kind::Node).find(|(key, _)| key.name == self.node);
        let labels = own.map_or_else(Labels::new, |(_, node)| node.meta().labels.clone());
        settings::effective(&configurations, self.node, &labels)
    }

    fn tiers(&self) -> BTreeMap<&str, &Tier> {
        let tiers = self.inputs.of_kind(Kind::Tier);
        tiers
            .filter_map(|(key, resource)| match resource {
                AnyResource::Tier(tier) => Some((key.name.as_str(), tier)),
                _ => None,
            })
            .collect()
    }

    /// Adds the policies, profiles and sets that an endpoint's rules need.
    fn need(&self, name: &str, endpoint: &Endpoint, whole: &mut Whole) {
        let Endpoint::Policed(policies) = endpoint else { return };
        let asked = policies.normal.iter().flat_map(|tier| tier.ingress.iter().chain(&tier.egress));
        let asked: BTreeSet<&str> = asked.map(String::as_str).collect();
        for policy in
            self.policies.selecting(name).into_iter().filter(|policy| asked.contains(&policy.name[..]))
        {
            if let Prepared::Ready { rules, sets } = &policy.prepared {
                whole.structure.policies.insert(policy.name.clone(), Arc::clone(rules));
                whole.sets.extend(sets.clone());
            }
        }
        for profile in &policies.profiles {
            let ProfileRef::Present(profile) = profile else { continue };
            if let Some(Prepared::Ready { rules, sets }) = self.profiles.get(profile) {
                whole.structure.profiles.insert(profile.clone(), Arc::clone(rules));
                whole.sets.extend(sets.clone());
            }
        }
    }

    fn report(
        &self,
        resolution: &Resolution,
        resolved: &BTreeMap<&str, Resolved>,
        told: &[Refusal],
    ) -> DesiredReport {
        let hosts = resolved.iter().filter_map(|(name, resolved)| {
            let local = resolution.states.get(*name)?;
            let reasons = [local.reason.as_str(), &resolved.problem];
            let reasons: Vec<&str> = reasons.into_iter().filter(|reason| !reason.is_empty()).collect();
            let denied = resolved.endpoint == Endpoint::Denied;
            Some(EndpointReport {
                kind: Kind::HostEndpoint.name().to_owned(),
                name: (*name).to_owned(),
                namespace: None,
                interfaces: local.interfaces.clone(),
                state: if denied { EndpointState::Error } else { local.state },
                reason: reasons.join("; "),
                ingress_policies: resolved.ingress.clone(),
                egress_policies: resolved.egress.clone(),
                profiles: self.endpoints[name].spec.profiles.clone(),
            })
        });
        let workloads = self.workloads.iter().filter_map(|(key, resource)| workload(key, resource));
        let refusals = self.inputs.refusals().chain(told.iter().cloned());
        DesiredReport { endpoints: hosts.chain(workloads).collect(), refusals: sorted(refusals.collect()) }
    }

    fn told(&self, resolved: &BTreeMap<&str, Resolved>) -> Vec<Refusal> {
        let unusable = self.policies.problems().map(|(name, reason)| Refusal {
            kind: Kind::GlobalNetworkPolicy.name().to_owned(),
            name: name.to_owned(),
            reason: format!("can not be enforced: {reason}"),
        });
        let partly = resolved.values().flat_map(|resolved| resolved.refusals.iter().cloned());
        sorted(unusable.chain(partly).collect())
    }
}

/// Workload endpoints are listed so that nobody takes them for policed.
fn workload(key: &ResourceKey, resource: &AnyResource) -> Option<EndpointReport> {
    let AnyResource::WorkloadEndpoint(endpoint) = resource else { return None };
    Some(EndpointReport {
        kind: key.kind.name().to_owned(),
        name: key.name.clone(),
        namespace: key.namespace.clone(),
        interfaces: vec![endpoint.spec.interface_name.clone()],
        state: EndpointState::Error,
        reason: "workload endpoints are not enforced by this version".to_owned(),
        ingress_policies: Vec::new(),
        egress_policies: Vec::new(),
        profiles: endpoint.spec.profiles.clone(),
    })
}

fn sorted(mut refusals: Vec<Refusal>) -> Vec<Refusal> {
    let key = |refusal: &Refusal| (refusal.kind.clone(), refusal.name.clone(), refusal.reason.clone());
    refusals.sort_by_cached_key(key);
    refusals.dedup();
    refusals
}
