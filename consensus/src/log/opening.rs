//! How a log begins, and what must be true of one before raft may read it.
//!
//! Raft panics on a log that breaks its rules, so everything here is an error that says what is wrong. It repairs two
//! things only, both left by a crash: a commit index that lags behind the state, and a restore half way. Called by the
//! replica at its start, and by those who read a stopped member's log.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use raft::eraftpb::{HardState, SnapshotMetadata};

use super::{BOOTSTRAP_INDEX, Log, position};
use crate::{
    cache::Cache,
    config::Config,
    error::StartError,
    wal::{Slot, Wal, WalError},
};

/// Entries read at once when the log is checked at start.
const CHECK_BYTES: u64 = 1_024 * 1_024;

/// The files of a log, opened and not looked at: that reads all of them, and can go on while the state is being opened.
pub struct LogFiles(Wal);

impl LogFiles {
    /// Opens the log's files under `config.data_dir`, or makes them. Heals a torn tail and refuses any other damage.
    pub fn open(config: &Config) -> Result<LogFiles, StartError> {
        config.check().map_err(StartError::Config)?;
        Ok(LogFiles(Wal::open(&config.wal_dir(), config.wal_file_bytes)?))
    }
}

impl Log {
    /// Opens the log of `config.node_id`. A new one begins with the voters `founders`; with none it is the log of a
    /// joiner, which has nothing until a leader sends it a snapshot.
    ///
    /// `applied` is what the state holds: a state without any log has lost it, and a new log would contradict it.
    pub(crate) fn open(config: &Config, founders: &[u64], applied: u64) -> Result<Log, StartError> {
        Log::of(LogFiles::open(config)?, config, founders, applied)
    }

    /// The same over files that are open.
    pub(crate) fn of(
        LogFiles(mut wal): LogFiles,
        config: &Config,
        founders: &[u64],
        applied: u64,
    ) -> Result<Log, StartError> {
        let dir = config.wal_dir();
        match wal.get::<SnapshotMetadata>(Slot::Member)? {
            None if applied > 0 => return Err(StartError::LogBehindState { dir, applied, last: 0 }),
            None => bootstrap(&mut wal, config, founders)?,
            Some(member) if member.index == config.node_id => {
                // The record is a position of raft's because that is what the log can write; its term is the cluster.
                if member.term != config.cluster && member.term != 0 && config.cluster != 0 {
                    return Err(StartError::WrongCluster { dir });
                }
            }
            Some(member) => {
                return Err(StartError::WrongMember { dir, found: member.index, configured: config.node_id });
            }
        }
        Log::over(wal, dir)
    }

    fn over(wal: Wal, dir: PathBuf) -> Result<Log, StartError> {
        let record = |slot: Slot| -> Result<SnapshotMetadata, WalError> {
            let missing =
                || WalError::Read { dir: dir.clone(), reason: format!("the {slot:?} record is missing") };
            wal.get(slot)?.ok_or_else(missing)
        };
        let (cut, conf) = (record(Slot::Cut)?, record(Slot::Conf)?);
        let missing =
            || WalError::Read { dir: dir.clone(), reason: "the HardState record is missing".to_owned() };
        let hard_state: HardState = wal.get(Slot::HardState)?.ok_or_else(missing)?;
        let last = last_entry(&wal, &dir, cut.index)?;
        let mut log = Log {
            wal,
            dir,
            hard_state,
            cut,
            conf,
            last,
            last_term: 0,
            cache: Cache::default(),
            snapshot: None,
            wanted: Cell::new(None),
        };
        log.last_term = log.read_term(last)?;
        Ok(log)
    }

    /// Checks the log against the state that was applied from it, before raft sees either: raft would panic.
    pub(crate) fn agree_with(&mut self, applied: u64) -> Result<(), StartError> {
        self.finish_restore(applied)?;
        if applied < self.cut.index {
            return Err(StartError::LogCut { dir: self.dir.clone(), applied, first: self.first() });
        }
        if applied > self.last {
            return Err(StartError::LogBehindState { dir: self.dir.clone(), applied, last: self.last });
        }
        if self.hard_state.commit > self.last {
            let (dir, commit) = (self.dir.clone(), self.hard_state.commit);
            return Err(StartError::LogBehindCommit { dir, commit, last: self.last });
        }
        // The commit index reaches the disk with the next group only, but nothing is applied that was not committed.
        let known = applied.max(self.conf.index).max(self.cut.index);
        self.hard_state.commit = self.hard_state.commit.max(known.min(self.last));
        self.check_entries(applied + 1)
    }

    /// Reads everything that will be applied, so that a damaged entry is an error now and not a panic later.
    fn check_entries(&mut self, from: u64) -> Result<(), StartError> {
        let mut term = self.read_term(from - 1)?;
        let mut next = from;
        while next <= self.last {
            for entry in self.wal.entries(next, self.last + 1, Some(CHECK_BYTES))? {
                if entry.index != next || entry.term < term {
                    let found = format!("entry {next} has index {} and term {}", entry.index, entry.term);
                    return Err(WalError::Read { dir: self.dir.clone(), reason: found }.into());
                }
                (next, term) = (entry.index + 1, entry.term);
                self.cache.push(entry);
            }
        }
        if term > self.hard_state.term {
            let reason =
                format!("entry {} has term {term}, the hard state only {}", self.last, self.hard_state.term);
            return Err(WalError::Read { dir: self.dir.clone(), reason }.into());
        }
        Ok(())
    }

