//! A cluster by three commands, as its users meet it: every node takes writes over its own door, every host is policed
//! by what was written at any of them, also when its policy would cut the cluster in two, and what was enforced last
//! comes back before anything else does.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;

use appliance_tests::api::Api;
use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::ctl::{Printed, program, run};
use appliance_tests::dice::{Dice, seed};
use appliance_tests::eventually::{eventually, eventually_true};
use appliance_tests::netns::Host;
use appliance_tests::packets::{self, Listeners};

use crate::cluster_disks::{Rotten, rot};
use crate::cluster_policy::{CLOSED, OPEN, answers_during, endpoints, visited};

pub(crate) fn enforcing() -> Cluster {
    Cluster::form_with(3, Options { seed: seed(), enforce: true, ..Options::default() })
}

/// No failsafe at all: what stays open is what a node keeps open for its cluster.
const NO_FAILSAFES: &str = "
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []}
";

/// Debian 12's kubectl 1.20, unpacked by `make setup`, else the one on the PATH.
fn kubectl() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/usr/bin/kubectl");
    if unpacked.is_file() {
        return unpacked;
    }
    let installed = PathBuf::from(program("sh", &["-c", "command -v kubectl"]).out.trim());
    assert!(installed.is_file(), "no kubectl: run `make setup`");
    installed
}

/// `kubectl` on the host of a node, against that node.
fn kubectl_at(cluster: &Cluster, number: usize, arguments: &[&str], input: &str) -> Printed {
    let node = &cluster.nodes[number];
    let mut command = cluster.hosts[number].namespace.command(kubectl().to_str().expect("a printable path"));
    command.arg("--cache-dir").arg(node.data_dir().join("../kube-cache"));
    command.arg("--kubeconfig").arg(node.kubeconfig()).args(arguments);
    run(&mut command, input)
}

#[test]
fn every_node_takes_writes_and_every_host_is_policed() {
    let cluster = enforcing();
    let (stranger, hosts, _listeners) = visited(&cluster);
    assert!(hosts.iter().all(|host| packets::tcp(&stranger.namespace, *host, CLOSED)), "open before policy");

    for (number, manifest) in endpoints(3).split("---\n").skip(1).enumerate() {
        let _ = kubectl_at(&cluster, number, &["create", "--validate=false", "-f", "-"], manifest).success();
    }
    for number in 0..3 {
        let listed = kubectl_at(&cluster, number, &["get", "hostendpoints", "-o", "name"], "").success();
        assert_eq!(listed.lines().count(), 3, "at {}: {listed}", name(number));
    }
    for host in &hosts {
        eventually_true("every host to be closed", || !packets::tcp(&stranger.namespace, *host, CLOSED));
        assert!(packets::tcp(&stranger.namespace, *host, OPEN), "failsafes stay open");
    }
    let gone = name(1) + "-eth0";
    let _ = kubectl_at(&cluster, 2, &["delete", "hostendpoint", &gone], "").success();
    eventually_true("the host to open again", || packets::tcp(&stranger.namespace, hosts[1], CLOSED));
}

#[test]
fn no_policy_cuts_the_cluster_in_two_not_even_from_a_member_that_is_yet_to_come() {
    let mut cluster = Cluster::prepare(4, Options { seed: seed(), enforce: true, ..Options::default() });
    cluster.nodes[0].run();
    cluster.join(1, 0);
    cluster.join(2, 0);
    let _ = cluster.ctl(0, &["get", "nodes"]).success();
    let _ = cluster.nodes[0].ctl_with(&["apply", "-f", "-"], NO_FAILSAFES).success();
    let _ = cluster.nodes[0].ctl_with(&["apply", "-f", "-"], &endpoints(4)).success();
    let _listeners: Vec<Listeners> =
        cluster.hosts.iter().map(|host| Listeners::new(&host.namespace, &[OPEN])).collect();
    let stranger = cluster.network.host(99);
    for number in 0..3 {
        let host = IpAddr::V4(cluster.hosts[number].ipv4);
        eventually_true("every host to be closed", || !packets::tcp(&stranger.namespace, host, OPEN));
    }
    // Nobody's address is in any policy, and the newcomer's was unknown when the policy came into force.
    cluster.join(3, 1);
    cluster.wait_healthy();
    for number in 0..4 {
        cluster.restart(number);
        cluster.wait_healthy();
    }
    let others = IpAddr::V4(cluster.hosts[1].ipv4);
    assert!(
        !packets::tcp(&cluster.hosts[0].namespace, others, OPEN),
        "only the cluster's own ports are open"
    );
}

/// Asks all hosts at once, for every question that policy answers with silence costs its whole patience.
pub(crate) fn reached(stranger: &Host, hosts: &[IpAddr], port: u16) -> Vec<bool> {
    thread::scope(|scope| {
        let asked: Vec<_> = hosts
            .iter()
            .map(|host| scope.spawn(move || packets::tcp(&stranger.namespace, *host, port)))
            .collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    })
}

/// A cluster whose hosts let nothing in but the failsafes, and have that on their disks.
pub(crate) fn closed_cluster(stranger: &Host, cluster: &Cluster, hosts: &[IpAddr]) {
    let _ = cluster.nodes[0].ctl_with(&["apply", "-f", "-"], &endpoints(hosts.len())).success();
    for node in &cluster.nodes {
        let saved = node.data_dir().join("dataplane/ruleset.nft");
        let has_endpoint = || fs::read_to_string(&saved).is_ok_and(|text| text.contains("eth0"));
        eventually_true("the ruleset to be saved", has_endpoint);
    }
    let _ =
        eventually("every host to be closed", || reached(stranger, hosts, CLOSED), |reached| none(reached));
}

