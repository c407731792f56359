//! GET of the whole state, as it streams: what `ctl snapshot save` writes to a file.
//!
//! The state is fixed at once and written out by a thread that may wait for the disk and for the client; a few pieces
//! are all that is ever in memory. A stream that breaks is noticed by whoever reads it: its last bytes are the hash of
//! all before. It refuses to promise more than it has: without quorum there is the local copy, for who asks for that.

use std::io::{self, Write};
use std::time::Duration;

use appliance_resources::Status;
use appliance_storage::Snapshot;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use crate::api::body::ApiBody;
use crate::api::call::Call;
use crate::api::options::Freshness;
use crate::api::respond::Refusal;
use crate::api::{Answer, Api};

/// Each keeps what it shows from being purged, and a thread; whoever makes backups makes one.
static UNDER_WAY: Semaphore = Semaphore::const_new(2);

/// One piece of the stream: large enough that handing it over costs nothing.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces between the thread that reads the store and the connection.
const PIECES_MAX: usize = 4;

/// A client that takes nothing for so long has stopped; the state it is shown must not be kept for it.
const STALL_MAX: Duration = Duration::from_secs(60);

/// What a client waits before it asks again.
const RETRY_SECONDS: u32 = 5;

/// The revision the snapshot stands at.
const REVISION_HEADER: HeaderName = HeaderName::from_static("appliance-revision");

/// The cluster it is of.
const CLUSTER_HEADER: HeaderName = HeaderName::from_static("appliance-cluster");

/// Answers the state as it is now; with `resourceVersion=0` as this member has it.
pub(super) async fn get(api: &Api, call: &Call<'_>) -> Answer {
    let local = form_urlencoded::parse(call.query.as_bytes())
        .any(|(name, value)| name == "resourceVersion" && value == "0");
    let permit = UNDER_WAY.try_acquire().map_err(|_| {
        Status::unavailable("two snapshots are being fetched from this node already", RETRY_SECONDS)
    })?;
    api.registry.settle(if local { Freshness::Any } else { Freshness::Latest }).await?;
    let reader = api.registry.reader().clone();
    let snapshot = tokio::task::spawn_blocking(move || reader.snapshot()).await;
    let snapshot = snapshot.map_err(Status::internal)?.map_err(Refusal::from)?;
    let revision = snapshot.chain().revision.0;
    let mut response = http::Response::new(stream(snapshot, permit));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(REVISION_HEADER, HeaderValue::from(revision));
    if let Ok(cluster) = HeaderValue::try_from(&api.cluster().cluster_id) {
        headers.insert(CLUSTER_HEADER, cluster);
    }
    Ok(response)
}

/// The bytes of a snapshot, as fast as they are taken.
fn stream(snapshot: Snapshot, permit: SemaphorePermit<'static>) -> ApiBody {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { buffer: Vec::with_capacity(PIECE_BYTES), sender, runtime };
        let written = snapshot.write_to(&mut out).map_err(|error| error.to_string());
        if let Err(error) = written.and_then(|()| out.flush().map_err(|error| error.to_string())) {
            tracing::warn!("a snapshot was not fetched to its end: {error}");
        }
        drop(permit);
    });
    ApiBody::Stream(Box::pin(futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    })))
}

/// Cuts what is written into pieces and hands them over.
struct Pieces {
    buffer: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
    runtime: Handle,
}

impl Pieces {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES)));
        let sent = async { tokio::time::timeout(STALL_MAX, self.sender.send(piece)).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client went away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing more")),
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= PIECE_BYTES {
            self.hand_over()?;
        }
        let room = (PIECE_BYTES - self.buffer.len()).min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use crate::api::caller::Role;
    use crate::api::harness::{Harness, endpoint};

    #[tokio::test]
    async fn a_snapshot_streams_whole_and_says_where_it_stands() {
        let api = Harness::start().await;
        for name in ["a", "b"] {
            api.post("hostendpoints", endpoint(name)).await;
        }
        for path in ["/cluster/snapshot", "/cluster/snapshot?resourceVersion=0"] {
            let reply = api.get(path).await;
            assert_eq!(reply.code, 200);
            let newest = api.get("hostendpoints").await.version();
            assert_eq!(reply.headers["appliance-revision"], newest.as_str());
            let (content, hash) = reply.body.split_at(reply.body.len() - 32);
            assert_eq!(Sha256::digest(content).as_slice(), hash);
        }
    }

    #[tokio::test]
    async fn only_administrators_take_it_away() {
        let api = Harness::start().await;
        for role in [Role::Viewer, Role::Operator, Role::Node("n1".into())] {
            assert_eq!(api.as_role("x", role).get("/cluster/snapshot").await.code, 403);
        }
    }
}
