//! Fatal: the disk or what is on it failed us, and nothing else.
//!
//! sled makes every I/O error sticky, and so do we: the first `Fatal` is the answer to everything that follows, until
//! the process is started anew and `Store::open` looks at what is really on the disk. No retry, ever: after a failed
//! fsync nobody knows what is on the disk (`reference/store.md` 5.2).

use std::{io, path::PathBuf};

use crate::revision::Revision;

/// The store can not go on. Kept as text, because it is told many times and outlives what caused it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// No space is left on the file system.
    #[error("no space left under {}; free some and start again: nothing acknowledged is lost", .0.display())]
    StorageFull(PathBuf),
    /// The operating system refused.
    #[error("{what}: {error}")]
    Io {
        /// What was being done, to which file.
        what: String,
        /// What the system said.
        error: String,
    },
    /// sled answered with an error other than I/O, or panicked, which is how it reports much of its damage.
    #[error("sled failed: {0}")]
    Sled(String),
    /// What is on the disk is not what was written there.
    #[error("damaged store: {0}")]
    Damaged(String),
    /// sled put a record into a file of its own, which it never makes durable.
    #[error("{} is not empty; a record was larger than a chunk may be", .0.display())]
    Blobs(PathBuf),
    /// The log was not handed over one entry after the other.
    #[error("entry {index} came after entry {applied}")]
    Order {
        /// The last index applied.
        applied: u64,
        /// The index that came.
        index: u64,
    },
}

impl Fatal {
    pub(crate) fn io(what: impl Into<String>, path: &std::path::Path, error: &io::Error) -> Fatal {
        if is_full(error) {
            return Fatal::StorageFull(path.to_owned());
        }
        Fatal::Io { what: format!("{} {}", what.into(), path.display()), error: error.to_string() }
    }
}

/// Whether an error says that the disk, or our share of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why a store could not be opened. Damage is not among these: a damaged store is quarantined and rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It belongs to another cluster.
    #[error("{} belongs to cluster {found}, not to {expected}", .path.display())]
    ForeignCluster {
        /// The store's directory.
        path: PathBuf,
        /// The cluster it says it belongs to.
        found: String,
        /// The cluster asked for.
        expected: String,
    },
    /// Another version of this software wrote it.
    #[error("{} has store format {found}; this version reads format {expected}", .path.display())]
    Format {
        /// The store's directory.
        path: PathBuf,
        /// The format it names.
        found: u32,
        /// The format this version reads and writes.
        expected: u32,
    },
    /// The disk is full, and giving up the ballast file did not help.
    #[error("no space left under {}; free some and start again: nothing acknowledged is lost", .0.display())]
    StorageFull(PathBuf),
    /// The directory can not be used, or an option makes no sense.
    #[error("{what} {}: {error}", .path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] Fatal),
}

/// Why a snapshot was not written or not taken over. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are not a whole, unharmed snapshot.
    #[error("damaged snapshot: {0}")]
    Damaged(String),
    /// It is of another cluster.
    #[error("snapshot of cluster {found}, not of {expected}")]
    ForeignCluster {
        /// The cluster it says it is of.
        found: String,
        /// The cluster of this store.
        expected: String,
    },
    /// It is older than the state it would replace.
    #[error("snapshot ends at entry {found}; entry {applied} is applied already")]
    Older {
        /// The last entry in the snapshot.
        found: u64,
        /// The last entry applied here.
        applied: u64,
    },
    /// There are no revisions as far as the leap goes.
    #[error("revision {0} can not leap by {1}")]
    Revision(Revision, u64),
    /// The file or stream could not be read or written.
    #[error("{what}: {error}")]
    Io {
        /// What was being done, to which file.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// The store failed meanwhile.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}
