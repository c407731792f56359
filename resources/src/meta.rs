//! Metadata: what every object carries whatever its kind, and what a list carries.
//!
//! The fields that only the server may choose (`uid`, `resourceVersion`, `generation`, `creationTimestamp`) are here as
//! plain values; the API stamps them before it proposes a write. `selfLink` and `managedFields` are accepted in input
//! and forgotten.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::labels::Labels;

/// The metadata of one object. Absent fields are `None` or empty and are not printed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// The name, unique within kind and namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Asks the API to make a name that begins like this; the API clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    /// The namespace; present exactly when the kind is namespaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Names this object for ever, also against a later one of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The store's revision of the last write, in decimal. Never stored inside the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts the changes outside metadata and status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When the object was created: RFC 3339, UTC, whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// When deletion was asked for, while finalizers still hold the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// The grace asked for with the deletion; carried, not acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// What selectors read.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What tools note down; kept byte for byte.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
    /// Who must agree before the object goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Whose object this is; carried, nothing is collected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<Value>,
}

impl ObjectMeta {
    /// Metadata that has a name and nothing else.
    pub fn named(name: impl Into<String>) -> ObjectMeta {
        ObjectMeta { name: name.into(), ..ObjectMeta::default() }
    }
}

/// The metadata of a list: the revision it was read at, and where the next page starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// The revision the list is a picture of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Asks for the next page when handed back.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub continue_token: Option<String>,
    /// How many items the following pages hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<u64>,
}
