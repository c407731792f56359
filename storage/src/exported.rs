//! Exported: the snapshot files of a store, by the log entry they end with.
//!
//! They are what a node without peers heals from, so there are two: if the newest is damaged as well, the log still
//! reaches back to the one before (`Store::log_may_be_cut_to`). A file has its name here only once it was read back and
//! found whole: the log is cut, and an older file removed, in trust of it, even after a restart.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    durable::{sync_directory, write_checked},
    error::SnapshotError,
};

/// Two, so that one may be damaged. Each costs the disk the whole state.
const SNAPSHOTS_KEPT: usize = 2;

const SUFFIX: &str = ".snapshot";

/// The exported snapshots in one directory. Shared with whoever is writing one.
#[derive(Debug)]
pub(crate) struct Exported {
    directory: PathBuf,
    /// Held while one is written, which may take seconds: one at a time.
    writing: Mutex<()>,
    /// The ones that are there, oldest first. Never held for long: the raft thread asks.
    kept: Mutex<Vec<u64>>,
}

impl Exported {
    /// Looks what is there.
    pub(crate) fn open(directory: &Path) -> io::Result<Exported> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            kept.extend(name.strip_suffix(SUFFIX).and_then(|number| number.parse::<u64>().ok()));
        }
        kept.sort_unstable();
        Ok(Exported { directory: directory.to_owned(), writing: Mutex::new(()), kept: Mutex::new(kept) })
    }

    /// The files, newest first, with the entry each ends with.
    pub(crate) fn newest_first(&self) -> Vec<(u64, PathBuf)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().map(|applied| (*applied, self.path(*applied))).collect()
    }

    /// The entry the oldest of a full set ends with: every later one is in two files.
    pub(crate) fn held_twice(&self) -> u64 {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < SNAPSHOTS_KEPT { 0 } else { kept[0] }
    }

    /// Writes one, durably, has it checked, and removes what is beyond the number kept; on an error, nothing.
    pub(crate) fn write(
        &self,
        applied: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<(), SnapshotError>,
        check: impl FnOnce(&Path) -> Result<(), SnapshotError>,
    ) -> Result<PathBuf, SnapshotError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(applied);
        write_checked(&path, write, check)?;
        self.keep(applied);
        Ok(path)
    }

    /// Takes in a whole and durable snapshot file from elsewhere, under its own name and without copying it.
    pub(crate) fn adopt(&self, applied: u64, file: &Path) -> io::Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(applied);
        match fs::hard_link(file, &path) {
            // What is there under that name is of the same entry.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_directory(&self.directory)?,
        }
        self.keep(applied);
        Ok(())
    }

    /// Forgets a file that can not be read, so that the log is not cut in trust of it. It stays where it is: the next
    /// start looks again.
    pub(crate) fn forget(&self, applied: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| *other != applied);
    }

    /// Forgets a file that turned out to be damaged.
    pub(crate) fn discard(&self, applied: u64) {
        self.forget(applied);
        let path = self.path(applied);
        // Kept under another name for whoever wants to know; if that fails it is only found damaged again.
        let _ = fs::rename(&path, path.with_extension("damaged"));
    }

    /// Counts a file in, and removes what is beyond the number kept.
    fn keep(&self, applied: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contains(&applied) {
            kept.push(applied);
            kept.sort_unstable();
        }
        while kept.len() > SNAPSHOTS_KEPT {
            // A file that can not be removed now is one too many, and is counted again at the next start.
            let oldest = kept.remove(0);
            let _ = fs::remove_file(self.path(oldest));
        }
    }

    fn path(&self, applied: u64) -> PathBuf {
        // Zeros in front, so that names sort as numbers do.
        self.directory.join(format!("{applied:020}{SUFFIX}"))
    }
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> SnapshotError {
        SnapshotError::Io { what: "write snapshot file".to_owned(), error }
    }
}
