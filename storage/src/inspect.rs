//! Inspect: what a snapshot file holds, found out by reading it like a store that is about to rely on it.
//!
//! Every byte is under the hash it ends with, every row under its checksum, every retained revision under the chain,
//! and the current records under the fingerprint of the state: a file that passes here can be restored. Memory is that
//! of the keys, not of the values. Nothing is written.

use std::{fs::File, io::BufReader, path::Path};

use crate::{
    chain::ChainHash,
    check::{Blobs, History, Place, Stretch},
    db::Tree,
    error::SnapshotError,
    frames::{Frame, FrameReader, Head},
    index::Index,
    options::ClusterId,
    requests::Requests,
    revision::Revision,
};

/// Read at a time.
const READ_BYTES: usize = 256 * 1024;

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The cluster; a store of tests may belong to none.
    pub cluster: Option<ClusterId>,
    /// The last log entry whose effect it holds.
    pub applied: u64,
    /// The revision it stands at.
    pub revision: Revision,
    /// The first revision whose events it holds. 0: nothing was compacted.
    pub compacted: Revision,
    /// The newest link of the chain.
    pub chain: ChainHash,
    /// The current records.
    pub records: u64,
    /// The bytes of the file.
    pub bytes: u64,
}

impl SnapshotInfo {
    pub(crate) fn new(head: &Head, bytes: u64) -> SnapshotInfo {
        let Head { cluster, state } = head;
        SnapshotInfo {
            cluster: *cluster,
            applied: state.applied,
            revision: state.revision,
            compacted: state.compacted,
            chain: state.chain,
            records: state.live.records(),
            bytes,
        }
    }
}

/// Reads a snapshot file to its last byte, checks all of it and answers what it is of.
pub fn inspect(file: &Path) -> Result<SnapshotInfo, SnapshotError> {
    walk(file).map(|walked| SnapshotInfo::new(&walked.head, walked.bytes))
}

/// What a snapshot file says it is of, with nothing read but its beginning. For a first look at many files.
pub fn inspect_head(file: &Path) -> Result<SnapshotInfo, SnapshotError> {
    let stream = open(file)?;
    let length = stream.get_ref().metadata().map_err(|error| reading(file, error))?.len();
    let (_, head) = FrameReader::new(stream)?;
    Ok(SnapshotInfo::new(&head, length))
}

/// Whether a file has the hash it ends with. What is wrong with it then was wrong before it was written.
pub(crate) fn is_as_written(file: &Path) -> bool {
    let read = || {
        let (mut frames, _) = FrameReader::new(open(file)?)?;
        while let Frame::Row { .. } = frames.next()? {}
        Ok::<(), SnapshotError>(())
    };
    read().is_ok()
}

/// A snapshot file that was read and checked.
pub(crate) struct Walked {
    pub(crate) head: Head,
    pub(crate) bytes: u64,
    /// Where each current record's entry is.
    pub(crate) index: Index,
}

/// Reads and checks a whole file.
pub(crate) fn walk(file: &Path) -> Result<Walked, SnapshotError> {
    let (mut frames, head) = FrameReader::new(open(file)?)?;
    let mut stretch = Stretch::new(&head.state, Place::first(&head.state));
    let mut history = History::new(&head.state, 0);
    let (mut rev, mut sm, mut requests) = (Blobs::default(), Blobs::default(), Requests::default());
    while let Frame::Row { tree, key, value } = frames.next()? {
        let checked = match tree {
            Tree::Sm => sm.push(&key, &value).and_then(|blob| match blob {
                Some((_, blob)) => requests.load(&blob),
                None => Ok(()),
            }),
            _ => rev.push(&key, &value).and_then(|blob| match blob {
                Some((key, blob)) => {
                    stretch.on_blob(&key, &blob)?;
                    stretch.drain().try_for_each(|seen| history.put(seen))
                }
                None => Ok(()),
            }),
        };
        checked.map_err(SnapshotError::Damaged)?;
    }
    let whole = rev.end().and_then(|()| sm.end()).and_then(|()| {
        history.add(stretch.finish()?)?;
        history.finish()
    });
    let (index, _) = whole.map_err(SnapshotError::Damaged)?;
    let bytes = frames.bytes();
    Ok(Walked { head, bytes, index })
}

pub(crate) fn open(file: &Path) -> Result<BufReader<File>, SnapshotError> {
    let stream = File::open(file).map_err(|error| reading(file, error))?;
    Ok(BufReader::with_capacity(READ_BYTES, stream))
}

fn reading(file: &Path, error: std::io::Error) -> SnapshotError {
    SnapshotError::Io { what: format!("read {}", file.display()), error }
}
