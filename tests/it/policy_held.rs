//! A host whose node can not go on keeps what it has: where the node knows nothing, or less than its host, or can not start.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use appliance_tests::ctl::run;
use appliance_tests::eventually::{eventually, eventually_true};
use appliance_tests::netns::Lan;
use appliance_tests::node::Node;
use appliance_tests::packets::{self, Listeners};
use appliance_tests::tmpfs::Tmpfs;

use crate::cluster_join::{closed_cluster, enforcing, none, reached};
use crate::cluster_policy::{CLOSED, OPEN, answers_during, visited};
use crate::durability::refuses;
use crate::units;
use crate::world::{BARE, World};

/// What a removed member says that never got a copy.
const FOLLOWS_NOTHING: &str = "this removed member's own copy is at revision 1";

/// So many datagrams are enough to prove something: each is a flow of its own.
const SENT_MIN: usize = 50;

/// Whether the ruleset on a node's disk polices its host.
fn saved(node: &Node) -> bool {
    let text = fs::read_to_string(node.data_dir().join("dataplane/ruleset.nft"));
    text.is_ok_and(|text| text.contains("hep/"))
}

/// Removes everything in a directory but what is called so.
fn empty(directory: &Path, but: &str) {
    for entry in fs::read_dir(directory).expect("list a directory") {
        let path = entry.expect("an entry").path();
        match path.file_name().is_some_and(|name| name == but) {
            true => {}
            false if path.is_dir() => fs::remove_dir_all(path).expect("remove it"),
            false => fs::remove_file(path).expect("remove it"),
        }
    }
}

#[test]
fn a_new_cluster_does_not_begin_on_a_policed_host() {
    let mut world = World::enforcing(BARE);
    eventually_true("the ruleset to be saved", || saved(&world.node));
    world.node.stop();
    let data_dir = world.node.data_dir();
    let (kept, gone) = (data_dir.with_file_name("kept"), data_dir.with_file_name("gone"));
    let _ = run(Command::new("cp").arg("-a").arg(data_dir.join("dataplane")).arg(&kept), "").success();
    // As with a volume that is not mounted, or a directory that somebody emptied.
    empty(&data_dir, "");
    let said = refuses(&mut world.node);
    assert!(said.contains("polices this host already") && said.contains("h1-eth0"), "{said}");
    for way in ["--join", "snapshot restore", "nft delete table inet appliance"] {
        assert!(said.contains(way), "{way}: {said}");
    }
    assert!(!world.reaches(8055) && world.reaches(22), "and nothing opened");

    // The same after a reboot, with nothing left but the last policy.
    empty(&data_dir, "");
    fs::rename(&kept, data_dir.join("dataplane")).expect("put it back");
    assert_eq!(world.h1.namespace.shell("nft flush ruleset"), "");
    let said = refuses(&mut world.node);
    assert!(said.contains("polices this host already"), "{said}");
    assert!(!world.reaches(8055), "it was put back first");

    fs::rename(data_dir.join("dataplane"), gone).expect("remove it on purpose");
    assert_eq!(world.h1.namespace.shell("nft delete table inet appliance"), "");
    world.node.run();
    assert!(world.reaches(8055), "a new cluster, with nothing in it");
}

#[test]
fn a_host_whose_disk_can_not_be_written_has_its_last_policy() {
    let lan = Lan::new();
    let (h1, x) = (lan.host(2), lan.host(9));
    let _listeners = Listeners::new(&h1.namespace, &[CLOSED, OPEN]);
    let closed = |port| !packets::tcp(&x.namespace, IpAddr::V4(h1.ipv4), port);
    let mut node = Node::prepare(&h1, "h1", &[]);
    let disk = Tmpfs::mount(node.data_dir(), 48);
    node.run();
    node.apply(BARE);
    eventually_true("the ruleset to be saved", || saved(&node));
    node.stop();
    for change in ["nft flush ruleset", "nft flush table inet appliance"] {
        disk.remount("ro");
        assert_eq!(h1.namespace.shell(change), "");
        assert!(!closed(CLOSED), "open after {change}");
        let said = refuses(&mut node);
        assert!(said.contains("data directory") && said.contains("Read-only file system"), "{said}");
        assert!(closed(CLOSED) && !closed(OPEN), "after {change}");
        disk.remount("rw");
    }
    node.run();
    node.wait_enforced();
    assert!(closed(CLOSED) && !closed(OPEN));
}

