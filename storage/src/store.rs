//! Store: the one owner of the write side. The raft thread has it; everyone else has a `Reader`.
//!
//! `apply` commits a group of log entries whole and shows it to readers and watchers, and sled takes a few groups in one
//! transaction (see [`crate::mover`]); `checkpoint` makes what was applied durable; `export` writes the file a lone
//! node heals from. Any of them may answer `Fatal`, and from then on every one does.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    apply::Batch,
    command::Command,
    directory::Directory,
    error::{Fatal, OpenError, SnapshotError},
    history,
    hub::{Progress, WatchHub},
    inspect,
    load::Loaded,
    open::{self, Healed, Opened},
    options::{ClusterId, StoreOptions},
    outcome::Outcome,
    purging::Purging,
    reader::{Core, Reader, Shared},
    requests::Requests,
    snapshot::Snapshot,
    state::State,
};

/// Superseded entries purged when the owner has nothing better to do.
const PURGED_WHEN_IDLE: usize = 256;
/// Superseded entries purged with every batch, besides two for each of its commands: purging always gains on writing,
/// and no reply waits for thousands of deletions.
const PURGED_PER_BATCH: usize = 4;

/// A revisioned store. Opening locks its directory; dropping it ends every watch.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    requests: Requests,
    /// What compaction may remove.
    purging: Purging,
    directory: Directory,
    options: StoreOptions,
    /// The last index known to be on the disk.
    durable: u64,
    healed: Option<Healed>,
}

impl Store {
    /// Opens the store in `dir`, or makes one there. A damaged one is moved to `quarantine-<n>` and rebuilt from the
    /// newest whole snapshot that was exported; see `healed`.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Store, OpenError> {
        let Opened { directory, exported, db, loaded, healed } = open::open(dir, &options)?;
        let Loaded { cluster, state, index, requests, superseded } = loaded;
        let hub = WatchHub::new(progress(&state), options.ring_events, options.ring_bytes);
        // What was read from the disk may still only be in the kernel; it counts once this process has synced it.
        let durable = 0;
        let core = Core::new(db, state, index, cluster);
        let shared = Arc::new(Shared::new(core, hub, exported, &options));
        let purging = Purging::new(superseded);
        Ok(Store { shared, requests, purging, directory, options, durable, healed })
    }

    /// What `open` had to heal, if anything.
    pub fn healed(&self) -> Option<&Healed> {
        self.healed.as_ref()
    }

    /// The cluster the store belongs to.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.shared.read().cluster
    }

    /// The last log entry applied; 0 when none was. It may not be durable yet.
    pub fn applied_index(&self) -> u64 {
        self.shared.read().state.applied
    }

    /// A handle for readers.
    pub fn reader(&self) -> Reader {
        Reader { shared: self.shared.clone() }
    }

    /// Applies committed log entries in one commit, which is atomic and not yet durable: after a crash the
    /// log is replayed from `applied_index() + 1`. Indices follow one another; only the first of an empty store may
    /// be any. `None` stands for raft's own entries. Answers one outcome for each.
    pub fn apply(&mut self, batch: &[(u64, Option<Command>)]) -> Result<Vec<Outcome>, Fatal> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.commit(batch).inspect_err(|_| self.shared.hub.stop())
    }

    fn commit(&mut self, batch: &[(u64, Option<Command>)]) -> Result<Vec<Outcome>, Fatal> {
        let _writing = self.shared.writing();
        let core = self.shared.read();
        // In the same transaction, because each costs sled two writes of its own whatever its size.
        let most = PURGED_PER_BATCH + 2 * batch.len();
        let purged = self.purging.take(core.state.compacted, core.holds.pins(), most);
        let removal = history::removal(&core.db, &purged)?;
        let mut work = Batch::new(&core.db, &core.index, &core.state, &mut self.requests);
        let outcomes: Result<Vec<Outcome>, Fatal> =
            batch.iter().map(|(index, command)| work.apply(*index, command.as_ref())).collect();
        let outcomes = outcomes?;
        let mut rows = work.finish_rows();
        rows.extend(removal);
        let Batch { state, writes, changes, superseded, .. } = work;
        self.shared.commit(&core.db, &rows, !purged.is_empty())?;
        drop(core);

        // From here nothing can fail: readers see the batch, then watchers are told.
        let applied = state.applied;
        {
            let mut core = self.shared.write();
            for (key, written) in writes {
                match written {
                    Some(current) => core.index.put(&current.record, current.at),
                    None => core.index.remove(&key),
                };
            }
            core.state = state;
        }
        self.purging.extend(superseded);
        self.shared.hub.publish(applied, changes);
        Ok(outcomes)
    }

    /// Removes a little of what compaction gave up; answers whether there is more. `apply` does so too: this is for an
    /// owner with nothing else to do. What still waits in memory goes to sled then too, so that a process that is killed
    /// finds all but the last moment in its store, before the log has brought the rest.
    pub fn purge(&mut self) -> Result<bool, Fatal> {
        self.purge_some().inspect_err(|_| self.shared.hub.stop())
    }

    fn purge_some(&mut self) -> Result<bool, Fatal> {
        let _writing = self.shared.writing();
        let core = self.shared.read();
        let compacted = core.state.compacted;
        let purged = self.purging.take(compacted, core.holds.pins(), PURGED_WHEN_IDLE);
        if !purged.is_empty() {
            self.shared.commit(&core.db, &history::removal(&core.db, &purged)?, true)?;
        }
        core.db.nudge();
        Ok(self.purging.is_due(compacted, core.holds.pins()))
    }

    /// Makes everything applied so far durable; answers the last log entry for which that now holds.
    pub fn checkpoint(&mut self) -> Result<u64, Fatal> {
        let (db, applied) = {
            let core = self.shared.read();
            (core.db.clone(), core.state.applied)
        };
        db.sync().inspect_err(|_| self.shared.hub.stop())?;
        self.durable = applied;
        Ok(applied)
    }

    /// The last log entry the log need not keep: it is durable in sled, and in two exported snapshots for when sled is
    /// damaged. 0 while there are not two.
    pub fn log_may_be_cut_to(&self) -> u64 {
        self.durable.min(self.shared.exported.held_twice())
    }

    /// Fixes the whole state as it is now. Cheap; writing it out may happen on another thread.
    pub fn snapshot(&self) -> Result<Snapshot, Fatal> {
        self.shared.snapshot()
    }

    /// Writes a snapshot file into `<dir>/snapshots`, durably, where the newest two are kept.
    pub fn export(&self) -> Result<PathBuf, SnapshotError> {
        self.snapshot()?.export()
    }

    /// Replaces the whole state by that of a snapshot file, durably. It is built beside what is there, row by row, and
    /// checked; then one rename puts it in use. On an error nothing has changed, and a crash at any point leaves the
    /// old state or the new one. The file becomes one of the store's own exports where it can be linked there, so it
    /// must not be written to afterwards; it may be removed.
    pub fn restore_from(&mut self, file: &Path) -> Result<(), SnapshotError> {
        self.take_over(inspect::open(file)?)?;
        // With it a lone member heals; without it only the log's cut waits for other exports.
        if let Err(error) = self.shared.exported.adopt(self.applied_index(), file) {
            tracing::info!(%error, "the restored snapshot is not kept as an export");
        }
        Ok(())
    }

    fn take_over(&mut self, stream: impl Read) -> Result<(), SnapshotError> {
        let cluster = self.options.cluster.or(self.cluster());
        let options = StoreOptions { cluster, ..self.options.clone() };
        let (db, loaded) = open::build(&self.directory, stream, &options, self.applied_index())?;
        let Loaded { cluster, state, index, requests, superseded } = loaded;
        let progress = progress(&state);
        {
            let _writing = self.shared.writing();
            *self.shared.write() = Core::new(Arc::new(db), state, index, cluster);
        }
        (self.requests, self.purging) = (requests, Purging::new(superseded));
        self.durable = progress.applied;
        self.shared.hub.reset(progress);
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.hub.stop();
    }
}

