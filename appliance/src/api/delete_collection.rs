//! DELETE of a collection, or of what selectors pick from it. Each object goes in a transaction of its own, with the
//! checks of a single delete; the first refusal ends the work and is the answer. Answered with the list of what went.
//!
//! "Later" says that nothing was done. Once something is gone the same refusal is told as a timeout.

use appliance_resources::{ResourceKey, Status};
use appliance_storage::Record;
use bytes::Bytes;
use http::StatusCode;

use super::call::Call;
use super::delete::remove;
use super::list::select;
use super::options::{DeleteOptions, delete_options, list_options};
use super::request::Scope;
use super::respond::answer;
use super::{Answer, Api};

pub(crate) async fn delete_collection(api: &Api, call: &Call<'_>, scope: &Scope, body: &Bytes) -> Answer {
    let options = delete_options(call.query, call.decode(body)?.map(|body| body.value))?;
    let list = list_options(scope.kind, call.query)?;
    let renderer = call.renderer()?;
    let (revision, records) = select(&api.registry, scope, &list.selection, list.freshness).await?;
    let mut gone: Vec<Record> = Vec::with_capacity(records.len());
    for record in records {
        let Some(key) = record.key.as_str().and_then(ResourceKey::parse) else { continue };
        // Only what was selected goes: an object changed since then may no longer match.
        let this = DeleteOptions { resource_version: Some(record.mod_revision.0), ..options.clone() };
        match remove(api, call, &key, &this).await {
            Ok(deleted) => gone.push(deleted.record),
            Err(refusal) if refusal.is_not_found() => {}
            Err(refusal) if refusal.is_for_later() && !gone.is_empty() => {
                return Err(
                    Status::timeout(format!("{} objects were deleted, then: {refusal}", gone.len())).into()
                );
            }
            Err(refusal) => return Err(refusal),
        }
    }
    let body = renderer.list(scope.kind, revision, &gone)?;
    Ok(answer(StatusCode::OK, renderer.representation.format, body))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::api::harness::{Harness, endpoint};

    #[tokio::test]
    async fn what_is_selected_goes_and_the_rest_stays() {
        let api = Harness::start().await;
        for name in ["a", "b"] {
            api.post("hostendpoints", endpoint(name)).await;
        }
        let mut other = endpoint("c");
        other["metadata"]["labels"] = json!({"app": "db"});
        api.post("hostendpoints", other).await;
        let gone = api.send("DELETE", "hostendpoints?labelSelector=app%3Dweb", &[], "").await;
        assert_eq!(gone.code, 200);
        assert_eq!(gone.value()["items"].as_array().map(Vec::len), Some(2));
        let left = api.get("hostendpoints").await.value();
        assert_eq!(left["items"][0]["metadata"]["name"], "c");
        assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    }

    /// 503 would say that nothing was done.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_loses_the_cluster_half_way_is_not_told_that_nothing_was_done() {
        let api = Harness::start().await;
        for number in 0..200 {
            api.post("hostendpoints", endpoint(&format!("e{number:03}"))).await;
        }
        let deleting = api.send("DELETE", "hostendpoints", &[], "");
        let stopping = async {
            while api.get("hostendpoints/e000?resourceVersion=0").await.code == 200 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            api.raft.stop().await;
        };
        let (refused, ()) = tokio::join!(deleting, stopping);
        assert_eq!(
            (refused.code, &refused.value()["reason"]),
            (504, &json!("Timeout")),
            "{}",
            refused.summary()
        );
        assert!(refused.summary().contains("objects were deleted, then"), "{}", refused.summary());
        assert!(!refused.headers.contains_key("retry-after"));
    }

    #[tokio::test]
    async fn protected_objects_end_the_work() {
        let api = Harness::start().await;
        assert_eq!(api.send("DELETE", "tiers", &[], "").await.code, 403);
        assert_eq!(api.get("tiers/default").await.code, 200);
    }
}
