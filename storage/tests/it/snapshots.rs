//! Snapshots: taken, exported, restored, refused.

use appliance_storage::{
    ChainHead, ClusterId, Command, Key, OpenError, Record, Revision, Snapshot, SnapshotError, SnapshotInfo,
    Store, StoreOptions, inspect, inspect_head,
};
use proptest::prelude::*;

use crate::support::{Fixture, author, do_delete, do_put, now, options, put, restore, show_event};

fn filled() -> Fixture {
    let mut fixture = Fixture::new();
    for round in 0..5 {
        for key in ["a", "b", "c"] {
            fixture.apply(do_put(key, format!("{key}{round}")));
        }
    }
    fixture.apply(do_delete("b"));
    fixture.apply(Command::Compact { before: Revision(8) });
    fixture
}

#[test]
fn a_snapshot_is_the_state_it_was_taken_at_while_the_store_goes_on() {
    let mut fixture = filled();
    let snapshot = fixture.store().snapshot().unwrap();
    let (chain, list) = (fixture.reader().chain(), fixture.reader().list(&Key::all()).unwrap());
    for value in 0..50 {
        fixture.apply(do_put("a", format!("later {value}")));
        fixture.apply(do_put(&format!("new {value}"), "x"));
    }
    let newest = fixture.reader().revision();
    fixture.apply(Command::Compact { before: newest });
    while fixture.store().purge().unwrap() {}
    let bytes = snapshot.to_bytes().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let mut other = Store::open(dir.path(), options()).unwrap();
    restore(&mut other, &bytes).unwrap();

    assert_eq!((other.applied_index(), other.reader().chain()), (snapshot.applied_index(), chain));
    assert_eq!(other.reader().list(&Key::all()).unwrap(), list);
    drop(snapshot);
    while fixture.store().purge().unwrap() {}
    fixture.reopen();
    assert!(fixture.store().healed().is_none());
}

#[test]
fn a_snapshot_that_is_held_for_long_costs_its_own_state_and_no_more() {
    let mut fixture = filled();
    let state = fixture.store().snapshot().unwrap().to_bytes().unwrap().len();
    let held = fixture.store().snapshot().unwrap();
    let mut sizes = Vec::new();
    for round in 0..20 {
        for value in 0..50 {
            fixture.apply(do_put("a", format!("{round:08} {value:08}")));
        }
        let before = fixture.reader().revision();
        fixture.apply(Command::Compact { before });
        while fixture.store().purge().unwrap() {}
        sizes.push(fixture.store().snapshot().unwrap().to_bytes().unwrap().len());
    }
    let longest = sizes.iter().max().unwrap();
    assert!(*longest < 3 * state, "a state of {state} bytes grew to {sizes:?}");
    let before_release = *sizes.last().unwrap();
    drop(held);
    while fixture.store().purge().unwrap() {}
    let after = fixture.store().snapshot().unwrap().to_bytes().unwrap().len();
    assert!(after < before_release, "what it held is gone: {after} of {before_release} bytes");
}

#[test]
fn a_reader_at_work_does_not_stop_purging() {
    let mut fixture = filled();
    for value in 0..100 {
        fixture.apply(do_put("a", format!("{value}")));
    }
    let before = fixture.reader().revision();
    fixture.apply(Command::Compact { before });
    let (reader, done) = (fixture.reader(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    reader.list(&Key::all()).unwrap();
                }
            });
        }
        // Never idle of readers; each began after the cut, so none is in the way.
        while fixture.store().purge().unwrap() {}
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let kept = fixture.store().snapshot().unwrap().to_bytes().unwrap();
    drop(reader);
    fixture.reopen();
    assert!(!fixture.store().purge().unwrap(), "nothing was left to purge");
    assert_eq!(fixture.store().snapshot().unwrap().to_bytes().unwrap(), kept);
}

#[test]
fn readers_take_snapshots_between_batches_while_the_store_is_written_and_purged() {
    let mut fixture = filled();
    let reader = fixture.reader();
    let folder = tempfile::tempdir().unwrap();
    let (path, done) = (folder.path().join("taken"), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            let mut taken = 0;
            while taken < 5 || !done.load(std::sync::atomic::Ordering::Relaxed) {
                let snapshot = reader.snapshot().unwrap();
                assert_eq!(snapshot.save(&path).unwrap(), inspect(&path).unwrap().bytes);
                assert_eq!(inspect(&path).unwrap().applied, snapshot.applied_index());
                taken += 1;
            }
        });
        for round in 0..400u64 {
            let request = Command::Txn {
                author: author(Some(u128::from(round))),
                compare: vec![],
                then: vec![put(&format!("{}", round % 5), format!("{round}"))],
                otherwise: vec![],
            };
            fixture.apply_all(vec![request, do_delete(&format!("{}", round % 3))]);
            if round % 7 == 0 {
                let before = fixture.reader().revision();
                fixture.apply(Command::Compact { before });
                while fixture.store().purge().unwrap() {}
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        taking.join().unwrap();
    });
}

