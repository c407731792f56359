//! A node small enough for tests: the object verbs of the API over a Unix socket, in memory.
//!
//! An honest subset: it decodes and validates with the resource model, answers with its Status, compares versions,
//! takes one revision per change and none for no change, and keeps a log for watches. It knows no roles, no field
//! selectors but `metadata.name`, and no label selectors but `key=value`. Faults are set by the test beforehand.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

use appliance_resources::{AnyResource, DecodeError, Kind, Status, Unknown, set_defaults, validate};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::rustls;

type Reply = Response<BoxBody<Bytes, Infallible>>;
type Key = (Kind, String, String);
type Refusal = Box<Status>;

/// What the node knows, and how it is to misbehave.
#[derive(Default)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) objects: BTreeMap<Key, Value>,
    log: Vec<(u64, &'static str, Key, Value)>,
    /// Every request line, in order.
    pub(super) requests: Vec<String>,
    /// The Authorization header of the last request.
    pub(super) authorization: Option<String>,
    /// So many requests are answered 503 with `Retry-After: 0`.
    pub(super) busy: u32,
    /// So many updates find that somebody else was faster.
    pub(super) meddle: u32,
    /// The next write is answered 504.
    pub(super) uncertain: bool,
    /// The next write breaks its connection without an answer.
    pub(super) hang_up: bool,
    /// What `METHOD /cluster/…` is answered, in order; the last answer stays.
    pub(super) cluster: BTreeMap<String, Vec<(u16, Value)>>,
    /// What was sent to `/cluster/…`, beside its request line.
    pub(super) sent: Vec<(String, Value)>,
    /// The bytes of a snapshot.
    pub(super) snapshot: Vec<u8>,
    /// The request ids of all writes, in order.
    pub(super) ids: Vec<String>,
    /// Every answer carries this warning.
    pub(super) warning: Option<&'static str>,
    /// Watches end after their first batch of events, with 410 if set.
    pub(super) expire: bool,
}

/// The node, on a thread of its own until the process ends.
#[derive(Clone, Default)]
pub(super) struct FakeApi(Arc<Mutex<State>>);

/// What a request is about.
struct Scope {
    kind: Kind,
    namespace: String,
    name: Option<String>,
    query: BTreeMap<String, String>,
}

impl FakeApi {
    /// Listens on a socket; returns when requests will be heard.
    pub(super) fn listen(path: &Path) -> FakeApi {
        let path = path.to_path_buf();
        let api = FakeApi::default();
        api.start(move |api, ready| async move {
            let listener = UnixListener::bind(path).unwrap();
            ready.send(0).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(api.clone().speak(stream));
            }
        });
        api
    }

    /// Listens on a port of the kernel's choice with TLS; returns it with the port.
    pub(super) fn listen_tls(config: rustls::ServerConfig) -> (FakeApi, u16) {
        let api = FakeApi::default();
        let port = api.also_listen_tls(config);
        (api, port)
    }

    /// Another member of the same cluster: it knows what this one knows.
    pub(super) fn also_listen_tls(&self, config: rustls::ServerConfig) -> u16 {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        self.start(move |api, ready| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap().port()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, api) = (acceptor.clone(), api.clone());
                tokio::spawn(async move {
                    // A client that does not like our certificate is one of the cases.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        api.speak(stream).await;
                    }
                });
            }
        })
    }

    fn start<F>(&self, listen: impl FnOnce(FakeApi, mpsc::Sender<u16>) -> F + Send + 'static) -> u16
    where
        F: Future<Output = ()>,
    {
        let served = self.clone();
        let (ready, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(listen(served, ready));
        });
        heard.recv().unwrap()
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let service = service_fn(move |request| {
            let api = self.clone();
            async move { api.serve(request).await.ok_or_else(|| std::io::Error::other("hung up")) }
        });
        // How a connection ends is the client's story.
        let connection = hyper::server::conn::http1::Builder::new();
        connection.serve_connection(TokioIo::new(stream), service).await.ok();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// `None` hangs up.
    async fn serve(&self, request: Request<Incoming>) -> Option<Reply> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).ok()? };
        let mut state = self.state();
        state.requests.push(format!("{} {}", parts.method, parts.uri));
        let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        state.authorization = authorization.map(str::to_string);
        let write = parts.method != Method::GET;
        let id = parts.headers.get("appliance-request").and_then(|value| value.to_str().ok());
        assert_eq!(write, id.is_some(), "every write has an id and nothing else");
        state.ids.extend(id.map(str::to_string));
        if write && std::mem::take(&mut state.hang_up) {
            return None;
        }
        if write && std::mem::take(&mut state.uncertain) {
            return Some(refuse(&Status::timeout("leadership moved")));
        }
        if state.busy > 0 {
            state.busy -= 1;
            let mut reply = refuse(&Status::unavailable("no leader elected", 0));
            reply.headers_mut().insert("retry-after", http::HeaderValue::from_static("0"));
            return Some(reply);
        }
        if parts.uri.path().starts_with("/cluster/") {
            return Some(state.answer_cluster(format!("{} {}", parts.method, parts.uri), body));
        }
        let Some(scope) = scope(&parts.uri) else {
            return Some(refuse(&Status::bad_request("unknown path")));
        };
        let dry_run = scope.query.contains_key("dryRun") || body["dryRun"] == json!(["All"]);
        let answer = match parts.method {
            Method::GET if scope.query.contains_key("watch") => Ok((StatusCode::OK, state.watch(&scope))),
            Method::GET => state.get(&scope).map(|value| (StatusCode::OK, value.to_string())),
            Method::POST => {
                state.create(&scope, body, dry_run).map(|value| (StatusCode::CREATED, value.to_string()))
            }
            Method::PUT => {
                state.update(&scope, body, dry_run).map(|value| (StatusCode::OK, value.to_string()))
            }
            _ => state.delete(&scope, &body, dry_run).map(|value| (StatusCode::OK, value.to_string())),
        };
        let mut reply = answer.map_or_else(|status| refuse(&status), |(code, body)| reply(code, body));
        if let Some(warning) = state.warning {
            reply.headers_mut().insert("warning", warning.parse().unwrap());
        }
        Some(reply)
    }
}

