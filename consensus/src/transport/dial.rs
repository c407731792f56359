//! Dial: from an address to a line on which both sides know whom they speak with.
//!
//! TCP, TLS, the certificate's member, then a hello each way, all within one bound of time. Either side may refuse,
//! and then both know why.

use std::{io, net::SocketAddr, time::Duration};

use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, TlsStream};

use super::{
    frame::Kind,
    hello::{HELLO_BYTES_MAX, Hello, Purpose, Refusal, judge_dialled},
    identity::{SERVER_NAME, no_tls},
    line::{Line, LineError},
    shared::{Shared, identity},
};

/// TCP asks again after one second; who has not answered then is tried again later, perhaps by another address.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// From the first packet to the last word of the hellos.
pub(crate) const HELLO_MAX: Duration = Duration::from_secs(5);

/// Addresses tried of one name.
const RESOLVED_MAX: usize = 4;

/// Bytes the kernel holds for us, on their way and not acknowledged yet: what a fast network needs.
const SEND_BUFFER_BYTES: u32 = 512 * 1_024;

/// Bytes of these that it has not sent yet. What is urgent waits behind them and the write before it, a second on a line
/// of one megabit; and every append that arrives there meanwhile tells a follower as well that its leader lives.
const UNSENT_BYTES: u32 = 64 * 1_024;

/// Why a peer could not be spoken to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Connect(io::Error),
    #[error("{}", no_tls(.0))]
    Tls(io::Error),
    #[error("no answer within {HELLO_MAX:?}")]
    Timeout,
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("what answers is no peer")]
    NotPeer,
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("not spoken to: {0}")]
    Refusing(Refusal),
}

/// A line that is ready for use, and what the other side said of itself.
pub(crate) struct Dialled {
    pub(crate) line: Line,
    pub(crate) hello: Hello,
}

/// Dials one address, at which `member` is said to be.
pub(crate) async fn dial(
    shared: &Shared,
    member: u64,
    address: &str,
    purpose: Purpose,
) -> Result<Dialled, DialError> {
    let dialled = timeout(HELLO_MAX, dial_patiently(shared, member, address, purpose)).await;
    let dialled = dialled.map_err(|_| DialError::Timeout)?;
    if let Err(DialError::Refused(Refusal::Removed)) = dialled {
        // Whoever says so has shown the certificate of the member we meant.
        shared.we_are_removed(member);
    }
    dialled
}

async fn dial_patiently(
    shared: &Shared,
    member: u64,
    address: &str,
    purpose: Purpose,
) -> Result<Dialled, DialError> {
    let stream = connect(address).await.map_err(DialError::Connect)?;
    let connector = TlsConnector::from(shared.tls.borrow().client.clone());
    let name = ServerName::try_from(SERVER_NAME).map_err(|error| DialError::Tls(io::Error::other(error)))?;
    let stream = connector.connect(name, stream).await.map_err(DialError::Tls)?;
    let shown = identity(stream.get_ref().1.peer_certificates());
    let mut line = Line::new(TlsStream::from(stream));
    if let Err(refusal) = judge_dialled(shown, shared.us, member) {
        refusal.write(line.writer.out());
        // The other side logs it too, if it hears it.
        let _ = line.writer.flush().await;
        line.writer.close().await;
        return Err(DialError::Refusing(refusal));
    }
    shared.hello(member, purpose).write(line.writer.out());
    line.writer.flush().await?;
    let answer = line.reader.frame(HELLO_BYTES_MAX).await?;
    match answer.kind {
        Kind::Refusal => Err(DialError::Refused(Refusal::read(&answer.body))),
        Kind::Hello => {
            let hello = Hello::read(&answer).map_err(|_| DialError::NotPeer)?;
            if hello.from != member || hello.to != shared.us.member || hello.cluster != shared.us.cluster {
                return Err(DialError::NotPeer);
            }
            Ok(Dialled { line, hello })
        }
        _ => Err(DialError::NotPeer),
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let resolved =
        timeout(CONNECT_MAX, lookup_host(address)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolved.take(RESOLVED_MAX) {
        match timeout(CONNECT_MAX, connect_to(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES)?;
    let stream = socket.connect(address).await?;
    // What is written goes out at once; batches are made before, not by the kernel.
    stream.set_nodelay(true)?;
    Ok(stream)
}
