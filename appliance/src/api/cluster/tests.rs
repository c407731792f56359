//! What `/cluster/…` answers to whom, over a real store and a real log: tokens, credentials and the authority.

use appliance_consensus::transport::member_uri;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::api::caller::Role;
use crate::api::harness::{Harness, Reply, endpoint};
use crate::author;
use crate::cluster::certificate::Certificate;
use crate::cluster::records::{self, CredentialRecord, MemberId, MemberRecord, RemovedRecord, TokenRecord};
use crate::cluster::registry::{self, Look};
use crate::cluster::token::JoinToken;

async fn with_member() -> Harness {
    let harness = Harness::start().await;
    let record = MemberRecord {
        peer: vec!["10.0.0.1:2380".to_owned()],
        api: vec!["127.0.0.1:6443".to_owned(), "10.0.0.1:6443".to_owned()],
        version: "0.1.0".to_owned(),
        ..MemberRecord::new(MemberId(1), "n1", OffsetDateTime::now_utc())
    };
    put(&harness, registry::put(records::member_key(MemberId(1)), &record).expect("encodes")).await;
    harness
}

async fn put(harness: &Harness, op: appliance_storage::Op) {
    let author = author::node("n1", "test");
    harness.cluster.records.txn(author, Vec::new(), vec![op]).await.expect("written");
}

