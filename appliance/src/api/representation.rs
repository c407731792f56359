//! Stored records as the bytes a client reads: objects, lists, watch events, in each shape and format. Pure.
//!
//! The plain shape is what clients ask for by the thousand, so it is made without reading the object: the stored
//! bytes are JSON already and lack only `metadata.resourceVersion`, which is spliced in. An event therefore costs each
//! watcher one copy, and no cache is needed. Tables, bare metadata and YAML are built from the parsed object.
//!
//! It refuses to repair: bytes that are no object are [`Unreadable`], never half an answer.

use appliance_resources::Kind;
use appliance_storage::{Record, Revision};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::accept::{Format, IncludeObject, Representation, Shape};
use super::columns;

/// One object as it stands in the store, and the revision it shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) kind: Kind,
    pub(crate) value: &'a [u8],
    /// Usually that of the record; in a DELETED event, that of the deletion; zero for what a dry run would have
    /// created, which has none.
    pub(crate) revision: Revision,
}

impl<'a> Stored<'a> {
    /// The object of a record.
    pub(crate) fn of(kind: Kind, record: &'a Record) -> Stored<'a> {
        Stored { kind, value: &record.value, revision: record.mod_revision }
    }
}

/// What is stored under a key is not an object; the data came from elsewhere or rotted.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the stored {kind} is not readable: {reason}")]
pub(crate) struct Unreadable {
    kind: Kind,
    reason: String,
}

/// What happened to an object, as watch events spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    fn name(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

/// How answers are made for one request: the representation it accepts and the time ages are counted to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renderer {
    pub(crate) representation: Representation,
    pub(crate) now: OffsetDateTime,
}

impl Renderer {
    /// One object.
    pub(crate) fn object(&self, stored: Stored<'_>) -> Result<Vec<u8>, Unreadable> {
        match self.representation.shape {
            Shape::Whole => self.whole(stored),
            Shape::Metadata { version } => Ok(self.print(&metadata(version.api_version(), parse(stored)?))),
            Shape::Table { .. } => {
                let rows = vec![self.row(stored)?];
                Ok(self.print(&self.table(stored.kind, stored.revision, rows)))
            }
        }
    }

    /// All of `records`, which were read at `revision`.
    pub(crate) fn list(
        &self,
        kind: Kind,
        revision: Revision,
        records: &[Record],
    ) -> Result<Vec<u8>, Unreadable> {
        let stored = records.iter().map(|record| Stored::of(kind, record));
        match self.representation {
            Representation { shape: Shape::Whole, format: Format::Json } => {
                plain_list(kind, revision, stored, records.iter().map(|record| record.value.len()).sum())
            }
            Representation { shape: Shape::Table { .. }, .. } => {
                let rows = stored.map(|stored| self.row(stored)).collect::<Result<_, _>>()?;
                Ok(self.print(&self.table(kind, revision, rows)))
            }
            Representation { shape: Shape::Whole, .. } => {
                let items: Value = stored.map(parse).collect::<Result<_, _>>()?;
                Ok(self.print(&list_of(kind.list_name(), kind.api_version(), revision, items)))
            }
            Representation { shape: Shape::Metadata { version }, .. } => {
                let version = version.api_version();
                let item = |stored| Ok(metadata(version, parse(stored)?));
                let items: Value = stored.map(item).collect::<Result<_, _>>()?;
                Ok(self.print(&list_of("PartialObjectMetadataList", version, revision, items)))
            }
        }
    }

    /// One line of a watch.
    pub(crate) fn event(&self, event: EventType, stored: Stored<'_>) -> Result<Vec<u8>, Unreadable> {
        Ok(line(event.name(), &self.object(stored)?))
    }

