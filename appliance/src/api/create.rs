//! POST to a collection. It promises that the name was free: one transaction compares and writes. Answered with what
//! is stored now, defaults and stamps included; `dryRun=All` answers the same without writing.

use appliance_resources::{AnyResource, Status};
use appliance_storage::Author;
use bytes::Bytes;
use http::StatusCode;

use super::admission::{self, Operation};
use super::call::Call;
use super::incoming::{self, Expected};
use super::options::write_options;
use super::registry::Written;
use super::request::{Scope, Verb};
use super::respond::Refusal;
use super::{Answer, Api, writing};

pub(crate) async fn create(api: &Api, call: &Call<'_>, scope: &Scope, body: &Bytes) -> Answer {
    let options = write_options("CreateOptions", call.query)?;
    let expected = Expected { kind: scope.kind, namespace: scope.namespace.as_deref(), name: None };
    let body = call.decode(body)?.ok_or_else(|| Status::bad_request("the body of the request is empty"))?;
    let incoming = incoming::read(expected, body, options.field_validation)?;
    let name = Some(incoming.resource.meta().name.clone()).filter(|name| !name.is_empty());
    // The path does not name what is created, so what a node may create is decided only here.
    call.authorise(Verb::Create, &Scope { name, ..scope.clone() })?;
    admission::protect(scope.kind, &incoming.resource.meta().name, Operation::Create)?;
    let written = store(api, call, incoming.resource, options.dry_run).await?;
    call.written(StatusCode::CREATED, scope.kind, &written, &incoming.warnings)
}

/// A generated name that is taken is drawn again this often.
const GENERATE_ATTEMPTS: usize = 8;

async fn store(
    api: &Api,
    call: &Call<'_>,
    mut resource: AnyResource,
    dry_run: bool,
) -> Result<Written, Refusal> {
    let author = call.writer()?;
    let base = resource.meta_mut().generate_name.take().filter(|base| !base.is_empty());
    let Some(base) = base.filter(|_| resource.meta().name.is_empty()) else {
        return api.registry.create(author, resource, dry_run).await;
    };
    for attempt in 0..GENERATE_ATTEMPTS {
        resource.meta_mut().name = generate_name(&base, letters(&author, attempt)?);
        match api.registry.create(author.clone(), resource.clone(), dry_run).await {
            Err(refusal) if refusal.is_already_exists() => {}
            result => return result,
        }
    }
    let mut status = Status::already_exists(resource.kind(), &resource.meta().name);
    status.message.push_str(", the server was not able to generate a unique name for the object");
    Err(status.into())
}

/// The longest part of a wish that goes into a name, so that name and suffix fit a label.
const GENERATED_BASE_CHARS_MAX: usize = 58;

/// No vowels, so that no words come out, and nothing that looks like something else.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Bytes nobody chose. Where the client named its request they follow from the name, so that the request draws the same
/// names wherever it arrives again.
fn letters(author: &Author, attempt: usize) -> Result<[u8; 5], Refusal> {
    let mut letters = [0; 5];
    match author.request {
        Some(request) => letters.copy_from_slice(&writing::drawn(request, attempt)[..5]),
        None => getrandom::fill(&mut letters)
            .map_err(|error| Status::internal(format!("no randomness: {error}")))?,
    }
    Ok(letters)
}

