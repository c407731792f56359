//! Join: how a member lets a node into the cluster, or gives a member that lost its data a new beginning.
//!
//! # In this order, and why
//!
//! 1. Is it a request of a version that speaks our protocol, with a clock like ours?
//! 2. May it? A join token, or the certificate of the member that it was.
//! 3. Its certificate is issued, in memory: a request that is no good must not use up a token.
//! 4. **One transaction** records the member, takes its name, and counts the use of the token, on the condition that
//!    nobody took the name or the id, nobody used the token, and no other authority issues certificates meanwhile. Two
//!    joins at once meet here.
//! 5. Raft adds it as a learner.
//! 6. It is answered.
//!
//! A crash at any point leaves something that the same request, sent again to any member, completes: a member with
//! this id, this name and this key is answered as it was. Every refusal is logged here and told there with its reason.
//!
//! *Questions for a reviewer*: can a token be used more often than it may? (The transaction compares its record.) Can
//! somebody take over a member with a token? (Only with the member's private key.) Can an id live twice? (The
//! transaction asks for no tombstone.) Can a removed member come back as another? (It asks for no tombstone of that either.)

use std::sync::Arc;
use std::time::Duration;

use appliance_consensus::transport::member_uri;
use appliance_consensus::{ChangeError, MemberChange};
use appliance_storage::{Author, Compare, Op};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::certificate::Certificate;
use super::issuer::{IssuedNode, Issuer, IssuerError};
use super::join_protocol::{JoinAnswer, JoinRequest};
use super::join_refusal::JoinRefusal;
use super::join_request::{hosts, understand};
use super::keyring::Keyring;
use super::keys::Who;
use super::peers::Peer;
use super::records::{self, MEMBERS, MemberId, MemberRecord, RemovedRecord, TokenRecord};
use super::registry::{self, Committed, Look, Records, RecordsError, Standing};
use super::token::{JoinToken, TokenRefusal};
use crate::api::caller::{Caller, Identity, Role};
use crate::identity;
use crate::loudness::Loudness;

/// Joins looked at at a time; each may wait for a quorum, and strangers may ask.
const JOINS_MAX: usize = 16;

/// Somebody else changed what this join depends on, again and again.
const ATTEMPTS: usize = 10;

/// How long raft is asked to add the member, through elections and other changes.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts.
const CHANGE_PAUSE: Duration = Duration::from_millis(100);

/// Lets nodes in.
pub(crate) struct Reception {
    cluster: String,
    keyring: Arc<Keyring>,
    seats: Semaphore,
    /// Of refusals.
    loudness: Loudness,
}

impl Reception {
    /// For the cluster of this id.
    pub(crate) fn new(cluster: String, keyring: Arc<Keyring>) -> Reception {
        Reception { cluster, keyring, seats: Semaphore::new(JOINS_MAX), loudness: Loudness::default() }
    }

