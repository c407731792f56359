//! PUT of one object. It promises that what is replaced is what the client saw: the `resourceVersion` in the body is
//! compared inside the transaction. A body that changes nothing writes nothing and is answered with what stands.

use appliance_resources::{AnyResource, Cause, FieldError, FieldErrors, Status};
use bytes::Bytes;
use http::StatusCode;

use super::admission::{self, Operation};
use super::call::Call;
use super::incoming::{self, Expected};
use super::options::write_options;
use super::registry::Current;
use super::request::Scope;
use super::respond::Refusal;
use super::{Answer, Api};

pub(crate) async fn replace(api: &Api, call: &Call<'_>, scope: &Scope, body: &Bytes) -> Answer {
    let options = write_options("UpdateOptions", call.query)?;
    let key = scope.key();
    let expected =
        Expected { kind: scope.kind, namespace: scope.namespace.as_deref(), name: Some(&key.name) };
    let body = call.decode(body)?.ok_or_else(|| Status::bad_request("the body of the request is empty"))?;
    let incoming = incoming::read(expected, body, options.field_validation)?;
    admission::protect(scope.kind, &key.name, Operation::Update)?;
    let plan = |current: &Current| {
        same_version(&incoming.resource, current)?;
        admission::update(incoming.resource.clone(), &current.resource)
    };
    let written = api.registry.update(call.author()?, &key, options.dry_run, plan).await?;
    call.written(StatusCode::OK, scope.kind, &written, &incoming.warnings)
}

/// Refuses a body that names no version, or another one than stands.
fn same_version(resource: &AnyResource, current: &Current) -> Result<(), Refusal> {
    let (kind, name) = (resource.kind(), &resource.meta().name);
    match resource.meta().resource_version.as_deref() {
        None | Some("") => {
            let errors = FieldErrors(vec![FieldError {
                path: "metadata.resourceVersion".to_owned(),
                value: Some(0.into()),
                reason: "must be specified for an update".to_owned(),
                cause: Cause::Invalid,
            }]);
            Err(Status::invalid(kind, name, &errors).into())
        }
        Some(version) if version == current.record.mod_revision.to_string() => Ok(()),
        Some(_) => Err(Status::conflict(kind, name).into()),
    }
}
