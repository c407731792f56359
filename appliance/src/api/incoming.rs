//! The resource a client sends, held against the URL it was sent to. Pure.
//!
//! What the URL already says (version, kind, namespace) may be left out of the body and may not be contradicted by it.
//! Fields that only the server may set are dropped here. Whether the resource makes sense is [`super::admission`]'s
//! question.

use appliance_resources::{AnyResource, DecodeError, Kind, Status, Unknown};
use serde_json::{Map, Value};

use super::decode;
use super::options::FieldValidation;
use super::respond::Refusal;

/// A resource as sent, and what its sender should be told about it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) resource: AnyResource,
    pub(crate) warnings: Vec<String>,
}

/// What the URL says about the object in the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<&'a str>,
    /// Absent on create: there the body alone has the name.
    pub(crate) name: Option<&'a str>,
}

/// Reads the resource out of a decoded body.
pub(crate) fn read(
    expected: Expected<'_>,
    body: decode::Decoded,
    validation: FieldValidation,
) -> Result<Incoming, Refusal> {
    let decode::Decoded { mut value, duplicates } = body;
    let Some(object) = value.as_object_mut() else {
        return Err(Status::bad_request("the body of the request is not an object").into());
    };
    agree(object, "kind", expected.kind.name(), "kind")?;
    agree(object, "apiVersion", expected.kind.api_version(), "API version")?;
    metadata(object, expected)?;
    let unknown = if validation == FieldValidation::Ignore { Unknown::Drop } else { Unknown::Warn };
    let decoded = AnyResource::from_value(value, unknown).map_err(|error| undecodable(expected, &error))?;
    let mut warnings = duplicates;
    warnings.extend(decoded.warnings);
    match validation {
        FieldValidation::Ignore => warnings.clear(),
        FieldValidation::Strict if !warnings.is_empty() => {
            return Err(unhandled(expected.kind, &format!("strict decoding error: {}", warnings.join(", "))));
        }
        FieldValidation::Warn | FieldValidation::Strict => {}
    }
    Ok(Incoming { resource: decoded.resource, warnings })
}

/// Fills in what the URL implies, or holds what was sent against it.
fn agree(object: &mut Map<String, Value>, field: &str, expected: &str, what: &str) -> Result<(), Refusal> {
    match object.get(field) {
        None | Some(Value::Null) => {
            object.insert(field.to_owned(), Value::from(expected));
            Ok(())
        }
        Some(Value::String(found)) if found.is_empty() || found == expected => {
            object.insert(field.to_owned(), Value::from(expected));
            Ok(())
        }
        Some(found) => {
            let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            let message =
                format!("the {what} in the data ({found}) does not match the expected {what} ({expected})");
            Err(Status::bad_request(message).into())
        }
    }
}

/// Fields of metadata that clients send back because they were sent them, and that mean nothing on a write.
const SERVER_OWNED: [&str; 4] =
    ["managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"];

fn metadata(object: &mut Map<String, Value>, expected: Expected<'_>) -> Result<(), Refusal> {
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    let Some(metadata) = metadata.as_object_mut() else {
        return Err(Status::bad_request("metadata is not an object").into());
    };
    for field in SERVER_OWNED {
        metadata.remove(field);
    }
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or("");
    let namespace = text("namespace");
    if !namespace.is_empty() && Some(namespace) != expected.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message).into());
    }
    if let Some(name) = expected.name.filter(|name| *name != text("name")) {
        let found = text("name");
        let message = format!("the name of the object ({found}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(message).into());
    }
    match expected.namespace {
        Some(namespace) => metadata.insert("namespace".to_owned(), Value::from(namespace)),
        None => metadata.remove("namespace"),
    };
    Ok(())
}

fn undecodable(expected: Expected<'_>, error: &DecodeError) -> Refusal {
    match error {
        DecodeError::Invalid { kind, name, errors } => Status::invalid(*kind, name, errors).into(),
        other => unhandled(expected.kind, &other.to_string()),
    }
}

