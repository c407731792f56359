//! In which order policies decide: tiers, orders, actions, profiles, and what established connections see of a change.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use appliance_tests::eventually::eventually_true;
use appliance_tests::packets;

use crate::world::{ALLOWING, BARE, World, object, policy};

#[test]
fn the_lower_order_decides_then_the_name() {
    let deny = |order: u32| {
        policy(
            "a",
            &format!(
                "order: {order}, ingress: [{{action: Deny, protocol: TCP, destination: {{ports: [8055]}}}}]"
            ),
        )
    };
    let allow = policy("b", "order: 20, ingress: [{action: Allow}]");
    let world = World::enforcing(&format!("{BARE}{}{allow}", deny(10)));
    assert!(!world.reaches(8055) && world.reaches(8056), "a comes first");
    world.node.apply(&deny(30));
    assert!(world.reaches(8055), "b comes first");
    world.node.apply(&policy("b", "ingress: [{action: Allow}]"));
    assert!(!world.reaches(8055), "a policy without an order goes last");
    world.node.apply(&policy("a", "ingress: [{action: Allow}]"));
    world.node.apply(&policy("b", "ingress: [{action: Deny}]"));
    assert!(world.reaches(8055), "of two without an order, the name decides");
}

#[test]
fn tiers_end_in_drop_unless_passed() {
    let tier =
        |action: &str| object("Tier", "name: security", &format!("order: 10, defaultAction: {action}"));
    let first = |rules: &str| policy("s", &format!("tier: security, ingress: [{rules}]"));
    let https = "{action: Allow, protocol: TCP, destination: {ports: [443]}}";
    let second = policy("d", "ingress: [{action: Allow}]");
    let world = World::enforcing(&format!("{BARE}{}{}{second}", tier("Deny"), first(https)));
    assert!(world.reaches(443) && !world.reaches(8055), "what the tier does not decide, it drops");

    world.node.apply(&first(&format!("{https}, {{action: Pass}}")));
    assert!(world.reaches(443) && world.reaches(8055), "Pass hands on to the next tier");

    world.node.apply(&first(https));
    assert!(!world.reaches(8055));
    world.node.apply(&tier("Pass"));
    assert!(world.reaches(8055), "a tier whose default action is Pass hands on as well");

    let deny = "{action: Deny, protocol: TCP, destination: {ports: [8055]}}, {action: Pass}";
    world.node.apply(&first(deny));
    assert!(!world.reaches(8055) && world.reaches(8056), "Deny is final, whatever a later tier allows");

    world.node.delete("gnp", "d");
    assert!(!world.reaches(8056), "passed on, but nobody and no profile allows it");
    world.node.apply(ALLOWING);
    assert!(world.reaches(8056) && !world.reaches(8055), "the profile does");
}

#[test]
fn pass_skips_the_rest_of_its_tier() {
    let world = World::enforcing(&[
        BARE,
        &object("Tier", "name: security", "order: 10"),
        &policy("a", "tier: security, order: 1, ingress: [{action: Pass, protocol: TCP, destination: {ports: [8055]}}]"),
        &policy("b", "tier: security, order: 2, ingress: [{action: Deny}]"),
        &policy("c", "ingress: [{action: Allow}]"),
    ].concat());
    assert!(world.reaches(8055) && !world.reaches(8056));
}

#[test]
fn profiles_decide_in_their_order_and_a_missing_one_denies() {
    let endpoint = |profiles: &str| {
        object(
            "HostEndpoint",
            "name: h1-eth0",
            &format!("node: h1, interfaceName: eth0, profiles: [{profiles}]"),
        )
    };
    let deny = object(
        "Profile",
        "name: p",
        "ingress: [{action: Deny, protocol: TCP, destination: {ports: [8055]}}]",
    );
    let out = object("Profile", "name: out", "egress: [{action: Allow}]");
    let world = World::enforcing(&format!("{deny}{out}{}", endpoint("p, projectcalico-default-allow")));
    assert!(!world.reaches(8055) && world.reaches(8056) && world.gets_out(8055));

    world.node.apply(&endpoint("out"));
    assert!(!world.reaches(8056) && world.gets_out(8055), "no ingress rule, so nothing comes in");

    world.node.apply(&endpoint("nope, projectcalico-default-allow"));
    assert!(!world.reaches(8056) && !world.gets_out(8055), "a profile that is not there denies");
    assert!(world.reaches(22), "failsafes do not depend on profiles");

    world.node.apply(&object("Profile", "name: nope", "ingress: [{action: Pass}]"));
    assert!(world.reaches(8056), "now it is there, and leaves it to the next");
}