fn progress(state: &State) -> Progress {
    Progress { applied: state.applied, revision: state.revision, stopped: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command::{Author, Op},
        db::{Row, Tree},
        history::Location,
        key::Key,
        revision::Revision,
    };

    fn put(value: u64) -> Option<Command> {
        let then = vec![Op::Put { key: Key::from("a"), value: value.to_string().into_bytes() }];
        Some(Command::Txn { author: Author::default(), compare: vec![], then, otherwise: vec![] })
    }

    #[test]
    fn no_log_is_cut_in_trust_of_exports_from_a_database_that_lost_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
        let mut store = Store::open(folder.path(), options.clone()).unwrap();
        for index in 1..=6 {
            store.apply(&[(index, put(index))]).unwrap();
            if index <= 2 {
                store.export().unwrap();
            }
        }
        store.checkpoint().unwrap();
        assert_eq!(store.log_may_be_cut_to(), 1);

        let mut key = Location { revision: Revision(4), sub: 0 }.prefix().to_vec();
        key.extend([0, 0]);
        let lost = Row { tree: Tree::Rev, key, value: None };
        store.shared.read().db.commit(&[lost]).unwrap();

        let refused = store.export().unwrap_err();
        assert!(matches!(refused, SnapshotError::Fatal(Fatal::Damaged(_))), "{refused}");
        assert_eq!(store.log_may_be_cut_to(), 1, "the files from before it was damaged are all there is");
        assert!(matches!(store.apply(&[(7, put(7))]), Err(Fatal::Damaged(_))), "it is served no longer");
        drop(store);
        let mut store = Store::open(folder.path(), options).unwrap();
        assert_eq!(store.healed().unwrap().snapshot, Some(2));
        for index in 3..=7 {
            store.apply(&[(index, put(index))]).unwrap();
        }
        store.export().unwrap();
    }
}
