//! Inputs: the last known state of every resource, and which of them are not fit to be used.
//!
//! Validation is repeated here although the API has done it: a store may hold what an older version accepted. What
//! fails is treated as missing, as Calico does (policies apart), and the operator is told once, in Calico's words. Parts of an
//! object that do not concern enforcement (status, revision counters) are stripped first, so that writing a status is
//! no change and can not cause another.

use std::collections::BTreeMap;
use std::sync::Arc;

use appliance_resources::{AnyResource, Kind, NodeStatus, Refusal, ResourceKey, validate};

use crate::calc::update::Update;

/// Everything known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    resources: BTreeMap<Kind, BTreeMap<ResourceKey, Known>>,
}

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    /// Fit to be used.
    Valid(Arc<AnyResource>),
    /// It failed validation and counts as missing.
    Refused {
        /// The resource as it stands in the store.
        resource: Arc<AnyResource>,
        /// Everything that is wrong with it.
        reason: String,
    },
}

impl Known {
    /// The resource, if it may be used.
    pub(crate) fn valid(&self) -> Option<&Arc<AnyResource>> {
        match self {
            Known::Valid(resource) => Some(resource),
            Known::Refused { .. } => None,
        }
    }
}

/// What an update came to.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) key: ResourceKey,
    /// The state before; `None` when there was nothing.
    pub(crate) before: Option<Known>,
    /// The state now; `None` when it is gone.
    pub(crate) now: Option<Known>,
}

impl Taken {
    /// The line to log, if a resource has newly become unfit or unfit for another reason.
    pub(crate) fn notice(&self) -> Option<String> {
        let Some(Known::Refused { reason, .. }) = &self.now else { return None };
        if matches!(&self.before, Some(Known::Refused { reason: known, .. }) if known == reason) {
            return None;
        }
        let (kind, name) = (self.key.kind.name(), display(&self.key));
        Some(format!("Validation failed for {kind} {name}, {}: {reason}", consequence(self.key.kind)))
    }
}

impl Inputs {
    /// Takes an update in; `None` when it changes nothing that matters here.
    pub(crate) fn on_update(&mut self, update: Update) -> Option<Taken> {
        let (key, now) = match update {
            Update::Gone(key) => (key, None),
            Update::Set(resource) => (resource.key(), Some(judge(stripped(*resource)))),
        };
        if matches!(key.kind, Kind::NodeReport | Kind::ClusterInformation) {
            return None;
        }
        let known = self.resources.entry(key.kind).or_default();
        let before = match &now {
            Some(now) => known.insert(key.clone(), now.clone()),
            None => known.remove(&key),
        };
        (before != now).then_some(Taken { key, before, now })
    }

    /// The usable resources of one kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&ResourceKey, &AnyResource)> {
        let known = self.resources.get(&kind).into_iter().flatten();
        known.filter_map(|(key, known)| Some((key, known.valid()?.as_ref())))
    }

    /// What failed validation, by kind and name.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = Refusal> {
        self.resources.values().flatten().filter_map(|(key, known)| match known {
            Known::Valid(_) => None,
            Known::Refused { reason, .. } => Some(Refusal {
                kind: key.kind.name().to_owned(),
                name: display(key),
                reason: format!("Validation failed, {}: {reason}", consequence(key.kind)),
            }),
        })
    }
}

/// What becomes of a resource that failed. A policy is the exception: without it more would be open than anyone wrote.
fn consequence(kind: Kind) -> &'static str {
    match kind {
        Kind::GlobalNetworkPolicy => "denying the endpoints its selector picks",
        _ => "treating as missing",
    }
}

/// `namespace/name`, or the name where there are no namespaces.
pub(crate) fn display(key: &ResourceKey) -> String {
    match &key.namespace {
        Some(namespace) => format!("{namespace}/{}", key.name),
        None => key.name.clone(),
    }
}

fn judge(resource: AnyResource) -> Known {
    match validate(&resource) {
        Ok(()) => Known::Valid(Arc::new(resource)),
        Err(errors) => {
            let reasons: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
            Known::Refused { resource: Arc::new(resource), reason: reasons.join("; ") }
        }
    }
}

fn stripped(mut resource: AnyResource) -> AnyResource {
    let meta = resource.meta_mut();
    meta.resource_version = None;
    meta.generation = None;
    match &mut resource {
        AnyResource::Tier(tier) => tier.status = Default::default(),
        AnyResource::Node(node) => node.status = NodeStatus::default(),
        _ => {}
    }
    resource
}