/// What the API says to the bearer of a token.
async fn as_bearer(harness: &Harness, method: &str, path: &str, token: &str, body: Value) -> Reply {
    let value = format!("Bearer {token}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    harness.anonymous().send(method, path, &[("authorization", &value)], body).await
}

/// What the store stands at; the status of raft is told a moment later than the answer.
fn revision(harness: &Harness) -> u64 {
    harness.cluster.records.reader().revision().0
}

#[tokio::test]
async fn a_join_token_is_handed_out_once_and_kept_as_a_hash() {
    let harness = with_member().await;
    let made = harness
        .post(
            "/cluster/tokens",
            json!({"ttlSeconds": 600, "uses": 2, "role": "node", "description": "rack 3"}),
        )
        .await;
    assert_eq!(made.code, 201);
    let made = made.value();
    let text = made["token"].as_str().expect("a token");
    let token: JoinToken = text.parse().expect("well-formed");
    assert_eq!(made["join"], format!("appliance run --join 10.0.0.1:6443 --token {text}"));
    assert_eq!(Some(token.pin.clone()), harness.cluster.keyring.keys().borrow().pin());

    let key = records::token_key(&token.id);
    let record =
        harness.cluster.records.get::<TokenRecord>(&key, Look::Local).await.expect("read").expect("kept");
    assert_eq!(record.value.check(OffsetDateTime::now_utc(), &token.secret), Ok(()));
    let stored = harness.cluster.records.reader().get(&key).expect("read").expect("kept").value;
    let secret = text.split('.').nth(2).expect("a secret");
    assert!(!String::from_utf8_lossy(&stored).contains(secret), "only the hash is kept");

    let listed = harness.get("/cluster/tokens").await.value();
    let item = &listed["items"][0];
    assert_eq!((item["id"].as_str(), item["usesLeft"].as_u64()), (Some(token.id.as_str()), Some(2)));
    assert_eq!((&item["description"], &item["createdBy"]), (&json!("rack 3"), &json!("root")));
    assert!(item.get("hash").is_none() && item.get("token").is_none(), "{item}");

    let path = format!("/cluster/tokens/{}", token.id);
    assert_eq!(harness.delete(&path, Value::Null).await.summary(), "200");
    let again = harness.delete(&path, Value::Null).await.summary();
    assert_eq!(again, format!("404 NotFound: there is no token {}", token.id));
    assert_eq!(harness.get("/cluster/tokens").await.value(), json!({"items": []}));
}

#[tokio::test]
async fn what_a_token_can_not_be_is_refused_and_nothing_is_written() {
    let harness = with_member().await;
    let before = revision(&harness);
    for (body, says) in [
        (json!({"ttlSeconds": 59}), "ttlSeconds: 59 is not between 60 (1m) and 2592000 (30d)"),
        (json!({"ttlSeconds": 2_592_001}), "ttlSeconds: 2592001"),
        (json!({"ttlSeconds": -1}), "invalid value"),
        (json!({"uses": 0}), "uses: must be at least 1"),
        (json!({"role": "king"}), "role: \"king\" is none to join as"),
        (json!({"description": "x".repeat(257)}), "description: is longer"),
        (json!({"tll": 5}), "unknown field"),
        (json!([]), "the body can not be understood"),
    ] {
        let said = harness.post("/cluster/tokens", body).await.summary();
        assert!(said.starts_with("400 BadRequest") && said.contains(says), "{said}");
    }
    assert_eq!(revision(&harness), before);
    let large = harness.post("/cluster/tokens", json!({"description": "x".repeat(70_000)})).await;
    assert_eq!(large.code, 413);
    let unknown = harness.get("/cluster/nothing").await;
    assert_eq!(unknown.code, 404);
}

#[tokio::test]
async fn a_node_is_told_whether_there_is_a_quorum_and_nothing_of_the_members() {
    let harness = with_member().await;
    let node = harness.as_role("system:node:n1", Role::Node("n1".to_owned()));
    let told = node.get("/cluster/status").await;
    assert_eq!(
        (told.code, told.value()),
        (200, json!({"cluster": harness.cluster.cluster_id, "quorum": true}))
    );
    assert!(harness.get("/cluster/status").await.value()["members"].is_array());
}

#[tokio::test]
async fn nobody_but_an_administrator_gets_at_any_of_it() {
    let harness = with_member().await;
    let node = harness.as_role("system:node:n1", Role::Node("n1".to_owned()));
    let others = [
        ("olga", harness.as_role("olga", Role::Operator)),
        ("vera", harness.as_role("vera", Role::Viewer)),
        ("system:node:n1", node),
    ];
    for (method, path) in [
        ("GET", "/cluster/tokens"),
        ("POST", "/cluster/tokens"),
        ("DELETE", "/cluster/tokens/aa"),
        ("GET", "/cluster/ca"),
        ("POST", "/cluster/ca/rotate"),
        ("GET", "/cluster/credentials"),
        ("POST", "/cluster/credentials"),
        ("DELETE", "/cluster/credentials/aa"),
        ("GET", "/cluster/snapshot"),
    ] {
        for (name, other) in &others {
            let said = other.send(method, path, &[], "").await.summary();
            assert!(said.starts_with(&format!("403 Forbidden: User {name:?} cannot")), "{path}: {said}");
        }
        assert_eq!(harness.anonymous().send(method, path, &[], "").await.code, 401, "{path}");
    }
}

#[tokio::test]
async fn the_clusters_records_are_shown_by_no_path_of_the_api() {
    let harness = with_member().await;
    harness.post("/cluster/credentials", json!({"role": "admin", "kind": "token"})).await;
    let key = harness.cluster.keyring.keys().borrow().node.key.clone();
    for path in ["/apis/appliance/v1/ca", "/appliance/v1/ca", "/apis/appliance/v1/tokens", "/cluster/ca/key"]
    {
        assert_eq!(harness.get(path).await.code, 404, "{path}");
    }
    let lists =
        ["/apis/appliance/v1/nodereports", "tiers", "/cluster/ca", "/cluster/credentials", "/metrics"];
    for path in lists {
        let body = String::from_utf8_lossy(&harness.get(path).await.body).into_owned();
        for secret in ["PRIVATE", "sealedKey", "\"hash\"", key.lines().nth(1).expect("a line")] {
            assert!(!body.contains(secret), "{path} shows {secret}");
        }
    }
}

#[tokio::test]
async fn a_bearer_token_is_its_user_until_it_is_revoked() {
    let harness = with_member().await;
    let asked = json!({"user": "ci", "role": "operator", "ttlSeconds": 3600, "kind": "token"});
    let made = harness.post("/cluster/credentials", asked).await;
    assert_eq!(made.code, 201);
    let made = made.value();
    let (id, token) = (made["id"].as_str().expect("id"), made["token"].as_str().expect("token"));
    assert!(token.starts_with("ab1."), "{token}");
    assert!(made["ca"].as_str().is_some_and(|ca| ca.contains("BEGIN CERTIFICATE")));
    assert_eq!(made["servers"], json!(["https://127.0.0.1:6443", "https://10.0.0.1:6443"]));

    let list = "/apis/projectcalico.org/v3/hostendpoints";
    let created = as_bearer(&harness, "POST", list, token, endpoint("a")).await;
    assert_eq!(created.code, 201);
    let refused = as_bearer(&harness, "GET", "/cluster/tokens", token, Value::Null).await.summary();
    assert!(refused.starts_with("403 Forbidden: User \"ci\""), "{refused}");

    let wrong = format!("{}0", &token[..token.len() - 1]);
    let wrong = if wrong == token { format!("{}1", &token[..token.len() - 1]) } else { wrong };
    for odd in [wrong.as_str(), "", "ab1", &token.replace("ab1", "at1"), &format!("{token}.x")] {
        assert_eq!(as_bearer(&harness, "GET", list, odd, Value::Null).await.code, 401, "{odd}");
    }
    let header = format!("bEARER {token}");
    let lenient = harness.anonymous().send("GET", list, &[("authorization", &header)], "").await;
    assert_eq!(lenient.code, 200);
    let basic = harness.anonymous().send("GET", list, &[("authorization", "Basic eDp5")], "").await;
    assert_eq!(basic.code, 401);

    let items = harness.get("/cluster/credentials").await.value();
    assert_eq!(items["items"][0]["user"], "ci");
    assert_eq!(harness.delete(&format!("/cluster/credentials/{id}"), Value::Null).await.code, 200);
    assert_eq!(as_bearer(&harness, "GET", list, token, Value::Null).await.code, 401, "at once, here");
}

#[tokio::test]
async fn a_watch_ends_with_the_token_or_the_certificate_it_was_opened_with() {
    let harness = with_member().await;
    let made = harness.post("/cluster/credentials", json!({"role": "viewer", "kind": "token"})).await.value();
    let (id, token) = (made["id"].as_str().expect("id"), made["token"].as_str().expect("token"));
    let bearer = format!("Bearer {token}");
    let path = "hostendpoints?watch=1";
    let mut by_token = harness.anonymous().watch_with(path, &[("authorization", &bearer)]).await;
    let mut by_certificate =
        harness.until(OffsetDateTime::now_utc() + Duration::seconds(5)).watch(path).await;
    let mut lasting = harness.until(OffsetDateTime::now_utc() + Duration::DAY).watch(path).await;
    harness.post("hostendpoints", endpoint("a")).await;
    for events in [&mut by_token, &mut lasting] {
        assert!(events.brief().await.starts_with("ADDED a@"));
    }

    assert_eq!(harness.delete(&format!("/cluster/credentials/{id}"), Value::Null).await.code, 200);
    for events in [&mut by_token, &mut by_certificate] {
        let mut last = events.next().await.expect("a reason");
        while last["type"] == "ADDED" {
            last = events.next().await.expect("a reason");
        }
        assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(401)), "{last}");
        assert_eq!(last["object"]["reason"], "Unauthorized");
        assert_eq!(events.brief().await, "end");
    }
    let ended = harness.until(OffsetDateTime::now_utc() - Duration::SECOND);
    assert_eq!(ended.get("hostendpoints").await.code, 401, "a connection outlives no certificate");
    harness.post("hostendpoints", endpoint("b")).await;
    assert!(lasting.brief().await.starts_with("ADDED b@"));
}

