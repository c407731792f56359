//! Tells systemd, when it started us, that the node serves, or that it is on its way out. Elsewhere nobody listens and
//! nothing happens. The protocol is one datagram to the socket named in `NOTIFY_SOCKET` (sd_notify(3)).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The node serves.
pub(crate) const READY: &str = "READY=1";

/// The node stops.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Sends one state; a failure is worth a line, never more: the node does its work whether systemd knows or not.
pub(crate) fn notify(state: &str) {
    let Some(socket) = env::var("NOTIFY_SOCKET").ok().filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("could not tell systemd {state}: {error}");
    }
}

fn send(socket: &str, state: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_arrives_whatever_kind_of_socket() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("notify");
        let named = UnixDatagram::bind(&path).expect("bound");
        let hidden = format!("appliance-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&hidden).expect("name");
        let unnamed = UnixDatagram::bind_addr(&address).expect("bound");

        for (receiver, socket) in [(named, path.display().to_string()), (unnamed, format!("@{hidden}"))] {
            send(&socket, READY).expect("sent");
            let mut datagram = [0; 32];
            let length = receiver.recv(&mut datagram).expect("received");
            assert_eq!(&datagram[..length], READY.as_bytes());
        }
    }
}