pub(crate) fn none(reached: &[bool]) -> bool {
    reached.iter().all(|reached| !reached)
}

/// The database of one member is gone, and the log of another has rotted.
fn damage(cluster: &Cluster, [database, log]: [usize; 2]) {
    let store = cluster.nodes[database].data_dir().join("store");
    let name = fs::read_to_string(store.join("CURRENT")).expect("the name of the database");
    fs::remove_dir_all(store.join(name.trim())).expect("lose the database");
    let mut dice = Dice::new(seed());
    let files = Rotten::Log.files(&cluster.nodes[log].data_dir());
    files.iter().for_each(|file| rot(file, &mut dice));
}

/// What members say that have no quorum: one that serves what it has, one that healed as far as it could, and one that has
/// nothing to serve.
fn each_says_how_it_stands(cluster: &Cluster, [whole, healed, waiting]: [usize; 3]) {
    let status = eventually("a status", || cluster.status(whole), Option::is_some).expect("asked for");
    assert_eq!(status["quorum"], false, "{status}");
    let printed = cluster.ctl(whole, &["cluster", "status"]).out;
    assert_eq!(printed.to_lowercase().matches("no quorum").count(), 1, "{printed}");
    let stale = cluster.ctl(whole, &["get", "hostendpoints", "--stale", "-o", "name"]);
    assert!(stale.out.contains("h1-eth0"), "{stale:#?}");

    let said = cluster.nodes[healed].logged("the database is damaged");
    assert!(said.contains("ERROR"), "{said}");
    let said = cluster.nodes[waiting].logged("a fresh copy is fetched from the other members");
    assert!(said.contains("ERROR"), "{said}");
    let told = || Api::new(cluster.nodes[waiting].socket()).ask("GET", "/cluster/status", None).ok();
    let told =
        eventually("its word for it", told, |told| told.as_ref().is_some_and(|told| told.status == 503));
    let message = told.map(|told| told.body["message"].to_string()).unwrap_or_default();
    assert!(message.contains("waits for a fresh copy") && message.contains("policy stays"), "{message}");
}

#[test]
fn hosts_that_start_without_table_quorum_or_whole_data_have_their_last_policy_before_anything_else() {
    let mut cluster = enforcing();
    let (stranger, hosts, _listeners) = visited(&cluster);
    closed_cluster(&stranger, &cluster, &hosts);

    // As after a power cut on hosts whose boot unit is not installed, with the switch between them out as well.
    (0..3).for_each(|number| cluster.nodes[number].kill());
    for host in &cluster.hosts {
        assert_eq!(host.namespace.shell("nft flush ruleset"), "");
    }
    assert_eq!(reached(&stranger, &hosts, CLOSED), [true; 3], "open without a table");
    cluster.partition(&[0], &[1, 2]);
    cluster.partition(&[1], &[2]);
    damage(&cluster, [0, 2]);
    let before = cluster.nodes[2].log().len();
    (0..3).for_each(|number| cluster.nodes[number].spawn());
    let _ = eventually("the last policy", || reached(&stranger, &hosts, CLOSED), |reached| none(reached));
    assert_eq!(reached(&stranger, &hosts, OPEN), [true; 3], "and it is the last policy, failsafes and all");
    // The one that has nothing to serve waits for a copy that does not come, and looks after its host meanwhile.
    eventually_true("it to wait", || {
        cluster.nodes[2].log().split_off(before).contains("this member's data is given up")
    });
    for change in ["nft flush ruleset", "nft flush table inet appliance"] {
        assert_eq!(cluster.hosts[2].namespace.shell(change), "");
        let closed = || reached(&stranger, &hosts[2..], CLOSED);
        let _ = eventually("what others change to be put back", closed, |reached| none(reached));
    }

    let (sent, answered) = answers_during(&stranger, &hosts, || {
        each_says_how_it_stands(&cluster, [1, 0, 2]);
        cluster.network.heal();
        // Also the one that waits, as another member: the two others are a quorum.
        let serves = || cluster.ctl(2, &["get", "hostendpoints", "-o", "name"]).out;
        let _ = cluster.eventually("its fresh copy", serves, |names| names.contains("h3-eth0"));
        cluster.wait_healthy();
    });
    assert!(cluster.nodes[2].log().split_off(before).contains("begins again as"));
    assert!(sent > 100, "only {sent} datagrams were sent: that proves nothing");
    assert_eq!(answered, 0, "a host opened, for {answered} of {sent} datagrams");
    let _ = cluster.ctl(1, &["delete", "hep", "h1-eth0", "h3-eth0"]).success();
    for number in [0, 2] {
        eventually_true("policy to be followed", || packets::tcp(&stranger.namespace, hosts[number], CLOSED));
    }
    assert!(!packets::tcp(&stranger.namespace, hosts[1], CLOSED));
}

#[test]
fn a_member_whose_log_is_lost_begins_again_by_itself() {
    let mut cluster = Cluster::form(3, seed());
    let before = cluster.member_seen_by(0, 1).expect("a member")["id"].clone();
    cluster.nodes[1].kill();
    fs::remove_dir_all(cluster.nodes[1].data_dir().join("wal")).expect("lose the log");
    cluster.nodes[1].spawn();
    let id = || cluster.member_seen_by(0, 1).map(|member| (member["id"].clone(), member["role"].clone()));
    cluster.eventually("another member of the same name to vote", id, |seen| {
        seen.as_ref().is_some_and(|(id, role)| *id != before && *role == "voter")
    });
    cluster.wait_healthy();
    let status = cluster.status(0).expect("a status");
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
}