#[test]
fn a_file_is_inspected_to_its_last_byte() {
    let mut fixture = Fixture::with(StoreOptions { cluster: Some(ClusterId([7; 16])), ..options() });
    fixture.apply_all(vec![do_put("a", "1"), do_put("b", "2"), do_put("a", "3")]);
    fixture.apply(Command::Compact { before: Revision(4) });
    let file = fixture.store().export().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let info = SnapshotInfo {
        cluster: Some(ClusterId([7; 16])),
        applied: 4,
        revision: Revision(4),
        compacted: Revision(4),
        chain: fixture.reader().chain().hash,
        records: 2,
        bytes: bytes.len() as u64,
    };
    assert_eq!(inspect(&file).unwrap(), info);
    assert_eq!(inspect_head(&file).unwrap(), info);
    for (harmed, why) in [
        (bytes[..bytes.len() - 1].to_vec(), "ends too early"),
        ([bytes.as_slice(), b"x"].concat(), "follows its end"),
    ] {
        std::fs::write(&file, harmed).unwrap();
        let refused = inspect(&file).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn what_was_restored_heals_the_store_later() {
    let mut ahead = filled();
    let bytes = ahead.store().snapshot().unwrap().to_bytes().unwrap();
    let mut behind = Fixture::new();
    restore(behind.store(), &bytes).unwrap();
    let (chain, database) = (behind.reader().chain(), behind.database());
    behind.close();
    std::fs::remove_dir_all(database).unwrap();
    behind.reopen();
    let healed = behind.store().healed().expect("healed").snapshot;
    assert_eq!((healed, behind.reader().chain()), (Some(17), chain));
}

#[test]
fn a_restored_store_keeps_its_watchers_and_its_place_over_a_restart() {
    let mut ahead = filled();
    let mut behind = Fixture::new();
    for round in 0..3 {
        for key in ["a", "b", "c"] {
            behind.apply(do_put(key, format!("{key}{round}")));
        }
    }
    let reader = behind.reader();
    let mut watcher = reader.watch(&Key::from("a"), Revision(8)).unwrap();
    let mut overtaken = reader.watch(&Key::from("a"), Revision(2)).unwrap();

    let bytes = ahead.store().snapshot().unwrap().to_bytes().unwrap();
    restore(behind.store(), &bytes).unwrap();

    assert_eq!(reader.chain(), ahead.reader().chain());
    let events = now(watcher.next()).unwrap().unwrap();
    assert_eq!(
        events.iter().map(|event| show_event(event)).collect::<Vec<_>>(),
        ["11 a: a2@8 -> a3@11", "14 a: a3@11 -> a4@14"]
    );
    assert!(now(overtaken.next()).unwrap().is_err(), "its history is gone");
    drop((reader, watcher, overtaken));
    behind.reopen();
    assert_eq!(behind.reader().chain(), ahead.reader().chain());
    assert!(behind.store().healed().is_none());
}

#[test]
fn two_snapshots_in_a_row_are_legal_and_an_older_one_is_not() {
    let mut fixture = filled();
    let older = fixture.store().snapshot().unwrap().to_bytes().unwrap();
    fixture.apply(do_put("a", "newer"));
    let newer = fixture.store().snapshot().unwrap().to_bytes().unwrap();
    let mut other = Fixture::new();
    for bytes in [&older, &newer, &newer] {
        restore(other.store(), bytes).unwrap();
    }
    assert!(matches!(restore(other.store(), &older), Err(SnapshotError::Older { found: 17, applied: 18 })));
    assert_eq!(other.reader().chain(), fixture.reader().chain());
}

#[test]
fn another_clusters_snapshot_and_directory_are_refused_and_left_alone() {
    let of = |id: u8| StoreOptions { cluster: Some(ClusterId([id; 16])), ..options() };
    let mut ours = Fixture::with(of(1));
    let mut theirs = Fixture::with(of(2));
    theirs.apply(do_put("a", "theirs"));
    let bytes = theirs.store().snapshot().unwrap().to_bytes().unwrap();
    assert!(matches!(restore(ours.store(), &bytes), Err(SnapshotError::ForeignCluster { .. })));
    theirs.close();
    assert!(matches!(Store::open(theirs.path(), of(1)), Err(OpenError::ForeignCluster { .. })));
    theirs.reopen();
    assert_eq!(theirs.reader().records(), 1, "untouched");
    assert!(theirs.store().healed().is_none());
}

#[test]
fn the_log_may_be_cut_once_two_exports_and_a_checkpoint_hold_it() {
    let mut fixture = filled();
    let mut cuts = vec![fixture.store().log_may_be_cut_to()];
    for round in 0..3 {
        fixture.store().export().unwrap();
        cuts.push(fixture.store().log_may_be_cut_to());
        fixture.store().checkpoint().unwrap();
        cuts.push(fixture.store().log_may_be_cut_to());
        fixture.apply(do_put("a", format!("round {round}")));
    }
    assert_eq!(cuts, [0, 0, 0, 17, 17, 18, 18]);
    let kept = std::fs::read_dir(fixture.path().join("snapshots")).unwrap().count();
    assert_eq!(kept, 2);
}

#[test]
fn large_values_stay_out_of_the_directory_sled_never_syncs() {
    let mut fixture = Fixture::new();
    for round in 0u8..4 {
        for key in ["a", "b"] {
            fixture.apply(do_put(key, vec![round; 1_400_000]));
        }
        fixture.store().checkpoint().unwrap();
    }
    let mut other = Fixture::new();
    restore(other.store(), &fixture.store().snapshot().unwrap().to_bytes().unwrap()).unwrap();
    fixture.reopen();
    for store in [&fixture, &other] {
        let record = store.reader().get(&Key::from("b")).unwrap().unwrap();
        assert!(record.value.len() == 1_400_000 && record.value.iter().all(|byte| *byte == 3));
    }
}

/// One step of a store's life beside its snapshots.
#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Delete(u8),
    Compact { back: u64 },
    Purge,
    Snapshot,
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..4).prop_map(Step::Put),
        2 => (0u8..4).prop_map(Step::Delete),
        2 => (0u64..4).prop_map(|back| Step::Compact { back }),
        2 => Just(Step::Purge),
        1 => Just(Step::Snapshot),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
    ]
}

