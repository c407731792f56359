//! Builtin: the objects every cluster has from its first moment, and their fixed values.
//!
//! Called by the node that forms a cluster, which stamps uid and time, and by defaults and validation, which hold the
//! built-in tiers to their values. Nothing here is random: the cluster's id is given.

use crate::{
    kinds::{
        cluster_information::{ClusterInformation, ClusterInformationSpec},
        felix_configuration::{self, FelixConfiguration},
        profile::{Profile, ProfileSpec},
        tier::{DEFAULT_TIER_ORDER, Tier, TierAction, TierSpec},
    },
    meta::ObjectMeta,
    resource::AnyResource,
    rule::{Action, Rule},
};

/// The profile that allows everything. It exists always and is nobody's to change.
pub const DEFAULT_ALLOW_PROFILE: &str = "projectcalico-default-allow";
/// The only ClusterInformation.
pub const CLUSTER_INFORMATION_NAME: &str = "default";

/// The built-in tiers: name, order, what happens at the end.
const TIERS: &[(&str, f64, TierAction)] = &[
    ("kube-admin", 1_000.0, TierAction::Pass),
    ("default", DEFAULT_TIER_ORDER, TierAction::Deny),
    ("kube-baseline", 10_000_000.0, TierAction::Pass),
];

/// The fixed order and action of a built-in tier; `None` for all others.
pub fn tier_values(name: &str) -> Option<(f64, TierAction)> {
    TIERS.iter().find(|(builtin, ..)| *builtin == name).map(|(_, order, action)| (*order, *action))
}

/// The built-in tiers, in the order they are asked.
pub fn tiers() -> Vec<Tier> {
    let tier = |&(name, order, action): &(&str, f64, TierAction)| Tier {
        metadata: ObjectMeta::named(name),
        spec: TierSpec { order: Some(order), default_action: Some(action) },
        ..Tier::default()
    };
    TIERS.iter().map(tier).collect()
}

/// The profile that allows everything, both ways.
pub fn default_allow_profile() -> Profile {
    let allow = || vec![Rule::new(Action::Allow)];
    Profile {
        metadata: ObjectMeta::named(DEFAULT_ALLOW_PROFILE),
        spec: ProfileSpec { ingress: allow(), egress: allow(), ..ProfileSpec::default() },
    }
}

/// The settings of a new cluster: none, so that every default holds, and an object for the operator to write into.
pub fn felix_configuration() -> FelixConfiguration {
    FelixConfiguration {
        metadata: ObjectMeta::named(felix_configuration::DEFAULT_NAME),
        ..FelixConfiguration::default()
    }
}

/// The identity of a new cluster. `guid` is 32 hexadecimal digits, chosen by the caller.
pub fn cluster_information(guid: &str) -> ClusterInformation {
    ClusterInformation {
        metadata: ObjectMeta::named(CLUSTER_INFORMATION_NAME),
        spec: ClusterInformationSpec {
            cluster_guid: guid.to_owned(),
            cluster_type: "appliance".to_owned(),
            datastore_ready: Some(true),
            ..ClusterInformationSpec::default()
        },
    }
}

/// Everything a new cluster contains, with neither uid nor time: whoever proposes them stamps them.
pub fn new_cluster(guid: &str) -> Vec<AnyResource> {
    let mut objects: Vec<AnyResource> = tiers().into_iter().map(AnyResource::from).collect();
    objects.push(default_allow_profile().into());
    objects.push(felix_configuration().into());
    objects.push(cluster_information(guid).into());
    objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{defaults::set_defaults, validate::validate};

    #[test]
    fn what_every_cluster_has_is_valid_and_complete() {
        let objects = new_cluster("0123456789abcdef0123456789abcdef");
        let keys: Vec<String> = objects.iter().map(|object| object.key().to_string()).collect();
        assert_eq!(
            keys,
            [
                "Tier(kube-admin)",
                "Tier(default)",
                "Tier(kube-baseline)",
                "Profile(projectcalico-default-allow)",
                "FelixConfiguration(default)",
                "ClusterInformation(default)"
            ]
        );
        for object in objects {
            let mut defaulted = object.clone();
            set_defaults(&mut defaulted);
            assert_eq!(defaulted, object, "a built-in object needs no defaults");
            assert_eq!(validate(&object), Ok(()), "{}", object.key());
        }
    }
}
