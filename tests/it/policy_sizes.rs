//! Policies that are long, many or oddly named: whatever the API takes, the kernel must take, and mean the same by it.

use std::net::UdpSocket;

use appliance_tests::packets;

use crate::case::Parties;
use crate::world::{BARE, World, object, policy};

#[test]
fn long_lists_and_lists_that_overlap() {
    let world = World::enforcing(BARE);
    let parties = Parties::of(&world);
    let play = |case: &str, rule: &str, expected: &str| {
        world.node.apply(&policy("p", &format!("ingress: [{{action: Allow, protocol: TCP, {rule}}}]")));
        parties.play(case, expected);
    };
    let single: Vec<String> = (0..25).map(|number| format!("{}", 9000 + 7 * number)).collect();
    let ranges: Vec<String> =
        (0..24).map(|number| format!("\"{}:{}\"", 2000 + 20 * number, 2010 + 20 * number)).collect();
    let fifty = format!("{}, {}, \"8055:8056\"", single.join(", "), ranges.join(", "));
    play(
        "50 ports",
        &format!("destination: {{ports: [{fifty}]}}"),
        "x → h1:8055 ✔, x → h1/6:8056 ✔, x → h1:8057 ✘, x → h1/6:443 ✘",
    );
    play(
        "50 ports but these 50",
        &format!("destination: {{ports: [\"8055:8060\"], notPorts: [{fifty}]}}"),
        "x → h1:8055 ✘, x → h1/6:8056 ✘, x → h1:8057 ✔, x → h1/6:8060 ✔, x → h1:8061 ✘",
    );
    play(
        "ports that overlap",
        "destination: {ports: [8056, \"8055:8057\", \"8056:8060\", 8061], notPorts: [\"8056:8057\", 8057]}",
        "x → h1:8055 ✔, x → h1:8056 ✘, x → h1:8057 ✘, x → h1:8060 ✔, x → h1:8061 ✔, x → h1:443 ✘",
    );

    let others: Vec<String> = (0..255).map(|number| format!("10.{number}.0.0/16")).collect();
    let others = others.join(", ");
    play(
        "256 nets",
        &format!("source: {{nets: [{others}, 172.17.0.9/32]}}"),
        "x → h1:8055 ✔, h2 → h1:8055 ✘, x → h1/6:8055 ✘",
    );
    play(
        "but for 256 nets",
        &format!("source: {{notNets: [{others}, 172.17.0.9/32]}}"),
        "x → h1:8055 ✘, h2 → h1:8055 ✔, x → h1/6:8055 ✘",
    );
    play(
        "nets that overlap",
        "source: {nets: [172.17.0.0/24, 172.17.0.9/32, 172.16.0.0/12], notNets: [172.17.0.8/29, 172.17.0.8/30]}",
        "x → h1:8055 ✘, h2 → h1:8055 ✔",
    );
    play("all of IPv4", "source: {nets: [0.0.0.0/0]}", "x → h1:8055 ✔, x → h1/6:8055 ✘");
    play("both halves of IPv6", "source: {nets: [\"::/1\", \"8000::/1\"]}", "x → h1:8055 ✘, x → h1/6:8055 ✔");
    let said = world
        .node
        .ctl_with(
            &["apply", "-f", "-"],
            &policy("p", "ingress: [{action: Allow, source: {nets: [10.0.0.0/8, 10.0.0.0/8]}}]"),
        )
        .failure();
    assert!(said.contains("10.0.0.0/8"), "V43: {said}");
}

