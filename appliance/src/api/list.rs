//! GET of a collection. It promises one revision: the items are exactly what stood at the list's `resourceVersion`,
//! and a watch from there misses nothing and repeats nothing. Lists are answered whole, whatever `limit` says.

use appliance_resources::ResourceKey;
use appliance_storage::{Key, Record, Revision};
use http::StatusCode;

use super::call::Call;
use super::options::{Freshness, list_options};
use super::registry::Registry;
use super::request::Scope;
use super::respond::{Refusal, answer, expired};
use super::selection::Selection;
use super::{Answer, Api};

pub(crate) async fn list(api: &Api, call: &Call<'_>, scope: &Scope) -> Answer {
    let options = list_options(scope.kind, call.query)?;
    let renderer = call.renderer()?;
    let (revision, records) = select(&api.registry, scope, &options.selection, options.freshness).await?;
    // The store keeps the past for watches, not for lists.
    if let Freshness::Exact(wanted) = options.freshness
        && revision != Revision(wanted)
    {
        return Err(expired(wanted, revision.0).into());
    }
    let body = renderer.list(scope.kind, revision, &records)?;
    Ok(answer(StatusCode::OK, renderer.representation.format, body))
}

/// The records of a scope that are selected, in key order, and the revision they stood at.
pub(crate) async fn select(
    registry: &Registry,
    scope: &Scope,
    selection: &Selection,
    freshness: Freshness,
) -> Result<(Revision, Vec<Record>), Refusal> {
    registry.settle(freshness).await?;
    let (revision, mut records) = registry.reader().list(&prefix(scope, selection))?;
    if !selection.is_everything() {
        records.retain(|record| selected(selection, &record.key, record));
    }
    Ok((revision, records))
}

/// The keys that can match: all of the scope, or one when the selector pins the name.
pub(crate) fn prefix(scope: &Scope, selection: &Selection) -> Key {
    let pinned = selection.pinned_namespace().filter(|pinned| scope.kind.namespaced() && !pinned.is_empty());
    let namespace = scope.namespace.as_deref().or(pinned);
    match selection.pinned_name() {
        Some(name) if scope.kind.namespaced() == namespace.is_some() => {
            let (namespace, name) = (namespace.map(str::to_owned), name.to_owned());
            Key::from(ResourceKey { kind: scope.kind, namespace, name }.path())
        }
        _ => Key::from(ResourceKey::prefix(scope.kind, namespace)),
    }
}

/// Whether a record under this key is selected. A key that is none of ours never is.
pub(crate) fn selected(selection: &Selection, key: &Key, record: &Record) -> bool {
    selection.is_everything()
        || key
            .as_str()
            .and_then(ResourceKey::parse)
            .is_some_and(|key| selection.matches(key.namespace.as_deref(), &key.name, &record.value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::harness::{Harness, Reply, endpoint, policy};

    fn names(reply: &Reply) -> Vec<Value> {
        reply.value()["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["metadata"]["name"].clone())
            .collect()
    }

    #[tokio::test]
    async fn a_list_is_one_revision_in_order() {
        let api = Harness::start().await;
        assert_eq!(names(&api.get("hostendpoints").await), [] as [Value; 0]);
        for name in ["b", "a", "b.c"] {
            api.post("hostendpoints", endpoint(name)).await;
        }
        let list = api.get("hostendpoints?limit=1").await;
        assert_eq!(names(&list), ["a", "b", "b.c"]);
        assert_eq!(list.value()["kind"], "HostEndpointList");
        let newest = api.get("hostendpoints/b.c").await.version();
        assert_eq!(list.version(), newest);
    }

    #[tokio::test]
    async fn selectors_pick() {
        let api = Harness::start().await;
        for name in ["a", "ab"] {
            api.post("hostendpoints", endpoint(name)).await;
        }
        api.post("globalnetworkpolicies", policy("p", "default")).await;
        for (query, expected) in [
            ("hostendpoints?fieldSelector=metadata.name%3Da", vec!["a"]),
            ("hostendpoints?fieldSelector=metadata.name!%3Da", vec!["ab"]),
            ("hostendpoints?labelSelector=app%3Dweb", vec!["a", "ab"]),
            ("hostendpoints?labelSelector=app%3Ddb", vec![]),
            ("globalnetworkpolicies?fieldSelector=spec.tier%3Ddefault", vec!["p"]),
            ("globalnetworkpolicies?fieldSelector=spec.tier%3Dother", vec![]),
        ] {
            assert_eq!(names(&api.get(query).await), expected, "{query}");
        }
    }

    #[tokio::test]
    async fn a_version_is_met_or_refused() {
        let api = Harness::start().await;
        let now = api.get("tiers").await.version();
        for query in ["resourceVersion=0", &format!("resourceVersion={now}&resourceVersionMatch=Exact")] {
            assert_eq!(api.get(&format!("tiers?{query}")).await.code, 200, "{query}");
        }
        api.post("hostendpoints", endpoint("a")).await;
        let exact = api.get(&format!("tiers?resourceVersion={now}&resourceVersionMatch=Exact")).await;
        assert_eq!(exact.value()["reason"], "Expired");
    }

    #[tokio::test]
    async fn tables_and_metadata_are_lists_too() {
        let api = Harness::start().await;
        api.post("hostendpoints", endpoint("a")).await;
        let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
        let table = api.send("GET", "hostendpoints", &table, "").await.value();
        assert_eq!(table["rows"][0]["cells"], json!(["a", "n1", "eth0"]));
        let metadata = [("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")];
        let list = api.send("GET", "hostendpoints", &metadata, "").await.value();
        assert_eq!(list["kind"], "PartialObjectMetadataList");
        assert_eq!(list["items"][0].get("spec"), None);
        let html = api.send("GET", "hostendpoints", &[("accept", "text/html")], "").await;
        assert_eq!(
            html.summary(),
            "406 NotAcceptable: only the following media types are accepted: application/json, application/yaml"
        );
    }
}
