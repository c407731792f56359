//! DELETE of one object. It promises that the object that goes is the one that was meant: by uid or version when the
//! client names one, and in any case the same life that was looked at. A Node takes along what only it gave meaning to:
//! of endpoints those that say so when it goes, for one that moved meanwhile polices another host.
//!
//! A tier goes only when no policy stands in it: looked up first, and compared in the transaction that no policy was
//! written since. With a policy's own compare of its tier, whichever comes second is refused.

use appliance_resources::{Kind, ResourceKey, Status};
use appliance_storage::{Compare, Key, Reader};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use super::admission::{self, Operation};
use super::call::Call;
use super::list::selected;
use super::options::{DeleteOptions, delete_options};
use super::registry::{Cascade, Deleted, Preconditions};
use super::request::Scope;
use super::respond::{Refusal, json};
use super::selection::Selection;
use super::{Answer, Api};

pub(crate) async fn delete(api: &Api, call: &Call<'_>, scope: &Scope, body: &Bytes) -> Answer {
    let options = delete_options(call.query, call.decode(body)?.map(|body| body.value))?;
    let key = scope.key();
    let deleted = remove(api, call, &key, &options).await?;
    Ok(json(StatusCode::OK, &Status::success(key.kind, &key.name, deleted.uid.as_deref())))
}

/// Deletes one object, with every check; also one of those that a delete collection selects.
pub(crate) async fn remove(
    api: &Api,
    call: &Call<'_>,
    key: &ResourceKey,
    options: &DeleteOptions,
) -> Result<Deleted, Refusal> {
    admission::protect(key.kind, &key.name, Operation::Delete)?;
    let preconditions =
        Preconditions { uid: options.uid.clone(), resource_version: options.resource_version };
    let cascade = |reader: &Reader| goes_along(reader, key);
    api.registry.delete(call.writer()?, key, &preconditions, options.dry_run, cascade).await
}

/// What is deleted together with an object, or why it is not deleted at all.
fn goes_along(reader: &Reader, key: &ResourceKey) -> Result<Cascade, Refusal> {
    match key.kind {
        Kind::Tier => Ok(Cascade { guard: vec![without_policies(reader, &key.name)?], ..Cascade::default() }),
        Kind::Node => belongings(reader, &key.name),
        _ => Ok(Cascade::default()),
    }
}

/// What must hold for a tier that no policy stands in to be without one still.
fn without_policies(reader: &Reader, tier: &str) -> Result<Compare, Refusal> {
    let kind = Kind::GlobalNetworkPolicy;
    let in_tier = Selection::parse(kind, "", &format!("spec.tier={tier}")).map_err(Status::internal)?;
    let prefix = Key::from(ResourceKey::prefix(kind, None));
    let (than, policies) = reader.list(&prefix)?;
    match policies.iter().any(|policy| selected(&in_tier, &policy.key, policy)) {
        true => Err(admission::tier_in_use(tier)),
        false => Ok(Compare::NoneNewer { prefix, than }),
    }
}

/// A node's endpoints, settings and report. Without the node nothing would ever read or remove them. No endpoint may have
/// been written since they were looked at: it may have come to the node, or gone to another.
fn belongings(reader: &Reader, node: &str) -> Result<Cascade, Refusal> {
    let mut along = Cascade::default();
    for kind in [Kind::HostEndpoint, Kind::WorkloadEndpoint] {
        let prefix = Key::from(ResourceKey::prefix(kind, None));
        let (than, endpoints) = reader.list(&prefix)?;
        let mine = endpoints.into_iter().filter(|endpoint| node_of(&endpoint.value).as_deref() == Some(node));
        along.keys.extend(mine.map(|endpoint| endpoint.key));
        along.guard.push(Compare::NoneNewer { prefix, than });
    }
    let named = [
        ResourceKey::global(Kind::FelixConfiguration, format!("node.{node}")),
        ResourceKey::global(Kind::NodeReport, node),
    ];
    along.keys.extend(named.iter().map(|key| Key::from(key.path())));
    Ok(along)
}

