//! Chunks: a snapshot's body cut into pieces, and the sum over all of them. Pure but for the channel it writes to.

use std::io::{self, Write};

use tokio::sync::mpsc;

/// Bytes of one chunk.
pub(crate) const CHUNK_BYTES_MAX: usize = 256 * 1_024;

/// Chunks between the disk and the network, on either side: enough that neither waits for the other's next one, and
/// with the two sides' hands full less than 2 MiB for a state of any size.
pub(crate) const CHUNKS_MAX: usize = 4;

/// Bytes of the body of an end frame.
const TOTAL_BYTES: usize = 12;

/// How much of a body there was, and the checksum over it: what is missing or twice there is noticed, though each
/// chunk by itself is right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    bytes: u64,
    hasher: crc32fast::Hasher,
}

impl Total {
    pub(crate) fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.hasher.update(chunk);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As it stands in an end frame.
    pub(crate) fn to_bytes(&self) -> [u8; TOTAL_BYTES] {
        let mut bytes = [0; TOTAL_BYTES];
        bytes[..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.hasher.clone().finalize().to_le_bytes());
        bytes
    }
}

/// Cuts what is written to it into chunks and hands them on; waits when they are not taken.
pub(crate) struct ChunkWriter {
    chunks: mpsc::Sender<Vec<u8>>,
    chunk: Vec<u8>,
}

impl ChunkWriter {
    pub(crate) fn new(chunks: mpsc::Sender<Vec<u8>>) -> ChunkWriter {
        ChunkWriter { chunks, chunk: Vec::new() }
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        // Nobody takes them any more: the connection has ended, and so should this.
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK_BYTES_MAX);
        }
        let taken = bytes.len().min(CHUNK_BYTES_MAX - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES_MAX {
            self.send()?;
        }
        Ok(taken)
    }

    /// Hands on what there is, even if it is little; the last chunk needs this.
    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() { Ok(()) } else { self.send() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_put_together_are_what_was_written() {
        let (sender, mut receiver) = mpsc::channel(16);
        let body: Vec<u8> = (0..CHUNK_BYTES_MAX * 2 + 77).map(|at| (at % 251) as u8).collect();
        let mut writer = ChunkWriter::new(sender);
        for part in body.chunks(100_003) {
            writer.write_all(part).unwrap();
        }
        writer.flush().unwrap();
        writer.flush().unwrap();
        drop(writer);

        let mut chunks = Vec::new();
        while let Ok(chunk) = receiver.try_recv() {
            chunks.push(chunk);
        }
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 77]);
        assert_eq!(chunks.concat(), body);
    }

    #[test]
    fn a_total_tells_what_is_missing_and_what_stands_elsewhere() {
        let total = |chunks: &[&[u8]]| {
            let mut total = Total::default();
            chunks.iter().for_each(|chunk| total.add(chunk));
            total.to_bytes()
        };
        assert_eq!(total(&[b"one", b"two"]), total(&[b"onetwo"]));
        assert_ne!(total(&[b"one", b"two"]), total(&[b"one"]));
        assert_ne!(total(&[b"one", b"two"]), total(&[b"two", b"one"]));
    }

    #[test]
    fn a_body_nobody_takes_ends() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let mut writer = ChunkWriter::new(sender);
        assert!(writer.write_all(&vec![0; CHUNK_BYTES_MAX + 1]).is_err());
    }
}
