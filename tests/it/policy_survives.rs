//! What is closed stays closed: through restarts, kills, foreign hands, and while policy is being changed.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use appliance_tests::eventually::eventually_true;
use appliance_tests::packets;

use crate::world::{BARE, World, object, policy};

/// The promise for a foreign change: noticed and undone within this.
const REPAIR: Duration = Duration::from_secs(1);

/// Sends datagrams at h1's closed port without pause while `f` runs, and counts the answers.
pub(crate) fn answers_during(world: &World, f: impl FnOnce()) -> (usize, usize) {
    let (stop, sent, answered) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let to = (IpAddr::V4(world.h1.ipv4), 8055);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.x.namespace.inside(|| {
                while !stop.load(Ordering::Relaxed) {
                    // A new socket each time: every datagram is a new flow, decided by policy and not by conntrack.
                    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
                    socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a time limit");
                    socket.send_to(b"?", to).expect("send");
                    sent.fetch_add(1, Ordering::Relaxed);
                    answered.fetch_add(usize::from(socket.recv(&mut [0; 8]).is_ok()), Ordering::Relaxed);
                }
            });
        });
        f();
        stop.store(true, Ordering::Relaxed);
    });
    (sent.into_inner(), answered.into_inner())
}

#[test]
fn nothing_opens_while_the_daemon_is_killed_stopped_and_started() {
    let mut world = World::enforcing(BARE);
    assert!(!world.reaches_udp(8055));
    let mut node =
        std::mem::replace(&mut world.node, appliance_tests::node::Node::prepare(&world.h2, "unused", &[]));
    let (sent, answered) = answers_during(&world, || {
        for _ in 0..3 {
            node.kill();
            node.run();
        }
        node.stop();
        node.run();
        node.wait_enforced();
    });
    assert!(sent > 100, "only {sent} datagrams sent: the test proves nothing");
    assert_eq!(answered, 0, "of {sent} datagrams");
    node.stop();
    assert!(!world.reaches(8055) && world.reaches(22), "policy stays without the daemon");
    node.run();
    node.delete("hep", "h1-eth0");
    assert!(world.reaches(8055), "and the daemon still rules it");
}

#[test]
fn a_restart_rewrites_nothing_that_is_right() {
    let mut world = World::enforcing(&format!(
        "{BARE}{}",
        policy("ssh", "ingress: [{action: Allow, source: {nets: [172.17.0.3/32]}}]")
    ));
    let handles = |world: &World| {
        world.h1.namespace.shell("nft -a list table inet appliance | sed 's/packets [0-9]* bytes [0-9]*//'")
    };
    let before = handles(&world);
    assert!(before.contains("# handle"), "{before}");
    world.node.kill();
    world.node.run();
    world.node.wait_enforced();
    assert_eq!(handles(&world), before, "same handles: the same rules, never replaced");
}

#[test]
fn a_foreign_flush_is_undone_within_a_second() {
    let world = World::enforcing(BARE);
    assert!(!world.reaches_udp(8055));
    let closed = |world: &World| !packets::udp(&world.x.namespace, IpAddr::V4(world.h1.ipv4), 8055);
    let flushed = Instant::now();
    assert_eq!(world.h1.namespace.shell("nft flush ruleset"), "");
    while !world.h1.namespace.shell("nft list tables").contains("inet appliance") {
        assert!(flushed.elapsed() < REPAIR, "the table is not back after {REPAIR:?}");
    }
    assert!(closed(&world));
    eventually_true("the report to tell of it", || {
        world.node.report()["status"]["drift"]["repairs"].as_u64() >= Some(1)
    });
}

#[test]
fn a_foreign_rule_in_our_table_is_taken_out_and_other_tables_are_left_alone() {
    let world = World::enforcing(BARE);
    let said = world.h1.namespace.shell(
        "nft add table inet other; nft add chain inet other c '{ type filter hook input priority 50; }'; \
         nft add rule inet other c counter; \
         for c in $(nft list chains inet | sed -n 's/.*chain \\([^ ]*\\) {.*/\\1/p'); do nft insert rule inet appliance $c accept 2>/dev/null; done",
    );
    assert_eq!(said, "");
    eventually_true("h1 to be closed again", || !world.reaches(8055));
    eventually_true("the report to tell of it", || {
        world.node.report()["status"]["drift"]["repairs"].as_u64() >= Some(1)
    });
    assert!(
        world.h1.namespace.shell("nft list table inet other").contains("counter"),
        "not ours, not touched"
    );
}

#[test]
fn nothing_slips_through_while_policy_changes() {
    let world = World::enforcing(BARE);
    let swap = |round: usize| {
        let net = format!("172.17.{}.0/24", 1 + round % 200);
        format!(
            "{}{}",
            object(
                "GlobalNetworkSet",
                "name: friends, labels: {role: friend}",
                &format!("nets: [{net}, 172.17.0.3/32]")
            ),
            policy(
                &format!("p{}", round % 3),
                &format!(
                    "order: {round}, ingress: [{{action: Allow, source: {{selector: \"role == 'friend' || role == 'r{round}'\"}}}}]"
                )
            ),
        )
    };
    let (sent, answered) =
        answers_during(&world, || (0..20).for_each(|round| world.node.apply(&swap(round))));
    assert!(sent > 100 && answered == 0, "{answered} of {sent} datagrams got through");
    assert!(world.h2_reaches(8055), "the friend got in, so the policies were live");
}
