//! Db: the only place that opens sled, and the only place that calls it.
//!
//! It hands out three trees: `meta` (what this database is), `rev` (what every revision did) and `sm` (where the
//! state machine stands). Every call goes through `guard`: sled reports much of its damage by panicking, so a panic
//! is caught and becomes the same sticky `Fatal` an error does. What is committed reaches sled a little later, through
//! [`Mover`]; whoever reads does not notice. It knows nothing of what the rows mean.

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

use crate::{
    error::{Fatal, is_full},
    mover::Mover,
    pending::Rows,
};

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
    /// First, so that its thread is gone before sled is.
    mover: Mover,
    sled: Arc<Guarded>,
    /// A descriptor of our own on sled's main file: sled's flush does not sync it, so we do.
    main: File,
    /// Held until sled has let go of its files, whoever is the last to let go of this.
    _lock: Arc<File>,
}

/// Sled, with every call guarded.
#[derive(Debug)]
struct Guarded {
    path: PathBuf,
    sled: sled::Db,
    meta: sled::Tree,
    rev: sled::Tree,
    sm: sled::Tree,
    failed: OnceLock<Fatal>,
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
        let sled = Arc::new(Guarded { path: path.to_owned(), sled, meta, rev, sm, failed: OnceLock::new() });
        let mover = Mover::start({
            let sled = sled.clone();
            move |rows| sled.transact(rows).is_ok()
        });
        let mover = mover.map_err(|error| Fatal::io("start a thread for", path, &error))?;
        Ok(Db { mover, sled, main, _lock: lock })
    }

    /// One row's value.
    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<IVec>, Fatal> {
        self.failure()?;
        // What is not pending any more is in sled: it leaves here after it arrived there.
        let pending = self.mover.look(|pending| pending.get(tree, key).cloned());
        pending.map_or_else(|| self.sled.guard(|| self.sled.tree(tree).get(key)), Ok)
    }

    /// Calls `each` for every row of a tree from one key on, in key order, until it answers false. Memory stays near the
    /// cache's bound however long the tree is.
    pub(crate) fn scan<E: From<Fatal>>(
        &self,
        tree: Tree,
        from: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, E>,
    ) -> Result<(), E> {
        // First what is pending, then sled: a row that moves on meanwhile is seen twice and told once, never missed.
        let mut pending = self.mover.look(|pending| pending.from(tree, from)).into_iter().peekable();
        let range = (Bound::Included(from.to_vec()), Bound::<Vec<u8>>::Unbounded);
        let mut rows = self.sled.guard(|| Ok(self.sled.tree(tree).range(range)))?;
        let mut unnoticed = 0;
        loop {
            let stored = self.sled.guard(|| rows.next().transpose())?;
            let before =
                |key: &Vec<u8>| stored.as_ref().is_none_or(|(next, _)| key.as_slice() < next.as_ref());
            while let Some((key, value)) = pending.next_if(|(key, _)| before(key)) {
                if let Some(value) = value
                    && !each(&key, &value)?
                {
                    return Ok(());
                }
            }
            let Some((key, value)) = stored else { return Ok(()) };
            let value = match pending.next_if(|(newer, _)| newer.as_slice() == key.as_ref()) {
                Some((_, newer)) => newer,
                None => Some(value),
            };
            let Some(value) = value else { continue };
            if !each(&key, &value)? {
                return Ok(());
            }
            unnoticed += value.len();
            if unnoticed >= NOTICE_BYTES {
                unnoticed = 0;
                self.sled.guard(|| self.sled.tree(tree).get(&key))?;
            }
        }
    }

    /// Writes all rows or none, over all trees, and does not make them durable: after a crash the database is as it was
    /// after some earlier commit. Whoever reads sees them at once. That sled could not take them is heard of by a later
    /// call.
    pub(crate) fn commit(&self, rows: &[Row]) -> Result<(), Fatal> {
        self.failure()?;
        self.mover.add(rows);
        self.failure()
    }

    /// Lets sled have what was committed, soon and without waiting.
    pub(crate) fn nudge(&self) {
        self.mover.nudge();
    }

    /// Makes everything written durable: flush hands it to the kernel, fdatasync to the disk.
    pub(crate) fn sync(&self) -> Result<(), Fatal> {
        self.mover.settle();
        self.sled.guard(|| self.sled.sled.flush())?;
        if let Err(error) = self.main.sync_data() {
            return Err(self.fail(Fatal::io("fdatasync", &self.sled.path.join("db"), &error)));
        }
        self.check_blobs()
    }

    /// Whatever is in `blobs/` was never synced and is lost with the power; our chunks are too small to end there.
    fn check_blobs(&self) -> Result<(), Fatal> {
        let blobs = self.sled.path.join("blobs");
        let empty = match std::fs::read_dir(&blobs) {
            Ok(mut files) => files.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(self.fail(Fatal::io("list", &blobs, &error))),
        };
        if empty { Ok(()) } else { Err(self.fail(Fatal::Blobs(blobs))) }
    }

    /// The failure that stopped this database, if one did.
    pub(crate) fn failure(&self) -> Result<(), Fatal> {
        self.sled.failure()
    }

    /// Stops this database: the first failure is the answer to everything after it.
    pub(crate) fn fail(&self, fatal: Fatal) -> Fatal {
        self.sled.fail(fatal)
    }
}

