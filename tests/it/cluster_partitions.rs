//! Whoever is cut off answers nothing old and acknowledges nothing; whoever is with the majority goes on.

use std::thread;
use std::time::{Duration, Instant};

use appliance_tests::api::Api;
use appliance_tests::chaos::{Plan, record};
use appliance_tests::cluster::Cluster;
use appliance_tests::dice::{Dice, seed};
use appliance_tests::sets::SETS;

/// Longer than an election takes, and than a leader believes in itself without a majority.
const CUT: Duration = Duration::from_millis(3_500);

#[test]
fn partitions_of_every_shape_lose_nothing_and_show_nothing_old() {
    let seed = seed();
    let cluster = Cluster::form(3, seed);
    let mut dice = Dice::new(seed);
    // Two clients of each node, also of whoever is cut off: its clients go on asking it.
    let recorded = record(&cluster.apis(), &Plan::of(seed, 3), || {
        for shape in 0..5 {
            let leader = cluster.wait_leader(&[0, 1, 2]);
            let followers = cluster.others(&[leader]);
            let one = *dice.of(&followers);
            let other = cluster.others(&[leader, one])[0];
            match shape {
                0 => cluster.partition(&[leader], &followers),
                1 => cluster.cut_one_way(&[leader], &followers),
                2 => cluster.cut_one_way(&followers, &[leader]),
                3 => cluster.partition(&[one], &[leader, other]),
                // The two followers do not see each other, and both see the leader.
                _ => cluster.partition(&[one], &[other]),
            }
            thread::sleep(CUT);
            cluster.network.heal();
        }
        cluster.wait_healthy();
    });
    recorded.holds(100);
    let (_, lost) = cluster.network.counted();
    assert!(lost > 100, "only {lost} packets were lost: nothing was cut");
}

#[test]
fn the_majority_elects_and_the_old_leader_serves_neither_reads_nor_writes() {
    let seed = seed();
    let cluster = Cluster::form(3, seed);
    let old = cluster.wait_leader(&[0, 1, 2]);
    let rest = cluster.others(&[old]);
    cluster.partition(&[old], &rest);
    let new = cluster.wait_leader(&rest);
    let set = |name: &str| serde_json::json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet", "metadata": {"name": name}});
    let api = |number: usize| Api::new(cluster.nodes[number].socket());
    let answer = api(new).ask("POST", SETS, Some(&set("by-the-majority"))).expect("an answer");
    assert_eq!(answer.status, 201, "{answer:?}");
    let asked = Instant::now();
    let read = api(old).ask("GET", &format!("{SETS}/by-the-majority"), None).expect("an answer");
    assert_eq!(
        (read.status, read.retry_after.is_some()),
        (503, true),
        "{read:?} after {:?}",
        asked.elapsed()
    );
    let write = api(old).ask("POST", SETS, Some(&set("by-the-minority"))).expect("an answer");
    assert!(matches!(write.status, 503 | 504), "{write:?}");
    let local = api(old).ask("GET", &format!("{SETS}?resourceVersion=0"), None).expect("an answer");
    assert_eq!(local.status, 200, "what it has itself it may say, to whoever asks for no more");
    cluster.network.heal();
    cluster.wait_healthy();
    for number in 0..3 {
        let read = api(number).ask("GET", &format!("{SETS}/by-the-majority"), None).expect("an answer");
        assert_eq!(read.status, 200, "node {number}: {read:?}");
    }
}

#[test]
fn a_leader_that_was_frozen_wakes_and_answers_nothing_old() {
    let seed = seed();
    let cluster = Cluster::form(3, seed);
    let mut dice = Dice::new(seed);
    let recorded = record(&cluster.apis(), &Plan { retries: true, ..Plan::of(seed, 3) }, || {
        for round in 0..4 {
            let leader = cluster.wait_leader(&[0, 1, 2]);
            let frozen = if round == 2 { *dice.of(&cluster.others(&[leader])) } else { leader };
            cluster.freeze(frozen);
            let _ = cluster.wait_leader(&cluster.others(&[frozen]));
            thread::sleep(Duration::from_millis(200 + dice.below(800)));
            // Clients of it have asked meanwhile; it reads their questions now, and believes that it leads.
            cluster.thaw(frozen);
            thread::sleep(Duration::from_millis(dice.below(500)));
        }
        cluster.wait_healthy();
    });
    recorded.holds(100);
}

#[test]
fn five_nodes_in_a_ring_find_a_leader_and_lose_nothing() {
    let seed = seed();
    let cluster = Cluster::form(5, seed);
    let recorded = record(&cluster.apis(), &Plan::of(seed, 5), || {
        // Each node sees its two neighbours only.
        for number in 0..5 {
            cluster.partition(&[number], &[(number + 2) % 5]);
        }
        thread::sleep(CUT);
        cluster.network.heal();
        cluster.wait_healthy();
    });
    recorded.holds(30);
}
