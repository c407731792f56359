//! GlobalNetworkSet: addresses that selectors find by the set's labels.

use serde::{Deserialize, Serialize};

use super::kind;

kind! {
    /// Addresses with labels.
    GlobalNetworkSet {
        /// The addresses.
        spec: GlobalNetworkSetSpec,
    }
}

/// Ranges and bare addresses of either family, as written; `Cidr::parse_lenient` reads them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GlobalNetworkSetSpec {
    /// The ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
}