#[test]
fn many_rules_and_many_policies() {
    let denials: Vec<String> = (0..999)
        .map(|number| format!("{{action: Deny, protocol: TCP, source: {{nets: [10.{}.{}.0/24]}}, destination: {{ports: [8055]}}}}", number / 250, number % 250))
        .collect();
    let world = World::enforcing(&format!(
        "{BARE}{}",
        policy(
            "p",
            &format!(
                "ingress: [{}, {{action: Allow, protocol: TCP, destination: {{ports: [8055]}}}}]",
                denials.join(", ")
            )
        )
    ));
    let parties = Parties::of(&world);
    parties.play("1,000 rules", "x → h1:8055 ✔, x → h1/6:8055 ✔, x → h1:8056 ✘");
    world.node.delete("gnp", "p");

    // The one with the highest number comes first; odd ones allow, even ones deny.
    let many: Vec<String> = (0..200)
        .map(|number| {
            let action = if number % 2 == 1 { "Allow" } else { "Deny" };
            policy(&format!("m{number}"), &format!("order: {}, ingress: [{{action: {action}, protocol: TCP, destination: {{ports: [8055]}}}}]", 200 - number))
        })
        .collect();
    world.node.apply(&many.concat());
    parties.play("200 policies", "x → h1:8055 ✔, x → h1:8056 ✘");
    world.node.delete("gnp", "m199");
    parties.play("199 policies", "x → h1:8055 ✘");
    world.node.delete("gnp", "m198");
    parties.play("198 policies", "x → h1:8055 ✔");
}

#[test]
fn names_and_texts_at_their_limits() {
    let rule = |action: &str| format!("{{action: {action}, protocol: TCP, destination: {{ports: [8055]}}}}");
    // Alike in far more than a chain's name, a comment or a log prefix can hold.
    let long = |last: &str| format!("{}{last}", "p".repeat(120));
    let (first, second) = (long("a"), long("b"));
    let log_and = |action: &str| format!("ingress: [{}, {}]", rule("Log"), rule(action));
    let world = World::enforcing(
        &[
            BARE,
            &object("FelixConfiguration", "name: default", "logPrefix: 'a\"b\\c;{}$(x)`%n%n%n%q'"),
            &policy(&first, &log_and("Allow")),
            &policy(&second, &log_and("Deny")),
        ]
        .concat(),
    );
    let parties = Parties::of(&world);
    parties.play("two long names", "x → h1:8055 ✔, x → h1:8056 ✘");
    world.node.apply(&[policy(&first, &log_and("Deny")), policy(&second, &log_and("Allow"))].concat());
    parties.play("two long names, exchanged", "x → h1:8055 ✘");
    world.node.delete("gnp", &first);
    parties.play("one long name", "x → h1:8055 ✔");

    let tier = "t".repeat(63);
    world.node.apply(
        &[
            object("Tier", &format!("name: {tier}"), "order: 1"),
            policy("in", &format!("tier: {tier}, {}", log_and("Deny"))),
        ]
        .concat(),
    );
    parties.play("a long tier", "x → h1:8055 ✘");
    world.node.delete("gnp", "in");
    let endpoint = "e".repeat(200);
    world.node.delete("hep", "h1-eth0");
    world.node.apply(&BARE.replace("h1-eth0", &endpoint));
    parties.play("a long endpoint", "x → h1:8055 ✔, x → h1:8056 ✘, x → h1:22 ✔");
}

#[test]
fn large_datagrams_arrive_whole_or_not_at_all() {
    let rule = "{action: Allow, protocol: UDP, destination: {ports: [8055]}}";
    let world = World::enforcing(&format!("{BARE}{}", policy("p", &format!("ingress: [{rule}]"))));
    // Only the first fragment carries the port.
    let large = |port: u16| {
        world.x.namespace.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.set_read_timeout(Some(packets::ATTEMPT)).expect("a time limit");
            socket.send_to(&[b'?'; 8_000], (world.h1.ipv4, port)).expect("send");
            socket.recv(&mut [0; 512]).is_ok()
        })
    };
    assert!(large(8055), "in fragments, to the port that is open");
    assert!(!large(8056), "in fragments, to another");
    world.node.apply(&object("FelixConfiguration", "name: default", "ipv6Support: false"));
    Parties::of(&world)
        .play("ipv6Support: false", "x → h1/6:8056 ✔, h1 → x/6:8056 ✔, x → h1:8056 ✘, x → h1:8055/udp ✔");
}
