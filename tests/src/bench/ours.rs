//! Our side of the comparison: `POST` of small network sets to the TLS API with the admin's certificate.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::disk::RECORD;
use super::h2::{Connection, Credentials};
use super::load::Target;
use crate::node::Node;

/// Clients of a cluster's API.
pub struct ApiClients {
    connections: Vec<Connection>,
    size: usize,
}

const SETS: &str = "https://localhost:6443/apis/projectcalico.org/v3/globalnetworksets";

impl ApiClients {
    /// Opens `connections` to the node on this machine with its admin kubeconfig.
    ///
    /// # Panics
    /// When the kubeconfig is not there or the node refuses.
    pub async fn open(node: &Node, connections: usize) -> ApiClients {
        let address = SocketAddr::from(([127, 0, 0, 1], 6443));
        ApiClients::open_at(&credentials(node), &[address], connections, RECORD).await
    }

    /// Opens `connections` to the members at these addresses in turn; records will have `size` bytes.
    ///
    /// # Panics
    /// When one refuses.
    pub async fn open_at(
        credentials: &Credentials,
        addresses: &[SocketAddr],
        connections: usize,
        size: usize,
    ) -> ApiClients {
        let mut opened = Vec::new();
        for number in 0..connections {
            opened
                .push(Connection::open(addresses[number % addresses.len()], "localhost", credentials).await);
        }
        ApiClients { connections: opened, size }
    }

    /// Writes a record and answers the revision that made it.
    pub async fn write_at(&self, number: u64) -> Option<u64> {
        let answer = self.connections[0].send(create(number, self.size)).await?;
        let object: serde_json::Value = serde_json::from_slice(answer.body()).ok()?;
        object["metadata"]["resourceVersion"].as_str()?.parse().ok()
    }

    /// Whether a node answers from what it has.
    pub async fn answers(connection: &Connection) -> bool {
        let request = Request::get(format!("{SETS}/set-000000000?resourceVersion=0"));
        let answer = connection.send(request.body(Full::default()).expect("a request")).await;
        answer.is_some_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Begins a watch after a revision.
    pub async fn watch(&self, client: usize, after: u64) -> Option<Response<Incoming>> {
        let request = Request::get(format!("{SETS}?watch=1&resourceVersion={after}"));
        let request = request.body(Full::default()).expect("a request");
        self.connections[client % self.connections.len()].stream(request).await
    }
}

/// The admin's, from the kubeconfig that a node wrote.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn credentials(node: &Node) -> Credentials {
    let kubeconfig = std::fs::read_to_string(node.kubeconfig()).expect("read the admin's kubeconfig");
    let pem = |key: &str| {
        let (_, value) = kubeconfig.split_once(&format!("{key}: ")).expect("a field of it");
        let value = value.split([',', '}', '\n']).next().unwrap_or_default().trim_matches('"');
        let text = STANDARD.decode(value).expect("base64");
        String::from_utf8(text).expect("PEM is text")
    };
    let (chain, key) = (pem("client-certificate-data"), pem("client-key-data"));
    Credentials::new(&pem("certificate-authority-data"), Some((&chain, &key)))
}

impl Target for ApiClients {
    async fn write(&self, client: usize, number: u64) -> bool {
        let answer = self.connections[client % self.connections.len()].send(create(number, self.size)).await;
        answer.is_some_and(|answer| answer.status() == StatusCode::CREATED)
    }

    async fn read(&self, client: usize, number: u64) -> bool {
        let request = Request::get(format!("{SETS}/set-{number:09}"));
        let request = request.body(Full::default()).expect("a request");
        let answer = self.connections[client % self.connections.len()].send(request).await;
        answer.is_some_and(|answer| answer.status() == StatusCode::OK)
    }
}

fn create(number: u64, size: usize) -> Request<Full<Bytes>> {
    let request = Request::post(SETS).header("content-type", "application/json");
    request.body(Full::new(Bytes::from(set(number, size)))).expect("a request")
}

/// A network set whose text is as long as the value etcd is given.
fn set(number: u64, size: usize) -> String {
    let text = |note: &str| {
        format!(
            "{{\"apiVersion\":\"projectcalico.org/v3\",\"kind\":\"GlobalNetworkSet\",\"metadata\":{{\"name\":\"set-{number:09}\",\
             \"annotations\":{{\"note\":\"{note}\"}}}},\"spec\":{{\"nets\":[\"10.1.2.0/24\"]}}}}"
        )
    };
    let bare = text("").len();
    text(&"x".repeat(size.saturating_sub(bare)))
}
