//! Watch: Empty → Listed → Watching; an expired history starts over, a closed stream resumes. Pure transitions.
//!
//! It remembers the version of every object it has told about, so that starting over tells only what really changed,
//! and nothing twice. Whoever drives it (`commands::get`, `wait`) does the listing, the watching and the printing.

use std::collections::BTreeMap;

use serde_json::Value;

/// Namespace and name: what an object is known by within its collection.
type Key = (String, String);

/// Where the watch stands. The driver does what the state says and reports back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing known, or known too long ago: list everything.
    Empty,
    /// Known as of this version: open the stream after it.
    Listed { resource_version: String },
    /// The stream is open, and everything up to this version has been told.
    Watching { resource_version: String },
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    /// The word of the wire, which is also the word shown.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        }
    }
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Closed or broken; it can be resumed.
    Closed,
    /// The version is older than the node's history.
    Expired,
}

/// What one event asks of the driver.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Tell this.
    Tell(Change, Value),
    /// Nothing to tell: a bookmark, or something told already.
    Quiet,
    /// The node ended the stream with a refusal.
    Ended(End, String),
}

/// The state, and the objects told so far.
#[derive(Debug)]
pub(crate) struct Watch {
    state: State,
    told: BTreeMap<Key, Value>,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        Watch { state: State::Empty, told: BTreeMap::new() }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Takes a complete list; answers what is new since what was told before.
    pub(crate) fn on_list(&mut self, list: &Value) -> Vec<(Change, Value)> {
        let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut gone = std::mem::take(&mut self.told);
        let mut changes = Vec::new();
        for item in items {
            match gone.remove(&key(item)) {
                None => changes.push((Change::Added, item.clone())),
                Some(before) if version(&before) != version(item) => {
                    changes.push((Change::Modified, item.clone()))
                }
                Some(_) => {}
            }
            self.told.insert(key(item), item.clone());
        }
        changes.extend(gone.into_values().map(|object| (Change::Deleted, object)));
        self.state = State::Listed { resource_version: version(list).to_string() };
        changes
    }

    /// The stream after the listed version is open.
    pub(crate) fn on_open(&mut self) {
        if let State::Listed { resource_version } = &self.state {
            self.state = State::Watching { resource_version: resource_version.clone() };
        }
    }

    /// Takes one event of the stream.
    pub(crate) fn on_event(&mut self, event: &Value) -> Step {
        let object = event.get("object").cloned().unwrap_or_default();
        let change = match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "ADDED" => Change::Added,
            "MODIFIED" => Change::Modified,
            "DELETED" => Change::Deleted,
            "BOOKMARK" => {
                self.advance(&object);
                return Step::Quiet;
            }
            "ERROR" => return ended(&object),
            _ => return Step::Quiet,
        };
        self.advance(&object);
        if change == Change::Deleted {
            self.told.remove(&key(&object));
            return Step::Tell(change, object);
        }
        match self.told.insert(key(&object), object.clone()) {
            Some(before) if version(&before) == version(&object) => Step::Quiet,
            Some(_) => Step::Tell(Change::Modified, object),
            None => Step::Tell(Change::Added, object),
        }
    }

    /// The stream is over: resume after the last version, or start over.
    pub(crate) fn on_end(&mut self, end: End) {
        self.state = match (std::mem::replace(&mut self.state, State::Empty), end) {
            (_, End::Expired) => State::Empty,
            (State::Watching { resource_version }, End::Closed) => State::Listed { resource_version },
            (state, End::Closed) => state,
        };
    }

    fn advance(&mut self, object: &Value) {
        if let State::Watching { resource_version } = &mut self.state
            && !version(object).is_empty()
        {
            *resource_version = version(object).to_string();
        }
    }
}

fn ended(status: &Value) -> Step {
    let code = status.get("code").and_then(Value::as_u64).unwrap_or_default();
    let message = status.get("message").and_then(Value::as_str).unwrap_or_default().to_string();
    Step::Ended(if code == 410 { End::Expired } else { End::Closed }, message)
}

fn key(object: &Value) -> Key {
    let field = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
    (field("/metadata/namespace"), field("/metadata/name"))
}

fn version(object: &Value) -> &str {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, version: &str) -> Value {
        json!({"metadata": {"name": name, "resourceVersion": version}})
    }

    fn list(version: &str, items: &[Value]) -> Value {
        json!({"metadata": {"resourceVersion": version}, "items": items})
    }

    fn told(changes: &[(Change, Value)]) -> Vec<String> {
        let line = |(change, object): &(Change, Value)| format!("{} {}", change.word(), key(object).1);
        changes.iter().map(line).collect()
    }

    fn watching(items: &[Value]) -> Watch {
        let mut watch = Watch::new();
        watch.on_list(&list("5", items));
        watch.on_open();
        watch
    }

    #[test]
    fn events_move_the_version_and_bookmarks_say_nothing() {
        let mut watch = watching(&[object("a", "4")]);
        let event = json!({"type": "MODIFIED", "object": object("a", "6")});
        assert_eq!(watch.on_event(&event), Step::Tell(Change::Modified, object("a", "6")));
        assert_eq!(watch.on_event(&json!({"type": "BOOKMARK", "object": object("", "9")})), Step::Quiet);
        watch.on_end(End::Closed);
        assert_eq!(watch.state(), &State::Listed { resource_version: "9".to_string() });
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut watch = watching(&[object("a", "4")]);
        let event = json!({"type": "ADDED", "object": object("a", "4")});
        assert_eq!(watch.on_event(&event), Step::Quiet);
    }

    #[test]
    fn an_expired_history_starts_over_and_tells_the_difference() {
        let mut watch = watching(&[object("a", "1"), object("b", "2"), object("c", "3")]);
        let expired = json!({"type": "ERROR", "object": {"code": 410, "message": "too old"}});
        assert_eq!(watch.on_event(&expired), Step::Ended(End::Expired, "too old".to_string()));
        watch.on_end(End::Expired);
        assert_eq!(watch.state(), &State::Empty);
        let changes = watch.on_list(&list("20", &[object("a", "1"), object("b", "12"), object("d", "13")]));
        assert_eq!(told(&changes), ["MODIFIED b", "ADDED d", "DELETED c"]);
    }

    #[test]
    fn a_stream_that_never_opened_is_tried_again_from_the_same_version() {
        let mut watch = Watch::new();
        watch.on_list(&list("5", &[]));
        watch.on_end(End::Closed);
        assert_eq!(watch.state(), &State::Listed { resource_version: "5".to_string() });
    }
}
