//! Snapshot, sent: one task per peer, which sends it one snapshot at a time over a connection of its own.
//!
//! The body is written by a thread into a few chunks, which go out as the peer takes them: a state of any size costs
//! the same memory, and a slow peer slows nobody but itself. It ends when the peer has verified the whole of it and
//! handed it to its raft, or else it has failed and the next one starts from the beginning. Either way raft is told,
//! by the job itself when it is dropped. It always ends: every wait here has a bound, on the state, on the peer's word
//! and on each chunk, but none on the whole, for a large state over a slow link takes as long as it takes.

use std::{sync::Arc, thread, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{interval, sleep, timeout},
};

use super::{
    backoff::Backoff,
    chunks::{CHUNK_BYTES_MAX, CHUNKS_MAX, ChunkWriter, Total},
    dial::{Dialled, dial},
    frame::{self, Kind},
    hello::{HELLO_BYTES_MAX, Purpose, Refusal},
    line::{ALIVE_EVERY, Line, LineError, Reader, Writer},
    payload,
    peers::{Peer, SnapshotJob, lock},
    shared::{Shared, dice},
};
use crate::message::{Payload, SnapshotBody};

/// A body that yields nothing for so long never will.
const BODY_MAX: Duration = Duration::from_secs(60);

/// A peer that takes longer over one chunk, at a modem's rate, is as good as gone; the store keeps history for it as long
/// as it is sent one.
const CHUNK_MAX: Duration = Duration::from_secs(300);

/// After the last chunk the peer syncs the file and reads it to its last byte; it says meanwhile that it is alive.
const VERIFY_MAX: Duration = Duration::from_secs(600);

/// Pauses after a snapshot failed. A peer whose disk is full would otherwise be sent gigabytes over and over.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("nobody has said where the member is")]
    NoAddress,
    #[error("not reached {0}")]
    Dial(String),
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("the state could not be read: {0}")]
    Body(String),
    #[error("the member did not take {CHUNK_BYTES_MAX} bytes of it within {CHUNK_MAX:?}")]
    Slow,
    #[error("the member did not verify it within {VERIFY_MAX:?}")]
    Unverified,
}

/// How an attempt ended.
enum Ended {
    Sent {
        bytes: u64,
    },
    Failed(SendError),
    /// A newer one is there.
    Superseded,
}

/// Sends one peer its snapshots until the task is dropped because the peer has left or the transport stops.
pub(crate) async fn run(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut backoff = Backoff::between(PAUSE_MIN, PAUSE_MAX);
    loop {
        let Some(job) = peer.take_snapshot() else {
            peer.offered.notified().await;
            continue;
        };
        let newer = async {
            while !peer.has_snapshot() {
                peer.offered.notified().await;
            }
        };
        let ended = tokio::select! {
            sent = send(&shared, &peer, &job) => match sent {
                Ok(bytes) => Ended::Sent { bytes },
                Err(error) => Ended::Failed(error),
            },
            () = newer => Ended::Superseded,
        };
        match ended {
            Ended::Sent { bytes } => {
                backoff.reset();
                lock(&shared.voice).forget(&subject(&peer));
                tracing::info!("member {:016x} was sent a snapshot of {bytes} bytes", peer.member);
                job.succeeded();
            }
            Ended::Superseded => job.supersede(),
            Ended::Failed(error) => {
                let reason = error.to_string();
                if lock(&shared.voice).is_news(&subject(&peer), &reason) {
                    tracing::warn!("member {:016x} was not sent its snapshot: {reason}", peer.member);
                }
                // Raft is told after the pause, and makes the next one only then.
                sleep(backoff.wait(dice())).await;
                if peer.has_snapshot() { job.supersede() } else { drop(job) }
            }
        }
    }
}

fn subject(peer: &Peer) -> String {
    format!("snapshot to {:016x}", peer.member)
}

