//! Listeners: the two doors of the API, TLS for the network and a Unix socket for root.
//!
//! A listener finds out who is at the door and hands the connection to `connection`. Both are bound before anything
//! else is opened, so that a port already taken is the first thing an operator hears; they accept once the store
//! serves. Each door has its own bound: however many clients the network sends, root gets in.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustls::{AlertDescription, ServerConfig};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::api::Api;
use crate::api::caller::{Caller, Identity, Proof, Role};
use crate::api::respond::Refusal;
use crate::connection;
use crate::loudness::Loudness;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::tls;

/// Connections over TLS at a time: every node of a large cluster and its operators; more wait in the backlog.
const TLS_CONNECTIONS_MAX: usize = 2_048;

/// Of these, so many without a client's certificate: however many strangers come, and whoever has only a token, those
/// with a certificate find room.
const UNCERTIFIED_CONNECTIONS_MAX: usize = TLS_CONNECTIONS_MAX / 2;

/// Connections over the Unix socket at a time: root's own tools.
const UNIX_CONNECTIONS_MAX: usize = 128;

/// Connections the kernel completes for us before we accept them.
const BACKLOG: i32 = 1_024;

/// A handshake that takes longer is not going to end: slow lines need one second, not ten.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// After a failed accept (out of files, out of memory) the next one is tried when some connection may have ended.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Requests under way get this long to finish when the node stops; watches never would.
const DRAIN: Duration = Duration::from_secs(2);

/// The socket's name in the run directory.
const SOCKET: &str = "appliance.sock";

/// Why a door could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "{what} address {address}: already in use by another process; stop that one, or choose another with {setting}"
    )]
    Taken { what: &'static str, address: SocketAddr, setting: &'static str },
    #[error("{what} address {address}: can not be listened on: {source}; choose another with {setting}")]
    Tcp { what: &'static str, address: SocketAddr, setting: &'static str, source: io::Error },
    #[error(
        "socket {path}: another appliance answers there; stop it, or name another directory with --run-dir"
    )]
    Answered { path: PathBuf },
    #[error("run directory {path}: {attempt}: {source}; make it writable or name another with --run-dir")]
    RunDirectory { path: PathBuf, attempt: &'static str, source: io::Error },
}

/// The API's door to the network, bound and not yet accepting.
#[derive(Debug)]
pub(crate) struct TlsListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// The API's door for root, bound and not yet accepting; the socket is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct RootListener {
    listener: UnixListener,
    path: PathBuf,
}

impl TlsListener {
    /// Binds the address.
    pub(crate) fn bind(wanted: SocketAddr) -> Result<TlsListener, ListenError> {
        let (listener, address) = bind("API", wanted, "--api-listen")?;
        Ok(TlsListener { listener, address })
    }

    /// Where it listens; the port is the kernel's choice when zero was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until shutdown, then gives the requests under way a moment. Each connection gets the configuration of
    /// the moment it comes, so that certificates renew and authorities change without a restart.
    pub(crate) async fn serve(
        self,
        config: watch::Receiver<Arc<ServerConfig>>,
        api: Arc<Api>,
        metrics: Arc<Metrics>,
        mut shutdown: Shutdown,
    ) {
        let mut door = Door::new(TLS_CONNECTIONS_MAX);
        let uncertified = Arc::new(Semaphore::new(UNCERTIFIED_CONNECTIONS_MAX));
        let loudness = Arc::new(Loudness::default());
        loop {
            let accepted = tokio::select! {
                permit = door.permit() => tokio::select! {
                    accepted = self.listener.accept() => accepted.map(|(stream, peer)| (permit, stream, peer)),
                    () = shutdown.requested() => break,
                },
                () = shutdown.requested() => break,
            };
            let Some((permit, stream, peer)) = accepted_or_pause(accepted).await else { continue };
            let acceptor = TlsAcceptor::from(config.borrow().clone());
            let (api, shutdown, uncertified) = (api.clone(), shutdown.clone(), uncertified.clone());
            let (open, loudness) = (metrics.connection("tls"), loudness.clone());
            door.connections.spawn(async move {
                let _held = (permit, open);
                if let Some(stream) = shake_hands(acceptor, stream, peer, &loudness).await {
                    serve_tls(stream, peer, uncertified, api, shutdown).await;
                }
            });
        }
        drop(self.listener);
        door.drain().await;
    }