type Held = (Snapshot, ChainHead, (Revision, Vec<Record>));

fn check(snapshot: &Snapshot, chain: ChainHead, list: &(Revision, Vec<Record>)) {
    let mut other = Fixture::new();
    restore(other.store(), &snapshot.to_bytes().unwrap()).unwrap();
    assert_eq!((other.reader().chain(), &other.reader().list(&Key::all()).unwrap()), (chain, list));
    other.reopen();
    assert!(other.store().healed().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn snapshots_held_through_compaction_are_what_they_were(steps in prop::collection::vec(step(), 1..60)) {
        let mut fixture = Fixture::new();
        let mut held: Vec<Held> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(key) => drop(fixture.apply(do_put(&format!("{key}"), format!("{n}")))),
                Step::Delete(key) => drop(fixture.apply(do_delete(&format!("{key}")))),
                Step::Compact { back } => {
                    let before = Revision(fixture.reader().revision().0.saturating_sub(back));
                    fixture.apply(Command::Compact { before });
                }
                Step::Purge => while fixture.store().purge().unwrap() {},
                Step::Snapshot => {
                    let (chain, list) = (fixture.reader().chain(), fixture.reader().list(&Key::all()).unwrap());
                    held.push((fixture.store().snapshot().unwrap(), chain, list));
                }
                Step::Release(at) if !held.is_empty() => {
                    let (snapshot, chain, list) = held.swap_remove(at.index(held.len()));
                    check(&snapshot, chain, &list);
                }
                Step::Release(_) => {}
            }
        }
        for (snapshot, chain, list) in &held {
            check(snapshot, *chain, list);
        }
        // A restart now, with some of it purged and some not, brings nothing back.
        let (chain, list) = (fixture.reader().chain(), fixture.reader().list(&Key::all()).unwrap());
        drop(held);
        fixture.reopen();
        prop_assert!(fixture.store().healed().is_none());
        prop_assert_eq!((fixture.reader().chain(), fixture.reader().list(&Key::all()).unwrap()), (chain, list));
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing(at in any::<prop::sample::Index>(), cut in any::<bool>()) {
        let mut fixture = filled();
        let mut bytes = fixture.store().snapshot().unwrap().to_bytes().unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 0x10 }
        let before = fixture.reader().chain();
        let refused = restore(fixture.store(), &bytes);
        prop_assert!(matches!(refused, Err(SnapshotError::Damaged(_))), "{:?}", refused);
        prop_assert_eq!(fixture.reader().chain(), before);
        fixture.apply(do_put("a", "goes on"));
    }
}
