//! The leak test: a flood that every version of the policy drops, while the policy changes a thousand times.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use appliance_dataplane::nft::plan::{Begin, plan};
use appliance_dataplane::nft::{
    Actual, Chain, ChainKind, Element, Expr, Family, Hook, HookPoint, Is, Kernel, Nft, Rule, Ruleset,
    SetKind, Side, Verdict, VerdictMap,
};

use crate::netns::{NFT, Namespace, inside, sh};
use crate::rulesets::{TABLE, set};

const CHANGES: u32 = 1_000;
/// Members of each set: enough that an interval set takes a moment to appear.
const MEMBERS: u32 = 300;
/// Between bursts of 64 packets.
const PAUSE: Duration = Duration::from_micros(100);

/// What the flood meets: it comes from 10.9.0.1, which no version admits. Some versions admit by not being in a set of
/// the denied, so a set that were empty for a moment would open either way. Eight changes go round: everything new with
/// interval sets, another rule, other members twice; everything new with hashes, another rule, other members, and rule
/// and members together.
fn version(number: u32) -> Ruleset {
    let (era, step) = (number / 4, (number % 8) as usize);
    let denies = [false, true, true, true, false, true, true, false][step];
    let shift = era + [0, 0, 1, 2, 0, 0, 1, 2][step];
    let interval = era.is_multiple_of(2);
    let mut wanted = Ruleset::new(TABLE);
    let other = |at: u32| format!("10.{}.{}.0/24", 10 + (shift + at) % 200, at % 250);
    let kind = if interval { SetKind::Nets(Family::V4) } else { SetKind::Addresses(Family::V4) };
    let member = |net: String| {
        let net: ipnet::IpNet = net.parse().unwrap();
        if interval { Element::Net(net) } else { Element::address(net.addr()) }
    };
    let (admitted, denied) = (format!("yes_{era}"), format!("no_{era}"));
    wanted.sets.insert(admitted.clone(), set(kind, (0..MEMBERS).map(|at| member(other(at)))));
    let enemy = if interval { "10.9.0.0/24" } else { "10.9.0.1/32" };
    let deny = (0..MEMBERS).map(|at| member(other(at + 7))).chain([member(enemy.to_owned())]);
    wanted.sets.insert(denied.clone(), set(kind, deny));
    let lookup =
        |set: &str, is| Expr::AddressSet { side: Side::Source, is, family: Family::V4, set: set.to_owned() };
    let v4 = Expr::NfProto(Family::V4);
    let policy = match denies {
        false => vec![Rule::new("admit", vec![v4, lookup(&admitted, Is::In), Expr::accept()])],
        true => vec![
            Rule::new("deny", vec![v4.clone(), lookup(&denied, Is::In), Expr::drop()]),
            Rule::new("admit the rest", vec![v4, lookup(&denied, Is::NotIn), Expr::accept()]),
        ],
    };
    let chain = format!("p{}", era % 5);
    wanted.chains.insert(chain.clone(), Chain::new(policy));
    let endpoint = vec![Rule::new("", vec![Expr::jump(chain)]), Rule::new("default", vec![Expr::drop()])];
    let name = format!("ep{}", era % 4);
    wanted.chains.insert(name.clone(), Chain::new(endpoint));
    wanted
        .maps
        .insert("in".into(), VerdictMap { elements: [("flood".to_owned(), Verdict::Goto(name))].into() });
    let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Input, priority: -5 };
    let dispatch = Rule::new("", vec![Expr::Dispatch { side: Side::Source, map: "in".into() }]);
    wanted.chains.insert("input".into(), Chain::base(hook, vec![dispatch]));
    wanted
}

/// Joins the namespaces by a cable whose end here is called `flood`.
fn join(here: &Namespace, there: &Namespace) {
    sh(&[
        "ip",
        "-n",
        &here.name,
        "link",
        "add",
        "flood",
        "type",
        "veth",
        "peer",
        "name",
        "f0",
        "netns",
        &there.name,
    ]);
    for (namespace, device, address) in [(here, "flood", "10.9.0.2/24"), (there, "f0", "10.9.0.1/24")] {
        namespace.run(&format!("ip addr add {address} dev {device}"));
        namespace.run(&format!("ip link set {device} up"));
    }
}

/// Packets counted by the rule with this comment in the witness's table.
fn counted(namespace: &Namespace, comment: &str) -> u64 {
    let listing: serde_json::Value =
        serde_json::from_str(&namespace.run("nft -j list table ip witness")).unwrap();
    let rules = listing["nftables"].as_array().unwrap().iter().map(|object| &object["rule"]);
    let rule = rules.into_iter().find(|rule| rule["comment"] == comment).unwrap();
    let counter =
        rule["expr"].as_array().unwrap().iter().find_map(|expr| expr["counter"]["packets"].as_u64());
    counter.unwrap()
}

#[test]
fn a_thousand_changes_let_nothing_through() {
    inside(|here, runtime| {
        let there = Namespace::new();
        join(here, &there);
        // Another table counts what arrives and, behind ours, what got through.
        here.nft("add table ip witness");
        here.nft("add chain ip witness before { type filter hook prerouting priority -400; }");
        here.nft("add chain ip witness behind { type filter hook input priority 400; }");
        here.nft("add rule ip witness before ip saddr 10.9.0.1 udp dport 9 counter comment \"arrived\"");
        here.nft("add rule ip witness behind ip saddr 10.9.0.1 udp dport 9 counter comment \"leaked\"");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            runtime.block_on(async {
                let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
                let mut shadow = Actual::default();
                for number in 0..=CHANGES {
                    if number == 1 {
                        scope.spawn(|| flood(&there, &stop));
                    }
                    let steps = plan(&shadow.clone(), &version(number), Begin::Whole);
                    for transaction in steps {
                        let run = kernel.run(&transaction).await;
                        if run.is_err() {
                            stop.store(true, Ordering::Relaxed);
                        }
                        run.unwrap_or_else(|error| panic!("change {number}: {error}"));
                        shadow.replay(&transaction);
                    }
                }
            });
            stop.store(true, Ordering::Relaxed);
        });
        let (arrived, leaked) = (counted(here, "arrived"), counted(here, "leaked"));
        println!("{arrived} packets during {CHANGES} changes, {leaked} leaked");
        assert!(arrived > 100_000, "too few packets to prove anything: {arrived}");
        assert_eq!(leaked, 0, "of {arrived}");
    });
}

/// Sends until told to stop.
fn flood(from: &Namespace, stop: &AtomicBool) {
    from.enter();
    let socket = UdpSocket::bind("10.9.0.1:0").expect("bind");
    socket.connect("10.9.0.2:9").expect("connect");
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..64 {
            // Port unreachable and full queues are the other side's business.
            let _ = socket.send(&[0; 8]);
        }
        // A core for the one who changes the policy: this is about atomicity, not about load.
        std::thread::sleep(PAUSE);
    }
}