    /// Lets a node in, or says why not, here and there.
    pub(crate) async fn join(
        &self,
        records: &Records,
        caller: &Caller,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<JoinAnswer, JoinRefusal> {
        let Ok(_seat) = self.seats.try_acquire() else { return Err(JoinRefusal::Crowded) };
        let request = understand(body, now);
        let (name, joined) = match request {
            Ok(request) => (request.name.clone(), self.admit(records, caller, &request, now).await),
            Err(refusal) => ("unknown".to_owned(), Err(refusal)),
        };
        if let Err(refusal) = &joined {
            let name: String = name.chars().filter(|c| !c.is_control()).take(253).collect();
            if self.loudness.allows() {
                tracing::warn!("node {name} at {} may not join: {refusal}", caller.address);
            } else {
                tracing::debug!("node {name} at {} may not join: {refusal}", caller.address);
            }
        }
        joined
    }

    async fn admit(
        &self,
        records: &Records,
        caller: &Caller,
        request: &JoinRequest,
        now: OffsetDateTime,
    ) -> Result<JoinAnswer, JoinRefusal> {
        self.greet(records, caller, request, now).await?;
        if let Some(cluster) = request.belongs_to.clone() {
            return Err(JoinRefusal::OtherCluster { cluster });
        }
        let number = identity::cluster_number(&self.cluster).unwrap_or_default();
        let who = Who::new(number, request.member.0, &request.name, &hosts(request)?);
        let issuer = Issuer::new(records.clone(), self.keyring.clone());
        let issued =
            self.record(records, caller, request, now, || issuer.issue_node(&request.csr, &who, now));
        let issued = issued.await?;
        add(records, request).await?;
        let members = records.local_list::<MemberRecord>(MEMBERS)?;
        tracing::info!("node {} at {} is member {}", request.name, caller.address, request.member);
        Ok(JoinAnswer {
            cluster: self.cluster.clone(),
            ca_bundle: issued.bundle,
            certificate: issued.certificate,
            seal_key: self.keyring.seal().to_base64(),
            members: members.iter().map(|member| Peer::from(&member.value)).collect(),
        })
    }

    /// Turns strangers away before they cost more than a look; who may come in is decided by [`look`].
    async fn greet(
        &self,
        records: &Records,
        caller: &Caller,
        request: &JoinRequest,
        now: OffsetDateTime,
    ) -> Result<(), JoinRefusal> {
        let known = right(records, caller, &self.cluster, request, true, now).await;
        if known.is_ok() {
            return Ok(());
        }
        // Perhaps the token is only not here yet.
        records.settle(Look::Latest).await?;
        right(records, caller, &self.cluster, request, true, now).await.map(drop)
    }

    /// Makes the member one in the records, unless it is one; its certificate is issued before, so that a request that
    /// is no good uses up no token.
    async fn record<F>(
        &self,
        records: &Records,
        caller: &Caller,
        request: &JoinRequest,
        now: OffsetDateTime,
        issue: impl Fn() -> F,
    ) -> Result<IssuedNode, JoinRefusal>
    where
        F: Future<Output = Result<IssuedNode, IssuerError>>,
    {
        for _ in 0..ATTEMPTS {
            records.settle(Look::Latest).await?;
            let issued = issue().await?;
            let candidate = candidate(request, &issued.read, now);
            let found = look(records, caller, &self.cluster, request, &candidate, now).await?;
            let Some(mut admission) = found else { return Ok(issued) };
            admission.compare.push(issued.compare.clone());
            let name = format!("system:node:{}", request.name);
            let author = Author { name, ..caller.author("joins the cluster", now) };
            if let Committed::Done(_) = records.txn(author, admission.compare, admission.then).await? {
                return Ok(issued);
            }
        }
        Err(JoinRefusal::Contended)
    }
}

/// The member that the node would be.
fn candidate(request: &JoinRequest, certificate: &Certificate, now: OffsetDateTime) -> MemberRecord {
    MemberRecord {
        peer: request.peer.clone(),
        api: request.api.clone(),
        key: certificate.key_hash.clone(),
        version: request.version.clone(),
        protocol: request.protocol,
        certificate_expires: Some(records::whole_seconds(certificate.not_after)),
        // It says for itself what it trusts, once it does; a rotation waits for that.
        ..MemberRecord::new(request.member, request.name.as_str(), now)
    }
}

/// What makes a node a member.
struct Admission {
    compare: Vec<Compare>,
    then: Vec<Op>,
}

/// Looks at what stands: nothing to do for who is a member already, else what is to be written under which conditions.
async fn look(
    records: &Records,
    caller: &Caller,
    cluster: &str,
    request: &JoinRequest,
    candidate: &MemberRecord,
    now: OffsetDateTime,
) -> Result<Option<Admission>, JoinRefusal> {
    let id = request.member;
    let (member_key, name_key, removed_key) =
        (records::member_key(id), records::name_key(&request.name), records::removed_key(id));
    if records.get::<RemovedRecord>(&removed_key, Look::Local).await?.is_some() {
        return Err(JoinRefusal::IdRemoved(id));
    }
    let member = records.get::<MemberRecord>(&member_key, Look::Local).await?;
    if let Some(member) = &member
        && (member.value.key != candidate.key || member.value.name != candidate.name)
    {
        return Err(JoinRefusal::IdTaken(id));
    }
    let right = right(records, caller, cluster, request, member.is_some(), now).await?;
    match &member {
        Some(member) if member.value.leaving => return Err(JoinRefusal::IdRemoved(id)),
        Some(_) => return Ok(None),
        None => {}
    }
    let name = records.get::<MemberId>(&name_key, Look::Local).await?;
    if let (Right::Token(_), None) = (&right, &name) {
        let members = records.local_list::<MemberRecord>(MEMBERS)?;
        own_addresses(request, members.iter().map(|member| &member.value))?;
    }
    let mut admission = Admission {
        compare: vec![
            Compare::Absent { key: member_key.clone() },
            Compare::Absent { key: removed_key },
            match &name {
                Some(name) => name.unchanged(),
                None => Compare::Absent { key: name_key.clone() },
            },
        ],
        then: vec![registry::put(member_key.clone(), candidate)?, registry::put(name_key, &id)?],
    };
    match (right, name) {
        (Right::Token(token), None) => {
            admission.compare.push(token.unchanged());
            admission.then.push(registry::put(token.key.clone(), &used(token.value, &request.name))?);
        }
        (Right::Token(_), Some(name)) => {
            return Err(JoinRefusal::NameTaken { name: request.name.clone(), member: name.value });
        }
        (Right::Member(old), name) => {
            if name.is_some_and(|name| name.value != old) {
                return Err(JoinRefusal::NotThatMember { old });
            }
            let (standing, held) = still_belongs(records, old).await?;
            admission.compare.extend(standing);
            // What an operator wants of the host does not end with its data.
            let successor = MemberRecord { held, ..candidate.clone() };
            admission.then[0] = registry::put(member_key, &successor)?;
            let tombstone = RemovedRecord {
                successor: Some(id),
                ..RemovedRecord::new(
                    &request.name,
                    format!("member {id}, its successor with a fresh copy"),
                    now,
                )
            };
            admission.then.push(Op::Delete { key: records::member_key(old) });
            admission.then.push(registry::put(records::removed_key(old), &tombstone)?);
        }
    }
    Ok(Some(admission))
}

/// What must still be so when a member is replaced: it may have been removed since its certificate was looked at, and a
/// certificate lives longer than a membership. And whether it is to stay a learner.
async fn still_belongs(records: &Records, old: MemberId) -> Result<([Compare; 2], bool), JoinRefusal> {
    let (member_key, removed_key) = (records::member_key(old), records::removed_key(old));
    if records.get::<RemovedRecord>(&removed_key, Look::Local).await?.is_some() {
        return Err(JoinRefusal::Removed { old });
    }
    let member = records.get::<MemberRecord>(&member_key, Look::Local).await?;
    let standing = match &member {
        Some(member) if member.value.leaving => return Err(JoinRefusal::Removed { old }),
        Some(member) => member.unchanged(),
        None => Compare::Absent { key: member_key },
    };
    let held = member.is_some_and(|member| member.value.held);
    Ok(([standing, Compare::Absent { key: removed_key }], held))
}

/// Refuses a node that says it is where another member is: nobody would ever reach it there, and it would stay a dead
/// learner. Two that join at once with one address may both pass; that costs what it cost before, and nobody's data.
fn own_addresses<'a>(
    request: &JoinRequest,
    mut members: impl Iterator<Item = &'a MemberRecord>,
) -> Result<(), JoinRefusal> {
    let taken = members.find_map(|member| {
        let address = request.peer.iter().find(|address| member.peer.contains(address))?;
        Some((address.clone(), member.name.clone(), member.id))
    });
    taken.map_or(Ok(()), |(address, name, member)| Err(JoinRefusal::AddressTaken { address, name, member }))
}

