//! Client: requests to the API of a node, over its Unix socket or over TLS. The only code here that speaks HTTP.
//!
//! JSON objects in, JSON objects out; what they mean is the commands' business. It repeats a request only when that is
//! safe: the node said 503 or 429 (it did nothing), or the request was never sent. A write whose connection breaks
//! afterwards is reported as uncertain, never repeated.

mod events;
mod transport;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::config::Connection;
use crate::error::{ApiError, ClientError};

pub(crate) use events::EventStream;
use transport::Transport;

/// A request the node postpones is repeated this often: a leader election is over long before.
const ATTEMPTS_MAX: u32 = 5;
/// However long the node asks us to wait, a person is watching.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// An answer later than this is treated as none; the node itself gives up earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// No list of a cluster comes near this; a stranger's endless answer must not fill the memory.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Header that carries `--reason`.
const REASON_HEADER: &str = "appliance-reason";

type Body = Full<Bytes>;

/// A client of one node or cluster. Requests go one after another over one connection, opened when needed.
pub(crate) struct Client {
    transport: Transport,
    reason: Option<String>,
    idle: Mutex<Option<SendRequest<Body>>>,
}

impl Client {
    /// Prepares a client; the node is contacted by the first request.
    pub(crate) fn new(connection: &Connection, reason: Option<String>) -> Result<Client, ClientError> {
        // A header value has no line breaks; a reason may.
        let reason = reason.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        Ok(Client { transport: Transport::new(connection)?, reason, idle: Mutex::new(None) })
    }

    /// GETs an object or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.request(Method::GET, path, None).await
    }

    /// POSTs a new object to its collection.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, ClientError> {
        self.request(Method::POST, path, Some(object)).await
    }

    /// PUTs an object in place of the one that is there.
    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<Value, ClientError> {
        self.request(Method::PUT, path, Some(object)).await
    }

    /// DELETEs an object; the options carry preconditions and dry run.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<Value, ClientError> {
        self.request(Method::DELETE, path, Some(options)).await
    }

    /// Opens a watch, on a connection of its own.
    pub(crate) async fn watch(&self, path: &str) -> Result<EventStream, ClientError> {
        let request = self.build(&Method::GET, path, None)?;
        let mut sender = self.transport.connect().await?;
        let response = self.exchange(&mut sender, request, &Method::GET).await?;
        if response.status() != StatusCode::OK {
            let (_, result) = finish(response).await?;
            return Err(result.err().unwrap_or(ClientError::Malformed("a watch was not opened".to_string())));
        }
        Ok(EventStream::new(response.into_body(), sender))
    }

    /// Sends until there is an answer that is not "later".
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let mut attempt = 1;
        loop {
            tracing::debug!(%method, path, attempt, "request");
            let response = self.send_once(&method, path, body).await?;
            let (retry_after, result) = finish_within(response, &method).await?;
            match retry_after {
                Some(pause) if attempt < ATTEMPTS_MAX => tokio::time::sleep(pause.min(RETRY_AFTER_MAX)).await,
                _ => return result,
            }
            attempt += 1;
        }
    }

    /// One exchange; a kept connection that died unused is replaced once.
    async fn send_once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut idle = self.idle.lock().await;
        if let Some(mut sender) = idle.take()
            && sender.ready().await.is_ok()
        {
            let response = self.exchange(&mut sender, self.build(method, path, body)?, method).await;
            // Broken means that nothing was sent, or that asking again is harmless.
            if !matches!(response, Err(ClientError::Broken(_))) {
                *idle = Some(sender);
                return response;
            }
        }
        let mut sender = self.transport.connect().await?;
        let response = self.exchange(&mut sender, self.build(method, path, body)?, method).await?;
        *idle = Some(sender);
        Ok(response)
    }

    fn build(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Request<Body>, ClientError> {
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.transport.host())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("appliance-ctl/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = self.transport.token() {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(reason) = self.reason.as_ref().filter(|_| method != Method::GET) {
            builder = builder.header(REASON_HEADER, reason.as_bytes());
        }
        if body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        builder.body(Full::new(bytes)).map_err(|error| ClientError::Malformed(error.to_string()))
    }

    /// Sends one request and waits for the head of the answer.
    async fn exchange(
        &self,
        sender: &mut SendRequest<Body>,
        request: Request<Body>,
        method: &Method,
    ) -> Result<Response<Incoming>, ClientError> {
        match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(match transport::tls_reason(&error) {
                Some(reason) => ClientError::Tls { address: self.transport.host().to_string(), reason },
                None if error.is_canceled() => ClientError::Broken(error.to_string()),
                None => broken(method, error.to_string()),
            }),
            Err(_) => Err(broken(method, format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        }
    }
}

/// A read that broke can be asked again; a write may have happened.
fn broken(method: &Method, why: String) -> ClientError {
    if method == Method::GET { ClientError::Broken(why) } else { ClientError::Uncertain(why) }
}

async fn finish_within(
    response: Response<Incoming>,
    method: &Method,
) -> Result<(Option<Duration>, Result<Value, ClientError>), ClientError> {
    let outcome = tokio::time::timeout(ANSWER_TIMEOUT, finish(response)).await;
    let outcome = outcome.unwrap_or(Err(ClientError::Broken("the answer did not end".to_string())));
    outcome.map_err(|error| match error {
        ClientError::Broken(why) => broken(method, why),
        other => other,
    })
}

/// Reads the rest of an answer: the object, or the refusal and how long to wait before asking again.
async fn finish(
    response: Response<Incoming>,
) -> Result<(Option<Duration>, Result<Value, ClientError>), ClientError> {
    let status = response.status();
    let retry_after = retry_after(&response);
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let bytes = body.collect().await.map_err(|error| ClientError::Broken(error.to_string()))?.to_bytes();
    let parsed = serde_json::from_slice::<Value>(&bytes);
    if status.is_success() {
        let result = parsed.map_err(|error| ClientError::Malformed(error.to_string()));
        return Ok((None, result));
    }
    let api = ApiError::from_status(status.as_u16(), &parsed.unwrap_or_default());
    Ok((retry_after, Err(ClientError::Api(Box::new(api)))))
}

/// The pause a node asks for together with "not now"; other answers ask for none.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&response.status());
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok()?;
    later.then(|| Duration::from_secs(seconds))
}
