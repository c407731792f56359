//! Recover: a survivor goes on alone when its cluster's quorum is gone for good.
//!
//! What it holds is applied to the end of its log, on a copy, and refounded: a new cluster id, a new member id, the same
//! node. Entries that were not known to be committed come along, since some of them were acknowledged and nobody can
//! say which; the answer counts them. Its own store is only read and then moved aside, so that a recovery that turns
//! out a mistake can be taken back by hand.
//!
//! It happens at a start, before anything else is opened, for one of two reasons: `--force-new-cluster`, which acts
//! once in the life of a data directory, so that a flag forgotten in a unit file does nothing, and never beside others of
//! the cluster that answer and have a quorum ([`super::living`]); or [`ask`], which
//! `POST /cluster/recover` calls before the process begins anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use appliance_consensus::offline::{self, Replayed};
use appliance_consensus::{Config as RaftConfig, StartError};
use appliance_storage::{Fatal, OpenError, REVISION_JUMP, SnapshotError, Store, StoreOptions};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::living::{self, Witness};
use super::reached;
use super::records::MemberId;
use super::refounding::{self, Inheritance, Plan, RefoundingError, STORE};
use super::restore::{self, RestoreError};
use super::staging::{self, Staging, StagingError};
use crate::data_dir;
use crate::identity::{self, IdentityError, NodeIdentity};

/// Says that the flag has acted, or must not; moved into place with everything else.
pub(crate) const ACTED: &str = "force-new-cluster.json";

/// Asks the next start to recover.
pub(crate) const ASKED: &str = "recover.json";

/// The state of the survivor as its store has it.
const OWN: &str = "own.snapshot";

/// The copy its log is applied to.
const REPLAYED: &str = "replayed";

/// The state with all of the log.
const WHOLE: &str = "whole.snapshot";

