//! Membership: what an operator does to members, and what the leader tidies up after.
//!
//! Raft decides who belongs to the cluster, the records say who that is; each of these moves both, in an order that a
//! crash in between can not spoil. A removal is announced in the member's record first, so that whoever leads can finish
//! it, from its first step to its last: the record, the name and the node's report go, and a tombstone stays, for an id is never used twice. The Node and
//! its endpoints are policy and stay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use appliance_consensus::{ChangeError, MemberChange, Raft, Status};
use appliance_resources::{Kind, ResourceKey};
use appliance_storage::{Author, Key, Op};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::handle::ClusterHandle;
use super::peers::Peers;
use super::records::{self, MEMBERS, MemberId, MemberRecord, RemovedRecord};
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

/// What raft still counts is left to whoever began its removal or replacement for this many looks, longer than they
/// are patient: two who finish one thing could answer two things.
const LOOKS_SPARED: u32 = 8;

/// The alarm about members that can not be taken out of raft.
const ALARM: &str = "removal";

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

/// The member of that id or node name, by what the cluster knows; without a quorum, by what this member does.
pub(crate) async fn find(cluster: &ClusterHandle, text: &str) -> Result<Named, MembershipError> {
    match cluster.records.settle(Look::Latest).await {
        Ok(()) | Err(RecordsError::NoQuorum | RecordsError::Busy) => known(cluster, text),
        Err(error) => Err(error.into()),
    }
}

