//! Decoding: JSON → AnyResource.

use serde_json::Value;

use crate::{
    field_error::{Cause, Complaint, FieldErrors},
    kind::Kind,
    resource::AnyResource,
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
    /// `unknown field "spec.bogus"`, one for each dropped field.
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
    /// It has fields its kind does not have.
    #[error("strict decoding error: {}", fields.iter().map(|field| format!("unknown field {field:?}")).collect::<Vec<_>>().join(", "))]
    UnknownFields {
        /// What it is.
        kind: Kind,
        /// What it is called.
        name: String,
        /// The paths of the fields.
        fields: Vec<String>,
    },
    /// Values that can not be what the field holds.
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
    pub fn from_value(value: Value, _unknown: Unknown) -> Result<Decoded, DecodeError> {
        let object = value.as_object().ok_or(DecodeError::NotAnObject)?;
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind_name) = (text("apiVersion"), text("kind"));
        if kind_name.is_empty() {
            return Err(DecodeError::KindMissing);
        }
        let kind = Kind::from_name(&kind_name)
            .filter(|kind| kind.api_version() == api_version)
            .ok_or(DecodeError::UnknownKind { api_version, kind: kind_name })?;
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let resource = AnyResource::deserialize(kind, value).map_err(|error| {
            let mut errors = FieldErrors::default();
            errors.add(
                error.path().to_string(),
                None,
                Complaint::new(Cause::TypeInvalid, error.inner().to_string()),
            );
            DecodeError::Invalid { kind, name, errors }
        })?;
        Ok(Decoded { resource, warnings: Vec::new() })
    }
}
