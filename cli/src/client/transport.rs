//! Transport: opens a connection, to the Unix socket of the local node or to an address over TLS.
//!
//! It decides nothing about requests, nor whose turn it is. Certificates are always verified; there is no switch.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use super::Body;
use crate::config::{Connection, Credentials, Endpoint, Remote};
use crate::error::ClientError;

/// A node that does not accept within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where another can be asked: a host that is down answers nothing at all, and somebody is waiting.
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(2);

/// How to reach the API.
pub(super) enum Transport {
    Socket(std::path::PathBuf),
    Tls { remote: Remote, hosts: Vec<String>, config: Arc<ClientConfig> },
}

impl Transport {
    pub(super) fn new(connection: &Connection) -> Result<Transport, ClientError> {
        match connection {
            Connection::Socket(path) => Ok(Transport::Socket(path.clone())),
            Connection::Tls(remote) => {
                let config = Arc::new(tls_config(remote)?);
                let hosts = remote.endpoints.iter().map(address).collect();
                Ok(Transport::Tls { remote: remote.clone(), hosts, config })
            }
        }
    }

    /// How many servers there are; at least one.
    pub(super) fn servers(&self) -> usize {
        match self {
            Transport::Socket(_) => 1,
            Transport::Tls { hosts, .. } => hosts.len().max(1),
        }
    }

    /// What the Host header says at a server; beyond the last comes the first again.
    pub(super) fn host(&self, server: usize) -> &str {
        match self {
            Transport::Socket(_) => "localhost",
            Transport::Tls { hosts, .. } => hosts.get(server % self.servers()).map_or("", String::as_str),
        }
    }

    /// The bearer token, where that is what proves who we are.
    pub(super) fn token(&self) -> Option<&str> {
        match self {
            Transport::Tls { remote: Remote { credentials: Credentials::Token(token), .. }, .. } => {
                Some(token)
            }
            _ => None,
        }
    }

    /// Opens one connection to a server and speaks HTTP/1.1 over it.
    pub(super) async fn connect(&self, server: usize) -> Result<SendRequest<Body>, ClientError> {
        match self {
            Transport::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| socket_error(path, error))?;
                handshake(stream, "the socket").await
            }
            Transport::Tls { remote, config, .. } => {
                let servers = self.servers();
                let timeout = if servers > 1 { CONNECT_TIMEOUT_OF_SEVERAL } else { CONNECT_TIMEOUT };
                match remote.endpoints.get(server % servers) {
                    Some(endpoint) => connect_tls(remote, endpoint, config, timeout).await,
                    None => Err(ClientError::Credentials("no address of a node was given".to_string())),
                }
            }
        }
    }
}

fn address(endpoint: &Endpoint) -> String {
    let Endpoint { host, port } = endpoint;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn socket_error(path: &Path, error: io::Error) -> ClientError {
    match error.kind() {
        // A socket file that nobody listens on is what a killed node leaves behind.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ClientError::SocketAbsent(path.to_path_buf())
        }
        io::ErrorKind::PermissionDenied => ClientError::SocketDenied(path.to_path_buf()),
        _ => ClientError::Connect { address: path.display().to_string(), source: error },
    }
}

async fn connect_tls(
    remote: &Remote,
    endpoint: &Endpoint,
    config: &Arc<ClientConfig>,
    timeout: Duration,
) -> Result<SendRequest<Body>, ClientError> {
    let address = address(endpoint);
    let refused = |source| ClientError::Connect { address: address.clone(), source };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
    let stream = tokio::time::timeout(timeout, TcpStream::connect((endpoint.host.as_str(), endpoint.port)));
    let stream = stream.await.unwrap_or_else(|_| Err(late())).map_err(refused)?;
    let name = remote.server_name.clone().unwrap_or_else(|| endpoint.host.clone());
    let failed = |reason: String| ClientError::Tls { address: address.clone(), reason };
    let server = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
    let session = TlsConnector::from(config.clone()).connect(server, stream);
    match tokio::time::timeout(timeout, session).await {
        Ok(Ok(stream)) => handshake(stream, &address).await,
        Ok(Err(error)) => Err(failed(tls_reason(&error).unwrap_or_else(|| error.to_string()))),
        Err(_) => Err(refused(late())),
    }
}

async fn handshake<S>(stream: S, address: &str) -> Result<SendRequest<Body>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| {
        ClientError::Connect { address: address.to_string(), source: io::Error::other(error) }
    })?;
    // Ends with the sender. Its error reaches whoever waits for an answer, so nothing is lost by dropping it here.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

/// Verification against the cluster's own CA, and our certificate if we have one.
fn tls_config(remote: &Remote) -> Result<ClientConfig, ClientError> {
    let unusable =
        |what: &str, error: &dyn std::fmt::Display| ClientError::Credentials(format!("{what}: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&remote.ca) {
        let certificate = certificate.map_err(|error| unusable("the CA certificate", &error))?;
        roots.add(certificate).map_err(|error| unusable("the CA certificate", &error))?;
    }
    if roots.is_empty() {
        return Err(ClientError::Credentials("the CA file holds no certificate".to_string()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?
        .with_root_certificates(roots);
    match &remote.credentials {
        Credentials::Certificate { chain, key } => {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<_, _>>()
                .map_err(|error| unusable("the client certificate", &error))?;
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable("the client key", &error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("the client certificate", &error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// What TLS has to say, if an error has TLS behind it, in words that lead somewhere.
pub(super) fn tls_reason(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = error.downcast_ref::<rustls::Error>();
        if let Some(tls) = found.or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>())) {
            return Some(explain(tls));
        }
        next = error.source();
    }
    None
}

fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate is not signed by the CA in use; is this the kubeconfig of this cluster?"
            .to_string(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is not for the name it was asked by; use an address the node is known by"
            .to_string(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired; check the clocks of both hosts".to_string(),
        rustls::Error::AlertReceived(alert) => {
            format!("it refused our certificate ({alert:?}); is this the kubeconfig of this cluster?")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_asks_whether_the_node_runs_and_a_closed_one_asks_for_root() {
        let path = Path::new("/run/appliance/appliance.sock");
        let absent = socket_error(path, io::ErrorKind::NotFound.into()).to_string();
        assert!(absent.contains("is the node running?") && absent.contains("appliance run"), "{absent}");
        let denied = socket_error(path, io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(denied.contains("permission denied") && denied.contains("root"), "{denied}");
    }

    #[test]
    fn a_foreign_ca_is_named_as_such() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::new(io::ErrorKind::InvalidData, unknown);
        assert!(tls_reason(&error).unwrap().contains("not signed by the CA"));
        assert_eq!(tls_reason(&io::Error::other("x")), None);
    }

    #[test]
    fn an_empty_ca_is_refused_before_anything_is_sent() {
        let remote = Remote { ca: b"rubbish".to_vec(), ..Remote::default() };
        let error = tls_config(&remote).unwrap_err().to_string();
        assert_eq!(error, "the credentials can not be used: the CA file holds no certificate");
    }
}