#[test]
fn a_member_that_is_removed_before_its_copy_arrived_keeps_its_host_closed() {
    let mut cluster = enforcing();
    let (stranger, hosts, _listeners) = visited(&cluster);
    closed_cluster(&stranger, &cluster, &hosts);
    cluster.nodes[2].kill();
    fs::remove_dir_all(cluster.nodes[2].data_dir().join("wal")).expect("lose the log");
    // It can ask for a copy, at the others' APIs, and gets none.
    let cut = "nft add table inet cut; \
               nft add chain inet cut in '{ type filter hook input priority -200; }'; \
               nft add rule inet cut in tcp dport 2380 drop; nft add rule inet cut in tcp sport 2380 drop";
    assert_eq!(cluster.hosts[2].namespace.shell(cut), "");
    let (sent, answered) = answers_during(&stranger, &hosts[2..], || {
        cluster.nodes[2].spawn();
        let _ = cluster.nodes[2].logged("begins again as");
        let member = || cluster.member_seen_by(0, 2);
        let _ = cluster.eventually("the new member", member, |member| {
            member.as_ref().is_some_and(|member| member["role"] == "learner")
        });
        let _ = cluster.ctl(0, &["member", "remove", "h3", "--yes"]).success();
        assert_eq!(cluster.hosts[2].namespace.shell("nft delete table inet cut"), "");
        let _ = cluster.nodes[2].logged("the cluster has removed this member");
        let said = cluster.nodes[2].logged(FOLLOWS_NOTHING);
        assert!(said.contains("ERROR"), "{said}");
        for _ in 0..3 {
            let heard = cluster.nodes[2].log().len();
            cluster.restart(2);
            eventually_true("the same at each start", || {
                cluster.nodes[2].log().split_off(heard).contains(FOLLOWS_NOTHING)
            });
        }
    });
    assert!(sent > SENT_MIN, "only {sent} datagrams were sent: that proves nothing");
    assert_eq!(answered, 0, "the host opened, for {answered} of {sent} datagrams");
    assert_eq!(cluster.hosts[2].namespace.shell("nft flush ruleset"), "");
    let closed = || reached(&stranger, &hosts[2..], CLOSED);
    let _ = eventually("what others change to be put back", closed, |reached| none(reached));
}

#[test]
fn a_host_that_is_to_join_again_keeps_its_last_policy_through_a_reboot() {
    let mut cluster = enforcing();
    let (stranger, hosts, _listeners) = visited(&cluster);
    closed_cluster(&stranger, &cluster, &hosts);
    let id = cluster.status(2).expect("a status")["cluster"].as_str().unwrap_or_default().to_owned();
    (0..2).for_each(|number| cluster.nodes[number].kill());
    // Refused for as long as it may only be an election.
    let recover = || cluster.ctl(2, &["recover", "--yes", "--cluster", &id]);
    let printed = cluster.eventually("it to go on alone", recover, |printed| printed.code == 0).success();

    // What it prints for the others, on the first of them, whose data is elsewhere.
    let data_dir = cluster.nodes[0].data_dir();
    let steps: Vec<&str> = printed.lines().filter(|line| line.contains("/var/lib/appliance")).collect();
    assert_eq!(steps.len(), 2, "{printed}");
    let steps = steps.join(" &&").replace("/var/lib/appliance", &data_dir.display().to_string());
    let _ = run(Command::new("sh").args(["-c", &steps]), "").success();
    let left: Vec<_> =
        fs::read_dir(&data_dir).expect("list it").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(left, ["dataplane"]);
    assert_eq!(cluster.hosts[0].namespace.shell("nft flush ruleset"), "");
    assert!(units::boot(&cluster.hosts[0].namespace, &data_dir), "the boot unit");
    assert_eq!(reached(&stranger, &hosts[..1], CLOSED), [false], "closed after a reboot");

    let (sent, answered) = answers_during(&stranger, &hosts[..1], || {
        cluster.join(0, 2);
        cluster.restart(0);
        cluster.wait_healthy();
    });
    assert!(sent > SENT_MIN, "only {sent} datagrams were sent: that proves nothing");
    assert_eq!(answered, 0, "the host opened, for {answered} of {sent} datagrams");
    assert_eq!(reached(&stranger, &hosts[..1], OPEN), [true]);
}
