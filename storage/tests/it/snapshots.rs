//! Snapshots: taken, exported, restored, refused.

use appliance_storage::{ClusterId, Command, Key, OpenError, Revision, SnapshotError, Store, StoreOptions};
use proptest::prelude::*;

use crate::support::{Fixture, do_delete, do_put, now, options, show_event};

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
    while fixture.store().purge().unwrap() && fixture.index < 1_000 {
        // Purging says there is more and does nothing: the snapshot still needs what would go.
        fixture.index += 1_000;
    }
    let bytes = snapshot.to_bytes().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let mut other = Store::open(dir.path(), options()).unwrap();
    other.restore(&bytes).unwrap();

    assert_eq!((other.applied_index(), other.reader().chain()), (snapshot.applied_index(), chain));
    assert_eq!(other.reader().list(&Key::all()).unwrap(), list);
    drop(snapshot);
    assert!(!fixture.store().purge().unwrap() || !fixture.store().purge().unwrap(), "purging goes on");
    fixture.reopen();
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
    behind.store().restore(&bytes).unwrap();

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
        other.store().restore(bytes).unwrap();
    }
    assert!(matches!(other.store().restore(&older), Err(SnapshotError::Older { found: 17, applied: 18 })));
    assert_eq!(other.reader().chain(), fixture.reader().chain());
}

#[test]
fn another_clusters_snapshot_and_directory_are_refused_and_left_alone() {
    let of = |id: u8| StoreOptions { cluster: Some(ClusterId([id; 16])), ..options() };
    let mut ours = Fixture::with(of(1));
    let mut theirs = Fixture::with(of(2));
    theirs.apply(do_put("a", "theirs"));
    let bytes = theirs.store().snapshot().unwrap().to_bytes().unwrap();
    assert!(matches!(ours.store().restore(&bytes), Err(SnapshotError::ForeignCluster { .. })));
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
    other.store().restore(&fixture.store().snapshot().unwrap().to_bytes().unwrap()).unwrap();
    fixture.reopen();
    for store in [&fixture, &other] {
        let record = store.reader().get(&Key::from("b")).unwrap().unwrap();
        assert!(record.value.len() == 1_400_000 && record.value.iter().all(|byte| *byte == 3));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing(at in any::<prop::sample::Index>(), cut in any::<bool>()) {
        let mut fixture = filled();
        let mut bytes = fixture.store().snapshot().unwrap().to_bytes().unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 0x10 }
        let before = fixture.reader().chain();
        let refused = fixture.store().restore(&bytes);
        prop_assert!(matches!(refused, Err(SnapshotError::Damaged(_))), "{:?}", refused);
        prop_assert_eq!(fixture.reader().chain(), before);
        fixture.apply(do_put("a", "goes on"));
    }
}