    /// Tells a watcher that it has seen everything up to a revision; `initial_events_end` also that the state it
    /// asked for is complete.
    pub(crate) fn bookmark(&self, kind: Kind, revision: Revision, initial_events_end: bool) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.representation.shape {
            Shape::Whole => {
                json!({"kind": kind.name(), "apiVersion": kind.api_version(), "metadata": metadata})
            }
            Shape::Metadata { version } => json!({"kind": "PartialObjectMetadata",
                "apiVersion": version.api_version(), "metadata": metadata}),
            Shape::Table { .. } => {
                let mut table = self.table(kind, revision, Vec::new());
                table["metadata"] = metadata;
                table
            }
        };
        line("BOOKMARK", object.to_string().as_bytes())
    }

    fn whole(&self, stored: Stored<'_>) -> Result<Vec<u8>, Unreadable> {
        match self.representation.format {
            Format::Json => plain(stored),
            Format::Yaml => Ok(self.print(&parse(stored)?)),
        }
    }

    fn row(&self, stored: Stored<'_>) -> Result<Value, Unreadable> {
        let object = parse(stored)?;
        let cells = columns::cells(stored.kind, &object, self.now);
        let Shape::Table { version, include } = self.representation.shape else {
            return Ok(json!({ "cells": cells }));
        };
        Ok(match include {
            IncludeObject::None => json!({ "cells": cells }),
            IncludeObject::Object => json!({"cells": cells, "object": object}),
            IncludeObject::Metadata => {
                json!({"cells": cells, "object": metadata(version.api_version(), object)})
            }
        })
    }

    fn table(&self, kind: Kind, revision: Revision, rows: Vec<Value>) -> Value {
        let version = match self.representation.shape {
            Shape::Table { version, .. } | Shape::Metadata { version } => version.api_version(),
            Shape::Whole => kind.api_version(),
        };
        json!({"kind": "Table", "apiVersion": version, "metadata": {"resourceVersion": revision.to_string()},
            "columnDefinitions": columns::definitions(kind), "rows": rows})
    }

    fn print(&self, value: &Value) -> Vec<u8> {
        print(self.representation.format, value)
    }
}

/// A value of our own making in the format asked for.
pub(crate) fn print(format: Format, value: &Value) -> Vec<u8> {
    match format {
        Format::Json => value.to_string().into_bytes(),
        // A JSON value always has a YAML spelling; JSON is YAML, should the printer ever disagree.
        Format::Yaml => serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string()).into_bytes(),
    }
}

/// `{"type":…,"object":…}` and the newline that ends it.
pub(crate) fn line(event: &str, object: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(event.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line
}

/// The stored bytes with `resourceVersion` spliced in, where they begin as our own writes do.
fn plain(stored: Stored<'_>) -> Result<Vec<u8>, Unreadable> {
    let mut out = Vec::with_capacity(stored.value.len() + SPLICE_BYTES);
    append_plain(&mut out, stored)?;
    Ok(out)
}

/// Room for `"resourceVersion":"18446744073709551615",`.
const SPLICE_BYTES: usize = 48;

fn append_plain(out: &mut Vec<u8>, stored: Stored<'_>) -> Result<(), Unreadable> {
    match fields_of_metadata(stored) {
        _ if stored.revision == Revision::ZERO => out.extend_from_slice(stored.value),
        Some(at) => {
            out.extend_from_slice(&stored.value[..at]);
            out.extend_from_slice(b"\"resourceVersion\":\"");
            out.extend_from_slice(stored.revision.to_string().as_bytes());
            out.extend_from_slice(b"\",");
            out.extend_from_slice(&stored.value[at..]);
        }
        // Written by another hand, in another order: still an object.
        None => out.extend_from_slice(parse(stored)?.to_string().as_bytes()),
    }
    Ok(())
}

/// Where the first field of `metadata` begins, if the value begins as the registry writes it. The registry never
/// stores a `resourceVersion`, so the spliced one is the only one.
fn fields_of_metadata(stored: Stored<'_>) -> Option<usize> {
    let parts = [
        r#"{"kind":""#,
        stored.kind.name(),
        r#"","apiVersion":""#,
        stored.kind.api_version(),
        r#"","metadata":{"#,
    ];
    let mut rest = stored.value;
    for part in parts {
        rest = rest.strip_prefix(part.as_bytes())?;
    }
    rest.starts_with(b"\"").then_some(stored.value.len() - rest.len())
}

fn plain_list<'a>(
    kind: Kind,
    revision: Revision,
    stored: impl Iterator<Item = Stored<'a>>,
    bytes: usize,
) -> Result<Vec<u8>, Unreadable> {
    let (many, _) = stored.size_hint();
    let mut out = Vec::with_capacity(bytes + many * SPLICE_BYTES + 160);
    out.extend_from_slice(
        format!(
            r#"{{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{revision}"}},"items":["#,
            kind.list_name(),
            kind.api_version()
        )
        .as_bytes(),
    );
    for (index, stored) in stored.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append_plain(&mut out, stored)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

fn list_of(kind: &str, api_version: &str, revision: Revision, items: Value) -> Value {
    json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": revision.to_string()},
        "items": items})
}

