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
    let written = api.registry.update(call.writer()?, &key, options.dry_run, plan).await?;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::harness::{Harness, endpoint};

    #[tokio::test]
    async fn what_the_client_saw_is_replaced() {
        let api = Harness::start().await;
        let mut object = api.post("hostendpoints", endpoint("a")).await.value();
        object["spec"]["interfaceName"] = "eth1".into();
        let replaced = api.put("hostendpoints/a", object.clone()).await;
        assert_eq!(replaced.code, 200, "{}", replaced.summary());
        assert_eq!(replaced.value()["metadata"]["generation"], 2);
        assert_eq!(replaced.value()["metadata"]["uid"], object["metadata"]["uid"]);
        assert_eq!(
            api.put("hostendpoints/a", object).await.summary(),
            "409 Conflict: Operation cannot be fulfilled on hostendpoints.projectcalico.org \"a\": the object has been modified; please apply your changes to the latest version and try again"
        );
    }

    #[tokio::test]
    async fn a_replace_that_changes_nothing_writes_nothing() {
        let api = Harness::start().await;
        let created = api.post("hostendpoints", endpoint("a")).await;
        let replaced = api.put("hostendpoints/a", created.value()).await;
        assert_eq!(replaced.code, 200);
        assert_eq!(replaced.value(), created.value());
        assert_eq!(api.get("hostendpoints").await.version(), created.version());
    }

    #[tokio::test]
    async fn what_can_not_be_replaced_is_refused() {
        let api = Harness::start().await;
        let created = api.post("hostendpoints", endpoint("a")).await.value();
        let mut stranger = created.clone();
        stranger["metadata"]["uid"] = "another".into();
        for (path, body, expected) in [
            (
                "hostendpoints/a",
                endpoint("a"),
                "422 Invalid: HostEndpoint.projectcalico.org \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
            ),
            (
                "hostendpoints/b",
                endpoint("b"),
                "404 NotFound: hostendpoints.projectcalico.org \"b\" not found",
            ),
            (
                "hostendpoints/b",
                endpoint("a"),
                "400 BadRequest: the name of the object (a) does not match the name on the URL (b)",
            ),
            (
                "profiles/projectcalico-default-allow",
                json!({"metadata": {"name": "projectcalico-default-allow"}}),
                "403 Forbidden: profiles.projectcalico.org \"projectcalico-default-allow\" is forbidden: operation Update is not supported on projectcalico-default-allow: The profile \"projectcalico-default-allow\" is a default provided by Calico and cannot be updated",
            ),
        ] {
            assert_eq!(api.put(path, body).await.summary(), expected);
        }
        assert_eq!(api.put("hostendpoints/a", stranger).await.code, 409);
    }

    #[tokio::test]
    async fn a_dry_run_replaces_nothing() {
        let api = Harness::start().await;
        let created = api.post("hostendpoints", endpoint("a")).await;
        let mut object = created.value();
        object["spec"]["interfaceName"] = "eth1".into();
        let dry = api.put("hostendpoints/a?dryRun=All", object).await;
        assert_eq!((dry.code, &dry.value()["spec"]["interfaceName"]), (200, &json!("eth1")));
        assert_eq!(api.get("hostendpoints/a").await.value(), created.value());
    }
}
