//! Store: skeleton, signatures final.
use crate::*;
use std::path::{Path, PathBuf};

/// The store's one owner: the raft thread.
pub struct Store {
    reader: Reader,
}

/// What `open` had to do because the database was damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// What was wrong.
    pub reason: String,
    /// Where the damaged directory went.
    pub quarantine: PathBuf,
    /// The applied index of the exported snapshot it was rebuilt from; `None`: from nothing, the log must have it all.
    pub from_snapshot: Option<u64>,
}

impl Store {
    /// Opens or makes the store in `dir`. A damaged one is moved to `quarantine-<n>` and rebuilt from the newest valid exported snapshot.
    pub fn open(_dir: &Path, _options: StoreOptions) -> Result<Store, OpenError> {
        Err(OpenError::InUse(PathBuf::new()))
    }
    /// What `open` had to heal, if anything.
    pub fn healed(&self) -> Option<&Healed> {
        None
    }
    /// The last index applied (0: none); may not be durable yet.
    pub fn applied_index(&self) -> u64 {
        0
    }
    /// Applies committed entries, contiguous and in order (from any index when nothing was applied yet); one sled transaction, unflushed. One outcome per entry; `None` = raft's own.
    pub fn apply(&mut self, _batch: &[(u64, Option<Command>)]) -> Result<Vec<Outcome>, Fatal> {
        Ok(Vec::new())
    }
    /// Makes everything applied durable (flush + fdatasync); answers the index that now is.
    pub fn checkpoint(&mut self) -> Result<u64, Fatal> {
        Ok(0)
    }
    /// Deletes a little more of what compaction gave up; true while there is more. `apply` does so too: call it when idle.
    pub fn purge(&mut self) -> Result<bool, Fatal> {
        Ok(false)
    }
    /// The index up to which the log may be cut: durable in sled AND held by an exported snapshot, so that a damaged sled can be rebuilt.
    pub fn log_may_be_cut_to(&self) -> u64 {
        0
    }
    /// A cheap handle for everyone else.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }
    /// Fixes the whole state as it is now; writing it out may happen on another thread.
    pub fn snapshot(&self) -> Result<Snapshot, Fatal> {
        Ok(Snapshot {})
    }
    /// Writes a snapshot file into `<dir>/snapshots`, keeping the newest two: what a lone node heals from. (`self.snapshot()?.export()` does the same on any thread.)
    pub fn export(&self) -> Result<PathBuf, SnapshotError> {
        Ok(PathBuf::new())
    }
    /// Replaces the whole state by a snapshot's (bytes of `Snapshot::to_bytes`).
    pub fn restore(&mut self, _snapshot: &[u8]) -> Result<(), SnapshotError> {
        Ok(())
    }
}
