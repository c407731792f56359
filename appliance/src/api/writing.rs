//! Writing: one write of one client, however often it is said, has one effect.
//!
//! Every transaction carries a request id. Inside the process it is proposed again with the same id while that can help
//! ([`crate::proposal`]). Between processes the client names its request (`Appliance-Request`): the ids of its
//! transactions then follow from that name, the object and their number, so whichever member the request arrives at next
//! runs into what the first arrival did, and answers with that.
//!
//! A request that arrived before may also look wrong by its own effect: what it creates is there, what it replaces is
//! newer, what it deletes is gone. So nothing named is refused before the store was asked what became of it; asking
//! also makes sure that an earlier arrival still under way can not take effect after the refusal.
//!
//! The store remembers far more requests than answers. Of one that had its answer so long ago that it is gone, nobody can
//! say what became of it, and it is not done again: its client hears that, as of any write in doubt.
//!
//! It refuses to know resources. The registry alone uses it.

use appliance_consensus::Raft;
use appliance_resources::Status;
use appliance_storage::{Author, Command, Compare, Key, Op, Outcome, Reply, RequestId};
use sha2::{Digest, Sha256};

use super::respond::Refusal;
use crate::cluster::registry::fresh_request;
use crate::proposal::{self, WhenBusy};

/// No write makes more transactions than this: an edit is tried a few times, a name is drawn a few times.
const TRANSACTIONS_MAX: u32 = 32;

/// What a transaction came to: its replies, and which half they answer. Of an earlier arrival the puts lack their
/// bytes.
pub(super) enum Txn {
    /// Every compare held.
    Done(Vec<Reply>),
    /// One did not.
    Failed(Vec<Reply>),
}

/// The transactions of one write, in order.
pub(super) struct Writing<'a> {
    raft: &'a Raft,
    author: Author,
    /// The name a client gave its request, for this object.
    named: Option<[u8; 32]>,
    made: u32,
}

