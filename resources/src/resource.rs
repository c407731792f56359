//! AnyResource: an object of any kind, and the trait every kind keeps.
//!
//! This is the only place that lists one arm per kind; the rest of the code asks the enum. Decoding from JSON is in
//! `decode`.

use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    key::ResourceKey,
    kind::Kind,
    kinds::{
        cluster_information::ClusterInformation, felix_configuration::FelixConfiguration,
        global_network_policy::GlobalNetworkPolicy, global_network_set::GlobalNetworkSet,
        host_endpoint::HostEndpoint, node::Node, node_report::NodeReport, profile::Profile, tier::Tier,
        workload_endpoint::WorkloadEndpoint,
    },
    meta::ObjectMeta,
};

/// What every kind can do.
pub trait Resource: Serialize + DeserializeOwned + Default {
    /// Which kind it is.
    const KIND: Kind;
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Its metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

/// Writes the enum and everything that needs one arm per kind.
macro_rules! any_resource {
    ($($kind:ident),+ $(,)?) => {
        /// An object of any kind.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is named after the kind it holds, which is documented")]
        pub enum AnyResource {
            $($kind($kind)),+
        }

        impl AnyResource {
            /// Which kind it is.
            pub fn kind(&self) -> Kind {
                match self { $(AnyResource::$kind(_) => Kind::$kind),+ }
            }

            /// Its metadata.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(AnyResource::$kind(resource) => resource.meta()),+ }
            }

            /// Its metadata, to change.
            pub fn meta_mut(&mut self) -> &mut ObjectMeta {
                match self { $(AnyResource::$kind(resource) => resource.meta_mut()),+ }
            }

            /// Reads a value whose shape has been checked already.
            pub(crate) fn deserialize(
                kind: Kind,
                value: Value,
            ) -> Result<AnyResource, serde_path_to_error::Error<serde_json::Error>> {
                match kind {
                    $(Kind::$kind => serde_path_to_error::deserialize(value).map(AnyResource::$kind)),+
                }
            }
        }

        impl Serialize for AnyResource {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(AnyResource::$kind(resource) => resource.serialize(serializer)),+ }
            }
        }

        $(impl From<$kind> for AnyResource {
            fn from(resource: $kind) -> AnyResource {
                AnyResource::$kind(resource)
            }
        })+
    };
}

any_resource!(
    HostEndpoint,
    GlobalNetworkPolicy,
    Profile,
    Tier,
    GlobalNetworkSet,
    Node,
    FelixConfiguration,
    ClusterInformation,
    WorkloadEndpoint,
    NodeReport,
);

impl AnyResource {
    /// What identifies it.
    pub fn key(&self) -> ResourceKey {
        let meta = self.meta();
        ResourceKey { kind: self.kind(), namespace: meta.namespace.clone(), name: meta.name.clone() }
    }

    /// The object as JSON: `kind`, `apiVersion`, `metadata`, then the rest; absent fields are left out.
    pub fn to_value(&self) -> Value {
        // Keys are strings and every value is ours, so there is nothing JSON could refuse.
        serde_json::to_value(self).expect("resources are plain JSON")
    }
}
