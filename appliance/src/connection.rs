//! Connection: one client, from its first byte to its last, over any stream.
//!
//! The listeners say who the client is and hand over the bytes; here they become requests for the API. HTTP/1.1 and
//! HTTP/2 are told apart by the client's first bytes. Every wait and every buffer has a bound, so that a client that
//! says nothing, or never reads, costs little and not for ever.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::respond::{self, Refusal};
use crate::shutdown::Shutdown;

/// From the end of one request to the end of the next one's head: how long a connection may lie idle. Longer than the
/// pauses of a client that polls every minute.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// What HTTP/1 buffers of a request or response before it waits: a large head fits, a flood does not.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;

/// Streams of one HTTP/2 connection: an informer for every kind, many times over.
const HTTP2_STREAMS_MAX: u32 = 128;

/// Bytes a client may send on one stream before we have read them: as much as the API takes in one go.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;

/// The same for a whole connection.
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes waiting to be sent on one stream before its writer waits.
const HTTP2_SEND_BYTES: usize = 64 * 1024;

/// An HTTP/2 client that answers no ping within this time after one was due is gone.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// Serves requests until the client leaves, breaks the protocol, or the node stops.
pub(crate) async fn serve<S>(stream: S, caller: Caller, api: Arc<Api>, mut shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = caller.address.clone();
    let service = service_fn(move |request| {
        let (api, caller) = (api.clone(), caller.clone());
        async move { Ok::<_, Infallible>(api.respond(caller, request).await) }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.requested() => {
            // Requests under way are answered, new ones are not taken; whoever waits for us bounds how long.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients come and go in every way; none of them is news to the operator.
        tracing::debug!("connection from {address} ended: {error}");
    }
}

/// Answers every request with the same refusal, until the client leaves.
pub(crate) async fn turn_away<S>(stream: S, refusal: Refusal)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |_| {
        let refused = respond::refuse(&refusal);
        async move { Ok::<_, Infallible>(refused) }
    });
    if let Err(error) = builder().serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!("a connection that was turned away ended: {error}");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BYTES)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING);
    builder
}