    /// Accepts, and refuses whatever is asked, for as long as it is not dropped.
    pub(crate) async fn turn_away(&self, config: Arc<ServerConfig>, refusal: &Refusal) -> Infallible {
        let mut door = Door::new(UNCERTIFIED_CONNECTIONS_MAX);
        let loudness = Arc::new(Loudness::default());
        loop {
            let permit = door.permit().await;
            let accepted = accepted_or_pause(self.listener.accept().await).await;
            let Some((stream, peer)) = accepted else { continue };
            let (acceptor, refusal) = (TlsAcceptor::from(config.clone()), refusal.clone());
            let loudness = loudness.clone();
            door.connections.spawn(async move {
                let _held = permit;
                if let Some(stream) = shake_hands(acceptor, stream, peer, &loudness).await {
                    connection::turn_away(stream, refusal).await;
                }
            });
        }
    }
}

/// Binds the door for other members, which the transport opens. The port is the kernel's choice when zero was asked
/// for.
pub(crate) fn bind_peers(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    bind("peer", wanted, "--peer-listen")
}

/// `[::]` takes IPv4 as well, and on a host without IPv6 becomes `0.0.0.0`.
fn bind(
    what: &'static str,
    wanted: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listener = match bind_tcp(wanted) {
        Err(error) if wanted.ip().is_unspecified() && lacks_ipv6(&error) => {
            bind_tcp((Ipv4Addr::UNSPECIFIED, wanted.port()).into())
        }
        bound => bound,
    };
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { what, address: wanted, setting },
        _ => ListenError::Tcp { what, address: wanted, setting, source },
    };
    let listener = listener.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

impl RootListener {
    /// Makes the run directory and the socket in it. A socket nobody answers on is what a killed process left behind.
    pub(crate) async fn bind(run_dir: &Path) -> Result<RootListener, ListenError> {
        let failed =
            |attempt| move |source| ListenError::RunDirectory { path: run_dir.to_owned(), attempt, source };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(run_dir)
            .map_err(failed("can not be made"))?;
        let path = run_dir.join(SOCKET);
        if UnixStream::connect(&path).await.is_ok() {
            return Err(ListenError::Answered { path });
        }
        // Made under another name, narrowed, then renamed: nobody finds it with a wider mode, not for a moment.
        let making = run_dir.join(format!("{SOCKET}.new"));
        remove(&making).map_err(failed("a left-over socket can not be removed"))?;
        let listener = UnixListener::bind(&making).map_err(failed("can not hold a socket"))?;
        std::fs::set_permissions(&making, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&making, &path))
            .map_err(failed("can not hold a socket"))?;
        Ok(RootListener { listener, path })
    }

    /// The socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts until shutdown, then gives the requests under way a moment.
    pub(crate) async fn serve(self, api: Arc<Api>, metrics: Arc<Metrics>, mut shutdown: Shutdown) {
        let mut door = Door::new(UNIX_CONNECTIONS_MAX);
        loop {
            let accepted = tokio::select! {
                permit = door.permit() => tokio::select! {
                    accepted = self.listener.accept() => accepted.map(|(stream, _)| (permit, stream)),
                    () = shutdown.requested() => break,
                },
                () = shutdown.requested() => break,
            };
            let Some((permit, stream)) = accepted_or_pause(accepted).await else { continue };
            let caller = local_caller(&stream);
            let (api, shutdown) = (api.clone(), shutdown.clone());
            let open = metrics.connection("unix");
            door.connections.spawn(async move {
                let _held = (permit, open);
                connection::serve(stream, caller, api, shutdown).await;
            });
        }
        door.drain().await;
    }

    /// Accepts, and refuses whatever is asked, for as long as it is not dropped.
    pub(crate) async fn turn_away(&self, refusal: &Refusal) -> Infallible {
        let mut door = Door::new(UNIX_CONNECTIONS_MAX);
        loop {
            let permit = door.permit().await;
            let accepted = accepted_or_pause(self.listener.accept().await).await;
            let Some((stream, _)) = accepted else { continue };
            let refusal = refusal.clone();
            door.connections.spawn(async move {
                let _held = permit;
                connection::turn_away(stream, refusal).await;
            });
        }
    }
}

