//! The bytes we write to disk and into the raft log: a format version, the kind of thing, then bincode. Pure.
//!
//! bincode has no schema evolution (`reference/store.md` 1.5), hence the two bytes in front: a changed struct takes a
//! new version, and old bytes are refused by name instead of being misread. Decoding takes a slice, never a reader;
//! it is bounded by `DECODED_BYTES_MAX` whatever lengths the bytes claim, and what is left over is an error.

use bincode::{BorrowDecode, Decode, Encode, config, error::DecodeError};

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
    Spent = 9,
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
    let body = body(kind, bytes)?;
    let (value, used) = bincode::decode_from_slice(body, CONFIG).map_err(describe)?;
    nothing_after(body, used).map(|()| value)
}

/// Decodes exactly one thing of the given kind, which borrows its bytes instead of copying them.
pub(crate) fn view<'a, T: BorrowDecode<'a, ()>>(kind: Kind, bytes: &'a [u8]) -> Result<T, CodecError> {
    let body = body(kind, bytes)?;
    let (value, used) = bincode::borrow_decode_from_slice(body, CONFIG).map_err(describe)?;
    nothing_after(body, used).map(|()| value)
}

/// What follows the two leading bytes, if these are the right ones.
fn body(kind: Kind, bytes: &[u8]) -> Result<&[u8], CodecError> {
    let [format, found, body @ ..] = bytes else { return Err(CodecError::TooShort(bytes.len())) };
    if *format != FORMAT {
        return Err(CodecError::Format { found: *format });
    }
    if *found != kind as u8 {
        return Err(CodecError::Kind { found: *found, expected: kind as u8 });
    }
    Ok(body)
}

fn nothing_after(body: &[u8], used: usize) -> Result<(), CodecError> {
    if used < body.len() { Err(CodecError::Trailing(body.len() - used)) } else { Ok(()) }
}

