//! Snapshot, received: from the connection into a file, and only a file that is whole, synced and verified is handed
//! to raft.
//!
//! A thread writes what the connection brings, so that a slow disk holds up the sender and nobody else here. Until it
//! is verified the file is called `….part`; if anything goes wrong it is removed, and the sender is told what. The
//! next attempt begins from nothing, under another name.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use raft::eraftpb::Message;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{
    chunks::{CHUNK_BYTES_MAX, CHUNKS_MAX, Total},
    frame::{self, FRAME_BYTES_MAX, Frame, Kind},
    hello::Refusal,
    line::{Line, LineError, Reader},
    payload,
    peers::{Ends, lock},
    shared::Shared,
};
use crate::message::{Incoming, IncomingPayload};

/// The largest state that is taken: no store of ours gets near it, and a sender that never ends fills no disk beyond.
const SNAPSHOT_BYTES_MAX: u64 = 64 * 1_024 * 1_024 * 1_024;

/// Raft's queue is emptied many times a second; a member that has no room for so long has other worries.
const STEP_MAX: Duration = Duration::from_secs(10);
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// How long the sender gets to read why it was refused.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// What a file is called while it is written, and once it is verified.
const PART: &str = "part";
const WHOLE: &str = "snapshot";

/// Tells files of one life apart.
static FILES: AtomicU64 = AtomicU64::new(0);

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
enum ReceiveError {
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("{0}")]
    Refused(String),
}

/// Removes what an earlier life received and did not restore from: nobody will ask for it again.
pub(crate) fn clean(incoming_dir: &Path) {
    let Ok(entries) = fs::read_dir(incoming_dir) else {
        return; // It is made when the first snapshot comes.
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.extension().is_some_and(|extension| extension == PART || extension == WHOLE);
        if ours && let Err(error) = fs::remove_file(&path) {
            tracing::warn!(
                "{}: left over from an earlier snapshot, and not removed: {error}",
                path.display()
            );
        }
    }
}

/// Receives the one snapshot of a bulk connection.
pub(crate) async fn receive(shared: &Shared, from: u64, mut line: Line) {
    let subject = format!("snapshot from {from:016x}");
    // Either may be given up at any point; what is said last is said behind it.
    let received = tokio::select! {
        received = receive_file(shared, from, &mut line.reader) => received,
        error = line.writer.stay_alive() => Err(error.into()),
    };
    match received {
        Ok(bytes) => {
            lock(&shared.voice).forget(&subject);
            tracing::info!("received a snapshot of {bytes} bytes from member {from:016x}");
            frame::write_body(line.writer.out(), Kind::Taken, &[]);
        }
        Err(error) => {
            let reason = error.to_string();
            if lock(&shared.voice).is_news(&subject, &reason) {
                tracing::warn!("the snapshot from member {from:016x} was not taken: {reason}");
            }
            Refusal::snapshot(reason).write(line.writer.out());
        }
    }
    if line.writer.flush().await.is_ok() {
        line.reader.linger(LINGER_MAX).await;
    }
    line.writer.close().await;
}

async fn receive_file(shared: &Shared, from: u64, reader: &mut Reader) -> Result<u64, ReceiveError> {
    let begin = next(reader).await?;
    let ends = payload::Ends { from, to: shared.us.member };
    let message =
        payload::read_snapshot(&begin, ends).map_err(|error| ReceiveError::Refused(error.to_string()))?;
    let (pieces, queue) = mpsc::channel(CHUNKS_MAX);
    let (verdict, told) = oneshot::channel();
    let file = Part::new(&shared.incoming_dir, from, &message);
    let index = message.get_snapshot().get_metadata().index;
    spawn_writer(file, queue, shared.ends.clone(), index, verdict)?;
    let mut told = told;
    let bytes = tokio::select! {
        biased;
        // It failed, so nobody needs the rest.
        failed = &mut told => return Err(refused(failed)),
        bytes = forward(reader, pieces) => bytes?,
    };
    let file = match told.await {
        Ok(Ok(file)) => file,
        failed => return Err(refused(failed)),
    };
    hand_over(&shared.ends, from, message, file).await?;
    Ok(bytes)
}

fn refused(verdict: Result<Result<PathBuf, String>, oneshot::error::RecvError>) -> ReceiveError {
    ReceiveError::Refused(match verdict {
        Ok(Ok(_)) => "it ended before its end".to_owned(),
        Ok(Err(reason)) => reason,
        Err(_) => "reading it panicked".to_owned(),
    })
}

async fn next(reader: &mut Reader) -> Result<Frame, LineError> {
    loop {
        let frame = reader.frame(FRAME_BYTES_MAX).await?;
        if frame.kind != Kind::Alive {
            return Ok(frame);
        }
    }
}

