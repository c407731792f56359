//! What a node shows of the sets that clients write, as the checks want it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::history::operation::Version;
use crate::history::watches::{Change, Event, Told};
use crate::sets::{self, name, revision};

/// The set of a write.
pub(super) fn object(name: &str, at: Option<u64>, content: u64) -> Value {
    sets::object(name, at, content, &nets(content))
}

fn nets(content: u64) -> Vec<String> {
    vec![format!("10.{}.{}.{}/32", content >> 16 & 255, content >> 8 & 255, content & 255)]
}

/// One line of a watch; an error's code.
pub(super) fn told(line: &Value) -> Result<Option<Told>, u64> {
    let item = &line["object"];
    let change = match line["type"].as_str() {
        Some("BOOKMARK") => return Ok(Some(Told::Bookmark(revision(item)))),
        Some("ADDED") => Change::Added,
        Some("MODIFIED") => Change::Modified,
        Some("DELETED") => Change::Deleted,
        _ => return Err(item["code"].as_u64().unwrap_or(0)),
    };
    let version = version(item);
    let change = change(version.content);
    Ok(Some(Told::Event(Event { revision: version.revision, name: name(item), change })))
}

pub(super) fn objects(list: &Value) -> BTreeMap<String, Version> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| (name(item), version(item))).collect()
}

pub(super) fn version(item: &Value) -> Version {
    Version { revision: revision(item), content: sets::content(item, nets) }
}
