//! Client: requests to the API of a cluster, over the Unix socket of a node or over TLS to one of several. The only
//! code here that speaks HTTP.
//!
//! JSON objects in, JSON objects out; what they mean is the commands' business. Every write carries an id of its own,
//! and members answer a second request of the same id with what the first one did. So a request is repeated:
//!
//! * when the node said 503 or 429, or was never reached: it did nothing; the next server of the list is asked;
//! * when its fate is unknown and there is another server: with the same id, so that it has one effect.
//!   Members remember the ids of the last 270,000 writes, far more than are made while a request is repeated here.
//!
//! With one server, and for what members do to themselves (`/cluster/…`, where not every answer can be given twice), an
//! unknown fate is reported and nothing is repeated.

mod download;
mod events;
mod retry;
mod transport;
mod warnings;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::config::Connection;
use crate::console::Notices;
use crate::error::{ApiError, ClientError};

pub(crate) use events::EventStream;
use retry::{Next, Retry, Said};
use transport::Transport;

/// An answer later than this is treated as none; the node itself gives up earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// No list of a cluster comes near this; a stranger's endless answer must not fill the memory.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Header that carries `--reason`.
const REASON_HEADER: &str = "appliance-reason";
/// Header that carries the id of a write.
const REQUEST_HEADER: &str = "appliance-request";

type Body = Full<Bytes>;

/// A client of one node or cluster. Requests go one after another over one connection, opened when needed.
pub(crate) struct Client {
    transport: Transport,
    reason: Option<String>,
    notices: Notices,
    /// Which of the servers is asked next.
    server: AtomicUsize,
    idle: Mutex<Option<SendRequest<Body>>>,
}

/// One request, as often as it is sent.
struct Outgoing<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    /// Of a write: the same for every attempt.
    id: Option<String>,
}

impl Client {
    /// Prepares a client; a node is contacted by the first request. What nodes warn of goes to `notices`.
    pub(crate) fn new(
        connection: &Connection,
        reason: Option<String>,
        notices: Notices,
    ) -> Result<Client, ClientError> {
        // A header value has no line breaks; a reason may.
        let reason = reason.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let transport = Transport::new(connection)?;
        Ok(Client { transport, reason, notices, server: AtomicUsize::new(0), idle: Mutex::new(None) })
    }

