//! Effective: the one answer that the FelixConfigurations applying to a node come to.
//!
//! Setting by setting, the most specific object that says anything wins: `node.NAME`, then the oldest object whose
//! `nodeSelector` picks the node, then `default`. What nobody says is left open; the enforcer knows its defaults. Pure,
//! so a node and a test get the same answer from the same objects.

use std::str::FromStr;

use crate::{
    kinds::felix_configuration::{DEFAULT_NAME, FelixConfiguration, FelixConfigurationSpec, NODE_PREFIX},
    labels::Labels,
    selector::Selector,
};

/// What a node is to do, and what the operator should hear about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    /// The settings; `None` where no object says anything.
    pub spec: FelixConfigurationSpec,
    /// Objects that pick the node too and were passed over.
    pub shadowed: Vec<String>,
}

/// Merges the objects that apply to a node with this name and these labels.
pub fn effective<'a>(
    node: &str,
    labels: &Labels,
    configurations: impl IntoIterator<Item = &'a FelixConfiguration>,
) -> Effective {
    let (mut own, mut selected, mut default) = (None, Vec::new(), None);
    for configuration in configurations {
        match scope(&configuration.metadata.name) {
            Scope::Everywhere => default = Some(configuration),
            Scope::Node(name) if name == node => own = Some(configuration),
            Scope::Node(_) => {}
            Scope::Selected if picks(configuration, labels) => selected.push(configuration),
            Scope::Selected => {}
        }
    }
    selected
        .sort_by_key(|found| (found.metadata.creation_timestamp.as_deref(), found.metadata.name.as_str()));
    let mut selected = selected.into_iter();
    let mut effective = Effective::default();
    for layer in own.into_iter().chain(selected.next()).chain(default) {
        effective.spec.fill_from(&layer.spec);
    }
    effective.shadowed = selected.map(|passed_over| passed_over.metadata.name.clone()).collect();
    effective
}

/// Where an object applies, by its name.
enum Scope<'a> {
    Everywhere,
    Node(&'a str),
    Selected,
}

fn scope(name: &str) -> Scope<'_> {
    match name.strip_prefix(NODE_PREFIX) {
        Some(node) => Scope::Node(node),
        None if name == DEFAULT_NAME => Scope::Everywhere,
        None => Scope::Selected,
    }
}

/// Whether an object's selector picks these labels; one without a selector picks nothing.
fn picks(configuration: &FelixConfiguration, labels: &Labels) -> bool {
    let selector = configuration.spec.node_selector.as_deref().unwrap_or_default();
    !selector.trim().is_empty() && Selector::from_str(selector).is_ok_and(|selector| selector.matches(labels))
}

impl FelixConfigurationSpec {
    /// Takes over what is not said here yet. An empty text says nothing, as in Calico.
    fn fill_from(&mut self, lower: &FelixConfigurationSpec) {
        fn text(mine: &mut Option<String>, lower: &Option<String>) {
            if mine.as_deref().unwrap_or_default().is_empty() {
                mine.clone_from(lower);
            }
        }
        fn any<T: Clone>(mine: &mut Option<T>, lower: &Option<T>) {
            if mine.is_none() {
                mine.clone_from(lower);
            }
        }
        any(&mut self.failsafe_inbound_host_ports, &lower.failsafe_inbound_host_ports);
        any(&mut self.failsafe_outbound_host_ports, &lower.failsafe_outbound_host_ports);
        text(&mut self.interface_prefix, &lower.interface_prefix);
        text(&mut self.interface_exclude, &lower.interface_exclude);
        text(&mut self.default_endpoint_to_host_action, &lower.default_endpoint_to_host_action);
        any(&mut self.disable_conntrack_invalid_check, &lower.disable_conntrack_invalid_check);
        any(&mut self.ipv6_support, &lower.ipv6_support);
        text(&mut self.log_prefix, &lower.log_prefix);
        text(&mut self.log_action_rate_limit, &lower.log_action_rate_limit);
        any(&mut self.log_action_rate_limit_burst, &lower.log_action_rate_limit_burst);
        text(&mut self.nftables_filter_deny_action, &lower.nftables_filter_deny_action);
        text(&mut self.nftables_filter_allow_action, &lower.nftables_filter_allow_action);
        text(&mut self.nftables_mangle_allow_action, &lower.nftables_mangle_allow_action);
        text(&mut self.nftables_refresh_interval, &lower.nftables_refresh_interval);
        for (name, value) in &lower.other {
            self.other.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{decode::Unknown, resource::AnyResource};

    fn configuration(name: &str, created: &str, spec: Value) -> FelixConfiguration {
        let value = json!({"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration",
            "metadata": {"name": name, "creationTimestamp": created}, "spec": spec});
        match AnyResource::from_value(value, Unknown::Refuse).unwrap().resource {
            AnyResource::FelixConfiguration(configuration) => configuration,
            other => panic!("{other:?}"),
        }
    }

    fn merge(configurations: &[FelixConfiguration]) -> (Value, Vec<String>) {
        let labels = Labels::from([("rack".to_owned(), "r1".to_owned())]);
        let merged = effective("n1", &labels, configurations);
        (serde_json::to_value(&merged.spec).unwrap(), merged.shadowed)
    }

    #[test]
    fn the_most_specific_object_wins_setting_by_setting() {
        let (spec, shadowed) = merge(&[
            configuration(
                "default",
                "",
                json!({"ipv6Support": true, "logPrefix": "d", "interfacePrefix": "d", "bpfEnabled": true}),
            ),
            configuration(
                "node.n1",
                "",
                json!({"ipv6Support": false, "failsafeInboundHostPorts": [], "interfacePrefix": ""}),
            ),
            configuration("node.n2", "", json!({"logPrefix": "other"})),
            configuration(
                "rack",
                "2026-01-01T00:00:00Z",
                json!({"nodeSelector": "rack == 'r1'", "logPrefix": "r", "ipv6Support": true}),
            ),
            configuration(
                "late",
                "2026-02-01T00:00:00Z",
                json!({"nodeSelector": "has(rack)", "logPrefix": "l"}),
            ),
            configuration(
                "elsewhere",
                "2025-01-01T00:00:00Z",
                json!({"nodeSelector": "rack == 'r2'", "logPrefix": "e"}),
            ),
            configuration("nowhere", "2025-01-01T00:00:00Z", json!({"logPrefix": "n"})),
        ]);
        assert_eq!(
            spec,
            json!({"failsafeInboundHostPorts": [], "interfacePrefix": "d", "ipv6Support": false, "logPrefix": "r", "bpfEnabled": true})
        );
        assert_eq!(shadowed, ["late"]);
    }

    #[test]
    fn nothing_said_is_nothing_decided() {
        assert_eq!(merge(&[]), (json!({}), Vec::new()));
    }
}
