//! Packets that pass through: a router with two policed interfaces, and destinations that another table translates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use appliance_tests::netns::{Host, Lan, Namespace};
use appliance_tests::node::Node;
use appliance_tests::packets::Listeners;

use crate::case::Parties;
use crate::world::{PORTS, object, policy};

/// A router `r1` between p0 (on eth0) and p1 (on eth1).
struct Routed {
    node: Node,
    r1: Host,
    p0: Host,
    p1: Host,
    _lans: [Lan; 2],
    _listeners: [Listeners; 3],
}

impl Routed {
    fn new() -> Routed {
        let (near, far) = (Lan::new(), Lan::new());
        let (r1, p0) = (near.host(1), near.host(2));
        let address = |number| Ipv4Addr::new(198, 51, 100, number);
        far.plug(&r1.namespace, "eth1", 1);
        r1.add_address("eth1", IpAddr::V4(address(1)));
        let namespace = Namespace::new("p1");
        far.plug(&namespace, "eth0", 2);
        let p1 = Host { namespace: Arc::new(namespace), ipv4: address(2), ipv6: Ipv6Addr::LOCALHOST };
        p1.add_address("eth0", IpAddr::V4(p1.ipv4));
        p0.namespace.ip(&["route", "add", "default", "via", "172.17.0.1"]);
        p1.namespace.ip(&["route", "add", "default", "via", "198.51.100.1"]);
        assert_eq!(r1.namespace.shell("echo 1 > /proc/sys/net/ipv4/ip_forward"), "");
        let listeners = [&r1, &p0, &p1].map(|host| Listeners::new(&host.namespace, &PORTS));
        let node = Node::start(&r1, "h1");
        Routed { node, r1, p0, p1, _lans: [near, far], _listeners: listeners }
    }

    fn parties(&self) -> Parties<'_> {
        Parties::new(&[("r1", &self.r1), ("p0", &self.p0), ("p1", &self.p1)])
    }
}

/// An endpoint of the router.
fn endpoint(interface: &str, label: &str, profiles: &str) -> String {
    object(
        "HostEndpoint",
        &format!("name: r-{interface}, labels: {{ep: {label}}}"),
        &format!("node: h1, interfaceName: {interface}, profiles: [{profiles}]"),
    )
}

#[test]
fn what_is_forwarded_is_left_alone() {
    let world = Routed::new();
    let parties = world.parties();
    world.node.apply(&[endpoint("eth0", "h1", ""), endpoint("eth1", "r1", "")].concat());
    parties.play("S37", "p0 → p1:8055 ✔, p1 → p0:8055 ✔, p0 → r1:8055 ✘, p1 → r1:8055 ✘");
    world.node.apply(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\n\
         spec: {selector: all(), ingress: [{action: Deny}], egress: [{action: Deny}]}\n",
    );
    parties.play("S38", "p0 → p1:8055 ✔, p0 → p1 ping ✔, r1 → p1:8055 ✘, p0 → r1:22 ✔");

    let tcp = "protocol: TCP, destination: {ports: [8055]}";
    world.node.apply(&policy("p", &format!("applyOnForward: true, ingress: [{{action: Allow, {tcp}}}]")));
    parties.play(
        "S39 for this host's own packets",
        "p0 → r1:8055 ✔, p0 → r1:8056 ✘, p1 → r1:8055 ✘, p0 → p1:8055 ✔, p0 → p1:8056 ✔, p1 → p0:8056 ✔",
    );
    let report = world.node.report();
    assert!(report.to_string().contains("applyOnForward"), "what is not enforced is told: {report:#}");

    let spec = format!("applyOnForward: true, egress: [{{action: Deny, {tcp}}}, {{action: Allow}}]");
    world.node.apply(&policy("p", &spec).replace("ep == 'h1'", "ep == 'r1'"));
    parties.play(
        "S40 for this host's own packets",
        "r1 → p1:8055 ✘, r1 → p1:8056 ✔, r1 → p0:8056 ✘, p0 → p1:8055 ✔, p1 → p0:8055 ✔",
    );
    world.node.delete("gnp", "p");

    world.node.delete("hep", "r-eth1");
    world.node.apply(&object(
        "HostEndpoint",
        "name: rest",
        "node: h1, interfaceName: \"*\", profiles: [projectcalico-default-allow]",
    ));
    parties.play("S8", "p0 → r1:8055 ✘, p1 → r1:8055 ✔, p0 → p1:8055 ✔");
}

