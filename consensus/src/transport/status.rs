//! Status: what the transport knows about its connections, for metrics and for people.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// One peer, a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConnections {
    /// The connection this member dialled, for what it sends.
    pub outbound: OutboundState,
    /// Whether the peer has dialled us.
    pub inbound: bool,
    /// Payloads that wait to be written.
    pub queued: usize,
    /// What they weigh.
    pub queued_bytes: usize,
    /// Payloads written since the start.
    pub sent: u64,
    /// Bytes written since the start, snapshots included.
    pub sent_bytes: u64,
    /// Payloads received since the start.
    pub received: u64,
    /// Payloads dropped since the start: for want of room, or because the peer was away.
    pub dropped: u64,
    /// How far the peer's clock was ahead of ours when it last said hello, less what the hello took to arrive.
    pub clock_offset_ms: Option<i64>,
}

/// How far the connection to a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundState {
    /// Nobody has said where the peer is.
    NoAddress,
    /// Being dialled, or about to be.
    Dialling {
        /// Why the last attempt failed.
        failure: Option<String>,
    },
    /// In use.
    Connected {
        /// Where the peer was reached.
        address: String,
    },
    /// One of the two will not speak with the other.
    Refused {
        /// Why.
        reason: String,
    },
}

impl OutboundState {
    /// Why the peer is not spoken to, where it should be and is not.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            OutboundState::Dialling { failure } => failure.as_deref(),
            OutboundState::Refused { reason } => Some(reason),
            OutboundState::NoAddress | OutboundState::Connected { .. } => None,
        }
    }
}

/// Numbers that only grow, and the latest of some that do not.
#[derive(Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    inbound: AtomicBool,
    clock_offset_ms: AtomicI64,
    clock_known: AtomicBool,
}

impl Counters {
    pub(crate) fn sent(&self, payloads: usize, bytes: usize) {
        self.sent.fetch_add(payloads as u64, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, payloads: usize) {
        self.dropped.fetch_add(payloads as u64, Ordering::Relaxed);
    }

    pub(crate) fn inbound(&self, open: bool) {
        self.inbound.store(open, Ordering::Relaxed);
    }

    pub(crate) fn clock(&self, offset_ms: i64) {
        self.clock_offset_ms.store(offset_ms, Ordering::Relaxed);
        self.clock_known.store(true, Ordering::Relaxed);
    }

    pub(crate) fn show(
        &self,
        outbound: OutboundState,
        queued: usize,
        queued_bytes: usize,
    ) -> PeerConnections {
        let clock_known = self.clock_known.load(Ordering::Relaxed);
        PeerConnections {
            outbound,
            inbound: self.inbound.load(Ordering::Relaxed),
            queued,
            queued_bytes,
            sent: self.sent.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            clock_offset_ms: clock_known.then(|| self.clock_offset_ms.load(Ordering::Relaxed)),
        }
    }
}