impl Drop for RootListener {
    fn drop(&mut self) {
        // The next start would remove it as well; this spares `ctl` a refused connection meanwhile.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The connections behind one listener.
struct Door {
    permits: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl Door {
    fn new(connections_max: usize) -> Door {
        Door { permits: Arc::new(Semaphore::new(connections_max)), connections: JoinSet::new() }
    }

    /// Waits for room; meanwhile, and while it waits, forgets connections that ended.
    async fn permit(&mut self) -> Option<OwnedSemaphorePermit> {
        while self.connections.try_join_next().is_some() {}
        // The semaphore is never closed, so there is always a permit in the end.
        self.permits.clone().acquire_owned().await.ok()
    }

    async fn drain(mut self) {
        let all_ended = async { while self.connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all_ended).await.is_err() {
            self.connections.shutdown().await;
        }
    }
}

async fn serve_tls(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    uncertified: Arc<Semaphore>,
    api: Arc<Api>,
    shutdown: Shutdown,
) {
    let certificates = stream.get_ref().1.peer_certificates();
    let (identity, member, proof) =
        (tls::identity(certificates), tls::member(certificates), tls::proof(certificates));
    let address = peer.ip().to_canonical().to_string();
    let _room = match (&identity, uncertified.try_acquire_owned()) {
        (Identity::Anonymous, Err(_)) => {
            return tracing::debug!("no room for {peer}: too many connections without a certificate");
        }
        (Identity::Anonymous, Ok(room)) => Some(room),
        (Identity::User { .. }, _) => None,
    };
    connection::serve(stream, Caller { identity, address, member, proof }, api, shutdown).await;
}

/// The connection inside TLS; nothing when it does not come to that.
async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    loudness: &Loudness,
) -> Option<TlsStream<TcpStream>> {
    // Small answers must not wait for an acknowledgement, and a peer that lost its power must be noticed.
    let tuned = stream.set_nodelay(true).and_then(|()| Ok(sockopt::set_socket_keepalive(&stream, true)?));
    if let Err(error) = tuned {
        tracing::debug!("connection from {peer}: {error}");
        return None;
    }
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => match distrust(&error).filter(|_| loudness.allows()) {
            Some(alert) => tracing::warn!(
                "{} does not trust this node's certificate ({alert:?}): {}",
                peer.ip().to_canonical(),
                presumably(alert)
            ),
            None => tracing::debug!("no TLS with {peer}: {error}"),
        },
        Err(_) => tracing::debug!("no TLS with {peer} within {HANDSHAKE_TIMEOUT:?}"),
    }
    None
}

/// What the other side said, if it was that it does not believe us.
fn distrust(error: &io::Error) -> Option<AlertDescription> {
    use AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, UnknownCA};
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(
            alert @ (BadCertificate | CertificateExpired | CertificateUnknown | UnknownCA),
        ) => Some(*alert),
        _ => None,
    }
}

/// Why somebody does not believe us, as far as what they said tells.
fn presumably(alert: AlertDescription) -> &'static str {
    match alert {
        // Also said of one that is yet to begin.
        AlertDescription::CertificateExpired => {
            "by its clock that is not valid now, so its clock or this host's is wrong; \"appliance ctl cluster status\" says when \
             this node's certificate ends"
        }
        _ => "it knows another authority, or has a join token of another cluster",
    }
}

