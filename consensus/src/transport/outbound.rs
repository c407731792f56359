//! Outbound: one task per peer, which dials it and writes to it what is queued.
//!
//! It waits in one of two places. While there is no connection: on the clock, on new addresses, on new certificates
//! and on the peer, which may dial us first. While there is one: on the queue. Everything queued goes out in one
//! write. What is queued while the peer can not be reached is given up after each failed attempt, so that raft is
//! told and no stale message outlives the silence.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, interval, sleep};

use super::{
    backoff::Backoff,
    dial::{DialError, Dialled, dial},
    frame::{HEADER_BYTES, Kind},
    hello::{HELLO_BYTES_MAX, Purpose, Refusal},
    line::{ALIVE_EVERY, Line, LineError, Reader, Writer},
    payload,
    peers::{Lost, Peer, lock, refuse},
    shared::{Shared, dice},
    status::OutboundState,
};
use crate::message;

/// Bytes of payloads put into one write: several TLS records, so that more would save little, and few enough that what
/// is urgent does not wait long for the write before.
const WRITE_BYTES: usize = 64 * 1_024;

/// A peer that refuses us, or that we refuse, is asked again after this long: what was wrong is put right by hand.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Even a peer that knocks is not dialled faster than this; two that refuse each other would never rest.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// A connection that lasted at least this long was a success.
const LASTING: Duration = Duration::from_secs(1);

/// A connection is replaced at this age, so that no certificate is believed for much longer than it is valid.
const AGE_MAX: Duration = Duration::from_secs(4 * 3_600);

/// When the transport stops, what raft said last is still written, but nobody waits long for a peer.
const FAREWELL: Duration = Duration::from_millis(300);

/// Why a conversation was over.
enum Ended {
    Line(LineError),
    Refused(Refusal),
    /// The process at the other end has been replaced by another.
    Restarted,
    /// The connection is old.
    Renewal,
    Stopping,
}

/// Speaks to one peer until the transport stops, or the task is dropped because the peer has left.
pub(crate) async fn run(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut backoff = Backoff::dialling();
    let mut addresses = shared.addresses.clone();
    let mut tls = shared.tls.clone();
    while !*shared.stop.borrow() {
        addresses.mark_unchanged();
        tls.mark_unchanged();
        let pause = match reach(&shared, &peer).await {
            Reached::Lasting => {
                backoff.reset();
                PAUSE_MIN
            }
            Reached::Briefly | Reached::Not => backoff.wait(dice()),
            Reached::Refused => REFUSED_PAUSE,
            Reached::NoAddress => {
                tokio::select! {
                    // Kept from growing old, as if it had been tried.
                    () = peer.queued.notified() => PAUSE_MIN,
                    () = peer.knocked.notified() => Duration::ZERO,
                    _ = addresses.changed() => Duration::ZERO,
                    () = shared.stopping() => return,
                }
            }
            Reached::Stopping => return,
        };
        sleep(pause.min(PAUSE_MIN)).await;
        tokio::select! {
            () = sleep(pause.saturating_sub(PAUSE_MIN)) => {}
            () = peer.knocked.notified() => {}
            _ = addresses.changed() => {}
            _ = tls.changed() => {}
            () = shared.stopping() => return,
        }
    }
}

/// How an attempt went.
enum Reached {
    NoAddress,
    Not,
    Refused,
    Briefly,
    Lasting,
    Stopping,
}

/// Tries every address, and speaks with the peer until that ends.
async fn reach(shared: &Shared, peer: &Peer) -> Reached {
    let candidates = peer.candidates(shared.addresses.borrow().get(&peer.member));
    if candidates.is_empty() {
        peer.show(OutboundState::NoAddress);
        give_up(shared, peer);
        return Reached::NoAddress;
    }
    let (mut refused, mut away) = (None, false);
    for address in candidates {
        let dialled = tokio::select! {
            dialled = dial(shared, peer.member, &address, Purpose::Raft) => dialled,
            () = shared.stopping() => return Reached::Stopping,
        };
        match dialled {
            Ok(dialled) => return speak(shared, peer, address, dialled).await,
            Err(error) => {
                let definite = matches!(error, DialError::Refused(_) | DialError::Refusing(_));
                let reason = format!("at {address}: {error}");
                failed(shared, peer, &reason);
                if definite {
                    refused = Some(reason);
                } else {
                    away = true;
                    peer.show(OutboundState::Dialling { failure: Some(reason) });
                }
            }
        }
    }
    give_up(shared, peer);
    (shared.ends.unreachable)(peer.member);
    match refused {
        // Somebody else answers at an address that was the peer's; the peer itself may be at the other one.
        Some(reason) if !away => {
            peer.show(OutboundState::Refused { reason });
            Reached::Refused
        }
        _ => Reached::Not,
    }
}

fn failed(shared: &Shared, peer: &Peer, reason: &str) {
    if lock(&shared.voice).is_news(&subject(peer), reason) {
        tracing::warn!("member {:016x} is not reached {reason}", peer.member);
    }
}

fn subject(peer: &Peer) -> String {
    format!("to {:016x}", peer.member)
}

/// Whoever waits for an answer from this peer is told that none will come.
fn give_up(shared: &Shared, peer: &Peer) {
    refuse(&shared.ends, peer.member, peer.give_up(), &message::Refusal::NoLeader);
}