/// Sends the snapshot, and answers its size once the peer has it.
async fn send(shared: &Shared, peer: &Peer, job: &SnapshotJob) -> Result<u64, SendError> {
    let Dialled { line: Line { mut reader, mut writer }, hello } = reach(shared, peer).await?;
    shared.met(peer, hello);
    let (verdict, told) = oneshot::channel();
    let body = spawn_body(job.body.clone(), verdict)?;
    let begin = Payload::Snapshot { message: job.message.clone(), state: job.body.clone() };
    payload::write(writer.out(), &begin).map_err(|error| SendError::Body(error.to_string()))?;
    let sent = tokio::select! {
        // A refusal explains why a write fails at the same moment.
        biased;
        answer = answer(&mut reader) => Err(answer.err().unwrap_or(SendError::Line(LineError::Closed))),
        sent = stream(peer, &mut writer, body, told) => sent,
    };
    let bytes = match sent {
        Ok(bytes) => bytes,
        Err(SendError::Line(error)) => {
            // The last words of a peer that closed may still lie unread.
            return Err(match timeout(ALIVE_EVERY, answer(&mut reader)).await {
                Ok(Err(SendError::Refused(refusal))) => SendError::Refused(refusal),
                _ => SendError::Line(error),
            });
        }
        Err(error) => return Err(error),
    };
    tokio::select! {
        answer = answer(&mut reader) => answer?,
        failed = writer.stay_alive() => return Err(failed.into()),
        () = sleep(VERIFY_MAX) => return Err(SendError::Unverified),
    }
    writer.close().await;
    Ok(bytes)
}

async fn reach(shared: &Shared, peer: &Peer) -> Result<Dialled, SendError> {
    let candidates = peer.candidates(shared.addresses.borrow().get(&peer.member));
    let mut last = SendError::NoAddress;
    for address in candidates {
        match dial(shared, peer.member, &address, Purpose::Bulk).await {
            Ok(dialled) => return Ok(dialled),
            Err(error) => last = SendError::Dial(format!("at {address}: {error}")),
        }
    }
    Err(last)
}

/// Runs the body on a thread of its own: the runtime's would keep the process from ending while it runs.
fn spawn_body(
    body: SnapshotBody,
    verdict: oneshot::Sender<Result<(), String>>,
) -> Result<mpsc::Receiver<Vec<u8>>, SendError> {
    let (chunks, receiver) = mpsc::channel(CHUNKS_MAX);
    let written = move || {
        let mut writer = ChunkWriter::new(chunks);
        let result = body(&mut writer)
            .and_then(|()| std::io::Write::flush(&mut writer).map_err(|error| error.to_string()));
        // Nobody listens when the connection has ended first.
        let _ = verdict.send(result);
    };
    let thread = thread::Builder::new().name("snapshot-send".to_owned()).spawn(written);
    thread.map_err(|error| SendError::Body(format!("no thread to read it: {error}")))?;
    Ok(receiver)
}

/// Writes the chunks as they come, and the end behind the last.
async fn stream(
    peer: &Peer,
    writer: &mut Writer,
    mut chunks: mpsc::Receiver<Vec<u8>>,
    told: oneshot::Receiver<Result<(), String>>,
) -> Result<u64, SendError> {
    let mut total = Total::default();
    loop {
        let chunk = next_chunk(writer, &mut chunks).await?;
        let Some(chunk) = chunk else { break };
        total.add(&chunk);
        frame::write_body(writer.out(), Kind::Chunk, &chunk);
        let flushed = timeout(CHUNK_MAX, writer.flush()).await.map_err(|_| SendError::Slow)?;
        peer.counters.sent(0, flushed?);
    }
    // A body that panicked says nothing; without its word the state is not complete.
    let told = told.await.unwrap_or_else(|_| Err("reading it panicked".to_owned()));
    told.map_err(SendError::Body)?;
    frame::write_body(writer.out(), Kind::End, &total.to_bytes());
    writer.flush().await?;
    Ok(total.bytes())
}

async fn next_chunk(
    writer: &mut Writer,
    chunks: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<Option<Vec<u8>>, SendError> {
    let mut alive = interval(ALIVE_EVERY);
    alive.reset();
    let patience = sleep(BODY_MAX);
    tokio::pin!(patience);
    loop {
        tokio::select! {
            biased;
            chunk = chunks.recv() => return Ok(chunk),
            () = &mut patience => return Err(SendError::Body(format!("it yielded nothing for {BODY_MAX:?}"))),
            _ = alive.tick() => writer.alive().await?,
        }
    }
}

/// Waits for the peer's verdict.
async fn answer(reader: &mut Reader) -> Result<(), SendError> {
    loop {
        let frame = reader.frame(HELLO_BYTES_MAX).await?;
        match frame.kind {
            Kind::Alive => {}
            Kind::Taken => return Ok(()),
            Kind::Refusal => return Err(SendError::Refused(Refusal::read(&frame.body))),
            _ => return Err(LineError::Closed.into()),
        }
    }
}