impl<'a> Writing<'a> {
    /// A write to `key` by `author`, whose request id, if it has one, is the client's name for the whole request.
    pub(super) fn new(raft: &'a Raft, author: Author, key: &Key) -> Writing<'a> {
        let named = author.request.map(|request| digest(&[&request.0, key.as_bytes()]));
        Writing { raft, author, named, made: 0 }
    }

    /// Does `then` if every compare holds, else `otherwise`; or answers what an earlier arrival did in its place.
    pub(super) async fn txn(
        &mut self,
        compare: Vec<Compare>,
        then: Vec<Op>,
        otherwise: Vec<Op>,
    ) -> Result<Txn, Refusal> {
        loop {
            let request = self.next_request();
            let (compare, then, otherwise) = (compare.clone(), then.clone(), otherwise.clone());
            let outcome = match self.propose(request, compare, then, otherwise).await? {
                // The store knows the id with other operations: an earlier arrival got there first.
                Outcome::Refused { .. } if self.named.is_some() => self.ask(request).await?,
                outcome => outcome,
            };
            match outcome {
                // Asked and refused before; that arrival has had its answer, and did nothing.
                Outcome::Succeeded { replies, .. } if replies.is_empty() => {}
                Outcome::Succeeded { replies, .. } => return Ok(Txn::Done(replies)),
                Outcome::Failed { replies, .. } => return Ok(Txn::Failed(replies)),
                Outcome::Refused { reason } => return Err(Status::bad_request(reason).into()),
                Outcome::Forgotten => return Err(forgotten()),
            }
            if self.made >= TRANSACTIONS_MAX {
                return Err(Status::internal("the request was repeated too often").into());
            }
        }
    }

    /// What an earlier arrival of this request did, if it did anything; from now on it can not.
    pub(super) async fn earlier(&mut self) -> Result<Option<Vec<Reply>>, Refusal> {
        while self.named.is_some() && self.made < TRANSACTIONS_MAX {
            let request = self.next_request();
            match self.ask(request).await? {
                Outcome::Succeeded { replies, .. } if replies.is_empty() => return Ok(None),
                Outcome::Succeeded { replies, .. } => return Ok(Some(replies)),
                // Then it may have tried once more.
                Outcome::Failed { .. } => {}
                Outcome::Refused { .. } => return Ok(None),
                Outcome::Forgotten => return Err(forgotten()),
            }
        }
        Ok(None)
    }

    async fn ask(&self, request: RequestId) -> Result<Outcome, Refusal> {
        self.propose(request, Vec::new(), Vec::new(), Vec::new()).await
    }

    async fn propose(
        &self,
        request: RequestId,
        compare: Vec<Compare>,
        then: Vec<Op>,
        otherwise: Vec<Op>,
    ) -> Result<Outcome, Refusal> {
        let author = Author { request: Some(request), ..self.author.clone() };
        let command = Command::Txn { author, compare, then, otherwise };
        let outcome = proposal::propose(self.raft, command.encode(), WhenBusy::Refuse).await?;
        Ok(Outcome::decode(&outcome).map_err(Status::internal)?)
    }

    fn next_request(&mut self) -> RequestId {
        let number = self.made;
        self.made += 1;
        match &self.named {
            Some(named) => truncated(&digest(&[named, &number.to_be_bytes()])),
            None => fresh_request(),
        }
    }
}

/// A retry that comes too late to be answered as the first arrival was.
fn forgotten() -> Refusal {
    Status::timeout(
        "a request of this id was answered before, so long ago that the answer is no longer kept; nothing was done now: \
         read back what came of it",
    )
    .into()
}

/// The id of a client's request: of this caller alone, whatever others call theirs.
pub(super) fn request_of(caller: &str, name: &str) -> RequestId {
    truncated(&digest(&[caller.as_bytes(), name.as_bytes()]))
}

/// Bytes that follow from a client's name for its request, and nobody else's.
pub(super) fn drawn(request: RequestId, number: usize) -> [u8; 32] {
    digest(&[b"name", &request.0, &(number as u64).to_be_bytes()])
}

/// SHA-256 over parts that can not run into each other.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn truncated(digest: &[u8; 32]) -> RequestId {
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    RequestId(id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::caller::Role;
    use crate::api::harness::{Harness, Reply, endpoint};

    const NAME: &str = "00112233445566778899aabbccddeeff";

    /// Sends a request under a name.
    async fn named(api: &Harness, name: &str, method: &str, path: &str, body: &Value) -> Reply {
        let content_type = match method {
            "PATCH" => "application/json-patch+json",
            _ => "application/json",
        };
        let headers = [("appliance-request", name), ("content-type", content_type)];
        api.send(method, path, &headers, body.to_string()).await
    }

    async fn revision(api: &Harness) -> String {
        api.get("hostendpoints").await.version()
    }

    #[tokio::test]
    async fn a_creation_that_arrives_twice_makes_one_object() {
        let api = Harness::start().await;
        let first = named(&api, NAME, "POST", "hostendpoints", &endpoint("a")).await;
        let before = revision(&api).await;
        let second = named(&api, NAME, "POST", "hostendpoints", &endpoint("a")).await;
        assert_eq!((first.code, second.code), (201, 201), "{}", second.summary());
        assert_eq!(first.value(), second.value());
        assert_eq!(revision(&api).await, before);
        let other = named(&api, &NAME.replace("00", "01"), "POST", "hostendpoints", &endpoint("a")).await;
        assert_eq!(other.code, 409);
        let eve = api.as_role("eve", Role::Admin);
        assert_eq!(named(&eve, NAME, "POST", "hostendpoints", &endpoint("a")).await.code, 409);
    }

    #[tokio::test]
    async fn a_replacement_that_arrives_again_is_answered_as_it_was_whatever_happened_since() {
        let api = Harness::start().await;
        let mut object = api.post("hostendpoints", endpoint("a")).await.value();
        object["spec"]["interfaceName"] = "eth1".into();
        let first = named(&api, NAME, "PUT", "hostendpoints/a", &object).await;
        assert_eq!(first.code, 200, "{}", first.summary());
        let second = named(&api, NAME, "PUT", "hostendpoints/a", &object).await;
        assert_eq!((second.code, second.value()), (200, first.value()));
        api.merge("hostendpoints/a", json!({"spec": {"interfaceName": "eth2"}})).await;
        api.post("hostendpoints", endpoint("ab")).await;
        let before = revision(&api).await;
        let third = named(&api, NAME, "PUT", "hostendpoints/a", &object).await;
        assert_eq!((third.code, third.value()), (200, first.value()));
        assert_eq!(revision(&api).await, before);
        assert_eq!(api.get("hostendpoints/a").await.value()["spec"]["interfaceName"], "eth2");
        assert_eq!(api.put("hostendpoints/a", object).await.code, 409, "without the name it is stale");
    }

    #[tokio::test]
    async fn a_patch_that_arrives_twice_adds_once() {
        let api = Harness::start().await;
        let mut object = endpoint("a");
        object["spec"]["expectedIPs"] = json!(["192.0.2.1"]);
        api.post("hostendpoints", object).await;
        let add = json!([{"op": "add", "path": "/spec/expectedIPs/-", "value": "192.0.2.2"}]);
        let first = named(&api, NAME, "PATCH", "hostendpoints/a", &add).await;
        let second = named(&api, NAME, "PATCH", "hostendpoints/a", &add).await;
        assert_eq!((first.code, second.code), (200, 200), "{} {}", first.summary(), second.summary());
        assert_eq!(second.value(), first.value());
        let stored = api.get("hostendpoints/a").await.value();
        assert_eq!(stored["spec"]["expectedIPs"], json!(["192.0.2.1", "192.0.2.2"]));
    }

    #[tokio::test]
    async fn a_deletion_that_arrives_twice_is_told_twice_and_spares_what_came_after() {
        let api = Harness::start().await;
        api.post("hostendpoints", endpoint("a")).await;
        let first = named(&api, NAME, "DELETE", "hostendpoints/a", &json!({})).await;
        let second = named(&api, NAME, "DELETE", "hostendpoints/a", &json!({})).await;
        assert_eq!((first.code, second.code), (200, 200), "{}", second.summary());
        assert_eq!(first.value(), second.value());
        let reborn = api.post("hostendpoints", endpoint("a")).await;
        assert_eq!(named(&api, NAME, "DELETE", "hostendpoints/a", &json!({})).await.code, 200);
        assert_eq!(api.get("hostendpoints/a").await.value(), reborn.value());
    }

    #[tokio::test]
    async fn a_generated_name_is_the_same_on_arrival() {
        let api = Harness::start().await;
        let mut object = endpoint("");
        object["metadata"]["generateName"] = "web-".into();
        let first = named(&api, NAME, "POST", "hostendpoints", &object).await;
        let second = named(&api, NAME, "POST", "hostendpoints", &object).await;
        assert_eq!((first.code, second.value()), (201, first.value()));
    }

    #[tokio::test]
    async fn a_refused_request_stays_refused_and_can_not_take_effect_later() {
        let api = Harness::start().await;
        api.post("hostendpoints", endpoint("a")).await;
        for _ in 0..2 {
            assert_eq!(named(&api, NAME, "POST", "hostendpoints", &endpoint("a")).await.code, 409);
            assert_eq!(named(&api, NAME, "DELETE", "hostendpoints/b", &json!({})).await.code, 404);
        }
        let odd = named(&api, "xyz", "POST", "hostendpoints", &endpoint("c")).await;
        assert_eq!(odd.summary(), "400 BadRequest: Appliance-Request is not 32 hexadecimal digits");
    }

    /// The store keeps 8,192 answers: so many writes later all that is known of a request is that there was one.
    #[tokio::test]
    async fn what_arrives_after_its_answer_was_forgotten_is_not_done_again() {
        let api = Harness::start().await;
        let mut object = endpoint("a");
        object["spec"]["expectedIPs"] = json!(["192.0.2.1"]);
        api.post("hostendpoints", object).await;
        let add = json!([{"op": "add", "path": "/spec/expectedIPs/-", "value": "192.0.2.2"}]);
        let other = NAME.replace("00", "01");
        assert_eq!(named(&api, NAME, "PATCH", "hostendpoints/a", &add).await.code, 200);
        assert_eq!(named(&api, &other, "POST", "hostendpoints", &endpoint("b")).await.code, 201);
        let before = revision(&api).await;
        let raft = api.registry.raft();
        for _ in 0..82 {
            let asks = (0..100).map(|_| async {
                let author = Author { request: Some(fresh_request()), ..Author::default() };
                let (compare, then, otherwise) = (Vec::new(), Vec::new(), Vec::new());
                let command = Command::Txn { author, compare, then, otherwise };
                proposal::propose(raft, command.encode(), WhenBusy::Wait).await.expect("applied");
            });
            futures_util::future::join_all(asks).await;
        }
        for (name, method, path, body) in
            [(NAME, "PATCH", "hostendpoints/a", &add), (&other, "POST", "hostendpoints", &endpoint("b"))]
        {
            let again = named(&api, name, method, path, body).await;
            assert_eq!(
                (again.code, &again.value()["reason"]),
                (504, &json!("Timeout")),
                "{}",
                again.summary()
            );
            assert!(again.summary().contains("read back"), "{}", again.summary());
        }
        assert_eq!(revision(&api).await, before, "nothing was done again");
        let stored = api.get("hostendpoints/a").await.value();
        assert_eq!(stored["spec"]["expectedIPs"], json!(["192.0.2.1", "192.0.2.2"]));
    }

    #[test]
    fn an_id_is_its_callers_own() {
        assert_eq!(request_of("root", NAME), request_of("root", NAME));
        assert_ne!(request_of("root", NAME), request_of("eve", NAME));
        assert_ne!(request_of("ab", "c"), request_of("a", "bc"));
    }
}
