//! The questions a client asks about itself: may I, what may I, who am I. Pure.
//!
//! Answered from the same table that decides requests ([`caller::allows`]), so the answer is what will happen.

use appliance_resources::{Kind, Status};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::Answer;
use super::call::Call;
use super::caller::{self, NODE_KINDS, NODE_VERBS, POLICY_KINDS, Role};
use super::decode::media_type;
use super::protobuf;
use super::request::{Review, Scope, Verb};
use super::respond::{Refusal, json as answer};

pub(crate) fn review(call: &Call<'_>, review: Review, body: &Bytes) -> Answer {
    let Some(role) = call.caller.role() else { return Err(Status::unauthorized().into()) };
    let question = question(call, body)?;
    let spec = question.get("spec").cloned().unwrap_or_else(|| json!({}));
    let (group, kind, status) = match review {
        Review::Access => ("authorization.k8s.io/v1", "SelfSubjectAccessReview", access(role, &spec)?),
        Review::Rules => ("authorization.k8s.io/v1", "SelfSubjectRulesReview", rules(role)),
        Review::Identity => ("authentication.k8s.io/v1", "SelfSubjectReview", who(call, role)),
    };
    Ok(answer(
        StatusCode::CREATED,
        &json!({"kind": kind, "apiVersion": group, "metadata": {"creationTimestamp": null}, "spec": spec,
            "status": status}),
    ))
}

fn question(call: &Call<'_>, body: &Bytes) -> Result<Value, Refusal> {
    if media_type(call.content_type()) == "application/vnd.kubernetes.protobuf" {
        return protobuf::review(body).map_err(|error| Status::bad_request(error.to_string()).into());
    }
    Ok(call.decode(body)?.map_or_else(|| json!({}), |decoded| decoded.value))
}

/// Whether the role may do what the review asks about.
fn access(role: &Role, spec: &Value) -> Result<Value, Refusal> {
    let allowed = match (spec.get("resourceAttributes"), spec.get("nonResourceAttributes")) {
        (Some(attributes), _) => resource_access(role, attributes),
        (None, Some(attributes)) => path_access(role, attributes["path"].as_str().unwrap_or("")),
        (None, None) => {
            let message =
                "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(Status::bad_request(message).into());
        }
    };
    let reason = match allowed {
        true => format!("role {}", role.group()),
        false => format!("role {} does not allow it", role.group()),
    };
    Ok(json!({"allowed": allowed, "reason": reason}))
}

/// Names that stand for everything, or for nothing of ours, are answered for whoever may do everything.
fn resource_access(role: &Role, attributes: &Value) -> bool {
    let text = |field: &str| attributes[field].as_str().unwrap_or("");
    let kind = Kind::from_plural(text("group"), text("resource"));
    match (kind, Verb::from_name(text("verb")), text("subresource")) {
        (Some(kind), Some(verb), "") => {
            let name = Some(text("name").to_owned()).filter(|name| !name.is_empty());
            // kubectl sends its namespace even for kinds that have none; no role is bound to one.
            caller::allows(role, verb, &Scope { kind, namespace: None, name })
        }
        _ => *role == Role::Admin,
    }
}

/// Everyone authenticated reads the paths that are no objects.
fn path_access(role: &Role, path: &str) -> bool {
    let open = ["/healthz", "/livez", "/readyz", "/metrics", "/version", "/api", "/apis"];
    *role == Role::Admin || open.contains(&path.trim_end_matches('/')) || path.starts_with("/apis/")
}

