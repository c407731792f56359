//! What a node that wants to join is answered, over a real store and a real log: once, again, and never.

use appliance_consensus::transport::member_uri;
use serde_json::{Value, json};

use crate::api::caller::Role;
use crate::api::harness::{Harness, Reply};
use crate::author;
use crate::cluster::certificate::Certificate;
use crate::cluster::records::{self, MEMBERS, MemberId, MemberRecord, Other, PROTOCOL, RemovedRecord};
use crate::cluster::registry;

/// A host with a key of its own.
struct Host {
    name: &'static str,
    member: &'static str,
    csr: String,
}

impl Host {
    fn new(name: &'static str, member: &'static str) -> Host {
        let key = rcgen::KeyPair::generate().expect("a key");
        let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
        Host { name, member, csr: request.pem().expect("PEM") }
    }

    fn request(&self, token: &str) -> Value {
        json!({
            "token": token, "member": self.member, "name": self.name, "csr": self.csr,
            "peer": ["10.0.0.9:2380"], "api": ["10.0.0.9:6443"], "version": "0.1.0", "protocol": PROTOCOL,
            "nowMs": author::now_ms(),
        })
    }

    /// What it sends when it begins again in place of the member it was.
    fn successor_of(&self, old: &str) -> Value {
        let mut request = self.request("");
        request["replaces"] = json!(old);
        request
    }

    async fn join(&self, api: &Harness, token: &str) -> Reply {
        api.anonymous().post("/cluster/join", self.request(token)).await
    }
}

async fn token(api: &Harness, body: Value) -> String {
    let made = api.post("/cluster/tokens", body).await;
    assert_eq!(made.code, 201, "{}", made.summary());
    made.value()["token"].as_str().expect("a token").to_owned()
}

fn members(api: &Harness) -> Vec<(String, String)> {
    let found = api.cluster.records.local_list::<MemberRecord>(MEMBERS).expect("read");
    found.into_iter().map(|member| (member.value.id.to_string(), member.value.name)).collect()
}

#[tokio::test]
async fn a_join_makes_a_learner_with_a_certificate_and_is_repeatable() {
    let api = Harness::start().await;
    let token = token(&api, json!({"uses": 1})).await;
    let host = Host::new("n2", "00000000000000ff");

    let first = host.join(&api, &token).await;
    assert_eq!(first.code, 200, "{}", first.summary());
    let answer = first.value();
    assert_eq!(answer["cluster"], api.cluster.cluster_id.as_str());
    let certificate = Certificate::from_pem(answer["certificate"].as_str().expect("PEM")).expect("readable");
    assert_eq!(certificate.uris.len(), 1);
    assert!(certificate.uris[0].ends_with("/00000000000000ff"), "{:?}", certificate.uris);
    // The status is published a moment after the change is answered.
    api.raft.wait_status(|status| status.learners.contains(&0xff)).await.expect("raft runs");
    assert_eq!(members(&api), [("00000000000000ff".to_owned(), "n2".to_owned())]);

    // The answer was lost on the way: the same request is answered the same, though the token is used up.
    let again = host.join(&api, &token).await;
    assert_eq!(again.code, 200, "{}", again.summary());
    assert_eq!(again.value()["members"], answer["members"]);
    assert_eq!(members(&api).len(), 1);

    let other = Host::new("n3", "0000000000000033").join(&api, &token).await;
    assert!(other.code == 403 && other.summary().contains("used up, by n2"), "{}", other.summary());
}

#[tokio::test]
async fn whoever_may_not_join_is_told_why_and_leaves_nothing_behind() {
    let api = Harness::start().await;
    let token = token(&api, json!({})).await;
    assert_eq!(Host::new("n2", "00000000000000ff").join(&api, &token).await.code, 200);
    let before = members(&api);

    let pin = token.rsplit('.').next().expect("a pin");
    let wrong = format!("at1.0000000000.{}.{pin}", "0".repeat(32));
    for (name, member, token, code, says) in [
        ("n3", "0000000000000033", wrong.as_str(), 401, "not valid"),
        ("n3", "0000000000000033", "nonsense", 401, "not valid"),
        ("n2", "0000000000000033", token.as_str(), 409, "belongs to member 00000000000000ff already"),
        ("n3", "00000000000000ff", token.as_str(), 409, "belongs to another key"),
    ] {
        let reply = Host::new(name, member).join(&api, token).await;
        assert!(reply.code == code && reply.summary().contains(says), "{}", reply.summary());
    }
    let mut odd = Host::new("n3", "0000000000000033").request(&token);
    odd["csr"] = json!("no request");
    let reply = api.anonymous().post("/cluster/join", odd).await;
    assert_eq!(reply.code, 400, "{}", reply.summary());

    // Only its own certificate makes a member another one.
    let mut successor = Host::new("n2", "0000000000000044").request("");
    successor["replaces"] = json!("00000000000000ff");
    let reply = api.anonymous().post("/cluster/join", successor).await;
    assert!(reply.code == 403 && reply.summary().contains("speaks for it"), "{}", reply.summary());
    assert_eq!(members(&api), before);
}

#[tokio::test]
async fn a_member_is_found_by_id_and_by_name_and_removed_for_ever() {
    let api = Harness::start().await;
    let token = token(&api, json!({})).await;
    let host = Host::new("n2", "00000000000000ff");
    assert_eq!(host.join(&api, &token).await.code, 200);

    assert_eq!(api.delete("/cluster/members/nobody", Value::Null).await.code, 404);
    let removed = api.delete("/cluster/members/n2", Value::Null).await;
    assert_eq!(removed.code, 200, "{}", removed.summary());
    assert_eq!(members(&api), []);
    api.raft.wait_status(|status| status.learners.is_empty()).await.expect("raft runs");

    let again = host.join(&api, &token).await;
    assert!(again.code == 409 && again.summary().contains("was removed"), "{}", again.summary());
    let reborn = Host::new("n2", "0000000000000044").join(&api, &token).await;
    assert_eq!(reborn.code, 200, "the name is free again: {}", reborn.summary());
}