/// Why nothing was recovered. The data directory is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("--force-new-cluster: {0}")]
    Identity(#[from] IdentityError),
    #[error(
        "--force-new-cluster: this node has no state to go on from; join it to a cluster, or restore a snapshot"
    )]
    NoState,
    #[error(
        "--force-new-cluster: this member was removed from its cluster, and what it holds may be old; if it is all there \
         is, restore its newest snapshot file with `appliance ctl snapshot restore`"
    )]
    Removed,
    #[error(
        "--force-new-cluster: {name} at {address} says that the cluster has a quorum, so nothing is lost and nothing was \
         changed; start without the flag to follow it, or, to make a second cluster on purpose, restore a snapshot file with \
         `appliance ctl snapshot restore`"
    )]
    Majority { name: String, address: String },
    #[error("--force-new-cluster: the store: {0}")]
    Open(#[from] OpenError),
    #[error("--force-new-cluster: the store: {0}")]
    Store(#[from] Fatal),
    #[error("--force-new-cluster: the store: {0}")]
    Snapshot(#[from] SnapshotError),
    #[error(
        "--force-new-cluster: {0}; its store can be restored without the log: `appliance ctl snapshot restore` with the \
         newest file under store/snapshots or snapshots"
    )]
    Log(#[from] StartError),
    #[error("--force-new-cluster: {0}")]
    Staging(#[from] StagingError),
    #[error("--force-new-cluster: {0}")]
    Refounding(#[from] RefoundingError),
    #[error("--force-new-cluster: {0}")]
    Restore(#[from] RestoreError),
    #[error("--force-new-cluster: the thread that did it ended early; start again")]
    Cut,
    #[error("--force-new-cluster: {path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Asks the next start of this node to go on alone.
pub(crate) fn ask(data_dir: &Path) -> io::Result<()> {
    data_dir::write_private(&data_dir.join(ASKED), b"{}\n")
}

/// What every start does first of all: finishes a change that a crash cut short.
pub(crate) fn finish(data_dir: &Path) -> Result<(), RecoverError> {
    if let Some(quarantine) = staging::finish(data_dir)? {
        tracing::warn!(
            "finished a restore that was cut short; what was before is in {}",
            quarantine.display()
        );
    }
    Ok(())
}

/// Refuses the flag, where it would act, beside other members of the cluster that have a quorum. Whoever asked by
/// [`ask`] has looked, and said that it is so.
pub(crate) async fn refuse_beside_a_majority(data_dir: &Path, flag: bool) -> Result<(), RecoverError> {
    if !flag || data_dir.join(ASKED).exists() || data_dir.join(ACTED).exists() {
        return Ok(());
    }
    let Some(own) = identity::load(data_dir)?.filter(|own| own.formed && !own.removed) else { return Ok(()) };
    match living::majority(data_dir, &own).await {
        Some(Witness { name, address }) => Err(RecoverError::Majority { name, address }),
        None => Ok(()),
    }
}

/// Recovers if this start is asked to. `flag` is `--force-new-cluster`. Answers what was done, if anything was.
pub(crate) fn at_start(data_dir: &Path, flag: bool) -> Result<Option<Value>, RecoverError> {
    if data_dir.join(ASKED).exists() {
        return recover_as_asked(data_dir);
    }
    match (flag, data_dir.join(ACTED).exists(), identity::load(data_dir)?) {
        (false, ..) => Ok(None),
        (true, true, _) => {
            tracing::warn!(
                "--force-new-cluster has acted on this data directory before and does nothing; leave it out"
            );
            Ok(None)
        }
        (true, false, None) => {
            tracing::warn!(
                "--force-new-cluster: there is nothing to go on from yet; it will not act later either"
            );
            disarm(data_dir)?;
            Ok(None)
        }
        (true, false, Some(_)) => force_new_cluster(data_dir).map(Some),
    }
}

/// A request that can not be met must not keep the node from starting as it was.
fn recover_as_asked(data_dir: &Path) -> Result<Option<Value>, RecoverError> {
    let asked = data_dir.join(ASKED);
    match force_new_cluster(data_dir) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => {
            tracing::error!("{error}; the node starts as the member it was");
            fs::remove_file(&asked).map_err(|source| RecoverError::Io { path: asked, source })?;
            Ok(None)
        }
    }
}

/// Makes a one-node cluster of what this stopped member holds. The caller holds the directory's lock.
pub(crate) fn force_new_cluster(data_dir: &Path) -> Result<Value, RecoverError> {
    let old = match identity::load(data_dir)? {
        None => return Err(RecoverError::NoState),
        Some(old) if old.removed => return Err(RecoverError::Removed),
        Some(old) if !old.formed => return Err(RecoverError::NoState),
        Some(old) => old,
    };
    let staging = Staging::begin(data_dir)?;
    let whole = staging.path().join(WHOLE);
    let replayed = replay_on_a_copy(data_dir, staging.path(), &old, &whole)?;
    let identity =
        old.clone().refounded(restore::new_cluster(), restore::new_member()?, old.node_name.clone());
    let now = OffsetDateTime::now_utc();
    let plan = Plan {
        identity: &identity,
        above: reached::in_directory(data_dir).max(reached::by_clock(now)),
        revision_jump: REVISION_JUMP,
        with_tokens: true,
        // Its own, as it is now: what was rotated out is not in it.
        inherits: &|record| restore::opens(data_dir, record),
    };
    let made = refounding::make(&whole, staging.path(), &plan)?;
    fs::remove_file(&whole).map_err(|source| RecoverError::Io { path: whole, source })?;
    disarm(staging.path())?;
    let quarantine = staging.commit(made.authority != Inheritance::Kept, now)?;
    let mut answer = restore::answer(data_dir, &identity, &made, quarantine.as_deref());
    describe(&mut answer, &old, &replayed);
    Ok(answer)
}

/// Writes the state of the old cluster with everything its log still holds to `whole`. The store itself is not moved
/// on: should the old cluster come back after all, this member must not hold what it never agreed to.
fn replay_on_a_copy(
    data_dir: &Path,
    staging: &Path,
    old: &NodeIdentity,
    whole: &Path,
) -> Result<Replayed, RecoverError> {
    let options =
        StoreOptions { cluster: Some(old.store_cluster()), ballast_bytes: 0, ..StoreOptions::default() };
    let (own, copied) = (staging.join(OWN), staging.join(REPLAYED));
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| RecoverError::Io { path, source }
    };
    let store = Store::open(&data_dir.join(STORE), options.clone())?;
    store.snapshot()?.save(&own)?;
    drop(store);
    let mut copy = Store::open(&copied, options)?;
    copy.restore_from(&own)?;
    fs::remove_file(&own).map_err(io(&own))?;
    let config = RaftConfig { cluster: old.log_number(), ..RaftConfig::new(old.member_id.0, data_dir) };
    let replayed = offline::replay(&config, &mut copy)?;
    copy.snapshot()?.save(whole)?;
    drop(copy);
    fs::remove_dir_all(&copied).map_err(io(&copied))?;
    Ok(replayed)
}

fn describe(answer: &mut Value, old: &NodeIdentity, replayed: &Replayed) {
    let in_doubt = replayed.in_doubt();
    let voters: Vec<MemberId> = replayed.voters.iter().copied().map(MemberId).collect();
    answer["from"] = json!({
        "cluster": old.cluster_id,
        "member": old.member_id,
        "voters": voters,
        "term": replayed.term,
        "lastTerm": replayed.last_term,
        "applied": replayed.applied,
        "knownCommitted": replayed.known_committed,
        "inDoubt": in_doubt.clone().count(),
    });
    answer["message"] = json!(match in_doubt.is_empty() {
        true => "everything in the log was known to be committed".to_owned(),
        false => format!(
            "entries {} to {} of the log were kept though they were not known to be committed",
            in_doubt.start(),
            in_doubt.end()
        ),
    });
}

fn disarm(directory: &Path) -> Result<(), RecoverError> {
    let path = directory.join(ACTED);
    data_dir::write_private(&path, b"{}\n").map_err(|source| RecoverError::Io { path, source })
}
