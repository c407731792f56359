//! Open: finds the database in use, checks it, and heals a damaged one.
//!
//! A database that sled will not open, or panics over, or that fails a check of ours, is moved to `quarantine-<n>`;
//! a new one is filled from the newest exported snapshot that is whole, or stays empty, and raft's log does the rest.
//! A database that is only another cluster's or another version's is refused and left alone.

use std::{
    fs::{self, File},
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    codec::FORMAT,
    db::Db,
    directory::{Current, Directory, open_error},
    durable::{sync_directory, sync_files},
    error::{Fatal, OpenError, SnapshotError},
    exported::Exported,
    frames::{FrameReader, Head},
    inspect,
    load::{Expect, LoadError, Loaded, load},
    options::StoreOptions,
    snapshot,
};

/// What `Store::open` had to do because the database was damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// What was wrong with it.
    pub reason: String,
    /// Where the damaged database is now.
    pub quarantine: Option<PathBuf>,
    /// The last log entry in the exported snapshot the store was rebuilt from. Nothing: there was none, the store is
    /// empty, and the log has to hold everything.
    pub snapshot: Option<u64>,
}

/// An open store's parts.
pub(crate) struct Opened {
    pub(crate) directory: Directory,
    pub(crate) exported: Arc<Exported>,
    pub(crate) db: Arc<Db>,
    pub(crate) loaded: Loaded,
    pub(crate) healed: Option<Healed>,
}

/// Opens the store in a directory.
pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<Opened, OpenError> {
    let directory = Directory::open(path)?;
    let exported = Exported::open(&directory.snapshots());
    let exported = Arc::new(exported.map_err(|error| open_error("list snapshots in", path, error))?);
    let current = directory.current().map_err(|error| open_error("read CURRENT in", path, error))?;
    let site = Site { directory, exported, options };
    let (db, loaded, healed) = match current {
        Current::Named(database) => site.open_or_heal(&database, Expect::Store)?,
        Current::Only(database) => site.open_or_heal(&database, Expect::Anything)?,
        Current::Unclear(databases) => {
            site.heal(&databases, "CURRENT names none of several databases".to_owned())?
        }
        // One was in use here, or was exported: then an empty directory is a loss and not a beginning.
        Current::Nothing if site.directory.names_one() || !site.exported.newest_first().is_empty() => {
            site.heal(&[], "the database is gone".to_owned())?
        }
        Current::Nothing => {
            let (db, loaded) = site.new_database()?;
            (db, loaded, None)
        }
    };
    let Site { directory, exported, .. } = site;
    if let Err(error) = directory.lay_ballast(options.ballast_bytes) {
        tracing::warn!(directory = %path.display(), %error, "no space for the ballast file; running without");
    }
    Ok(Opened { directory, exported, db: Arc::new(db), loaded, healed })
}

/// Where a store is opened, and with what.
struct Site<'a> {
    directory: Directory,
    exported: Arc<Exported>,
    options: &'a StoreOptions,
}

type OpenDatabase = (Db, Loaded, Option<Healed>);

