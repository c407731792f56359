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
