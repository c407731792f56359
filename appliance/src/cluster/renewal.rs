//! Renewal: the task that keeps this node's keys fresh, says so in its record, and, on the leader, takes the steps of a
//! rotation and sweeps up what has expired.
//!
//! It looks when the authority's record changes and now and then besides. Every look does the same things in the same
//! order, each idempotent, so a failure needs no memory: it raises an alarm and the next look tries again. It never
//! stops a node: the worst it does is to leave things as they are and say so.

use std::sync::Arc;
use std::time::Duration;

use appliance_storage::{Key, Op, Watcher};
use time::OffsetDateTime;

use super::ca::{self, RotateRefusal};
use super::certificate::Certificate;
use super::handle::ClusterHandle;
use super::keyring::{self, KeyringError};
use super::records::{self, CaPhase, CaRecord, MemberRecord, TokenRecord};
use super::registry::{self, RecordsError, Standing};
use crate::author;

/// Between two looks, each of which costs a few local reads: certificates live for months, but a clock may be set, and an
/// alarm should not be long in coming or going.
const LOOK: Duration = Duration::from_secs(10);

/// Between two looks while a rotation is under way, which waits for every member's record.
const LOOK_ROTATING: Duration = Duration::from_secs(1);

/// A token that has expired is kept this long, so that whoever still tries it is told that it expired.
const KEPT_AFTER_EXPIRY: time::Duration = time::Duration::DAY;

/// Expired records removed in one transaction.
const SWEEP_MAX: usize = 64;

/// Before the authority itself ends, whose replacement is a decision that somebody must take.
const AUTHORITY_ENDS_SOON: time::Duration = time::Duration::days(365);

/// The alarms raised here.
const ALARM_KEYS: &str = "certificates";
const ALARM_RECORD: &str = "certificate-record";
const ALARM_AUTHORITY: &str = "authority";
const ALARM_ROTATION: &str = "rotation";

/// Kept with each revision as the reason of the write.
const REASON: &str = "certificate renewal";

