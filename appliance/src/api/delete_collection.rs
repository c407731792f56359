//! DELETE of a collection, or of what selectors pick from it. Each object goes in a transaction of its own, with the
//! checks of a single delete; the first refusal ends the work and is the answer. Answered with the list of what went.

use appliance_resources::ResourceKey;
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
            Err(refusal) => return Err(refusal),
        }
    }
    let body = renderer.list(scope.kind, revision, &gone)?;
    Ok(answer(StatusCode::OK, renderer.representation.format, body))
}

#[cfg(test)]
mod tests {
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

    #[tokio::test]
    async fn protected_objects_end_the_work() {
        let api = Harness::start().await;
        assert_eq!(api.send("DELETE", "tiers", &[], "").await.code, 403);
        assert_eq!(api.get("tiers/default").await.code, 200);
    }
}
