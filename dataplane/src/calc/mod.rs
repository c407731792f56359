//! Calc: from the resources of the cluster to what this node should enforce. Pure: no clock, no kernel, no log.
//!
//! ```text
//!  Update ─► Inputs ─┬─ HostEndpoint, WorkloadEndpoint, GlobalNetworkSet ─► IpSets ◄──── sets in use ───┐
//!          (validate)├─ Profile ── labels to both indexes, rules to ─► Profiles                         │
//!                    ├─ GlobalNetworkPolicy ─► ActivePolicies (× the endpoints of this node)            │
//!                    └─ Tier, FelixConfiguration, Node                                                  │
//!                                                                                                       │
//!  flush:  Settings ─► local_endpoints ─► policy_resolver ─► policies, profiles and sets they need ─────┘
//!                                                │
//!                                                └─► Structure + DesiredReport ─┬─► Desired ─► render
//!                                                        IpSets::snapshot ──────┘
//! ```
//!
//! **State, not history.** Every answer is a function of the resources and interfaces as they are now. Updates may come
//! in any order, twice, or cut into any flushes; the property test in `tests` delivers them in all those ways. Missing,
//! deleted, undecodable and invalid are one case, with one exception below.
//!
//! **What is large is incremental, what is small is recomputed.** Members of IP sets can be 100,000; each change of a
//! contributor costs the members it brings, times log n, and the snapshot handed out shares everything else with the
//! one before (`nft::Elements`). The endpoints of one node and the policies that select them are few; whenever one of
//! them changes, they are all resolved again, which is simpler than it is slow. Between the two lies the label
//! index, which finds the few selectors a changed label can concern. If only members changed, `flush` returns the same
//! `Structure` by identity, and nobody downstream renders or compares a rule.
//!
//! **Failing closed.** An endpoint that fails validation is missing, as in Calico: its interface is open, which is why
//! this is also shouted (a notice to log, a refusal in the report). A policy that fails validation or can not be enforced
//! is *not* missing: the endpoints it selects are denied, because nobody knows what it would have forbidden. A missing
//! profile denies in its place. A policy whose selector can not be read selects nobody we could name; it is reported.
//!
//! **What waits for later stages.** Workload endpoints contribute addresses and are listed, not policed. Untracked and
//! pre-DNAT policies count as "can not be enforced". The forward class of each endpoint is in `Desired` and reported.
//!
//! *Questions for a reviewer.* Does a new kind of update say what it changes (`Changed`)? Does everything that can be
//! refused appear in the report? Does a new field of `Desired` depend on anything but current state?

mod active_policies;
mod cover;
pub mod desired;
mod inputs;
mod ip_sets;
mod label_index;
mod local_endpoints;
mod policy_resolver;
mod policy_sorter;
mod profiles;
mod rule_scanner;
mod settings;
#[cfg(test)]
mod tests;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use appliance_resources::{
    AnyResource, EndpointReport, EndpointState, HostEndpoint, Kind, Labels, Refusal, ResourceKey, Tier,
};

use crate::calc::active_policies::{ActivePolicies, Prepared};
use crate::calc::desired::{Endpoint, ProfileRef};
use crate::calc::inputs::{Inputs, Known, Taken};
use crate::calc::ip_sets::IpSets;
use crate::calc::local_endpoints::Resolution;
use crate::calc::policy_resolver::Resolved;
use crate::calc::profiles::Profiles;
use crate::calc::rule_scanner::SetSpec;
use crate::interfaces::Interfaces;

pub use crate::calc::desired::{Desired, DesiredReport, IpSet, SetId, Structure};
pub use crate::calc::update::Update;

/// What this node should enforce, kept up to date change by change.
///
/// * The answer depends on the current state only: any order and any cut of the same updates ends in the same answer.
/// * Before `on_in_sync` and the first `on_interfaces` there is no answer.
#[derive(Clone, Debug)]
pub struct Calc {
    node: String,
    inputs: Inputs,
    /// The HostEndpoints of this node.
    endpoints: BTreeMap<String, Arc<AnyResource>>,
    /// The WorkloadEndpoints of this node.
    workloads: BTreeMap<ResourceKey, Arc<AnyResource>>,
    policies: ActivePolicies,
    profiles: Profiles,
    ip_sets: IpSets,
    interfaces: Option<Interfaces>,
    in_sync: bool,
    changed: Changed,
    notices: Vec<String>,
    last: Option<Desired>,
}