impl Drop for Db {
    /// So that a store that was closed has nothing to replay. One that failed is left as it is.
    fn drop(&mut self) {
        if self.failure().is_ok() {
            self.mover.settle();
        }
    }
}

impl Guarded {
    fn transact(&self, rows: &Rows) -> Result<(), Fatal> {
        self.guard(|| {
            (&self.meta, &self.rev, &self.sm)
                .transaction(|(meta, rev, sm)| {
                    for (tree, key, value) in rows.all() {
                        let tree = match tree {
                            Tree::Meta => meta,
                            Tree::Rev => rev,
                            Tree::Sm => sm,
                        };
                        match value {
                            Some(value) => tree.insert(key.as_slice(), value.clone())?,
                            None => tree.remove(key.as_slice())?,
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

    fn failure(&self) -> Result<(), Fatal> {
        self.failed.get().map_or(Ok(()), |fatal| Err(fatal.clone()))
    }

    fn fail(&self, fatal: Fatal) -> Fatal {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn open(path: &Path) -> Db {
        let lock = Arc::new(File::open(path).expect("the folder"));
        Db::open(&path.join("sled"), 1024 * 1024, lock).expect("opened")
    }

    fn scanned(db: &Db, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        db.scan::<Fatal>(Tree::Rev, from, |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(true)
        })
        .expect("scanned");
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn rows_are_read_alike_before_and_after_they_reach_sled(
            writes in prop::collection::vec((0u8..40, prop::option::of(0u8..255), prop::bool::weighted(0.1)), 1..160),
            from in 0u8..40,
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let mut db = open(folder.path());
            let mut model = BTreeMap::new();
            for (key, value, settled) in writes {
                let row = Row { tree: Tree::Rev, key: vec![key], value: value.map(|value| vec![value; 3]) };
                match &row.value {
                    Some(value) => model.insert(row.key.clone(), value.clone()),
                    None => model.remove(&row.key),
                };
                db.commit(&[row]).expect("committed");
                if settled {
                    db.sync().expect("synced");
                }
                let found = db.get(Tree::Rev, &[key]).expect("read").map(|value| value.to_vec());
                prop_assert_eq!(found.as_ref(), model.get(&vec![key]));
            }
            let wanted = |from: &[u8]| model.range(from.to_vec()..).map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>();
            prop_assert_eq!(scanned(&db, &[]), wanted(&[]));
            prop_assert_eq!(scanned(&db, &[from]), wanted(&[from]));
            drop(db);
            db = open(folder.path());
            prop_assert_eq!(scanned(&db, &[]), wanted(&[]), "closing loses nothing");
        }
    }

    #[test]
    fn a_few_rows_wait_and_many_move_on_by_themselves() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = open(folder.path());
        let row = |key: u16| Row { tree: Tree::Sm, key: key.to_be_bytes().to_vec(), value: Some(vec![1]) };
        db.commit(&[row(1)]).expect("committed");
        assert!(db.sled.sm.is_empty(), "one row waits");
        db.nudge();
        while db.sled.sm.is_empty() {
            std::thread::yield_now();
        }
        for turn in 0..100 {
            db.commit(&(0..100).map(|key| row(100 * turn + key)).collect::<Vec<_>>()).expect("committed");
        }
        // Not all are there before there were too many, so this ends only if they move.
        while db.sled.sm.len() < 1_000 {
            std::thread::yield_now();
        }
        db.sync().expect("synced");
        assert_eq!(db.sled.sm.len(), 10_000);
        assert!(db.mover.look(|pending| pending.from(Tree::Sm, &[])).is_empty());
    }

    #[test]
    fn a_failure_to_move_on_is_told_and_nobody_waits_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = open(folder.path());
        let row = |key: u16| Row { tree: Tree::Sm, key: key.to_be_bytes().to_vec(), value: Some(vec![1]) };
        db.commit(&[row(1)]).expect("committed");
        db.fail(Fatal::Sled("a disk that went".to_owned()));
        assert_eq!(db.commit(&(0..2_000).map(row).collect::<Vec<_>>()), db.failure());
        assert_eq!(db.sync(), db.failure());
        assert_eq!(db.get(Tree::Sm, &[0, 1]), Err(Fatal::Sled("a disk that went".to_owned())));
    }
}
