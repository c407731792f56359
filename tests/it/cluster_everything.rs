//! Whatever happens, in whatever order: kills, freezes, partitions, one-way cuts and bad links drawn at random, several
//! at once, while logs are cut and snapshots sent. `APPLIANCE_CHAOS_SECONDS` makes it longer than a commit can wait for.

use std::thread;
use std::time::{Duration, Instant};

use appliance_tests::chaos::{Plan, record};
use appliance_tests::cluster::{Cluster, Options, port};
use appliance_tests::dice::{Dice, seed};
use appliance_tests::netem::Link;

/// How long it goes on when nobody says otherwise.
const SECONDS: u64 = 12;

fn length() -> Duration {
    let given = std::env::var("APPLIANCE_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(SECONDS))
}

/// Does one thing to the cluster, and says what.
fn misfortune(cluster: &mut Cluster, dice: &mut Dice) -> String {
    let one = usize::try_from(dice.below(cluster.nodes.len() as u64)).expect("small");
    let others = cluster.others(&[one]);
    let other = *dice.of(&others);
    match dice.below(8) {
        0 | 1 => {
            cluster.restart(one);
            format!("killed {one}")
        }
        2 => {
            cluster.freeze(one);
            thread::sleep(Duration::from_millis(dice.below(2_500)));
            cluster.thaw(one);
            format!("froze {one}")
        }
        3 => {
            cluster.partition(&[one], &others);
            format!("cut off {one}")
        }
        4 => {
            cluster.cut_one_way(&[one], &[other]);
            format!("cut {one} to {other}")
        }
        5 => {
            let delay = Duration::from_millis(dice.below(60));
            let link = Link { delay, jitter: delay, loss: 5, duplicate: 5, ..Link::default() };
            cluster.network.set_both(port(one), port(other), link);
            format!("made {one} and {other} see each other badly")
        }
        6 => {
            (0..cluster.nodes.len()).for_each(|number| cluster.restart(number));
            "killed all".to_owned()
        }
        _ => {
            cluster.network.heal();
            "healed the network".to_owned()
        }
    }
}

fn play(nodes: usize) {
    let seed = seed();
    let arguments = vec!["--checkpoint-entries".to_owned(), "150".to_owned()];
    let mut cluster = Cluster::form_with(nodes, Options { seed, arguments, ..Options::default() });
    let mut dice = Dice::new(seed);
    let plan =
        Plan { retries: seed.is_multiple_of(2), pause: Duration::from_millis(4), ..Plan::of(seed, nodes) };
    let recorded = record(&cluster.apis(), &plan, || {
        let until = Instant::now() + length();
        while Instant::now() < until {
            eprintln!("{}", misfortune(&mut cluster, &mut dice));
            thread::sleep(Duration::from_millis(dice.below(1_500)));
        }
        cluster.network.heal();
        cluster.wait_healthy();
    });
    recorded.holds(20);
}

#[test]
fn three_nodes_lose_nothing_whatever_happens_in_whatever_order() {
    play(3);
}

#[test]
fn five_nodes_lose_nothing_whatever_happens_in_whatever_order() {
    play(5);
}