    /// GETs an object or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.request(Method::GET, path, None).await
    }

    /// The same without waiting for a node that says later: what it says is what was asked for.
    pub(crate) async fn get_now(&self, path: &str) -> Result<Value, ClientError> {
        self.attempt(Method::GET, path, None, Retry::once_each(self.transport.servers())).await
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

    /// Opens a watch, on a connection of its own, at whichever server serves it.
    pub(crate) async fn watch(&self, path: &str) -> Result<EventStream, ClientError> {
        let (response, sender) = self.open(path).await?;
        Ok(EventStream::new(response.into_body(), sender))
    }

    /// How many servers there are to ask.
    pub(crate) fn servers(&self) -> usize {
        self.transport.servers()
    }

    /// The next request goes to the next server: this one was no good.
    pub(crate) async fn turn_away(&self) {
        *self.idle.lock().await = None;
        self.server.fetch_add(1, Ordering::Relaxed);
    }

    /// GETs what is longer than an answer, on a connection of its own. A server that says "not now" passes it on.
    async fn open(&self, path: &str) -> Result<(Response<Incoming>, SendRequest<Body>), ClientError> {
        let get = Outgoing { method: Method::GET, path, body: None, id: None };
        let mut refusal = ClientError::Malformed("no server was asked".to_string());
        for _ in 0..self.transport.servers() {
            let mut sender = self.connect().await?;
            let response = match self.exchange(&mut sender, &get).await {
                Ok(response) if response.status() == StatusCode::OK => return Ok((response, sender)),
                Ok(response) => response,
                Err(error @ (ClientError::Broken(_) | ClientError::Tls { .. })) => {
                    refusal = error;
                    self.turn_away().await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let later = response.status() == StatusCode::SERVICE_UNAVAILABLE;
            let (_, result) = finish(response).await?;
            refusal = result.err().unwrap_or(ClientError::Malformed("a stream was not opened".to_string()));
            if !later {
                break;
            }
            self.turn_away().await;
        }
        Err(refusal)
    }

    /// Sends until there is an answer, or nothing more to try.
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let repeatable = method == Method::GET || path.starts_with("/apis/");
        self.attempt(method, path, body, Retry::new(self.transport.servers(), repeatable)).await
    }

    async fn attempt(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        mut retry: Retry,
    ) -> Result<Value, ClientError> {
        let id = (method != Method::GET).then(request_id).transpose()?;
        let outgoing = Outgoing { method, path, body, id };
        loop {
            tracing::debug!(method = %outgoing.method, path, "request");
            let said = match self.send_once(&outgoing).await {
                Ok(response) => finish_within(response, &outgoing.method).await,
                Err(error) => Said::failed(error),
            };
            match retry.next(said) {
                Next::Done(result) => return result,
                Next::Again(pause) => {
                    self.turn_away().await;
                    tokio::time::sleep(pause).await;
                }
                Next::Later(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// One exchange; a kept connection that died unused is replaced once.
    async fn send_once(&self, outgoing: &Outgoing<'_>) -> Result<Response<Incoming>, ClientError> {
        let mut idle = self.idle.lock().await;
        if let Some(mut sender) = idle.take()
            && sender.ready().await.is_ok()
        {
            let response = self.exchange(&mut sender, outgoing).await;
            // Broken means that nothing was sent, or that asking again is harmless.
            if !matches!(response, Err(ClientError::Broken(_))) {
                *idle = Some(sender);
                return response;
            }
        }
        let mut sender = self.connect().await?;
        let response = self.exchange(&mut sender, outgoing).await?;
        *idle = Some(sender);
        Ok(response)
    }

    /// A connection to the first server, from the one whose turn it is, that lets us in.
    async fn connect(&self) -> Result<SendRequest<Body>, ClientError> {
        let first = self.server.load(Ordering::Relaxed);
        let mut told = None;
        for server in (first..).take(self.transport.servers()) {
            match self.transport.connect(server).await {
                Ok(sender) => {
                    self.server.store(server, Ordering::Relaxed);
                    return Ok(sender);
                }
                // A server that answers wrongly says more than one that does not answer.
                Err(error) => match told {
                    None | Some(ClientError::Connect { .. }) => told = Some(error),
                    Some(_) => {}
                },
            }
        }
        Err(told.unwrap_or_else(|| ClientError::Credentials("no address of a node was given".to_string())))
    }

    fn build(&self, outgoing: &Outgoing<'_>) -> Result<Request<Body>, ClientError> {
        let mut builder = Request::builder()
            .method(&outgoing.method)
            .uri(outgoing.path)
            .header(header::HOST, self.transport.host(self.server.load(Ordering::Relaxed)))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("appliance-ctl/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = self.transport.token() {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(id) = &outgoing.id {
            builder = builder.header(REQUEST_HEADER, id);
            if let Some(reason) = &self.reason {
                builder = builder.header(REASON_HEADER, reason.as_bytes());
            }
        }
        if outgoing.body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = outgoing.body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        builder.body(Full::new(bytes)).map_err(|error| ClientError::Malformed(error.to_string()))
    }

    /// Sends one request and waits for the head of the answer.
    async fn exchange(
        &self,
        sender: &mut SendRequest<Body>,
        outgoing: &Outgoing<'_>,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = self.build(outgoing)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(response)) => {
                self.notices.add(warnings::of(response.headers()));
                Ok(response)
            }
            Ok(Err(error)) => Err(match transport::tls_reason(&error) {
                Some(reason) => {
                    let address = self.transport.host(self.server.load(Ordering::Relaxed)).to_string();
                    ClientError::Tls { address, reason }
                }
                None if error.is_canceled() => ClientError::Broken(error.to_string()),
                None => broken(&outgoing.method, error.to_string()),
            }),
            Err(_) => {
                Err(broken(&outgoing.method, format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
            }
        }
    }
}

/// 128 bits nobody else has drawn.
fn request_id() -> Result<String, ClientError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ClientError::Broken(format!("no randomness: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// A read that broke can be asked again; a write may have happened.
fn broken(method: &Method, why: String) -> ClientError {
    if *method == Method::GET { ClientError::Broken(why) } else { ClientError::Uncertain(why) }
}

async fn finish_within(response: Response<Incoming>, method: &Method) -> Said {
    let outcome = tokio::time::timeout(ANSWER_TIMEOUT, finish(response)).await;
    match outcome.unwrap_or(Err(ClientError::Broken("the answer did not end".to_string()))) {
        Ok((retry_after, result)) => Said::answered(retry_after, result, *method != Method::GET),
        Err(ClientError::Broken(why)) => Said::failed(broken(method, why)),
        Err(other) => Said::failed(other),
    }
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
