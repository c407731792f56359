//! Membership: what an operator does to members, and what the leader tidies up after.
//!
//! Raft decides who belongs to the cluster, the records say who that is; each of these moves both, in an order that a
//! crash in between can not spoil. A removal is announced in the member's record first, so that whoever leads can finish
//! it: the record, the name and the node's report go, and a tombstone stays, for an id is never used twice. The Node and
//! its endpoints are policy and stay.

use std::collections::BTreeSet;
use std::time::Duration;

use appliance_consensus::{ChangeError, MemberChange, Raft, Status};
use appliance_resources::{Kind, ResourceKey};
use appliance_storage::{Author, Key, Op};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::handle::ClusterHandle;
use super::peers::Peers;
use super::records::{self, MEMBERS, MemberId, MemberRecord, Other, RemovedRecord};
use super::registry::{self, Committed, Look, RecordsError, Standing};
use crate::author;

/// How long raft is asked, through elections and other changes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody else changed the same record, again and again.
const ATTEMPTS: usize = 10;

/// Between two looks at what is left to tidy up.
const TIDY: Duration = Duration::from_secs(2);

/// Why an operator's wish was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembershipError {
    #[error("no member has the id or node name {0:?}; \"appliance ctl member list\" shows them all")]
    Unknown(String),
    #[error("others keep changing the record of this member; nothing was changed")]
    Contended,
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// A member, as an operator named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its id.
    pub(crate) id: MemberId,
    /// Its node name; empty for a member that has no record.
    pub(crate) name: String,
}

/// The member of that id or node name.
pub(crate) fn find(cluster: &ClusterHandle, text: &str) -> Result<Named, MembershipError> {
    let members = cluster.records.local_list::<MemberRecord>(MEMBERS)?;
    let named =
        |member: &Standing<MemberRecord>| Named { id: member.value.id, name: member.value.name.clone() };
    // An id first: a node may be called like one.
    if let Ok(id) = text.parse::<MemberId>() {
        let status = cluster.records.raft().status();
        if let Some(member) = members.iter().find(|member| member.value.id == id) {
            return Ok(named(member));
        }
        if belongs(&status, id) {
            return Ok(Named { id, name: String::new() });
        }
    }
    let member = members.iter().find(|member| member.value.name == text);
    member.map(named).ok_or_else(|| MembershipError::Unknown(text.to_owned()))
}

/// A learner votes from now on, and may be promoted by itself again.
pub(crate) async fn promote(
    cluster: &ClusterHandle,
    author: &Author,
    id: MemberId,
) -> Result<(), MembershipError> {
    edit(cluster, author, id, |record| record.held = false).await?;
    change(cluster.records.raft(), MemberChange::Promote(id.0)).await
}

/// A voter only follows from now on, until somebody promotes it.
pub(crate) async fn demote(
    cluster: &ClusterHandle,
    author: &Author,
    id: MemberId,
) -> Result<(), MembershipError> {
    edit(cluster, author, id, |record| record.held = true).await?;
    let demoted = change(cluster.records.raft(), MemberChange::Demote(id.0)).await;
    if matches!(demoted, Err(MembershipError::Change(ChangeError::Refused { .. }))) {
        edit(cluster, author, id, |record| record.held = false).await?;
    }
    demoted
}

/// A member belongs to the cluster no longer.
pub(crate) async fn remove(
    cluster: &ClusterHandle,
    author: &Author,
    named: &Named,
) -> Result<(), MembershipError> {
    edit(cluster, author, named.id, |record| record.leaving = true).await?;
    let removed = change(cluster.records.raft(), MemberChange::Remove(named.id.0)).await;
    if matches!(removed, Err(MembershipError::Change(ChangeError::Refused { .. }))) {
        edit(cluster, author, named.id, |record| record.leaving = false).await?;
    }
    removed?;
    if named.id == cluster.member {
        // Not ours to write any more; the leader does it.
        return Ok(());
    }
    Ok(bury(cluster, author, named).await?)
}

