//! A snapshot as the beginning of another cluster.

use std::path::{Path, PathBuf};

use appliance_storage::{
    ClusterId, Command, Key, REVISION_JUMP, Refound, Revision, SnapshotError, Store, StoreOptions, inspect,
    refound,
};

use crate::support::{
    Fixture, author, delete, do_delete, do_put, now, options, put, restore, show_outcome, txn,
};

const OLD: ClusterId = ClusterId([1; 16]);
const NEW: ClusterId = ClusterId([2; 16]);

fn of(cluster: ClusterId) -> StoreOptions {
    StoreOptions { cluster: Some(cluster), ..options() }
}

/// Records of one and of several transactions, some of them the old cluster's own, with history behind them.
fn old() -> Fixture {
    let mut fixture = Fixture::with(of(OLD));
    fixture.apply(do_put("policy/a", "first"));
    fixture.apply(txn(
        vec![],
        vec![put("members/1", "one"), put("policy/b", "b"), put("policy/c", "c")],
        vec![],
    ));
    fixture.apply(txn(vec![], vec![put("members/2", "two"), put("names/x", "2")], vec![]));
    fixture.apply(do_put("policy/a", "second"));
    fixture.apply(do_put("policy/gone", "gone"));
    fixture.apply(txn(vec![], vec![delete("policy/gone"), put("policy/big", vec![7; 20_000])], vec![]));
    let retried = Command::Txn {
        author: author(Some(5)),
        compare: vec![],
        then: vec![put("policy/c", "once more")],
        otherwise: vec![],
    };
    fixture.apply(retried);
    fixture
}

fn to() -> Refound {
    Refound {
        cluster: NEW,
        applied: 1,
        above: Revision::ZERO,
        revision_jump: REVISION_JUMP,
        without: vec![Key::from("members/"), Key::from("names/")],
    }
}

fn exported(fixture: &mut Fixture) -> PathBuf {
    fixture.store().export().unwrap()
}

fn refounded(file: &Path, out: &Path) -> Fixture {
    let info = refound(file, out, &to()).unwrap();
    assert_eq!(inspect(out).unwrap(), info, "what was written is a whole snapshot");
    let mut fixture = Fixture::with(of(NEW));
    fixture.store().restore_from(out).unwrap();
    fixture.index = fixture.store().applied_index();
    assert_eq!((info.cluster, info.applied), (Some(NEW), 1));
    assert_eq!((info.revision, info.chain), (fixture.reader().revision(), fixture.reader().chain().hash));
    fixture
}

#[test]
fn the_records_come_along_with_their_counters_and_authors_and_the_rest_stays() {
    let mut old = old();
    let folder = tempfile::tempdir().unwrap();
    let new = refounded(&exported(&mut old), &folder.path().join("new"));

    let (_, expected) = old.reader().list(&Key::from("policy/")).unwrap();
    let (revision, found) = new.reader().list(&Key::all()).unwrap();
    assert_eq!(found, expected);
    assert_eq!(revision, Revision(old.reader().revision().0 + REVISION_JUMP));
    for record in &found {
        let author = new.reader().author(record.mod_revision).unwrap();
        assert_eq!(author, old.reader().author(record.mod_revision).unwrap(), "{}", record.key);
        assert!(author.is_some(), "{}", record.key);
    }
}

#[test]
fn what_a_client_of_the_old_cluster_knew_is_expired_and_no_number_comes_again() {
    let mut old = old();
    let before = old.reader().revision();
    let folder = tempfile::tempdir().unwrap();
    let mut new = refounded(&exported(&mut old), &folder.path().join("new"));
    let reader = new.reader();
    let leapt = reader.revision();

    for after in [Revision(0), Revision(1), before, before.next(), Revision(leapt.0 - 1)] {
        assert!(reader.watch(&Key::all(), after).is_err(), "after {after}");
    }
    let mut watcher = reader.watch(&Key::all(), leapt).unwrap();
    assert!(now(watcher.next()).is_none(), "nothing happened yet");
    new.apply(do_put("policy/a", "third"));
    let events = now(watcher.next()).unwrap().unwrap();
    assert_eq!((events.len(), events[0].revision), (1, leapt.next()));
    assert_eq!(events[0].before.as_ref().map(|record| record.value.to_vec()), Some(b"second".to_vec()));
    let record = events[0].after.clone().unwrap();
    assert_eq!((record.version, record.create_revision), (3, Revision(2)));
}