/// What entitles a node to join.
enum Right {
    Token(Box<Standing<TokenRecord>>),
    /// It was this member.
    Member(MemberId),
}

async fn right(
    records: &Records,
    caller: &Caller,
    cluster: &str,
    request: &JoinRequest,
    is_member: bool,
    now: OffsetDateTime,
) -> Result<Right, JoinRefusal> {
    if let Some(old) = request.replaces {
        return if speaks_for(caller, cluster, request, old, is_member) {
            Ok(Right::Member(old))
        } else {
            Err(JoinRefusal::NotThatMember { old })
        };
    }
    let text = request.token.as_deref().unwrap_or_default();
    let token: JoinToken = text.parse().map_err(|_| TokenRefusal::Wrong)?;
    let standing = records.get::<TokenRecord>(&records::token_key(&token.id), Look::Local).await?;
    let standing = standing.ok_or(TokenRefusal::Wrong)?;
    match standing.value.check(now, &token.secret) {
        // Its use was counted when it became a member; whoever holds that member's key is it.
        Err(TokenRefusal::Expired { .. } | TokenRefusal::UsedUp { .. }) if is_member => {}
        checked => checked?,
    }
    Ok(Right::Token(Box::new(standing)))
}

/// Whether the caller showed the certificate of the member that begins again; or, at a repeated attempt, the one that
/// the first was answered with. At that its host has a new member's key, and the old certificate may be nobody's any more:
/// the tombstone that an earlier version writes names no successor.
fn speaks_for(caller: &Caller, cluster: &str, request: &JoinRequest, old: MemberId, is_member: bool) -> bool {
    let named = is_member
        || matches!(&caller.identity, Identity::User { role: Role::Node(name), .. } if *name == request.name);
    let number = identity::cluster_number(cluster).unwrap_or_default();
    let uris = [old, request.member].map(|id| member_uri(number, id.0));
    named && caller.member.as_ref().is_some_and(|member| uris.contains(member))
}

