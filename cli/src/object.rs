//! Objects as JSON: which namespace they are in, what of their metadata is the writer's, how a stored one is updated,
//! what is left out of an export. Pure.
//!
//! Commands use these so that `apply`, `replace`, `label`, `patch` and `diff` agree on every field.

use appliance_resources::Kind;
use serde_json::{Map, Value, json};

use crate::target::Target;

/// The namespace of namespaced kinds when nobody names one.
const DEFAULT_NAMESPACE: &str = "default";
/// Metadata a manifest may set; the rest is accepted and ignored, as calicoctl does.
const WRITABLE: [&str; 5] = ["name", "namespace", "labels", "annotations", "resourceVersion"];
/// Metadata that an update takes from the manifest, absent meaning none.
const REPLACED: [&str; 2] = ["labels", "annotations"];
/// Metadata that belongs to one cluster's copy of an object.
const NOT_EXPORTED: [&str; 9] = [
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// `-n` and `-A`, as given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope<'a> {
    pub(crate) namespace: Option<&'a str>,
    pub(crate) all_namespaces: bool,
}

impl Scope<'_> {
    /// The namespace of an object in a manifest.
    pub(crate) fn of_document(self, kind: Kind, namespace: Option<&str>) -> Result<Option<String>, String> {
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        match (kind.namespaced(), namespace, self.namespace) {
            (false, Some(_), _) => Err(format!(
                "namespace should not be specified for a non-namespaced resource. {} is not a namespaced resource",
                kind.name()
            )),
            (false, None, Some(_)) => Err(format!("{} is not namespaced", kind.name())),
            (false, None, None) => Ok(None),
            (true, Some(document), Some(flag)) if document != flag => {
                Err(format!("resource namespace does not match client namespace. {document} != {flag}"))
            }
            (true, document, flag) => Ok(Some(document.or(flag).unwrap_or(DEFAULT_NAMESPACE).to_string())),
        }
    }

    /// An object named on the command line.
    pub(crate) fn of_name(self, kind: Kind, name: &str) -> Result<Target, String> {
        self.check(kind)?;
        if self.all_namespaces {
            return Err("cannot use --all-namespace flag for getting a single resource".to_string());
        }
        if name.is_empty() {
            return Err("resource name may not be empty".to_string());
        }
        Ok(Target { kind, namespace: self.of_document(kind, None)?, name: name.to_string() })
    }

    /// The namespace of a list: `None` for all of them, and for kinds that have none.
    pub(crate) fn of_list(self, kind: Kind) -> Result<Option<String>, String> {
        self.check(kind)?;
        if self.all_namespaces { Ok(None) } else { self.of_document(kind, None) }
    }

    fn check(self, kind: Kind) -> Result<(), String> {
        if !kind.namespaced() && (self.all_namespaces || self.namespace.is_some()) {
            return Err(format!("{} is not namespaced", kind.name()));
        }
        if self.all_namespaces && self.namespace.is_some() {
            return Err("cannot use both --namespace and --all-namespaces flags at the same time".to_string());
        }
        Ok(())
    }
}

/// A manifest as it is sent: metadata that is not the writer's is left out.
pub(crate) fn written(mut object: Value) -> Value {
    if let Some(metadata) = metadata_mut(&mut object) {
        metadata.retain(|name, value| WRITABLE.contains(&name.as_str()) && !value.is_null());
    }
    object
}

/// The stored object as the manifest wants it: spec, labels and annotations from the manifest, all else as stored.
pub(crate) fn updated(stored: &Value, wanted: &Value) -> Value {
    let mut object = wanted.clone();
    let stored_metadata = stored.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let wanted_metadata = wanted.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let kept = stored_metadata.into_iter().filter(|(name, _)| !REPLACED.contains(&name.as_str()));
    let taken = wanted_metadata.into_iter().filter(|(name, _)| REPLACED.contains(&name.as_str()));
    object["metadata"] = Value::Object(kept.chain(taken).collect());
    // Status has its own writer; a manifest neither sets nor clears it.
    match stored.get("status") {
        Some(status) => object["status"] = status.clone(),
        None => {
            object.as_object_mut().and_then(|fields| fields.shift_remove("status"));
        }
    }
    object
}

