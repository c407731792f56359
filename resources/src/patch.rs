//! Patches on JSON documents: RFC 7386 (merge) and RFC 6902 (operations).
//!
//! Both work on any JSON; whether the result is a resource, and an allowed one, is for decoding and validation to say.

use serde_json::{Map, Value};

/// A patch with more operations is refused: applying one costs time per operation, whoever sent it.
const OPERATIONS_MAX: usize = 10_000;

/// Why a list of operations was not applied. The document is left as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is not a list of operations at all.
    #[error("not a JSON patch: {0}")]
    Malformed(String),
    /// It is longer than we work through.
    #[error("the patch has {count} operations, the limit is {OPERATIONS_MAX}")]
    TooLong {
        /// How many it has.
        count: usize,
    },
    /// One operation does not fit the document: a path that is not there, a test that fails.
    #[error("{0}")]
    Failed(String),
}

/// Merges a patch into a document: objects member by member, `null` deletes, anything else replaces.
pub fn merge(document: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(members) = document else { return };
    for (name, change) in changes {
        if change.is_null() {
            // The order of the members that stay is the order they are printed in.
            members.shift_remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Applies a list of operations, all or none.
pub fn json(document: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if let Some(count) = patch.as_array().map(Vec::len).filter(|count| *count > OPERATIONS_MAX) {
        return Err(PatchError::TooLong { count });
    }
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|error| PatchError::Malformed(error.to_string()))?;
    json_patch::patch(document, &patch).map_err(|error| PatchError::Failed(error.to_string()))
}