/// Changes a member's record; one that has none is left so.
async fn edit(
    cluster: &ClusterHandle,
    author: &Author,
    id: MemberId,
    mut with: impl FnMut(&mut MemberRecord),
) -> Result<(), MembershipError> {
    let key = records::member_key(id);
    for _ in 0..ATTEMPTS {
        let Some(standing) = cluster.records.get::<MemberRecord>(&key, Look::Latest).await? else {
            return Ok(());
        };
        let mut record = standing.value.clone();
        with(&mut record);
        if record == standing.value {
            return Ok(());
        }
        let put = registry::put(key.clone(), &record)?;
        let author = Author { request: None, ..author.clone() };
        if let Committed::Done(_) = cluster.records.txn(author, vec![standing.unchanged()], vec![put]).await?
        {
            return Ok(());
        }
    }
    Err(MembershipError::Contended)
}

/// Asks raft, through elections and other changes under way; what is so already is not changed twice.
async fn change(raft: &Raft, change: MemberChange) -> Result<(), MembershipError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match raft.change_members(change).await {
            Err(ChangeError::NoLeader | ChangeError::Busy | ChangeError::Uncertain)
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            changed => return Ok(changed?),
        }
    }
}

/// Removes what the records say of a member that raft no longer counts.
async fn bury(cluster: &ClusterHandle, author: &Author, named: &Named) -> Result<(), RecordsError> {
    let (member, removed) = (records::member_key(named.id), records::removed_key(named.id));
    let tombstone = RemovedRecord {
        name: named.name.clone(),
        at: records::whole_seconds(OffsetDateTime::now_utc()),
        by: author.name.clone(),
        successor: None,
        other: Other::new(),
    };
    let mut compare = Vec::new();
    let mut then = vec![Op::Delete { key: member }, registry::put(removed, &tombstone)?];
    let name_key = records::name_key(&named.name);
    let holder = cluster.records.get::<MemberId>(&name_key, Look::Latest).await?;
    if let Some(holder) = holder.filter(|holder| holder.value == named.id) {
        let report = ResourceKey::global(Kind::NodeReport, named.name.clone());
        compare.push(holder.unchanged());
        then.push(Op::Delete { key: name_key });
        then.push(Op::Delete { key: Key::from(report.path()) });
    }
    let author = Author { request: None, ..author.clone() };
    // A conflict means that the name was taken over meanwhile; the next look finds that.
    cluster.records.txn(author, compare, then).await.map(drop)
}

fn belongs(status: &Status, id: MemberId) -> bool {
    let lists = [&status.voters, &status.outgoing_voters, &status.learners];
    lists.iter().any(|list| list.contains(&id.0))
}

/// Runs on every member, and does something on the leader: finishes removals that were begun.
pub(crate) async fn tidy(cluster: ClusterHandle) {
    let mut ticks = tokio::time::interval(TIDY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = cluster.records.raft().status();
        if !status.is_leader() {
            continue;
        }
        let Ok(members) = cluster.records.local_list::<MemberRecord>(MEMBERS) else { continue };
        for member in members.iter().map(|member| &member.value) {
            if member.leaving && !belongs(&status, member.id) {
                let named = Named { id: member.id, name: member.name.clone() };
                let author = author::node(&cluster.node_name, "a removal that was begun");
                if let Err(error) = bury(&cluster, &author, &named).await {
                    tracing::debug!("the removal of member {} is not finished: {error}", member.id);
                }
            }
        }
    }
}

/// Tells raft which learners an operator wants to stay learners, at the start and whenever that changes.
pub(crate) async fn hold(raft: Raft, mut peers: watch::Receiver<Peers>) {
    loop {
        let held: BTreeSet<u64> = peers.borrow_and_update().held.iter().map(|id| id.0).collect();
        while raft.hold_learners(held.clone()).is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        if peers.changed().await.is_err() {
            return;
        }
    }
}