/// Who is at the other end of a Unix socket, by the kernel's word: root, or whoever runs the node and so owns its data
/// directory. Nobody else gets past the socket's mode; if somebody does, the API knows nothing of them.
fn local_caller(stream: &UnixStream) -> Caller {
    let Ok(peer) = stream.peer_cred() else {
        let (identity, address) = (Identity::Anonymous, "unix".to_owned());
        return Caller { identity, address, member: None, proof: Proof::Connection };
    };
    let address = format!("unix:{}", peer.uid());
    let ours = rustix::process::geteuid().as_raw();
    let identity = match peer.uid() {
        0 => Identity::User { name: "root".to_owned(), role: Role::Admin },
        uid if uid == ours => Identity::User { name: format!("uid:{uid}"), role: Role::Admin },
        _ => Identity::Anonymous,
    };
    Caller { identity, address, member: None, proof: Proof::Connection }
}

async fn accepted_or_pause<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!("could not accept a connection: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart must not wait for the connections of the process before it to be forgotten.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Whatever the host's default: `[::]` means both families.
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(std::net::TcpListener::from(socket))
}

/// IPv6 switched off shows as either, depending on how it was switched off.
fn lacks_ipv6(error: &io::Error) -> bool {
    let code = rustix::io::Errno::from_io_error(error);
    matches!(code, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_already_taken_is_named_with_what_to_do() {
        let first = TlsListener::bind("127.0.0.1:0".parse().expect("address")).expect("bound");
        let refusal = TlsListener::bind(first.address()).expect_err("taken").to_string();
        assert!(
            refusal.starts_with(&format!("API address {}: already in use", first.address())),
            "{refusal}"
        );
        assert!(refusal.contains("--api-listen"), "{refusal}");
    }

    #[tokio::test]
    async fn any_address_takes_both_families() {
        let any = TlsListener::bind("[::]:0".parse().expect("address")).expect("bound");
        TcpStream::connect((Ipv4Addr::LOCALHOST, any.address().port())).await.expect("IPv4 connects");
    }

    #[tokio::test]
    async fn the_socket_is_private_and_a_second_node_is_refused() {
        let directory = tempfile::tempdir().expect("tempdir");
        let run_dir = directory.path().join("run");
        let first = RootListener::bind(&run_dir).await.expect("bound");
        let mode = std::fs::metadata(first.path()).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let refusal = RootListener::bind(&run_dir).await.expect_err("answered").to_string();
        assert!(refusal.contains("another appliance answers there"), "{refusal}");
    }

    #[tokio::test]
    async fn a_socket_left_by_a_killed_process_is_replaced() {
        let directory = tempfile::tempdir().expect("tempdir");
        let dead = UnixListener::bind(directory.path().join(SOCKET)).expect("bound");
        drop(dead);
        let again = RootListener::bind(directory.path()).await.expect("bound again");
        UnixStream::connect(again.path()).await.expect("answers");
    }

    #[test]
    fn whose_clock_is_wrong_is_not_told_of_another_cluster() {
        assert!(presumably(AlertDescription::CertificateExpired).contains("clock"));
        assert!(presumably(AlertDescription::UnknownCA).contains("join token of another cluster"));
        // What rustls says of a certificate that is yet to begin, as to a joiner whose clock is years behind.
        let early = AlertDescription::from(rustls::CertificateError::NotValidYet);
        assert_eq!(early, AlertDescription::CertificateExpired);
    }

    #[tokio::test]
    async fn the_kernel_says_who_is_local() {
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let caller = local_caller(&ours);
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(caller.address, format!("unix:{uid}"));
        assert!(matches!(caller.identity, Identity::User { role: Role::Admin, .. }));
    }
}
