//! HTTP/2 connections over TLS: the same client for both sides of a comparison, so that it cancels out.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One connection; requests share it.
#[derive(Clone)]
pub struct Connection(SendRequest<Full<Bytes>>);

/// Whom to trust, and who we are.
#[derive(Clone)]
pub struct Credentials(Arc<ClientConfig>);

impl Credentials {
    /// Trusts one CA; with a client certificate where one is given (certificate chain, then key, as PEM).
    ///
    /// # Panics
    /// When the PEM is not what it should be: it is our own making.
    #[must_use]
    pub fn new(ca: &str, client: Option<(&str, &str)>) -> Credentials {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("a CA certificate"))
            .expect("a trust anchor");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots);
        let mut config = match client {
            Some((chain, key)) => {
                let chain =
                    CertificateDer::pem_slice_iter(chain.as_bytes()).map(|pem| pem.expect("a certificate"));
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain.collect(), key).expect("a client certificate")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Credentials(Arc::new(config))
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When the other side does not answer: there is nothing to measure then.
    pub async fn open(address: SocketAddr, name: &'static str, credentials: &Credentials) -> Connection {
        Connection::try_open(address, name, credentials).await.expect("a connection")
    }

    /// Connects, if the other side answers.
    pub async fn try_open(
        address: SocketAddr,
        name: &'static str,
        credentials: &Credentials,
    ) -> Option<Connection> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let name = ServerName::try_from(name).ok()?;
        let tls = TlsConnector::from(Arc::clone(&credentials.0)).connect(name, stream).await.ok()?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await.ok()?;
        tokio::spawn(connection);
        Some(Connection(sender))
    }

    /// Sends one request whose answer goes on; `None` when the connection broke.
    pub async fn stream(&self, request: Request<Full<Bytes>>) -> Option<Response<Incoming>> {
        let mut sender = self.0.clone();
        sender.ready().await.ok()?;
        sender.send_request(request).await.ok()
    }

    /// Sends one request and reads the whole answer; `None` when the connection broke.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Option<Response<Bytes>> {
        let mut sender = self.0.clone();
        sender.ready().await.ok()?;
        let (mut head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?;
        if let Some(trailers) = body.trailers() {
            head.headers.extend(trailers.clone());
        }
        Some(Response::from_parts(head, body.to_bytes()))
    }
}
