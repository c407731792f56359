//! The bytes we write to disk and into the raft log: a format version, the kind of thing, then bincode. Pure.
//!
//! bincode has no schema evolution (`reference/store.md` 1.5), hence the two bytes in front: a changed struct takes a
//! new version, and old bytes are refused by name instead of being misread. Decoding takes a slice, never a reader;
//! it is bounded by `DECODED_BYTES_MAX` whatever lengths the bytes claim, and what is left over is an error.

use bincode::{Decode, Encode, config, error::DecodeError};

/// The version of every struct this crate encodes.
pub(crate) const FORMAT: u8 = 1;

/// The most one decoded thing may claim: a command at its limit with room for what stands around its values.
pub(crate) const DECODED_BYTES_MAX: usize = 4 * 1024 * 1024;

const CONFIG: config::Configuration<config::LittleEndian, config::Fixint, config::Limit<DECODED_BYTES_MAX>> =
    config::legacy().with_limit::<DECODED_BYTES_MAX>();

/// What the bytes hold; the second byte of everything encoded. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Command = 1,
    Outcome = 2,
    RevisionHead = 3,
    Entry = 4,
    State = 5,
    Requests = 6,
    SnapshotHead = 7,
    SnapshotRow = 8,
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Nothing, or not even the two leading bytes.
    #[error("{0} bytes are too few to hold anything")]
    TooShort(usize),
    /// Written by another version of this software.
    #[error("format {found} is not format {FORMAT}, the one this version reads")]
    Format {
        /// The version the bytes name.
        found: u8,
    },
    /// A whole thing of another kind.
    #[error("kind {found} where kind {expected} was expected")]
    Kind {
        /// The kind the bytes name.
        found: u8,
        /// The kind asked for.
        expected: u8,
    },
    /// The body does not decode.
    #[error("malformed body: {0}")]
    Body(String),
    /// The body decodes and is followed by more.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
}

/// Encodes with the two leading bytes.
pub(crate) fn encode<T: Encode>(kind: Kind, value: &T) -> Vec<u8> {
    let mut bytes = vec![FORMAT, kind as u8];
    // Encoding into a Vec has no way to fail: no type here has a fallible Encode, and a Vec grows. The limit of
    // `CONFIG` binds decoding only.
    bincode::encode_into_std_write(value, &mut bytes, CONFIG).expect("encode into memory");
    bytes
}

/// Decodes exactly one thing of the given kind.
pub(crate) fn decode<T: Decode<()>>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let [format, found, body @ ..] = bytes else { return Err(CodecError::TooShort(bytes.len())) };
    if *format != FORMAT {
        return Err(CodecError::Format { found: *format });
    }
    if *found != kind as u8 {
        return Err(CodecError::Kind { found: *found, expected: kind as u8 });
    }
    let (value, used) = bincode::decode_from_slice(body, CONFIG).map_err(describe)?;
    if used < body.len() {
        return Err(CodecError::Trailing(body.len() - used));
    }
    Ok(value)
}

fn describe(error: DecodeError) -> CodecError {
    CodecError::Body(error.to_string())
}