fn unhandled(kind: Kind, why: &str) -> Refusal {
    let (name, version) = (kind.name(), kind.version());
    Status::bad_request(format!("{name} in version {version:?} cannot be handled as a {name}: {why}")).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(expected: Expected<'_>, value: Value, validation: FieldValidation) -> Result<Incoming, String> {
        let body = decode::json(value.to_string().as_bytes()).unwrap();
        read(expected, body, validation)
            .map_err(|refusal| format!("{} {}", refusal.status().code, refusal.status().message))
    }

    const TIER: Expected<'_> = Expected { kind: Kind::Tier, namespace: None, name: None };
    const WEP: Expected<'_> = Expected { kind: Kind::WorkloadEndpoint, namespace: Some("ns"), name: None };

    #[test]
    fn what_the_url_says_may_be_left_out() {
        let incoming = check(TIER, json!({"metadata": {"name": "t"}}), FieldValidation::Warn).unwrap();
        assert_eq!(incoming.resource.kind(), Kind::Tier);
        assert_eq!(incoming.resource.meta().name, "t");
        let incoming = check(WEP, json!({"metadata": {"name": "w"}}), FieldValidation::Warn).unwrap();
        assert_eq!(incoming.resource.meta().namespace.as_deref(), Some("ns"));
    }

    #[test]
    fn what_contradicts_the_url_is_refused() {
        let named = Expected { name: Some("t"), ..TIER };
        for (expected, value, message) in [
            (TIER, json!([]), "400 the body of the request is not an object"),
            (
                TIER,
                json!({"kind": "Profile"}),
                "400 the kind in the data (Profile) does not match the expected kind (Tier)",
            ),
            (
                TIER,
                json!({"apiVersion": "v1"}),
                "400 the API version in the data (v1) does not match the expected API version (projectcalico.org/v3)",
            ),
            (TIER, json!({"metadata": 5}), "400 metadata is not an object"),
            (
                WEP,
                json!({"metadata": {"namespace": "other"}}),
                "400 the namespace of the provided object does not match the namespace sent on the request",
            ),
            (
                TIER,
                json!({"metadata": {"namespace": "any"}}),
                "400 the namespace of the provided object does not match the namespace sent on the request",
            ),
            (
                named,
                json!({"metadata": {"name": "u"}}),
                "400 the name of the object (u) does not match the name on the URL (t)",
            ),
        ] {
            let refused = check(expected, value, FieldValidation::Warn).expect_err(message);
            assert_eq!(refused, message);
        }
    }

    #[test]
    fn fields_of_the_server_are_dropped() {
        let value = json!({"metadata": {"name": "t", "managedFields": [{}], "selfLink": "/x",
            "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let incoming = check(TIER, value, FieldValidation::Strict).unwrap();
        assert_eq!(incoming.resource.meta().deletion_timestamp, None);
    }

    #[test]
    fn a_duplicate_is_warned_of_refused_or_ignored_as_asked() {
        let text = br#"{"metadata":{"name":"t"},"spec":{"order":1,"order":2}}"#;
        let read = |validation| read(TIER, decode::json(text).unwrap(), validation);
        assert_eq!(read(FieldValidation::Warn).unwrap().warnings, [r#"duplicate field "spec.order""#]);
        assert!(read(FieldValidation::Ignore).unwrap().warnings.is_empty());
        assert_eq!(
            read(FieldValidation::Strict).unwrap_err().status().message,
            "Tier in version \"v3\" cannot be handled as a Tier: strict decoding error: duplicate field \"spec.order\""
        );
    }

    #[test]
    fn an_unknown_field_is_named() {
        let value = json!({"metadata": {"name": "t"}, "spec": {"bogus": 1}});
        let incoming = check(TIER, value.clone(), FieldValidation::Warn).unwrap();
        assert_eq!(incoming.warnings, [r#"unknown field "spec.bogus""#]);
        let refused = check(TIER, value, FieldValidation::Strict).unwrap_err();
        assert!(refused.ends_with(r#"strict decoding error: unknown field "spec.bogus""#), "{refused}");
    }
}
