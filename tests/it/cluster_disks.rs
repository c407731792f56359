//! One member's disk may fill up or rot: the others go on, and it comes back with everything or says what to do.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use appliance_tests::chaos::{Plan, record};
use appliance_tests::cluster::{Cluster, Options, name};
use appliance_tests::dice::{Dice, seed};
use appliance_tests::slow_disk::SlowDisk;
use appliance_tests::tmpfs::Tmpfs;
use serde_json::Value;

#[test]
fn a_member_whose_disk_is_full_stops_and_comes_back_when_there_is_room() {
    fills_up(2);
}

#[test]
fn a_leader_whose_disk_is_full_stops_and_another_leads_until_there_is_room() {
    fills_up(0);
}

/// Fills one member's disk, the founder's while it leads or another's, and has it come back when there is room.
fn fills_up(number: usize) {
    let seed = seed();
    let mut cluster = Cluster::prepare(3, Options { seed, ..Options::default() });
    let disk = Tmpfs::mount(cluster.nodes[number].data_dir(), 48);
    cluster.nodes[0].run();
    cluster.join(1, 0);
    cluster.join(2, 0);
    cluster.wait_healthy();
    let _ = cluster.ctl(1, &["leader", "transfer", &name(0)]);
    assert_eq!(cluster.wait_leader(&[0, 1, 2]), 0);
    let plan = Plan { retries: true, pause: Duration::from_millis(2), ..Plan::of(seed, 3) };
    let recorded = record(&cluster.apis(), &plan, || {
        let filler = disk.fill();
        let status = cluster.nodes[number].wait();
        let said = cluster.nodes[number].log();
        assert!(
            status.code() == Some(1) && said.to_lowercase().contains("no space left"),
            "{status}: {said}"
        );
        let _ = cluster.wait_leader(&cluster.others(&[number]));
        // What it had set aside is gone, so it starts once more with as little room as there can be. It may find some
        // in its own files, or not; in the middle of either it is killed.
        assert_eq!(disk.fill(), filler);
        cluster.nodes[number].spawn();
        thread::sleep(Duration::from_secs(1));
        fs::remove_file(filler).expect("free the space");
        cluster.nodes[number].kill();
        cluster.nodes[number].spawn();
        cluster.wait_healthy();
    });
    recorded.holds(60);
}

/// How long a disk stands still in one sync: several election timeouts.
const STALL: Duration = Duration::from_secs(5);

#[test]
fn a_disk_that_stands_still_for_seconds_deposes_a_leader_and_nobody_else_and_loses_nothing() {
    let seed = seed();
    let cluster = Cluster::form(3, seed);
    let stall = |number: usize| SlowDisk::of(cluster.nodes[number].pid().expect("it runs"), STALL);
    let recorded = record(&cluster.apis(), &Plan { retries: true, ..Plan::of(seed, 3) }, || {
        let leader = cluster.wait_leader(&[0, 1, 2]);
        let follower = cluster.others(&[leader])[0];
        let slow = stall(follower);
        thread::sleep(STALL + Duration::from_secs(1));
        let others = cluster.others(&[follower]);
        assert_eq!(cluster.leader_according_to(&others), Some(leader), "a follower's disk deposed it");
        drop(slow);
        cluster.wait_healthy();

        let slow = stall(leader);
        let _ = cluster.wait_leader(&cluster.others(&[leader]));
        thread::sleep(STALL);
        drop(slow);
        cluster.wait_healthy();
    });
    recorded.holds(100);
    cluster.wait_same_history();
}

/// What has rotted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rotten {
    Database,
    DatabaseAndNewestExport,
    DatabaseAndExports,
    Log,
}

/// What a member says that heals itself: from a file that it exported, and its log.
const REBUILDS: [&str; 2] =
    ["the database is damaged; rebuilding it from a snapshot", "rebuilt; the log brings the rest"];

/// What one says that cannot: its log, where it has one, does not reach back to the beginning.
const BEGINS_AGAIN: [&str; 2] = ["a fresh copy is fetched from the other members", "begins again as"];

impl Rotten {
    /// The files, in a data directory.
    pub(crate) fn files(self, data_dir: &Path) -> Vec<PathBuf> {
        let store = data_dir.join("store");
        let name = fs::read_to_string(store.join("CURRENT")).expect("the name of the database");
        let database = store.join(name.trim()).join("db");
        let mut exports = listed(&store.join("snapshots"), "snapshot");
        match self {
            Rotten::Database => vec![database],
            Rotten::DatabaseAndNewestExport => vec![database, exports.pop().expect("an export")],
            Rotten::DatabaseAndExports => [exports, vec![database]].concat(),
            Rotten::Log => listed(&data_dir.join("wal"), "raftlog"),
        }
    }

    /// What its member must report, and what of all that it might report it must not.
    fn reported(self) -> (Vec<&'static str>, Vec<&'static str>) {
        let ([damaged, rebuilt], [fetched, again]) = (REBUILDS, BEGINS_AGAIN);
        match self {
            Rotten::Database => (vec![damaged, rebuilt], vec!["snapshot is of no use", fetched]),
            Rotten::DatabaseAndNewestExport => {
                (vec![damaged, "snapshot is of no use", rebuilt], vec![fetched])
            }
            Rotten::DatabaseAndExports => {
                (vec![damaged, "snapshot is of no use", "starting empty", fetched, again], vec![rebuilt])
            }
            Rotten::Log => (vec![fetched, again], vec![damaged]),
        }
    }