#[tokio::test]
async fn the_status_tells_the_members_and_what_is_not_to_be_done() {
    let api = Harness::start().await;
    let status = api.get("/cluster/status").await.value();
    assert_eq!((&status["quorum"], &status["leader"]), (&json!(true), &json!("0000000000000001")));
    assert_eq!(status["members"][0]["role"], "voter");

    let reseed = api.post("/cluster/reseed", json!({})).await;
    assert!(reseed.code == 409 && reseed.summary().contains("the only copy"), "{}", reseed.summary());
    for (body, says) in [
        (json!({"cluster": "other"}), "to confirm"),
        (json!({"cluster": api.cluster.cluster_id}), "has a quorum"),
    ] {
        let recover = api.post("/cluster/recover", body).await;
        assert!(recover.code == 409 && recover.summary().contains(says), "{}", recover.summary());
    }
}

/// The API as a member's host asks it, with the certificate of that member.
fn as_member(api: &Harness, name: &str, member: u64) -> Harness {
    api.as_role(&format!("system:node:{name}"), Role::Node(name.to_owned())).showing(member_uri(1, member))
}

async fn rewrite(api: &Harness, member: u64, with: impl Fn(&mut MemberRecord)) {
    let key = records::member_key(MemberId(member));
    let found = api.cluster.records.local_list::<MemberRecord>(MEMBERS).expect("read");
    let mut record = found.into_iter().find(|found| found.key == key).expect("a member").value;
    with(&mut record);
    let put = registry::put(key, &record).expect("encodes");
    let author = author::node("n1", "test");
    api.cluster.records.txn(author, Vec::new(), vec![put]).await.expect("written");
}

#[tokio::test]
async fn a_member_that_is_removed_or_on_its_way_out_can_not_begin_again() {
    let api = Harness::start().await;
    let token = token(&api, json!({})).await;
    assert_eq!(Host::new("n2", "00000000000000ff").join(&api, &token).await.code, 200);
    let itself = as_member(&api, "n2", 0xff);
    let successor = Host::new("n2", "0000000000000044");

    // Between the first step of its removal and the last.
    rewrite(&api, 0xff, |record| record.leaving = true).await;
    let reply = itself.post("/cluster/join", successor.successor_of("00000000000000ff")).await;
    assert!(reply.code == 403 && reply.summary().contains("is being removed"), "{}", reply.summary());
    assert_eq!(members(&api), [("00000000000000ff".to_owned(), "n2".to_owned())]);

    // At a member that has not heard of the removal when it looks at the certificate, but has when it writes.
    assert_eq!(api.delete("/cluster/members/n2", Value::Null).await.code, 200);
    let author = author::node("n1", "test");
    let back = registry::put(records::name_key("n2"), &"00000000000000ff").expect("encodes");
    api.cluster.records.txn(author, Vec::new(), vec![back]).await.expect("written");
    let reception = &api.cluster.reception;
    let body = successor.successor_of("00000000000000ff").to_string();
    let now = time::OffsetDateTime::now_utc();
    let refusal = reception.join(&api.cluster.records, itself.caller(), body.as_bytes(), now).await;
    let refusal = refusal.map(|_| ()).expect_err("refused").to_string();
    assert!(refusal.contains("was removed from this cluster"), "{refusal}");
    assert_eq!(members(&api), []);
}

#[tokio::test]
async fn a_member_that_begins_again_is_let_in_once_and_as_often_as_it_repeats_itself() {
    let api = Harness::start().await;
    let token = token(&api, json!({})).await;
    assert_eq!(Host::new("n2", "00000000000000ff").join(&api, &token).await.code, 200);
    let itself = as_member(&api, "n2", 0xff);
    let successor = Host::new("n2", "0000000000000044");
    rewrite(&api, 0xff, |record| record.held = true).await;
    let request = || successor.successor_of("00000000000000ff");
    let first = itself.post("/cluster/join", request()).await;
    assert_eq!(first.code, 200, "{}", first.summary());
    assert_eq!(members(&api), [("0000000000000044".to_owned(), "n2".to_owned())]);
    let records = api.cluster.records.local_list::<MemberRecord>(MEMBERS).expect("read");
    assert!(records[0].value.held, "an operator wants this host to stay a learner");
    // Its answer was lost, and the certificate it has is that of a member which is none any more.
    for by_an_earlier_version in [false, true] {
        if by_an_earlier_version {
            let (key, by) = (records::removed_key(MemberId(0xff)), "member 0000000000000044".to_owned());
            let at = records::whole_seconds(time::OffsetDateTime::now_utc());
            let old = RemovedRecord { name: "n2".to_owned(), at, by, successor: None, other: Other::new() };
            let put = registry::put(key, &old).expect("encodes");
            let author = author::node("n1", "test");
            api.cluster.records.txn(author, Vec::new(), vec![put]).await.expect("written");
        }
        let again = itself.post("/cluster/join", request()).await;
        assert_eq!(again.code, 200, "{}", again.summary());
        assert_eq!(members(&api).len(), 1);
    }
    // Another key is another host, whatever certificate it shows.
    let odd = Host::new("n2", "0000000000000044").successor_of("00000000000000ff");
    assert_eq!(itself.post("/cluster/join", odd).await.code, 409);
}
