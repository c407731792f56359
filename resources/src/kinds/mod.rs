//! The kinds, one file each. A kind is its metadata and a `spec` (or, for reports, a `status`); the macro here gives
//! each the envelope Calico writes: `kind`, `apiVersion`, `metadata`, then the rest.
//!
//! The files hold shapes and nothing else: what an omitted field means is in `defaults`, what is refused in
//! `validate`, how text becomes a value in `decode`.

pub mod cluster_information;
pub mod felix_configuration;
pub mod global_network_policy;
pub mod global_network_set;
pub mod host_endpoint;
pub mod node;
pub mod node_report;
pub mod profile;
pub mod tier;
pub mod workload_endpoint;

/// Declares a kind: its struct, its place in the closed list, and its envelope in JSON.
macro_rules! kind {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            /// Name, labels and what the server stamps.
            pub metadata: crate::meta::ObjectMeta,
            $($(#[$field_doc])* pub $field: $type,)+
        }

        impl crate::resource::Resource for $name {
            const KIND: crate::kind::Kind = crate::kind::Kind::$name;

            fn meta(&self) -> &crate::meta::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut crate::meta::ObjectMeta {
                &mut self.metadata
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let kind = <$name as crate::resource::Resource>::KIND;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("kind", kind.name())?;
                map.serialize_entry("apiVersion", kind.api_version())?;
                map.serialize_entry("metadata", &self.metadata)?;
                $(
                    // An empty status is no status; a spec always shows, as clients expect one.
                    if stringify!($field) == "spec" || self.$field != <$type>::default() {
                        map.serialize_entry(stringify!($field), &self.$field)?;
                    }
                )+
                map.end()
            }
        }
    };
}

pub(crate) use kind;

/// How an order prints: as an integer when it is one, as Kubernetes prints its floats.
pub(crate) mod order {
    use serde::{Serialize as _, Serializer};
    use serde_json::Value;

    /// Integers beyond this are not exact in a float, so they print as floats.
    const EXACT: f64 = 9_007_199_254_740_992.0;

    pub(crate) fn serialize<S: Serializer>(order: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match *order {
            None => serializer.serialize_none(),
            Some(order) => to_value(order).serialize(serializer),
        }
    }

    /// The order as JSON.
    pub(crate) fn to_value(order: f64) -> Value {
        // The cast is exact: the value is a whole number within the range of i64.
        if order.fract() == 0.0 && order.abs() < EXACT {
            Value::from(order as i64)
        } else {
            Value::from(order)
        }
    }
}