/// The base and five characters nobody chose.
fn generate_name(base: &str, letters: [u8; 5]) -> String {
    let letter = |byte: u8| char::from(SUFFIX_ALPHABET[usize::from(byte) % SUFFIX_ALPHABET.len()]);
    base.chars().take(GENERATED_BASE_CHARS_MAX).chain(letters.map(letter)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::caller::Role;
    use crate::api::harness::{Harness, endpoint, policy};

    #[test]
    fn a_generated_name_keeps_the_base_and_fits() {
        let name = generate_name("web-", [0, 1, 2, 26, 27]);
        assert_eq!(name, "web-bcd9b");
        assert_eq!(generate_name(&"x".repeat(100), [255; 5]).len(), 63);
    }

    #[tokio::test]
    async fn a_new_object_is_answered_as_it_is_stored() {
        let api = Harness::start().await;
        let created = api.post("hostendpoints", endpoint("a")).await;
        assert_eq!(created.code, 201);
        let value = created.value();
        assert_eq!(value["kind"], "HostEndpoint");
        assert_eq!(value["metadata"]["generation"], 1);
        assert_eq!(value["metadata"]["uid"].as_str().map(str::len), Some(36));
        assert_eq!(api.get("hostendpoints/a").await.value(), value);
    }

    #[tokio::test]
    async fn what_can_not_be_created_is_refused_in_kubernetes_words() {
        let api = Harness::start().await;
        api.post("hostendpoints", endpoint("taken")).await;
        let mut versioned = endpoint("v");
        versioned["metadata"]["resourceVersion"] = "5".into();
        for (path, body, expected) in [
            (
                "hostendpoints",
                endpoint("taken"),
                "409 AlreadyExists: hostendpoints.projectcalico.org \"taken\" already exists",
            ),
            (
                "hostendpoints",
                versioned,
                "400 BadRequest: resourceVersion should not be set on objects to be created",
            ),
            (
                "globalnetworkpolicies",
                policy("p", "nowhere"),
                "422 Invalid: GlobalNetworkPolicy.projectcalico.org \"p\" is invalid: spec.tier: Invalid value: \"nowhere\": resource does not exist: Tier(nowhere)",
            ),
            (
                "clusterinformations",
                json!({"metadata": {"name": "x"}}),
                "403 Forbidden: clusterinformations.projectcalico.org \"x\" is forbidden: operation create or apply is not supported on ClusterInformation",
            ),
            (
                "profiles",
                json!({"metadata": {"name": "projectcalico-default-allow"}}),
                "409 AlreadyExists: profiles.projectcalico.org \"projectcalico-default-allow\" already exists",
            ),
            ("bananas", json!({}), "404 NotFound: the server could not find the requested resource"),
        ] {
            assert_eq!(api.post(path, body).await.summary(), expected);
        }
        let empty = api.send("POST", "hostendpoints", &[], "").await;
        assert_eq!(empty.summary(), "400 BadRequest: the body of the request is empty");
        let cbor = api.send("POST", "tiers", &[("content-type", "application/cbor")], "x").await;
        assert_eq!(cbor.code, 415);
        let large = vec![b' '; crate::api::body::BODY_BYTES_MAX + 1];
        assert_eq!(api.send("POST", "tiers", &[], large).await.code, 413);
    }

    #[tokio::test]
    async fn every_wrong_field_is_a_cause() {
        let api = Harness::start().await;
        let refused = api.post("hostendpoints", json!({"metadata": {"name": "x"}, "spec": {}})).await;
        assert_eq!(refused.code, 422, "{}", refused.summary());
        let causes = refused.value()["details"]["causes"].clone();
        assert!(causes.as_array().is_some_and(|causes| !causes.is_empty()), "{causes}");
    }

    #[tokio::test]
    async fn a_dry_run_answers_and_writes_nothing() {
        let api = Harness::start().await;
        let dry = api.post("hostendpoints?dryRun=All", endpoint("a")).await;
        assert_eq!(dry.code, 201);
        assert_eq!(dry.value()["metadata"].get("resourceVersion"), None);
        assert_eq!(dry.value()["metadata"]["generation"], 1);
        assert_eq!(api.get("hostendpoints/a").await.code, 404);
        api.post("hostendpoints", endpoint("a")).await;
        assert_eq!(api.post("hostendpoints?dryRun=All", endpoint("a")).await.code, 409);
    }

    #[tokio::test]
    async fn unknown_fields_are_warned_of_or_refused() {
        let api = Harness::start().await;
        let mut odd = endpoint("a");
        odd["spec"]["bogus"] = 1.into();
        let strict = api.post("hostendpoints?fieldValidation=Strict", odd.clone()).await;
        assert_eq!(
            strict.summary(),
            "400 BadRequest: HostEndpoint in version \"v3\" cannot be handled as a HostEndpoint: strict decoding error: unknown field \"spec.bogus\""
        );
        let warned = api.post("hostendpoints", odd.clone()).await;
        assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"spec.bogus\\\"\"");
        assert_eq!(warned.value()["spec"].get("bogus"), None);
        odd["metadata"]["name"] = "b".into();
        let ignored = api.post("hostendpoints?fieldValidation=Ignore", odd).await;
        assert_eq!((ignored.code, ignored.headers.get("warning")), (201, None));
    }

    #[tokio::test]
    async fn yaml_goes_in_and_comes_out() {
        let api = Harness::start().await;
        let yaml = "metadata:\n  name: y\nspec:\n  nets: [192.0.2.0/24]\n";
        let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
        let reply = api.send("POST", "globalnetworksets", &headers, yaml).await;
        assert_eq!((reply.code, reply.headers["content-type"].as_bytes()), (201, &b"application/yaml"[..]));
        let text = std::str::from_utf8(&reply.body).unwrap();
        assert!(text.contains("192.0.2.0/24"), "{text}");
    }

    #[tokio::test]
    async fn a_generated_name_is_free() {
        let api = Harness::start().await;
        let mut body = endpoint("");
        body["metadata"]["generateName"] = "web-".into();
        let (first, second) =
            (api.post("hostendpoints", body.clone()).await, api.post("hostendpoints", body).await);
        assert_eq!((first.code, second.code), (201, 201), "{}", first.summary());
        assert_ne!(first.value()["metadata"]["name"], second.value()["metadata"]["name"]);
    }

    #[tokio::test]
    async fn a_revision_keeps_its_author() {
        let api = Harness::start().await;
        let reason = [("appliance-reason", "ticket 42")];
        let created = api.send("POST", "hostendpoints", &reason, endpoint("a").to_string()).await;
        let revision = appliance_storage::Revision(created.version().parse().unwrap());
        let author = api.registry.reader().author(revision).unwrap().expect("an author");
        assert_eq!((author.name.as_str(), author.source.as_str()), ("root", "unix:0"));
        assert_eq!(author.reason, "ticket 42");
        assert!(author.time > 0);
        let long = "x".repeat(2_000);
        let refused = api.send("POST", "tiers", &[("appliance-reason", &long)], json!({}).to_string()).await;
        assert_eq!(refused.code, 400);
    }

    #[tokio::test]
    async fn a_node_creates_itself_and_no_other() {
        let api = Harness::start().await;
        let node = api.as_role("system:node:n1", Role::Node("n1".into()));
        assert_eq!(node.post("nodes", json!({"metadata": {"name": "n1"}})).await.code, 201);
        assert_eq!(
            node.post("nodes", json!({"metadata": {"name": "n2"}})).await.summary(),
            "403 Forbidden: nodes.projectcalico.org \"n2\" is forbidden: User \"system:node:n1\" cannot create resource \"nodes\" in API group \"projectcalico.org\" at the cluster scope"
        );
    }

    #[tokio::test]
    async fn of_many_who_want_a_name_one_gets_it() {
        let api = Harness::start().await;
        let wishes = (0..8).map(|_| api.post("hostendpoints", endpoint("a")));
        let mut codes: Vec<u16> =
            futures_util::future::join_all(wishes).await.iter().map(|reply| reply.code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [201, 409, 409, 409, 409, 409, 409, 409]);
    }
}
