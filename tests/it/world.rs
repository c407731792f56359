//! The world most tests play in: `h1` runs a node, `h2` and `x` are other machines on its LAN, everyone echoes.
//!
//! Addresses are those of the behaviour cases this project is built from: h1 .2, h2 .3, x .9.

use std::net::IpAddr;

use appliance_tests::netns::{Host, Lan};
use appliance_tests::node::Node;
use appliance_tests::packets::{self, Listeners};

/// Ports everyone listens on: two failsafe ones (22 inbound; 53/udp outbound) and some ordinary ones.
pub(crate) const PORTS: [u16; 8] = [22, 53, 443, 8055, 8056, 8057, 8060, 8061];

/// A host endpoint on h1's eth0 with nothing that allows anything: everything but failsafes is dropped.
pub(crate) const BARE: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h1-eth0, labels: {ep: h1}}
spec: {node: h1, interfaceName: eth0, expectedIPs: [172.17.0.2]}
";

/// The same, allowing everything that no policy decides.
pub(crate) const ALLOWING: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h1-eth0, labels: {ep: h1}}
spec: {node: h1, interfaceName: eth0, expectedIPs: [172.17.0.2], profiles: [projectcalico-default-allow]}
";

pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) h1: Host,
    pub(crate) h2: Host,
    pub(crate) x: Host,
    pub(crate) lan: Lan,
    _listeners: [Listeners; 3],
}

impl World {
    pub(crate) fn new() -> World {
        World::with(&[])
    }

    /// With more arguments for `appliance run`.
    pub(crate) fn with(arguments: &[&str]) -> World {
        let lan = Lan::new();
        let (h1, h2, x) = (lan.host(2), lan.host(3), lan.host(9));
        let listeners = [&h1, &h2, &x].map(|host| Listeners::new(&host.namespace, &PORTS));
        let node = Node::start_with(&h1, "h1", arguments);
        World { node, h1, h2, x, lan, _listeners: listeners }
    }

    /// A world in which `manifest` is enforced.
    pub(crate) fn enforcing(manifest: &str) -> World {
        let world = World::new();
        world.node.apply(manifest);
        world
    }

    /// x → h1 over TCP and IPv4, the question most tests ask.
    pub(crate) fn reaches(&self, port: u16) -> bool {
        packets::tcp(&self.x.namespace, IpAddr::V4(self.h1.ipv4), port)
    }

    /// x → h1 over TCP and IPv6.
    pub(crate) fn reaches6(&self, port: u16) -> bool {
        packets::tcp(&self.x.namespace, IpAddr::V6(self.h1.ipv6), port)
    }

    /// h2 → h1 over TCP and IPv4.
    pub(crate) fn h2_reaches(&self, port: u16) -> bool {
        packets::tcp(&self.h2.namespace, IpAddr::V4(self.h1.ipv4), port)
    }

    /// x → h1 over UDP and IPv4.
    pub(crate) fn reaches_udp(&self, port: u16) -> bool {
        packets::udp(&self.x.namespace, IpAddr::V4(self.h1.ipv4), port)
    }

    /// x pings h1 over IPv4.
    pub(crate) fn pings(&self) -> bool {
        packets::ping(&self.x.namespace, IpAddr::V4(self.h1.ipv4))
    }

    /// h1 → x over TCP and IPv4.
    pub(crate) fn gets_out(&self, port: u16) -> bool {
        packets::tcp(&self.h1.namespace, IpAddr::V4(self.x.ipv4), port)
    }

    /// h1 → x over TCP and IPv6.
    pub(crate) fn gets_out6(&self, port: u16) -> bool {
        packets::tcp(&self.h1.namespace, IpAddr::V6(self.x.ipv6), port)
    }
}

/// A global policy on h1's endpoint with this `spec` (flow style, without `selector`).
pub(crate) fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{selector: \"ep == 'h1'\", {spec}}}\n"
    )
}

/// Any object, in flow style.
pub(crate) fn object(kind: &str, metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n"
    )
}