/// Leaves out what belongs to this cluster's copy.
pub(crate) fn exported(mut object: Value) -> Value {
    if let Some(metadata) = metadata_mut(&mut object) {
        metadata.retain(|name, _| !NOT_EXPORTED.contains(&name.as_str()));
    }
    object
}

/// Leaves out what a write always changes, so that two versions can be compared.
pub(crate) fn comparable(mut object: Value) -> Value {
    if let Some(metadata) = metadata_mut(&mut object) {
        let volatile = ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"];
        metadata.retain(|name, _| !volatile.contains(&name.as_str()));
    }
    object
}

/// The object's resourceVersion, or the empty string.
pub(crate) fn version(object: &Value) -> &str {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default()
}

/// Sets the precondition of an update.
pub(crate) fn set_version(object: &mut Value, version: &str) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert("resourceVersion".to_string(), json!(version));
    }
}

/// Takes the precondition out of an object.
pub(crate) fn take_version(object: &mut Value) -> Option<String> {
    let version = metadata_mut(object)?.shift_remove("resourceVersion")?;
    version.as_str().filter(|version| !version.is_empty()).map(str::to_string)
}

/// The object's name, or the empty string.
pub(crate) fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list object.
pub(crate) fn items(list: &Value) -> &[Value] {
    list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata").and_then(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Document's namespace, `-n`, `-A` for lists; the rows of ctl.md 1.5.
    #[test]
    fn namespaces_follow_calicoctl() {
        let of = |document, namespace| {
            let scope = Scope { namespace, all_namespaces: false };
            scope.of_document(Kind::WorkloadEndpoint, document).map(Option::unwrap)
        };
        assert_eq!(of(None, None).unwrap(), "default");
        assert_eq!(of(None, Some("ns")).unwrap(), "ns");
        assert_eq!(of(Some("ns1"), None).unwrap(), "ns1");
        assert_eq!(of(Some("ns1"), Some("ns1")).unwrap(), "ns1");
        let mismatch = "resource namespace does not match client namespace. test != prod";
        assert_eq!(of(Some("test"), Some("prod")).unwrap_err(), mismatch);

        let all = Scope { namespace: None, all_namespaces: true };
        assert_eq!(all.of_list(Kind::WorkloadEndpoint), Ok(None));
        let single = "cannot use --all-namespace flag for getting a single resource";
        assert_eq!(all.of_name(Kind::WorkloadEndpoint, "x").unwrap_err(), single);
        let both = Scope { namespace: Some("x"), all_namespaces: true };
        let message = "cannot use both --namespace and --all-namespaces flags at the same time";
        assert_eq!(both.of_list(Kind::WorkloadEndpoint).unwrap_err(), message);
        assert_eq!(all.of_list(Kind::HostEndpoint).unwrap_err(), "HostEndpoint is not namespaced");
        let document = "namespace should not be specified for a non-namespaced resource. HostEndpoint is not a \
                        namespaced resource";
        assert_eq!(Scope::default().of_document(Kind::HostEndpoint, Some("x")).unwrap_err(), document);
        assert_eq!(Scope::default().of_name(Kind::Tier, "").unwrap_err(), "resource name may not be empty");
    }

    #[test]
    fn an_update_keeps_what_the_store_made_and_replaces_labels() {
        let stored = json!({"kind": "K", "metadata": {"name": "a", "uid": "u", "creationTimestamp": "t",
            "resourceVersion": "5", "labels": {"type": "database"}, "annotations": {"a": "b"}, "finalizers": ["f"]},
            "spec": {"node": "host1", "profiles": ["p"]}});
        let forged = json!({"kind": "K", "metadata": {"name": "a", "uid": "forged", "generation": 3, "finalizers": [],
            "labels": {"type": "frontend"}}, "spec": {"node": "host2"}});
        let expected = json!({"kind": "K", "metadata": {"name": "a", "uid": "u", "creationTimestamp": "t",
            "resourceVersion": "5", "finalizers": ["f"], "labels": {"type": "frontend"}}, "spec": {"node": "host2"}});
        assert_eq!(updated(&stored, &written(forged)), expected);
    }

    #[test]
    fn an_export_can_be_applied_elsewhere() {
        let object = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
            "creationTimestamp": "t", "generation": 2, "labels": {"k": "v"}}, "spec": {}});
        assert_eq!(exported(object), json!({"metadata": {"name": "a", "labels": {"k": "v"}}, "spec": {}}));
    }
}
