//! The write-ahead log: raft's entries and hard state on disk, over TiKV's raft-engine.
//!
//! Groups go in whole: what was staged since the last commit is one record with its checksum, followed by one
//! `fdatasync`, the only one on the hot path. It knows nothing of raft's rules ([`crate::log`] does) and never
//! retries: after a failed write or sync nobody knows what the disk holds, so every error here is fatal.

mod files;
mod tail;

use std::{
    fs::{self, File},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use protobuf::Message;
use raft::eraftpb::Entry;
use raft_engine::{Command, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};

#[cfg(test)]
pub(crate) use files::Faults;
pub(crate) use files::WalFiles;

use crate::panics;

/// raft-engine keeps many logs in one directory; ours is the first and only.
const GROUP: u64 = 1;

/// Above this many bytes of files, files whose entries were all cut are deleted.
const PURGE_FILES: u64 = 2;

/// The records beside the entries, each under a key of one byte.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// Who wrote this log.
    Member,
    /// Raft's term, vote and commit.
    HardState,
    /// Where the log was cut: the index and term before the first entry.
    Cut,
    /// Who belongs to the cluster, and the entry that said so.
    Conf,
    /// A snapshot from a leader that is being restored into the state machine.
    Restoring,
}

impl Slot {
    fn key(self) -> &'static [u8] {
        match self {
            Slot::Member => b"m",
            Slot::HardState => b"h",
            Slot::Cut => b"c",
            Slot::Conf => b"v",
            Slot::Restoring => b"r",
        }
    }
}

/// What the log's disk did.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The directory could not be made or opened, or what is in it is damaged.
    #[error("open the log in {}: {reason}", .dir.display())]
    Open {
        /// The log's directory.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Entries that must be there cannot be read.
    #[error(
        "read the log in {}: {reason}; put the log directory back as it was, or restore the data directory from a \
         backup", .dir.display()
    )]
    Read {
        /// The log's directory.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A group could not be made durable.
    #[error("write the log in {}: {reason}", .dir.display())]
    Write {
        /// The log's directory.
        dir: PathBuf,
        /// What the disk said.
        reason: String,
    },
}

/// The log on disk.
///
/// * What `commit` returned for is on disk, whole.
/// * What was staged and not committed never reaches the disk.
pub(crate) struct Wal {
    engine: Engine<WalFiles, raft_engine::internals::FilePipeLog<WalFiles>>,
    staged: LogBatch,
    dir: PathBuf,
}

/// Says where an entry keeps its index.
struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

impl Wal {
    /// Opens the log in `dir`, or makes an empty one. Heals a torn tail and refuses any other damage.
    pub(crate) fn open(dir: &Path, file_bytes: u64) -> Result<Wal, WalError> {
        Wal::open_with(dir, file_bytes, WalFiles::default())
    }

    pub(crate) fn open_with(dir: &Path, file_bytes: u64, files: WalFiles) -> Result<Wal, WalError> {
        let refuse = |reason: String| WalError::Open { dir: dir.to_owned(), reason };
        fs::create_dir_all(dir).map_err(|error| refuse(error.to_string()))?;
        let config = raft_engine::Config {
            dir: dir.to_str().ok_or_else(|| refuse("its name is not UTF-8".to_owned()))?.to_owned(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            recovery_threads: 1,
            // Measured: squeezing a group costs more time than writing it (reference/store.md 5.12).
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(file_bytes),
            purge_threshold: ReadableSize(file_bytes * PURGE_FILES),
            // Measured: no gain here, and without it the tail of a file holds zeros or one torn group, nothing else.
            enable_log_recycle: false,
            ..raft_engine::Config::default()
        };
        // raft-engine panics when the sync of a fresh file fails; for us that is one more way not to open.
        let engine = catch_unwind(AssertUnwindSafe(|| Engine::open_with_file_system(config, files.into())))
            .map_err(|panic| refuse(panics::message(&*panic)))?
            .map_err(|error| refuse(error.to_string()))?;
        let wal = Wal { engine, staged: LogBatch::with_capacity(64), dir: dir.to_owned() };
        wal.sync_directories().map_err(|error| refuse(error.to_string()))?;
        Ok(wal)
    }

    /// Makes the names of files and directories durable; without it a power cut loses a file that was synced.
    fn sync_directories(&self) -> std::io::Result<()> {
        File::open(&self.dir)?.sync_all()?;
        self.dir
            .ancestors()
            .skip(1)
            .take(2)
            .filter(|dir| !dir.as_os_str().is_empty())
            .try_for_each(|dir| File::open(dir)?.sync_all())
    }

    /// The first and last entry, if there are any.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        Some((self.engine.first_index(GROUP)?, self.engine.last_index(GROUP)?))
    }

    /// Bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.engine.get_used_size() as u64
    }

    /// A record beside the entries.
    pub(crate) fn get<M: Message>(&self, slot: Slot) -> Result<Option<M>, WalError> {
        self.engine.get_message(GROUP, slot.key()).map_err(|error| self.unreadable(error))
    }

    /// The entries `low..high`, fewer if they exceed `max_bytes` but at least one.
    pub(crate) fn entries(
        &self,
        low: u64,
        high: u64,
        max_bytes: Option<u64>,
    ) -> Result<Vec<Entry>, WalError> {
        let mut entries = Vec::new();
        let max_bytes = max_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.engine
            .fetch_entries_to::<Entries>(GROUP, low, high, max_bytes, &mut entries)
            .map_err(|error| self.unreadable(error))?;
        Ok(entries)
    }

    /// Adds entries to the group; they replace any with the same or a higher index.
    pub(crate) fn stage_entries(&mut self, entries: &[Entry]) -> Result<(), WalError> {
        let staged = self.staged.add_entries::<Entries>(GROUP, entries);
        staged.map_err(|error| self.unwritable(error))
    }

    /// Adds a record to the group.
    pub(crate) fn stage<M: Message>(&mut self, slot: Slot, record: &M) -> Result<(), WalError> {
        let staged = self.staged.put_message(GROUP, slot.key().to_vec(), record);
        staged.map_err(|error| self.unwritable(error))
    }

    /// Adds the removal of a record to the group.
    pub(crate) fn stage_removal(&mut self, slot: Slot) {
        self.staged.delete(GROUP, slot.key().to_vec());
    }

    /// Adds the removal of all entries before `first` to the group.
    pub(crate) fn stage_cut(&mut self, first: u64) {
        self.staged.add_command(GROUP, Command::Compact { index: first });
    }

    /// Makes the group durable. On an error the caller must stop: nobody knows what the disk holds.
    pub(crate) fn commit(&mut self) -> Result<(), WalError> {
        let (engine, staged) = (&self.engine, &mut self.staged);
        // raft-engine panics when fdatasync fails.
        match catch_unwind(AssertUnwindSafe(|| engine.write(staged, true))) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.unwritable(error)),
            Err(panic) => Err(WalError::Write { dir: self.dir.clone(), reason: panics::message(&*panic) }),
        }
    }

    /// Deletes files whose entries were all cut.
    pub(crate) fn purge(&mut self) -> Result<(), WalError> {
        self.engine.purge_expired_files().map(|_| ()).map_err(|error| self.unwritable(error))
    }

    fn unreadable(&self, error: raft_engine::Error) -> WalError {
        WalError::Read { dir: self.dir.clone(), reason: error.to_string() }
    }

    fn unwritable(&self, error: raft_engine::Error) -> WalError {
        WalError::Write { dir: self.dir.clone(), reason: error.to_string() }
    }
}