/// The member of that id or node name, as this member knows it.
pub(crate) fn known(cluster: &ClusterHandle, text: &str) -> Result<Named, MembershipError> {
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

/// A member belongs to the cluster no longer. Answers which that was.
pub(crate) async fn remove(
    cluster: &ClusterHandle,
    author: &Author,
    text: &str,
) -> Result<Named, MembershipError> {
    let named = announce(cluster, author, text).await?;
    let removed = change(cluster.records.raft(), MemberChange::Remove(named.id.0)).await;
    if matches!(removed, Err(MembershipError::Change(ChangeError::Refused { .. }))) {
        edit(cluster, author, named.id, |record| record.leaving = false).await?;
    }
    removed?;
    if named.id == cluster.member {
        // Not ours to write any more; the leader does it.
        return Ok(named);
    }
    bury(cluster, author, &named).await?;
    Ok(named)
}

/// Says in its record that a member is being removed. One that begins again at this moment has another id by then; the
/// host was meant, so it is looked for once more.
async fn announce(cluster: &ClusterHandle, author: &Author, text: &str) -> Result<Named, MembershipError> {
    for _ in 0..ATTEMPTS {
        let named = find(cluster, text).await?;
        if edit(cluster, author, named.id, |record| record.leaving = true).await? || named.name.is_empty() {
            return Ok(named);
        }
    }
    Err(MembershipError::Contended)
}

/// Changes a member's record; one that has none is left so. Whether there is one.
async fn edit(
    cluster: &ClusterHandle,
    author: &Author,
    id: MemberId,
    mut with: impl FnMut(&mut MemberRecord),
) -> Result<bool, MembershipError> {
    let key = records::member_key(id);
    for _ in 0..ATTEMPTS {
        let Some(standing) = cluster.records.get::<MemberRecord>(&key, Look::Latest).await? else {
            return Ok(false);
        };
        let mut record = standing.value.clone();
        with(&mut record);
        if record == standing.value {
            return Ok(true);
        }
        let put = registry::put(key.clone(), &record)?;
        let author = Author { request: None, ..author.clone() };
        if let Committed::Done(_) = cluster.records.txn(author, vec![standing.unchanged()], vec![put]).await?
        {
            return Ok(true);
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
    let tombstone = RemovedRecord::new(named.name.clone(), author.name.clone(), OffsetDateTime::now_utc());
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

/// Everybody whom raft counts as a member.
fn counted(status: &Status) -> impl Iterator<Item = MemberId> {
    let lists = [&status.voters, &status.outgoing_voters, &status.learners];
    lists.into_iter().flatten().copied().map(MemberId)
}

fn belongs(status: &Status, id: MemberId) -> bool {
    counted(status).any(|member| member == id)
}

/// Runs on every member, and does something on the leader: finishes removals that were begun.
pub(crate) async fn tidy(cluster: ClusterHandle) {
    let mut ticks = tokio::time::interval(TIDY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut spared = Spared::new();
    loop {
        ticks.tick().await;
        if !cluster.records.raft().status().is_leader() {
            spared.clear();
            cluster.alarms.clear(ALARM);
            continue;
        }
        if let Err(error) = look(&cluster, &mut spared).await {
            tracing::debug!("what is left to tidy up can not be looked for: {error}");
        }
    }
}

/// For how many looks each member that raft should count no longer has been left to others.
type Spared = BTreeMap<MemberId, u32>;

/// One look at what is left to tidy up. A removal may have been cut short after any of its steps, and so may a join: of a
/// member whose removal overtook it, or in place of one that raft was never told to forget.
async fn look(cluster: &ClusterHandle, spared: &mut Spared) -> Result<(), RecordsError> {
    let status = cluster.records.raft().status();
    let members = cluster.records.local_list::<MemberRecord>(MEMBERS)?;
    let mut surplus = BTreeSet::new();
    for member in members.iter().map(|member| &member.value).filter(|member| member.leaving) {
        if belongs(&status, member.id) {
            surplus.insert(member.id);
            continue;
        }
        let named = Named { id: member.id, name: member.name.clone() };
        if let Err(error) = bury(cluster, &tidying(cluster), &named).await {
            tracing::debug!("the removal of member {} is not finished: {error}", member.id);
        }
    }
    for id in counted(&status) {
        if cluster.records.reader().get(&records::removed_key(id))?.is_some() {
            surplus.insert(id);
        }
    }
    spared.retain(|id, _| surplus.contains(id));
    let mut stuck = None;
    for id in surplus {
        let looks = spared.entry(id).or_default();
        *looks = looks.saturating_add(1);
        if *looks > LOOKS_SPARED {
            stuck = forget(cluster, id).await.err().or(stuck);
        }
    }
    match stuck {
        Some(stuck) => cluster.alarms.raise(ALARM, stuck),
        None => cluster.alarms.clear(ALARM),
    }
    Ok(())
}

/// Takes a member out of raft whose removal nobody finishes; what is in the way, if that is definite. A removal that can
/// not be is taken back, as whoever asked for it would have been told, unless a tombstone says that it was done.
async fn forget(cluster: &ClusterHandle, id: MemberId) -> Result<(), String> {
    match change(cluster.records.raft(), MemberChange::Remove(id.0)).await {
        Ok(()) => tracing::info!("member {id} is removed: that was begun, and nobody finished it"),
        Err(MembershipError::Change(ChangeError::Refused { reason })) => {
            match edit(cluster, &tidying(cluster), id, |record| record.leaving = false).await {
                Ok(true) => tracing::warn!(
                    "the removal of member {id} was begun and not finished, and can not be now: {reason}; it stays"
                ),
                Ok(false) => {
                    return Err(format!("member {id} was removed and still counts as one: {reason}"));
                }
                Err(error) => tracing::debug!("the removal of member {id} is not taken back: {error}"),
            }
        }
        Err(error) => tracing::debug!("the removal of member {id} is not finished: {error}"),
    }
    Ok(())
}

fn tidying(cluster: &ClusterHandle) -> Author {
    author::node(&cluster.node_name, "a removal that was begun")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::harness::Harness;
    use crate::cluster::records::REMOVED;

    /// A cluster whose raft counts a learner, with a record or without.
    async fn with_learner(record: Option<MemberRecord>) -> Harness {
        let api = Harness::start().await;
        for (key, record) in record.iter().map(|record| (records::member_key(record.id), record)) {
            write(&api, registry::put(key, record).expect("encodes")).await;
            let name = registry::put(records::name_key(&record.name), &record.id).expect("encodes");
            write(&api, name).await;
        }
        api.raft.change_members(MemberChange::AddLearner(0xff)).await.expect("a learner");
        api.raft.wait_status(|status| status.learners.contains(&0xff)).await.expect("raft runs");
        api
    }

    async fn write(api: &Harness, op: Op) {
        let author = author::node("n1", "test");
        api.cluster.records.txn(author, Vec::new(), vec![op]).await.expect("written");
    }

    fn n2() -> MemberRecord {
        MemberRecord::new(MemberId(0xff), "n2", OffsetDateTime::now_utc())
    }

    async fn looks(api: &Harness, spared: &mut Spared, count: u32) {
        for _ in 0..count {
            look(&api.cluster, spared).await.expect("looked");
        }
    }

    fn tombstones(api: &Harness) -> usize {
        api.cluster.records.local_list::<RemovedRecord>(REMOVED).expect("read").len()
    }

    #[tokio::test]
    async fn a_removal_that_died_after_its_first_step_is_finished_by_the_leader() {
        let api = with_learner(Some(MemberRecord { leaving: true, ..n2() })).await;
        let mut spared = Spared::new();
        looks(&api, &mut spared, LOOKS_SPARED).await;
        assert!(belongs(&api.raft.status(), MemberId(0xff)), "whoever began it may be at it still");
        looks(&api, &mut spared, 1).await;
        api.raft.wait_status(|status| status.learners.is_empty()).await.expect("raft runs");
        looks(&api, &mut spared, 1).await;
        assert_eq!((known(&api.cluster, "n2").is_err(), tombstones(&api)), (true, 1));
        assert_eq!(spared, Spared::new());
    }

    #[tokio::test]
    async fn a_member_that_has_a_tombstone_counts_no_more() {
        let api = with_learner(None).await;
        let tombstone = RemovedRecord::new("n2", "root", OffsetDateTime::now_utc());
        let key = records::removed_key(MemberId(0xff));
        write(&api, registry::put(key, &tombstone).expect("encodes")).await;
        let mut spared = Spared::new();
        looks(&api, &mut spared, LOOKS_SPARED).await;
        assert!(belongs(&api.raft.status(), MemberId(0xff)), "its successor may be at it still");
        looks(&api, &mut spared, 1).await;
        api.raft.wait_status(|status| status.learners.is_empty()).await.expect("raft runs");
    }

    #[tokio::test]
    async fn a_removal_that_can_not_be_finished_is_taken_back() {
        let api = Harness::start().await;
        let only = MemberRecord { leaving: true, ..MemberRecord::new(MemberId(1), "n1", n2().joined) };
        let key = records::member_key(MemberId(1));
        write(&api, registry::put(key.clone(), &only).expect("encodes")).await;
        looks(&api, &mut Spared::new(), 1 + LOOKS_SPARED).await;
        let left = api.cluster.records.get::<MemberRecord>(&key, Look::Local).await.expect("read");
        assert_eq!(left.map(|left| left.value), Some(MemberRecord { leaving: false, ..only }));
        assert!(belongs(&api.raft.status(), MemberId(1)));
    }

    #[tokio::test]
    async fn a_member_without_trouble_is_left_alone() {
        let api = with_learner(Some(n2())).await;
        let mut spared = Spared::new();
        looks(&api, &mut spared, 2 + LOOKS_SPARED).await;
        assert!(belongs(&api.raft.status(), MemberId(0xff)) && spared.is_empty());
        assert_eq!(tombstones(&api), 0);
    }
}
