//! Log: what raft reads, over the write-ahead log.
//!
//! Raft asks for terms and entries all the time and writes only in [`crate::ready`], so everything but old entries is
//! answered from memory. It decides nothing about when to write or to cut; [`opening`] refuses a log that breaks raft's
//! rules before any of this is asked.

mod opening;

use std::{cell::Cell, path::PathBuf};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata},
};

use crate::{
    cache::Cache,
    wal::{Slot, Wal, WalError},
};

pub use opening::LogFiles;
pub(crate) use opening::bootstrap_at;

/// The index and term of the synthetic snapshot every cluster begins with. Its first members stand in its conf state,
/// so that an empty joiner never replays a conf change against an empty configuration (reference/store.md 1.3).
pub(crate) const BOOTSTRAP_INDEX: u64 = 1;

/// The raft log.
///
/// * Entries are contiguous from `cut.index + 1` to `last`, and their terms never fall.
/// * `cut.index <= conf.index` is not promised: a conf state may be older than the cut, never newer than the commit.
/// * What memory says of entries, term and vote is on disk; the commit index on disk may be behind.
pub(crate) struct Log {
    wal: Wal,
    dir: PathBuf,
    hard_state: HardState,
    cut: SnapshotMetadata,
    conf: SnapshotMetadata,
    last: u64,
    last_term: u64,
    cache: Cache,
    snapshot: Option<Snapshot>,
    /// Raft met a follower that needs a snapshot; the replica makes one, for only it has the state.
    wanted: Cell<Option<u64>>,
}

impl Log {
    /// What a state of `applied` entries holds: an empty one is that of the synthetic snapshot, if the log began so.
    pub(crate) fn applied_floor(&self, applied: u64) -> u64 {
        applied.max(self.cut.index.min(BOOTSTRAP_INDEX))
    }

    /// Writes down that a snapshot is about to replace the state.
    pub(crate) fn announce_restore(&mut self, snapshot: &SnapshotMetadata) -> Result<(), WalError> {
        self.wal.stage(Slot::Restoring, snapshot)?;
        self.wal.commit()
    }

    /// Drops every entry; the log begins after the snapshot that the state now holds.
    pub(crate) fn begin_at(&mut self, snapshot: &SnapshotMetadata) -> Result<(), WalError> {
        self.cut = position(snapshot.index, snapshot.term);
        self.conf = snapshot.clone();
        self.hard_state.commit = snapshot.index;
        self.hard_state.term = self.hard_state.term.max(snapshot.term);
        self.wal.stage_cut(self.last.max(snapshot.index) + 1);
        (self.last, self.last_term) = (snapshot.index, snapshot.term);
        self.cache = Cache::default();
        self.stage_records()?;
        self.wal.stage_removal(Slot::Restoring);
        self.wal.commit()
    }

