//! Member client: one question to one member, over TLS. With `api`, `listener` and `cli` the only code that speaks HTTP.
//!
//! Whom to believe is the caller's to say, as a TLS configuration, and when to ask again is too. It refuses answers that
//! are longer than any of ours.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::join_client::JoinError;
use super::join_trust;
use crate::authority::COMMON_SERVER_NAME;

/// To reach a member.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer holds the certificates and addresses of a cluster; more is no answer of ours.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is said of an end that hangs up.
const UNANSWERED: &str = "it ended the connection without an answer; is this its API port (--api-listen, 6443 unless \
                          set), and not the one for peers?";

/// Of a refusal, what is shown.
const REASON_CHARS_MAX: usize = 1_000;

/// Sends one request, answers the body of a success.
pub(super) async fn exchange(
    target: &str,
    tls: Arc<ClientConfig>,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, JoinError> {
    let odd = |reason: String| JoinError::Odd { target: target.to_owned(), reason };
    let stream = connect(target, tls).await?;
    let late =
        |error: hyper::Error| JoinError::NotNow { target: target.to_owned(), reason: error.to_string() };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(late)?;
    let connection = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, COMMON_SERVER_NAME)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| odd(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| match unanswered(&error) {
        true => JoinError::NotNow { target: target.to_owned(), reason: UNANSWERED.to_owned() },
        false => late(error),
    })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| odd(error.to_string()))?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let (target, reason) = (target.to_owned(), reason_of(&body, status));
    match status.as_u16() {
        408 | 429 | 500..=599 => Err(JoinError::NotNow { target, reason }),
        _ => Err(JoinError::Refused { target, reason }),
    }
}

/// Whether the other end took the connection and hung up: a member that stops, or its port for peers, which shows the
/// same certificate and lets nobody in who has none.
fn unanswered(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed() || error.is_incomplete_message()
}

async fn connect(
    target: &str,
    tls: Arc<ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, JoinError> {
    let failed = |source: io::Error| JoinError::Connect { target: target.to_owned(), source };
    let late = || failed(io::Error::from(io::ErrorKind::TimedOut));
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await;
    let stream = connecting.map_err(|_| late())?.map_err(failed)?;
    // Every member answers to this name, whatever its address.
    let name = ServerName::try_from(COMMON_SERVER_NAME).map_err(|error| failed(io::Error::other(error)))?;
    let shaking = TlsConnector::from(tls).connect(name, stream);
    let shaken = tokio::time::timeout(CONNECT_TIMEOUT, shaking).await.map_err(|_| late())?;
    shaken.map_err(|error| match join_trust::blame(&error) {
        Some(reason) => JoinError::Untrusted { target: target.to_owned(), reason },
        None => failed(error),
    })
}

/// The words of a `Status`, or what there is instead.
fn reason_of(body: &[u8], status: http::StatusCode) -> String {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    let text = serde_json::from_slice::<Words>(body).map(|words| words.message);
    let text: String =
        text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
    if text.is_empty() { format!("HTTP status {status}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_member() {
        let words = br#"{"kind":"Status","message":"the token\n is used up"}"#;
        assert_eq!(reason_of(words, http::StatusCode::FORBIDDEN), "the token is used up");
        assert_eq!(reason_of(b"<html>", http::StatusCode::BAD_GATEWAY), "HTTP status 502 Bad Gateway");
    }
}
