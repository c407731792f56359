//! What we ask of the host itself: its name, its kernel, its address, and leave to open files.
//!
//! Every function is one question and holds no state. Nothing here is asked twice: `server` asks at start and passes
//! the answers on as values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Documentation addresses (RFC 5737, RFC 3849): certain to be routed by the default route, certain to be nobody.
const FAR_AWAY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Discard: any port will do, since nothing is sent.
const ANY_PORT: u16 = 9;

/// Enough for every connection we accept, the store and the kernel's sockets, with room to spare.
const OPEN_FILES: u64 = 16_384;

/// What the host calls itself, as it stands.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The running kernel, as in `Linux 6.1.0-18-amd64`.
pub(crate) fn kernel() -> String {
    let uname = rustix::system::uname();
    format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy())
}

/// The addresses of the default route's interface, IPv4 before IPv6; empty on a host without a default route.
pub(crate) fn default_route_addresses() -> Vec<IpAddr> {
    FAR_AWAY.into_iter().filter_map(source_towards).collect()
}

/// The address this host would speak from. Connecting a UDP socket sends nothing: the kernel only looks up the route.
fn source_towards(far: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = match far {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((far, ANY_PORT)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Raises the soft limit on open files, which many hosts leave at 1,024 for the sake of programs that use `select`.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit on open files stays at {:?}: {error}", limit.current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_name_and_a_kernel() {
        assert!(!name().is_empty());
        assert!(kernel().starts_with("Linux "));
    }

    #[test]
    fn an_address_found_is_one_that_others_could_reach() {
        for address in default_route_addresses() {
            assert!(!address.is_loopback() && !address.is_unspecified(), "{address}");
        }
    }
}