#[tokio::test]
async fn a_bearer_token_ends_when_it_said_it_would_and_never_outranks_a_proven_identity() {
    let harness = with_member().await;
    let made = harness.post("/cluster/credentials", json!({"role": "admin", "kind": "token"})).await.value();
    let (id, token) = (made["id"].as_str().expect("id"), made["token"].as_str().expect("token"));
    let key = records::credential_key(id);
    let standing = harness
        .cluster
        .records
        .get::<CredentialRecord>(&key, Look::Local)
        .await
        .expect("read")
        .expect("kept");

    let header = format!("Bearer {token}");
    let viewer = harness.as_role("vera", Role::Viewer);
    let still = viewer.send("GET", "/cluster/tokens", &[("authorization", &header)], "").await;
    assert_eq!(still.code, 403, "whoever showed a certificate is who it says");

    let over = OffsetDateTime::now_utc() - time::Duration::SECOND;
    let record = CredentialRecord { expires: over, ..standing.value };
    put(&harness, registry::put(key, &record).expect("encodes")).await;
    assert_eq!(as_bearer(&harness, "GET", "/cluster/tokens", token, Value::Null).await.code, 401);
    assert_eq!(as_bearer(&harness, "GET", "/readyz", token, Value::Null).await.code, 200, "as for anybody");
}

