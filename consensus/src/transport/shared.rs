//! Shared: what every task of the transport reads, and the few things that all of them may say.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use super::{
    hello::{Hello, Purpose, Us},
    identity::Identity,
    options::{Addresses, Options, PeerTls, Removed},
    peers::{Ends, Peer, Peers, lock},
    voice::Voice,
};

/// A peer's clock that is further off than this is worth a line: certificates and tokens expire by the clock.
const CLOCK_OFFSET_WARNED_MS: u64 = 10_000;

/// The transport's settings and its state that more than one task needs.
pub(crate) struct Shared {
    pub(crate) us: Us,
    pub(crate) incarnation: u64,
    advertise: Vec<String>,
    pub(crate) incoming_dir: PathBuf,
    pub(crate) tls: watch::Receiver<PeerTls>,
    pub(crate) addresses: watch::Receiver<Addresses>,
    pub(crate) removed: watch::Receiver<Removed>,
    pub(crate) ends: Arc<Ends>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) told_removed: watch::Sender<bool>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) voice: Mutex<Voice>,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        ends: Arc<Ends>,
        peers: Arc<Peers>,
        addresses: watch::Receiver<Addresses>,
        removed: watch::Receiver<Removed>,
        stop: watch::Receiver<bool>,
    ) -> Shared {
        Shared {
            us: Us { cluster: options.cluster, member: options.member },
            incarnation: options.incarnation,
            advertise: options.advertise,
            incoming_dir: options.incoming_dir,
            tls: options.tls,
            addresses,
            removed,
            ends,
            peers,
            told_removed: watch::Sender::new(false),
            stop,
            voice: Mutex::default(),
        }
    }

    /// What we say first to a member.
    pub(crate) fn hello(&self, to: u64, purpose: Purpose) -> Hello {
        Hello {
            purpose,
            cluster: self.us.cluster,
            from: self.us.member,
            to,
            incarnation: self.incarnation,
            advertise: self.advertise.clone(),
            now_ms: now_ms(),
        }
    }

    /// A peer has introduced itself: remembers what it said.
    pub(crate) fn met(&self, peer: &Peer, hello: Hello) {
        let offset_ms = i64::try_from(i128::from(hello.now_ms) - i128::from(now_ms())).unwrap_or(i64::MAX);
        peer.counters.clock(offset_ms);
        let subject = format!("clock of {:016x}", peer.member);
        if offset_ms.unsigned_abs() > CLOCK_OFFSET_WARNED_MS {
            let seconds = offset_ms / 1_000;
            // In whole minutes for whoever compares, so that a drifting clock is not a new warning each time.
            if lock(&self.voice).is_news(&subject, &format!("off by minutes: {}", seconds / 60)) {
                tracing::warn!(
                    "the clock of member {:016x} differs from ours by {seconds} seconds; set both by NTP, or \
                     certificates will seem expired or not yet valid",
                    peer.member
                );
            }
        } else {
            lock(&self.voice).forget(&subject);
        }
        peer.met(hello.incarnation, hello.advertise);
    }

    /// A member says that this one was removed.
    pub(crate) fn we_are_removed(&self, by: u64) {
        let news = self.told_removed.send_if_modified(|told| !std::mem::replace(told, true));
        if news {
            tracing::warn!("member {by:016x} says that this member was removed from the cluster");
        }
    }

    /// Returns once the transport is to stop.
    pub(crate) async fn stopping(&self) {
        let mut stop = self.stop.clone();
        // An error means that nobody is left to ask for a stop, which is as good as having asked.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Who a verified certificate belongs to.
pub(crate) fn identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<Identity> {
    Identity::of_certificate(certificates?.first()?)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Any number; without dice left in the host, the middle one.
pub(crate) fn dice() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
