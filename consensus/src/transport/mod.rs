//! Transport: how members speak to each other. The only code that opens a connection to a peer, or accepts one.
//!
//! ```text
//!   raft's thread ── Sender ──► Peer ── Queue, three classes ──► outbound ═══ TLS, "raft" ═══► inbound ──► Raft::step
//!                                  └── one snapshot ──► snapshot_send ═══ TLS, "bulk" ═══► snapshot_receive ──► file, step
//! ```
//!
//! Each member dials every other; what A says to B travels on connections that A dialled. There are two: one that
//! stays, for messages, and one per snapshot, so that a heartbeat never waits behind megabytes of state. On the first
//! the urgent overtakes the bulky in the queue, and the kernel is given little, so that it overtakes there as well.
//!
//! # Who is believed
//!
//! Both sides show certificates of the cluster's authority, and a certificate names its member ([`member_uri`]). Then
//! both say hello: cluster, who, to whom, protocol, incarnation. If anything does not fit, the other side is told what
//! (`hello::Refusal`), both log it once, and nothing further is read.
//!
//! What follows is frames with a limit and a checksum, and in them `bincode` of our own structures, never protobuf:
//! see `mirror`. Every message must keep to `rules`. A peer that is authenticated and wrong loses its connection, not our
//! process.
//!
//! # What is lost, and who learns of it
//!
//! Everything here may be lost, as raft expects of a network. Appends that find no room are dropped and raft is told
//! that the member is unreachable. A request that never left is refused at once in the leader's name, so that its
//! proposer knows that it may ask again. A snapshot ends in exactly one report, unless a newer one took its place.
//!
//! # What is bounded
//!
//! | what | by |
//! |---|---|
//! | what waits for a peer | `queue`: items and bytes of each class |
//! | a write | `outbound`: the bytes of one batch |
//! | a frame | `frame::FRAME_BYTES_MAX` |
//! | strangers | `guests`: in all, by address, and each by time |
//! | a snapshot on its way | `chunks`: four chunks on either side |
//! | silence, a stalled write, a dial, a hello | the times in `line` and `dial` |
//!
//! # Dead, frozen and half-open
//!
//! Either side of a connection says something every second. Whoever hears nothing for four closes; who dialled dials
//! again, and at once when the other side has dialled meanwhile. A member that restarts is recognised by its new
//! incarnation, and the connections to and from its former self end without waiting for silence.

mod backoff;
mod chunks;
mod dial;
mod frame;
mod guests;
mod hello;
mod identity;
mod inbound;
mod line;
mod mirror;
mod options;
mod outbound;
mod payload;
mod peers;
mod queue;
mod rules;
mod serving;
mod shared;
mod snapshot_receive;
mod snapshot_send;
mod status;
#[cfg(test)]
mod tests;
mod voice;

use std::sync::Arc;

use tokio::{net::TcpListener, sync::watch};

pub use identity::{SERVER_NAME, member_uri};
pub use options::{Addresses, Options, PeerTls, Removed};
pub use serving::{Links, Serving};
pub use status::{OutboundState, PeerConnections};

use peers::{Ends, Peers};
use shared::Shared;

use crate::{Raft, message::Sender};

/// A transport that does not run yet. What raft sends meanwhile waits, within the bounds.
pub struct Transport {
    options: Options,
    peers: Arc<Peers>,
}

/// Makes a transport and the function that raft sends with. Removes what an earlier life left in `incoming_dir`, so
/// this must come before raft is started.
pub fn new(options: Options) -> (Sender, Transport) {
    snapshot_receive::clean(&options.incoming_dir);
    let peers = Arc::new(Peers::new(options.member));
    let sending = peers.clone();
    (Box::new(move |batch| sending.send(batch)), Transport { options, peers })
}

impl Transport {
    /// Speaks to the members in `addresses`, accepts those that dial `listener`, and tells `raft` what they say. Both
    /// watches are followed. Must be called within a runtime.
    pub fn serve(
        self,
        raft: Raft,
        listener: TcpListener,
        addresses: watch::Receiver<Addresses>,
        removed: watch::Receiver<Removed>,
    ) -> Serving {
        self.serve_ends(Ends::of(&raft), listener, addresses, removed)
    }

    fn serve_ends(
        self,
        ends: Ends,
        listener: TcpListener,
        addresses: watch::Receiver<Addresses>,
        removed: watch::Receiver<Removed>,
    ) -> Serving {
        let ends = Arc::new(ends);
        self.peers.connect(ends.clone());
        let (stop, stopping) = watch::channel(false);
        let shared = Shared::new(self.options, ends, self.peers, addresses, removed, stopping);
        Serving::start(Arc::new(shared), stop, listener)
    }
}

/// A message as another member reads it, if it reads it at all.
#[cfg(test)]
pub(crate) fn through_the_wire(
    from: u64,
    to: u64,
    message: &raft::eraftpb::Message,
) -> Option<raft::eraftpb::Message> {
    use crate::message::{IncomingPayload, Payload};
    let mut out = Vec::new();
    payload::write(&mut out, &Payload::Message(message.clone())).ok()?;
    let mut bytes = bytes::BytesMut::from(&out[..]);
    let Ok(frame::Split::Frame(frame)) = frame::split(&mut bytes, frame::FRAME_BYTES_MAX) else {
        return None;
    };
    let ends = payload::Ends { from, to };
    match payload::read(&frame, ends) {
        Ok(IncomingPayload::Message(message)) => Some(message),
        _ => payload::read_snapshot(&frame, ends).ok(),
    }
}