#[tokio::test]
async fn a_certificate_is_made_for_the_key_that_was_brought_or_for_a_new_one() {
    let harness = with_member().await;
    let asked = json!({"user": "olga", "role": "operator", "ttlSeconds": 3600});
    let made = harness.post("/cluster/credentials", asked).await.value();
    let read = Certificate::from_pem(made["certificate"].as_str().expect("PEM")).expect("read");
    assert_eq!(read.common_name, "olga");
    let key = rcgen::KeyPair::from_pem(made["key"].as_str().expect("a key")).expect("PEM");
    assert_eq!(read.public_key, key.public_key_raw());

    let own = rcgen::KeyPair::generate().expect("key");
    let request = rcgen::CertificateParams::new(Vec::new()).expect("params").serialize_request(&own);
    let request = request.expect("request").pem().expect("PEM");
    let made = harness.post("/cluster/credentials", json!({"role": "viewer", "csr": request})).await.value();
    let read = Certificate::from_pem(made["certificate"].as_str().expect("PEM")).expect("read");
    assert_eq!((read.public_key.as_slice(), &made["key"]), (own.public_key_raw(), &Value::Null));

    for (body, says) in [
        (json!({}), "missing field `role`"),
        (json!({"role": "node"}), "role: \"node\" is not one of admin, operator, viewer"),
        (json!({"role": "admin", "csr": "nonsense"}), "certificate request for admin is not usable"),
        (json!({"role": "admin", "csr": "x", "kind": "token"}), "csr: a bearer token has no key"),
        (json!({"role": "admin", "user": "system:node:n1"}), "a name of the system's own"),
        (json!({"role": "admin", "user": "root"}), "a name of the system's own"),
        (json!({"role": "admin", "user": "a b"}), "user: must be"),
        (json!({"role": "admin", "user": ""}), "user: must be"),
        (json!({"role": "admin", "ttlSeconds": 99_999_999}), "ttlSeconds"),
        (json!({"role": "admin", "kind": "password"}), "unknown variant"),
    ] {
        let said = harness.post("/cluster/credentials", body).await.summary();
        assert!(said.starts_with("400 BadRequest") && said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn a_rotation_is_begun_waits_is_forced_and_is_finished() {
    let harness = with_member().await;
    let state = |reply: Reply| {
        let value = reply.value();
        let states: Vec<String> = value["certificates"]
            .as_array()
            .expect("certificates")
            .iter()
            .map(|one| one["state"].as_str().expect("a state").to_owned())
            .collect();
        format!("{} {} {} {}", value["generation"], value["phase"], states.join(","), value["waitingFor"])
    };
    let rotate = async |body: Value| harness.post("/cluster/ca/rotate", body).await;
    assert_eq!(state(harness.get("/cluster/ca").await), r#"1 "stable" current []"#);
    let said = rotate(json!({"finish": true})).await.summary();
    assert_eq!(said, "409 Conflict: no rotation is under way");

    assert_eq!(state(rotate(json!({})).await), r#"1 "distributing" current,next ["n1"]"#);
    assert_eq!(state(rotate(json!({})).await), r#"1 "distributing" current,next ["n1"]"#, "repeatable");
    let said = rotate(json!({"finish": true})).await.summary();
    assert!(said.starts_with("409 Conflict: the rotation waits for n1"), "{said}");
    assert_eq!(state(rotate(json!({"force": true})).await), r#"2 "issuing" current,previous ["n1"]"#);
    assert_eq!(state(rotate(json!({"force": true})).await), r#"2 "stable" current,previous ["n1"]"#);
    let said = rotate(json!({})).await.summary();
    assert!(said.starts_with("409 Conflict: the rotation before is not finished"), "{said}");
    let finished = rotate(json!({"finish": true, "force": true})).await;
    assert_eq!(state(finished), r#"2 "stable" current []"#);
}

#[tokio::test]
async fn a_nodes_certificate_counts_for_as_long_as_the_node_is_a_member() {
    let harness = with_member().await;
    let node = harness.as_role("system:node:gone", Role::Node("gone".to_owned()));
    let own = "/apis/projectcalico.org/v3/nodes/gone";
    assert_eq!(node.get(own).await.code, 404, "known, and has no Node");
    let removed = RemovedRecord::new("gone", "root", OffsetDateTime::now_utc());
    put(&harness, registry::put(records::removed_key(MemberId(7)), &removed).expect("encodes")).await;
    assert_eq!(node.get(own).await.code, 401);
    put(&harness, registry::put(records::name_key("gone"), &"0000000000000008").expect("encodes")).await;
    assert_eq!(node.get(own).await.code, 404, "a new node took the name");

    // What names its member ends with that member, whoever has the name now.
    assert_eq!(node.showing(member_uri(1, 7)).get(own).await.code, 401, "the host that was removed");
    assert_eq!(node.showing(member_uri(1, 8)).get(own).await.code, 404, "the one that has the name now");
    let report = "/apis/appliance/v1/nodereports";
    let forged = json!({"metadata": {"name": "gone"}, "status": {"state": "Enforcing"}});
    assert_eq!(node.showing(member_uri(1, 7)).post(report, forged.clone()).await.code, 401);
    assert_eq!(node.showing(member_uri(1, 8)).post(report, forged).await.code, 201, "its own");
}

#[tokio::test]
async fn the_administrators_certificate_of_a_host_that_was_put_out_opens_nothing() {
    let harness = with_member().await;
    let of = |member: u64| format!("appliance://{:032x}/admin-of/{member:016x}", 1);
    let (kept, stolen, before) = (harness.showing(of(8)), harness.showing(of(7)), harness.until(far()));
    for admin in [&kept, &stolen, &before] {
        assert_eq!(admin.get("/cluster/tokens").await.code, 200);
    }
    let mut watch = stolen.until(far()).watch("hostendpoints?watch=1").await;
    let removed = RemovedRecord::new("gone", "root", OffsetDateTime::now_utc());
    put(&harness, registry::put(records::removed_key(MemberId(7)), &removed).expect("encodes")).await;
    for path in ["/cluster/tokens", "/cluster/snapshot", "hostendpoints"] {
        assert_eq!(stolen.get(path).await.code, 401, "{path}");
    }
    assert_eq!(watch.brief().await, "ERROR Unauthorized", "also where it listens already");
    // Another member's goes on, and so does one that an earlier version made, which names none.
    for admin in [&kept, &before] {
        assert_eq!(admin.get("/cluster/tokens").await.code, 200);
    }
}

fn far() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::DAY
}

#[tokio::test]
async fn a_member_that_began_again_is_who_it_was_until_it_is_removed() {
    let harness = with_member().await;
    let before = harness.as_role("system:node:n2", Role::Node("n2".to_owned())).showing(member_uri(1, 7));
    let own = "/apis/projectcalico.org/v3/nodes/n2";
    for (id, successor, code) in [(7, Some(MemberId(8)), 404), (8, Some(MemberId(9)), 404), (9, None, 401)] {
        let removed =
            RemovedRecord { successor, ..RemovedRecord::new("n2", "n2", OffsetDateTime::now_utc()) };
        put(&harness, registry::put(records::removed_key(MemberId(id)), &removed).expect("encodes")).await;
        assert_eq!(before.get(own).await.code, code, "member {id} is removed");
    }
    // One that names itself for ever is no member that anybody knows.
    let removed = RemovedRecord {
        successor: Some(MemberId(7)),
        ..RemovedRecord::new("n2", "n2", OffsetDateTime::now_utc())
    };
    put(&harness, registry::put(records::removed_key(MemberId(9)), &removed).expect("encodes")).await;
    assert_eq!(before.get(own).await.code, 401);
}
