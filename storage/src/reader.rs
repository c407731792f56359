//! Reader: the read side, cheap to clone and used from any thread.
//!
//! What a reader sees is a state between two batches, whole. It holds the lock only to look into the index; bytes that
//! are not in memory are read from sled afterwards, while a hold keeps purging away from them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    chain::{ChainHash, ChainHead},
    command::Author,
    db::{Db, Row},
    error::Fatal,
    event::Change,
    exported::Exported,
    frames::Head,
    history::{First, read_change, read_first, read_record},
    holds::{Hold, Holds},
    hub::WatchHub,
    index::{Index, Slot},
    key::Key,
    options::{ClusterId, HistoryBounds, StoreOptions},
    record::Record,
    retention,
    revision::Revision,
    snapshot::Snapshot,
    state::State,
    watch::{Compacted, Watcher},
};

/// What the owner writes and readers read, under one lock.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) db: Arc<Db>,
    pub(crate) state: State,
    pub(crate) index: Index,
    pub(crate) holds: Arc<Holds>,
    /// The cluster the store belongs to.
    pub(crate) cluster: Option<ClusterId>,
}

impl Core {
    pub(crate) fn new(db: Arc<Db>, state: State, index: Index, cluster: Option<ClusterId>) -> Core {
        Core { db, state, index, holds: Arc::default(), cluster }
    }

    /// Keeps purging away from what is current or retained now.
    pub(crate) fn hold(&self) -> Hold {
        self.holds.read(self.state.compacted)
    }
}

/// What the store and its readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    core: RwLock<Core>,
    /// Held by the owner from its first look to its last change of a batch, and for a moment by whoever takes a
    /// snapshot: what is on the disk and what the state says are the same then, and nothing is half purged.
    writing: Mutex<()>,
    pub(crate) exported: Arc<Exported>,
    pub(crate) hub: WatchHub,
    /// Closed while rows are being removed, to those who ask for revisions that may be among them.
    pub(crate) gate: RwLock<()>,
    pub(crate) history: HistoryBounds,
    pub(crate) watch_lag_revisions: u64,
}

impl Shared {
    pub(crate) fn new(core: Core, hub: WatchHub, exported: Arc<Exported>, options: &StoreOptions) -> Shared {
        Shared {
            core: RwLock::new(core),
            writing: Mutex::new(()),
            exported,
            hub,
            gate: RwLock::new(()),
            history: options.history,
            watch_lag_revisions: options.watch_lag_revisions,
        }
    }

    /// For the owner while it changes something.
    pub(crate) fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fixes the whole state as it is between two batches.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Fatal> {
        let _still = self.writing();
        let core = self.read();
        core.db.failure()?;
        let head = Head { cluster: core.cluster, state: core.state.clone() };
        let hold = core.holds.snapshot(core.state.revision);
        Snapshot::new(core.db.clone(), hold, head, self.exported.clone())
    }

    // A panic under the lock can only be ours, and leaves at worst an index behind its sled, which the next batch's
    // failed database then reports; poisoning would only turn it into more panics.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Core> {
        self.core.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Core> {
        self.core.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits rows; with the gate closed if some of them remove revisions.
    pub(crate) fn commit(&self, db: &Db, rows: &[Row], removes: bool) -> Result<(), Fatal> {
        let _closed = removes.then(|| self.gate.write().unwrap_or_else(PoisonError::into_inner));
        db.commit(rows)
    }

    /// The changes in (after, until], as many as fit a page, from disk; or the first revision kept if that is later.
    pub(crate) fn replay(
        &self,
        after: Revision,
        until: Revision,
        page: u64,
    ) -> Result<Result<Vec<Arc<Change>>, Revision>, Fatal> {
        let (db, _hold) = {
            let core = self.read();
            if after.next() < core.state.compacted {
                return Ok(Err(core.state.compacted));
            }
            (core.db.clone(), core.hold())
        };
        let from = after.next().max(Revision::FIRST.next());
        let until = until.0.min(from.0.saturating_add(page - 1));
        let changes = (from.0..=until).map(|revision| read_change(&db, Revision(revision)).map(Arc::new));
        changes.collect::<Result<Vec<_>, Fatal>>().map(Ok)
    }
}

/// The read side of a store.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

/// The store has stopped: it was closed, or it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped")]
pub struct Stopped;

impl Reader {
    /// One record.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, Fatal> {
        let (slot, db, _hold) = {
            let core = self.shared.read();
            core.db.failure()?;
            let Some(slot) = core.index.get(key) else { return Ok(None) };
            (slot.clone(), core.db.clone(), core.hold())
        };
        record(&db, key, &slot).map(Some)
    }

