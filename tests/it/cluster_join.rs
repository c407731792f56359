//! A cluster by three commands, as its users meet it: every node takes writes over its own door, every host is policed
//! by what was written at any of them, also when its policy would cut the cluster in two, and what was enforced last
//! comes back before anything else does.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::ctl::{Printed, program, run};
use appliance_tests::dice::seed;
use appliance_tests::eventually::{eventually, eventually_true};
use appliance_tests::packets::{self, Listeners};

use crate::cluster_policy::{CLOSED, OPEN, endpoints};

fn enforcing() -> Cluster {
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
    let stranger = cluster.network.host(99);
    let _listeners: Vec<Listeners> =
        cluster.hosts.iter().map(|host| Listeners::new(&host.namespace, &[CLOSED, OPEN])).collect();
    let hosts: Vec<IpAddr> = cluster.hosts.iter().map(|host| IpAddr::V4(host.ipv4)).collect();
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

#[test]
fn a_start_without_table_and_quorum_has_its_last_policy_before_it_has_anything_else() {
    let mut cluster = enforcing();
    let stranger = cluster.network.host(99);
    let _listeners = Listeners::new(&cluster.hosts[2].namespace, &[CLOSED, OPEN]);
    let host = IpAddr::V4(cluster.hosts[2].ipv4);
    let _ = cluster.nodes[0].ctl_with(&["apply", "-f", "-"], &endpoints(3)).success();
    eventually_true("the host to be closed", || !packets::tcp(&stranger.namespace, host, CLOSED));
    let saved = cluster.nodes[2].data_dir().join("dataplane/ruleset.nft");
    let has_endpoint = || fs::read_to_string(&saved).is_ok_and(|text| text.contains("eth0"));
    eventually_true("the ruleset to be saved", has_endpoint);

    for number in 0..3 {
        cluster.nodes[number].kill();
    }
    // As after a power cut on a host whose boot unit is not installed.
    let _ = cluster.hosts[2].namespace.shell("nft delete table inet appliance");
    assert!(packets::tcp(&stranger.namespace, host, CLOSED), "open without a table");
    cluster.nodes[2].spawn();
    eventually_true("the last policy", || !packets::tcp(&stranger.namespace, host, CLOSED));
    assert!(packets::tcp(&stranger.namespace, host, OPEN));

    // Without a quorum the API tells what is here, and what is wrong.
    let status = eventually("a status", || cluster.status(2), Option::is_some).expect("asked for");
    assert_eq!(status["quorum"], false, "{status}");
    let told = cluster.ctl(2, &["cluster", "status"]).out;
    assert_eq!(told.to_lowercase().matches("no quorum").count(), 1, "{told}");
    let stale = cluster.ctl(2, &["get", "hostendpoints", "--stale", "-o", "name"]);
    assert!(stale.out.contains("h3-eth0"), "{stale:#?}");
    assert!(!packets::tcp(&stranger.namespace, host, CLOSED), "and it stays closed");
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