impl Site<'_> {
    fn open_or_heal(&self, database: &Path, expect: Expect) -> Result<OpenDatabase, OpenError> {
        let reason = match self.open_database(database, expect) {
            Ok((_, loaded)) if loaded.state.applied < self.newest_export() => {
                let (applied, export) = (loaded.state.applied, self.newest_export());
                format!("it ends at entry {applied}, though entry {export} was durable when it was exported")
            }
            Ok((db, loaded)) => {
                self.in_use(database)?;
                return Ok((db, loaded, None));
            }
            Err(LoadError::Fatal(fatal @ (Fatal::StorageFull(_) | Fatal::Io { .. }))) => {
                return Err(self.refusal(LoadError::Fatal(fatal)));
            }
            Err(LoadError::Fatal(fatal)) => fatal.to_string(),
            Err(refused) => return Err(self.refusal(refused)),
        };
        self.heal(&[database.to_owned()], reason)
    }

    fn heal(&self, damaged: &[PathBuf], reason: String) -> Result<OpenDatabase, OpenError> {
        let mut quarantine = None;
        for database in damaged {
            let place = self.directory.quarantine(database);
            quarantine = Some(place.map_err(|error| self.io("quarantine a damaged database in", error))?);
        }
        let place = quarantine.as_ref().map(|place| place.display().to_string()).unwrap_or_default();
        tracing::error!(%reason, quarantine = %place, "the database is damaged; rebuilding it from a snapshot");
        let mut unreadable = None;
        for (applied, file) in self.exported.newest_first() {
            match self.rebuild(&file) {
                Ok((db, loaded)) => {
                    tracing::warn!(snapshot = %file.display(), applied, "rebuilt; the log brings the rest");
                    return Ok((db, loaded, Some(Healed { reason, quarantine, snapshot: Some(applied) })));
                }
                // The new database failed, not the file, which another start may well use.
                Err(SnapshotError::Fatal(fatal)) => return Err(self.refusal(LoadError::Fatal(fatal))),
                Err(SnapshotError::Io { what, error }) => {
                    tracing::error!(snapshot = %file.display(), what, %error, "snapshot can not be used");
                    self.exported.forget(applied);
                    unreadable = Some(error);
                }
                Err(error) => {
                    tracing::error!(snapshot = %file.display(), %error, "snapshot is of no use");
                    self.exported.discard(applied);
                }
            }
        }
        if let Some(error) = unreadable {
            return Err(self.io("read snapshots in", error));
        }
        tracing::warn!("no snapshot to rebuild from; starting empty, the log has to bring everything");
        let (db, loaded) = self.new_database()?;
        Ok((db, loaded, Some(Healed { reason, quarantine, snapshot: None })))
    }

    fn rebuild(&self, file: &Path) -> Result<(Db, Loaded), SnapshotError> {
        build(&self.directory, inspect::open(file)?, self.options, 0)
    }

    fn open_database(&self, path: &Path, expect: Expect) -> Result<(Db, Loaded), LoadError> {
        let cache = self.options.sled_cache_bytes;
        let open = || Db::open(path, cache, self.directory.lock());
        let db = match open() {
            // What the ballast is for: sled needs room to recover. Once more, then, and with what it took up.
            Err(Fatal::StorageFull(_)) if self.directory.drop_ballast() => open()?,
            opened => opened?,
        };
        match load(&db, expect, self.options.cluster, self.options.value_cache_bytes) {
            Ok(loaded) => Ok((db, loaded)),
            Err(error) => {
                discard(db);
                Err(error)
            }
        }
    }

    /// The entry the newest export ends with. Sled answers damage to its tail by ending earlier, without a word and with
    /// nothing out of order; but what was exported had been synced, and the log behind it may be cut.
    fn newest_export(&self) -> u64 {
        self.exported.newest_first().first().map_or(0, |(applied, _)| *applied)
    }

    fn new_database(&self) -> Result<(Db, Loaded), OpenError> {
        let path = self.directory.next_database().map_err(|error| self.io("list", error))?;
        let (db, loaded) =
            self.open_database(&path, Expect::Anything).map_err(|error| self.refusal(error))?;
        db.sync()?;
        sync_files(&path).map_err(|error| self.io("sync a new database in", error))?;
        self.in_use(&path)?;
        Ok((db, loaded))
    }

    fn in_use(&self, database: &Path) -> Result<(), OpenError> {
        self.directory.make_current(database).map_err(|error| self.io("write CURRENT in", error))
    }

    fn refusal(&self, error: LoadError) -> OpenError {
        let path = self.directory.path().to_owned();
        match error {
            LoadError::Format(found) => OpenError::Format { path, found, expected: u32::from(FORMAT) },
            LoadError::Foreign(found) => {
                let expected = self.options.cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
                OpenError::ForeignCluster { path, found: found.to_string(), expected }
            }
            LoadError::Fatal(Fatal::StorageFull(_)) => OpenError::StorageFull(path),
            LoadError::Fatal(fatal) => OpenError::Disk(fatal),
        }
    }

    fn io(&self, what: &'static str, error: std::io::Error) -> OpenError {
        open_error(what, self.directory.path(), error)
    }
}

/// Builds a new database from a snapshot that must reach at least entry `applied`, checks it as any other, and puts it in
/// use. On an error what was in use still is.
pub(crate) fn build<R: Read>(
    directory: &Directory,
    stream: R,
    options: &StoreOptions,
    applied: u64,
) -> Result<(Db, Loaded), SnapshotError> {
    let (frames, head) = FrameReader::new(stream)?;
    if let (Some(found), Some(expected)) = (head.cluster, options.cluster)
        && found != expected
    {
        return Err(SnapshotError::ForeignCluster {
            found: found.to_string(),
            expected: expected.to_string(),
        });
    }
    if head.state.applied < applied {
        return Err(SnapshotError::Older { found: head.state.applied, applied });
    }
    let path = directory.next_database()?;
    let built = build_in(&path, directory.lock(), frames, &head, options);
    if built.is_err() {
        // Half a database is of no use to anyone; if it stays, the next start removes it.
        let _ = fs::remove_dir_all(&path);
    }
    let built = built?;
    // Its name first, or a power cut could leave a CURRENT that names nothing.
    sync_directory(directory.path())?;
    directory.make_current(&path)?;
    Ok(built)
}

fn build_in<R: Read>(
    path: &Path,
    lock: Arc<File>,
    frames: FrameReader<R>,
    head: &Head,
    options: &StoreOptions,
) -> Result<(Db, Loaded), SnapshotError> {
    let db = Db::open(path, options.sled_cache_bytes, lock)?;
    snapshot::fill(&db, frames, head)?;
    let loaded = match load(&db, Expect::Store, options.cluster, options.value_cache_bytes) {
        Ok(loaded) => loaded,
        Err(LoadError::Fatal(Fatal::Damaged(text))) => return Err(SnapshotError::Damaged(text)),
        Err(LoadError::Fatal(fatal)) => return Err(fatal.into()),
        Err(other) => return Err(SnapshotError::Damaged(format!("{other:?}"))),
    };
    sync_files(path)?;
    Ok((db, loaded))
}

/// Lets go of a damaged database: sled's own clean-up may stumble over the damage too.
fn discard(db: Db) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(db)));
    if dropped.is_err() {
        tracing::warn!("sled panicked while a damaged database was closed");
    }
}