/// What has changed since the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    /// Members of IP sets at most.
    Members,
    /// Endpoints, policies or settings.
    Structure,
}

impl Calc {
    /// Knows nothing yet; will answer for the node called `node`, compared exactly.
    pub fn new(node: &str) -> Calc {
        Calc {
            node: node.to_owned(),
            inputs: Inputs::default(),
            endpoints: BTreeMap::new(),
            workloads: BTreeMap::new(),
            policies: ActivePolicies::default(),
            profiles: Profiles::default(),
            ip_sets: IpSets::default(),
            interfaces: None,
            in_sync: false,
            changed: Changed::Structure,
            notices: Vec::new(),
            last: None,
        }
    }

    /// Takes in one resource as it is now, or its absence. Cheap: what is expensive waits for `flush`.
    pub fn on_update(&mut self, update: Update) {
        let Some(taken) = self.inputs.on_update(update) else { return };
        self.notices.extend(taken.notice());
        let usable = taken.now.as_ref().and_then(Known::valid).cloned();
        let changed = match taken.key.kind {
            Kind::HostEndpoint => self.on_host_endpoint(&taken, usable),
            Kind::WorkloadEndpoint => self.on_workload_endpoint(&taken, usable),
            Kind::GlobalNetworkSet => {
                self.ip_sets.on_resource(&taken.key, usable);
                Changed::Members
            }
            Kind::GlobalNetworkPolicy => {
                self.on_policy(&taken);
                Changed::Structure
            }
            Kind::Profile => {
                self.on_profile(&taken.key.name, usable.as_deref());
                Changed::Structure
            }
            Kind::Node if taken.key.name != self.node => Changed::Nothing,
            Kind::Node | Kind::Tier | Kind::FelixConfiguration => Changed::Structure,
            Kind::ClusterInformation | Kind::NodeReport => Changed::Nothing,
        };
        // A refusal is part of the report, and the report is made with the structure.
        let refused = |known: &Option<Known>| matches!(known, Some(Known::Refused { .. }));
        let report = if refused(&taken.before) || refused(&taken.now) { Changed::Structure } else { changed };
        self.changed = self.changed.max(changed).max(report);
    }

    /// Every resource of the store has been handed in once.
    pub fn on_in_sync(&mut self) {
        self.in_sync = true;
    }

    /// Takes in the links of this node and their addresses.
    pub fn on_interfaces(&mut self, interfaces: &Interfaces) {
        if self.interfaces.as_ref() != Some(interfaces) {
            self.interfaces = Some(interfaces.clone());
            self.changed = Changed::Structure;
        }
    }

    /// The answer, if it is another than at the last flush.
    pub fn flush(&mut self) -> Option<Desired> {
        let interfaces = self.interfaces.as_ref().filter(|_| self.in_sync)?;
        if self.changed == Changed::Nothing {
            return None;
        }
        let (structure, report) = match &self.last {
            Some(last) if self.changed == Changed::Members => {
                (Arc::clone(&last.structure), Arc::clone(&last.report))
            }
            _ => {
                let resolved = self.resolve(interfaces);
                self.ip_sets.set_active(&resolved.sets);
                self.notices.extend(self.news(&resolved.told));
                (Arc::new(resolved.structure), Arc::new(resolved.report))
            }
        };
        self.changed = Changed::Nothing;
        let structure = self.with_shapes(structure);
        let desired = Desired {
            structure,
            sets: self.ip_sets.snapshot(),
            report,
            notices: std::mem::take(&mut self.notices),
        };
        self.answer(desired)
    }

    /// A line for each refusal that did not stand at the last flush.
    fn news(&self, told: &[Refusal]) -> Vec<String> {
        let stood = |refusal: &&Refusal| {
            self.last.as_ref().is_some_and(|last| last.report.refusals.contains(refusal))
        };
        let news = told.iter().filter(|refusal| !stood(refusal));
        news.map(|refusal| format!("{} {}: {}", refusal.kind, refusal.name, refusal.reason)).collect()
    }

    /// Puts in the kernel sets each IP set takes now, and goes on with the last structure if it is the same again.
    fn with_shapes(&self, mut structure: Arc<Structure>) -> Arc<Structure> {
        let shapes = self.ip_sets.shapes();
        if structure.sets != shapes {
            Arc::make_mut(&mut structure).sets = shapes;
        }
        match &self.last {
            Some(last) if last.structure == structure => Arc::clone(&last.structure),
            _ => structure,
        }
    }

