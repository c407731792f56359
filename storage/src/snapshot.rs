//! Snapshot: the whole state at one applied index as a stream, to a file or to a peer, and back into a database.
//!
//! Taking one fixes the state and costs little; writing it out may happen on any thread while the store goes on,
//! because the rows of `rev` never change and the snapshot keeps those of its revisions from being purged. `frames`
//! says what the bytes look like. Neither direction holds more than a page of rows in memory.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    chain::ChainHead,
    chunk,
    db::{Db, Row, Tree},
    durable::write_atomically,
    error::{Fatal, SnapshotError},
    exported::Exported,
    frames::{self, Frame, FrameReader, FrameWriter, Head},
    history::Location,
    holds::Hold,
    inspect,
    load::identity_rows,
    requests::PACK_KEY,
};

/// Rows written in one transaction while a database is filled: at most a megabyte and a half in memory.
const ROWS_PER_COMMIT: usize = 256;

/// The whole state at one applied index, fixed. While it exists the state it is of stays on the disk, so write it out
/// and drop it.
#[derive(Debug)]
pub struct Snapshot {
    db: Arc<Db>,
    _hold: Hold,
    head: Head,
    /// The request window is small and changes: it is copied.
    window: Vec<(Vec<u8>, Vec<u8>)>,
    exported: Arc<Exported>,
}

impl Snapshot {
    pub(crate) fn new(
        db: Arc<Db>,
        hold: Hold,
        head: Head,
        exported: Arc<Exported>,
    ) -> Result<Snapshot, Fatal> {
        let mut window = Vec::new();
        db.scan::<Fatal>(Tree::Sm, PACK_KEY, |key, value| {
            let ours = key.starts_with(PACK_KEY);
            if ours {
                window.push((key.to_vec(), value.to_vec()));
            }
            Ok(ours)
        })?;
        Ok(Snapshot { db, _hold: hold, head, window, exported })
    }

    /// The last log entry whose effect it holds.
    pub fn applied_index(&self) -> u64 {
        self.head.state.applied
    }

    /// The newest link of the chain in it.
    pub fn chain(&self) -> ChainHead {
        self.head.state.head()
    }

    /// Writes it out. May be called more than once, from several threads: the bytes are the same each time.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<(), SnapshotError> {
        let mut out = FrameWriter::new(out, &self.head)?;
        for (key, value) in &self.window {
            out.row(Tree::Sm, key, value)?;
        }
        let last = self.head.state.revision;
        self.db.scan::<SnapshotError>(Tree::Rev, &[], |key, value| {
            let damaged = |text| SnapshotError::Fatal(self.db.fail(Fatal::Damaged(text)));
            let (at, _) = Location::parse(key).map_err(damaged)?;
            // Rows after it were written while it was being written out.
            let ours = at.revision <= last;
            if ours {
                // A row that rotted on our disk would otherwise leave with a good hash over it.
                chunk::check(key, value).map_err(damaged)?;
                out.row(Tree::Rev, key, value)?;
            }
            Ok(ours)
        })?;
        out.end().map(|_| ())
    }

    /// The whole snapshot in memory, for tests and small stores.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes it to a file of the caller's, whole and durably or not at all; answers its bytes.
    pub fn save(&self, path: &Path) -> Result<u64, SnapshotError> {
        write_atomically(path, |out| self.write_to(out))?;
        let file = std::fs::metadata(path)?;
        Ok(file.len())
    }

    /// Writes it into the store's own `snapshots` directory, durably, where the newest two are kept. The database is
    /// synced first: one that is found behind its newest export has lost something. The file is read back before
    /// anything relies on it.
    pub fn export(&self) -> Result<PathBuf, SnapshotError> {
        self.db.sync()?;
        self.exported.write(self.applied_index(), |out| self.write_to(out), |file| self.read_back(file))
    }

    /// Reads the file as a store that must heal from it would. A damaged database may lose rows without a word, and a
    /// file of what is left has a good hash; were it believed, the log that could replace them would be cut.
    ///
    /// The cost is one sequential read of what was just written, mostly from the page cache, and an index of its keys
    /// while that lasts; on the thread that exports, with nobody waiting.
    fn read_back(&self, file: &Path) -> Result<(), SnapshotError> {
        match inspect::inspect(file) {
            Err(SnapshotError::Damaged(text)) if inspect::is_as_written(file) => {
                let text = format!("its rows are no whole state: {text}");
                Err(self.db.fail(Fatal::Damaged(text)).into())
            }
            inspected => inspected.map(drop),
        }
    }
}

/// Fills an empty database from the rows of a snapshot, checks the whole of it, and makes it durable. The state comes
/// last, so that a database filled by half is not taken for a whole one.
pub(crate) fn fill<R: Read>(db: &Db, mut rows_of: FrameReader<R>, head: &Head) -> Result<(), SnapshotError> {
    let mut rows = Vec::with_capacity(ROWS_PER_COMMIT);
    while let Frame::Row { tree, key, value } = rows_of.next()? {
        rows.push(frames::stored(tree, key, value));
        if rows.len() == ROWS_PER_COMMIT {
            db.commit(&rows)?;
            rows.clear();
        }
    }
    db.commit(&rows)?;
    let last: Vec<Row> = identity_rows(head.cluster).into_iter().chain(head.state.rows()).collect();
    db.commit(&last)?;
    Ok(db.sync()?)
}
