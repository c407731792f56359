//! Metadata: the name, by the rule of the kind; the namespace; labels and annotations.

use super::{Checker, name};
use crate::{
    field_error::Cause,
    kind::Kind,
    labels::{self, Labels},
    resource::AnyResource,
};

/// All keys and values of an object's annotations together have no more bytes.
const ANNOTATIONS_BYTES_MAX: usize = 262_144;

pub(super) fn check(checker: &mut Checker, resource: &AnyResource) {
    let (kind, meta) = (resource.kind(), resource.meta());
    if meta.name.is_empty() {
        checker.required("metadata.name", "name must be specified");
    } else {
        checker.text("metadata.name", &meta.name, name_rule(kind));
    }
    check_namespace(checker, kind, meta.namespace.as_deref().unwrap_or_default());
    check_labels(checker, "metadata.labels", &meta.labels);
    if matches!(kind, Kind::HostEndpoint | Kind::GlobalNetworkSet)
        && meta.labels.contains_key(labels::NAMESPACE)
    {
        let reason = format!("a {kind} is in no namespace, so this label would only mislead selectors");
        checker.forbidden(&format!("metadata.labels[{}]", labels::NAMESPACE), reason);
    }
    check_annotations(checker, "metadata.annotations", &meta.annotations);
}

fn name_rule(kind: Kind) -> fn(&str) -> Result<(), String> {
    match kind {
        Kind::HostEndpoint | Kind::Profile | Kind::WorkloadEndpoint => name::endpoint,
        Kind::GlobalNetworkPolicy => name::policy,
        Kind::Tier => name::dns_label,
        Kind::GlobalNetworkSet
        | Kind::Node
        | Kind::FelixConfiguration
        | Kind::ClusterInformation
        | Kind::NodeReport => name::subdomain,
    }
}

fn check_namespace(checker: &mut Checker, kind: Kind, namespace: &str) {
    const PATH: &str = "metadata.namespace";
    match (kind.namespaced(), namespace.is_empty()) {
        (true, true) => checker.required(PATH, "namespace is not specified on namespaced resource"),
        (true, false) => checker.text(PATH, namespace, name::dns_label),
        (false, true) => {}
        (false, false) => checker.forbidden(
            PATH,
            format!("namespace should not be specified for a non-namespaced resource. {kind} is not a namespaced resource"),
        ),
    }
}

/// Labels of an object, or labels that a profile hands on.
pub(super) fn check_labels(checker: &mut Checker, path: &str, labels: &Labels) {
    for (key, value) in labels {
        let at = format!("{path}[{key}]");
        checker.text(&at, key, name::label_key);
        checker.text(&at, value, name::label_value);
    }
}

/// Annotations of an object or of a rule. Their keys may have any case; their values are anyone's business.
pub(super) fn check_annotations(checker: &mut Checker, path: &str, annotations: &Labels) {
    for key in annotations.keys() {
        let at = format!("{path}[{key}]");
        checker.text(&at, key, |key| name::label_key(&key.to_lowercase()));
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        let reason = format!("must have at most {ANNOTATIONS_BYTES_MAX} bytes, has {bytes}");
        checker.complain(path, None, Cause::TooLong, reason);
    }
}
