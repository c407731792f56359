//! Nothing acknowledged is lost, and nothing opens: the store's promises, kept by the whole product.
//!
//! Kills, stops, a damaged database, a damaged log, a full disk, somebody else's files. What a node may answer to each
//! is one of two: everything that was acknowledged, or a refusal to start that says what to do. Clocks play no part:
//! revisions order what is stored, and no test here could tell one wall clock from another.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use appliance_consensus::{Config, Origin};
use appliance_storage::{Author, Command as StoreCommand, Op, Store, StoreOptions};
use appliance_tests::api::Api;
use appliance_tests::dice::{Dice, seed};
use appliance_tests::netns::Lan;
use appliance_tests::node::Node;
use appliance_tests::over::Over;
use appliance_tests::sets::{SETS, name, revision};
use appliance_tests::tmpfs::Tmpfs;
use serde_json::Value;

use crate::policy_survives::answers_during;
use crate::world::{BARE, World};
use crate::writers::{Ledger, content, object, while_writing};

const KILLS: u32 = 20;

/// Written when everything else is, for the watcher to end with.
const LAST: &str = "last";

/// One in so many kills meets a node that is still starting.
const EARLY_KILL_EVERY: u64 = 4;

/// A node that keeps a store and leaves the kernel alone.
fn store_only(lan: &Lan) -> Node {
    Node::start_with(&lan.host(2), "h1", &["--no-enforce"])
}

/// Starts a node that must refuse, and returns what it said.
pub(crate) fn refuses(node: &mut Node) -> String {
    let before = node.log().len();
    node.spawn();
    let status = node.wait();
    let said = node.log().split_off(before);
    assert_eq!(status.code(), Some(1), "it should have refused to run: {said}");
    said
}

/// Everything a watcher is told after `from`, whoever dies meanwhile; it resumes from the last version it saw. Ends with
/// the object called [`LAST`].
fn watch_through(api: &Api, from: u64, given_up: &AtomicBool) -> Vec<(u64, String, Option<u64>)> {
    let (mut seen, mut at) = (Vec::new(), from);
    loop {
        if let Ok(mut watch) = api.watch(&format!("{SETS}?watch=1&resourceVersion={at}")) {
            while let Some(event) = watch.next_event() {
                let item = &event["object"];
                let deleted = event["type"] == "DELETED";
                assert!(deleted || event["type"] == "ADDED" || event["type"] == "MODIFIED", "{event}");
                assert!(revision(item) > at, "revision {} came after {at}", revision(item));
                at = revision(item);
                seen.push((at, name(item), (!deleted).then(|| content(item))));
                if name(item) == LAST {
                    return seen;
                }
            }
        }
        assert!(!given_up.load(Ordering::SeqCst), "the writers failed");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The watcher was told of every acknowledged write once, in order (which `watch_through` saw to), and what it was told
/// adds up to what is there.
fn watcher_knows(ledger: &Ledger, seen: &[(u64, String, Option<u64>)]) {
    let told: BTreeMap<u64, _> = seen.iter().map(|(at, name, content)| (*at, (name, content))).collect();
    for (at, (name, content)) in ledger.acknowledged.lock().expect("the ledger").iter() {
        assert_eq!(told.get(at), Some(&(name, &Some(*content))), "revision {at} was acknowledged");
    }
    let mut sum = BTreeMap::new();
    for (at, name, content) in seen {
        match content {
            Some(content) => sum.insert(name.clone(), (*at, *content)),
            None => sum.remove(name),
        };
    }
    sum.remove(LAST);
    assert_eq!(sum, *ledger.standing.lock().expect("the ledger"));
}

#[test]
fn nothing_acknowledged_is_lost_while_the_node_is_killed_over_and_over() {
    let seed = seed();
    let lan = Lan::new();
    let mut node = store_only(&lan);
    let api = Api::new(node.socket());
    let from = revision(&api.ask("GET", SETS, None).expect("a list").body);
    let given_up = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_through(&api, from, &given_up));
        let _guard = Over(&given_up);
        let ledger = while_writing(&api, seed, || kill_over_and_over(&mut node, seed));
        ledger.holds(&api);
        let answer = api.ask("POST", SETS, Some(&object(LAST, None, 1))).expect("an answer");
        assert_eq!(answer.status, 201);
        let seen = watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        watcher_knows(&ledger, &seen);
        let acknowledged = ledger.acknowledged.lock().expect("the ledger").len();
        let unanswered = ledger.unanswered.load(Ordering::Relaxed);
        eprintln!(
            "{acknowledged} writes acknowledged, {unanswered} without an answer at first, {} events",
            seen.len()
        );
        assert!(acknowledged > 200 && unanswered > 0, "too little happened to prove anything");
    });
}

