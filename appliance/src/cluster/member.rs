//! Member: this node's part in consensus, from its store to its peers, as one thing that starts, ends and stops.
//!
//! ```text
//!   store ─► raft ⇄ transport ⇄ peers
//!              │        ▲ addresses, tombstones
//!              ▼        │
//!           records ─► directory
//! ```
//!
//! It waits for nobody: a node without its peers has its own copy and its own policy, and serves both. A member that the
//! cluster has removed has no transport, so that whatever its log says of votes, nobody hears it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use appliance_consensus::transport::{self, Links, Options, Serving};
use appliance_consensus::{
    Config as RaftConfig, LogFiles, Origin, Outgoing, Raft, Sender, StartError, WalError,
};
use appliance_storage::{OpenError, Reader, Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::handle::ClusterHandle;
use super::keyring::Keyring;
use super::membership;
use super::own_record;
use super::peers::{Directory, Own, Removed};
use super::renewal;
use crate::author;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::identity::NodeIdentity;
use crate::planted;

/// The store, in the data directory.
const STORE: &str = "store";

/// The log's directory, which consensus makes in the data directory.
pub(crate) const LOG: &str = "wal";

/// Snapshots while they are received, in the data directory.
const INCOMING: &str = "incoming";

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemberError {
    #[error(
        "{path}: missing, though this node has formed its cluster; put the directory back, restore the data directory \
         from a backup, or move all of it away to begin a new cluster"
    )]
    LogMissing { path: PathBuf },
    #[error("the store could not be opened: {0}")]
    Store(#[from] OpenError),
    #[error("the store could not be opened: the thread that opened it ended early")]
    StoreThread,
    #[error("{0}")]
    Raft(#[from] StartError),
}

impl MemberError {
    /// Whether what is on the disk is of no use, so that a copy from the others would mend it. A directory that belongs
    /// to somebody else, or a setting, would not be mended so.
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            MemberError::LogMissing { .. } => true,
            MemberError::Raft(error) => {
                matches!(
                    error,
                    StartError::LogCut { .. }
                        | StartError::LogBehindState { .. }
                        | StartError::LogBehindCommit { .. }
                ) || is_damaged_log(error)
            }
            // A damaged store heals itself or ends in one of the above.
            MemberError::Store(_) | MemberError::StoreThread => false,
        }
    }
}

/// Whether the log itself is damaged. What the operating system refused (a full disk, a missing right) is no damage, and
/// a fresh copy would meet it too.
fn is_damaged_log(error: &StartError) -> bool {
    matches!(error, StartError::Wal(WalError::Open { reason, .. } | WalError::Read { reason, .. })
        if !reason.contains("(os error"))
}

/// A store and a log that are open, before anything drives them.
pub(crate) struct Opened {
    store: Store,
    reader: Reader,
    log: LogFiles,
    raft: RaftConfig,
}

impl Opened {
    /// Opens both, where nothing else waits for it: after a power cut this may take long. Side by side, since most of
    /// either is one thread that reads.
    pub(crate) async fn open(
        config: &Config,
        data_dir: &DataDir,
        identity: &NodeIdentity,
    ) -> Result<Opened, MemberError> {
        let log = data_dir.join(LOG);
        if identity.formed && !log.is_dir() {
            return Err(MemberError::LogMissing { path: log });
        }
        let path = data_dir.join(STORE);
        let cluster = Some(identity.store_cluster());
        let raft = raft_config(config, identity, data_dir.path());
        let files = tokio::task::spawn_blocking({
            let raft = raft.clone();
            move || LogFiles::open(&raft)
        });
        let opened = tokio::task::spawn_blocking(move || {
            let store = Store::open(&path, StoreOptions { cluster, ..StoreOptions::default() })?;
            if let Some(healed) = store.healed() {
                tracing::warn!("the store was damaged and is being rebuilt: {healed:?}");
            }
            Ok(store)
        });
        let (store, log) = tokio::join!(opened, files);
        let store: Store = store.unwrap_or(Err(MemberError::StoreThread))?;
        let log = log.map_err(|_| MemberError::StoreThread)??;
        Ok(Opened { reader: store.reader(), store, log, raft })
    }

    /// What it holds.
    pub(crate) fn reader(&self) -> Reader {
        self.reader.clone()
    }
}

/// What a member is started with.
pub(crate) struct Start<'a> {
    pub(crate) data_dir: &'a DataDir,
    pub(crate) identity: &'a NodeIdentity,
    pub(crate) own: Own,
    pub(crate) keyring: &'a Keyring,
    pub(crate) listener: TcpListener,
}

/// A member at work.
pub(crate) struct Member {
    raft: Raft,
    reader: Reader,
    own: Own,
    directory: Directory,
    serving: Option<Serving>,
    tasks: Vec<JoinHandle<()>>,
}