/// The object with its `resourceVersion`.
pub(crate) fn parse(stored: Stored<'_>) -> Result<Value, Unreadable> {
    let unreadable = |reason: String| Unreadable { kind: stored.kind, reason };
    let mut object: Value =
        serde_json::from_slice(stored.value).map_err(|error| unreadable(error.to_string()))?;
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let metadata = metadata.ok_or_else(|| unreadable("it has no metadata".to_owned()))?;
    if stored.revision != Revision::ZERO {
        metadata.insert("resourceVersion".to_owned(), Value::from(stored.revision.to_string()));
    }
    Ok(object)
}

fn metadata(api_version: &str, mut object: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": object["metadata"].take()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::accept::MetaVersion;

    const OWN: &[u8] = br#"{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"t","labels":{"a":"b"}},"spec":{"order":10}}"#;
    const FOREIGN: &[u8] =
        br#"{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"t"},"spec":{"order":10}}"#;

    fn renderer(shape: Shape, format: Format) -> Renderer {
        Renderer { representation: Representation { shape, format }, now: OffsetDateTime::UNIX_EPOCH }
    }

    fn stored(value: &[u8]) -> Stored<'_> {
        Stored { kind: Kind::Tier, value, revision: Revision(7) }
    }

    fn value(bytes: Vec<u8>) -> Value {
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_spliced_object_is_the_parsed_one() {
        let renderer = renderer(Shape::Whole, Format::Json);
        for bytes in [OWN, FOREIGN] {
            let object = renderer.object(stored(bytes)).unwrap();
            assert_eq!(value(object), parse(stored(bytes)).unwrap());
        }
        assert!(fields_of_metadata(stored(OWN)).is_some());
        assert!(fields_of_metadata(stored(FOREIGN)).is_none());
    }

    #[test]
    fn what_is_no_object_is_said_to_be_none() {
        let renderer = renderer(Shape::Whole, Format::Json);
        for bytes in [&b""[..], b"null", b"{}", b"\xff"] {
            assert!(renderer.object(stored(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_list_has_items() {
        let list = renderer(Shape::Whole, Format::Json).list(Kind::Tier, Revision(9), &[]).unwrap();
        assert_eq!(
            value(list),
            json!({"kind": "TierList", "apiVersion": "projectcalico.org/v3",
                "metadata": {"resourceVersion": "9"}, "items": []})
        );
    }

    #[test]
    fn lists_agree_whatever_the_format() {
        let record = Record {
            key: "k".into(),
            value: OWN.into(),
            create_revision: Revision(3),
            mod_revision: Revision(7),
            version: 1,
        };
        let records = [record.clone(), record];
        let list = |format| renderer(Shape::Whole, format).list(Kind::Tier, Revision(9), &records).unwrap();
        let json = value(list(Format::Json));
        let yaml: Value = serde_saphyr::from_str(std::str::from_utf8(&list(Format::Yaml)).unwrap()).unwrap();
        assert_eq!(json, yaml);
        assert_eq!(json["items"][1]["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn a_table_has_rows_with_metadata() {
        let shape = Shape::Table { version: MetaVersion::V1, include: IncludeObject::Metadata };
        let table = value(renderer(shape, Format::Json).object(stored(OWN)).unwrap());
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
        assert_eq!(table["metadata"]["resourceVersion"], "7");
        assert_eq!(table["rows"][0]["cells"], json!(["t", 10, null, null]));
        assert_eq!(table["rows"][0]["object"]["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(table["rows"][0]["object"].get("spec"), None);
    }

    #[test]
    fn bookmarks_are_of_the_watched_kind() {
        let bookmark = value(renderer(Shape::Whole, Format::Json).bookmark(Kind::Tier, Revision(5), false));
        assert_eq!(
            bookmark,
            json!({"type": "BOOKMARK", "object": {"kind": "Tier", "apiVersion": "projectcalico.org/v3",
                "metadata": {"resourceVersion": "5", "creationTimestamp": null}}})
        );
        let shape = Shape::Table { version: MetaVersion::V1, include: IncludeObject::None };
        let bookmark = value(renderer(shape, Format::Json).bookmark(Kind::Tier, Revision(5), true));
        assert_eq!(bookmark["object"]["rows"], json!([]));
        assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    }

    #[test]
    fn an_event_is_one_line() {
        let event = renderer(Shape::Whole, Format::Json).event(EventType::Deleted, stored(OWN)).unwrap();
        assert_eq!(event.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(event.last(), Some(&b'\n'));
        let event = value(event);
        assert_eq!(event["type"], "DELETED");
        assert_eq!(event["object"]["metadata"]["resourceVersion"], "7");
    }
}
