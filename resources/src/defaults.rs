//! Defaults: what an omitted field means, written into the object before it is stored.
//!
//! Called on every write, before validation, by whoever proposes. Idempotent: defaults of defaulted objects change
//! nothing, so a write that changes nothing can be seen as such. Nothing is tidied that the operator wrote: addresses
//! keep their host bits and lists their order. Values that only the proposer can choose (uid, time) are not here.

use crate::{
    builtin,
    kinds::{
        global_network_policy::{DEFAULT_TIER, GlobalNetworkPolicy, GlobalNetworkPolicySpec, PolicyType},
        tier::{DEFAULT_TIER_ORDER, Tier, TierAction},
        workload_endpoint::WorkloadEndpoint,
    },
    labels,
    resource::AnyResource,
};

/// Fills in what was left out.
pub fn set_defaults(resource: &mut AnyResource) {
    match resource {
        AnyResource::GlobalNetworkPolicy(policy) => set_policy_defaults(policy),
        AnyResource::Tier(tier) => set_tier_defaults(tier),
        AnyResource::WorkloadEndpoint(endpoint) => set_workload_endpoint_defaults(endpoint),
        AnyResource::HostEndpoint(_)
        | AnyResource::Profile(_)
        | AnyResource::GlobalNetworkSet(_)
        | AnyResource::Node(_)
        | AnyResource::FelixConfiguration(_)
        | AnyResource::ClusterInformation(_)
        | AnyResource::NodeReport(_) => {}
    }
}

fn set_policy_defaults(policy: &mut GlobalNetworkPolicy) {
    let spec = &mut policy.spec;
    if spec.tier.is_empty() {
        spec.tier = DEFAULT_TIER.to_owned();
    }
    if spec.types.is_empty() {
        spec.types = default_types(spec);
    }
    policy.metadata.labels.insert(labels::TIER.to_owned(), spec.tier.clone());
}

/// The directions a policy governs when it does not say: those it has rules for, and ingress when it has none. Decided
/// once and stored, so rules added later do not widen it.
fn default_types(spec: &GlobalNetworkPolicySpec) -> Vec<PolicyType> {
    if spec.pre_dnat {
        return vec![PolicyType::Ingress];
    }
    match (spec.ingress.is_empty(), spec.egress.is_empty()) {
        (false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
        (true, false) => vec![PolicyType::Egress],
        (_, true) => vec![PolicyType::Ingress],
    }
}

fn set_tier_defaults(tier: &mut Tier) {
    let (order, action) =
        builtin::tier_values(&tier.metadata.name).unwrap_or((DEFAULT_TIER_ORDER, TierAction::Deny));
    tier.spec.order.get_or_insert(order);
    tier.spec.default_action.get_or_insert(action);
}

fn set_workload_endpoint_defaults(endpoint: &mut WorkloadEndpoint) {
    let spec = &endpoint.spec;
    let meta = &mut endpoint.metadata;
    if let (true, Some(name)) = (meta.name.is_empty(), spec.derived_name()) {
        meta.name = name;
    }
    if let Some(namespace) = &meta.namespace {
        meta.labels.insert(labels::NAMESPACE.to_owned(), namespace.clone());
    }
    if !spec.orchestrator.is_empty() {
        meta.labels.insert(labels::ORCHESTRATOR.to_owned(), spec.orchestrator.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{decode::Unknown, kind::Kind};

    fn defaulted(kind: Kind, metadata: Value, spec: Value) -> AnyResource {
        let value = json!({"apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata, "spec": spec});
        let mut resource = AnyResource::from_value(value, Unknown::Refuse).unwrap().resource;
        set_defaults(&mut resource);
        let once = resource.clone();
        set_defaults(&mut resource);
        assert_eq!(resource, once, "defaults are idempotent");
        resource
    }

    #[test]
    fn a_policy_governs_the_directions_it_has_rules_for() {
        let allow = json!([{"action": "Allow"}]);
        for (spec, types) in [
            (json!({}), json!(["Ingress"])),
            (json!({"types": []}), json!(["Ingress"])),
            (json!({"ingress": allow}), json!(["Ingress"])),
            (json!({"egress": allow}), json!(["Egress"])),
            (json!({"ingress": allow, "egress": allow}), json!(["Ingress", "Egress"])),
            (json!({"ingress": allow, "types": ["Egress"]}), json!(["Egress"])),
            (json!({"egress": allow, "preDNAT": true}), json!(["Ingress"])),
        ] {
            let policy = defaulted(Kind::GlobalNetworkPolicy, json!({"name": "p"}), spec.clone()).to_value();
            assert_eq!(policy["spec"]["types"], types, "{spec}");
            assert_eq!(policy["spec"]["tier"], "default");
            assert_eq!(policy["metadata"]["labels"], json!({"projectcalico.org/tier": "default"}));
        }
    }

    #[test]
    fn the_tier_label_follows_the_tier() {
        let metadata = json!({"name": "p", "labels": {"projectcalico.org/tier": "old", "a": "b"}});
        let policy = defaulted(Kind::GlobalNetworkPolicy, metadata, json!({"tier": "new"})).to_value();
        assert_eq!(policy["metadata"]["labels"], json!({"a": "b", "projectcalico.org/tier": "new"}));
    }

    #[test]
    fn a_tier_has_an_order_and_an_end() {
        let tier = |name: &str, spec| {
            defaulted(Kind::Tier, json!({ "name": name }), spec).to_value()["spec"].clone()
        };
        assert_eq!(tier("app", json!({})), json!({"order": 1_000_000, "defaultAction": "Deny"}));
        assert_eq!(
            tier("app", json!({"order": 10.5, "defaultAction": "Pass"})),
            json!({"order": 10.5, "defaultAction": "Pass"})
        );
        assert_eq!(tier("kube-admin", json!({})), json!({"order": 1_000, "defaultAction": "Pass"}));
    }

    #[test]
    fn a_workload_endpoint_gets_its_name_and_labels() {
        let spec = json!({"node": "node-1", "orchestrator": "k8s", "pod": "web-0", "endpoint": "eth0"});
        let endpoint = defaulted(Kind::WorkloadEndpoint, json!({"namespace": "prod"}), spec).to_value();
        assert_eq!(endpoint["metadata"]["name"], "node--1-k8s-web--0-eth0");
        assert_eq!(
            endpoint["metadata"]["labels"],
            json!({"projectcalico.org/namespace": "prod", "projectcalico.org/orchestrator": "k8s"})
        );
    }
}