fn describe(error: DecodeError) -> CodecError {
    CodecError::Body(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        chain::ChainHash,
        command::{Author, Command, Compare, Op, RequestId},
        frames::{self, Frame, FrameReader},
        history::{self, Entry, First, Head, Location, Written},
        key::Key,
        outcome::{Outcome, Reply},
        record::Record,
        requests::Requests,
        revision::Revision,
        spent::Spent,
        state::State,
    };

    fn author() -> Author {
        let (name, source, reason) = ("alice".to_owned(), "unix:0".to_owned(), "why".to_owned());
        Author { name, source, reason, time: 0x0102_0304_0506_0708, request: Some(RequestId([0xee; 16])) }
    }

    fn command() -> Command {
        let key = || Key::from("k");
        Command::Txn {
            author: author(),
            compare: vec![
                Compare::ModRevision { key: key(), equals: Revision(7) },
                Compare::CreateRevision { key: key(), equals: Revision(8) },
                Compare::Version { key: key(), equals: 9 },
                Compare::Value { key: key(), equals: b"v".to_vec() },
                Compare::Exists { key: key() },
                Compare::Absent { key: key() },
            ],
            then: vec![Op::Put { key: key(), value: b"value".to_vec() }],
            otherwise: vec![Op::Delete { key: key() }, Op::Get { key: key() }],
        }
    }

    /// What came after the first release of [`command`]'s format.
    fn newer_command() -> Command {
        let compare = vec![Compare::NoneNewer { prefix: Key::from("k/"), than: Revision(7) }];
        Command::Txn { author: author(), compare, then: Vec::new(), otherwise: Vec::new() }
    }

    fn record() -> Record {
        let (create_revision, mod_revision) = (Revision(2), Revision(3));
        Record {
            key: Key::from("k"),
            value: b"v".as_slice().into(),
            create_revision,
            mod_revision,
            version: 4,
        }
    }

    fn outcomes() -> [Outcome; 4] {
        let replies = vec![
            Reply::Put { record: record(), changed: true },
            Reply::Delete { before: None },
            Reply::Get { record: Some(record()) },
        ];
        [
            Outcome::Succeeded { revision: Revision(5), replies: replies.clone() },
            Outcome::Failed { revision: Revision(5), replies },
            Outcome::Refused { reason: "no".to_owned() },
            Outcome::Forgotten,
        ]
    }

    fn entries() -> [Entry; 2] {
        let written =
            Written::Put { create_revision: Revision(2), version: 3, value: b"value".as_slice().into() };
        let before = Some(Location { revision: Revision(2), sub: 1 });
        [
            Entry { key: Key::from("k"), written, before },
            Entry { key: Key::from("k"), written: Written::Delete, before: None },
        ]
    }

    /// Every struct that reaches the disk or the log, by name. A line of `testdata/golden.txt` that changes without a
    /// new `FORMAT` makes every store there is unreadable.
    fn samples() -> Vec<(&'static str, Vec<u8>)> {
        let [put, delete] = entries();
        let [succeeded, failed, refused, forgotten] = outcomes();
        let head = Head { author: author(), index: 6, entries: 2 };
        let compact = Command::Compact { before: Revision(9) };
        let state =
            State { applied: 1, compacted: Revision(3), chain: ChainHash([0xcc; 32]), ..State::empty() };
        let snapshot =
            frames::Head { cluster: Some(crate::options::ClusterId([1; 16])), state: state.clone() };
        let mut requests = Requests::default();
        requests.remember(4, &command(), &succeeded);
        let pack = requests.finish_batch().remove(0);
        let mut spent = Spent::default();
        spent.add(RequestId(0xeeee_u128.to_be_bytes()));
        spent.add(RequestId(0x0102_u128.to_be_bytes()));
        let spent = spent.write(4, 2).remove(0);
        vec![
            ("command-txn", command().encode()),
            ("command-compact", compact.encode()),
            ("command-none-newer", newer_command().encode()),
            ("outcome-succeeded", succeeded.encode()),
            ("outcome-failed", failed.encode()),
            ("outcome-refused", refused.encode()),
            ("outcome-forgotten", forgotten.encode()),
            ("head", encode(Kind::RevisionHead, &head)),
            ("entry-put", encode(Kind::Entry, &put)),
            ("entry-delete", encode(Kind::Entry, &delete)),
            ("state", encode(Kind::State, &state)),
            ("snapshot-head", encode(Kind::SnapshotHead, &snapshot)),
            ("requests-row", [pack.key, pack.value.unwrap_or_default()].concat()),
            ("spent-row", [spent.key, spent.value.unwrap_or_default()].concat()),
            ("state-row", state.rows().remove(0).value.unwrap_or_default()),
            (
                "revision-row",
                history::rows(ChainHash::GENESIS, Revision(3), &head, &[put])
                    .0
                    .remove(0)
                    .value
                    .unwrap_or_default(),
            ),
        ]
    }

    #[test]
    fn the_bytes_of_every_format_are_the_ones_on_disks_out_there() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let printed: String =
            samples().iter().map(|(name, bytes)| format!("{name} {}\n", hex(bytes))).collect();
        assert_eq!(printed, include_str!("../testdata/golden.txt"));
    }

    #[test]
    fn what_was_encoded_decodes_to_itself() {
        assert_eq!(Command::decode(&command().encode()), Ok(command()));
        assert_eq!(Command::decode(&newer_command().encode()), Ok(newer_command()));
        for outcome in outcomes() {
            assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
        }
        for entry in entries() {
            let bytes = encode(Kind::Entry, &entry);
            let view = history::view_entry(&bytes).expect("the same bytes");
            assert_eq!((view.key, view.before), (entry.key.as_bytes(), entry.before));
            assert_eq!(view.counters(), entry.record(Revision(9)).map(|r| (r.create_revision, r.version)));
            assert_eq!(history::decode_entry(&bytes), Ok(entry));
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_by_name() {
        let mut bytes = command().encode();
        assert_eq!(Outcome::decode(&bytes), Err(CodecError::Kind { found: 1, expected: 2 }));
        assert_eq!(Command::decode(&[]), Err(CodecError::TooShort(0)));
        bytes.push(0);
        assert_eq!(Command::decode(&bytes), Err(CodecError::Trailing(1)));
        bytes[0] = 2;
        assert_eq!(Command::decode(&bytes), Err(CodecError::Format { found: 2 }));
    }

    /// Asks every decoder; none of them may panic or take more memory than its limit.
    fn decode_as_everything(bytes: &[u8]) {
        let _ = (
            Command::decode(bytes),
            Outcome::decode(bytes),
            history::decode_entry(bytes),
            First::decode(bytes),
        );
        let _ = history::view_entry(bytes).map(|entry| entry.counters());
        let _ =
            (decode::<State>(Kind::State, bytes), Requests::default().load(bytes), Location::parse(bytes));
        if let Ok((mut frames, _)) = FrameReader::new(bytes) {
            while let Ok(Frame::Row { .. }) = frames.next() {}
        }
        let _ = crate::chunk::Joined::start(b"key", bytes).map(crate::chunk::Joined::finish);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(kind in 0u8..10, body in prop::collection::vec(any::<u8>(), 0..400)) {
            decode_as_everything(&body);
            decode_as_everything(&[[FORMAT, kind].as_slice(), &body].concat());
        }

        #[test]
        fn no_change_to_good_bytes_makes_a_decoder_panic(
            sample in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let samples = samples();
            let mut bytes = samples[sample.index(samples.len())].1.clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            decode_as_everything(&bytes);
            decode_as_everything(&bytes[..at]);
        }
    }
}