/// Uses a connection until it ends.
async fn speak(shared: &Shared, peer: &Peer, address: String, dialled: Dialled) -> Reached {
    let Dialled { mut line, hello } = dialled;
    let incarnation = hello.incarnation;
    shared.met(peer, hello);
    lock(&shared.voice).forget(&subject(peer));
    tracing::info!("connected to member {:016x} at {address}", peer.member);
    peer.show(OutboundState::Connected { address: address.clone() });

    let since = Instant::now();
    let ended = converse(shared, peer, &mut line, incarnation).await;
    peer.show(OutboundState::Dialling { failure: None });
    // Whatever was written last may not have arrived.
    (shared.ends.unreachable)(peer.member);
    let reason = match ended {
        Ended::Stopping => return Reached::Stopping,
        Ended::Renewal => return Reached::Lasting,
        Ended::Restarted => "it has started anew".to_owned(),
        Ended::Refused(refusal) => {
            if refusal == Refusal::Removed {
                shared.we_are_removed(peer.member);
            }
            let reason = format!("at {address}: refused: {refusal}");
            failed(shared, peer, &reason);
            peer.show(OutboundState::Refused { reason });
            return Reached::Refused;
        }
        Ended::Line(error) => error.to_string(),
    };
    tracing::info!("connection to member {:016x} at {address} ended: {reason}", peer.member);
    if since.elapsed() < LASTING { Reached::Briefly } else { Reached::Lasting }
}

async fn converse(shared: &Shared, peer: &Peer, line: &mut Line, incarnation: u64) -> Ended {
    let mut known = peer.incarnation.subscribe();
    let restarted = async {
        // The sender lives in the peer, which lives as long as this.
        let _ = known.wait_for(|known| *known != incarnation).await;
    };
    tokio::select! {
        ended = listen(&mut line.reader) => ended,
        ended = write_queued(shared, peer, &mut line.writer) => ended,
        () = restarted => Ended::Restarted,
    }
}

/// On a connection that we dialled the other side says only that it is alive, or that it will not go on.
pub(crate) async fn listen_for_refusal(reader: &mut Reader) -> Result<Refusal, LineError> {
    loop {
        let frame = reader.frame(HELLO_BYTES_MAX).await?;
        match frame.kind {
            Kind::Alive => {}
            Kind::Refusal => return Ok(Refusal::read(&frame.body)),
            // Nothing else is due here, and what a later version may say can wait for its protocol number.
            _ => return Err(LineError::Closed),
        }
    }
}

async fn listen(reader: &mut Reader) -> Ended {
    match listen_for_refusal(reader).await {
        Ok(refusal) => Ended::Refused(refusal),
        Err(error) => Ended::Line(error),
    }
}

/// Writes what is queued, as it comes, until something fails or is asked for.
async fn write_queued(shared: &Shared, peer: &Peer, writer: &mut Writer) -> Ended {
    // Spread over the last tenth of the age, or all connections of a cluster that started at once would end at once.
    let renewal = Instant::now() + AGE_MAX - AGE_MAX.mul_f64(0.1 * f64::from(dice()) / f64::from(u32::MAX));
    let mut alive = interval(ALIVE_EVERY);
    let mut taken = Vec::new();
    loop {
        let lost = peer.take(WRITE_BYTES, &mut taken);
        note_lost(shared, peer, lost);
        if let Err(error) = write_batch(peer, writer, &mut taken).await {
            return Ended::Line(error);
        }
        if peer.has_queued() {
            continue;
        }
        if Instant::now() >= renewal {
            writer.close().await;
            return Ended::Renewal;
        }
        tokio::select! {
            () = peer.queued.notified() => {}
            _ = alive.tick() => {
                if let Err(error) = writer.alive().await {
                    return Ended::Line(error);
                }
            }
            () = shared.stopping() => {
                let _ = tokio::time::timeout(FAREWELL, farewell(peer, writer)).await;
                return Ended::Stopping;
            }
        }
    }
}

fn note_lost(shared: &Shared, peer: &Peer, lost: Lost) {
    if lost.appends {
        tracing::debug!("member {:016x} reads too slowly: appends were dropped", peer.member);
    }
    refuse(&shared.ends, peer.member, lost, &message::Refusal::Busy);
}

/// Everything taken goes out in one write.
async fn write_batch(
    peer: &Peer,
    writer: &mut Writer,
    taken: &mut Vec<message::Payload>,
) -> Result<(), LineError> {
    if taken.is_empty() {
        return Ok(());
    }
    let payloads = taken.len();
    for payload in taken.drain(..) {
        let before = writer.out().len();
        if let Err(error) = payload::write(writer.out(), &payload) {
            // Only a log that does not hold what raft wrote there gets here; the others will notice as well.
            tracing::error!(%error, "a payload could not be written, and was left out");
        }
        debug_assert!(writer.out().len() - before <= super::frame::FRAME_BYTES_MAX + HEADER_BYTES);
    }
    let bytes = writer.flush().await?;
    peer.counters.sent(payloads, bytes);
    Ok(())
}

async fn farewell(peer: &Peer, writer: &mut Writer) {
    let mut taken = Vec::new();
    while peer.has_queued() {
        peer.take(WRITE_BYTES, &mut taken);
        if write_batch(peer, writer, &mut taken).await.is_err() {
            return;
        }
    }
    writer.close().await;
}