fn kill_over_and_over(node: &mut Node, seed: u64) {
    let mut dice = Dice::new(seed);
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(20 + dice.below(300)));
        node.kill();
        if dice.below(EARLY_KILL_EVERY) == 0 {
            node.spawn();
            thread::sleep(Duration::from_millis(dice.below(150)));
            node.kill();
        }
        node.run();
    }
}

#[test]
fn a_node_told_to_stop_under_load_ends_well_and_loses_nothing() {
    let seed = seed();
    let lan = Lan::new();
    let mut node = store_only(&lan);
    let api = Api::new(node.socket());
    let ledger = while_writing(&api, seed, || {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            // Asserts the exit code.
            node.stop();
            node.run();
        }
    });
    ledger.holds(&api);
    assert!(!node.log().contains("ERROR"), "{}", node.log());
}

/// Writes some sets and returns them as they were acknowledged.
fn some_sets(api: &Api, prefix: &str, count: u64) -> Vec<Value> {
    let write = |number| {
        let object = object(&format!("{prefix}{number}"), None, number);
        let answer = api.ask("POST", SETS, Some(&object)).expect("an answer");
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body
    };
    (1..=count).map(write).collect()
}

fn all_there(api: &Api, sets: &[Value]) {
    for set in sets {
        let found = api.ask("GET", &format!("{SETS}/{}", name(set)), None).expect("an answer");
        assert_eq!(&found.body, set);
    }
}

/// The sled database in use.
fn database(node: &Node) -> PathBuf {
    let store = node.data_dir().join("store");
    let current = fs::read_to_string(store.join("CURRENT")).expect("read CURRENT");
    store.join(current.trim_end())
}

/// The number that raft knows a node by.
fn member_id(node: &Node) -> u64 {
    let identity = fs::read_to_string(node.data_dir().join("identity.json")).expect("read the identity");
    let identity: Value = serde_json::from_str(&identity).expect("JSON");
    let id = identity["memberId"].as_str().unwrap_or_else(|| panic!("no memberId in {identity}"));
    u64::from_str_radix(id, 16).expect("hexadecimal digits")
}

/// Makes a stopped node's log as one of a long life: states were exported, and the log is cut behind them.
fn grow_old(node: &Node) {
    let store = Store::open(&node.data_dir().join("store"), StoreOptions::default()).expect("open the store");
    let config = Config {
        checkpoint_entries: 20,
        retained_entries: 5,
        wal_file_bytes: 64 * 1024,
        ..Config::new(member_id(node), node.data_dir())
    };
    let raft =
        appliance_consensus::start(config, store, Origin::Founder, Box::new(drop)).expect("start raft");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        raft.wait_status(|status| status.leader == Some(status.node_id)).await.expect("a leader");
        for number in 0..200_u8 {
            let put = Op::Put { key: "/beside/the/api".into(), value: vec![number] };
            let author = Author { name: "test".into(), reason: "grow old".into(), ..Author::default() };
            let command = StoreCommand::Txn { author, compare: vec![], then: vec![put], otherwise: vec![] };
            raft.propose(command.encode()).await.expect("propose");
        }
        raft.stop().await;
    });
}