/// Looks after the node's keys for as long as it is not aborted.
pub(crate) async fn run(cluster: ClusterHandle) {
    let mut changes = watch(&cluster);
    loop {
        let rotating = look(&cluster).await;
        let pause = if rotating { LOOK_ROTATING } else { LOOK };
        // Whether it changed, or the watch was closed for falling behind: either way it is time to look.
        let changed = async {
            match &mut changes {
                Some(watcher) => watcher.next().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        if let Ok(false) = tokio::time::timeout(pause, changed).await {
            changes = watch(&cluster);
        }
    }
}

fn watch(cluster: &ClusterHandle) -> Option<Watcher> {
    let reader = cluster.records.reader();
    reader.watch(&Key::from(records::CA), reader.revision()).ok()
}

/// One look; whether a rotation is under way.
async fn look(cluster: &ClusterHandle) -> bool {
    let now = OffsetDateTime::now_utc();
    let record = match keyring::ca_record(cluster.records.reader()) {
        Ok(Some(record)) => record,
        // A joiner's copy is on its way.
        Ok(None) => return true,
        Err(error) => {
            cluster.alarms.raise(ALARM_AUTHORITY, error.to_string());
            return false;
        }
    };
    let followed = follow(cluster, &record, now).await;
    check(cluster, &record.value, now, followed);
    match publish(cluster).await {
        Ok(()) => cluster.alarms.clear(ALARM_RECORD),
        // Without a quorum nobody can write, which is somebody else's alarm.
        Err(RecordsError::NoQuorum | RecordsError::Busy | RecordsError::Removed | RecordsError::Stopped) => {}
        Err(error) => cluster.alarms.raise(
            ALARM_RECORD,
            format!("this member's record does not say what certificate it has: {error}"),
        ),
    }
    if cluster.records.raft().status().is_leader() {
        lead(cluster, &record, now).await;
    }
    record.value.phase != CaPhase::Stable
}

/// Keys as they should be. The disk is waited for where nothing else waits.
async fn follow(
    cluster: &ClusterHandle,
    record: &Standing<CaRecord>,
    now: OffsetDateTime,
) -> Result<(), String> {
    let (keyring, record) = (Arc::clone(&cluster.keyring), record.clone());
    let followed = tokio::task::spawn_blocking(move || keyring.follow(&record, now)).await;
    let reasons =
        followed.map_err(|error| error.to_string())?.map_err(|error: KeyringError| error.to_string())?;
    for reason in reasons {
        tracing::info!("made anew while running: {reason}");
    }
    Ok(())
}

/// Tells the operator what is wrong with the certificates, or soon will be.
fn check(cluster: &ClusterHandle, record: &CaRecord, now: OffsetDateTime, followed: Result<(), String>) {
    let expires = cluster.keyring.keys().borrow().facts().map(|facts| facts.expires);
    match (followed, expires) {
        (Err(error), Some(expires)) => cluster.alarms.raise(
            ALARM_KEYS,
            format!(
                "this member's certificate, which ends on {}, can not be renewed: {error}",
                expires.date()
            ),
        ),
        (Err(error), None) => {
            cluster.alarms.raise(ALARM_KEYS, format!("this member's certificate can not be made: {error}"));
        }
        (Ok(()), _) => cluster.alarms.clear(ALARM_KEYS),
    }
    let ends = Certificate::from_pem(&record.current.certificate).map(|read| read.not_after);
    match ends {
        Ok(ends) if ends - now < AUTHORITY_ENDS_SOON => cluster.alarms.raise(
            ALARM_AUTHORITY,
            format!(
                "the cluster's certificate authority ends on {}: replace it with \"appliance ctl ca rotate\"",
                ends.date()
            ),
        ),
        _ => cluster.alarms.clear(ALARM_AUTHORITY),
    }
}

/// Says in this member's record what its keys are; the rotation and `cluster status` read it there.
async fn publish(cluster: &ClusterHandle) -> Result<(), RecordsError> {
    let Some(facts) = cluster.keyring.keys().borrow().facts() else { return Ok(()) };
    let key = records::member_key(cluster.member);
    let Some(standing) = cluster.records.get::<MemberRecord>(&key, registry::Look::Local).await? else {
        return Ok(());
    };
    let record = MemberRecord {
        key: facts.key,
        trusts: facts.trusts,
        issuer: facts.issuer,
        certificate_expires: Some(records::whole_seconds(facts.expires)),
        ..standing.value.clone()
    };
    if record == standing.value {
        return Ok(());
    }
    let author = author::node(&cluster.node_name, REASON);
    // A conflict means that somebody else described this member meanwhile; the next look describes it again.
    cluster.records.txn(author, vec![standing.unchanged()], vec![registry::put(key, &record)?]).await?;
    Ok(())
}

/// What only the leader does.
async fn lead(cluster: &ClusterHandle, record: &Standing<CaRecord>, now: OffsetDateTime) {
    match advance(cluster, record).await {
        Ok(waiting) if waiting.is_empty() => cluster.alarms.clear(ALARM_ROTATION),
        Ok(waiting) => cluster.alarms.raise(ALARM_ROTATION, RotateRefusal::Waiting(waiting).to_string()),
        Err(error) => tracing::warn!("the rotation of the authority did not go on: {error}"),
    }
    if let Err(error) = sweep(cluster, now).await {
        tracing::debug!("expired tokens were not removed: {error}");
    }
}

/// The next step of a rotation, if it is due; else whom it waits for.
async fn advance(cluster: &ClusterHandle, record: &Standing<CaRecord>) -> Result<Vec<String>, RecordsError> {
    if record.value.phase == CaPhase::Stable {
        return Ok(Vec::new());
    }
    let members = members(cluster)?;
    let Some(next) = ca::advance(&record.value, &members, false) else {
        return Ok(ca::waiting_for(&record.value, &members));
    };
    tracing::info!("rotation of the authority: {:?} is done, now {:?}", record.value.phase, next.phase);
    let author = author::node(&cluster.node_name, "rotation of the authority");
    let put = registry::put(record.key.clone(), &next)?;
    // A conflict means that the step was taken already.
    cluster.records.txn(author, vec![record.unchanged()], vec![put]).await?;
    Ok(Vec::new())
}

/// Every member's record, as this member has it.
pub(crate) fn members(cluster: &ClusterHandle) -> Result<Vec<MemberRecord>, RecordsError> {
    let members = cluster.records.local_list::<MemberRecord>(records::MEMBERS)?;
    Ok(members.into_iter().map(|member| member.value).collect())
}

/// Removes join tokens that expired a while ago. Credentials go when somebody makes another: one clock that jumps ahead
/// must not end what a year's programs run on.
async fn sweep(cluster: &ClusterHandle, now: OffsetDateTime) -> Result<(), RecordsError> {
    let tokens = cluster.records.local_list::<TokenRecord>(records::TOKENS)?;
    let over = tokens.into_iter().filter(|token| now - token.value.expires > KEPT_AFTER_EXPIRY);
    let gone: Vec<Op> = over.take(SWEEP_MAX).map(|token| Op::Delete { key: token.key }).collect();
    if !gone.is_empty() {
        cluster.records.txn(author::node(&cluster.node_name, "expired"), Vec::new(), gone).await?;
    }
    Ok(())
}
