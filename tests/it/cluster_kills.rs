//! Any minority may die at any moment, and all may die at once: nothing acknowledged is lost, no watch skips or repeats.

use std::thread;
use std::time::Duration;

use appliance_tests::chaos::{Plan, record};
use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::dice::{Dice, seed};

/// What raft logs where the leader that goes asks for an election at once, in place of the silence of one that died.
const CALLED_TO_LEAD: &str = "received MsgTimeoutNow from";

/// Some milliseconds of undisturbed work.
fn a_while(dice: &mut Dice) {
    thread::sleep(Duration::from_millis(300 + dice.below(900)));
}

#[test]
fn leader_follower_and_all_at_once_are_killed_over_and_over_and_nothing_is_lost() {
    let seed = seed();
    let mut cluster = Cluster::form(3, seed);
    let mut dice = Dice::new(seed);
    let plan = Plan { retries: true, ..Plan::of(seed, 3) };
    let recorded = record(&cluster.apis(), &plan, || {
        for round in 0..6 {
            let leader = cluster.wait_leader(&[0, 1, 2]);
            a_while(&mut dice);
            match round % 3 {
                0 => cluster.restart(leader),
                1 => {
                    let followers = cluster.others(&[leader]);
                    cluster.restart(*dice.of(&followers));
                }
                _ => {
                    (0..3).for_each(|number| cluster.nodes[number].kill());
                    // In any order: those who were last to hear need not be the last to come.
                    let first = usize::try_from(dice.below(3)).expect("small");
                    (0..3).for_each(|step| cluster.nodes[(first + step) % 3].spawn());
                }
            }
        }
        cluster.wait_healthy();
        a_while(&mut dice);
    });
    recorded.holds(150);
}

#[test]
fn five_nodes_serve_while_any_two_of_them_are_dead() {
    let seed = seed();
    let mut cluster = Cluster::form(5, seed);
    let mut dice = Dice::new(seed);
    let recorded = record(&cluster.apis(), &Plan { retries: true, ..Plan::of(seed, 5) }, || {
        for _ in 0..3 {
            let leader = cluster.wait_leader(&cluster.running());
            let other = *dice.of(&cluster.others(&[leader]));
            for dead in [leader, other] {
                cluster.nodes[dead].kill();
            }
            // The three that are left elect, serve, and are joined again.
            let _ = cluster.wait_leader(&cluster.running());
            a_while(&mut dice);
            for dead in [leader, other] {
                cluster.nodes[dead].spawn();
            }
            a_while(&mut dice);
        }
        cluster.wait_healthy();
    });
    recorded.holds(100);
}

#[test]
fn nodes_that_are_killed_before_they_are_up_come_up_all_the_same() {
    let seed = seed();
    let mut cluster = Cluster::form(3, seed);
    let mut dice = Dice::new(seed);
    let recorded = record(&cluster.apis(), &Plan::of(seed, 3), || {
        for _ in 0..2 {
            a_while(&mut dice);
            let dead = cluster.wait_leader(&[0, 1, 2]);
            for _ in 0..4 {
                cluster.restart(dead);
                thread::sleep(Duration::from_millis(dice.below(200)));
            }
            cluster.restart(dead);
            cluster.wait_healthy();
        }
        a_while(&mut dice);
    });
    recorded.holds(20);
}

#[test]
fn a_rolling_restart_hands_leadership_over_and_loses_nothing() {
    let seed = seed();
    let arguments = ["--log-level", "info,raft=debug"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::form_with(3, Options { seed, arguments, ..Options::default() });
    let called = |cluster: &Cluster| -> usize {
        cluster.nodes.iter().map(|node| node.log().matches(CALLED_TO_LEAD).count()).sum()
    };
    let recorded = record(&cluster.apis(), &Plan { retries: true, ..Plan::of(seed, 3) }, || {
        for number in 0..3 {
            // Whoever stops leads, so that each stop needs another leader.
            let lead = || {
                let _ = cluster.ctl(number, &["leader", "transfer", &name(number)]);
                cluster.leader_according_to(&[0, 1, 2])
            };
            let _ = cluster.eventually("it to lead", lead, |leader| *leader == Some(number));
            let before = called(&cluster);
            // Asserts the exit code.
            cluster.nodes[number].stop();
            let _ = cluster.wait_leader(&cluster.others(&[number]));
            assert!(called(&cluster) > before, "nobody was handed the leadership of {}", name(number));
            cluster.nodes[number].spawn();
            cluster.wait_healthy();
        }
    });
    recorded.holds(50);
}