#[test]
fn a_damaged_database_is_healed_from_snapshot_and_log_and_nothing_opens() {
    let seed = seed();
    let world = &mut World::enforcing(BARE);
    assert!(!world.reaches_udp(8055));
    let spare = Node::prepare(&world.h2, "unused", &[]);
    let mut node = std::mem::replace(&mut world.node, spare);
    let api = Api::new(node.socket());
    let mut sets = some_sets(&api, "young-", 20);
    let (sent, answered) = answers_during(world, || {
        node.stop();
        grow_old(&node);
        node.run();
        for (round, damage) in [garbage, truncated, removed, gone].into_iter().enumerate() {
            sets.extend(some_sets(&api, &format!("round-{round}-"), 10));
            node.kill();
            damage(&database(&node), seed);
            let before = node.log().len();
            node.run();
            let said = node.log().split_off(before);
            assert!(
                said.contains("ERROR")
                    && said.contains("the database is damaged; rebuilding it from a snapshot"),
                "round {round}: {said}"
            );
            assert!(said.contains("rebuilt; the log brings the rest"), "round {round}: {said}");
            all_there(&api, &sets);
        }
        node.wait_enforced();
    });
    assert!(sent > 100, "only {sent} datagrams sent: the test proves nothing");
    assert_eq!(answered, 0, "of {sent} datagrams");
    node.kill();
    assert!(!world.reaches(8055) && world.reaches(22), "and the policy stands without the node");
}

fn garbage(database: &Path, seed: u64) {
    let file = OpenOptions::new().write(true).open(database.join("db")).expect("open sled's file");
    let length = file.metadata().expect("its length").len();
    let mut dice = Dice::new(seed);
    let bytes: Vec<u8> = (0..length).map(|_| dice.below(256).to_le_bytes()[0]).collect();
    file.write_all_at(&bytes, 0).expect("write over it");
}

fn truncated(database: &Path, _: u64) {
    let file = OpenOptions::new().write(true).open(database.join("db")).expect("open sled's file");
    let length = file.metadata().expect("its length").len();
    file.set_len(length / 3).expect("cut it");
}

fn removed(database: &Path, _: u64) {
    fs::remove_file(database.join("db")).expect("remove sled's file");
}

fn gone(database: &Path, _: u64) {
    fs::remove_dir_all(database).expect("remove the database");
}

/// The log's newest file.
fn log_file(node: &Node) -> PathBuf {
    let files = fs::read_dir(node.data_dir().join("wal")).expect("list the log");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "raftlog"));
    files.sort();
    files.pop().expect("a file of the log")
}

#[test]
fn a_node_whose_log_is_damaged_or_gone_refuses_to_start_and_the_policy_stands() {
    let mut world = World::enforcing(BARE);
    let api = Api::new(world.node.socket());
    let sets = some_sets(&api, "s-", 30);
    world.node.kill();
    let (wal, aside) = (world.node.data_dir().join("wal"), world.node.data_dir().join("aside"));
    let file = log_file(&world.node);
    let whole = fs::read(&file).expect("read the log");

    // With the database gone the log is all there is, and a byte in the middle of it breaks it; zeros follow what is
    // written to the end of the file.
    gone(&database(&world.node), 0);
    let end = whole.iter().rposition(|byte| *byte != 0).expect("something in the log");
    let mut damaged = whole.clone();
    damaged[end / 2] ^= 0x55;
    fs::write(&file, &damaged).expect("damage the log");
    let said = refuses(&mut world.node);
    assert!(
        said.contains("the log in") && said.contains("restore the data directory from a backup"),
        "{said}"
    );
    fs::write(&file, &whole).expect("mend the log");
    world.node.run();
    all_there(&api, &sets);

    world.node.stop();
    let file = log_file(&world.node);
    let whole = fs::read(&file).expect("read the log");
    fs::write(&file, &whole[..end / 2]).expect("cut the log");
    let said = refuses(&mut world.node);
    assert!(said.contains("are missing") && said.contains("restore"), "{said}");

    fs::write(&file, &whole).expect("mend the log");
    fs::rename(&wal, &aside).expect("take the log away");
    let said = refuses(&mut world.node);
    assert!(said.contains("put the directory back") && said.contains("backup"), "{said}");
    fs::create_dir(&wal).expect("an empty log");
    let said = refuses(&mut world.node);
    assert!(said.contains("are missing") && said.contains("put the log directory back"), "{said}");
    assert!(!world.reaches(8055) && world.reaches(22), "the kernel keeps what it has");

    fs::remove_dir_all(&wal).expect("remove what the refusal made");
    fs::rename(&aside, &wal).expect("put the log back");
    world.node.run();
    all_there(&api, &sets);
}