impl Member {
    /// Starts raft over the store, and the way to the others.
    pub(crate) async fn start(opened: Opened, start: Start<'_>) -> Result<Member, MemberError> {
        let Start { data_dir, identity, own, keyring, listener } = start;
        let Opened { store, reader, log, raft: raft_config } = opened;
        let directory = Directory::start(own.clone(), reader.clone());
        let origin = if identity.is_joiner() { Origin::Joiner } else { Origin::Founder };
        let (sender, transport) = match identity.removed {
            true => (silence(), None),
            false => {
                let (sender, transport) = transport::new(options(data_dir.path(), identity, &own, keyring));
                (sender, Some(transport))
            }
        };
        let state = planted::state(store, data_dir.path());
        let started = tokio::task::spawn_blocking(move || {
            appliance_consensus::start_over(log, raft_config, state, origin, sender)
        });
        let raft = started.await.map_err(|_| MemberError::StoreThread)??;
        let serving = transport.map(|transport| {
            transport.serve(raft.clone(), listener, directory.addresses(), directory.removed())
        });
        Ok(Member { raft, reader, own, directory, serving, tasks: Vec::new() })
    }

    /// Begins what keeps the cluster's knowledge of this member true. A member that was removed tells nobody anything.
    pub(crate) fn tend(&mut self, cluster: &ClusterHandle) {
        if self.serving.is_none() {
            return;
        }
        self.tasks.push(tokio::spawn(own_record::run(cluster.clone(), self.own.clone())));
        self.tasks.push(tokio::spawn(membership::tidy(cluster.clone())));
        self.tasks.push(tokio::spawn(membership::hold(self.raft.clone(), self.directory.peers())));
        self.tasks.push(tokio::spawn(renewal::run(cluster.clone())));
    }

    /// The way to raft.
    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The connections to the others; a member that was removed has none.
    pub(crate) fn links(&self) -> Links {
        self.serving.as_ref().map(Serving::links).unwrap_or_default()
    }

    /// This member's own copy.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Who the others are and where.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Waits until this member learns that the cluster has removed it, however it learns it.
    pub(crate) async fn removed(&self) {
        let Some(serving) = &self.serving else { return std::future::pending().await };
        let own = self.own.id.0;
        let (told, buried) = (serving.told_removed(), self.directory.removed());
        tokio::select! {
            () = until(told, |told| *told) => {}
            () = until(buried, |removed: &Removed| removed.contains(&own)) => {}
            () = self.raft.removed() => {}
        }
    }

    /// Stops: first who writes, then raft, which may hand leadership over, then the way to the others.
    pub(crate) async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.raft.stop().await;
        if let Some(serving) = self.serving {
            serving.stop().await;
        }
    }
}

/// Waits for a value; for ever, when nobody is left to send one.
async fn until<T>(mut values: watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    if values.wait_for(wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn options(data_dir: &Path, identity: &NodeIdentity, own: &Own, keyring: &Keyring) -> Options {
    Options {
        member: identity.member_id.0,
        cluster: identity.cluster_number(),
        // Later starts have larger ones, as long as clocks do not jump; peers only need another one.
        incarnation: author::now_ms(),
        advertise: own.peer.clone(),
        incoming_dir: data_dir.join(INCOMING),
        tls: keyring.peer_tls(),
    }
}

fn raft_config(config: &Config, identity: &NodeIdentity, data_dir: &Path) -> RaftConfig {
    let defaults = RaftConfig::new(identity.member_id.0, data_dir);
    let tick = config.heartbeat_interval;
    RaftConfig {
        cluster: identity.log_number(),
        tick,
        removed: identity.removed,
        replace_after_ticks: config.replace_lost_voters_after.map(|after| ticks(after, tick)),
        checkpoint_entries: config.checkpoint_entries.unwrap_or(defaults.checkpoint_entries),
        retained_entries: config.retained_entries.unwrap_or(defaults.retained_entries),
        ..defaults
    }
}

fn ticks(time: Duration, tick: Duration) -> u32 {
    u32::try_from(time.as_nanos() / tick.as_nanos().max(1)).unwrap_or(u32::MAX).max(1)
}

/// For a member that was removed: nobody hears what its log might make it say.
fn silence() -> Sender {
    Box::new(|messages: Vec<Outgoing>| {
        tracing::trace!("removed: {} messages are not sent", messages.len());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_log_is_a_loss_and_a_full_disk_is_none() {
        let wal = |reason: &str| WalError::Open { dir: PathBuf::from("wal"), reason: reason.to_owned() };
        let error = |wal| MemberError::Raft(StartError::Wal(wal));
        assert!(error(wal("corruption: checksum of block 3")).is_loss());
        assert!(!error(wal("No space left on device (os error 28)")).is_loss());
        assert!(!MemberError::StoreThread.is_loss());
    }

    #[test]
    fn a_time_is_counted_in_ticks() {
        assert_eq!(ticks(Duration::from_secs(600), Duration::from_millis(100)), 6_000);
        assert_eq!(ticks(Duration::from_millis(1), Duration::from_secs(1)), 1);
    }
}
