//! Db: the only place that opens sled, and the only place that calls it.
//!
//! It hands out three trees: `meta` (what this database is), `rev` (what every revision did) and `sm` (where the
//! state machine stands). Every call goes through `guard`: sled reports much of its damage by panicking, so a panic
//! is caught and becomes the same sticky `Fatal` an error does. It knows nothing of what the rows mean.

use std::{
    fs::File,
    io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use sled::{
    IVec,
    transaction::{ConflictableTransactionError, TransactionError, Transactional},
};

use crate::error::{Fatal, is_full};

/// sled keeps a page in one segment unless it is larger than a quarter of it; then it goes to a file that is never
/// synced. 512 KiB and records of at most 6 KiB stay clear of that. It can never be changed for an existing database.
const SEGMENT_BYTES: usize = 512 * 1024;

/// sled 0.34.7 counts a page against its cache only once the page's shard, of which there are 256, has seen 64 accesses,
/// and an iterator makes one for each page: a scan would hold 16,384 pages, a hundred megabytes, beyond the bound. A
/// look at the row just read is another access, for a microsecond. Measured with a hundred thousand records of a kilobyte
/// (`examples/footprint`): 180 MB after a start without these looks, 90 MB with them.
const NOTICE_BYTES: usize = 2 * 1024;

/// How often, and how long apart, sled's own lock is asked for: a second together.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// One of the trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// What this database is: format, cluster.
    Meta,
    /// What every revision did.
    Rev,
    /// Where the state machine stands.
    Sm,
}

/// One write to one tree: a value, or nothing to remove the row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) tree: Tree,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// An open sled database.
#[derive(Debug)]
pub(crate) struct Db {
    path: PathBuf,
    sled: sled::Db,
    meta: sled::Tree,
    rev: sled::Tree,
    sm: sled::Tree,
    /// A descriptor of our own on sled's main file: sled's flush does not sync it, so we do.
    main: File,
    failed: OnceLock<Fatal>,
    /// Held until sled has let go of its files, whoever is the last to let go of this.
    _lock: Arc<File>,
}

impl Db {
    /// Opens the database in `path`, which is made if it is not there. `lock` is what keeps others out of it.
    pub(crate) fn open(path: &Path, cache_bytes: u64, lock: Arc<File>) -> Result<Db, Fatal> {
        remove_unfinished_snapshots(path).map_err(|error| Fatal::io("clean", path, &error))?;
        let config = sled::Config::new()
            .path(path)
            // Nothing is synced behind our back: a checkpoint says what is durable, and an idle node writes nothing.
            .flush_every_ms(None)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .mode(sled::Mode::LowSpace);
        let (sled, meta, rev, sm) = catch(path, || {
            let sled = open_unlocked(&config)?;
            let (meta, rev, sm) = (sled.open_tree("meta")?, sled.open_tree("rev")?, sled.open_tree("sm")?);
            Ok((sled, meta, rev, sm))
        })?;
        let main = path.join("db");
        let main = File::open(&main).map_err(|error| Fatal::io("open", &main, &error))?;
        Ok(Db { path: path.to_owned(), sled, meta, rev, sm, main, failed: OnceLock::new(), _lock: lock })
    }

    /// One row's value.
    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<IVec>, Fatal> {
        self.guard(|| self.tree(tree).get(key))
    }

    /// Calls `each` for every row of a tree from one key on, in key order, until it answers false. Memory stays near the
    /// cache's bound however long the tree is.
    pub(crate) fn scan<E: From<Fatal>>(
        &self,
        tree: Tree,
        from: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let range = (Bound::Included(from.to_vec()), Bound::<Vec<u8>>::Unbounded);
        let mut rows = self.guard(|| Ok(self.tree(tree).range(range)))?;
        let mut unnoticed = 0;
        while let Some((key, value)) = self.guard(|| rows.next().transpose())? {
            if !each(&key, &value)? {
                break;
            }
            unnoticed += value.len();
            if unnoticed >= NOTICE_BYTES {
                unnoticed = 0;
                self.get(tree, &key)?;
            }
        }
        Ok(())
    }

