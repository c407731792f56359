//! Interfaces that come, go, change their name or their state, and endpoints that change in quick succession.

use std::net::IpAddr;

use appliance_tests::eventually::{eventually, eventually_true};
use appliance_tests::packets::Listeners;
use serde_json::Value;

use crate::case::Parties;
use crate::world::{ALLOWING, BARE, World, object, policy};

/// What the node reports about one of its endpoints.
fn reported(world: &World, name: &str) -> Value {
    let report = world.node.report();
    let endpoints = report["status"]["endpoints"].as_array().cloned().unwrap_or_default();
    endpoints.into_iter().find(|endpoint| endpoint["name"] == name).unwrap_or(Value::Null)
}

fn until_state(world: &World, name: &str, state: &str) -> Value {
    eventually(&format!("{name} to be {state}"), || reported(world, name), |found| found["state"] == state)
}

/// Waits until packets pass the link again (the kernel takes up to a second), and looks all the while whether anything
/// but failsafes does.
fn comes_back_closed(world: &World, case: &str) {
    eventually_true(&format!("{case}: the link to carry packets"), || {
        assert!(!world.reaches_udp(8055), "{case}: it is open");
        world.reaches(22)
    });
}

#[test]
fn an_interface_goes_down_away_and_comes_back() {
    let world = World::enforcing(BARE);
    let parties = Parties::of(&world);
    let h1 = &world.h1.namespace;
    until_state(&world, "h1-eth0", "up");
    h1.ip(&["link", "set", "eth0", "down"]);
    until_state(&world, "h1-eth0", "down");
    h1.ip(&["link", "set", "eth0", "up"]);
    comes_back_closed(&world, "S77, up again");
    until_state(&world, "h1-eth0", "up");

    h1.ip(&["link", "del", "eth0"]);
    until_state(&world, "h1-eth0", "error");
    world.lan.plug(h1, "eth0", 2);
    world.h1.add_address("eth0", IpAddr::V4(world.h1.ipv4));
    // The new interface has another hardware address; x would go on sending to the old one.
    world.x.namespace.ip(&["neigh", "flush", "dev", "eth0"]);
    comes_back_closed(&world, "S10, the interface appears");
    parties.play("S10, the interface appears", "x → h1:8055 ✘, h1 → x:8055 ✘, x → h1:22 ✔");
    until_state(&world, "h1-eth0", "up");
    world.node.delete("hep", "h1-eth0");
    assert_eq!(reported(&world, "h1-eth0"), Value::Null, "S77: the record goes with the endpoint");
}

#[test]
fn an_interface_that_is_renamed() {
    let world = World::enforcing(BARE);
    let parties = Parties::of(&world);
    let rename = |from: &str, to: &str| {
        world.h1.namespace.ip(&["link", "set", from, "down"]);
        world.h1.namespace.ip(&["link", "set", from, "name", to]);
        world.h1.namespace.ip(&["link", "set", to, "up"]);
    };
    parties.play("before", "x → h1:8055 ✘");
    rename("eth0", "lan0");
    until_state(&world, "h1-eth0", "error");
    eventually_true("S6: the name is gone, and nothing policed", || world.reaches(8055));
    rename("lan0", "eth0");
    comes_back_closed(&world, "the name is back");

    world.node.delete("hep", "h1-eth0");
    world.node.apply(&object("HostEndpoint", "name: here", "node: h1, expectedIPs: [172.17.0.2]"));
    parties.play("S5", "x → h1:8055 ✘, h1 → x:8055 ✘, x → h1 ping ✘, x → h1:22 ✔, h1 → x:53/udp ✔");
    rename("eth0", "lan0");
    eventually(
        "the endpoint to follow the address",
        || reported(&world, "here"),
        |here| here["interfaces"][0] == "lan0",
    );
    eventually_true("the link to carry packets", || world.reaches(22));
    parties.play("S5 under another name", "x → h1:8055 ✘, h1 → x:8055 ✘, x → h1:22 ✔, h1 → x:53/udp ✔");

    world.node.delete("hep", "here");
    world.node.apply(&object("HostEndpoint", "name: all", "node: h1, interfaceName: \"*\""));
    rename("lan0", "eth0");
    comes_back_closed(&world, "S3 under another name");
}