/// What the writing thread is given.
enum Piece {
    Chunk(Bytes),
    End(Bytes),
}

/// Brings the pieces from the connection to the thread, up to the end; answers how many bytes there were.
async fn forward(reader: &mut Reader, pieces: mpsc::Sender<Piece>) -> Result<u64, ReceiveError> {
    let mut bytes = 0;
    loop {
        let frame = next(reader).await?;
        let (piece, ended) = match frame.kind {
            Kind::Chunk if frame.body.len() <= CHUNK_BYTES_MAX => (Piece::Chunk(frame.body.clone()), false),
            Kind::End => (Piece::End(frame.body.clone()), true),
            kind => return Err(ReceiveError::Refused(format!("{kind:?} frame amid a snapshot"))),
        };
        bytes += if ended { 0 } else { frame.body.len() as u64 };
        if pieces.send(piece).await.is_err() {
            // The thread has ended and said why, which the caller reads next.
            return Ok(bytes);
        }
        if ended {
            return Ok(bytes);
        }
    }
}

/// Raft restores from the file and removes it. If it has no room for a message for long, the file is of no use.
async fn hand_over(ends: &Ends, from: u64, message: Message, file: PathBuf) -> Result<(), ReceiveError> {
    let deadline = Instant::now() + STEP_MAX;
    loop {
        let payload = IncomingPayload::Snapshot { message: message.clone(), state: file.clone() };
        if (ends.step)(Incoming { from, payload }).is_ok() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let _ = fs::remove_file(&file);
            return Err(ReceiveError::Refused("this member has too much to do".to_owned()));
        }
        sleep(STEP_PAUSE).await;
    }
}

/// A file being received; removed when it is dropped, unless it was kept.
struct Part {
    path: PathBuf,
    kept: bool,
}

impl Part {
    fn new(incoming_dir: &Path, from: u64, message: &Message) -> Part {
        let metadata = message.get_snapshot().get_metadata();
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{from:016x}-{}-{}-{number}.{PART}", metadata.term, metadata.index);
        Part { path: incoming_dir.join(name), kept: false }
    }

    /// Writes all pieces, up to the end and the sum that stands there.
    fn write(&self, mut pieces: mpsc::Receiver<Piece>) -> Result<File, String> {
        let failed = |what: &str, error| format!("{}: {what}: {error}", self.path.display());
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|error| failed("no folder for it", error))?;
        }
        let mut file = File::create_new(&self.path).map_err(|error| failed("can not be made", error))?;
        let mut total = Total::default();
        loop {
            match pieces.blocking_recv() {
                Some(Piece::Chunk(chunk)) => {
                    total.add(&chunk);
                    if total.bytes() > SNAPSHOT_BYTES_MAX {
                        return Err(format!("it is larger than {SNAPSHOT_BYTES_MAX} bytes"));
                    }
                    file.write_all(&chunk).map_err(|error| failed("can not be written", error))?;
                }
                Some(Piece::End(expected)) if expected[..] == total.to_bytes() => break,
                Some(Piece::End(_)) => return Err("a part of it is missing or stands elsewhere".to_owned()),
                None => return Err("the connection ended in the middle".to_owned()),
            }
        }
        file.sync_all().map_err(|error| failed("can not be synced", error))?;
        Ok(file)
    }

    /// Gives the file its final name, for good.
    fn keep(mut self) -> Result<PathBuf, String> {
        let whole = self.path.with_extension(WHOLE);
        let failed = |error| format!("{}: can not be renamed: {error}", self.path.display());
        fs::rename(&self.path, &whole).map_err(failed)?;
        self.kept = true;
        let synced = whole.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
        if let Err(error) = synced {
            let _ = fs::remove_file(&whole);
            return Err(format!("{}: its folder can not be synced: {error}", whole.display()));
        }
        Ok(whole)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            // The next start removes what could not be removed now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn spawn_writer(
    part: Part,
    pieces: mpsc::Receiver<Piece>,
    ends: Arc<Ends>,
    index: u64,
    verdict: oneshot::Sender<Result<PathBuf, String>>,
) -> Result<(), ReceiveError> {
    let write = move || {
        let verified = part.write(pieces).and_then(|_| {
            let found = (ends.check_snapshot)(&part.path)?;
            if found == index { Ok(()) } else { Err(format!("it holds entry {found}, not {index}")) }
        });
        let result = verified.and_then(|()| part.keep());
        if let Err(Ok(file)) = verdict.send(result) {
            // The connection ended while this was verified, and nobody will hand it on.
            let _ = fs::remove_file(file);
        }
    };
    let thread = thread::Builder::new().name("snapshot-receive".to_owned()).spawn(write);
    thread.map(|_| ()).map_err(|error| ReceiveError::Refused(format!("no thread to write it: {error}")))
}
