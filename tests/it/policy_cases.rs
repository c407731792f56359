//! The behaviour cases (S1 to S97 of the policy reference) that this version enforces and no other module plays, and the
//! traps beside them, on one interface. Where one world serves several cases, the policy `p` is replaced in between.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use appliance_tests::eventually::{PATIENCE, eventually, eventually_true};
use appliance_tests::netns::Host;
use appliance_tests::node::Node;
use appliance_tests::packets::{self, Listeners};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};

use crate::case::Parties;
use crate::world::{ALLOWING, BARE, World, object, policy};

/// An endpoint for h2, so that rules can select its addresses by label and its ports by name.
const CLIENT: &str = "---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h2-eth0, labels: {role: client}}
spec:
  node: h2
  interfaceName: eth0
  expectedIPs: [172.17.0.3, \"fd17::3\"]
  profiles: [projectcalico-default-allow]
  ports: [{name: svc, protocol: TCP, port: 8057}]
";

#[test]
fn which_endpoints_a_policy_reaches_and_what_profiles_leave() {
    let world = World::enforcing(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: d}\n\
         spec: {selector: all(), ingress: [{action: Deny}], egress: [{action: Deny}]}\n",
    );
    let parties = Parties::of(&world);
    parties.play("S1", "x → h1:8055 ✔, h1 → x:8055 ✔");
    world.node.delete("gnp", "d");

    world.node.apply(ALLOWING);
    parties.play("S11", "x → h1:8055 ✔, h1 → x:8055 ✔, x → h1/6:8055 ✔, x → h1 ping ✔, h1 → x/6 ping ✔");
    world.node.apply(&policy("p", "egress: [{action: Deny}]"));
    parties.play("S12", "h1 → x:8055 ✘, x → h1:8055 ✔");
    world.node.apply(&policy("p", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"));
    parties.play("S13", "x → h1:8055 ✔, x → h1:8056 ✘, h1 → x:8055 ✔");
    world.node.apply(&policy("p", ""));
    parties.play("S84", "x → h1:8055 ✘, h1 → x:8055 ✔");
    world.node.apply(&policy("p", "ingress: [{action: Pass}]"));
    parties.play("S25 with the profile", "x → h1:8055 ✔");

    world.node.apply(BARE);
    parties.play("S25", "x → h1:8055 ✘");
    world.node.apply(&BARE.replace("labels: {ep: h1}", "labels: {}").replace("172.17.0.2", "172.17.0.99"));
    parties.play("S79", "x → h1:8055 ✘, x → h1:22 ✔");
    world.node.apply(&object(
        "HostEndpoint",
        "name: h1-eth0",
        "node: h1, interfaceName: eth0, profiles: [nope]",
    ));
    parties.play("S14", "x → h1:8055 ✘, x → h1:22 ✔");
    assert!(world.node.logged("nope").contains("WARN"), "S14");
}

#[test]
fn failsafes_lists_and_neighbour_discovery() {
    let world = World::enforcing(&format!(
        "{BARE}{}",
        policy("p", "order: 1, ingress: [{action: Deny}], egress: [{action: Deny}]")
    ));
    let _udp = Listeners::new(&world.x.namespace, &[2379]);
    let parties = Parties::of(&world);
    parties.play(
        "S33",
        "x → h1:22 ✔, x → h1:8055 ✘, h1 → x:53/udp ✔, h1 → x/6:53/udp ✔, h1 → x:2379 ✔, h1 → x:22 ✘",
    );
    for host in [&world.h1, &world.x] {
        host.namespace.ip(&["-6", "neigh", "flush", "dev", "eth0"]);
    }
    parties.play("Q12, in", "x → h1/6:22 ✔, x → h1/6 ping ✘");
    for host in [&world.h1, &world.x] {
        host.namespace.ip(&["-6", "neigh", "flush", "dev", "eth0"]);
    }
    parties.play("Q12, out", "h1 → x/6:53/udp ✔");

    let felix = |spec: &str| object("FelixConfiguration", "name: default", spec);
    world.node.apply(&felix("failsafeOutboundHostPorts: []"));
    parties.play("S85", "h1 → x:53/udp ✘, h1 → x:2379 ✘, x → h1:22 ✔");
    world.node.apply(&felix("failsafeInboundHostPorts: [{protocol: UDP, port: 22}]"));
    parties.play("S86", "x → h1:22 ✘, x → h1:22/udp ✔, h1 → x:53/udp ✔");
    world.node.apply(&felix(
        "failsafeOutboundHostPorts: [{protocol: TCP, port: 8055, net: \"fd17::9/128\"}], \
         failsafeInboundHostPorts: [{protocol: TCP, port: 8055, net: \"fd17::3/128\"}]",
    ));
    parties.play(
        "failsafe of one IPv6 net",
        "h1 → x/6:8055 ✔, h1 → h2/6:8055 ✘, h1 → x:8055 ✘, h2 → h1/6:8055 ✔, x → h1/6:8055 ✘, h2 → h1:8055 ✘",
    );
}

#[test]
fn two_hosts_with_an_endpoint_each() {
    let world = World::enforcing(BARE);
    let _listeners = Listeners::new(&world.h2.namespace, &[2379]);
    let h2 = Node::start(&world.h2, "h2");
    let parties = Parties::of(&world);
    h2.apply(&object(
        "HostEndpoint",
        "name: h2-eth0, labels: {ep: h2}",
        "node: h2, interfaceName: eth0, expectedIPs: [172.17.0.2]",
    ));
    parties.play("S4", "x → h2:8055 ✘, x → h2:22 ✔");
    parties.play("S36", "h1 → h2:2379 ✔, h1 → h2:22 ✘, x → h2:22 ✔, x → h1:22 ✔");
}

#[test]
fn orders_and_names_decide() {
    let rules = |action: &str| format!("ingress: [{{action: {action}}}]");
    let ordered = |name: &str, order: &str, action: &str| {
        policy(name, &format!("order: {order}, ingress: [{{action: {action}}}]"))
    };
    let world = World::enforcing(
        &[BARE, &policy("a-allow", &rules("Allow")), &policy("b-deny", &rules("Deny"))].concat(),
    );
    let parties = Parties::of(&world);
    parties.play("S18", "x → h1:8055 ✔");
    world.node.apply(&[policy("a-allow", &rules("Deny")), ordered("b-deny", "1000000000", "Allow")].concat());
    parties.play("S82", "x → h1:8055 ✔");
    world.node.apply(&[ordered("b-deny", "0", "Allow"), ordered("a-allow", "-1.5", "Deny")].concat());
    parties.play("an order below zero", "x → h1:8055 ✘");
    world.node.apply(&[ordered("b-deny", "-1.6", "Allow"), ordered("a-allow", "-1.5", "Deny")].concat());
    parties.play("an order further below", "x → h1:8055 ✔");
    world.node.delete("gnp", "a-allow");
    world.node.delete("gnp", "b-deny");

    world.node.apply(&[policy("x-1", &rules("Allow")), policy("x", &rules("Deny"))].concat());
    parties.play("Q7, the dash", "x → h1:8055 ✔");
    world.node.apply(&[policy("x-1", &rules("Deny")), policy("x", &rules("Allow"))].concat());
    parties.play("Q7, the dash again", "x → h1:8055 ✘");
    world.node.delete("gnp", "x-1");
    world.node.apply(&[policy("x.1", &rules("Deny")), policy("x", &rules("Allow"))].concat());
    parties.play("Q7, the dot", "x → h1:8055 ✘");
}

#[test]
fn what_rules_match() {
    let world = World::enforcing(BARE);
    let _listeners = Listeners::new(&world.h1.namespace, &[7999, 8000, 8100, 8101]);
    let parties = Parties::of(&world);
    let play = |case: &str, rules: &str, expected: &str| {
        world.node.apply(&policy("p", &format!("ingress: [{rules}]")));
        parties.play(case, expected);
    };
    play(
        "S63",
        "{action: Allow, protocol: TCP, destination: {ports: [\"8000:8100\"]}}",
        "x → h1:8000 ✔, x → h1:8100 ✔, x → h1:7999 ✘, x → h1:8101 ✘, x → h1/6:8100 ✔, x → h1/6:8101 ✘",
    );
    play(
        "S64",
        "{action: Allow, protocol: 6, destination: {ports: [8055]}}",
        "x → h1:8055 ✔, x → h1:8055/udp ✘",
    );
    play(
        "S66",
        "{action: Allow, ipVersion: 4, protocol: ICMP, icmp: {type: 8}}",
        "x → h1 ping ✔, x → h1:8055 ✘, x → h1/6 ping ✘",
    );
    play(
        "S67",
        "{action: Allow, protocol: TCP, source: {nets: [172.17.0.9/32]}, destination: {ports: [8055]}}",
        "x → h1:8055 ✔, x → h1:8056 ✘, h2 → h1:8055 ✘, x → h1/6:8055 ✘",
    );
    play(
        "S68",
        "{action: Deny, source: {nets: [172.17.0.9/32]}}, {action: Allow}",
        "x → h1:8055 ✘, h2 → h1:8055 ✔, x → h1/6:8055 ✔",
    );
    play(
        "S94",
        "{action: Allow, protocol: UDP, destination: {ports: [8055]}}",
        "x → h1:8055/udp ✔, x → h1:8055 ✘, x → h1/6:8055/udp ✔",
    );
    play("ipVersion 4", "{action: Allow, ipVersion: 4}", "x → h1:8055 ✔, x → h1/6:8055 ✘");
    play(
        "Q15",
        "{action: Allow, protocol: ICMP, notICMP: {type: 8, code: 1}}",
        "x → h1 ping ✔, x → h1:8055 ✘, x → h1/6 ping ✘",
    );
    play(
        "Q15 for IPv6",
        "{action: Deny, protocol: ICMPv6, notICMP: {type: 128, code: 1}}, {action: Allow}",
        "x → h1/6 ping ✘, x → h1 ping ✔, x → h1/6:8055 ✔",
    );
    play(
        "notICMP by type",
        "{action: Allow, protocol: ICMPv6, notICMP: {type: 128}}",
        "x → h1/6 ping ✘, x → h1/6:8055 ✘",
    );
    play(
        "rule annotations",
        "{action: Allow, protocol: TCP, destination: {ports: [8055]}, metadata: {annotations: {why: 'a \"quote\"; drop', note: \"ü\\n%s\"}}}",
        "x → h1:8055 ✔, x → h1:8056 ✘",
    );
    play(
        "both protocol and notProtocol",
        "{action: Allow, protocol: UDP, notProtocol: TCP}",
        "x → h1:8055/udp ✔, x → h1:8055 ✘, x → h1 ping ✘",
    );

    play("S96", "{action: Allow, protocol: TCP, source: {ports: [1000]}}", "x → h1:8055 ✘");
    let from = |port: u16| world.x.namespace.inside(|| connects_from(port, (world.h1.ipv4, 8055).into()));
    assert!(from(1000), "S96: from port 1000");
    assert!(!from(1001), "S96: from another port");
}

/// Whether a TCP connection from this source port comes about.
fn connects_from(port: u16, to: SocketAddr) -> bool {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from(([0, 0, 0, 0], port))).expect("bind a source port");
    // On Linux this limits connect as well.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(packets::ATTEMPT))
        .expect("a time limit");
    connect(&socket, &to).is_ok()
}

#[test]
fn ports_by_name_among_others() {
    let endpoint = object(
        "HostEndpoint",
        "name: h1-eth0, labels: {ep: h1}",
        "node: h1, interfaceName: eth0, expectedIPs: [172.17.0.2, \"fd17::2\"], \
         ports: [{name: web, protocol: TCP, port: 8055}, {name: web, protocol: TCP, port: 8056}, {name: web, protocol: UDP, port: 8060}]",
    );
    let world = World::enforcing(&format!("{endpoint}{CLIENT}"));
    let parties = Parties::of(&world);
    let play = |case: &str, rules: &str, expected: &str| {
        world.node.apply(&policy("p", rules));
        parties.play(case, expected);
    };
    play(
        "a name, a number, a range, and exceptions",
        "ingress: [{action: Allow, protocol: TCP, destination: {ports: [web, 443, \"8060:8061\"], notPorts: [8056, 8061]}}]",
        "x → h1:8055 ✔, x → h1/6:8055 ✔, x → h1:8056 ✘, x → h1/6:8056 ✘, x → h1:443 ✔, x → h1/6:8060 ✔, x → h1:8061 ✘, x → h1:8060/udp ✘",
    );
    play(
        "all but a name",
        "ingress: [{action: Allow, protocol: TCP, destination: {notPorts: [web]}}]",
        "x → h1:8055 ✘, x → h1/6:8056 ✘, x → h1:8060 ✔, x → h1/6:443 ✔, x → h1:8060/udp ✘",
    );
    play(
        "a name of any protocol",
        "ingress: [{action: Allow, destination: {ports: [web]}}]",
        "x → h1:8055 ✔, x → h1/6:8060/udp ✔, x → h1:8060 ✘, x → h1:8055/udp ✘, x → h1 ping ✘",
    );
    play(
        "a name at the other end",
        "egress: [{action: Allow, protocol: TCP, destination: {selector: \"role == 'client'\", ports: [svc]}}]",
        "h1 → h2:8057 ✔, h1 → h2/6:8057 ✔, h1 → h2:8055 ✘, h1 → x:8057 ✘",
    );
    play(
        "a name nobody has",
        "ingress: [{action: Allow, protocol: TCP, destination: {ports: [nobodys]}}]",
        "x → h1:8055 ✘, x → h1/6:8055 ✘",
    );
    play(
        "S58",
        "ingress: [{action: Allow, source: {selector: \"role == 'client'\"}}]",
        "h2 → h1:8055 ✔, h2 → h1/6:8055 ✔, x → h1:8055 ✘",
    );
    world.node.apply(&CLIENT.replace("  expectedIPs: [172.17.0.3, \"fd17::3\"]\n", ""));
    parties.play("S58 without addresses", "h2 → h1:8055 ✘, h2 → h1/6:8055 ✘");
    play(
        "a negated selector of nobody, with nets",
        "ingress: [{action: Allow, source: {notSelector: \"role == 'ghost'\", nets: [172.17.0.0/24], notNets: [172.17.0.3/32]}}]",
        "x → h1:8055 ✔, h2 → h1:8055 ✘, x → h1/6:8055 ✘",
    );
    play(
        "global() and a selector",
        "ingress: [{action: Allow, source: {selector: all(), namespaceSelector: global()}}]",
        "x → h1:8055 ✘, h1 → x:8055 ✘",
    );
}

#[test]
fn denied_with_a_reject() {
    let world = World::enforcing(&format!(
        "{BARE}{}{}",
        object("FelixConfiguration", "name: default", "nftablesFilterDenyAction: Reject"),
        policy("p", "ingress: [{action: Deny, protocol: TCP, destination: {ports: [8055]}}, {action: Pass}]"),
    ));
    let error = |from: &Host, to: IpAddr, port: u16| {
        // Linux gives an IPv6 connection up at the second refusal only, which is a second later.
        let connect = || TcpStream::connect_timeout(&(to, port).into(), PATIENCE);
        from.namespace.inside(connect).expect_err("denied").kind()
    };
    for to in [IpAddr::V4(world.h1.ipv4), IpAddr::V6(world.h1.ipv6)] {
        assert_eq!(error(&world.x, to, 8055), ErrorKind::ConnectionRefused, "{to}, by a rule");
    }
    assert_eq!(error(&world.x, world.h1.ipv4.into(), 8056), ErrorKind::ConnectionRefused, "by no rule");
    assert_ne!(error(&world.h1, world.x.ipv4.into(), 8055), ErrorKind::TimedOut, "a local process is told");
    Parties::of(&world).play("Reject and failsafes", "x → h1:22 ✔, h1 → x:53/udp ✔, x → h1:8055/udp ✘");
}

#[test]
fn log_alone_does_not_allow_and_can_be_limited() {
    fs::write("/proc/sys/net/netfilter/nf_log_all_netns", "1").expect("let namespaces log");
    // The kernel's log outlives tests, so a port says which lines are ours.
    let port = 20_000 + u16::try_from(std::process::id() % 20_000).expect("a port");
    let lines = |prefix: &str| {
        let output = Command::new("dmesg").output().expect("read the kernel's log");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours = |line: &&str| line.contains(prefix) && line.contains(&format!("DPT={port} "));
        text.lines().filter(ours).count()
    };
    let log = format!("{{action: Log, protocol: TCP, destination: {{ports: [{port}]}}}}");
    let world = World::enforcing(&format!("{BARE}{}", policy("p", &format!("ingress: [{log}]"))));
    let _listeners = Listeners::new(&world.h1.namespace, &[port]);
    let before = lines("calico-packet: ");
    assert!(!world.reaches(port), "S23");
    eventually_true("S23: the line", || lines("calico-packet: ") > before);

    let limited = format!("limit{}", std::process::id());
    world.node.apply(&format!(
        "{}{}",
        object(
            "FelixConfiguration",
            "name: default",
            &format!("logPrefix: {limited}, logActionRateLimit: 1/hour, logActionRateLimitBurst: 2")
        ),
        policy("p", &format!("ingress: [{log}, {{action: Allow}}]")),
    ));
    for _ in 0..8 {
        assert!(world.reaches(port), "what is over the limit is not logged, but allowed all the same");
    }
    assert_eq!(eventually("the lines within the limit", || lines(&limited), |lines| *lines >= 2), 2);
}

#[test]
fn what_the_api_refuses_and_fills_in() {
    let world = World::new();
    let refused = |manifest: &str, text: &str| {
        let said = world.node.ctl_with(&["create", "-f", "-"], manifest).failure();
        assert!(said.contains(text), "{text:?} is missing in {said:?}");
    };
    refused(&policy("p", "preDNAT: true, ingress: [{action: Allow}]"), "applyOnForward");
    refused(&object("HostEndpoint", "name: e", "node: h1"), "expectedIPs");
    refused(
        &object("Profile", "name: projectcalico-default-allow", "ingress: [{action: Allow}]"),
        "already exists",
    );
    let rule = "{action: Allow, protocol: TCP, destination: {ports: [8055]}}";
    refused(&policy("p", &format!("ingress: [{}]", vec![rule; 1025].join(", "))), "ingress");
    world.node.apply(&policy("p", "ingress: [{action: Allow}]"));
    let stored = world.node.object("gnp", "p");
    assert_eq!(stored["spec"]["types"], serde_json::json!(["Ingress"]), "S74: {stored:#}");
    assert_eq!(stored["spec"]["tier"], "default", "S74");
    assert_eq!(stored["metadata"]["labels"]["projectcalico.org/tier"], "default", "S74");
}
