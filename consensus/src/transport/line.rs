//! Line: one TLS connection between two members, cut into frames.
//!
//! The two halves are used at once by one task. Either may be given up anywhere and taken up again: what was read stays
//! in a buffer, and the next write goes on where the last was left. Nothing here waits for ever. A write that makes no
//! progress ends in time, and a reader knows since when it has heard nothing.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time::{Instant, interval, sleep_until, timeout},
};
use tokio_rustls::TlsStream;

use super::frame::{self, Frame, FrameError, Kind, Split};

/// Each side says something at least this often, if only that it is alive.
pub(crate) const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// A side that has said nothing for so long is gone: dead, frozen, or behind a network that swallows packets.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(4);

/// A write that moves no byte for so long is to a peer that is alive and does not read.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Bytes asked of the network at once.
const READ_BYTES: usize = 64 * 1_024;

/// A buffer that has grown beyond this is let go once it is empty: a peer that is quiet costs little.
const BUFFER_KEPT_MAX: usize = 512 * 1_024;

/// Why a line ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("{0}")]
    Io(io::Error),
    #[error("the peer sent what is no frame: {0}")]
    Frame(#[from] FrameError),
    #[error("the peer said nothing for {SILENCE_MAX:?}")]
    Silence,
    #[error("the peer read nothing for {STALL_MAX:?}")]
    Stalled,
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> LineError {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error.kind() {
            // A peer that dies says no goodbye; TLS then calls the end of the stream unexpected.
            UnexpectedEof | ConnectionReset | BrokenPipe => LineError::Closed,
            _ => LineError::Io(error),
        }
    }
}

/// Both halves of one connection.
pub(crate) struct Line {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

impl Line {
    pub(crate) fn new(stream: TlsStream<TcpStream>) -> Line {
        let (read, write) = tokio::io::split(stream);
        Line {
            reader: Reader { half: read, buffer: BytesMut::new(), heard: Instant::now() },
            writer: Writer { half: write, out: Vec::new(), written: 0 },
        }
    }
}

/// What comes in.
pub(crate) struct Reader {
    half: ReadHalf<TlsStream<TcpStream>>,
    buffer: BytesMut,
    heard: Instant,
}

impl Reader {
    /// The next frame, with a body of at most `limit` bytes. May be dropped and called again without losing anything.
    pub(crate) async fn frame(&mut self, limit: usize) -> Result<Frame, LineError> {
        loop {
            let missing = match frame::split(&mut self.buffer, limit)? {
                Split::Frame(frame) => return Ok(frame),
                Split::Missing(missing) => missing,
            };
            if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_MAX {
                self.buffer = BytesMut::new();
            }
            // Grows with what arrives, not with what a header announces.
            self.buffer.reserve(missing.clamp(READ_BYTES / 16, READ_BYTES));
            tokio::select! {
                // What has arrived counts, even if we were too slow to look at it in time.
                biased;
                read = self.half.read_buf(&mut self.buffer) => {
                    if read? == 0 {
                        return Err(LineError::Closed);
                    }
                    self.heard = Instant::now();
                }
                () = sleep_until(self.heard + SILENCE_MAX) => return Err(LineError::Silence),
            }
        }
    }

    /// Reads and forgets until the other side has closed, or `patience` is over: closing before the other side's
    /// bytes were read would reset the connection, and the reset would overtake what was said last.
    pub(crate) async fn linger(&mut self, patience: Duration) {
        let _ = timeout(patience, async {
            let mut scrap = [0; 4_096];
            while self.half.read(&mut scrap).await.is_ok_and(|read| read > 0) {}
        })
        .await;
    }
}

/// What goes out.
pub(crate) struct Writer {
    half: WriteHalf<TlsStream<TcpStream>>,
    out: Vec<u8>,
    /// How much of `out` TLS has taken.
    written: usize,
}

impl Writer {
    /// Where frames are appended that [`Writer::flush`] then sends.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends what was appended, and answers how many bytes that were.
    pub(crate) async fn flush(&mut self) -> Result<usize, LineError> {
        while self.written < self.out.len() {
            let writing = self.half.write(&self.out[self.written..]);
            let written = timeout(STALL_MAX, writing).await.map_err(|_| LineError::Stalled)??;
            if written == 0 {
                return Err(LineError::Closed);
            }
            self.written += written;
        }
        timeout(STALL_MAX, self.half.flush()).await.map_err(|_| LineError::Stalled)??;
        let written = std::mem::take(&mut self.written);
        self.out.clear();
        if self.out.capacity() > BUFFER_KEPT_MAX {
            self.out = Vec::new();
        }
        Ok(written)
    }

    /// Says that this side is alive.
    pub(crate) async fn alive(&mut self) -> Result<(), LineError> {
        frame::write_body(&mut self.out, Kind::Alive, &[]);
        self.flush().await.map(|_| ())
    }

    /// Says so again and again; ends when that fails.
    pub(crate) async fn stay_alive(&mut self) -> LineError {
        let mut alive = interval(ALIVE_EVERY);
        loop {
            alive.tick().await;
            if let Err(error) = self.alive().await {
                return error;
            }
        }
    }

    /// Ends the stream, so that the other side knows that nothing was cut off.
    pub(crate) async fn close(&mut self) {
        let _ = timeout(ALIVE_EVERY, self.half.shutdown()).await;
    }
}
