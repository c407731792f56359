//! A request's body as one JSON value, whatever it was written in. Pure.
//!
//! It notices what `serde_json` alone would swallow: a key that comes twice in one object, reported by path like an
//! unknown field. It refuses media types nobody here reads; what the value means is decided by whoever asked.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A body, and what was odd about it.
#[derive(Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) value: Value,
    /// `duplicate field "spec.node"`, one for each.
    pub(crate) duplicates: Vec<String>,
}

/// Why a body is not a value.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    MediaType(&'static str),
    #[error("couldn't read the body: {0}")]
    Malformed(String),
}

/// What a resource may be written in.
const RESOURCE_TYPES: &str = "application/json, application/yaml";

/// The media type of a `Content-Type` header without its parameters. Clients that send none mean JSON.
pub(crate) fn media_type(header: Option<&str>) -> &str {
    let bare = header.unwrap_or("").split(';').next().unwrap_or("").trim();
    if bare.is_empty() { "application/json" } else { bare }
}

/// Reads a resource or an options object.
pub(crate) fn body(content_type: Option<&str>, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    match media_type(content_type) {
        "application/json" => json(bytes),
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(bytes),
        _ => Err(DecodeError::MediaType(RESOURCE_TYPES)),
    }
}

/// Reads JSON and nothing after it.
pub(crate) fn json(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Tracked { path: &Path::Root, duplicates: &mut duplicates };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    Ok(Decoded { value, duplicates })
}

/// Reads one YAML document, as manifests are read: duplicate keys, and aliases that multiply, are refused.
fn yaml(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let malformed = |error: &dyn fmt::Display| DecodeError::Malformed(error.to_string());
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(&error))?;
    let value = appliance_resources::yaml::to_value(text).map_err(|error| malformed(&error))?;
    Ok(Decoded { value, duplicates: Vec::new() })
}

/// A duplicate found this often has been understood; the rest is not listed.
const DUPLICATES_MAX: usize = 16;

/// Where in the document the parser stands. It lives on the parser's stack and is printed only to complain.
enum Path<'p> {
    Root,
    Field { parent: &'p Path<'p>, name: &'p str },
    Item { parent: &'p Path<'p>, index: usize },
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field { parent: Path::Root, name } => f.write_str(name),
            Path::Field { parent, name } => write!(f, "{parent}.{name}"),
            Path::Item { parent, index } => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Builds a value and notes each key that an object repeats; the last one counts, as in Go.
struct Tracked<'a> {
    path: &'a Path<'a>,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Tracked<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tracked<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = Path::Item { parent: self.path, index: list.len() };
            match items.next_element_seed(Tracked { path: &path, duplicates: self.duplicates })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let path = Path::Field { parent: self.path, name: &name };
            let value = fields.next_value_seed(Tracked { path: &path, duplicates: self.duplicates })?;
            if map.contains_key(&name) && self.duplicates.len() < DUPLICATES_MAX {
                self.duplicates.push(format!("duplicate field \"{path}\""));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_without_a_type_is_json() {
        for content_type in [None, Some(""), Some("application/json; charset=utf-8")] {
            let decoded = body(content_type, br#"{"a": [1, -2, 1.5, null, true, "x"]}"#).unwrap();
            assert_eq!(decoded.value, json!({"a": [1, -2, 1.5, null, true, "x"]}));
            assert!(decoded.duplicates.is_empty());
        }
    }

    #[test]
    fn yaml_is_read_too() {
        let decoded = body(Some("application/yaml"), b"kind: Tier\nspec:\n  order: 10\n").unwrap();
        assert_eq!(decoded.value, json!({"kind": "Tier", "spec": {"order": 10}}));
        let decoded = body(Some("application/yaml"), b"{name: y, on: true}").unwrap();
        assert_eq!(decoded.value, json!({"name": "y", "on": true}));
    }

    #[test]
    fn duplicates_are_named_by_path() {
        let decoded = json(br#"{"spec":{"a":1,"a":2,"r":[{"x":{"b":1,"b":1}}]},"spec2":1}"#).unwrap();
        assert_eq!(decoded.duplicates, [r#"duplicate field "spec.a""#, r#"duplicate field "spec.r[0].x.b""#]);
        assert_eq!(decoded.value["spec"]["a"], 2);
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (content_type, bytes) in [
            ("application/json", &b""[..]),
            ("application/json", b"{"),
            ("application/json", b"{} {}"),
            ("application/json", b"\xff"),
            ("application/yaml", b"\xff"),
            ("application/yaml", b"a: [1"),
            ("application/yaml", b"a: 1\na: 2"),
        ] {
            assert!(matches!(body(Some(content_type), bytes), Err(DecodeError::Malformed(_))), "{bytes:?}");
        }
        for content_type in ["application/vnd.kubernetes.protobuf", "text/plain", "application/cbor"] {
            assert_eq!(body(Some(content_type), b"{}"), Err(DecodeError::MediaType(RESOURCE_TYPES)));
        }
    }

    #[test]
    fn mistakes_in_yaml_are_told_in_our_words() {
        for (text, complaint) in [
            ("a: 1\n---\nb: 2\n", "couldn't read the body: line 3: there is a second document"),
            ("a: 1\na: 2\n", "couldn't read the body: line 2: duplicate key a"),
            ("# nothing\n", "couldn't read the body: line 1: the document is empty"),
        ] {
            let refused = body(Some("application/yaml"), text.as_bytes()).unwrap_err();
            assert_eq!(refused.to_string(), complaint);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(matches!(json(deep.as_bytes()), Err(DecodeError::Malformed(_))));
        assert!(matches!(yaml(deep.as_bytes()), Err(DecodeError::Malformed(_))));
    }
}
