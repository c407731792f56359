//! Our side of the comparison: `POST` of small network sets to the TLS API with the admin's certificate.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;

use super::disk::RECORD;
use super::h2::{Connection, Credentials};
use super::load::Target;
use crate::node::Node;

/// Clients of a node's API.
pub struct ApiClients {
    connections: Vec<Connection>,
}

impl ApiClients {
    /// Opens `connections` to the node on this machine with its admin kubeconfig.
    ///
    /// # Panics
    /// When the kubeconfig is not there or the node refuses.
    pub async fn open(node: &Node, connections: usize) -> ApiClients {
        let kubeconfig = std::fs::read_to_string(node.kubeconfig()).expect("read the admin's kubeconfig");
        let pem = |key: &str| {
            let (_, value) = kubeconfig.split_once(&format!("{key}: ")).expect("a field of it");
            let value = value.split([',', '}', '\n']).next().unwrap_or_default().trim_matches('"');
            let text = STANDARD.decode(value).expect("base64");
            String::from_utf8(text).expect("PEM is text")
        };
        let (chain, key) = (pem("client-certificate-data"), pem("client-key-data"));
        let credentials = Credentials::new(&pem("certificate-authority-data"), Some((&chain, &key)));
        let address = SocketAddr::from(([127, 0, 0, 1], 6443));
        let mut opened = Vec::new();
        for _ in 0..connections {
            opened.push(Connection::open(address, "localhost", &credentials).await);
        }
        ApiClients { connections: opened }
    }
}

impl Target for ApiClients {
    async fn write(&self, client: usize, number: u64) -> bool {
        let request = Request::post("https://localhost:6443/apis/projectcalico.org/v3/globalnetworksets")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(set(number))))
            .expect("a request");
        let answer = self.connections[client % self.connections.len()].send(request).await;
        answer.is_some_and(|answer| answer.status() == StatusCode::CREATED)
    }
}

/// A network set whose text is as long as the value etcd is given.
fn set(number: u64) -> String {
    let text = |note: &str| {
        format!(
            "{{\"apiVersion\":\"projectcalico.org/v3\",\"kind\":\"GlobalNetworkSet\",\"metadata\":{{\"name\":\"set-{number:09}\",\
             \"annotations\":{{\"note\":\"{note}\"}}}},\"spec\":{{\"nets\":[\"10.1.2.0/24\"]}}}}"
        )
    };
    let bare = text("").len();
    text(&"x".repeat(RECORD.saturating_sub(bare)))
}
