//! etcd of Debian 12 with TLS and authorisation, spoken to in its own protocol: gRPC over HTTP/2.
//!
//! The two messages needed are written by hand; they are two fields each.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::h2::{Connection, Credentials};
use super::load::Target;

/// Of the user `root`.
pub(crate) const PASSWORD: &str = "bench";

/// Clients of an etcd: connections that share an authentication token.
pub struct EtcdClients {
    connections: Vec<Connection>,
    token: String,
    size: usize,
}

impl EtcdClients {
    /// Opens `connections` to the members at these addresses in turn and logs in; records will have `size` bytes.
    ///
    /// # Panics
    /// When one refuses.
    pub async fn open(ca: &str, addresses: &[SocketAddr], connections: usize, size: usize) -> EtcdClients {
        let credentials = Credentials::new(ca, None);
        let mut opened = Vec::new();
        for number in 0..connections {
            opened
                .push(Connection::open(addresses[number % addresses.len()], "localhost", &credentials).await);
        }
        // AuthenticateRequest { 1: name, 2: password } → AuthenticateResponse { 1: header, 2: token }
        let mut message = BytesMut::new();
        field(&mut message, 1, b"root");
        field(&mut message, 2, PASSWORD.as_bytes());
        let request = grpc("/etcdserverpb.Auth/Authenticate", "", &message);
        let answer = opened[0].send(request).await.expect("an answer from etcd").into_body();
        EtcdClients { connections: opened, token: token(&answer), size }
    }

    /// Whether a member answers for itself; the question needs no login.
    pub async fn answers(connection: &Connection) -> bool {
        let request = grpc("/etcdserverpb.Maintenance/Status", "", &[]);
        connection.send(request).await.is_some_and(|answer| succeeded(&answer))
    }

    /// Begins a watch of what comes from now on.
    pub async fn watch(&self, client: usize) -> Option<Response<Incoming>> {
        // WatchRequest { 1: WatchCreateRequest { 1: key, 2: range_end } }
        let (mut create, mut message) = (BytesMut::new(), BytesMut::new());
        field(&mut create, 1, b"/bench/");
        field(&mut create, 2, b"/bench0");
        field(&mut message, 1, &create);
        let request = grpc("/etcdserverpb.Watch/Watch", &self.token, &message);
        self.connections[client % self.connections.len()].stream(request).await
    }
}

impl Target for EtcdClients {
    async fn write(&self, client: usize, number: u64) -> bool {
        // PutRequest { 1: key, 2: value }
        let mut message = BytesMut::with_capacity(self.size + 64);
        field(&mut message, 1, format!("/bench/globalnetworksets/set-{number:09}").as_bytes());
        field(&mut message, 2, &vec![b'x'; self.size]);
        let request = grpc("/etcdserverpb.KV/Put", &self.token, &message);
        let answer = self.connections[client % self.connections.len()].send(request).await;
        answer.is_some_and(|answer| succeeded(&answer))
    }

    async fn read(&self, client: usize, number: u64) -> bool {
        // RangeRequest { 1: key }
        let mut message = BytesMut::new();
        field(&mut message, 1, format!("/bench/globalnetworksets/set-{number:09}").as_bytes());
        let request = grpc("/etcdserverpb.KV/Range", &self.token, &message);
        let answer = self.connections[client % self.connections.len()].send(request).await;
        // An answer without the value is shorter than the key.
        answer.is_some_and(|answer| succeeded(&answer) && answer.body().len() > 64)
    }
}

fn succeeded(answer: &Response<Bytes>) -> bool {
    answer.headers().get("grpc-status").is_some_and(|status| status == "0")
}

fn grpc(path: &str, token: &str, message: &[u8]) -> Request<Full<Bytes>> {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("a short message"));
    framed.put_slice(message);
    let mut request = Request::post(format!("https://localhost:2379{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if !token.is_empty() {
        request = request.header("token", token);
    }
    request.body(Full::new(framed.freeze())).expect("a request")
}

/// Appends a length-delimited protobuf field.
fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.put_u8(length as u8);
    message.put_slice(bytes);
}

/// Field 2 of an `AuthenticateResponse`, behind gRPC's five bytes of framing.
fn token(answer: &[u8]) -> String {
    let mut rest = answer.get(5..).expect("a gRPC message from etcd: was the password refused?");
    while let [tag, length, more @ ..] = rest {
        let (value, after) = more.split_at(usize::from(*length));
        if tag >> 3 == 2 {
            return String::from_utf8(value.to_vec()).expect("a token of letters");
        }
        rest = after;
    }
    panic!("etcd's answer carries no token")
}