fn node_of(endpoint: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Endpoint {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        node: String,
    }
    serde_json::from_slice::<Endpoint>(endpoint).ok().map(|endpoint| endpoint.spec.node)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use serde_json::json;
    use tokio::runtime::Handle;

    use super::*;
    use crate::api::harness::{Harness, endpoint, policy};

    #[test]
    fn the_node_of_an_endpoint_is_read_from_what_is_stored() {
        assert_eq!(node_of(br#"{"metadata":{},"spec":{"node":"n1","x":1}}"#).as_deref(), Some("n1"));
        assert_eq!(node_of(b"{}"), None);
    }

    #[tokio::test]
    async fn a_deleted_object_is_named_by_uid_and_gone() {
        let api = Harness::start().await;
        let uid = api.post("hostendpoints", endpoint("a")).await.value()["metadata"]["uid"].clone();
        let deleted = api.delete("hostendpoints/a", json!({"propagationPolicy": "Background"})).await;
        assert_eq!(deleted.code, 200);
        assert_eq!(deleted.value()["status"], "Success");
        assert_eq!(
            deleted.value()["details"],
            json!({"name": "a", "group": "projectcalico.org", "kind": "hostendpoints", "uid": uid})
        );
        assert_eq!(api.get("hostendpoints/a").await.code, 404);
        assert_eq!(api.delete("hostendpoints/a", json!({})).await.code, 404);
    }

    #[tokio::test]
    async fn a_dry_run_in_the_body_deletes_nothing() {
        let api = Harness::start().await;
        api.post("hostendpoints", endpoint("a")).await;
        assert_eq!(api.delete("hostendpoints/a", json!({"dryRun": ["All"]})).await.code, 200);
        assert_eq!(api.send("DELETE", "hostendpoints/a?dryRun=All", &[], "").await.code, 200);
        assert_eq!(api.get("hostendpoints/a").await.code, 200);
    }

    #[tokio::test]
    async fn preconditions_hold_or_nothing_goes() {
        let api = Harness::start().await;
        let created = api.post("hostendpoints", endpoint("a")).await;
        for wrong in [json!({"uid": "another"}), json!({"resourceVersion": "1"})] {
            let refused = api.delete("hostendpoints/a", json!({ "preconditions": wrong })).await;
            assert_eq!(refused.value()["reason"], "Conflict");
        }
        let right = json!({"uid": created.value()["metadata"]["uid"], "resourceVersion": created.version()});
        assert_eq!(api.delete("hostendpoints/a", json!({ "preconditions": right })).await.code, 200);
    }

    #[tokio::test]
    async fn a_tier_goes_when_it_is_empty_and_ours_never() {
        let api = Harness::start().await;
        api.post("tiers", json!({"metadata": {"name": "ops"}, "spec": {"order": 5}})).await;
        api.post("globalnetworkpolicies", policy("p", "ops")).await;
        assert_eq!(
            api.delete("tiers/ops", json!({})).await.summary(),
            "403 Forbidden: tiers.projectcalico.org \"ops\" is forbidden: operation delete is not supported on ops: Cannot delete a non-empty tier"
        );
        api.delete("globalnetworkpolicies/p", json!({})).await;
        assert_eq!(api.delete("tiers/ops", json!({})).await.code, 200);
        assert_eq!(
            api.delete("tiers/default", json!({})).await.summary(),
            "403 Forbidden: tiers.projectcalico.org \"default\" is forbidden: operation Delete is not supported on default: Cannot delete default tier"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_policy_that_comes_between_the_look_and_the_deletion_keeps_its_tier() {
        let api = Harness::start().await;
        api.post("tiers", json!({"metadata": {"name": "ops"}, "spec": {"order": 5}})).await;
        let key = ResourceKey::global(Kind::Tier, "ops");
        let looks = AtomicUsize::new(0);
        let overtaken = |reader: &Reader| {
            let along = goes_along(reader, &key);
            if looks.fetch_add(1, Relaxed) == 0 {
                let created = api.post("globalnetworkpolicies", policy("p", "ops"));
                let created = tokio::task::block_in_place(|| Handle::current().block_on(created));
                assert_eq!(created.code, 201);
                assert!(along.is_ok(), "it was not there when we looked");
            }
            along
        };
        let author = crate::author::node("n1", "test");
        let deleted = api.registry.delete(author, &key, &Preconditions::default(), false, overtaken).await;
        assert!(deleted.is_err() && looks.load(Relaxed) == 2, "the second look sees it: {deleted:?}");
        assert_eq!(api.get("tiers/ops").await.code, 200);

        api.delete("globalnetworkpolicies/p", json!({})).await;
        assert_eq!(api.delete("tiers/ops", json!({})).await.code, 200, "what went does not count");
        assert_eq!(api.post("globalnetworkpolicies", policy("p", "ops")).await.code, 422);
    }

    #[tokio::test]
    async fn a_node_takes_its_endpoints_along() {
        let api = Harness::start().await;
        api.post("nodes", json!({"metadata": {"name": "n1"}})).await;
        api.post("hostendpoints", endpoint("mine")).await;
        let mut other = endpoint("other");
        other["spec"]["node"] = "n2".into();
        api.post("hostendpoints", other).await;
        assert_eq!(api.delete("nodes/n1", json!({})).await.code, 200);
        assert_eq!(api.get("hostendpoints/mine").await.code, 404);
        assert_eq!(api.get("hostendpoints/other").await.code, 200);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_endpoint_that_moves_to_another_node_while_its_own_is_deleted_stays() {
        let api = Harness::start().await;
        api.post("nodes", json!({"metadata": {"name": "n1"}})).await;
        api.post("hostendpoints", endpoint("stays-mine")).await;
        api.post("hostendpoints", endpoint("moves")).await;
        let key = ResourceKey::global(Kind::Node, "n1");
        let looks = AtomicUsize::new(0);
        let overtaken = |reader: &Reader| {
            let along = goes_along(reader, &key);
            if looks.fetch_add(1, Relaxed) == 0 {
                let moved = api.merge("hostendpoints/moves", json!({"spec": {"node": "n2"}}));
                let moved = tokio::task::block_in_place(|| Handle::current().block_on(moved));
                assert_eq!(moved.code, 200, "{}", moved.summary());
            }
            along
        };
        let author = crate::author::node("n1", "test");
        let deleted = api.registry.delete(author, &key, &Preconditions::default(), false, overtaken).await;
        assert!(deleted.is_ok() && looks.load(Relaxed) == 2, "the second look sees it: {deleted:?}");
        assert_eq!(api.get("nodes/n1").await.code, 404);
        assert_eq!(api.get("hostendpoints/stays-mine").await.code, 404);
        assert_eq!(api.get("hostendpoints/moves").await.value()["spec"]["node"], "n2");
    }
}
