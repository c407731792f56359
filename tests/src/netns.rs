//! Hosts made of network namespaces: a LAN is a bridge in a namespace of its own, a host is a namespace with `eth0` on it.
//!
//! Namespaces are named after the test process and a counter, so that runs side by side never meet; they go when dropped.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network segment on which hosts can see each other: 172.17.0.0/24 and fd17::/64.
pub struct Lan {
    bridge: Namespace,
}

/// One machine: a namespace with `lo` and `eth0` up.
pub struct Host {
    /// Its namespace; shared with the processes that live there.
    pub namespace: Arc<Namespace>,
    /// The IPv4 address of `eth0`.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address of `eth0`.
    pub ipv6: Ipv6Addr,
}

/// A network namespace that is deleted, with all its interfaces, on drop.
pub struct Namespace {
    name: String,
}

impl Lan {
    /// An empty segment.
    ///
    /// # Panics
    /// When a namespace cannot be made: the tests need root.
    #[must_use]
    pub fn new() -> Lan {
        let bridge = Namespace::new("lan");
        bridge.ip(&["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
        bridge.ip(&["link", "set", "br0", "up"]);
        Lan { bridge }
    }

    /// Adds a host whose addresses end in `number` (2 to 254).
    ///
    /// # Panics
    /// When the namespace or its link cannot be made.
    #[must_use]
    pub fn host(&self, number: u8) -> Host {
        let namespace = Namespace::new("host");
        self.plug(&namespace, "eth0", number);
        let host = Host { namespace: Arc::new(namespace), ipv4: ipv4(number), ipv6: ipv6(number) };
        host.add_address("eth0", IpAddr::V4(host.ipv4));
        host.add_address("eth0", IpAddr::V6(host.ipv6));
        host
    }

    /// Gives a namespace an interface on this segment, up and without addresses. `port` makes the far end's name.
    ///
    /// # Panics
    /// When the link cannot be made.
    pub fn plug(&self, namespace: &Namespace, interface: &str, port: u8) {
        let far = format!("p{port}{interface}");
        let peer =
            ["link", "add", &far, "type", "veth", "peer", "name", interface, "netns", namespace.name()];
        self.bridge.ip(&peer);
        self.bridge.ip(&["link", "set", &far, "master", "br0", "up"]);
        namespace.ip(&["link", "set", interface, "up"]);
    }
}

impl Default for Lan {
    fn default() -> Lan {
        Lan::new()
    }
}

impl Host {
    /// Adds an address (of /24 or /64) to an interface.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn add_address(&self, interface: &str, address: IpAddr) {
        let text = with_prefix(address);
        match address {
            IpAddr::V4(_) => self.namespace.ip(&["addr", "add", &text, "dev", interface]),
            // Without nodad an address is unusable for a second or two, and the test would wait for that.
            IpAddr::V6(_) => self.namespace.ip(&["addr", "add", &text, "dev", interface, "nodad"]),
        }
    }

    /// Takes an address away again.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove_address(&self, interface: &str, address: IpAddr) {
        self.namespace.ip(&["addr", "del", &with_prefix(address), "dev", interface]);
    }
}

impl Namespace {
    /// A new namespace with `lo` up; `role` makes its name readable in `ip netns`.
    ///
    /// # Panics
    /// When `ip netns add` fails.
    #[must_use]
    pub fn new(role: &str) -> Namespace {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("appl-{}-{number}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        // Else any interface answers ARP for any address of the host, and packets arrive by whichever was first.
        let _ = namespace.shell("echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore");
        namespace
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside.
    ///
    /// # Panics
    /// When `ip` fails; the message carries what it said.
    pub fn ip(&self, arguments: &[&str]) {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments));
    }

    /// A command that will run inside.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a shell line inside and returns what it printed, whatever its exit status.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn shell(&self, line: &str) -> String {
        let output = self.command("sh").args(["-c", line]).output().expect("start sh");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Calls `f` on a thread that lives in this namespace; sockets it opens stay there.
    ///
    /// # Panics
    /// When the namespace has gone, or `f` panics.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(&path).expect("open the namespace");
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("enter the namespace");
                f()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

pub(crate) fn ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 17, 0, number)
}

pub(crate) fn ipv6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd17, 0, 0, 0, 0, 0, 0, u16::from(number))
}

fn with_prefix(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/24"),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    output
}