    fn heals_by_itself(self) -> bool {
        matches!(self, Rotten::Database | Rotten::DatabaseAndNewestExport)
    }
}

/// The files of a kind in a directory, oldest first: their names are numbers of one length, or grow.
fn listed(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("list a directory");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort_by_key(|file| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name.len(), name)
    });
    files
}

/// Waits until a member has two exports, and has cut its log in trust of them: so that each kind of damage has one way out.
fn wait_grown(cluster: &Cluster, number: usize) {
    let grown = || {
        let exports = listed(&cluster.nodes[number].data_dir().join("store/snapshots"), "snapshot").len();
        (exports, cluster.metric(number, "raft_log_first_index"))
    };
    let _ = cluster.eventually("exports, and a log that is cut behind them", grown, |(exports, first)| {
        *exports >= 2 && first.is_some_and(|first| first > 1.0)
    });
}

/// What a member is to the others: its id, and whether it votes.
fn standing(cluster: &Cluster, observer: usize, number: usize) -> Option<(Value, bool)> {
    let member = cluster.member_seen_by(observer, number)?;
    Some((member["id"].clone(), member["role"] == "voter"))
}

/// Has a follower's files rot while it is down, and demands that it says so, takes the way that is left, and is well again.
fn rots(cluster: &mut Cluster, rotten: Rotten, dice: &mut Dice) {
    let leader = cluster.wait_leader(&[0, 1, 2]);
    let victim = *dice.of(&cluster.others(&[leader]));
    wait_grown(cluster, victim);
    let (before, _) = standing(cluster, leader, victim).expect("a member");
    cluster.nodes[victim].kill();
    let heard = cluster.nodes[victim].log().len();
    for file in rotten.files(&cluster.nodes[victim].data_dir()) {
        rot(&file, dice);
    }
    thread::sleep(Duration::from_millis(300));
    cluster.nodes[victim].spawn();
    let (must, must_not) = rotten.reported();
    let said = || cluster.nodes[victim].log().split_off(heard);
    let _ = cluster.eventually(&format!("{must:?} for {rotten:?}"), said, |said| {
        must.iter().all(|words| said.contains(words))
    });
    let stands = || standing(cluster, leader, victim);
    let _ = cluster.eventually("it to vote as who it is now", stands, |standing| {
        standing.as_ref().is_some_and(|(id, votes)| (*id == before) == rotten.heals_by_itself() && *votes)
    });
    cluster.wait_healthy();
    assert!(said().contains("ERROR"), "it was not loud about it: {}", said());
    for words in must_not {
        assert!(!said().contains(words), "{rotten:?}: {words:?} in {}", said());
    }
}

#[test]
fn a_member_whose_files_have_rotted_says_so_and_is_healed_by_its_own_or_by_the_others() {
    let seed = seed();
    let arguments = ["--checkpoint-entries", "100", "--retained-entries", "20"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::form_with(3, Options { seed, arguments, ..Options::default() });
    let mut dice = Dice::new(seed);
    let plan = Plan { retries: true, pause: Duration::from_millis(2), ..Plan::of(seed, 3) };
    let recorded = record(&cluster.apis(), &plan, || {
        for rotten in
            [Rotten::Database, Rotten::DatabaseAndNewestExport, Rotten::DatabaseAndExports, Rotten::Log]
        {
            rots(&mut cluster, rotten, &mut dice);
        }
        by_one_command(&cluster);
    });
    recorded.holds(200);
    cluster.wait_same_history();
}

/// Whoever does not trust a member's data has it fetched anew.
fn by_one_command(cluster: &Cluster) {
    let leader = cluster.wait_leader(&[0, 1, 2]);
    let odd = cluster.others(&[leader])[0];
    let (before, _) = standing(cluster, leader, odd).expect("a member");
    let _ = cluster.ctl(odd, &["node", "reseed", "--yes"]).success();
    let stands = || standing(cluster, leader, odd);
    let _ = cluster.eventually("another member of its name to vote", stands, |standing| {
        standing.as_ref().is_some_and(|(id, votes)| *id != before && *votes)
    });
    cluster.wait_healthy();
}

/// So many bytes have one among them that has rotted: fewer than any record, page or frame has that would be missed.
const ROT_EVERY: usize = 64;

/// Flips bits all over what is written. Files of a log are made longer than what is in them.
pub(crate) fn rot(path: &Path, dice: &mut Dice) {
    let file = OpenOptions::new().write(true).open(path).expect("open the file");
    let whole = fs::read(path).expect("read the file");
    let written = whole.iter().rposition(|byte| *byte != 0).expect("something is written") + 1;
    for begin in (0..written).step_by(ROT_EVERY) {
        let length = ROT_EVERY.min(written - begin);
        let at = begin + usize::try_from(dice.below(length as u64)).expect("small");
        file.write_all_at(&[whole[at] ^ 0x55], at as u64).expect("flip a byte");
    }
    eprintln!("{} has rotted, {written} bytes of it", path.display());
}
