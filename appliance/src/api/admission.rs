//! What may become of a resource before it is proposed: defaults, validation, stamps, protection. Pure.
//!
//! Everything is decided from values that are handed in: the resource, the one it replaces, an id, a time. What can
//! only be known from other objects is returned as a requirement ([`requires`]), which the registry checks and, because
//! the answer may change meanwhile, also puts into the transaction.

use appliance_resources::builtin::{self, DEFAULT_ALLOW_PROFILE};
use appliance_resources::{
    AnyResource, Cause, FieldError, FieldErrors, Kind, ResourceKey, Status, set_defaults, validate,
};

use super::respond::Refusal;

/// What is about to be done to an object by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// What a new object is given that no client may choose.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    pub(crate) uid: String,
    /// RFC 3339, UTC, whole seconds.
    pub(crate) time: String,
}

/// Refuses what is done to objects that belong to the machine. The words after `is forbidden: ` are calicoctl's.
pub(crate) fn protect(kind: Kind, name: &str, operation: Operation) -> Result<(), Refusal> {
    let why = match (kind, operation) {
        (Kind::ClusterInformation, Operation::Create) => {
            "operation create or apply is not supported on ClusterInformation".to_owned()
        }
        (Kind::ClusterInformation, Operation::Update) => {
            "operation apply or replace is not supported on ClusterInformation".to_owned()
        }
        (Kind::ClusterInformation, Operation::Delete) => {
            "operation delete is not supported on ClusterInformation".to_owned()
        }
        (Kind::Tier, Operation::Delete) if builtin::tier_values(name).is_some() => {
            format!("operation Delete is not supported on {name}: Cannot delete {name} tier")
        }
        (Kind::Profile, Operation::Update) if name == DEFAULT_ALLOW_PROFILE => {
            format!(
                "operation Update is not supported on {name}: The profile \"{name}\" is a default provided by Calico and cannot be updated"
            )
        }
        (Kind::Profile, Operation::Delete) if name == DEFAULT_ALLOW_PROFILE => {
            format!(
                "operation Delete is not supported on {name}: The profile \"{name}\" is a default provided by Calico and cannot be deleted"
            )
        }
        _ => return Ok(()),
    };
    Err(Status::forbidden(kind, name, &why).into())
}

/// Why a tier that policies stand in is not deleted.
pub(crate) fn tier_in_use(name: &str) -> Refusal {
    let why = format!("operation delete is not supported on {name}: Cannot delete a non-empty tier");
    Status::forbidden(Kind::Tier, name, &why).into()
}

/// Makes a new object of what a client sent.
pub(crate) fn create(mut resource: AnyResource, birth: &Birth) -> Result<AnyResource, Refusal> {
    let meta = resource.meta_mut();
    if meta.resource_version.take().is_some_and(|version| !version.is_empty()) {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::bad_request(message).into());
    }
    meta.uid = Some(birth.uid.clone());
    meta.creation_timestamp = Some(birth.time.clone());
    meta.generation = Some(1);
    check(&mut resource)?;
    Ok(resource)
}

/// Makes the next state of an object of what a client sent. What it equals is for the caller to see.
pub(crate) fn update(mut resource: AnyResource, old: &AnyResource) -> Result<AnyResource, Refusal> {
    let (kind, name) = (old.kind(), old.meta().name.clone());
    let meta = resource.meta_mut();
    let uid = meta.uid.take().filter(|uid| !uid.is_empty());
    if let (Some(sent), Some(stored)) = (uid, &old.meta().uid)
        && sent != *stored
    {
        let why = format!("Precondition failed: UID in precondition: {sent}, UID in object meta: {stored}");
        return Err(Status::conflict_because(kind, &name, &why).into());
    }
    meta.resource_version = None;
    meta.uid = old.meta().uid.clone();
    meta.creation_timestamp = old.meta().creation_timestamp.clone();
    meta.generation = old.meta().generation;
    check(&mut resource)?;
    if differs_outside_metadata(&resource, old) {
        let generation = resource.meta().generation.unwrap_or(0).saturating_add(1);
        resource.meta_mut().generation = Some(generation);
    }
    Ok(resource)
}

/// Defaults, then every rule that the object alone can break.
fn check(resource: &mut AnyResource) -> Result<(), Refusal> {
    set_defaults(resource);
    let mut errors = validate(resource).err().unwrap_or_default();
    if !resource.meta().finalizers.is_empty() {
        errors.0.push(FieldError {
            path: "metadata.finalizers".to_owned(),
            value: None,
            reason: "finalizers are not supported: deleted objects go at once".to_owned(),
            cause: Cause::Forbidden,
        });
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(resource.kind(), &resource.meta().name, &errors).into())
}

/// Whether anything that counts as a generation changed: not metadata, and not status.
fn differs_outside_metadata(new: &AnyResource, old: &AnyResource) -> bool {
    match (new, old) {
        (AnyResource::NodeReport(_), AnyResource::NodeReport(_)) => false,
        (AnyResource::Tier(new), AnyResource::Tier(old)) => new.spec != old.spec,
        (AnyResource::Node(new), AnyResource::Node(old)) => new.spec != old.spec,
        (AnyResource::HostEndpoint(new), AnyResource::HostEndpoint(old)) => new.spec != old.spec,
        (AnyResource::GlobalNetworkPolicy(new), AnyResource::GlobalNetworkPolicy(old)) => {
            new.spec != old.spec
        }
        (AnyResource::Profile(new), AnyResource::Profile(old)) => new.spec != old.spec,
        (AnyResource::GlobalNetworkSet(new), AnyResource::GlobalNetworkSet(old)) => new.spec != old.spec,
        (AnyResource::FelixConfiguration(new), AnyResource::FelixConfiguration(old)) => new.spec != old.spec,
        (AnyResource::ClusterInformation(new), AnyResource::ClusterInformation(old)) => new.spec != old.spec,
        (AnyResource::WorkloadEndpoint(new), AnyResource::WorkloadEndpoint(old)) => new.spec != old.spec,
        _ => true,
    }
}

