//! Certificates are renewed when two thirds of their life are over, while everything goes on: no process starts again, no
//! client is turned away, and no member loses another.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use appliance_tests::cluster::{Cluster, name};
use appliance_tests::ctl::run;
use appliance_tests::dice::seed;
use appliance_tests::over::Over;
use serde_json::Value;

use crate::cluster_clocks::{moved_by, moved_cluster, step};
use crate::cluster_keys::shown_on;

const NODES: &str = "https://appliance:6443/apis/projectcalico.org/v3/nodes";

const DAY: i64 = 24 * 3_600;

/// Of the 90 days that a node's certificate lives; the authority and the clients live longer.
const TWO_THIRDS_AND_A_DAY: i64 = 61 * DAY;

/// Between two questions of a client, each of which makes a connection of its own.
const PAUSE: Duration = Duration::from_millis(100);

/// The administrator of the first node, as files that no renewal touches.
struct Client(tempfile::TempDir);

impl Client {
    fn of(cluster: &Cluster) -> Client {
        let held = tempfile::tempdir().expect("a temporary directory");
        for file in ["ca.crt", "admin.crt", "admin.key"] {
            let from = cluster.nodes[0].data_dir().join("pki").join(file);
            fs::copy(from, held.path().join(file)).expect("copied");
        }
        Client(held)
    }

    /// A linearizable list over a new connection to a node, by the node's own clock: the code it is answered with, or what
    /// went wrong.
    fn asks(&self, cluster: &Cluster, number: usize, stamp: &Path) -> String {
        let mut command = cluster.hosts[number].namespace.command("curl");
        command.envs(moved_by(stamp)).args(["-sS", "-m", "20", "--resolve", "appliance:6443:127.0.0.1"]);
        for (argument, file) in [("--cacert", "ca.crt"), ("--cert", "admin.crt"), ("--key", "admin.key")] {
            command.arg(argument).arg(self.0.path().join(file));
        }
        let printed = run(command.args(["-o", "/dev/null", "-w", "%{http_code}", NODES]), "");
        if printed.code == 0 { printed.out } else { format!("curl {}: {}", printed.code, printed.err) }
    }

    /// Asks a node over and over; everything but a list that it got, and how many lists.
    fn asks_until(
        &self,
        (cluster, number): (&Cluster, usize),
        stamp: &Path,
        over: &AtomicBool,
    ) -> (usize, Vec<String>) {
        let (mut good, mut bad) = (0, Vec::new());
        while !over.load(Ordering::Relaxed) {
            match self.asks(cluster, number, stamp) {
                code if code == "200" => good += 1,
                other => bad.push(other),
            }
            thread::sleep(PAUSE);
        }
        (good, bad)
    }
}

/// Every node's certificate, as it is on its disk.
fn certificates(cluster: &Cluster) -> Vec<String> {
    let read = |node: &appliance_tests::node::Node| fs::read_to_string(node.data_dir().join("pki/node.crt"));
    cluster.nodes.iter().map(|node| read(node).expect("a certificate").trim().to_owned()).collect()
}

/// What must not change, whatever is renewed: the processes, the leader and its term.
fn unmoved(cluster: &Cluster) -> (Vec<Option<u32>>, Vec<(Value, Value)>) {
    let pids = cluster.nodes.iter().map(appliance_tests::node::Node::pid).collect();
    let led = |number: usize| {
        let status = cluster.status(number).expect("a status");
        (status["leader"].clone(), status["term"].clone())
    };
    (pids, (0..3).map(led).collect())
}

/// When the certificates end, by name, as the first node knows it from the others' records.
fn ends(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status(0).unwrap_or_default();
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let end = |number: usize| {
        let member = members.iter().find(|member| member["name"] == name(number));
        member.and_then(|member| member["certificateExpires"].as_str()).unwrap_or_default().to_owned()
    };
    (0..3).map(end).collect()
}

fn all_differ(now: &[String], before: &[String]) -> bool {
    now.iter().zip(before).all(|(now, before)| !now.is_empty() && now != before)
}

/// Moves all clocks, and waits until every member has, shows and has told the others of another certificate.
fn renew(cluster: &Cluster, stamps: &[PathBuf]) {
    let (before, ended) = (certificates(cluster), ends(cluster));
    for (number, certificate) in before.iter().enumerate() {
        assert_eq!(shown_on(&cluster.hosts[number], 6443), *certificate, "{}", name(number));
    }
    // All at once: whoever is two months ahead of the others has a certificate that is not valid for them yet.
    stamps.iter().for_each(|stamp| step(stamp, TWO_THIRDS_AND_A_DAY));
    let ask = || certificates(cluster);
    let now = cluster.eventually("all certificates to be renewed", ask, |now| all_differ(now, &before));
    for (number, certificate) in now.iter().enumerate() {
        for port in [6443, 2380] {
            let shown = || shown_on(&cluster.hosts[number], port);
            let what = format!("{} to show its new certificate on {port}", name(number));
            let _ = cluster.eventually(&what, shown, |shown| shown == certificate);
        }
        let _ = cluster.nodes[number].logged("made anew while running: the node's certificate");
    }
    let _ = cluster.eventually("the others to know", || ends(cluster), |now| all_differ(now, &ended));
}

#[test]
fn certificates_are_renewed_in_time_and_nothing_stops_for_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut cluster, stamps) = moved_cluster(directory.path(), seed());
    let client = Client::of(&cluster);
    for (number, stamp) in stamps.iter().enumerate() {
        assert_eq!(client.asks(&cluster, number, stamp), "200", "at {}", name(number));
    }
    let before = unmoved(&cluster);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking: Vec<_> = stamps
            .iter()
            .enumerate()
            .map(|(number, stamp)| {
                let (client, cluster, over) = (&client, &cluster, &over);
                scope.spawn(move || client.asks_until((cluster, number), stamp, over))
            })
            .collect();
        let given_up = Over(&over);
        renew(&cluster, &stamps);
        drop(given_up);
        for (number, asking) in asking.into_iter().enumerate() {
            let (good, bad) = asking.join().expect("a client");
            assert!(good > 3, "{} was asked {good} times only: that proves nothing", name(number));
            assert!(bad.is_empty(), "{} turned a client away: {bad:?}", name(number));
        }
    });
    assert_eq!(unmoved(&cluster), before, "another process, leader or term");
    // Connections between members outlive a certificate. These are new ones, and new certificates at both their ends.
    cluster.restart(1);
    cluster.wait_healthy();
}
