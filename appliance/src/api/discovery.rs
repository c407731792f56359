//! Discovery: what is served here, in the two forms clients ask for it, and `/version`. Pure.
//!
//! Everything follows from the closed list of kinds; nothing is advertised that can not be listed, for one unreadable
//! group makes kubectl complain on every command. OpenAPI belongs to a later issue and answers 404.

use appliance_resources::Kind;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Answer;
use super::accept::{self, Aggregated};
use super::body::ApiBody;
use super::call::Call;
use super::request::{GROUPS, Verb, version_of};
use super::respond::json as answer;
use crate::version::{COMMIT, VERSION};

/// The Kubernetes API level that clients may count on; our own version stands behind it.
const KUBERNETES_MAJOR: &str = "1";
const KUBERNETES_MINOR: &str = "33";

/// `GET /version`
pub(crate) fn version() -> Answer {
    let git_version = format!("v{KUBERNETES_MAJOR}.{KUBERNETES_MINOR}.0-appliance.{VERSION}");
    let platform = format!("linux/{}", go_architecture(std::env::consts::ARCH));
    Ok(answer(
        StatusCode::OK,
        &json!({"major": KUBERNETES_MAJOR, "minor": KUBERNETES_MINOR, "gitVersion": git_version,
            "gitCommit": COMMIT, "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
            "compiler": "rustc", "platform": platform}),
    ))
}

/// Clients know architectures by Go's names.
fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `GET /api`: the core group, of which we serve nothing. It answers both forms all the same: a client that gets
/// only one of `/api` and `/apis` aggregated discards it.
pub(crate) fn core_versions(call: &Call<'_>) -> Answer {
    Ok(match accept::discovery(call.accept()) {
        Some(form) => aggregated(call, form, Vec::new()),
        None => answer(
            StatusCode::OK,
            &json!({"kind": "APIVersions", "versions": [], "serverAddressByClientCIDRs": []}),
        ),
    })
}

/// `GET /apis`
pub(crate) fn groups(call: &Call<'_>) -> Answer {
    Ok(match accept::discovery(call.accept()) {
        Some(form) => aggregated(call, form, GROUPS.into_iter().map(aggregated_group).collect()),
        None => {
            let groups: Vec<Value> = GROUPS.into_iter().map(group_value).collect();
            answer(StatusCode::OK, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
    })
}

/// `GET /apis/<group>`
pub(crate) fn group(group: &str) -> Answer {
    let mut value = group_value(group);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Ok(answer(StatusCode::OK, &value))
}

/// `GET /apis/<group>/<version>`
pub(crate) fn resources(group: &str) -> Answer {
    let resources: Vec<Value> = kinds(group)
        .map(|kind| {
            json!({"name": kind.plural(), "singularName": kind.singular(), "namespaced": kind.namespaced(),
                "group": kind.group(), "version": kind.version(), "kind": kind.name(), "verbs": verbs(),
                "shortNames": kind.short_names(), "categories": categories()})
        })
        .collect();
    let group_version = format!("{group}/{}", version_of(group));
    Ok(answer(
        StatusCode::OK,
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
            "resources": resources}),
    ))
}

fn kinds(group: &str) -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(move |kind| kind.group() == group)
}

fn verbs() -> Vec<&'static str> {
    Verb::ALL.into_iter().map(Verb::name).collect()
}

/// `kubectl get calico` lists everything; `all` is what people type first.
fn categories() -> [&'static str; 2] {
    ["all", "calico"]
}

fn group_value(group: &str) -> Value {
    let version =
        json!({"groupVersion": format!("{group}/{}", version_of(group)), "version": version_of(group)});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

fn aggregated_group(group: &str) -> Value {
    let resources: Vec<Value> = kinds(group)
        .map(|kind| {
            json!({"resource": kind.plural(), "singularResource": kind.singular(),
                "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
                "responseKind": {"group": kind.group(), "version": kind.version(), "kind": kind.name()},
                "verbs": verbs(), "shortNames": kind.short_names(), "categories": categories()})
        })
        .collect();
    json!({"metadata": {"name": group, "creationTimestamp": null},
        "versions": [{"version": version_of(group), "freshness": "Current", "resources": resources}]})
}

/// The aggregated document, or 304 for a client whose copy is the same.
fn aggregated(call: &Call<'_>, form: Aggregated, items: Vec<Value>) -> Response<ApiBody> {
    let version = match form {
        Aggregated::V2 => "v2",
        Aggregated::V2Beta1 => "v2beta1",
    };
    let document = json!({"kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items});
    let digest = Sha256::digest(document.to_string());
    let tag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = call.get(&IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let mut response = if known { not_modified() } else { answer(StatusCode::OK, &document) };
    let content_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    for (name, value) in [(CONTENT_TYPE, content_type), (ETAG, tag)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn not_modified() -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::Whole(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::harness::Harness;

    #[tokio::test]
    async fn every_kind_is_discovered() {
        let api = Harness::start().await;
        let resources = api.get("/apis/projectcalico.org/v3").await.value();
        let found = |name: &str| -> Value {
            let resources = resources["resources"].as_array().expect("resources");
            resources.iter().find(|resource| resource["name"] == name).cloned().expect("is there")
        };
        assert_eq!(found("hostendpoints")["shortNames"], json!(["hep", "heps"]));
        assert_eq!(found("workloadendpoints")["namespaced"], true);
        assert_eq!(found("tiers")["verbs"].as_array().map(Vec::len), Some(8));
        let ours = api.get("/apis/appliance/v1").await.value();
        assert_eq!(ours["resources"][0]["kind"], "NodeReport");
        assert_eq!(api.get("/apis").await.value()["groups"][0]["name"], "projectcalico.org");
        assert_eq!(api.get("/apis/appliance").await.value()["kind"], "APIGroup");
        assert_eq!(api.get("/api").await.value()["versions"], json!([]));
    }

    #[tokio::test]
    async fn aggregated_discovery_is_cached_by_its_tag() {
        let api = Harness::start().await;
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        for path in ["/api", "/apis"] {
            let reply = api.send("GET", path, &[("accept", accept)], "").await;
            assert_eq!(reply.value()["kind"], "APIGroupDiscoveryList");
            assert_eq!(
                reply.headers["content-type"],
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            );
            let tag = reply.headers["etag"].to_str().expect("a tag").to_owned();
            let again = api.send("GET", path, &[("accept", accept), ("if-none-match", &tag)], "").await;
            assert_eq!((again.code, again.body.len()), (304, 0));
        }
    }

    #[tokio::test]
    async fn the_version_is_a_kubernetes_version() {
        let api = Harness::start().await;
        for path in ["/version", "/version/"] {
            let version = api.get(path).await.value();
            assert_eq!(version["gitVersion"], format!("v1.33.0-appliance.{}", crate::version::VERSION));
            assert_eq!(version.as_object().map(serde_json::Map::len), Some(9));
        }
    }

    #[tokio::test]
    async fn openapi_is_not_found_cleanly() {
        let api = Harness::start().await;
        for path in ["/openapi/v2", "/openapi/v3"] {
            let reply = api.get(path).await;
            assert_eq!(reply.summary(), "404 NotFound: the server could not find the requested resource");
            assert_eq!(reply.value()["kind"], "Status");
        }
    }
}