#[test]
fn translated_destinations_are_policed_once_and_where_they_leave() {
    let world = Routed::new();
    let parties = world.parties();
    let said = world.r1.namespace.shell(
        "nft add table ip foreign
         nft add chain ip foreign out '{ type nat hook output priority -100; }'
         nft add rule ip foreign out tcp dport 32010 dnat to 172.17.0.2:8055
         nft add rule ip foreign out tcp dport 32020 dnat to 198.51.100.2:8055
         nft add chain ip foreign in '{ type nat hook prerouting priority -100; }'
         nft add rule ip foreign in ip daddr 172.17.0.1 tcp dport 32010 redirect to :8055
         nft add rule ip foreign in ip daddr 172.17.0.1 tcp dport 32020 dnat to 198.51.100.2:8055",
    );
    assert_eq!(said, "");
    world.node.apply(&[endpoint("eth0", "h1", ""), endpoint("eth1", "r1", "")].concat());
    parties.play("Q1, bare", "r1 → p0:32010 ✘, r1 → p1:32010 ✘, r1 → p0:32020 ✘, p0 → r1:32010 ✘");
    parties.play("Q1, forwarded", "p0 → r1:32020 ✔");
    // Another tool may overwrite the whole mark between our two looks at a packet. Nothing opens, here and below.
    let said = world.r1.namespace.shell(
        "nft add chain ip foreign marks '{ type filter hook output priority 0; }'
         nft add rule ip foreign marks meta mark set 1",
    );
    assert_eq!(said, "");
    parties
        .play("Q1, mark overwritten", "r1 → p0:32010 ✘, r1 → p1:32010 ✘, r1 → p0:32020 ✘, p0 → r1:32020 ✔");

    let allow = |port: u16| {
        let rule = format!("{{action: Allow, protocol: TCP, destination: {{ports: [{port}]}}}}");
        policy("p", &format!("ingress: [{rule}], egress: [{rule}]"))
    };
    world.node.apply(&allow(8055));
    let before = packets_of(&world, "egress 0 gnp/p");
    // r1 → p1:32010 would leave by eth1; translated, it leaves by eth0, and eth0's endpoint decides.
    parties.play("Q1, the port translated to", "r1 → p1:32010 ✔, r1 → p0:32020 ✘, p0 → r1:32010 ✔");
    assert_eq!(packets_of(&world, "egress 0 gnp/p") - before, 1, "Q1: one connection is policed once");
    world.node.apply(&allow(32010));
    parties.play("Q1, the port before", "r1 → p1:32010 ✘, r1 → p0:32010 ✘, p0 → r1:32010 ✘");

    world.node.apply(&allow(8055).replace("ep == 'h1'", "ep == 'r1'"));
    parties.play("Q1, out of the other interface", "r1 → p0:32020 ✔, r1 → p1:32010 ✘");
    world.node.delete("gnp", "p");
    world.node.delete("hep", "r-eth0");
    parties.play("Q1, one interface policed", "r1 → p1:32010 ✔, r1 → p0:32020 ✘, p0 → r1:32010 ✔");

    world.node.apply(&object("FelixConfiguration", "name: default", "nftablesFilterDenyAction: Reject"));
    parties.play("Q17", "r1 → p1:32010 ✔, r1 → p0:32020 ✘, r1 → p1:8055 ✘, p1 → r1:22 ✔");
}

/// How many packets the rule with this comment has seen.
fn packets_of(world: &Routed, comment: &str) -> u64 {
    let listing = world.r1.namespace.shell("nft list table inet appliance");
    let line = listing
        .lines()
        .find(|line| line.contains(comment))
        .unwrap_or_else(|| panic!("no {comment:?} in {listing}"));
    let count = line.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no counter in {line}"))
}
