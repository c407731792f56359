//! One member's disk may fill up or rot: the others go on, and it comes back with everything or says what to do.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use appliance_tests::chaos::{Plan, record};
use appliance_tests::cluster::{Cluster, Options};
use appliance_tests::dice::{Dice, seed};
use appliance_tests::tmpfs::Tmpfs;

#[test]
fn a_member_whose_disk_is_full_stops_and_comes_back_when_there_is_room() {
    let seed = seed();
    let mut cluster = Cluster::prepare(3, Options { seed, ..Options::default() });
    let disk = Tmpfs::mount(cluster.nodes[2].data_dir(), 48);
    cluster.nodes[0].run();
    cluster.join(1, 0);
    cluster.join(2, 0);
    cluster.wait_healthy();
    let plan = Plan { retries: true, pause: Duration::from_millis(2), ..Plan::of(seed, 3) };
    let recorded = record(&cluster.apis(), &plan, || {
        let filler = disk.fill();
        let status = cluster.nodes[2].wait();
        let said = cluster.nodes[2].log();
        assert!(
            status.code() == Some(1) && said.to_lowercase().contains("no space left"),
            "{status}: {said}"
        );
        let _ = cluster.wait_leader(&[0, 1]);
        thread::sleep(Duration::from_secs(1));
        fs::remove_file(filler).expect("free the space");
        cluster.nodes[2].spawn();
        cluster.wait_healthy();
    });
    recorded.holds(60);
}

#[test]
fn a_member_whose_files_have_rotted_is_healed_or_refuses_and_is_healed_by_one_command() {
    let seed = seed();
    let mut cluster = Cluster::form(3, seed);
    let mut dice = Dice::new(seed);
    let recorded = record(&cluster.apis(), &Plan { retries: true, ..Plan::of(seed, 3) }, || {
        for part in ["store", "wal"] {
            let victim = *dice.of(&cluster.others(&[cluster.wait_leader(&[0, 1, 2])]));
            cluster.nodes[victim].kill();
            let (file, written) = fullest(&cluster.nodes[victim].data_dir().join(part));
            rot(&file, written, &mut dice);
            eprintln!("{} of node {victim} has rotted", file.display());
            thread::sleep(Duration::from_millis(500));
            cluster.nodes[victim].spawn();
            cluster.wait_healthy();
        }
    });
    recorded.holds(60);
}

/// The file below a directory in which the most is written, and how much: where the most is to be damaged. Files of a
/// log are made longer than what is in them.
fn fullest(directory: &Path) -> (PathBuf, usize) {
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("list a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let whole = fs::read(&path).expect("read a file");
                found.push((whole.iter().rposition(|byte| *byte != 0).unwrap_or(0), path));
            }
        }
    }
    let (written, path) = found.into_iter().max().expect("a file");
    (path, written)
}

/// Flips bits of a byte in every few KiB of what is written.
fn rot(path: &Path, written: usize, dice: &mut Dice) {
    let file = OpenOptions::new().write(true).open(path).expect("open the file");
    let whole = fs::read(path).expect("read the file");
    for _ in 0..=written / 4096 {
        let at = usize::try_from(dice.below(written as u64)).expect("small");
        file.write_all_at(&[whole[at] ^ 0x55], at as u64).expect("flip a byte");
    }
}
