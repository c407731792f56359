//! Kind: the closed list of what the appliance knows, with every name a kind goes by.
//!
//! One row per kind in one table; everything else looks it up. Three readers, three spellings: manifests use the exact
//! name, `kubectl` uses plural, singular and short names, `ctl` uses calicoctl's aliases in any case.

/// The API group of Calico's own kinds.
pub const CALICO_GROUP: &str = "projectcalico.org";
/// The API group of the kinds that are ours alone.
pub const APPLIANCE_GROUP: &str = "appliance";

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An interface, or all interfaces, of a host.
    HostEndpoint,
    /// Rules for every endpoint its selector picks.
    GlobalNetworkPolicy,
    /// Rules and labels that endpoints name.
    Profile,
    /// A group of policies that is evaluated as a whole.
    Tier,
    /// Addresses with labels.
    GlobalNetworkSet,
    /// A host that runs the appliance.
    Node,
    /// Settings of the enforcer.
    FelixConfiguration,
    /// The identity of the cluster.
    ClusterInformation,
    /// An interface of a workload.
    WorkloadEndpoint,
    /// What one node enforces.
    NodeReport,
}

/// Everything a kind is called.
struct Names {
    kind: Kind,
    name: &'static str,
    plural: &'static str,
    singular: &'static str,
    list: &'static str,
    namespaced: bool,
    /// What discovery tells kubectl.
    short: &'static [&'static str],
    /// What `ctl` accepts, lower case.
    aliases: &'static [&'static str],
}

const TABLE: &[Names] = &[
    Names {
        kind: Kind::HostEndpoint,
        name: "HostEndpoint",
        plural: "hostendpoints",
        singular: "hostendpoint",
        list: "HostEndpointList",
        namespaced: false,
        short: &["hep", "heps"],
        aliases: &["hostendpoint", "hostendpoints", "hep", "heps"],
    },
    Names {
        kind: Kind::GlobalNetworkPolicy,
        name: "GlobalNetworkPolicy",
        plural: "globalnetworkpolicies",
        singular: "globalnetworkpolicy",
        list: "GlobalNetworkPolicyList",
        namespaced: false,
        short: &["gnp", "cgnp", "calicoglobalnetworkpolicies"],
        aliases: &["globalnetworkpolicy", "globalnetworkpolicies", "gnp", "gnps"],
    },
    Names {
        kind: Kind::Profile,
        name: "Profile",
        plural: "profiles",
        singular: "profile",
        list: "ProfileList",
        namespaced: false,
        short: &[],
        aliases: &["profile", "profiles", "pro", "pros"],
    },
    Names {
        kind: Kind::Tier,
        name: "Tier",
        plural: "tiers",
        singular: "tier",
        list: "TierList",
        namespaced: false,
        short: &[],
        aliases: &["tier", "tiers"],
    },
    Names {
        kind: Kind::GlobalNetworkSet,
        name: "GlobalNetworkSet",
        plural: "globalnetworksets",
        singular: "globalnetworkset",
        list: "GlobalNetworkSetList",
        namespaced: false,
        short: &["gns"],
        aliases: &["globalnetworkset", "globalnetworksets", "gnetsets"],
    },
    Names {
        kind: Kind::Node,
        name: "Node",
        plural: "nodes",
        singular: "node",
        list: "NodeList",
        namespaced: false,
        short: &[],
        aliases: &["node", "nodes", "no", "nos"],
    },
    Names {
        kind: Kind::FelixConfiguration,
        name: "FelixConfiguration",
        plural: "felixconfigurations",
        singular: "felixconfiguration",
        list: "FelixConfigurationList",
        namespaced: false,
        short: &["felixconfig", "felixconfigs"],
        aliases: &["felixconfiguration", "felixconfigurations", "felixconfig", "felixconfigs"],
    },
    Names {
        kind: Kind::ClusterInformation,
        name: "ClusterInformation",
        plural: "clusterinformations",
        singular: "clusterinformation",
        list: "ClusterInformationList",
        namespaced: false,
        short: &["clusterinfo", "clusterinfos"],
        aliases: &["clusterinformation", "clusterinformations", "clusterinfo", "clusterinfos"],
    },
    Names {
        kind: Kind::WorkloadEndpoint,
        name: "WorkloadEndpoint",
        plural: "workloadendpoints",
        singular: "workloadendpoint",
        list: "WorkloadEndpointList",
        namespaced: true,
        short: &["wep", "weps"],
        aliases: &["workloadendpoint", "workloadendpoints", "wep", "weps"],
    },
    Names {
        kind: Kind::NodeReport,
        name: "NodeReport",
        plural: "nodereports",
        singular: "nodereport",
        list: "NodeReportList",
        namespaced: false,
        short: &[],
        aliases: &["nodereport", "nodereports"],
    },
];