impl State {
    /// Puts an object in place as it is, like a node's own writer.
    pub(super) fn put(&mut self, kind: Kind, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let key = key_of(kind, &object);
        let event = if self.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        self.log.push((self.revision, event, key.clone(), object.clone()));
        self.objects.insert(key, object);
    }

    /// What the test said that the cluster answers.
    fn answer_cluster(&mut self, request: String, body: Value) -> Reply {
        let answers = self.cluster.get_mut(&request);
        self.sent.push((request.clone(), body));
        if request == "GET /cluster/snapshot" && !self.snapshot.is_empty() {
            let body = Full::new(Bytes::from(self.snapshot.clone())).boxed();
            return Response::builder().header("appliance-revision", "42").body(body).unwrap();
        }
        let Some(answers) = answers else { return refuse(&Status::no_such_path()) };
        let (code, answer) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        reply(StatusCode::from_u16(code).unwrap(), answer.to_string())
    }

    fn get(&self, scope: &Scope) -> Result<Value, Refusal> {
        match &scope.name {
            Some(name) => self.find(scope, name).cloned(),
            None => {
                let items: Vec<&Value> = self
                    .objects
                    .iter()
                    .filter(|(key, object)| selected(scope, key, object))
                    .map(|(_, o)| o)
                    .collect();
                Ok(json!({"kind": scope.kind.list_name(), "apiVersion": scope.kind.api_version(),
                          "metadata": {"resourceVersion": self.revision.to_string()}, "items": items}))
            }
        }
    }

    fn find(&self, scope: &Scope, name: &str) -> Result<&Value, Refusal> {
        let key = (scope.kind, scope.namespace.clone(), name.to_string());
        self.objects.get(&key).ok_or_else(|| Status::not_found(scope.kind, name).into())
    }

    fn create(&mut self, scope: &Scope, body: Value, dry_run: bool) -> Result<Value, Refusal> {
        let mut object = admit(body)?;
        let key = key_of(scope.kind, &object);
        if self.objects.contains_key(&key) {
            return Err(Status::already_exists(scope.kind, &key.2).into());
        }
        if let Some(tier) = object.pointer("/spec/tier").and_then(Value::as_str)
            && tier != "default"
            && !self.objects.contains_key(&(Kind::Tier, String::new(), tier.to_string()))
        {
            return Err(Status::not_found(Kind::Tier, tier).into());
        }
        object["metadata"]["uid"] = json!(format!("uid-{}", self.revision + 1));
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["generation"] = json!(1);
        if !dry_run {
            self.put(scope.kind, object);
            return Ok(self.objects[&key].clone());
        }
        Ok(object)
    }