    fn answer(&mut self, desired: Desired) -> Option<Desired> {
        let same = self.last.as_ref().is_some_and(|last| {
            desired.notices.is_empty()
                && Arc::ptr_eq(&last.structure, &desired.structure)
                && last.report == desired.report
                && last.sets == desired.sets
        });
        if same {
            return None;
        }
        self.last = Some(Desired { notices: Vec::new(), ..desired.clone() });
        Some(desired)
    }

    fn on_host_endpoint(&mut self, taken: &Taken, usable: Option<Arc<AnyResource>>) -> Changed {
        self.ip_sets.on_resource(&taken.key, usable.clone());
        let name = &taken.key.name;
        let local =
            usable.filter(|resource| host_endpoint(resource).is_some_and(|hep| hep.spec.node == self.node));
        self.policies.on_endpoint(name, local.as_deref().and_then(host_endpoint));
        let concerns_us = match local {
            Some(resource) => {
                self.endpoints.insert(name.clone(), resource);
                true
            }
            None => self.endpoints.remove(name).is_some(),
        };
        if concerns_us { Changed::Structure } else { Changed::Members }
    }

    fn on_workload_endpoint(&mut self, taken: &Taken, usable: Option<Arc<AnyResource>>) -> Changed {
        self.ip_sets.on_resource(&taken.key, usable.clone());
        let here = |resource: &AnyResource| matches!(resource, AnyResource::WorkloadEndpoint(endpoint) if endpoint.spec.node == self.node);
        let concerns_us = match usable.filter(|resource| here(resource)) {
            Some(resource) => {
                self.workloads.insert(taken.key.clone(), resource);
                true
            }
            None => self.workloads.remove(&taken.key).is_some(),
        };
        if concerns_us { Changed::Structure } else { Changed::Members }
    }

    fn on_policy(&mut self, taken: &Taken) {
        let (resource, refusal) = match &taken.now {
            Some(Known::Valid(resource)) => (resource, None),
            Some(Known::Refused { resource, reason }) => (resource, Some(reason.as_str())),
            None => return self.policies.remove_policy(&taken.key.name),
        };
        if let AnyResource::GlobalNetworkPolicy(policy) = resource.as_ref() {
            self.policies.set_policy(policy, refusal);
        }
    }

    fn on_profile(&mut self, name: &str, usable: Option<&AnyResource>) {
        let profile = match usable {
            Some(AnyResource::Profile(profile)) => Some(profile),
            _ => None,
        };
        let labels = profile.map(|profile| profile.spec.labels_to_apply.clone()).unwrap_or_default();
        self.profiles.set(name, profile);
        self.ip_sets.on_profile_labels(name, labels.clone());
        self.policies.on_profile_labels(name, labels);
    }

    /// Everything small, from the start: settings, who governs what, the ordered policies of each endpoint.
    fn resolve(&self, interfaces: &Interfaces) -> Whole {
        let (settings, exclude) = self.settings();
        let endpoints: BTreeMap<&str, &HostEndpoint> = self
            .endpoints
            .iter()
            .filter_map(|(name, resource)| Some((name.as_str(), host_endpoint(resource)?)))
            .collect();
        let resolution = local_endpoints::resolve(&endpoints, interfaces, &settings, &exclude);
        let tiers: BTreeMap<&str, &Tier> = self
            .inputs
            .of_kind(Kind::Tier)
            .filter_map(|(key, resource)| match resource {
                AnyResource::Tier(tier) => Some((key.name.as_str(), tier)),
                _ => None,
            })
            .collect();
        let resolved: BTreeMap<&str, Resolved> = endpoints
            .iter()
            .map(|(name, endpoint)| {
                let selecting = self.policies.selecting(name);
                (*name, policy_resolver::resolve(endpoint, &selecting, &tiers, &self.profiles))
            })
            .collect();
        let told = self.told(&resolved);
        let report = self.report(&endpoints, &resolution, &resolved, &told);
        let governing = resolution.governing();
        let mut structure = Structure { settings, ..Structure::default() };
        let mut sets = BTreeMap::new();
        for (name, resolved) in resolved.into_iter().filter(|(name, _)| governing.contains(name)) {
            self.need(name, &resolved.endpoint, &mut structure, &mut sets);
            structure.endpoints.insert(name.to_owned(), resolved.endpoint);
        }
        structure.interfaces = resolution.interfaces;
        structure.any_interface = resolution.any_interface;
        Whole { structure, sets, report, told }
    }