impl Kind {
    /// Every kind, in the order they are declared.
    pub const ALL: &'static [Kind] = &[
        Kind::HostEndpoint,
        Kind::GlobalNetworkPolicy,
        Kind::Profile,
        Kind::Tier,
        Kind::GlobalNetworkSet,
        Kind::Node,
        Kind::FelixConfiguration,
        Kind::ClusterInformation,
        Kind::WorkloadEndpoint,
        Kind::NodeReport,
    ];

    fn names(self) -> &'static Names {
        // The table has one row per variant, in order; a test holds that.
        &TABLE[self as usize]
    }

    /// As manifests spell it: `HostEndpoint`.
    pub fn name(self) -> &'static str {
        self.names().name
    }

    /// As URLs and keys spell it: `hostendpoints`.
    pub fn plural(self) -> &'static str {
        self.names().plural
    }

    /// As kubectl prints one of them: `hostendpoint`.
    pub fn singular(self) -> &'static str {
        self.names().singular
    }

    /// The kind of a list of them: `HostEndpointList`.
    pub fn list_name(self) -> &'static str {
        self.names().list
    }

    /// The abbreviations discovery offers to kubectl.
    pub fn short_names(self) -> &'static [&'static str] {
        self.names().short
    }

    /// The names calicoctl's users type, lower case.
    pub fn aliases(self) -> &'static [&'static str] {
        self.names().aliases
    }

    /// Whether objects of this kind live in a namespace.
    pub fn namespaced(self) -> bool {
        self.names().namespaced
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        if self == Kind::NodeReport { APPLIANCE_GROUP } else { CALICO_GROUP }
    }

    /// The version within the group.
    pub fn version(self) -> &'static str {
        if self == Kind::NodeReport { "v1" } else { "v3" }
    }

    /// Group and version, as the `apiVersion` field has them.
    pub fn api_version(self) -> &'static str {
        if self == Kind::NodeReport { "appliance/v1" } else { "projectcalico.org/v3" }
    }

    /// Plural and group, as messages name a resource: `hostendpoints.projectcalico.org`.
    pub fn qualified_plural(self) -> String {
        format!("{}.{}", self.plural(), self.group())
    }

    /// The kind of this exact name.
    pub fn from_name(name: &str) -> Option<Kind> {
        find(|names| names.name == name)
    }

    /// The kind whose lists have this exact name.
    pub fn from_list_name(name: &str) -> Option<Kind> {
        find(|names| names.list == name)
    }

    /// The kind a URL means.
    pub fn from_plural(group: &str, plural: &str) -> Option<Kind> {
        find(|names| names.plural == plural).filter(|kind| kind.group() == group)
    }

    /// The kind an operator means on the command line, in any case.
    pub fn from_alias(alias: &str) -> Option<Kind> {
        let alias = alias.to_ascii_lowercase();
        find(|names| names.aliases.contains(&alias.as_str()))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

fn find(wanted: impl Fn(&Names) -> bool) -> Option<Kind> {
    TABLE.iter().find(|names| wanted(names)).map(|names| names.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_row_per_kind_in_order() {
        assert_eq!(TABLE.iter().map(|names| names.kind).collect::<Vec<_>>(), Kind::ALL);
        for (index, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
        }
    }

    #[test]
    fn every_name_leads_back_to_its_kind() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(*kind));
            assert_eq!(Kind::from_list_name(kind.list_name()), Some(*kind));
            assert_eq!(Kind::from_plural(kind.group(), kind.plural()), Some(*kind));
            for alias in kind.aliases() {
                assert_eq!(Kind::from_alias(&alias.to_uppercase()), Some(*kind), "{alias}");
            }
            assert_eq!(kind.singular(), kind.name().to_lowercase());
            assert_eq!(kind.list_name(), format!("{}List", kind.name()));
            assert_eq!(kind.api_version(), format!("{}/{}", kind.group(), kind.version()));
        }
    }

    #[test]
    fn names_in_manifests_are_exact() {
        assert_eq!(Kind::from_name("hostendpoint"), None);
        assert_eq!(Kind::from_plural("apps", "hostendpoints"), None);
        assert_eq!(Kind::from_alias("netset"), None);
    }
}
