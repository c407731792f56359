//! etcd of Debian 12 with TLS and authorisation, spoken to in its own protocol: gRPC over HTTP/2.
//!
//! The two messages needed are written by hand; they are two fields each.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::disk::RECORD;
use super::h2::{Connection, Credentials};
use super::load::Target;
use crate::eventually::eventually_true;
use crate::netns::Namespace;

const PASSWORD: &str = "bench";

/// A running etcd, killed on drop.
pub struct Etcd {
    process: Child,
    ca: String,
}

/// Its clients: connections that share an authentication token.
pub struct EtcdClients {
    connections: Vec<Connection>,
    token: String,
}

impl Etcd {
    /// Starts one member with its data in `directory`, TLS and authorisation on.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(binary: &Path, namespace: &Namespace, directory: &Path) -> Etcd {
        let ca = certificates(directory);
        let mut command = Command::new(binary);
        let path = |name: &str| directory.join(name).display().to_string();
        command.args([
            "--name",
            "bench",
            "--data-dir",
            &path("etcd-data"),
            "--logger",
            "zap",
            "--log-level",
            "error",
        ]);
        command.args(["--listen-client-urls", "https://127.0.0.1:2379"]);
        command.args(["--advertise-client-urls", "https://127.0.0.1:2379"]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2390"]);
        command.args(["--initial-advertise-peer-urls", "http://127.0.0.1:2390"]);
        command.args(["--initial-cluster", "bench=http://127.0.0.1:2390"]);
        command.args(["--cert-file", &path("server.pem"), "--key-file", &path("server.key")]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = namespace.inside(|| command.spawn()).expect("start etcd");
        let etcd = Etcd { process, ca };
        etcd.authorise(namespace);
        etcd
    }

    /// Where it listens.
    #[must_use]
    pub fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 2379))
    }

    /// Its process, to measure.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Opens `connections` and logs in.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn clients(&self, connections: usize) -> EtcdClients {
        let credentials = Credentials::new(&self.ca, None);
        let mut opened = Vec::new();
        for _ in 0..connections {
            opened.push(Connection::open(Etcd::address(), "localhost", &credentials).await);
        }
        // AuthenticateRequest { 1: name, 2: password } → AuthenticateResponse { 1: header, 2: token }
        let mut message = BytesMut::new();
        field(&mut message, 1, b"root");
        field(&mut message, 2, PASSWORD.as_bytes());
        let request = grpc("/etcdserverpb.Auth/Authenticate", "", &message);
        let answer = opened[0].send(request).await.expect("an answer from etcd").into_body();
        EtcdClients { connections: opened, token: token(&answer) }
    }

    /// Creates the user `root` and switches authorisation on, through etcd's JSON gateway.
    fn authorise(&self, namespace: &Namespace) {
        let post = |path: &str, body: &str| {
            let url = format!("https://127.0.0.1:2379/v3/auth/{path}");
            let mut curl = Command::new("curl");
            curl.args(["-s", "-k", "-f", "-m", "5", "-d", body, &url]).stdout(Stdio::null());
            namespace.inside(|| curl.status()).is_ok_and(|status| status.success())
        };
        let user = format!("{{\"name\":\"root\",\"password\":\"{PASSWORD}\"}}");
        eventually_true("etcd to answer", || post("user/add", &user));
        assert!(post("role/add", "{\"name\":\"root\"}"), "etcd: add the role root");
        assert!(post("user/grant", "{\"user\":\"root\",\"role\":\"root\"}"), "etcd: grant the role root");
        assert!(post("enable", "{}"), "etcd: enable authorisation");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Target for EtcdClients {
    async fn write(&self, client: usize, number: u64) -> bool {
        // PutRequest { 1: key, 2: value }
        let mut message = BytesMut::with_capacity(RECORD + 64);
        field(&mut message, 1, format!("/bench/globalnetworksets/set-{number:09}").as_bytes());
        field(&mut message, 2, &[b'x'; RECORD]);
        let request = grpc("/etcdserverpb.KV/Put", &self.token, &message);
        let answer = self.connections[client % self.connections.len()].send(request).await;
        answer.is_some_and(|answer| answer.headers().get("grpc-status").is_some_and(|status| status == "0"))
    }
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

/// Makes a CA and a server certificate in `directory`; returns the CA.
fn certificates(directory: &Path) -> String {
    let mut authority = CertificateParams::new(vec!["bench".to_owned()]).expect("CA parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let server =
        CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("parameters");
    let server = server.signed_by(&key, &issuer).expect("a certificate");
    std::fs::write(directory.join("server.pem"), server.pem()).expect("write the certificate");
    std::fs::write(directory.join("server.key"), key.serialize_pem()).expect("write the key");
    issuer.pem()
}
