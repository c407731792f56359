//! Download: a snapshot, as it streams by.
//!
//! Its last 32 bytes are the SHA-256 of all before them; they are checked here, so that a stream that ended early or
//! was mangled on the way is never called a backup.

use std::io::Write;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::Client;
use crate::error::ClientError;

/// A node that sends nothing for so long has stopped.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The length of the hash at the end.
const TRAILER_BYTES: usize = 32;
/// The revision a snapshot stands at.
const REVISION_HEADER: &str = "appliance-revision";

/// What was fetched whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Downloaded {
    /// As the node said it.
    pub(crate) revision: String,
    pub(crate) bytes: u64,
}

impl Client {
    /// GETs a snapshot into `out`. What was written before an error is not to be used.
    pub(crate) async fn download(&self, path: &str, out: &mut dyn Write) -> Result<Downloaded, ClientError> {
        let (response, _sender) = self.open(path).await?;
        let revision = response.headers().get(REVISION_HEADER).and_then(|value| value.to_str().ok());
        let revision = revision.unwrap_or("unknown").to_string();
        let bytes = copy(response.into_body(), out).await?;
        Ok(Downloaded { revision, bytes })
    }
}

async fn copy(mut body: Incoming, out: &mut dyn Write) -> Result<u64, ClientError> {
    let mut trailer = Trailer::default();
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
        let stopped = || ClientError::Broken(format!("nothing came for {} s", SILENCE_MAX.as_secs()));
        match frame.map_err(|_| stopped())? {
            None => break,
            Some(Err(error)) => return Err(ClientError::Broken(error.to_string())),
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                trailer.take(data);
                out.write_all(data).map_err(ClientError::Output)?;
            }
        }
    }
    out.flush().map_err(ClientError::Output)?;
    trailer.check()
}

/// The hash of everything but the last bytes, which it keeps.
#[derive(Default)]
struct Trailer {
    hasher: Sha256,
    last: Vec<u8>,
    bytes: u64,
}

impl Trailer {
    fn take(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.last.extend_from_slice(data);
        let hashed = self.last.len().saturating_sub(TRAILER_BYTES);
        self.hasher.update(&self.last[..hashed]);
        self.last.drain(..hashed);
    }

    fn check(self) -> Result<u64, ClientError> {
        if self.last.len() == TRAILER_BYTES && self.hasher.finalize().as_slice() == self.last {
            return Ok(self.bytes);
        }
        Err(ClientError::Malformed(
            "the snapshot's hash does not match: it was cut off or damaged on the way; nothing was saved, try again"
                .to_string(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]]) -> bool {
        let mut trailer = Trailer::default();
        pieces.iter().for_each(|piece| trailer.take(piece));
        trailer.check().is_ok()
    }

    #[test]
    fn a_stream_counts_only_with_the_hash_of_all_of_it_at_its_end() {
        let content = b"some rows of a store".repeat(9);
        let hash = Sha256::digest(&content);
        assert!(check(&[&content, &hash]));
        assert!(check(&[&content[..7], &content[7..], &hash[..1], &hash[1..]]));
        let whole = [content.as_slice(), &hash].concat();
        assert!(whole.chunks(5).collect::<Vec<_>>().iter().all(|piece| piece.len() <= 5));
        assert!(check(&whole.chunks(5).collect::<Vec<_>>()));
        for cut in [0, 1, 31, 32, content.len(), whole.len() - 1] {
            assert!(!check(&[&whole[..cut]]), "cut at {cut}");
        }
        let mut mangled = whole.clone();
        mangled[3] ^= 1;
        assert!(!check(&[&mangled]));
    }
}
