//! EventStream: the lines of a watch, one JSON document each.
//!
//! It cuts lines and parses them; what an event means is `watch`'s. A line has a bound, so a peer that never ends one
//! can not fill the memory.

use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde_json::Value;

use super::Body;
use crate::error::ClientError;

/// Objects are bounded at 3 MiB by the API; an event is one object and a few words.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Nodes send bookmarks once a minute; one that is silent for longer than this is frozen or cut off, and another knows
/// how to go on.
const SILENCE_MAX: Duration = Duration::from_secs(150);

/// An open watch.
pub(crate) struct EventStream {
    body: Incoming,
    buffer: BytesMut,
    /// Dropping it would close the connection.
    _sender: SendRequest<Body>,
}

impl EventStream {
    pub(super) fn new(body: Incoming, sender: SendRequest<Body>) -> EventStream {
        EventStream { body, buffer: BytesMut::new(), _sender: sender }
    }

    /// The next event; `None` when the node closed the stream in an orderly way.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|error| ClientError::Malformed(error.to_string()));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ClientError::Malformed("an event of the watch has no end".to_string()));
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await;
            let silent = || ClientError::Broken(format!("nothing came for {} s", SILENCE_MAX.as_secs()));
            match frame.map_err(|_| silent())? {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Broken(error.to_string())),
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
        }
    }
}