fn used(token: TokenRecord, by: &str) -> TokenRecord {
    let mut used_by = token.used_by.clone();
    used_by.push(by.to_owned());
    TokenRecord { uses_left: token.uses_left.map(|left| left.saturating_sub(1)), used_by, ..token }
}

/// Makes raft know the member, through elections and other changes.
async fn add(records: &Records, request: &JoinRequest) -> Result<(), JoinRefusal> {
    let change = match request.replaces {
        Some(old) => MemberChange::Reseed { old: old.0, new: request.member.0 },
        None => MemberChange::AddLearner(request.member.0),
    };
    let status = records.raft().status();
    let known = |ids: &[u64]| ids.contains(&request.member.0);
    if known(&status.voters) || known(&status.learners) {
        return still_let_in(records, request.member).await;
    }
    let deadline = Instant::now() + CHANGE_PATIENCE;
    loop {
        still_let_in(records, request.member).await?;
        match records.raft().change_members(change).await {
            Err(ChangeError::NoLeader | ChangeError::Busy | ChangeError::Uncertain)
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(CHANGE_PAUSE).await;
            }
            Ok(()) => return still_let_in(records, request.member).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A member that raft does not know yet may be removed already, and its removal be done: then nobody adds it any more,
/// and it is told no secrets. Should the removal come between this look and the change, the leader tidies up.
async fn still_let_in(records: &Records, id: MemberId) -> Result<(), JoinRefusal> {
    match records.get::<RemovedRecord>(&records::removed_key(id), Look::Latest).await {
        Ok(Some(_)) => Err(JoinRefusal::IdRemoved(id)),
        // Whether it can be added is for raft to say.
        Ok(None) | Err(RecordsError::NoQuorum | RecordsError::Busy) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::harness::Harness;
    use crate::api::respond::Refusal;
    use crate::cluster::join_request::tests::{NOW, request};

    #[tokio::test]
    async fn a_join_that_a_removal_overtook_adds_nobody() {
        let api = Harness::start().await;
        let request = understand(request().to_string().as_bytes(), NOW).expect("understood");
        let tombstone = RemovedRecord::new(request.name.clone(), "root", NOW);
        let put = registry::put(records::removed_key(request.member), &tombstone).expect("encodes");
        let author = crate::author::node("n1", "test");
        api.cluster.records.txn(author, Vec::new(), vec![put]).await.expect("written");
        let refusal = add(&api.cluster.records, &request).await.expect_err("refused");
        assert!(matches!(refusal, JoinRefusal::IdRemoved(id) if id == request.member), "{refusal}");
        assert_eq!(api.raft.status().learners, Vec::<u64>::new());
    }

    #[test]
    fn an_address_belongs_to_one_member() {
        let request = understand(request().to_string().as_bytes(), NOW).expect("understood");
        let at = |peer: &str| MemberRecord {
            peer: vec!["n5.lab:2380".to_owned(), peer.to_owned()],
            ..MemberRecord::new(MemberId(5), "n5", NOW)
        };
        own_addresses(&request, [at("10.0.0.3:2380"), at("10.0.0.2:3380")].iter())
            .expect("other hosts, other ports");
        let refusal = own_addresses(&request, [at("10.0.0.2:2380")].iter()).expect_err("refused");
        let text = refusal.to_string();
        assert!(text.contains("10.0.0.2:2380 belongs to member 0000000000000005 (n5)"), "{text}");
        assert_eq!(Refusal::from(refusal).status().code, 409);
    }

    #[test]
    fn a_use_is_counted_and_remembered() {
        let token = TokenRecord {
            id: "t".to_owned(),
            hash: String::new(),
            role: "node".to_owned(),
            created: NOW,
            expires: NOW,
            uses_left: Some(1),
            used_by: Vec::new(),
            created_by: "admin".to_owned(),
            description: String::new(),
            other: records::Other::new(),
        };
        let token = used(token, "n2");
        assert_eq!((token.uses_left, token.used_by), (Some(0), vec!["n2".to_owned()]));
    }
}