    /// Every record under a prefix, in key order, and the revision at which they were read.
    pub fn list(&self, prefix: &Key) -> Result<(Revision, Vec<Record>), Fatal> {
        let (revision, slots, db, _hold) = {
            let core = self.shared.read();
            core.db.failure()?;
            let slots: Vec<(Key, Slot)> =
                core.index.range(prefix).map(|(key, slot)| (key.clone(), slot.clone())).collect();
            (core.state.revision, slots, core.db.clone(), core.hold())
        };
        let records: Result<Vec<Record>, Fatal> =
            slots.iter().map(|(key, slot)| record(&db, key, slot)).collect();
        Ok((revision, records?))
    }

    /// Fixes the whole state as it is now, to be written out by whoever asked, at leisure. The writer waits for this as
    /// long as it takes to copy the request window, a few milliseconds.
    pub fn snapshot(&self) -> Result<Snapshot, Fatal> {
        self.shared.snapshot()
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.shared.read().state.live.records()
    }

    /// The revision the store stands at.
    pub fn revision(&self) -> Revision {
        self.shared.read().state.revision
    }

    /// The first revision whose events are kept; a watch may start after the one before it. 0: nothing was compacted.
    pub fn compacted(&self) -> Revision {
        self.shared.read().state.compacted
    }

    /// The last log index applied.
    pub fn applied_index(&self) -> u64 {
        self.shared.read().state.applied
    }

    /// Waits until the log entry `index` is applied; what is read afterwards includes it.
    pub async fn wait_applied(&self, index: u64) -> Result<(), Stopped> {
        let mut bell = self.shared.hub.bell();
        let progress = bell.wait_for(|progress| progress.applied >= index || progress.stopped).await;
        match progress {
            Ok(progress) if progress.applied >= index => Ok(()),
            _ => Err(Stopped),
        }
    }

    /// Every event under `prefix` after a revision: from history, then live.
    pub fn watch(&self, prefix: &Key, after: Revision) -> Result<Watcher, Compacted> {
        let compacted = self.compacted();
        if after.next() < compacted {
            return Err(Compacted { after, compacted });
        }
        Ok(Watcher::new(self.shared.clone(), prefix.clone(), after))
    }

    /// The newest link of the hash chain.
    pub fn chain(&self) -> ChainHead {
        self.shared.read().state.head()
    }

    /// The link at a revision, while anything of it is kept.
    pub fn chain_at(&self, revision: Revision) -> Result<Option<ChainHead>, Fatal> {
        if revision == Revision::FIRST {
            return Ok(Some(ChainHead { revision, hash: ChainHash::GENESIS }));
        }
        {
            // The newest link, and the one the retained history begins with, need no row of theirs.
            let state = &self.shared.read().state;
            if revision == state.revision {
                return Ok(Some(state.head()));
            }
            if revision == state.first_retained().previous() {
                return Ok(Some(ChainHead { revision, hash: state.base }));
            }
        }
        Ok(self.first(revision)?.map(|first| ChainHead { revision, hash: first.chain }))
    }

    /// Who made a revision, while anything of it is kept: always for the `mod_revision` of a current record.
    pub fn author(&self, revision: Revision) -> Result<Option<Author>, Fatal> {
        Ok(self.first(revision)?.map(|first| first.head.author))
    }

    /// Where history should now be cut by the store's `HistoryBounds`, for the leader to propose as
    /// `Command::Compact`; nothing when a cut would gain little.
    pub fn compaction_due(&self, now_ms: u64) -> Result<Option<Revision>, Fatal> {
        let (first, newest) = {
            let core = self.shared.read();
            (core.state.first_retained(), core.state.revision)
        };
        retention::cut(&self.shared.history, first, newest, now_ms, |revision| {
            // A cut made meanwhile removes what is looked for, and with it the need for this one.
            Ok(self.first(revision)?.map_or(0, |first| first.head.author.time))
        })
    }

    /// The head of any revision, also of one that is being removed.
    fn first(&self, revision: Revision) -> Result<Option<First>, Fatal> {
        let db = self.shared.read().db.clone();
        let _open = self.shared.gate.read().unwrap_or_else(PoisonError::into_inner);
        read_first(&db, revision)
    }
}

fn record(db: &Db, key: &Key, slot: &Slot) -> Result<Record, Fatal> {
    match slot.record(key) {
        Some(record) => Ok(record),
        None => read_record(db, slot.counters.at),
    }
}
