//! Directory: the files of a store and their names.
//!
//! ```text
//! LOCK           held by the process that has the store open
//! CURRENT        the name of the database in use
//! db-<n>/        a sled database; another one only while it is being built
//! quarantine-<n>/  damaged databases, the newest two
//! snapshots/     exported snapshots, the newest two
//! ballast        space to give up when a full disk will not let sled open
//! ```

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FallocateFlags, FlockOperation};

use crate::{
    durable::{sync_directory, write_atomically},
    error::{OpenError, is_full},
};

/// Damaged databases kept for whoever wants to know what happened.
const QUARANTINES_KEPT: usize = 2;

const DATABASE: &str = "db-";
const QUARANTINE: &str = "quarantine-";

/// Which database is in use.
#[derive(Debug)]
pub(crate) enum Current {
    /// The one `CURRENT` names; it was whole and durable before it was named.
    Named(PathBuf),
    /// The only one there is, which may have been being made when the process died.
    Only(PathBuf),
    /// None: there is no store here yet, or it is gone.
    Nothing,
    /// One of these; nothing tells which.
    Unclear(Vec<PathBuf>),
}

/// A store's directory, locked for this process.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: Arc<File>,
}

impl Directory {
    /// Makes the directory if need be, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Directory, OpenError> {
        let failed = |what| move |error| open_error(what, path, error);
        fs::create_dir_all(path).map_err(failed("create"))?;
        fs::create_dir_all(path.join("snapshots")).map_err(failed("create snapshots in"))?;
        let lock = File::create(path.join("LOCK")).map_err(failed("write LOCK in"))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Directory { path: path.to_owned(), lock: Arc::new(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(path.to_owned())),
            Err(error) => Err(failed("lock")(error.into())),
        }
    }

    /// Where the store is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What keeps other processes out, and this one from opening the store twice.
    pub(crate) fn lock(&self) -> Arc<File> {
        self.lock.clone()
    }

    /// Where exported snapshots are.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The database in use. A `CURRENT` that is lost or unreadable is made up for by the only database there is.
    pub(crate) fn current(&self) -> io::Result<Current> {
        let mut databases: Vec<PathBuf> =
            self.numbered(DATABASE)?.into_iter().map(|(_, name)| self.path.join(name)).collect();
        let named = fs::read_to_string(self.path.join("CURRENT")).unwrap_or_default();
        let named = self.path.join(named.trim_end());
        Ok(match databases.as_slice() {
            _ if databases.contains(&named) => Current::Named(named),
            [_] => Current::Only(databases.remove(0)),
            [] => Current::Nothing,
            _ => Current::Unclear(databases),
        })
    }

    /// Whether a database was ever put in use here, wherever it is now.
    pub(crate) fn names_one(&self) -> bool {
        self.path.join("CURRENT").exists()
    }

    /// The name for the next database; nothing is there.
    pub(crate) fn next_database(&self) -> io::Result<PathBuf> {
        let newest = self.numbered(DATABASE)?.last().map_or(0, |(number, _)| *number);
        let damaged = self.numbered(QUARANTINE)?.last().map_or(0, |(number, _)| *number);
        Ok(self.path.join(format!("{DATABASE}{}", newest.max(damaged) + 1)))
    }

    /// Puts a whole and durable database in use and removes every other.
    pub(crate) fn make_current(&self, database: &Path) -> io::Result<()> {
        let name = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let current = self.path.join("CURRENT");
        if fs::read_to_string(&current).is_ok_and(|named| named.trim_end() == name) {
            return self.remove_strays(database);
        }
        write_atomically::<io::Error>(&current, |out| writeln!(out, "{name}"))?;
        self.remove_strays(database)
    }

    /// Removes databases that a crash left half built, or that were replaced.
    fn remove_strays(&self, current: &Path) -> io::Result<()> {
        for (_, name) in self.numbered(DATABASE)? {
            let path = self.path.join(name);
            if path != current {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// Moves a damaged database out of the way; keeps the newest few such.
    pub(crate) fn quarantine(&self, database: &Path) -> io::Result<PathBuf> {
        let number = self.numbered(QUARANTINE)?.last().map_or(0, |(number, _)| *number) + 1;
        let place = self.path.join(format!("{QUARANTINE}{number}"));
        fs::rename(database, &place)?;
        sync_directory(&self.path)?;
        let quarantines = self.numbered(QUARANTINE)?;
        for (_, name) in quarantines.iter().rev().skip(QUARANTINES_KEPT) {
            fs::remove_dir_all(self.path.join(name))?;
        }
        Ok(place)
    }

    /// Takes up the space of the ballast, if it is not there. Too little space for it is no reason not to run.
    pub(crate) fn lay_ballast(&self, bytes: u64) -> io::Result<()> {
        let path = self.path.join("ballast");
        if bytes == 0 || fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            return Ok(());
        }
        let file = File::create(&path)?;
        let laid = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes);
        laid.map_err(io::Error::from).inspect_err(|_| {
            // Half a ballast is no use, and takes space somebody needs.
            let _ = fs::remove_file(&path);
        })
    }

    /// Gives the ballast up; answers whether there was one.
    pub(crate) fn drop_ballast(&self) -> bool {
        fs::remove_file(self.path.join("ballast")).is_ok()
    }

    /// The subdirectories named `prefix` and a number, by number.
    fn numbered(&self, prefix: &str) -> io::Result<Vec<(u64, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix(prefix).and_then(|number| number.parse().ok());
            found.extend(number.map(|number| (number, name)));
        }
        found.sort();
        Ok(found)
    }
}

/// An I/O error as the answer to `open`.
pub(crate) fn open_error(what: &'static str, path: &Path, error: io::Error) -> OpenError {
    if is_full(&error) {
        return OpenError::StorageFull(path.to_owned());
    }
    OpenError::Io { what, path: path.to_owned(), error }
}
