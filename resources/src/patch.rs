//! Patches on JSON documents: RFC 7386 (merge) and RFC 6902 (operations).
//!
//! Both work on any JSON; whether the result is a resource, and an allowed one, is for decoding and validation to say.
//! Clients send these, so an operation list has bounds on its length, on what it may move about and on how deep it may
//! nest: without them, ten copies of a copy make a thousandfold document.

use json_patch::{Patch, PatchOperation};
use serde_json::{Map, Value};

/// A list with more operations is refused, as Kubernetes refuses it: each costs time, whoever sent it.
const OPERATIONS_MAX: usize = 10_000;
/// Copies and moves of one list together move no more bytes than the largest request holds.
const MOVED_BYTES_MAX: usize = 3 * 1024 * 1024;
/// No operation nests a document deeper than serde_json would read back.
const DEPTH_MAX: usize = 127;

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
    /// It blows the document up.
    #[error("operation {operation} would make the document too large or too deep")]
    TooLarge {
        /// Which operation, from 0.
        operation: usize,
    },
    /// One operation does not fit the document: a path that is not there, a test that fails.
    #[error("operation {operation} at {path:?}: {reason}")]
    Failed {
        /// Which operation, from 0.
        operation: usize,
        /// The path it is about.
        path: String,
        /// Why it does not fit.
        reason: String,
    },
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
    let patch: Patch =
        serde_json::from_value(patch.clone()).map_err(|error| PatchError::Malformed(error.to_string()))?;
    let mut changed = document.clone();
    let mut moved = 0;
    for (index, operation) in patch.0.iter().enumerate() {
        moved += moved_bytes(&changed, operation);
        if moved > MOVED_BYTES_MAX || depth_after(&changed, operation) > DEPTH_MAX {
            return Err(PatchError::TooLarge { operation: index });
        }
        json_patch::patch(&mut changed, std::slice::from_ref(operation)).map_err(|error| {
            PatchError::Failed {
                operation: index,
                path: operation.path().to_string(),
                reason: error.kind.to_string(),
            }
        })?;
    }
    *document = changed;
    Ok(())
}

/// What an operation takes from another place of the document.
fn source<'a>(document: &'a Value, operation: &PatchOperation) -> Option<&'a Value> {
    match operation {
        PatchOperation::Copy(copy) => document.pointer(copy.from.as_str()),
        PatchOperation::Move(shift) => document.pointer(shift.from.as_str()),
        _ => None,
    }
}

fn moved_bytes(document: &Value, operation: &PatchOperation) -> usize {
    source(document, operation).map_or(0, |value| value.to_string().len())
}

/// How deep the document is at the place an operation changes, once it has.
fn depth_after(document: &Value, operation: &PatchOperation) -> usize {
    let inside = match operation {
        PatchOperation::Add(add) => depth(&add.value),
        PatchOperation::Replace(replace) => depth(&replace.value),
        other => source(document, other).map_or(0, depth),
    };
    operation.path().as_str().matches('/').count() + inside
}

/// How many levels a value has. Values come from parsers or through `json`, which bound the recursion.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The rows of a table of JSON values, `;;` between the columns.
    fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
        let lines = table.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        lines.map(|line| line.split(";;").map(str::trim).collect())
    }

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn merging_does_what_the_standard_says() {
        for row in rows(include_str!("../testdata/patch/merge.txt")) {
            let mut document = parse(row[0]);
            merge(&mut document, &parse(row[1]));
            assert_eq!(document, parse(row[2]), "{row:?}");
        }
    }

    #[test]
    fn operations_do_what_the_standard_says() {
        for row in rows(include_str!("../testdata/patch/json.txt")) {
            let before = parse(row[0]);
            let mut document = before.clone();
            match json(&mut document, &parse(row[1])) {
                Ok(()) => assert_eq!(document, parse(row[2]), "{row:?}"),
                Err(error) => {
                    assert_eq!(error.to_string(), row[2], "{row:?}");
                    assert_eq!(document, before, "a patch that fails changes nothing");
                }
            }
        }
    }

    #[test]
    fn members_keep_their_order() {
        let mut document = json!({"c": 1, "b": 2, "a": 3});
        merge(&mut document, &json!({"b": null, "d": 4, "c": 5}));
        assert_eq!(document.to_string(), r#"{"c":5,"a":3,"d":4}"#);
    }

    #[test]
    fn a_list_has_a_length() {
        let patch = |count: usize| Value::Array(vec![json!({"op": "test", "path": "/a", "value": 1}); count]);
        assert_eq!(json(&mut json!({"a": 1}), &patch(OPERATIONS_MAX)), Ok(()));
        assert_eq!(
            json(&mut json!({"a": 1}), &patch(OPERATIONS_MAX + 1)),
            Err(PatchError::TooLong { count: 10_001 })
        );
    }

    #[test]
    fn a_document_can_not_be_blown_up() {
        // Each copy doubles the document.
        let copies: Vec<Value> =
            (0..100).map(|n| json!({"op": "copy", "from": "", "path": format!("/{n}")})).collect();
        let error = json(&mut json!({"a": "xxxxxxxx"}), &Value::Array(copies)).unwrap_err();
        assert!(matches!(error, PatchError::TooLarge { .. }), "{error}");
        // Each pair of operations nests it one level deeper, with paths that stay short.
        let nest = |n: usize| if n.is_multiple_of(2) { ("/a", "/b/a", "/a") } else { ("/b", "/a/b", "/b") };
        let moves: Vec<Value> = (0..5_000)
            .flat_map(|n| {
                let (from, path, fresh) = nest(n);
                [
                    json!({"op": "move", "from": from, "path": path}),
                    json!({"op": "add", "path": fresh, "value": {}}),
                ]
            })
            .collect();
        let error = json(&mut json!({"a": {}, "b": {}}), &Value::Array(moves)).unwrap_err();
        assert!(matches!(error, PatchError::TooLarge { .. }), "{error}");
    }
}
