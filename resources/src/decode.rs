//! Decoding: JSON → AnyResource, with every mistake of shape found at once.
//!
//! Three callers: the API (exact names; the client says what unknown fields are), manifests (names in any case, nothing
//! unknown), and whoever reads the store (unknown fields are dropped: a newer version wrote them). Lenient about what is
//! missing, strict about what is there. That the values make sense is `validate`'s business; it is asked here only when
//! something is wrong already, so that one answer shows every mistake.

use serde_json::{Map, Value};

use crate::{
    defaults::set_defaults,
    field_error::{Cause, Complaint, FieldError, FieldErrors},
    kind::Kind,
    resource::AnyResource,
    schema::{self, OTHER_SETTINGS, Spelling},
    validate::validate,
};

/// What happens to fields the kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// They are an error.
    Refuse,
    /// They are dropped with a warning.
    Warn,
    /// They are dropped.
    Drop,
}

/// A resource, and what was dropped on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The resource.
    pub resource: AnyResource,
    /// `unknown field "spec.bogus"`, one for each dropped field that the caller wants to hear of.
    pub warnings: Vec<String>,
}

/// Why a JSON value is not a resource.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// It is not an object.
    #[error("expected an object with apiVersion and kind")]
    NotAnObject,
    /// It does not say what it is.
    #[error("kind is missing")]
    KindMissing,
    /// It says it is something we do not know.
    #[error("unknown resource type ({kind}) and/or version ({api_version})")]
    UnknownKind {
        /// What it says its version is.
        api_version: String,
        /// What it says its kind is.
        kind: String,
    },
    /// It has fields its kind does not have, and the caller refuses them.
    #[error("strict decoding error: {}", list_unknown(fields))]
    UnknownFields {
        /// What it is.
        kind: Kind,
        /// What it is called.
        name: String,
        /// The paths of the fields.
        fields: Vec<String>,
    },
    /// It has values that its fields can not hold.
    #[error("{errors}")]
    Invalid {
        /// What it is.
        kind: Kind,
        /// What it is called.
        name: String,
        /// Every such field.
        errors: FieldErrors,
    },
}

impl AnyResource {
    /// Reads a resource from JSON.
    pub fn from_value(value: Value, unknown: Unknown) -> Result<Decoded, DecodeError> {
        decode(value, unknown, Spelling::Exact)
    }
}

/// Reads a resource from JSON whose field names are spelled one way or another.
pub(crate) fn decode(value: Value, unknown: Unknown, spelling: Spelling) -> Result<Decoded, DecodeError> {
    let Value::Object(mut object) = value else { return Err(DecodeError::NotAnObject) };
    let kind = kind_of(&object, spelling)?;
    let findings = schema::check(&mut object, schema::fields(kind), spelling);
    let name = object.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
    let name = name.unwrap_or_default().to_owned();
    if unknown == Unknown::Refuse && !findings.unknown.is_empty() {
        return Err(DecodeError::UnknownFields { kind, name, fields: findings.unknown });
    }
    if !findings.errors.is_empty() {
        let errors = with_what_else_is_wrong(kind, object, findings.errors);
        return Err(DecodeError::Invalid { kind, name, errors });
    }
    let resource = deserialize(kind, object).map_err(|errors| DecodeError::Invalid { kind, name, errors })?;
    let warnings = if unknown == Unknown::Warn { warnings(&findings.unknown) } else { Vec::new() };
    Ok(Decoded { resource, warnings })
}

/// Adds to mistakes of shape what validation says about the rest, so that one look shows everything. What it says about
/// places where a stand-in is would be about the stand-in, so that is left out.
fn with_what_else_is_wrong(kind: Kind, object: Map<String, Value>, mut errors: FieldErrors) -> FieldErrors {
    let Ok(mut resource) = deserialize(kind, object) else { return errors };
    set_defaults(&mut resource);
    let Err(others) = validate(&resource) else { return errors };
    let doubtful: Vec<String> = errors.0.iter().map(|error| doubtful(&error.path).to_owned()).collect();
    let told =
        |path: &str| doubtful.iter().any(|doubtful| contains(doubtful, path) || contains(path, doubtful));
    // The caller may still fill these in: from the URL, or from the command line.
    let open = |error: &FieldError| {
        error.cause == Cause::Required
            && matches!(error.path.as_str(), "metadata.name" | "metadata.namespace")
    };
    errors.0.extend(others.0.into_iter().filter(|error| !told(&error.path) && !open(error)));
    errors
}

/// What can not be judged while this place is wrong: the place, and inside a list the item it is in, because the parts
/// of a rule or a port only make sense together.
fn doubtful(path: &str) -> &str {
    path.rfind("].").map_or(path, |end| &path[..=end])
}

/// Whether one path leads to another or to something in it.
fn contains(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The kind an object says it is.
fn kind_of(object: &Map<String, Value>, spelling: Spelling) -> Result<Kind, DecodeError> {
    let text =
        |field: &str| member(object, field, spelling).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind.is_empty() {
        return Err(DecodeError::KindMissing);
    }
    let known = Kind::from_name(&kind).filter(|kind| kind.api_version() == api_version);
    known.ok_or(DecodeError::UnknownKind { api_version, kind })
}

/// A member of an object by its name, in the spelling the caller allows.
fn member<'a>(object: &'a Map<String, Value>, name: &str, spelling: Spelling) -> Option<&'a Value> {
    object.get(name).or_else(|| match spelling {
        Spelling::Exact => None,
        Spelling::AnyCase => {
            object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        }
    })
}