/// Everything the role may do, as `kubectl auth can-i --list` prints it.
fn rules(role: &Role) -> Value {
    let rule = |verbs: &[Verb], kinds: &[Kind], names: &[&str]| {
        let verbs: Vec<&str> = verbs.iter().map(|verb| verb.name()).collect();
        let kinds_of = |group: &str| -> Vec<&str> {
            kinds.iter().filter(|kind| kind.group() == group).map(|kind| kind.plural()).collect()
        };
        let rules = super::request::GROUPS.into_iter().map(|group| (group, kinds_of(group)));
        rules
            .filter(|(_, resources)| !resources.is_empty())
            .map(|(group, resources)| {
                json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "resourceNames": names})
            })
            .collect::<Vec<Value>>()
    };
    let reading = [Verb::Get, Verb::List, Verb::Watch];
    let resource_rules = match role {
        Role::Admin => {
            vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": []})]
        }
        Role::Operator => [rule(&Verb::ALL, &POLICY_KINDS, &[]), rule(&reading, Kind::ALL, &[])].concat(),
        Role::Viewer => rule(&reading, Kind::ALL, &[]),
        Role::Node(name) => rule(&NODE_VERBS, &NODE_KINDS, &[name]),
    };
    let paths = ["/healthz", "/livez", "/readyz", "/metrics", "/version", "/api", "/apis", "/apis/*"];
    let paths: Vec<&str> = if *role == Role::Admin { vec!["*"] } else { paths.to_vec() };
    json!({"resourceRules": resource_rules, "incomplete": false,
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": paths}]})
}

fn who(call: &Call<'_>, role: &Role) -> Value {
    json!({"userInfo": {"username": call.caller.name(), "groups": [role.group(), "system:authenticated"]}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::harness::Harness;

    fn check(role: &Role, attributes: Value) -> bool {
        access(role, &json!({ "resourceAttributes": attributes })).unwrap()["allowed"] == true
    }

    #[test]
    fn the_answer_is_what_would_happen() {
        let tiers = |verb: &str| {
            json!({"namespace": "default", "verb": verb, "group": "projectcalico.org",
            "resource": "tiers"})
        };
        assert!(check(&Role::Operator, tiers("create")));
        assert!(check(&Role::Viewer, tiers("list")));
        assert!(!check(&Role::Viewer, tiers("delete")));
        assert!(check(&Role::Admin, json!({"verb": "*", "group": "*", "resource": "*"})));
        assert!(!check(&Role::Operator, json!({"verb": "*", "group": "*", "resource": "*"})));
        let own = json!({"verb": "update", "group": "appliance", "resource": "nodereports", "name": "n1"});
        assert!(check(&Role::Node("n1".into()), own.clone()));
        assert!(!check(&Role::Node("n2".into()), own));
    }

    #[test]
    fn a_question_about_nothing_is_refused() {
        assert_eq!(access(&Role::Viewer, &json!({})).unwrap_err().status().code, 400);
    }

    #[test]
    fn rules_name_what_a_role_may_do() {
        let rules = rules(&Role::Node("n1".into()));
        assert_eq!(rules["resourceRules"][0]["resourceNames"], json!(["n1"]));
        assert_eq!(rules["resourceRules"][1]["resources"], json!(["nodereports"]));
        assert_eq!(super::rules(&Role::Admin)["resourceRules"][0]["verbs"], json!(["*"]));
    }

    #[tokio::test]
    async fn a_client_learns_who_it_is_and_what_it_may() {
        let api = Harness::start().await;
        let viewer = api.as_role("vera", Role::Viewer);
        let who = viewer.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await;
        assert_eq!((who.code, &who.value()["status"]["userInfo"]["username"]), (201, &json!("vera")));
        let question = json!({"spec": {"resourceAttributes": {"verb": "delete", "group": "projectcalico.org",
            "resource": "tiers"}}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert_eq!(viewer.post(path, question.clone()).await.value()["status"]["allowed"], false);
        assert_eq!(api.post(path, question).await.value()["status"]["allowed"], true);
        let refused = viewer.delete("tiers/default", json!({})).await;
        assert_eq!(refused.code, 403);
        let acting = viewer.send("GET", "tiers", &[("impersonate-user", "root")], "").await;
        assert_eq!(acting.code, 403);
    }
}