#[test]
fn a_second_cluster_of_one_file_begins_above_the_first() {
    let mut old = old();
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (exported(&mut old), folder.path().join("second"));
    let mut first = refounded(&file, &folder.path().join("first"));
    first.apply(do_put("policy/a", "of the first"));
    let above = first.reader().revision();
    let info = refound(&file, &out, &Refound { above, ..to() }).unwrap();
    assert_eq!((info.revision.0, info.compacted), (above.0 + REVISION_JUMP, info.revision.next()));
    assert_eq!(inspect(&out).unwrap(), info);
}

#[test]
fn a_request_of_the_old_cluster_is_not_answered_from_memory() {
    let mut old = old();
    let folder = tempfile::tempdir().unwrap();
    let mut new = refounded(&exported(&mut old), &folder.path().join("new"));
    let retried = Command::Txn {
        author: author(Some(5)),
        compare: vec![],
        then: vec![put("policy/c", "another")],
        otherwise: vec![],
    };
    let outcome = show_outcome(&new.apply(retried));
    assert!(outcome.contains("put policy/c=another"), "{outcome}");
}

#[test]
fn it_lives_on_through_restarts_compaction_and_snapshots_of_its_own() {
    let mut old = old();
    let folder = tempfile::tempdir().unwrap();
    let file = exported(&mut old);
    let mut new = refounded(&file, &folder.path().join("new"));
    let mut twin = refounded(&file, &folder.path().join("twin"));
    assert_eq!(new.reader().chain(), twin.reader().chain(), "the same file makes the same cluster");
    new.reopen();
    for store in [&mut new, &mut twin] {
        store.apply(do_put("policy/b", "changed"));
        store.apply(do_delete("policy/big"));
        store.apply(do_put("policy/a", "changed"));
    }
    assert_eq!(new.reader().chain(), twin.reader().chain());
    let before = new.reader().revision();
    new.apply(Command::Compact { before });
    while new.store().purge().unwrap() {}
    new.reopen();
    assert!(new.store().healed().is_none());
    assert_eq!(new.reader().list(&Key::all()).unwrap(), twin.reader().list(&Key::all()).unwrap());

    let again = refounded(&exported(&mut new), &folder.path().join("again"));
    assert_eq!(again.reader().revision().0, new.reader().revision().0 + REVISION_JUMP);
    assert_eq!(again.reader().list(&Key::all()).unwrap().1, new.reader().list(&Key::all()).unwrap().1);
}

#[test]
fn a_damaged_file_and_a_leap_beyond_all_revisions_are_refused_and_nothing_is_written() {
    let mut old = old();
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (exported(&mut old), folder.path().join("out"));
    let beyond = refound(&file, &out, &Refound { revision_jump: u64::MAX, ..to() });
    assert!(matches!(beyond, Err(SnapshotError::Revision(..))), "{beyond:?}");

    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(refound(&file, &out, &to()), Err(SnapshotError::Damaged(_))));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn neither_cluster_takes_the_others_snapshots() {
    let mut old = old();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    refounded(&exported(&mut old), &out);
    let refused = old.store().restore_from(&out);
    assert!(matches!(refused, Err(SnapshotError::ForeignCluster { .. })), "{refused:?}");
    let bytes = old.store().snapshot().unwrap().to_bytes().unwrap();
    let mut new = Store::open(folder.path().join("store").as_path(), of(NEW)).unwrap();
    assert!(matches!(restore(&mut new, &bytes), Err(SnapshotError::ForeignCluster { .. })));
}