    /// Makes entries and hard state durable, in one group and one fdatasync.
    pub(crate) fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<&HardState>,
    ) -> Result<(), WalError> {
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
        }
        self.wal.stage_entries(entries)?;
        self.wal.stage(Slot::HardState, &self.hard_state)?;
        self.wal.commit()?;
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            self.cache.forget_from(first.index);
            (self.last, self.last_term) = (last.index, last.term);
            entries.iter().for_each(|entry| self.cache.push(entry.clone()));
        }
        Ok(())
    }

    /// Notes the commit index; it travels to the disk with the next group, for losing it loses nothing.
    pub(crate) fn set_commit(&mut self, commit: u64) {
        self.hard_state.commit = commit;
    }

    /// Makes a new configuration durable, before the state may pass the entry that brought it.
    pub(crate) fn set_conf_state(&mut self, index: u64, conf_state: ConfState) -> Result<(), WalError> {
        self.conf.index = index;
        self.conf.set_conf_state(conf_state);
        self.stage_records()?;
        self.wal.commit()
    }

    /// The configuration in force, as of the state.
    pub(crate) fn conf_state(&self) -> &ConfState {
        self.conf.get_conf_state()
    }

    /// The entry that brought the configuration in force.
    pub(crate) fn conf_index(&self) -> u64 {
        self.conf.index
    }

    /// Removes the entries up to `index`, which the caller has made durable elsewhere.
    pub(crate) fn cut_to(&mut self, index: u64) -> Result<(), WalError> {
        if index <= self.cut.index {
            return Ok(());
        }
        self.cut = position(index, self.read_term(index)?);
        // All records again, so that none of them holds an old file back; durable before any file is deleted.
        self.stage_records()?;
        self.wal.stage_cut(index + 1);
        self.wal.commit()?;
        self.wal.purge()?;
        self.cache.forget_to(index);
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.get_metadata().index < index) {
            self.snapshot = None;
        }
        Ok(())
    }

    /// Whether a follower waits for a snapshot that reaches at least this index.
    pub(crate) fn take_wanted(&self) -> Option<u64> {
        self.wanted.take()
    }

    /// Offers the state as of `index` to followers whose next entry was cut.
    pub(crate) fn offer_snapshot(&mut self, index: u64) -> Result<(), WalError> {
        let mut snapshot = Snapshot::default();
        let mut metadata = position(index, self.read_term(index)?);
        metadata.set_conf_state(self.conf.get_conf_state().clone());
        snapshot.set_metadata(metadata);
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Offers it no longer.
    pub(crate) fn withdraw_snapshot(&mut self) {
        self.snapshot = None;
    }

    pub(crate) fn first(&self) -> u64 {
        self.cut.index + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The term the last entry was proposed in. Of two logs the one with the newer term holds more, however long the
    /// other is.
    pub(crate) fn last_term(&self) -> u64 {
        self.last_term
    }

    /// Entries held, and bytes of the files that hold them.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.last - self.cut.index, self.wal.size())
    }

    /// Entries from `next` on, some of them, for whoever reads the log without raft.
    pub(crate) fn page(&self, next: u64, bytes: u64) -> Result<Vec<Entry>, WalError> {
        self.wal.entries(next, self.last + 1, Some(bytes))
    }

    /// The last entry known to be committed.
    pub(crate) fn commit(&self) -> u64 {
        self.hard_state.commit
    }

    /// The newest term this member took part in.
    pub(crate) fn newest_term(&self) -> u64 {
        self.hard_state.term
    }

    /// Who votes.
    pub(crate) fn voters(&self) -> Vec<u64> {
        self.conf.get_conf_state().voters.clone()
    }

    fn stage_records(&mut self) -> Result<(), WalError> {
        self.wal.stage(Slot::HardState, &self.hard_state)?;
        self.wal.stage(Slot::Cut, &self.cut)?;
        self.wal.stage(Slot::Conf, &self.conf)
    }

    fn read_term(&self, index: u64) -> Result<u64, WalError> {
        if index == self.cut.index {
            return Ok(self.cut.term);
        }
        if let Some(entry) = self.cache.get(index) {
            return Ok(entry.term);
        }
        let entries = self.wal.entries(index, index + 1, None)?;
        let missing =
            || WalError::Read { dir: self.dir.clone(), reason: format!("entry {index} is missing") };
        entries.first().map(|entry| entry.term).ok_or_else(missing)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf.get_conf_state().clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let max_size = max_size.into();
        if self.cache.get(low).is_none() {
            return self.wal.entries(low, high, max_size).map_err(storage_error);
        }
        let mut entries: Vec<Entry> = (low..high).map_while(|index| self.cache.get(index).cloned()).collect();
        raft::util::limit_size(&mut entries, max_size);
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match index {
            _ if index < self.cut.index => Err(StorageError::Compacted.into()),
            _ if index > self.last => Err(StorageError::Unavailable.into()),
            _ => self.read_term(index).map_err(storage_error),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        match &self.snapshot {
            // A member refuses a state in whose configuration it is not, and would ask for ever.
            Some(snapshot)
                if snapshot.get_metadata().index >= request_index
                    && has_member(snapshot.get_metadata().get_conf_state(), to) =>
            {
                Ok(snapshot.clone())
            }
            _ => {
                self.wanted.set(Some(request_index));
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

/// Whether a configuration has this member, as whatever.
pub(crate) fn has_member(conf: &ConfState, id: u64) -> bool {
    conf.voters.contains(&id) || conf.voters_outgoing.contains(&id) || conf.learners.contains(&id)
}

fn position(index: u64, term: u64) -> SnapshotMetadata {
    let mut metadata = SnapshotMetadata::default();
    (metadata.index, metadata.term) = (index, term);
    metadata
}

fn storage_error(error: WalError) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{config::Config, error::StartError};

    fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
        range
            .map(|index| {
                let mut entry = Entry::default();
                (entry.index, entry.term) = (index, term);
                entry.data = vec![7; 100].into();
                entry
            })
            .collect()
    }

    fn hard_state(term: u64, commit: u64) -> HardState {
        let mut hard_state = HardState::default();
        (hard_state.term, hard_state.commit) = (term, commit);
        hard_state
    }

    /// A log on disk with entries 2 to 10 of term 2, and the commit index given.
    pub(super) fn written(commit: u64) -> (TempDir, Config) {
        let folder = TempDir::new().unwrap();
        let config = Config::new(1, folder.path());
        let mut log = Log::open(&config, &[1], 0).unwrap();
        log.append(&entries(2..=10, 2), Some(&hard_state(2, commit))).unwrap();
        (folder, config)
    }

    pub(super) fn reopened(config: &Config) -> Log {
        Log::open(config, &[1], 1).unwrap()
    }

    fn context() -> GetEntriesContext {
        GetEntriesContext::empty(false)
    }

    #[test]
    fn what_was_appended_is_there_after_a_crash() {
        let (_folder, config) = written(5);
        let mut log = reopened(&config);
        log.agree_with(1).unwrap();

        assert_eq!((log.first_index().unwrap(), log.last_index().unwrap()), (2, 10));
        assert_eq!(log.entries(2, 11, None, context()).unwrap(), entries(2..=10, 2));
        assert_eq!(log.initial_state().unwrap().conf_state.voters, [1]);
        assert_eq!((log.term(1).unwrap(), log.term(10).unwrap()), (1, 2));
        assert_eq!(log.term(0), Err(StorageError::Compacted.into()));
        assert_eq!(log.term(11), Err(StorageError::Unavailable.into()));
    }

    #[test]
    fn entries_outside_the_cache_come_from_the_disk() {
        let (_folder, config) = written(5);
        let log = reopened(&config);
        assert!(log.cache.get(2).is_none(), "nothing was read yet");

        assert_eq!(log.entries(3, 6, None, context()).unwrap(), entries(3..=5, 2));
        assert_eq!(log.entries(3, 6, Some(0), context()).unwrap().len(), 1, "always one");
        assert_eq!(log.entries(1, 3, None, context()), Err(StorageError::Compacted.into()));
    }

    #[test]
    fn a_new_leaders_entries_replace_ours() {
        let (_folder, config) = written(5);
        let mut log = reopened(&config);
        log.agree_with(1).unwrap();
        log.append(&entries(6..=7, 3), Some(&hard_state(3, 5))).unwrap();
        assert_eq!((log.last(), log.last_term(), log.term(7).unwrap(), log.term(5).unwrap()), (7, 3, 3, 2));

        let mut log = {
            drop(log);
            reopened(&config)
        };
        log.agree_with(1).unwrap();
        assert_eq!((log.last(), log.last_term(), log.term(7).unwrap(), log.term(5).unwrap()), (7, 3, 3, 2));
    }

    #[test]
    fn a_cut_survives_a_crash_and_a_state_before_it_is_refused() {
        let (_folder, config) = written(9);
        let mut log = reopened(&config);
        log.agree_with(9).unwrap();
        log.cut_to(6).unwrap();
        log.cut_to(4).unwrap();
        drop(log);

        let mut log = reopened(&config);
        assert_eq!((log.first(), log.last(), log.term(6).unwrap()), (7, 10, 2));
        let error = log.agree_with(3).unwrap_err();
        assert!(matches!(error, StartError::LogCut { applied: 3, first: 7, .. }), "{error}");
        assert!(error.to_string().contains("entries 4..=6 are missing"), "{error}");
        log.agree_with(6).unwrap();
    }
}