#[test]
fn labels_of_a_profile_select_its_endpoints() {
    let world = World::enforcing(
        &[
            object("Profile", "name: web", "labelsToApply: {ep: h1}").as_str(),
            &object("HostEndpoint", "name: h1-eth0", "node: h1, interfaceName: eth0, profiles: [web]"),
            &policy("open", "ingress: [{action: Allow, protocol: TCP, destination: {ports: [8055]}}]"),
        ]
        .concat(),
    );
    assert!(world.reaches(8055) && !world.reaches(8056));
}

#[test]
fn a_label_taken_away_takes_the_policy_away() {
    let world = World::enforcing(&format!("{BARE}{}", policy("open", "ingress: [{action: Allow}]")));
    assert!(world.reaches(8055));
    world.node.apply(&BARE.replace("ep: h1", "ep: other"));
    assert!(!world.reaches(8055));
}

#[test]
fn types_limit_a_policy_to_its_directions() {
    let world = World::enforcing(&format!("{ALLOWING}{}", policy("none", "types: [Ingress]")));
    assert!(!world.reaches(8055) && world.gets_out(8055), "no rules, but it governs ingress");
    world
        .node
        .apply(&policy("none", "types: [Egress], ingress: [{action: Deny}], egress: [{action: Allow}]"));
    assert!(world.reaches(8055) && world.gets_out(8055), "rules of a direction not listed are inert");
}

#[test]
fn open_connections_outlive_a_new_denial() {
    let world = World::enforcing(ALLOWING);
    let mut open = packets::open(&world.x.namespace, IpAddr::V4(world.h1.ipv4), 8055).expect("connect");
    assert!(packets::alive(&mut open));
    world.node.apply(&policy("deny", "ingress: [{action: Deny}]"));
    assert!(!world.reaches(8055), "new connections are denied");
    assert!(packets::alive(&mut open), "the old one goes on");
}

#[test]
fn failsafes_can_be_changed_narrowed_and_switched_off() {
    let felix = |list: &str| {
        object("FelixConfiguration", "name: default", &format!("failsafeInboundHostPorts: {list}"))
    };
    let world = World::enforcing(BARE);
    world.node.apply(&felix("[{protocol: TCP, port: 8055}]"));
    assert!(world.reaches(8055) && !world.reaches(22), "the list replaces the defaults");
    world.node.apply(&felix("[{protocol: TCP, port: 8055, net: 172.17.0.3/32}]"));
    assert!(!world.reaches(8055) && world.h2_reaches(8055), "for one network only");
    world.node.apply(&felix("[{protocol: UDP, port: 8055}]"));
    assert!(!world.reaches(8055) && world.reaches_udp(8055), "for one protocol only");
    world.node.apply(&felix("[]"));
    assert!(!world.reaches(22) && !world.reaches_udp(8055), "none at all");
    let api = packets::open(&world.x.namespace, IpAddr::V4(world.h1.ipv4), 6443);
    assert!(api.is_ok(), "the cluster's own port stays open: an administrator must be able to take it back");
}

#[test]
fn log_writes_a_line_and_goes_on() {
    // By default the kernel keeps the log lines of other namespaces to itself. One writer, harmless to the rest.
    fs::write("/proc/sys/net/netfilter/nf_log_all_netns", "1").expect("let namespaces log");
    let prefix = format!("fw{}-%t-%k-%n", std::process::id());
    let world = World::enforcing(&format!(
        "{BARE}{}{}",
        object("FelixConfiguration", "name: default", &format!("logPrefix: \"{prefix}\"")),
        policy(
            "web",
            "ingress: [{action: Log, protocol: TCP, destination: {ports: [8055]}}, {action: Allow, protocol: TCP, destination: {ports: [8055]}}]"
        ),
    ));
    assert!(world.reaches(8055), "Log does not decide");
    assert!(!world.reaches(8056));
    let line = format!("fw{}-default-gnp-web: ", std::process::id());
    eventually_true("the line in the kernel's log", || {
        let output = Command::new("dmesg").output().expect("read the kernel's log");
        String::from_utf8_lossy(&output.stdout).contains(&line)
    });
}