#[test]
fn the_loopback_under_a_wildcard_and_under_its_own_endpoint() {
    let wildcard = object("HostEndpoint", "name: all, labels: {ep: h1}", "node: h1, interfaceName: \"*\"");
    let world = World::enforcing(&wildcard);
    let _listeners = Listeners::new(&world.h1.namespace, &[2379]);
    let parties = Parties::of(&world);
    parties.play(
        "S3",
        "x → h1:8055 ✘, h1 → x:8055 ✘, x → h1 ping ✘, x → h1:22 ✔, h1 → x:53/udp ✔, x → h1/6:8055 ✘, x → h1/6:22 ✔",
    );
    parties.play(
        "a port must be in both lists to pass lo",
        "lo → lo:2379 ✔, lo → lo/6:2379 ✔, lo → lo:22 ✘, lo → lo:8055 ✘, lo → h1:8055 ✘, lo → lo/6:8055 ✘",
    );
    world.node.apply(&policy(
        "lo",
        "ingress: [{action: Allow, source: {nets: [127.0.0.0/8]}}], egress: [{action: Allow, destination: {nets: [127.0.0.0/8]}}]",
    ));
    parties.play("a policy for 127.0.0.0/8", "lo → lo:8055 ✔, lo → lo/6:8055 ✘, x → h1:8055 ✘");
    world.node.delete("gnp", "lo");
    world.node.apply(&object(
        "HostEndpoint",
        "name: loopback",
        "node: h1, interfaceName: lo, profiles: [projectcalico-default-allow]",
    ));
    parties.play("an endpoint of its own", "lo → lo:8055 ✔, lo → lo/6:8055 ✔, lo → h1:8055 ✔, x → h1:8055 ✘");

    world.node.apply(&object(
        "HostEndpoint",
        "name: alb, labels: {ep: h1}",
        "node: h1, interfaceName: \"*\", profiles: [projectcalico-default-allow]",
    ));
    parties.play("two wildcards: the smaller name", "x → h1:8055 ✔");
    until_state(&world, "all", "error");
    world.node.delete("hep", "alb");
    parties.play("two wildcards: the other takes over", "x → h1:8055 ✘");
}

#[test]
fn interfaces_that_no_endpoint_may_have() {
    let world = World::enforcing(BARE);
    let parties = Parties::of(&world);
    world.lan.plug(&world.h1.namespace, "cali1", 101);
    world.node.apply(&object("HostEndpoint", "name: workload", "node: h1, interfaceName: cali1"));
    let workload = until_state(&world, "workload", "error");
    assert!(workload["reason"].as_str().is_some_and(|reason| reason.contains("cali")), "S9: {workload:#}");

    let exclude =
        |list: &str| object("FelixConfiguration", "name: default", &format!("interfaceExclude: \"{list}\""));
    for list in ["kube-ipvs0,eth0", "/^eth[0-9]$/"] {
        parties.play("not excluded", "x → h1:8055 ✘");
        world.node.apply(&exclude(list));
        parties.play(list, "x → h1:8055 ✔, h1 → x:8055 ✔");
        let excluded = until_state(&world, "h1-eth0", "error");
        assert!(
            excluded["reason"].as_str().is_some_and(|reason| reason.contains("interfaceExclude")),
            "{excluded:#}"
        );
        world.node.apply(&exclude("eth"));
    }
    parties.play("only whole names count", "x → h1:8055 ✘");
}

#[test]
fn endpoints_in_quick_succession() {
    let world = World::new();
    let parties = Parties::of(&world);
    let named = |name: &str, interface: &str, profiles: &str| {
        object(
            "HostEndpoint",
            &format!("name: {name}, labels: {{ep: h1}}"),
            &format!("node: h1, interfaceName: {interface}, profiles: [{profiles}]"),
        )
    };
    let write = |manifest: &str| world.node.ctl_with(&["apply", "-f", "-"], manifest).success();
    let all = "projectcalico-default-allow";
    // Thirty documents a round and no waiting: the last word of each name is what must hold.
    let storm = |last: &str| -> String {
        let round = |turn: usize| {
            let interface = if turn.is_multiple_of(2) { "eth0" } else { "eth1" };
            [
                named("storm", interface, all),
                named("squall", "eth2", ""),
                ALLOWING.replace("\napi", "---\napi"),
                named("h1-eth0", interface, ""),
            ]
            .concat()
        };
        (0..7).map(round).chain([last.to_owned()]).collect()
    };
    let _ = write(&storm(&[named("storm", "eth1", ""), named("h1-eth0", "eth0", all)].concat()));
    let _ = write(&storm(&[named("storm", "eth3", ""), named("h1-eth0", "eth0", "")].concat()));
    world.node.wait_enforced();
    parties.play("S2 after a storm", "x → h1:8055 ✘, h1 → x:8055 ✘, x → h1:22 ✔");

    let _ = write(&named("aaa", "eth0", all));
    let _ = write(&object("HostEndpoint", "name: bbb", "node: h1, expectedIPs: [172.17.0.2]"));
    let _ = world.node.ctl(&["delete", "hep", "h1-eth0", "storm", "squall"]).success();
    world.node.wait_enforced();
    parties.play("S7", "x → h1:8055 ✔");
    world.node.delete("hep", "aaa");
    parties.play("S7, deleted", "x → h1:8055 ✘");
    world.node.apply(&named("aaa", "eth0", all));
    parties.play("S7, created again", "x → h1:8055 ✔");
    for _ in 0..5 {
        let _ = world.node.ctl(&["delete", "hep", "aaa"]).success();
        let _ = write(&named("aaa", "eth0", ""));
    }
    world.node.wait_enforced();
    parties.play("deleted and created five times", "x → h1:8055 ✘, x → h1:22 ✔");
    eventually_true("the report to name who governs", || reported(&world, "aaa")["state"] == "up");
}
