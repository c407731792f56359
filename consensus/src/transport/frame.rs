//! Frame: one piece of a conversation between peers, and how it stands in the stream. Pure.
//!
//! ```text
//!   length u32 | format u8 | kind u8 | crc32 u32 | body (length bytes)          numbers little-endian
//! ```
//!
//! The checksum covers all but itself. What a body holds is `payload`'s and `hello`'s business; here it is bytes with
//! a limit, and the limit is checked before anything is kept for them. A stream whose frame is wrong can not be
//! trusted to find the next one, so its connection ends.

use bytes::{Buf, Bytes, BytesMut};

/// The only format so far. A hello is written in it for ever, so that members of any two versions can refuse one
/// another with a reason.
const FORMAT: u8 = 1;

/// The bytes before a body.
pub(crate) const HEADER_BYTES: usize = 10;

/// The largest body: the largest command with its wrapping fits twice over.
pub(crate) const FRAME_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first frame of either side.
    Hello = 1,
    /// Why the conversation ends here.
    Refusal = 2,
    /// Nothing to say, and alive.
    Alive = 3,
    /// A message of raft's.
    Message = 4,
    /// A command on its way to the leader.
    Propose = 5,
    /// A change of the members on its way to the leader.
    Change = 6,
    /// The leader's answer to either when it did not write it.
    Refused = 7,
    /// How far a member is.
    Beat = 8,
    /// A snapshot begins.
    Snapshot = 16,
    /// A piece of it.
    Chunk = 17,
    /// It is complete.
    End = 18,
    /// It was verified and handed to raft.
    Taken = 19,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        const ALL: [Kind; 12] = [
            Kind::Hello,
            Kind::Refusal,
            Kind::Alive,
            Kind::Message,
            Kind::Propose,
            Kind::Change,
            Kind::Refused,
            Kind::Beat,
            Kind::Snapshot,
            Kind::Chunk,
            Kind::End,
            Kind::Taken,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) body: Bytes,
}

/// Why a stream can not be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of {size} bytes, more than {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("frame of format {0}, not {FORMAT}")]
    Format(u8),
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    #[error("frame whose checksum is wrong")]
    Checksum,
}

/// Appends a frame whose body is what `fill` appends. When that fails nothing is appended.
pub(crate) fn write<E>(
    out: &mut Vec<u8>,
    kind: Kind,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    if let Err(error) = fill(out) {
        out.truncate(start);
        return Err(error);
    }
    let frame = &mut out[start..];
    let size = frame.len() - HEADER_BYTES;
    // What is longer than the other side reads is refused there; what is longer than a u32 can not get that far.
    let length = u32::try_from(size).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4] = FORMAT;
    frame[5] = kind as u8;
    let checksum = checksum(&frame[..6], &frame[HEADER_BYTES..]);
    frame[6..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Appends a frame with this body.
pub(crate) fn write_body(out: &mut Vec<u8>, kind: Kind, body: &[u8]) {
    let filled: Result<(), std::convert::Infallible> = write(out, kind, |out| {
        out.extend_from_slice(body);
        Ok(())
    });
    let Ok(()) = filled;
}

/// What the start of a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// A whole frame, taken out of the buffer.
    Frame(Frame),
    /// Part of one; this many bytes more are needed before it is worth asking again.
    Missing(usize),
}

/// Takes one frame from the front of what was received. A body longer than `limit` is refused by its header.
pub(crate) fn split(buffer: &mut BytesMut, limit: usize) -> Result<Split, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(Split::Missing(HEADER_BYTES - buffer.len()));
    };
    let [l0, l1, l2, l3, format, kind, c0, c1, c2, c3] = *header;
    let size = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if format != FORMAT {
        return Err(FrameError::Format(format));
    }
    let kind = Kind::of(kind).ok_or(FrameError::Kind(kind))?;
    if size > limit {
        return Err(FrameError::TooLarge { size, limit });
    }
    let whole = HEADER_BYTES + size;
    if buffer.len() < whole {
        return Ok(Split::Missing(whole - buffer.len()));
    }
    let expected = u32::from_le_bytes([c0, c1, c2, c3]);
    if checksum(&buffer[..6], &buffer[HEADER_BYTES..whole]) != expected {
        return Err(FrameError::Checksum);
    }
    let mut frame = buffer.split_to(whole).freeze();
    frame.advance(HEADER_BYTES);
    Ok(Split::Frame(Frame { kind, body: frame }))
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_body(&mut out, kind, body);
        out
    }

    #[test]
    fn the_bytes_of_a_frame_are_these_for_ever() {
        let bytes = framed(Kind::Beat, b"beat");
        assert_eq!(bytes, b"\x04\x00\x00\x00\x01\x08\xe8\x89\xf0\xe5beat", "{bytes:02x?}");
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_stream_is_cut() {
        let mut stream = framed(Kind::Message, b"first");
        stream.extend(framed(Kind::Alive, b""));
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in stream {
            buffer.extend_from_slice(&[byte]);
            if let Split::Frame(frame) = split(&mut buffer, 16).unwrap() {
                seen.push((frame.kind, frame.body));
            }
        }
        assert_eq!(seen, [(Kind::Message, Bytes::from_static(b"first")), (Kind::Alive, Bytes::new())]);
    }

    #[test]
    fn what_is_missing_is_told() {
        let frame = framed(Kind::Chunk, &[7; 100]);
        let missing = |have: usize| split(&mut BytesMut::from(&frame[..have]), 100).unwrap();
        assert_eq!(missing(0), Split::Missing(HEADER_BYTES));
        assert_eq!(missing(4), Split::Missing(6));
        assert_eq!(missing(HEADER_BYTES), Split::Missing(100));
        assert_eq!(missing(109), Split::Missing(1));
    }

    #[test]
    fn a_frame_too_large_is_refused_by_its_header_alone() {
        let frame = framed(Kind::Chunk, &[7; 101]);
        let refused = split(&mut BytesMut::from(&frame[..HEADER_BYTES]), 100);
        assert_eq!(refused, Err(FrameError::TooLarge { size: 101, limit: 100 }));
    }

    #[test]
    fn a_body_that_fails_leaves_nothing_behind() {
        let mut out = framed(Kind::Alive, b"");
        let before = out.clone();
        let failed = write(&mut out, Kind::Message, |out| {
            out.push(1);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!(out, before);
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused_and_nothing_is_kept_for_what_was_announced(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let capacity = buffer.capacity();
            while let Ok(Split::Frame(frame)) = split(&mut buffer, FRAME_BYTES_MAX) {
                prop_assert!(frame.body.len() <= bytes.len());
            }
            prop_assert!(buffer.capacity() <= capacity);
        }

        #[test]
        fn one_changed_bit_is_noticed(body in proptest::collection::vec(any::<u8>(), 0..64), at: usize) {
            let mut bytes = framed(Kind::Propose, &body);
            let bit = at % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let split = split(&mut BytesMut::from(&bytes[..]), FRAME_BYTES_MAX);
            prop_assert!(!matches!(split, Ok(Split::Frame(_))), "bit {bit}: {split:?}");
        }
    }
}