/// The objects that must exist for this one to be written.
pub(crate) fn requires(resource: &AnyResource) -> Vec<ResourceKey> {
    match resource {
        AnyResource::GlobalNetworkPolicy(policy) if !policy.spec.tier.is_empty() => {
            vec![ResourceKey::global(Kind::Tier, policy.spec.tier.clone())]
        }
        _ => Vec::new(),
    }
}

/// What a client is told when an object that its own needs does not exist.
pub(crate) fn missing(resource: &AnyResource, required: &ResourceKey) -> Refusal {
    let path = match required.kind {
        Kind::Tier => "spec.tier",
        _ => "spec",
    };
    let errors = FieldErrors(vec![FieldError {
        path: path.to_owned(),
        value: Some(required.name.clone().into()),
        reason: format!("resource does not exist: {required}"),
        cause: Cause::Invalid,
    }]);
    Status::invalid(resource.kind(), &resource.meta().name, &errors).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tier(value: serde_json::Value) -> AnyResource {
        let mut object =
            json!({"kind": "Tier", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "t"}});
        for (field, value) in value.as_object().unwrap() {
            match field.as_str() {
                "spec" => object["spec"] = value.clone(),
                field => object["metadata"][field] = value.clone(),
            }
        }
        AnyResource::from_value(object, appliance_resources::Unknown::Refuse).unwrap().resource
    }

    fn birth() -> Birth {
        Birth { uid: "u-1".to_owned(), time: "2026-01-01T00:00:00Z".to_owned() }
    }

    #[test]
    fn a_new_object_is_stamped_whatever_the_client_says() {
        let sent = tier(json!({"uid": "mine", "creationTimestamp": "1999-01-01T00:00:00Z", "generation": 9}));
        let made = create(sent, &birth()).unwrap();
        assert_eq!(made.meta().uid.as_deref(), Some("u-1"));
        assert_eq!(made.meta().creation_timestamp.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(made.meta().generation, Some(1));
    }

    #[test]
    fn a_new_object_has_no_version_and_no_finalizers() {
        let refused = create(tier(json!({"resourceVersion": "5"})), &birth()).unwrap_err();
        assert_eq!(refused.status().code, 400);
        assert_eq!(refused.status().message, "resourceVersion should not be set on objects to be created");
        let refused = create(tier(json!({"finalizers": ["x/y"]})), &birth()).unwrap_err();
        assert_eq!(refused.status().code, 422);
    }

    #[test]
    fn generation_counts_specs_and_not_labels() {
        let old = create(tier(json!({"spec": {"order": 1}})), &birth()).unwrap();
        let relabelled = update(tier(json!({"labels": {"a": "b"}, "spec": {"order": 1}})), &old).unwrap();
        assert_eq!(relabelled.meta().generation, Some(1));
        assert_ne!(relabelled, old);
        let reordered = update(tier(json!({"spec": {"order": 2}})), &old).unwrap();
        assert_eq!(reordered.meta().generation, Some(2));
        let same =
            update(tier(json!({"spec": {"order": 1}, "uid": "u-1", "resourceVersion": "7"})), &old).unwrap();
        assert_eq!(same, old);
    }

    #[test]
    fn an_object_of_another_life_is_not_updated() {
        let old = create(tier(json!({})), &birth()).unwrap();
        let refused = update(tier(json!({"uid": "u-2"})), &old).unwrap_err();
        assert_eq!(refused.status().code, 409);
    }

    #[test]
    fn what_belongs_to_the_machine_is_left_alone() {
        use Operation::{Create, Delete, Update};
        for (kind, name, operation, refused) in [
            (Kind::Tier, "default", Delete, true),
            (Kind::Tier, "kube-baseline", Delete, true),
            (Kind::Tier, "mine", Delete, false),
            (Kind::Tier, "default", Update, false),
            (Kind::Profile, DEFAULT_ALLOW_PROFILE, Update, true),
            (Kind::Profile, DEFAULT_ALLOW_PROFILE, Delete, true),
            (Kind::Profile, "web", Delete, false),
            (Kind::ClusterInformation, "default", Create, true),
            (Kind::ClusterInformation, "default", Update, true),
            (Kind::ClusterInformation, "default", Delete, true),
        ] {
            assert_eq!(protect(kind, name, operation).is_err(), refused, "{operation:?} {kind:?} {name}");
        }
    }

    #[test]
    fn a_policy_needs_its_tier() {
        let policy = json!({"kind": "GlobalNetworkPolicy", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "p"}, "spec": {"tier": "ops"}});
        let policy = AnyResource::from_value(policy, appliance_resources::Unknown::Refuse).unwrap().resource;
        let required = requires(&policy);
        assert_eq!(required, [ResourceKey::global(Kind::Tier, "ops")]);
        let refused = missing(&policy, &required[0]);
        assert_eq!(
            refused.status().message,
            "GlobalNetworkPolicy.projectcalico.org \"p\" is invalid: spec.tier: Invalid value: \"ops\": resource does not exist: Tier(ops)"
        );
    }
}
