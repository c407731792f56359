//! Hello: the first frame either way, and the reasons for which a conversation ends there. Pure.
//!
//! Who dials says who it is, whom it means and of which cluster; who accepts holds that against the certificate and
//! against itself, and answers in kind or with a [`Refusal`]. A refusal is definite: it names the reason, and both
//! ends log it. The first three fields of a hello never change, so that any two versions can tell each other that
//! they do not fit; later versions add fields at the end, and what an older one does not know it skips.

use std::fmt;

use bincode::{Decode, Encode};

use super::{
    frame::{self, Frame, Kind},
    identity::Identity,
    options::Removed,
};

/// The protocol this version speaks, and the oldest that it still understands.
pub(crate) const PROTOCOL: u32 = 1;
const PROTOCOL_OLDEST: u32 = 1;

/// The largest body of a frame before a peer is known: a hello with all its addresses, with room for later fields.
pub(crate) const HELLO_BYTES_MAX: usize = 8 * 1_024;

/// Addresses believed from one hello; a host has a handful.
const ADVERTISED_MAX: usize = 8;

/// Bytes of one address: the longest DNS name, a colon and a port.
const ADDRESS_BYTES_MAX: usize = 253 + 6;

/// Bytes of the reason in a refusal: a sentence with a path in it.
const REASON_BYTES_MAX: usize = 1_024;

const MAGIC: [u8; 8] = *b"APPLPEER";

const BINCODE: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<HELLO_BYTES_MAX>,
> = bincode::config::standard().with_limit::<HELLO_BYTES_MAX>();

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Purpose {
    /// Messages, commands and beats, for as long as it lasts.
    Raft,
    /// One snapshot.
    Bulk,
}

/// Who speaks, whom it means, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Hello {
    pub(crate) purpose: Purpose,
    pub(crate) cluster: u128,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Different at every start of the speaker's process.
    pub(crate) incarnation: u64,
    pub(crate) advertise: Vec<String>,
    /// The speaker's clock, in milliseconds since 1970: to measure how far the clocks are apart, for nothing else.
    pub(crate) now_ms: u64,
}

/// What stands before every hello of every version.
#[derive(Encode, Decode)]
struct Prelude {
    magic: [u8; 8],
    protocol: u32,
    oldest: u32,
}

/// Why a peer is not spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Refusal {
    /// No protocol is common to both.
    Protocol { oldest: u32, newest: u32 },
    /// The refusing member belongs to another cluster.
    WrongCluster { ours: u128 },
    /// The refusing member is not the one that was meant.
    WrongMember { ours: u64 },
    /// The certificate shown does not belong to the member it was shown for.
    WrongCertificate { shown: Option<u64>, claimed: u64 },
    /// The dialler has reached itself.
    Itself,
    /// The dialler was removed from the cluster.
    Removed,
    /// A process that started later speaks for the same member.
    Superseded,
    /// This many snapshots are being received already.
    Busy,
    /// The snapshot was not taken.
    Snapshot { reason: String },
}

/// Why a first frame is not a hello.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("what came first is not a hello of a peer")]
    NotHello,
    #[error("peer speaks protocols {oldest} to {newest}, this member {PROTOCOL_OLDEST} to {PROTOCOL}")]
    Protocol { oldest: u32, newest: u32 },
}

/// What a member holds a hello against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Us {
    pub(crate) cluster: u128,
    pub(crate) member: u64,
}