    fn settings(&self) -> (desired::Settings, settings::InterfaceExclude) {
        let configurations = self
            .inputs
            .of_kind(Kind::FelixConfiguration)
            .filter_map(|(key, resource)| match resource {
                AnyResource::FelixConfiguration(configuration) => Some((key.name.clone(), configuration)),
                _ => None,
            })
            .collect();
        let own = self.inputs.of_kind(Kind::Node).find(|(key, _)| key.name == self.node);
        let labels = own.map(|(_, node)| node.meta().labels.clone()).unwrap_or_else(Labels::new);
        settings::effective(&configurations, &self.node, &labels)
    }

    /// Adds the policies, profiles and sets that an endpoint's rules need.
    fn need(
        &self,
        name: &str,
        endpoint: &Endpoint,
        structure: &mut Structure,
        sets: &mut BTreeMap<SetId, SetSpec>,
    ) {
        let Endpoint::Policed(policies) = endpoint else { return };
        let wanted: BTreeSet<&str> = policies
            .normal
            .iter()
            .flat_map(|tier| tier.ingress.iter().chain(&tier.egress))
            .map(String::as_str)
            .collect();
        for policy in
            self.policies.selecting(name).into_iter().filter(|policy| wanted.contains(policy.name.as_str()))
        {
            if let Prepared::Ready { rules, sets: needed } = &policy.prepared {
                structure.policies.insert(policy.name.clone(), Arc::clone(rules));
                sets.extend(needed.clone());
            }
        }
        for profile in &policies.profiles {
            let ProfileRef::Present(profile) = profile else { continue };
            if let Some(Prepared::Ready { rules, sets: needed }) = self.profiles.get(profile) {
                structure.profiles.insert(profile.clone(), Arc::clone(rules));
                sets.extend(needed.clone());
            }
        }
    }

    fn report(
        &self,
        endpoints: &BTreeMap<&str, &HostEndpoint>,
        resolution: &Resolution,
        resolved: &BTreeMap<&str, Resolved>,
        told: &[Refusal],
    ) -> DesiredReport {
        let mut report = DesiredReport::default();
        for (name, endpoint) in endpoints {
            let (Some(local), Some(resolved)) = (resolution.states.get(*name), resolved.get(name)) else {
                continue;
            };
            let denied = resolved.endpoint == Endpoint::Denied;
            let reasons = [local.reason.as_str(), &resolved.problem];
            let reasons: Vec<&str> = reasons.into_iter().filter(|reason| !reason.is_empty()).collect();
            report.endpoints.push(EndpointReport {
                kind: Kind::HostEndpoint.name().to_owned(),
                name: (*name).to_owned(),
                namespace: None,
                interfaces: local.interfaces.clone(),
                state: if denied { EndpointState::Error } else { local.state },
                reason: reasons.join("; "),
                ingress_policies: resolved.ingress.clone(),
                egress_policies: resolved.egress.clone(),
                profiles: endpoint.spec.profiles.clone(),
            });
        }
        report
            .endpoints
            .extend(self.workloads.iter().filter_map(|(key, resource)| workload_report(key, resource)));
        report.refusals = sorted(self.inputs.refusals().chain(told.iter().cloned()).collect());
        report
    }

    /// What passed validation and still is not enforced as written.
    fn told(&self, resolved: &BTreeMap<&str, Resolved>) -> Vec<Refusal> {
        let unusable = self.policies.problems().map(|(name, reason)| Refusal {
            kind: Kind::GlobalNetworkPolicy.name().to_owned(),
            name: name.to_owned(),
            reason: format!("can not be enforced: {reason}"),
        });
        sorted(
            unusable
                .chain(resolved.values().flat_map(|resolved| resolved.refusals.iter().cloned()))
                .collect(),
        )
    }
}

/// What resolving comes to.
struct Whole {
    structure: Structure,
    sets: BTreeMap<SetId, SetSpec>,
    report: DesiredReport,
    told: Vec<Refusal>,
}

fn sorted(mut refusals: Vec<Refusal>) -> Vec<Refusal> {
    refusals.sort_by(|left, right| {
        (&left.kind, &left.name, &left.reason).cmp(&(&right.kind, &right.name, &right.reason))
    });
    refusals.dedup();
    refusals
}

fn host_endpoint(resource: &AnyResource) -> Option<&HostEndpoint> {
    match resource {
        AnyResource::HostEndpoint(endpoint) => Some(endpoint),
        _ => None,
    }
}

/// Workload endpoints are listed so that nobody takes them for policed.
fn workload_report(key: &ResourceKey, resource: &AnyResource) -> Option<EndpointReport> {
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
