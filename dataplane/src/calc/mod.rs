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
mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;

use appliance_resources::{AnyResource, HostEndpoint, Kind, Refusal, ResourceKey};

use crate::calc::active_policies::ActivePolicies;
use crate::calc::inputs::{Inputs, Known, Taken};
use crate::calc::ip_sets::IpSets;
use crate::calc::profiles::Profiles;
use crate::calc::whole::{View, Whole};
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
                let whole = self.whole(interfaces);
                self.ip_sets.set_active(&whole.sets);
                self.notices.extend(self.news(&whole.told));
                (Arc::new(whole.structure), Arc::new(whole.report))
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

    fn whole(&self, interfaces: &Interfaces) -> Whole {
        let endpoints = self.endpoints.iter();
        let view = View {
            node: &self.node,
            inputs: &self.inputs,
            endpoints: endpoints
                .filter_map(|(name, resource)| Some((name.as_str(), host_endpoint(resource)?)))
                .collect(),
            workloads: &self.workloads,
            policies: &self.policies,
            profiles: &self.profiles,
            interfaces,
        };
        view.whole()
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
}

fn host_endpoint(resource: &AnyResource) -> Option<&HostEndpoint> {
    match resource {
        AnyResource::HostEndpoint(endpoint) => Some(endpoint),
        _ => None,
    }
}