impl Hello {
    /// Appends the hello as a frame.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.write_as(PROTOCOL, PROTOCOL_OLDEST, out);
    }

    fn write_as(&self, protocol: u32, oldest: u32, out: &mut Vec<u8>) {
        let prelude = Prelude { magic: MAGIC, protocol, oldest };
        // Encoding into memory fails for no value of these types.
        let mut body = bincode::encode_to_vec(&prelude, BINCODE).unwrap_or_default();
        body.extend(bincode::encode_to_vec(self, BINCODE).unwrap_or_default());
        frame::write_body(out, Kind::Hello, &body);
    }

    /// Reads a hello; addresses beyond what is believed from one are left out.
    pub(crate) fn read(frame: &Frame) -> Result<Hello, HelloError> {
        if frame.kind != Kind::Hello {
            return Err(HelloError::NotHello);
        }
        let not_hello = |_| HelloError::NotHello;
        let (prelude, read): (Prelude, usize) =
            bincode::decode_from_slice(&frame.body, BINCODE).map_err(not_hello)?;
        if prelude.magic != MAGIC {
            return Err(HelloError::NotHello);
        }
        let common = prelude.protocol.min(PROTOCOL);
        if common < prelude.oldest.max(PROTOCOL_OLDEST) {
            return Err(HelloError::Protocol { oldest: prelude.oldest, newest: prelude.protocol });
        }
        let rest = frame.body.get(read..).unwrap_or_default();
        let (mut hello, _): (Hello, usize) = bincode::decode_from_slice(rest, BINCODE).map_err(not_hello)?;
        hello.advertise.retain(|address| is_address(address));
        hello.advertise.truncate(ADVERTISED_MAX);
        Ok(hello)
    }

    /// Whether the member that accepted may speak with the one that dialled.
    pub(crate) fn judge(
        &self,
        certificate: Option<Identity>,
        us: Us,
        removed: &Removed,
    ) -> Result<(), Refusal> {
        if self.cluster != us.cluster || certificate.is_some_and(|shown| shown.cluster != us.cluster) {
            return Err(Refusal::WrongCluster { ours: us.cluster });
        }
        let shown = certificate.map(|shown| shown.member);
        if shown != Some(self.from) {
            return Err(Refusal::WrongCertificate { shown, claimed: self.from });
        }
        if self.from == us.member {
            return Err(Refusal::Itself);
        }
        if self.to != us.member {
            return Err(Refusal::WrongMember { ours: us.member });
        }
        if removed.contains(&self.from) {
            return Err(Refusal::Removed);
        }
        Ok(())
    }
}

/// Whether the certificate of a member that was dialled is that of the member that was meant.
pub(crate) fn judge_dialled(certificate: Option<Identity>, us: Us, to: u64) -> Result<(), Refusal> {
    match certificate {
        Some(shown) if shown.cluster != us.cluster => Err(Refusal::WrongCluster { ours: us.cluster }),
        Some(shown) if shown.member == to => Ok(()),
        Some(shown) if shown.member == us.member => Err(Refusal::Itself),
        shown => Err(Refusal::WrongCertificate { shown: shown.map(|shown| shown.member), claimed: to }),
    }
}

fn is_address(text: &str) -> bool {
    text.len() <= ADDRESS_BYTES_MAX
        && text.chars().all(|char| char.is_ascii_graphic())
        && text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

impl Refusal {
    /// What a first frame that is no hello is answered with, if that can be answered.
    pub(crate) fn of(error: &HelloError) -> Option<Refusal> {
        match error {
            HelloError::NotHello => None,
            HelloError::Protocol { .. } => {
                Some(Refusal::Protocol { oldest: PROTOCOL_OLDEST, newest: PROTOCOL })
            }
        }
    }

    /// A snapshot that was not taken.
    pub(crate) fn snapshot(reason: impl Into<String>) -> Refusal {
        let mut reason = reason.into();
        while reason.len() > REASON_BYTES_MAX {
            reason.pop();
        }
        Refusal::Snapshot { reason }
    }

    /// Appends the refusal as a frame.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let body = bincode::encode_to_vec(self, BINCODE).unwrap_or_default();
        frame::write_body(out, Kind::Refusal, &body);
    }

    /// Reads a refusal's body. One that a later version invented is a refusal still.
    pub(crate) fn read(body: &[u8]) -> Refusal {
        match bincode::decode_from_slice(body, BINCODE) {
            Ok((Refusal::Snapshot { reason }, _)) => {
                // It ends in a log; a peer writes no lines of its own there.
                let printable: String = reason.chars().filter(|char| !char.is_control()).collect();
                Refusal::snapshot(printable)
            }
            Ok((refusal, _)) => refusal,
            Err(_) => Refusal::snapshot("a reason this version does not know"),
        }
    }
}

