//! Clocks may jump: revisions order what is stored, elections run on monotonic time, and only certificates and tokens
//! look at the calendar. The nodes' clocks are moved under them by libfaketime, because no namespace moves real time.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use appliance_tests::chaos::{Plan, record};
use appliance_tests::cluster::{Cluster, Options};
use appliance_tests::dice::{Dice, seed};

/// The library that `make setup-test` unpacks.
fn library() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("target/tools");
    let path = tools.join("libfaketimeMT.so.1");
    assert!(path.exists(), "{} is not there: `make setup-test` unpacks it", path.display());
    path
}

/// What moves the clock of a process by what is in this file, and leaves alone what it measures time with.
pub(crate) fn moved_by(stamp: &Path) -> [(&'static str, String); 5] {
    [
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", stamp.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

/// Three members whose clocks are moved by the files that are given with them, one each; right as yet.
pub(crate) fn moved_cluster(directory: &Path, seed: u64) -> (Cluster, Vec<PathBuf>) {
    let mut cluster = Cluster::prepare(3, Options { seed, ..Options::default() });
    let stamps: Vec<PathBuf> = (0..3).map(|number| directory.join(format!("clock-{number}"))).collect();
    for (node, stamp) in cluster.nodes.iter_mut().zip(&stamps) {
        step(stamp, 0);
        for (variable, value) in moved_by(stamp) {
            node.set_environment(variable, &value);
        }
    }
    cluster.nodes[0].run();
    cluster.join(1, 0);
    cluster.join(2, 0);
    cluster.wait_healthy();
    (cluster, stamps)
}

/// Sets a node's clock off by so many seconds from now on.
pub(crate) fn step(stamp: &Path, seconds: i64) {
    // Whole or not at all: the node may read it at any moment.
    let new = stamp.with_extension("new");
    fs::write(&new, format!("{seconds:+}\n")).expect("write the offset");
    fs::rename(&new, stamp).expect("put it in place");
}

/// In seconds: no certificate is valid there.
const TEN_YEARS: i64 = 10 * 365 * 86_400;

#[test]
fn clocks_that_jump_by_hours_and_by_years_lose_nothing_and_depose_nobody() {
    let seed = seed();
    let directory = tempfile::tempdir().expect("a directory");
    let (mut cluster, stamps) = moved_cluster(directory.path(), seed);
    let mut dice = Dice::new(seed);
    let recorded = record(&cluster.apis(), &Plan { retries: true, ..Plan::of(seed, 3) }, || {
        let leader = cluster.wait_leader(&[0, 1, 2]);
        for offset in [3_600, -3_600, TEN_YEARS, 7_200, -TEN_YEARS, -86_400, 0] {
            let stamp: &PathBuf = dice.of(&stamps);
            step(stamp, offset);
            thread::sleep(Duration::from_millis(1_200));
        }
        assert_eq!(cluster.leader_according_to(&[0, 1, 2]), Some(leader), "nobody was deposed by a calendar");
        // And restarted with another clock than it had. One that is years off would believe no certificate, and nobody its.
        stamps.iter().for_each(|stamp| step(stamp, 0));
        step(&stamps[leader], -3_600);
        cluster.restart(leader);
        cluster.wait_healthy();
    });
    recorded.holds(60);
}
