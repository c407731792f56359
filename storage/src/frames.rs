//! Frames: the form of a snapshot's bytes, written and read as a stream.
//!
//! ```text
//! magic | frame … | SHA-256 of everything before        frame = kind (1), length (4), payload
//! ```
//!
//! with one head frame (CRC-32, cluster, state), a frame per row of `rev` and of the request window, and an end frame
//! with their number. Neither side holds more than one frame, whatever the snapshot's size. Until a reader has been told
//! [`Frame::End`] it has been told nothing it may rely on: what it made of the rows is not put in use before. Only the
//! head is believed at once, for what is refused by it (another cluster's, an older state's) is not read further; so it
//! carries a sum of its own, without which damage to it would be taken for such a refusal.

use std::io::{self, Read, Write};

use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::{
    codec::{self, Kind},
    db::{Row, Tree},
    error::SnapshotError,
    options::ClusterId,
    state::State,
};

const MAGIC: &[u8; 8] = b"applsnap";
const HASH_BYTES: usize = 32;

/// Rows of `rev` are chunks under 6 KiB; nothing in a snapshot is longer than this.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The head without a sum, as files have it that were written before heads had one.
const FRAME_BARE_HEAD: u8 = 1;
const FRAME_ROW: u8 = 2;
const FRAME_END: u8 = 3;
const FRAME_HEAD: u8 = 4;

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

/// What comes after the head.
pub(crate) enum Frame {
    /// A row of `rev` or of the request window.
    Row { tree: Tree, key: Vec<u8>, value: Vec<u8> },
    /// All rows were read, and the hash over them is the one it ends with.
    End,
}

/// Writes frames and hashes them.
pub(crate) struct FrameWriter<'a> {
    out: &'a mut dyn Write,
    hasher: Sha256,
    rows: u64,
    bytes: u64,
}

impl<'a> FrameWriter<'a> {
    /// Begins a snapshot.
    pub(crate) fn new(out: &'a mut dyn Write, head: &Head) -> Result<FrameWriter<'a>, SnapshotError> {
        let mut frames = FrameWriter { out, hasher: Sha256::new(), rows: 0, bytes: 0 };
        frames.write(MAGIC)?;
        let head = codec::encode(Kind::SnapshotHead, head);
        frames.frame(FRAME_HEAD, &[crc32fast::hash(&head).to_be_bytes().as_slice(), &head].concat())?;
        Ok(frames)
    }

    pub(crate) fn row(&mut self, tree: Tree, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        self.rows += 1;
        let row = SnapshotRow { sm: tree == Tree::Sm, key: key.to_vec(), value: value.to_vec() };
        self.frame(FRAME_ROW, &codec::encode(Kind::SnapshotRow, &row))
    }

    /// Ends it; answers the bytes of all of it.
    pub(crate) fn end(mut self) -> Result<u64, SnapshotError> {
        let rows = self.rows.to_be_bytes();
        self.frame(FRAME_END, &rows)?;
        let hash = self.hasher.clone().finalize();
        self.write(&hash)?;
        Ok(self.bytes)
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), SnapshotError> {
        self.write(&[kind])?;
        self.write(&(payload.len() as u32).to_be_bytes())?;
        self.write(payload)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| failed("write snapshot", error))
    }
}

/// Reads frames and checks them.
pub(crate) struct FrameReader<R> {
    stream: R,
    hasher: Sha256,
    rows: u64,
    bytes: u64,
}

impl<R: Read> FrameReader<R> {
    /// Reads the head.
    pub(crate) fn new(stream: R) -> Result<(FrameReader<R>, Head), SnapshotError> {
        let mut frames = FrameReader { stream, hasher: Sha256::new(), rows: 0, bytes: 0 };
        let mut magic = [0; MAGIC.len()];
        frames.read(&mut magic)?;
        if &magic != MAGIC {
            return Err(SnapshotError::Damaged("it does not begin as a snapshot does".to_owned()));
        }
        let (kind, payload) = frames.frame()?;
        let head = match kind {
            FRAME_HEAD => summed(&payload)?,
            FRAME_BARE_HEAD => &payload,
            other => {
                return Err(SnapshotError::Damaged(format!("a frame of kind {other} instead of the head")));
            }
        };
        let head = codec::decode(Kind::SnapshotHead, head).map_err(damaged)?;
        Ok((frames, head))
    }