    fn update(&mut self, scope: &Scope, body: Value, dry_run: bool) -> Result<Value, Refusal> {
        let name = scope.name.clone().unwrap_or_default();
        if self.meddle > 0 {
            self.meddle -= 1;
            let mut object = self.find(scope, &name)?.clone();
            object["metadata"]["annotations"] = json!({"meddled": self.revision.to_string()});
            self.put(scope.kind, object);
        }
        let before = self.find(scope, &name)?.clone();
        let mut object = admit(body.clone())?;
        if body.pointer("/metadata/resourceVersion") != before.pointer("/metadata/resourceVersion") {
            return Err(Status::conflict(scope.kind, &name).into());
        }
        object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        for field in ["uid", "creationTimestamp", "generation"] {
            object["metadata"][field] = before["metadata"][field].clone();
        }
        if object == before || dry_run {
            return Ok(object);
        }
        self.put(scope.kind, object);
        self.get(scope)
    }

    fn delete(&mut self, scope: &Scope, options: &Value, dry_run: bool) -> Result<Value, Refusal> {
        let name = scope.name.clone().unwrap_or_default();
        let mut object = self.find(scope, &name)?.clone();
        let wanted = options.pointer("/preconditions/resourceVersion");
        if wanted.is_some_and(|wanted| Some(wanted) != object.pointer("/metadata/resourceVersion")) {
            return Err(Status::conflict(scope.kind, &name).into());
        }
        let in_tier = |policy: &Value| policy.pointer("/spec/tier").and_then(Value::as_str) == Some(&name);
        if scope.kind == Kind::Tier && self.objects.values().any(in_tier) {
            let why = format!("operation delete is not supported on {name}: Cannot delete a non-empty tier");
            return Err(Status::forbidden(Kind::Tier, &name, &why).into());
        }
        if !dry_run {
            self.revision += 1;
            let key = key_of(scope.kind, &object);
            object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            self.objects.remove(&key);
            self.log.push((self.revision, "DELETED", key, object));
        }
        Ok(serde_json::to_value(Status::success(scope.kind, &name, None)).unwrap())
    }

    /// Everything since the version asked for, as lines; the stream then ends.
    fn watch(&mut self, scope: &Scope) -> String {
        if std::mem::take(&mut self.expire) {
            let status = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
            return format!("{}\n", json!({"type": "ERROR", "object": status}));
        }
        let after = scope.query["resourceVersion"].parse::<u64>().unwrap();
        let events = self
            .log
            .iter()
            .filter(|(revision, _, key, object)| *revision > after && selected(scope, key, object));
        events
            .map(|(_, event, _, object)| format!("{}\n", json!({"type": event, "object": object})))
            .collect()
    }
}

/// What admission does: strict decoding, defaults, validation.
fn admit(body: Value) -> Result<Value, Refusal> {
    let mut resource = match AnyResource::from_value(body, Unknown::Refuse) {
        Ok(decoded) => decoded.resource,
        Err(DecodeError::Invalid { kind, name, errors }) => {
            return Err(Status::invalid(kind, &name, &errors).into());
        }
        Err(error) => return Err(Status::bad_request(error.to_string()).into()),
    };
    set_defaults(&mut resource);
    validate(&resource)
        .map_err(|errors| Box::new(Status::invalid(resource.kind(), &resource.meta().name, &errors)))?;
    Ok(resource.to_value())
}

fn key_of(kind: Kind, object: &Value) -> Key {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
    (kind, text("/metadata/namespace"), text("/metadata/name"))
}

fn selected(scope: &Scope, key: &Key, object: &Value) -> bool {
    let label = |(name, value): (&str, &str)| object["metadata"]["labels"][name] == value;
    key.0 == scope.kind
        && (scope.namespace.is_empty() || scope.namespace == key.1)
        && scope.query.get("labelSelector").is_none_or(|pair| pair.split_once('=').is_some_and(label))
        && scope
            .query
            .get("fieldSelector")
            .is_none_or(|pair| pair.strip_prefix("metadata.name=") == Some(&key.2))
}

fn scope(uri: &http::Uri) -> Option<Scope> {
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let parts: Vec<String> = uri.path().trim_matches('/').split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (group, namespace, plural, name) = match parts.as_slice() {
        ["apis", group, _, "namespaces", namespace, plural, rest @ ..] => {
            (group, *namespace, plural, rest.first())
        }
        ["apis", group, _, plural, rest @ ..] => (group, "", plural, rest.first()),
        _ => return None,
    };
    let kind = Kind::from_plural(group, plural)?;
    Some(Scope { kind, namespace: namespace.to_string(), name: name.map(|name| name.to_string()), query })
}

fn refuse(status: &Status) -> Reply {
    let value = serde_json::to_value(status).unwrap();
    let code = value["code"].as_u64().and_then(|code| StatusCode::from_u16(code as u16).ok());
    reply(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), value.to_string())
}

fn reply(code: StatusCode, body: String) -> Reply {
    Response::builder().status(code).body(Full::new(Bytes::from(body)).boxed()).unwrap()
}
