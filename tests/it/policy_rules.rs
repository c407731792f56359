//! What a rule matches: labels, networks, sets, ports by number and name, protocols, ICMP, and all their negations.

use std::net::IpAddr;

use appliance_tests::packets;

use crate::world::{ALLOWING, BARE, World, object, policy};

/// An endpoint object for h2, so that rules can select its address by label.
const CLIENT: &str = "---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h2-eth0, labels: {role: client}}
spec: {node: h2, interfaceName: eth0, expectedIPs: [172.17.0.3, \"fd17::3\"]}
";

#[test]
fn sources_by_label_and_by_set() {
    let from_client =
        policy("from-client", "ingress: [{action: Allow, source: {selector: \"role == 'client'\"}}]");
    let world = World::enforcing(&format!("{BARE}{CLIENT}{from_client}"));
    assert!(world.h2_reaches(8055), "h2's endpoint has the label");
    assert!(packets::tcp(&world.h2.namespace, IpAddr::V6(world.h1.ipv6), 8055), "and an IPv6 address");
    assert!(!world.reaches(8055), "x has no endpoint");

    let set = |label: &str, nets: &str| {
        object(
            "GlobalNetworkSet",
            &format!("name: outside, labels: {{role: {label}}}"),
            &format!("nets: [{nets}]"),
        )
    };
    world.node.apply(&set("client", "172.17.0.9/32"));
    assert!(world.reaches(8055) && !world.reaches6(8055), "a set adds x's IPv4 address");
    world.node.apply(&set("client", "172.17.0.9/32, \"fd17::/64\""));
    assert!(world.reaches6(8055), "and then its IPv6 network");
    world.node.apply(&set("other", "172.17.0.9/32"));
    assert!(!world.reaches(8055) && world.h2_reaches(8055), "another label takes it out again");

    world.node.delete("hep", "h2-eth0");
    assert!(!world.h2_reaches(8055));
}

#[test]
fn overlapping_sets_give_back_what_they_hid() {
    let set = |name: &str, net: &str| {
        object(
            "GlobalNetworkSet",
            &format!("name: {name}, labels: {{role: client}}"),
            &format!("nets: [{net}]"),
        )
    };
    let allow = policy("sets", "ingress: [{action: Allow, source: {selector: \"role == 'client'\"}}]");
    let (wide, narrow) = (set("wide", "172.17.0.0/24"), set("narrow", "172.17.0.9/32"));
    let world = World::enforcing(&format!("{BARE}{allow}{wide}{narrow}"));
    assert!(world.reaches(8055) && world.h2_reaches(8055));
    world.node.delete("globalnetworkset", "wide");
    assert!(world.reaches(8055) && !world.h2_reaches(8055), "only the narrow one is left");
    world.node.apply(&set("narrow", "0.0.0.0/0"));
    assert!(
        world.reaches(8055) && world.h2_reaches(8055) && !world.reaches6(8055),
        "all of IPv4, none of IPv6"
    );
}

#[test]
fn sources_by_network_and_its_exception() {
    let world = World::enforcing(&format!(
        "{BARE}{}",
        policy(
            "net",
            "ingress: [{action: Allow, source: {nets: [172.17.0.0/24], notNets: [172.17.0.9/32]}}, \
             {action: Allow, protocol: TCP, source: {nets: [\"fd17::9/128\"]}, destination: {ports: [8056]}}]"
        )
    ));
    assert!(world.h2_reaches(8055) && !world.reaches(8055));
    assert!(world.reaches6(8056) && !world.reaches6(8055));
}

#[test]
fn unknown_addresses_match_a_negated_selector() {
    let open = policy("open", "ingress: [{action: Allow, source: {notSelector: \"role == 'client'\"}}]");
    let world = World::enforcing(&format!("{BARE}{CLIENT}{open}"));
    assert!(world.reaches(8055), "x is unknown, so it is not a client");
    assert!(!world.h2_reaches(8055), "h2 is one");
}

#[test]
fn ports_by_number_range_and_exception() {
    let world = World::enforcing(&format!(
        "{BARE}{}",
        policy(
            "ports",
            "ingress: [{action: Allow, protocol: TCP, destination: {ports: [443, \"8055:8060\"], notPorts: [8057]}}, \
             {action: Allow, protocol: 17, destination: {ports: [8061]}}]"
        )
    ));
    for (port, open) in [(443, true), (8055, true), (8056, true), (8057, false), (8060, true), (8061, false)]
    {
        assert_eq!(world.reaches(port), open, "TCP {port} over IPv4");
        assert_eq!(world.reaches6(port), open, "TCP {port} over IPv6");
    }
    assert!(world.reaches_udp(8061) && !world.reaches_udp(8055), "UDP has a rule of its own");
}

#[test]
fn ports_by_name() {
    let endpoint = object(
        "HostEndpoint",
        "name: h1-eth0, labels: {ep: h1}",
        "node: h1, interfaceName: eth0, expectedIPs: [172.17.0.2], \
         ports: [{name: web, protocol: TCP, port: 8055}, {name: web, protocol: TCP, port: 8056}, {name: dns, protocol: UDP, port: 8057}]",
    );
    let allow = policy(
        "named",
        "ingress: [{action: Allow, protocol: TCP, destination: {ports: [web, 443]}}, {action: Allow, destination: {ports: [dns]}}]",
    );
    let world = World::enforcing(&format!("{endpoint}{allow}"));
    assert!(
        world.reaches(8055) && world.reaches(8056) && world.reaches(443),
        "both ports called web, and 443"
    );
    assert!(!world.reaches(8057), "dns is UDP");
    assert!(world.reaches_udp(8057) && !world.reaches_udp(8055));
    assert!(!world.reaches6(8055), "the endpoint names no IPv6 address, so the port name has none either");
}

#[test]
fn source_ports() {
    let rule = "ingress: [{action: Allow, protocol: UDP, source: {ports: [2000]}}]";
    let world = World::enforcing(&format!("{BARE}{}", policy("source", rule)));
    let from = |port: u16| {
        let to = (world.h1.ipv4, 8055);
        world.x.namespace.inside(|| {
            let socket = std::net::UdpSocket::bind(("0.0.0.0", port)).expect("bind a source port");
            socket.set_read_timeout(Some(packets::ATTEMPT)).expect("set a time limit");
            socket.send_to(b"?", to).is_ok() && socket.recv(&mut [0; 8]).is_ok()
        })
    };
    assert!(from(2000), "the source port of the rule");
    assert!(!from(2001), "another source port");
}

#[test]
fn protocols_and_icmp() {
    let world = World::enforcing(&format!(
        "{BARE}{}",
        policy("icmp", "ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8}}]")
    ));
    let ping6 = || packets::ping(&world.x.namespace, IpAddr::V6(world.h1.ipv6));
    assert!(world.pings() && !ping6() && !world.reaches(8055), "echo over IPv4 only");

    world
        .node
        .apply(&policy("icmp", "ingress: [{action: Allow, protocol: ICMPv6, icmp: {type: 128, code: 0}}]"));
    assert!(!world.pings() && ping6(), "echo over IPv6 only");

    world
        .node
        .apply(&policy("icmp", "ingress: [{action: Allow, protocol: ICMP, notICMP: {type: 8, code: 0}}]"));
    assert!(!world.pings(), "anything but an echo request");

    world.node.apply(&policy("icmp", "ingress: [{action: Allow, notProtocol: TCP}]"));
    assert!(world.pings() && ping6() && world.reaches_udp(8055) && !world.reaches(8055), "anything but TCP");

    world.node.apply(&policy("icmp", "ingress: [{action: Allow, ipVersion: 6}]"));
    assert!(world.reaches6(8055) && !world.reaches(8055), "one family only");
}

#[test]
fn egress_rules_look_at_the_other_end() {
    let world = World::enforcing(&format!(
        "{ALLOWING}{}",
        policy(
            "out",
            "egress: [{action: Deny, protocol: TCP, destination: {nets: [172.17.0.9/32], ports: [8055]}}, {action: Allow}]"
        )
    ));
    assert!(!world.gets_out(8055), "what the rule denies");
    assert!(world.gets_out(8056) && world.gets_out6(8055), "and nothing else");
    assert!(world.reaches(8055), "an egress policy leaves ingress to the profile; answers are established");
}