fn deserialize(kind: Kind, mut object: Map<String, Value>) -> Result<AnyResource, FieldErrors> {
    let other = if kind == Kind::FelixConfiguration { take_other_settings(&mut object) } else { Map::new() };
    let mut resource = AnyResource::deserialize(kind, Value::Object(object)).map_err(|error| {
        // The schema has let it through, so this is a gap in the schema; the client still gets a path and a reason.
        let mut errors = FieldErrors::default();
        let complaint = Complaint::new(Cause::TypeInvalid, error.inner().to_string());
        errors.add(error.path().to_string(), None, complaint);
        errors
    })?;
    if let AnyResource::FelixConfiguration(configuration) = &mut resource {
        configuration.spec.other = other;
    }
    Ok(resource)
}

/// Takes the settings that are only carried out of a FelixConfiguration. Serde's `flatten` could do it, at the price of
/// losing the path of every mistake in the object.
fn take_other_settings(object: &mut Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(spec)) = object.get_mut("spec") else { return Map::new() };
    let (other, typed) = std::mem::take(spec)
        .into_iter()
        .partition(|(name, _)| OTHER_SETTINGS.iter().any(|setting| setting.name == name));
    *spec = typed;
    other
}

fn warnings(unknown: &[String]) -> Vec<String> {
    unknown.iter().map(|field| format!("unknown field {field:?}")).collect()
}

fn list_unknown(fields: &[String]) -> String {
    warnings(fields).join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host_endpoint(spec: Value) -> Value {
        json!({"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn what_is_missing_is_empty() {
        let value = json!({"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint"});
        let decoded = AnyResource::from_value(value, Unknown::Refuse).unwrap();
        assert_eq!(decoded.resource, AnyResource::HostEndpoint(Default::default()));
    }

    #[test]
    fn unknown_fields_are_what_the_caller_says() {
        let value = host_endpoint(json!({"bogus": 1}));
        let error = AnyResource::from_value(value.clone(), Unknown::Refuse).unwrap_err();
        assert_eq!(error.to_string(), "strict decoding error: unknown field \"spec.bogus\"");
        let decoded = AnyResource::from_value(value.clone(), Unknown::Warn).unwrap();
        assert_eq!(decoded.warnings, ["unknown field \"spec.bogus\""]);
        let decoded = AnyResource::from_value(value, Unknown::Drop).unwrap();
        assert!(decoded.warnings.is_empty());
        assert_eq!(decoded.resource.to_value(), host_endpoint(json!({})));
    }

    #[test]
    fn the_kind_must_be_known() {
        for (value, complaint) in [
            (json!([]), "expected an object with apiVersion and kind"),
            (json!({"apiVersion": "projectcalico.org/v3"}), "kind is missing"),
            (
                json!({"apiVersion": "v7", "kind": "HostEndpoint"}),
                "unknown resource type (HostEndpoint) and/or version (v7)",
            ),
            (json!({"kind": "Pod"}), "unknown resource type (Pod) and/or version ()"),
        ] {
            assert_eq!(AnyResource::from_value(value, Unknown::Drop).unwrap_err().to_string(), complaint);
        }
    }

    #[test]
    fn wrong_types_have_a_path() {
        let value =
            host_endpoint(json!({"ports": [{"name": "a", "protocol": "TCP", "port": "x"}], "node": 1}));
        assert_eq!(
            AnyResource::from_value(value, Unknown::Drop).unwrap_err().to_string(),
            "[spec.ports[0].port: Invalid value: \"x\": must be a number, not a string, \
             spec.node: Invalid value: 1: must be a string, not a number]"
        );
    }

    #[test]
    fn one_answer_shows_every_mistake_and_none_that_is_not_one() {
        let value = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "A"},
            "spec": {"selector": "%", "order": "x", "ingress": [
                {"action": "Allow", "protocol": "icmp", "icmp": {"type": 8}},
                {"action": "Allow", "source": {"nets": ["foo"]}},
                {"action": "Allow", "destination": {"ports": [80]}}]}});
        let DecodeError::Invalid { errors, .. } = AnyResource::from_value(value, Unknown::Drop).unwrap_err()
        else {
            panic!("invalid");
        };
        let paths: Vec<&str> = errors.0.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "spec.order",
                "spec.ingress[0].protocol",
                "metadata.name",
                "spec.ingress[1].source.nets[0]",
                "spec.ingress[2].destination.ports[0]",
                "spec.selector"
            ]
        );
    }

    #[test]
    fn settings_that_are_not_ours_are_carried() {
        let value = json!({"kind": "FelixConfiguration", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "default"},
            "spec": {"ipv6Support": false, "bpfEnabled": true, "healthTimeoutOverrides": [{"name": "a", "timeout": "1s"}]}});
        let decoded = AnyResource::from_value(value.clone(), Unknown::Refuse).unwrap();
        assert_eq!(decoded.resource.to_value(), value);
        let AnyResource::FelixConfiguration(configuration) = decoded.resource else {
            panic!("the kind it says")
        };
        assert_eq!(configuration.spec.ipv6_support, Some(false));
        assert_eq!(configuration.spec.other.len(), 2);
    }
}
