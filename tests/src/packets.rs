//! Real packets: listeners that echo, and attempts that say whether a packet got through and back.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::netns::Namespace;

/// How long an attempt waits before it counts as dropped. A LAN of veth pairs answers in well under a millisecond, but a
/// first packet lost on a busy machine, or its ARP or neighbour question, is sent again only after a second.
pub const ATTEMPT: Duration = Duration::from_millis(1_200);

/// How often a listener looks whether it should stop.
const BREATH: Duration = Duration::from_millis(20);

const GREETING: &[u8] = b"through?";

/// TCP and UDP echo on ports of a namespace, both families, until dropped.
pub struct Listeners {
    stop: Arc<AtomicBool>,
}

impl Listeners {
    /// Listens on all of `ports`, TCP and UDP, IPv4 and IPv6.
    ///
    /// # Panics
    /// When a port is taken.
    #[must_use]
    pub fn new(namespace: &Namespace, ports: &[u16]) -> Listeners {
        let stop = Arc::new(AtomicBool::new(false));
        namespace.inside(|| {
            for &port in ports {
                // Linux serves IPv4 on a socket bound to :: as well, so one of each kind is enough.
                let any = (Ipv6Addr::UNSPECIFIED, port);
                echo_tcp(TcpListener::bind(any).expect("listen on a TCP port"), Arc::clone(&stop));
                echo_udp(UdpSocket::bind(any).expect("bind a UDP port"), Arc::clone(&stop));
            }
        });
        Listeners { stop }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether a new TCP connection from `from` is answered with data both ways.
#[must_use]
pub fn tcp(from: &Namespace, to: IpAddr, port: u16) -> bool {
    from.inside(|| tcp_here(SocketAddr::new(to, port)).is_ok())
}

/// Whether a UDP datagram from a new socket in `from` is echoed.
#[must_use]
pub fn udp(from: &Namespace, to: IpAddr, port: u16) -> bool {
    from.inside(|| udp_here(SocketAddr::new(to, port)).is_ok())
}

/// Whether one ping is answered.
#[must_use]
pub fn ping(from: &Namespace, to: IpAddr) -> bool {
    let mut command = from.command("ping");
    let command = command.args(["-c", "1", "-W", "1", "-q", &to.to_string()]);
    command.output().is_ok_and(|output| output.status.success())
}

/// A TCP connection that stays open, to see whether policy lets established flows live.
///
/// # Errors
/// When it cannot be opened.
pub fn open(from: &Namespace, to: IpAddr, port: u16) -> io::Result<TcpStream> {
    from.inside(|| {
        let stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), ATTEMPT)?;
        stream.set_read_timeout(Some(ATTEMPT))?;
        Ok(stream)
    })
}

/// Whether an open connection still carries data both ways.
#[must_use]
pub fn alive(stream: &mut TcpStream) -> bool {
    converse(stream).is_ok()
}

fn tcp_here(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    converse(&mut stream)
}

fn converse(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(GREETING)?;
    let mut answer = [0; GREETING.len()];
    stream.read_exact(&mut answer)
}

fn udp_here(to: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(ATTEMPT))?;
    socket.connect(to)?;
    socket.send(GREETING)?;
    socket.recv(&mut [0; GREETING.len()]).map(drop)
}

fn echo_tcp(listener: TcpListener, stop: Arc<AtomicBool>) {
    listener.set_nonblocking(true).expect("set a listener non-blocking");
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    thread::spawn(move || echo_stream(stream));
                }
                Err(_) => thread::sleep(BREATH),
            }
        }
    });
}

fn echo_stream(mut stream: TcpStream) {
    let _ = stream.set_nonblocking(false);
    let mut buffer = [0; 512];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

fn echo_udp(socket: UdpSocket, stop: Arc<AtomicBool>) {
    socket.set_read_timeout(Some(BREATH)).expect("set a socket's time limit");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((read, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..read], from);
            }
        }
    });
}
