//! PATCH of one object, as a merge (RFC 7386) or as operations (RFC 6902). It promises that the patch is applied to
//! what stands when it is written: should the object change in between, it is patched anew. A `resourceVersion` in
//! the patch is a precondition.
//!
//! Strategic merge and server-side apply are refused with 415: the first means nothing for these kinds, the second
//! belongs to a later issue.

use appliance_resources::patch::{self, PatchError};
use appliance_resources::{AnyResource, Cause, FieldError, FieldErrors, ResourceKey, Status};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::admission::{self, Operation};
use super::call::Call;
use super::decode::{self, Decoded};
use super::incoming::{self, Expected};
use super::options::{FieldValidation, write_options};
use super::registry::Current;
use super::representation::{self, Stored};
use super::request::Scope;
use super::respond::Refusal;
use super::{Answer, Api};

/// The patches we apply.
const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json";

/// How a patch changes a document.
enum Patch {
    Merge(Value),
    Operations(Value),
}

pub(crate) async fn patch(api: &Api, call: &Call<'_>, scope: &Scope, body: &Bytes) -> Answer {
    let options = write_options("PatchOptions", call.query)?;
    let (patch, duplicates) = read(call.content_type(), body)?;
    let key = scope.key();
    admission::protect(scope.kind, &key.name, Operation::Update)?;
    let mut warnings = Vec::new();
    let plan = |current: &Current| {
        let patched = apply(&patch, &key, current)?;
        let body = Decoded { value: patched, duplicates: duplicates.clone() };
        let (resource, told) = admit(&key, current, body, options.field_validation)?;
        warnings = told;
        Ok(resource)
    };
    let written = api.registry.update(call.author()?, &key, options.dry_run, plan).await?;
    call.written(StatusCode::OK, scope.kind, &written, &warnings)
}

/// The patch, and the keys it repeats.
fn read(content_type: Option<&str>, body: &Bytes) -> Result<(Patch, Vec<String>), Refusal> {
    match decode::media_type(content_type) {
        "application/merge-patch+json" => {
            let Decoded { value, duplicates } = decode::json(body)?;
            if !value.is_object() {
                return Err(Status::bad_request("a merge patch of an object is an object").into());
            }
            Ok((Patch::Merge(value), duplicates))
        }
        "application/json-patch+json" => Ok((Patch::Operations(decode::json(body)?.value), Vec::new())),
        _ => Err(Status::unsupported_media_type(ACCEPTED).into()),
    }
}

/// What stands, patched; refused when the patch was meant for another version of it.
fn apply(patch: &Patch, key: &ResourceKey, current: &Current) -> Result<Value, Refusal> {
    let stored = Stored::of(key.kind, &current.record);
    let mut object = representation::parse(stored)?;
    let version = object["metadata"]["resourceVersion"].clone();
    match patch {
        Patch::Merge(changes) => patch::merge(&mut object, changes),
        Patch::Operations(operations) => {
            patch::json(&mut object, operations).map_err(|error| refuse_patch(key, &error))?;
        }
    }
    match object.pointer("/metadata/resourceVersion") {
        Some(found) if !found.is_null() && *found != "" && *found != version => {
            Err(Status::conflict(key.kind, &key.name).into())
        }
        _ => Ok(object),
    }
}

fn admit(
    key: &ResourceKey,
    current: &Current,
    body: Decoded,
    validation: FieldValidation,
) -> Result<(AnyResource, Vec<String>), Refusal> {
    let expected = Expected { kind: key.kind, namespace: key.namespace.as_deref(), name: Some(&key.name) };
    let incoming = incoming::read(expected, body, validation)?;
    Ok((admission::update(incoming.resource, &current.resource)?, incoming.warnings))
}

fn refuse_patch(key: &ResourceKey, error: &PatchError) -> Refusal {
    match error {
        PatchError::Malformed(_) => Status::bad_request(error.to_string()).into(),
        PatchError::TooLong { .. } => {
            let limit = Status::too_large(0);
            Status { message: format!("Request entity too large: {error}"), ..limit }.into()
        }
        PatchError::Failed(reason) => {
            let errors = FieldErrors(vec![FieldError {
                path: "patch".to_owned(),
                value: None,
                reason: reason.clone(),
                cause: Cause::Invalid,
            }]);
            Status::invalid(key.kind, &key.name, &errors).into()
        }
    }
}