    /// The next frame. Nothing comes after the end.
    pub(crate) fn next(&mut self) -> Result<Frame, SnapshotError> {
        let (kind, payload) = self.frame()?;
        match kind {
            FRAME_ROW => {
                let SnapshotRow { sm, key, value } =
                    codec::decode(Kind::SnapshotRow, &payload).map_err(damaged)?;
                self.rows += 1;
                Ok(Frame::Row { tree: if sm { Tree::Sm } else { Tree::Rev }, key, value })
            }
            FRAME_END if payload == self.rows.to_be_bytes() => self.check_hash(),
            FRAME_END => Err(SnapshotError::Damaged(format!("{} rows are not all it counts", self.rows))),
            other => Err(SnapshotError::Damaged(format!("frame of unknown kind {other}"))),
        }
    }

    /// The bytes read so far; after the end, all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn check_hash(&mut self) -> Result<Frame, SnapshotError> {
        let expected: [u8; HASH_BYTES] = self.hasher.clone().finalize().into();
        let mut found = [0; HASH_BYTES];
        self.read(&mut found)?;
        if found != expected {
            return Err(SnapshotError::Damaged("its hash is not the one it ends with".to_owned()));
        }
        let more = self.stream.read(&mut [0]).map_err(|error| failed("read snapshot", error))?;
        if more > 0 {
            return Err(SnapshotError::Damaged("something follows its end".to_owned()));
        }
        Ok(Frame::End)
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), SnapshotError> {
        let (mut kind, mut length) = ([0; 1], [0; 4]);
        self.read(&mut kind)?;
        self.read(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            let text = format!("frame of {length} bytes; at most {FRAME_BYTES_MAX}");
            return Err(SnapshotError::Damaged(text));
        }
        let mut payload = vec![0; length];
        self.read(&mut payload)?;
        Ok((kind[0], payload))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.stream.read_exact(bytes).map_err(|error| failed("read snapshot", error))?;
        self.hasher.update(&*bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// A row as a database takes it.
pub(crate) fn stored(tree: Tree, key: Vec<u8>, value: Vec<u8>) -> Row {
    Row { tree, key, value: Some(value) }
}

/// What follows its sum.
fn summed(payload: &[u8]) -> Result<&[u8], SnapshotError> {
    let damaged = || SnapshotError::Damaged("its head fails its checksum".to_owned());
    let (sum, head) = payload.split_first_chunk::<4>().ok_or_else(damaged)?;
    if sum == &crc32fast::hash(head).to_be_bytes() { Ok(head) } else { Err(damaged()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { cluster: Some(ClusterId([7; 16])), state: State { applied: 42, ..State::empty() } }
    }

    fn read(bytes: &[u8]) -> Result<Head, SnapshotError> {
        let (mut frames, head) = FrameReader::new(bytes)?;
        assert!(matches!(frames.next(), Ok(Frame::End)), "nothing but a head");
        Ok(head)
    }

    #[test]
    fn a_file_whose_head_has_no_sum_is_read_as_ever() {
        let mut bytes = Vec::new();
        let mut older = FrameWriter { out: &mut bytes, hasher: Sha256::new(), rows: 0, bytes: 0 };
        older.write(MAGIC).unwrap();
        older.frame(FRAME_BARE_HEAD, &codec::encode(Kind::SnapshotHead, &head())).unwrap();
        older.end().unwrap();

        assert_eq!(read(&bytes).unwrap().state, head().state);
    }

    #[test]
    fn a_head_that_was_harmed_is_never_believed() {
        let mut bytes = Vec::new();
        FrameWriter::new(&mut bytes, &head()).unwrap().end().unwrap();
        assert_eq!(read(&bytes).unwrap().state, head().state);
        let end = bytes.len() - HASH_BYTES - (1 + 4 + 8);
        for at in 0..end {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(
                    matches!(FrameReader::new(bytes.as_slice()), Err(SnapshotError::Damaged(_))),
                    "byte {at}"
                );
                bytes[at] ^= 1 << bit;
            }
        }
    }
}