    /// Writes all rows or none, over all trees, and does not make them durable.
    pub(crate) fn commit(&self, rows: &[Row]) -> Result<(), Fatal> {
        self.guard(|| {
            (&self.meta, &self.rev, &self.sm)
                .transaction(|(meta, rev, sm)| {
                    for row in rows {
                        let tree = match row.tree {
                            Tree::Meta => meta,
                            Tree::Rev => rev,
                            Tree::Sm => sm,
                        };
                        match &row.value {
                            Some(value) => tree.insert(row.key.as_slice(), value.as_slice())?,
                            None => tree.remove(row.key.as_slice())?,
                        };
                    }
                    Ok::<(), ConflictableTransactionError<()>>(())
                })
                .map_err(|error| match error {
                    TransactionError::Storage(error) => error,
                    TransactionError::Abort(()) => sled::Error::ReportableBug("aborted by nobody".into()),
                })
        })
    }

    /// Makes everything written durable: flush hands it to the kernel, fdatasync to the disk.
    pub(crate) fn sync(&self) -> Result<(), Fatal> {
        self.guard(|| self.sled.flush())?;
        if let Err(error) = self.main.sync_data() {
            return Err(self.fail(Fatal::io("fdatasync", &self.path.join("db"), &error)));
        }
        self.check_blobs()
    }

    /// Whatever is in `blobs/` was never synced and is lost with the power; our chunks are too small to end there.
    fn check_blobs(&self) -> Result<(), Fatal> {
        let blobs = self.path.join("blobs");
        let empty = match std::fs::read_dir(&blobs) {
            Ok(mut files) => files.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(self.fail(Fatal::io("list", &blobs, &error))),
        };
        if empty { Ok(()) } else { Err(self.fail(Fatal::Blobs(blobs))) }
    }

    /// The failure that stopped this database, if one did.
    pub(crate) fn failure(&self) -> Result<(), Fatal> {
        self.failed.get().map_or(Ok(()), |fatal| Err(fatal.clone()))
    }

    /// Stops this database: the first failure is the answer to everything after it.
    pub(crate) fn fail(&self, fatal: Fatal) -> Fatal {
        self.failed.get_or_init(|| fatal).clone()
    }

    fn tree(&self, tree: Tree) -> &sled::Tree {
        match tree {
            Tree::Meta => &self.meta,
            Tree::Rev => &self.rev,
            Tree::Sm => &self.sm,
        }
    }

    fn guard<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, Fatal> {
        self.failure()?;
        catch(&self.path, call).map_err(|fatal| self.fail(fatal))
    }
}

/// Removes what an opening that was killed, or met a full disk, left of sled's own snapshot. sled 0.34.7 skips such files
/// under another name than the one it gives them, reads them as whole, and reports corruption.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "generating") {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Opens sled once its own lock is free. Nobody else can have it, as `LOCK` is ours; but threads of a database this
/// process closed just now may take a moment to let go of it.
fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..LOCK_ATTEMPTS {
        match config.open() {
            Err(error) if names_the_lock(&error) => std::thread::sleep(LOCK_PAUSE),
            opened => return opened,
        }
    }
    config.open()
}

fn names_the_lock(error: &sled::Error) -> bool {
    // sled has no variant for it.
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// Runs a call into sled; its errors and its panics both come back as `Fatal`.
fn catch<T>(path: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, Fatal> {
    // Unwind safety: after a panic the database is marked failed and nothing of it is looked at again.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if is_full(&error) => Err(Fatal::StorageFull(path.to_owned())),
        Ok(Err(sled::Error::Io(error))) if names_the_system(&error) => {
            Err(Fatal::io("sled in", path, &error))
        }
        Ok(Err(error)) => Err(Fatal::Sled(error.to_string())),
        Err(panic) => Err(Fatal::Sled(format!("panic: {}", panic_text(&*panic)))),
    }
}

/// Whether an I/O error is the system's answer about the file, and not sled's (or a short read's) about its contents.
fn names_the_system(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
