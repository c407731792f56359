//! Links that are slow, lose, repeat and reorder packets slow a cluster down, and do nothing else to it.

use std::thread;
use std::time::Duration;

use appliance_tests::chaos::{Plan, record};
use appliance_tests::cluster::{Cluster, port};
use appliance_tests::dice::seed;
use appliance_tests::netem::Link;

#[test]
fn slow_lossy_repeating_and_reordering_links_lose_nothing() {
    let seed = seed();
    let cluster = Cluster::form(3, seed);
    let recorded = record(&cluster.apis(), &Plan::of(seed, 3), || {
        for link in [
            Link { delay: Duration::from_millis(40), jitter: Duration::from_millis(40), ..Link::default() },
            Link { loss: 5, duplicate: 5, jitter: Duration::from_millis(5), ..Link::default() },
            Link { loss: 20, duplicate: 10, delay: Duration::from_millis(5), ..Link::default() },
            // Half of everything: a leader may not last, and connections stand still; what comes through must be right.
            Link { loss: 50, ..Link::default() },
        ] {
            cluster.links(link);
            thread::sleep(Duration::from_secs(4));
        }
        cluster.network.heal();
        cluster.wait_healthy();
    });
    recorded.holds(60);
}

#[test]
fn a_member_that_reads_a_few_bytes_a_second_grows_nobodys_memory_and_stops_nobody() {
    let seed = seed();
    let cluster = Cluster::form(3, seed);
    let leader = cluster.wait_leader(&[0, 1, 2]);
    let slow = cluster.others(&[leader])[0];
    let before = memory(&cluster, leader);
    let recorded =
        record(&cluster.apis(), &Plan { pause: Duration::from_millis(2), ..Plan::of(seed, 3) }, || {
            for other in cluster.others(&[slow]) {
                let narrow = Link { rate: Some(2_000), ..Link::default() };
                cluster.network.set(port(other), port(slow), narrow);
            }
            thread::sleep(Duration::from_secs(8));
            cluster.network.heal();
            cluster.wait_healthy();
        });
    recorded.holds(100);
    let grown = memory(&cluster, leader).saturating_sub(before);
    assert!(grown < 96 * 1024, "the leader grew by {grown} KiB");
}

/// Resident memory of a node in KiB.
fn memory(cluster: &Cluster, number: usize) -> u64 {
    let pid = cluster.nodes[number].pid().expect("a running node");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
}