    /// A crash between the restore of a snapshot and the log's answer to it: the state has it, so the log must begin
    /// there; or it has not, and the leader will send it again.
    fn finish_restore(&mut self, applied: u64) -> Result<(), WalError> {
        match self.wal.get::<SnapshotMetadata>(Slot::Restoring)? {
            Some(snapshot) if snapshot.index == applied && applied > self.cut.index => {
                self.begin_at(&snapshot)
            }
            Some(_) => {
                self.wal.stage_removal(Slot::Restoring);
                self.wal.commit()
            }
            None => Ok(()),
        }
    }
}

fn bootstrap(wal: &mut Wal, config: &Config, founders: &[u64]) -> Result<(), WalError> {
    let first = if founders.is_empty() { 0 } else { BOOTSTRAP_INDEX };
    bootstrap_at(wal, config, founders, first)
}

/// Begins a log behind `index`; its term is the first there is.
pub(crate) fn bootstrap_at(
    wal: &mut Wal,
    config: &Config,
    founders: &[u64],
    index: u64,
) -> Result<(), WalError> {
    let term = index.min(BOOTSTRAP_INDEX);
    let mut hard_state = HardState::default();
    (hard_state.term, hard_state.commit) = (term, index);
    let mut conf = position(index, term);
    conf.mut_conf_state().set_voters(founders.to_vec());
    wal.stage(Slot::Member, &position(config.node_id, config.cluster))?;
    wal.stage(Slot::HardState, &hard_state)?;
    wal.stage(Slot::Cut, &position(index, term))?;
    wal.stage(Slot::Conf, &conf)?;
    wal.commit()
}

/// The last entry on disk, once the first is where the cut says.
fn last_entry(wal: &Wal, dir: &Path, cut: u64) -> Result<u64, WalError> {
    match wal.span() {
        None => Ok(cut),
        Some((first, last)) if first <= cut + 1 && last > cut => Ok(last),
        Some((_, last)) if last <= cut => Ok(cut),
        Some((first, last)) => {
            let reason = format!(
                "it was cut at entry {cut}, but its files hold entries {first} to {last}: a file is missing"
            );
            Err(WalError::Read { dir: dir.to_owned(), reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use raft::{RawNode, Storage};

    use super::*;
    use crate::log::tests::{reopened, written};

    #[test]
    fn a_state_ahead_of_the_commit_raises_it_where_raft_would_panic() {
        let (_folder, config) = written(5);
        let mut log = reopened(&config);

        log.agree_with(8).unwrap();

        assert_eq!(log.initial_state().unwrap().hard_state.commit, 8);
        let node = RawNode::new(&config.to_raft(8), log, &crate::logger::logger()).unwrap();
        assert_eq!((node.raft.raft_log.applied, node.raft.raft_log.committed), (8, 8));
    }

    #[test]
    fn a_state_ahead_of_the_log_is_refused() {
        let (_folder, config) = written(5);
        let error = reopened(&config).agree_with(11).unwrap_err();
        assert!(matches!(error, StartError::LogBehindState { applied: 11, last: 10, .. }), "{error}");
        assert!(error.to_string().contains("entries 11..=11 are missing"), "{error}");
    }

    #[test]
    fn a_commit_behind_the_end_of_the_log_is_refused_where_raft_would_panic() {
        let (_folder, config) = written(11);
        let error = reopened(&config).agree_with(5).unwrap_err();
        assert!(matches!(error, StartError::LogBehindCommit { commit: 11, last: 10, .. }), "{error}");
    }

    #[test]
    fn a_log_without_hard_state_is_refused() {
        let (_folder, config) = written(5);
        let mut log = reopened(&config);
        log.wal.stage_removal(Slot::HardState);
        log.wal.commit().unwrap();
        drop(log);

        let error = Log::open(&config, &[1], 1).err().unwrap();
        assert!(error.to_string().contains("the HardState record is missing"), "{error}");
    }

    #[test]
    fn the_log_of_another_member_is_refused() {
        let (_folder, config) = written(5);
        let error = Log::open(&Config { node_id: 2, ..config }, &[2], 1).err().unwrap();
        assert!(matches!(error, StartError::WrongMember { found: 1, configured: 2, .. }), "{error}");
    }

    #[test]
    fn the_log_of_another_cluster_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let of = |cluster| Config { cluster, ..Config::new(1, folder.path()) };
        drop(Log::open(&of(7), &[1], 0).unwrap());

        let error = Log::open(&of(8), &[1], 0).err().unwrap();
        assert!(matches!(error, StartError::WrongCluster { .. }), "{error}");
        drop(Log::open(&of(7), &[1], 0).unwrap());
        drop(Log::open(&of(0), &[1], 0).unwrap());
    }

    #[test]
    fn a_log_open_elsewhere_is_refused() {
        let (_folder, config) = written(5);
        let _first = reopened(&config);
        let error = Log::open(&config, &[1], 1).err().unwrap();
        assert!(error.to_string().contains("another instance is using this directory"), "{error}");
    }

    #[test]
    fn a_crash_during_a_restore_leaves_the_old_log_or_the_new() {
        let snapshot = position(50, 4);

        let (_folder, config) = written(9);
        reopened(&config).announce_restore(&snapshot).unwrap();
        let mut log = reopened(&config);
        log.agree_with(9).unwrap();
        assert_eq!((log.first(), log.last()), (2, 10), "the state was not replaced, nor is the log");
        let error = log.agree_with(50).unwrap_err();
        assert!(matches!(error, StartError::LogBehindState { .. }), "and the announcement is gone: {error}");

        let (_folder, config) = written(9);
        reopened(&config).announce_restore(&snapshot).unwrap();
        let mut log = reopened(&config);
        log.agree_with(50).unwrap();
        assert_eq!((log.first(), log.last(), log.term(50).unwrap()), (51, 50, 4), "the state was replaced");
        assert_eq!(log.initial_state().unwrap().hard_state.commit, 50);
    }
}
