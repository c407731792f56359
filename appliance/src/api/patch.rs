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
    let written = api.registry.update(call.writer()?, &key, options.dry_run, plan).await?;
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
        PatchError::TooLong { .. } | PatchError::TooLarge { .. } => {
            Status { message: format!("Request entity too large: {error}"), ..Status::too_large(0) }.into()
        }
        PatchError::Failed { .. } => {
            let errors = FieldErrors(vec![FieldError {
                path: "patch".to_owned(),
                value: None,
                reason: error.to_string(),
                cause: Cause::Invalid,
            }]);
            Status::invalid(key.kind, &key.name, &errors).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::harness::{Harness, endpoint, policy};

    const OPERATIONS: (&str, &str) = ("content-type", "application/json-patch+json");

    #[tokio::test]
    async fn a_merge_changes_what_it_names() {
        let api = Harness::start().await;
        let created = api.post("hostendpoints", endpoint("a")).await;
        let patch = json!({"metadata": {"labels": {"app": null, "b": "c"}}});
        let patched = api.merge("hostendpoints/a", patch.clone()).await;
        assert_eq!(patched.code, 200, "{}", patched.summary());
        assert_eq!(patched.value()["metadata"]["labels"], json!({"b": "c"}));
        assert_eq!(patched.value()["metadata"]["generation"], 1);
        assert_ne!(patched.version(), created.version());
        let again = api.merge("hostendpoints/a", patch).await;
        assert_eq!(again.value(), patched.value(), "nothing changes, so nothing is written");
    }

    #[tokio::test]
    async fn operations_are_done_in_order_or_not_at_all() {
        let api = Harness::start().await;
        api.post("hostendpoints", endpoint("a")).await;
        let operations = json!([{"op": "test", "path": "/spec/node", "value": "n1"},
            {"op": "replace", "path": "/spec/interfaceName", "value": "eth9"}]);
        let patched = api.send("PATCH", "hostendpoints/a", &[OPERATIONS], operations.to_string()).await;
        assert_eq!(patched.value()["spec"]["interfaceName"], "eth9");
        let failing = json!([{"op": "test", "path": "/spec/node", "value": "n2"}]);
        let refused = api.send("PATCH", "hostendpoints/a", &[OPERATIONS], failing.to_string()).await;
        assert_eq!(refused.code, 422);
        let malformed = api.send("PATCH", "hostendpoints/a", &[OPERATIONS], "{}").await;
        assert_eq!(malformed.code, 400);
    }

    #[tokio::test]
    async fn a_version_in_the_patch_is_a_precondition() {
        let api = Harness::start().await;
        let created = api.post("hostendpoints", endpoint("a")).await;
        let at = |version: &str| json!({"metadata": {"resourceVersion": version, "labels": {"x": "y"}}});
        assert_eq!(api.merge("hostendpoints/a", at("1")).await.code, 409);
        assert_eq!(api.merge("hostendpoints/a", at(&created.version())).await.code, 200);
    }

    #[tokio::test]
    async fn what_can_not_be_patched_is_refused() {
        let api = Harness::start().await;
        api.post("globalnetworkpolicies", policy("p", "default")).await;
        let path = "globalnetworkpolicies/p";
        assert_eq!(api.merge("hostendpoints/none", json!({})).await.code, 404);
        assert_eq!(api.merge(path, json!({"spec": {"tier": "nowhere"}})).await.code, 422);
        assert_eq!(api.merge(path, json!({"metadata": {"name": "q"}})).await.code, 400);
        assert_eq!(api.merge(path, json!([])).await.code, 400);
        assert_eq!(api.merge(&format!("{path}?force=true"), json!({})).await.code, 422);
        for kind in
            ["application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/json"]
        {
            let refused = api.send("PATCH", path, &[("content-type", kind)], "{}").await;
            assert_eq!(refused.code, 415, "{kind}");
        }
    }

    #[tokio::test]
    async fn a_dry_run_patches_nothing() {
        let api = Harness::start().await;
        let created = api.post("hostendpoints", endpoint("a")).await;
        let dry = api.merge("hostendpoints/a?dryRun=All", json!({"metadata": {"labels": {"x": "y"}}})).await;
        assert_eq!(dry.value()["metadata"]["labels"]["x"], "y");
        assert_eq!(api.get("hostendpoints/a").await.value(), created.value());
    }

    #[tokio::test]
    async fn patches_of_many_clients_are_all_applied() {
        let api = Harness::start().await;
        api.post("hostendpoints", endpoint("a")).await;
        let patches = (0..4)
            .map(|i| api.merge("hostendpoints/a", json!({"metadata": {"labels": {(format!("l{i}")): "x"}}})));
        for reply in futures_util::future::join_all(patches).await {
            assert_eq!(reply.code, 200, "{}", reply.summary());
        }
        let labels = api.get("hostendpoints/a").await.value()["metadata"]["labels"].clone();
        assert_eq!(labels.as_object().map(serde_json::Map::len), Some(5), "{labels}");
    }
}
