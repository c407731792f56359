//! A network that can be cut, slowed, and made to lose, repeat and reorder packets, link by link and one way at a time.
//!
//! `tc netem` would be the tool, but many kernels are built without it. So the segment is a switch of ours: each host's
//! `eth0` is a VXLAN tunnel whose far end is a socket of the `Switch`, which reads every packet and decides what
//! becomes of it. The hosts notice nothing of that: they see an Ethernet with addresses as on a [`crate::netns::Lan`].
//!
//! ```text
//!   host ns: eth0 ═VXLAN═╗                                ╔═ host ns: eth0
//!                    wire ns: u0 ── veth ── u1: switch ns, one UDP socket, rules for each (from, to)
//! ```
//!
//! Everything lives in namespaces of its own and goes with the value.

mod packet;
mod switch;

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::netns::{self, Host, Namespace};

use switch::Switch;

/// The port of VXLAN.
const VXLAN: u16 = 4789;

const WIRE: &str = "10.255.0.1";
const FAR: &str = "10.255.0.2";

/// A segment whose links obey. Links are between hosts by number, each way for itself; a new link is a good one.
pub struct Network {
    wire: Namespace,
    _far: Namespace,
    switch: Arc<Switch>,
}

/// What a link does to packets. The default is a good one: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Nothing gets through, and nobody is told.
    pub cut: bool,
    /// So many packets in a hundred are lost.
    pub loss: u8,
    /// So many in a hundred come twice.
    pub duplicate: u8,
    /// How long a packet takes at least.
    pub delay: Duration,
    /// How much longer it may take, each for itself: so packets overtake each other.
    pub jitter: Duration,
    /// Bytes a second, if there is a limit; what does not fit into the queue before it is lost.
    pub rate: Option<u32>,
}

impl Network {
    /// A segment without hosts, whose losses fall as `seed` says.
    ///
    /// # Panics
    /// When namespaces or tunnels cannot be made: the tests need root.
    #[must_use]
    pub fn new(seed: u64) -> Network {
        let (wire, far) = (Namespace::new("wire"), Namespace::new("switch"));
        let peer = ["peer", "name", "u1", "netns", far.name(), "mtu", "9000"];
        wire.ip(&[&["link", "add", "u0", "mtu", "9000", "type", "veth"][..], &peer].concat());
        for (namespace, interface, address) in [(&wire, "u0", WIRE), (&far, "u1", FAR)] {
            namespace.ip(&["addr", "add", &format!("{address}/24"), "dev", interface]);
            namespace.ip(&["link", "set", interface, "up"]);
        }
        let socket = far.inside(|| UdpSocket::bind((FAR, VXLAN)).expect("the switch's socket"));
        let switch = Switch::start(socket, seed);
        Network { wire, _far: far, switch }
    }

    /// Adds a host whose addresses end in `number` (2 to 254).
    ///
    /// # Panics
    /// When the namespace or its tunnel cannot be made.
    #[must_use]
    pub fn host(&self, number: u8) -> Host {
        let namespace = Namespace::new("host");
        let (name, id) = (format!("vx{number}"), number.to_string());
        let tunnel =
            ["type", "vxlan", "id", &id, "remote", FAR, "dstport", "4789", "dev", "u0", "nolearning"];
        self.wire.ip(&[&["link", "add", &name][..], &tunnel].concat());
        // A tunnel keeps sending from where it was made, wherever it is moved.
        self.wire.ip(&["link", "set", &name, "netns", namespace.name(), "name", "eth0"]);
        // One segment a packet: what the switch reads must be what a wire would carry.
        namespace.ip(&["link", "set", "eth0", "mtu", "1500", "gso_max_segs", "1", "up"]);
        self.switch.plug(number);
        let host =
            Host { namespace: Arc::new(namespace), ipv4: netns::ipv4(number), ipv6: netns::ipv6(number) };
        host.add_address("eth0", IpAddr::V4(host.ipv4));
        host.add_address("eth0", IpAddr::V6(host.ipv6));
        host
    }

    /// Makes the link from one host to another so, one way.
    pub fn set(&self, from: u8, to: u8, link: Link) {
        self.switch.set(from, to, link);
    }

    /// Makes both ways of a link so.
    pub fn set_both(&self, one: u8, other: u8, link: Link) {
        self.set(one, other, link);
        self.set(other, one, link);
    }

    /// Cuts every link between these hosts and those, both ways.
    pub fn partition(&self, these: &[u8], those: &[u8]) {
        for (one, other) in pairs(these, those) {
            self.set_both(one, other, Link { cut: true, ..Link::default() });
        }
    }

    /// Cuts every link from these hosts to those, and leaves the way back.
    pub fn cut_one_way(&self, from: &[u8], to: &[u8]) {
        for (one, other) in pairs(from, to) {
            self.set(one, other, Link { cut: true, ..Link::default() });
        }
    }

    /// Makes every link among these hosts so.
    pub fn among(&self, hosts: &[u8], link: Link) {
        for (one, other) in pairs(hosts, hosts).filter(|(one, other)| one != other) {
            self.set(one, other, link);
        }
    }

    /// Every link is a good one again.
    pub fn heal(&self) {
        self.switch.heal();
    }

    /// Packets that went through, and packets that were lost by order.
    #[must_use]
    pub fn counted(&self) -> (u64, u64) {
        self.switch.counted()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.switch.stop();
    }
}

fn pairs<'a>(these: &'a [u8], those: &'a [u8]) -> impl Iterator<Item = (u8, u8)> + 'a {
    these.iter().flat_map(move |one| those.iter().map(move |other| (*one, *other)))
}