#[test]
fn a_full_disk_stops_writes_with_a_clear_word_and_loses_nothing() {
    let lan = Lan::new();
    let host = lan.host(2);
    let mut node = Node::prepare(&host, "h1", &["--no-enforce"]);
    let disk = Tmpfs::mount(node.data_dir(), 40);
    node.run();
    let api = Api::new(node.socket());
    let mut sets = some_sets(&api, "before-", 10);
    let filler = disk.fill();
    // No wait here: a write is acknowledged, refused, or the node is gone.
    for number in 1..100_000 {
        match api.ask("POST", SETS, Some(&object(&format!("after-{number}"), None, number * 9))) {
            Ok(answer) if answer.status == 201 => sets.push(answer.body),
            Ok(answer) => {
                assert!(answer.status >= 500, "{answer:?}");
                break;
            }
            Err(_) => break,
        }
    }
    let status = node.wait();
    assert_eq!(status.code(), Some(1), "{}", node.log());
    let said = node.log();
    assert!(said.to_lowercase().contains("no space left"), "{said}");

    fs::remove_file(filler).expect("free the space");
    node.run();
    all_there(&api, &sets);
    sets.extend(some_sets(&api, "again-", 10));
    node.kill();
    node.run();
    all_there(&api, &sets);
}

#[test]
fn a_node_without_a_descriptor_left_goes_on_when_there_are_some() {
    let lan = Lan::new();
    let mut node = Node::prepare(&lan.host(2), "h1", &["--no-enforce"]);
    node.set_wrapper(&["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"]);
    node.run();
    let api = Api::new(node.socket());
    let mut sets = some_sets(&api, "before-", 10);
    // What it writes by itself after a start is written before there is nothing left to write it with.
    let _ = node.logged("made snapshot");
    let held: Vec<UnixStream> =
        (0..100).map(|_| UnixStream::connect(node.socket()).expect("a place in the queue")).collect();
    let _ = node.logged("Too many open files");
    drop(held);
    sets.extend(some_sets(&api, "after-", 10));
    node.must_run();
    node.kill();
    node.run();
    all_there(&api, &sets);
}

#[test]
fn somebody_elses_data_and_a_newer_format_are_refused_in_clear_words() {
    let lan = Lan::new();
    let mut mine = store_only(&lan);
    let mut theirs = Node::start_with(&lan.host(3), "h2", &["--no-enforce"]);
    let sets = some_sets(&Api::new(mine.socket()), "mine-", 5);
    mine.stop();
    theirs.stop();
    let (path, other, aside) = (mine.data_dir(), theirs.data_dir(), mine.data_dir().join("aside"));
    for (part, words) in [("store", "belongs to cluster"), ("wal", "holds the log of member")] {
        fs::rename(path.join(part), &aside).expect("take ours away");
        fs::rename(other.join(part), path.join(part)).expect("put theirs there");
        let said = refuses(&mut mine);
        assert!(said.contains(words), "{part}: {said}");
        fs::rename(path.join(part), other.join(part)).expect("give theirs back");
        fs::rename(&aside, path.join(part)).expect("put ours back");
    }
    let identity = fs::read_to_string(path.join("identity.json")).expect("read the identity");
    let newer = identity.replace("\"format\": 2", "\"format\": 3");
    assert_ne!(newer, identity);
    fs::write(path.join("identity.json"), newer).expect("write a newer one");
    let said = refuses(&mut mine);
    assert!(said.contains("has format 3, this version knows 2"), "{said}");
    fs::write(path.join("identity.json"), identity).expect("put it back");
    mine.run();
    all_there(&Api::new(mine.socket()), &sets);
}
