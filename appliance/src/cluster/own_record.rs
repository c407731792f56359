//! Own record: a member keeps what the cluster knows of it true: where it is, which version it runs.
//!
//! It looks when its record changes and now and then besides, writes only what differs, and gives up nothing: without a
//! quorum the next look does it. Whoever formed the cluster, or carried it over from an earlier version or a backup, has
//! no record until it writes one here; a joiner's was written by the member that let it in. What the record says of
//! certificates is [`super::renewal`]'s.

use std::time::Duration;

use appliance_storage::{Compare, Key, Watcher};
use time::OffsetDateTime;

use super::handle::ClusterHandle;
use super::peers::Own;
use super::records::{self, MemberId, MemberRecord, PROTOCOL, RemovedRecord};
use super::registry::{self, Committed, Look, RecordsError};
use crate::author;
use crate::version;

/// Between two looks when nothing happens.
const LOOK: Duration = Duration::from_secs(30);

/// Between two looks while something stands in the way.
const RETRY: Duration = Duration::from_secs(1);

/// The alarm raised here.
const ALARM: &str = "member-record";

/// Kept with each revision as the reason of the write.
const REASON: &str = "a member's own record";

/// Keeps the record true for as long as it is not aborted.
pub(crate) async fn run(cluster: ClusterHandle, own: Own) {
    let mut changes = watch(&cluster);
    loop {
        let pause = match look(&cluster, &own).await {
            Ok(()) => {
                cluster.alarms.clear(ALARM);
                LOOK
            }
            Err(Obstacle::Passing) => RETRY,
            Err(Obstacle::NameTaken(by)) => {
                let name = &cluster.node_name;
                cluster.alarms.raise(
                    ALARM,
                    format!("the node name {name} belongs to member {by} in the cluster's records"),
                );
                LOOK
            }
            Err(Obstacle::Records(error)) => {
                cluster.alarms.raise(ALARM, format!("this member's record is not up to date: {error}"));
                RETRY
            }
        };
        let changed = async {
            match &mut changes {
                Some(watcher) => watcher.next().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        if let Ok(false) = tokio::time::timeout(pause, changed).await {
            tokio::time::sleep(RETRY).await;
            changes = watch(&cluster);
        }
    }
}

fn watch(cluster: &ClusterHandle) -> Option<Watcher> {
    let reader = cluster.records.reader();
    reader.watch(&records::member_key(cluster.member), reader.revision()).ok()
}

/// Why the record is not as it should be.
enum Obstacle {
    /// Nobody can write now, or somebody else just did.
    Passing,
    /// Another member has the name.
    NameTaken(MemberId),
    Records(RecordsError),
}

impl From<RecordsError> for Obstacle {
    fn from(error: RecordsError) -> Obstacle {
        match error {
            RecordsError::NoQuorum
            | RecordsError::Busy
            | RecordsError::InDoubt
            | RecordsError::Removed
            | RecordsError::Stopped => Obstacle::Passing,
            error => Obstacle::Records(error),
        }
    }
}

/// Compares and, where something differs, writes.
async fn look(cluster: &ClusterHandle, own: &Own) -> Result<(), Obstacle> {
    let key = records::member_key(cluster.member);
    let standing = cluster.records.get::<MemberRecord>(&key, Look::Local).await?;
    let Some(standing) = standing else { return create(cluster, own, key).await };
    let record = describe(standing.value.clone(), own);
    if record == standing.value {
        return Ok(());
    }
    let put = registry::put(key, &record)?;
    written(cluster, vec![standing.unchanged()], vec![put]).await
}

/// What the record should say of what is looked after here.
fn describe(record: MemberRecord, own: &Own) -> MemberRecord {
    MemberRecord {
        peer: own.peer.clone(),
        api: own.api.clone(),
        version: version::VERSION.to_owned(),
        protocol: PROTOCOL,
        ..record
    }
}

/// The record of a member that nobody let in: if raft counts it as one, and nobody removed it.
async fn create(cluster: &ClusterHandle, own: &Own, key: Key) -> Result<(), Obstacle> {
    let status = cluster.records.raft().status();
    let id = cluster.member;
    if !status.voters.contains(&id.0) && !status.learners.contains(&id.0) {
        // A joiner's copy is on its way.
        return Err(Obstacle::Passing);
    }
    cluster.records.settle(Look::Latest).await?;
    let removed = records::removed_key(id);
    if cluster.records.get::<RemovedRecord>(&removed, Look::Local).await?.is_some() {
        return Ok(());
    }
    let name_key = records::name_key(&cluster.node_name);
    let name = cluster.records.get::<MemberId>(&name_key, Look::Local).await?;
    if let Some(name) = name.filter(|name| name.value != id) {
        return Err(Obstacle::NameTaken(name.value));
    }
    let Some(facts) = cluster.keyring.keys().borrow().facts() else { return Err(Obstacle::Passing) };
    let record = MemberRecord {
        key: facts.key,
        certificate_expires: Some(records::whole_seconds(facts.expires)),
        trusts: facts.trusts,
        issuer: facts.issuer,
        ..MemberRecord::new(id, cluster.node_name.as_str(), OffsetDateTime::now_utc())
    };
    let compare = vec![Compare::Absent { key: key.clone() }, Compare::Absent { key: removed }];
    let then = vec![registry::put(key, &describe(record, own))?, registry::put(name_key, &id)?];
    written(cluster, compare, then).await
}

async fn written(
    cluster: &ClusterHandle,
    compare: Vec<Compare>,
    then: Vec<appliance_storage::Op>,
) -> Result<(), Obstacle> {
    let author = author::node(&cluster.node_name, REASON);
    match cluster.records.txn(author, compare, then).await? {
        Committed::Done(_) => Ok(()),
        Committed::Conflict => Err(Obstacle::Passing),
    }
}