/// Said of the side that refuses, so that one sentence fits in either's log.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Protocol { oldest, newest } => {
                write!(f, "no common protocol: the refusing member speaks {oldest} to {newest}")
            }
            Refusal::WrongCluster { ours } => {
                write!(f, "another cluster: the refusing member belongs to {ours:032x}")
            }
            Refusal::WrongMember { ours } => {
                write!(f, "another member was meant: the refusing member is {ours:016x}")
            }
            Refusal::WrongCertificate { shown: Some(shown), claimed } => {
                write!(f, "the certificate shown belongs to member {shown:016x}, not to {claimed:016x}")
            }
            Refusal::WrongCertificate { shown: None, claimed } => {
                write!(f, "the certificate shown names no member, so it is not that of {claimed:016x}")
            }
            Refusal::Itself => write!(f, "the address is the dialling member's own"),
            Refusal::Removed => write!(f, "the dialling member was removed from the cluster"),
            Refusal::Superseded => write!(
                f,
                "another process speaks for the same member since: a data directory may have been copied; stop the copy, then \
                 start this member again"
            ),
            Refusal::Busy => write!(f, "the refusing member receives other snapshots at the moment"),
            Refusal::Snapshot { reason } => write!(f, "the snapshot was not taken: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::transport::frame::{Split, split};

    const US: Us = Us { cluster: 0xc1, member: 2 };

    fn hello() -> Hello {
        Hello {
            purpose: Purpose::Raft,
            cluster: 0xc1,
            from: 1,
            to: 2,
            incarnation: 7,
            advertise: vec!["10.0.0.1:2380".to_owned(), "[fd00::1]:2380".to_owned()],
            now_ms: 1_700_000_000_000,
        }
    }

    fn frame(bytes: &[u8]) -> Frame {
        match split(&mut BytesMut::from(bytes), HELLO_BYTES_MAX) {
            Ok(Split::Frame(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }

    fn identity(cluster: u128, member: u64) -> Option<Identity> {
        Some(Identity { cluster, member })
    }

    #[test]
    fn a_hello_is_read_as_it_was_written_and_a_later_one_too() {
        let mut bytes = Vec::new();
        hello().write(&mut bytes);
        assert_eq!(Hello::read(&frame(&bytes)), Ok(hello()));

        let mut later = frame(&bytes).body.to_vec();
        later.extend_from_slice(b"fields of tomorrow");
        let later = Frame { kind: Kind::Hello, body: later.into() };
        assert_eq!(Hello::read(&later), Ok(hello()));
    }

    #[test]
    fn protocols_without_a_common_one_are_told_so_before_the_rest_is_read() {
        let read = |protocol, oldest| {
            let mut bytes = Vec::new();
            hello().write_as(protocol, oldest, &mut bytes);
            Hello::read(&frame(&bytes))
        };
        assert_eq!(read(9, 1), Ok(hello()), "a newer peer that still speaks ours");
        let refused = HelloError::Protocol { oldest: 2, newest: 9 };
        assert_eq!(read(9, 2), Err(HelloError::Protocol { oldest: 2, newest: 9 }));
        assert_eq!(Refusal::of(&refused), Some(Refusal::Protocol { oldest: 1, newest: 1 }));
        assert_eq!(read(0, 0), Err(HelloError::Protocol { oldest: 0, newest: 0 }));
    }

    #[test]
    fn a_peer_is_judged_by_its_certificate_and_its_words() {
        let removed = Removed::from([5]);
        let judge = |hello: Hello, certificate| hello.judge(certificate, US, &removed);
        assert_eq!(judge(hello(), identity(0xc1, 1)), Ok(()));
        let wrong = Err(Refusal::WrongCluster { ours: 0xc1 });
        assert_eq!(judge(Hello { cluster: 0xc2, ..hello() }, identity(0xc1, 1)), wrong);
        assert_eq!(judge(hello(), identity(0xc2, 1)), wrong);
        let shown = |shown| Err(Refusal::WrongCertificate { shown, claimed: 1 });
        assert_eq!(judge(hello(), identity(0xc1, 3)), shown(Some(3)));
        assert_eq!(judge(hello(), None), shown(None));
        assert_eq!(judge(Hello { from: 2, ..hello() }, identity(0xc1, 2)), Err(Refusal::Itself));
        assert_eq!(
            judge(Hello { to: 3, ..hello() }, identity(0xc1, 1)),
            Err(Refusal::WrongMember { ours: 2 })
        );
        assert_eq!(judge(Hello { from: 5, ..hello() }, identity(0xc1, 5)), Err(Refusal::Removed));
    }

    #[test]
    fn who_was_dialled_is_judged_by_its_certificate() {
        assert_eq!(judge_dialled(identity(0xc1, 3), US, 3), Ok(()));
        assert_eq!(judge_dialled(identity(0xc2, 3), US, 3), Err(Refusal::WrongCluster { ours: 0xc1 }));
        assert_eq!(judge_dialled(identity(0xc1, 2), US, 3), Err(Refusal::Itself));
        let wrong = |shown| Err(Refusal::WrongCertificate { shown, claimed: 3 });
        assert_eq!(judge_dialled(identity(0xc1, 4), US, 3), wrong(Some(4)));
        assert_eq!(judge_dialled(None, US, 3), wrong(None));
    }

    #[test]
    fn only_addresses_are_believed_and_only_some() {
        let mut many = hello();
        many.advertise =
            vec!["no port".to_owned(), ":1".to_owned(), "a\n:1".to_owned(), "x".repeat(300) + ":1"];
        many.advertise.extend((0..20).map(|port| format!("host:{port}")));
        let mut bytes = Vec::new();
        many.write(&mut bytes);
        let read = Hello::read(&frame(&bytes)).unwrap().advertise;
        assert_eq!(read, (0..8).map(|port| format!("host:{port}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_refusal_is_read_as_it_was_written_and_writes_one_line() {
        let refusals = [
            Refusal::Protocol { oldest: 1, newest: 2 },
            Refusal::WrongCluster { ours: 3 },
            Refusal::WrongMember { ours: 4 },
            Refusal::WrongCertificate { shown: None, claimed: 5 },
            Refusal::Itself,
            Refusal::Removed,
            Refusal::Superseded,
            Refusal::Busy,
            Refusal::snapshot("no space left"),
        ];
        for refusal in refusals {
            let mut bytes = Vec::new();
            refusal.write(&mut bytes);
            assert_eq!(Refusal::read(&frame(&bytes).body), refusal);
        }
        let mut bytes = Vec::new();
        Refusal::snapshot("one\ntwo").write(&mut bytes);
        assert_eq!(Refusal::read(&frame(&bytes).body), Refusal::snapshot("onetwo"));
        assert_eq!(Refusal::snapshot("é".repeat(2_000)), Refusal::snapshot("é".repeat(512)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_hello_or_a_refusal_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            at: usize,
            value: u8,
        ) {
            let _ = Hello::read(&Frame { kind: Kind::Hello, body: bytes.clone().into() });
            let _ = Refusal::read(&bytes).to_string();
            let mut written = Vec::new();
            hello().write(&mut written);
            let mut body = frame(&written).body.to_vec();
            let at = at % body.len();
            body[at] = value;
            let _ = Hello::read(&Frame { kind: Kind::Hello, body: body.into() });
        }
    }
}
