//! Snapshot: the whole state at one applied index as a stream, to a file or to a peer, and back.
//!
//! Taking one fixes the state and costs little; writing it out may happen on any thread while the store goes on,
//! because the rows of `rev` never change and the snapshot keeps purging away from them. The stream is
//!
//! ```text
//! magic | frame … | SHA-256 of everything before        frame = kind (1), length (4), payload
//! ```
//!
//! with one head frame (cluster, state), a frame per row of `rev` and of the request window, and an end frame with
//! their number. Nothing of a stream is used before its hash has been checked to the last byte.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::Arc,
};

use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::{
    chain::ChainHead,
    codec::{self, Kind},
    db::{Db, Row, Tree},
    error::{Fatal, SnapshotError},
    exported::Exported,
    history::Location,
    load::identity_rows,
    options::ClusterId,
    reader::Hold,
    requests::PACK_KEY,
    state::State,
};

const MAGIC: &[u8; 8] = b"applsnap";
const HASH_BYTES: u64 = 32;

/// Rows of `rev` are chunks under 6 KiB; nothing in a snapshot is longer than this.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Rows written in one transaction while a database is filled.
const ROWS_PER_COMMIT: usize = 256;

const FRAME_HEAD: u8 = 1;
const FRAME_ROW: u8 = 2;
const FRAME_END: u8 = 3;

/// What a snapshot is of.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Head {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) state: State,
}

#[derive(Encode, Decode)]
struct SnapshotRow {
    /// Of the request window, not of `rev`.
    sm: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The whole state at one applied index, fixed. Purging waits while it exists, so write it out and drop it.
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

    /// Writes it out.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<(), SnapshotError> {
        let mut out = Frames::new(out)?;
        out.frame(FRAME_HEAD, &codec::encode(Kind::SnapshotHead, &self.head))?;
        for (key, value) in &self.window {
            out.row(true, key, value)?;
        }
        let last = self.head.state.revision;
        self.db.scan::<SnapshotError>(Tree::Rev, &[], |key, value| {
            let (at, _) = Location::parse(key).map_err(SnapshotError::Damaged)?;
            // Rows after it were written while it was being written out.
            let ours = at.revision <= last;
            if ours {
                out.row(false, key, value)?;
            }
            Ok(ours)
        })?;
        out.end()
    }

    /// The whole snapshot in memory: what raft sends.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes it into the store's own `snapshots` directory, durably, where the newest two are kept. The database is
    /// synced first: one that is found behind its newest export has lost something.
    pub fn export(&self) -> Result<PathBuf, SnapshotError> {
        self.db.sync()?;
        self.exported.write(self.applied_index(), |out| self.write_to(out))
    }
}

/// Writes frames and hashes them.
struct Frames<'a> {
    out: &'a mut dyn Write,
    hasher: Sha256,
    rows: u64,
}

impl<'a> Frames<'a> {
    fn new(out: &'a mut dyn Write) -> Result<Frames<'a>, SnapshotError> {
        let mut frames = Frames { out, hasher: Sha256::new(), rows: 0 };
        frames.write(MAGIC)?;
        Ok(frames)
    }

    fn row(&mut self, sm: bool, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        self.rows += 1;
        let row = SnapshotRow { sm, key: key.to_vec(), value: value.to_vec() };
        self.frame(FRAME_ROW, &codec::encode(Kind::SnapshotRow, &row))
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), SnapshotError> {
        self.write(&[kind])?;
        self.write(&(payload.len() as u32).to_be_bytes())?;
        self.write(payload)
    }

    fn end(mut self) -> Result<(), SnapshotError> {
        let rows = self.rows.to_be_bytes();
        self.frame(FRAME_END, &rows)?;
        let hash = self.hasher.clone().finalize();
        self.write(&hash)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.hasher.update(bytes);
        self.out.write_all(bytes).map_err(|error| failed("write snapshot", error))
    }
}

/// Checks a stream to its last byte and answers what it is of. The stream is left at its beginning.
pub(crate) fn verify<R: Read + Seek>(stream: &mut R) -> Result<Head, SnapshotError> {
    let reading = |error| failed("read snapshot", error);
    let length = stream.seek(SeekFrom::End(0)).map_err(reading)?;
    let Some(hashed) = length.checked_sub(HASH_BYTES) else {
        return Err(SnapshotError::Damaged(format!("{length} bytes are no snapshot")));
    };
    stream.rewind().map_err(reading)?;
    let mut hasher = Sha256::new();
    let read = io::copy(&mut stream.by_ref().take(hashed), &mut hasher).map_err(reading)?;
    let mut expected = [0; HASH_BYTES as usize];
    stream.read_exact(&mut expected).map_err(reading)?;
    if read != hashed || *hasher.finalize() != expected {
        return Err(SnapshotError::Damaged("its hash is not the one it ends with".to_owned()));
    }
    stream.rewind().map_err(reading)?;
    let head = read_head(stream)?;
    stream.rewind().map_err(reading)?;
    Ok(head)
}

/// Fills an empty database from a verified stream and makes it durable. The state comes last, so that a database
/// filled by half is not taken for a whole one.
pub(crate) fn fill<R: Read>(db: &Db, stream: &mut R) -> Result<(), SnapshotError> {
    let head = read_head(stream)?;
    let mut rows = Vec::with_capacity(ROWS_PER_COMMIT);
    let mut count = 0u64;
    loop {
        let (kind, payload) = read_frame(stream)?;
        match kind {
            FRAME_ROW => {
                let SnapshotRow { sm, key, value } =
                    codec::decode(Kind::SnapshotRow, &payload).map_err(damaged)?;
                let tree = if sm { Tree::Sm } else { Tree::Rev };
                rows.push(Row { tree, key, value: Some(value) });
                count += 1;
            }
            FRAME_END if payload == count.to_be_bytes() => break,
            FRAME_END => return Err(SnapshotError::Damaged(format!("{count} rows are not all it counts"))),
            other => return Err(SnapshotError::Damaged(format!("frame of unknown kind {other}"))),
        }
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

fn read_head(stream: &mut impl Read) -> Result<Head, SnapshotError> {
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).map_err(|error| failed("read snapshot", error))?;
    if &magic != MAGIC {
        return Err(SnapshotError::Damaged("it does not begin as a snapshot does".to_owned()));
    }
    match read_frame(stream)? {
        (FRAME_HEAD, payload) => codec::decode(Kind::SnapshotHead, &payload).map_err(damaged),
        (kind, _) => Err(SnapshotError::Damaged(format!("a frame of kind {kind} instead of the head"))),
    }
}

fn read_frame(stream: &mut impl Read) -> Result<(u8, Vec<u8>), SnapshotError> {
    let reading = |error| failed("read snapshot", error);
    let (mut kind, mut length) = ([0; 1], [0; 4]);
    stream.read_exact(&mut kind).map_err(reading)?;
    stream.read_exact(&mut length).map_err(reading)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(SnapshotError::Damaged(format!("frame of {length} bytes; at most {FRAME_BYTES_MAX}")));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).map_err(reading)?;
    Ok((kind[0], payload))
}

fn failed(what: &str, error: io::Error) -> SnapshotError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return SnapshotError::Damaged("it ends too early".to_owned());
    }
    SnapshotError::Io { what: what.to_owned(), error }
}

fn damaged(error: codec::CodecError) -> SnapshotError {
    SnapshotError::Damaged(error.to_string())
}
