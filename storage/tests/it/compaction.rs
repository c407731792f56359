//! Compaction and the crash between "compacted" being recorded and the rows being gone.

use std::{fs, path::Path, thread, time::Duration};

use appliance_storage::{Command, Key, Outcome, Revision, Store};

use crate::support::{Fixture, copy, do_delete, do_put, options};

/// The rows of history in a closed store.
fn history_rows(database: &Path) -> usize {
    // sled gives its lock back on a thread of its own, a moment after the store is dropped.
    let open = || sled::Config::new().path(database).segment_size(512 * 1024).flush_every_ms(None).open();
    let sled = (0..200).find_map(|_| open().map_err(|_| thread::sleep(Duration::from_millis(25))).ok());
    let sled = sled.expect("the database, once its lock is free");
    let rows = sled.open_tree("rev").unwrap().iter().count();
    drop(sled);
    rows
}

#[test]
fn a_crash_at_any_point_of_purging_resumes_it_and_brings_nothing_back() {
    let mut fixture = Fixture::new();
    for round in 0..20 {
        for key in 0..40 {
            fixture.apply(do_put(&format!("key {key}"), format!("{round}")));
        }
    }
    for key in 0..20 {
        fixture.apply(do_delete(&format!("key {key}")));
    }
    let before = fixture.reader().revision();
    let compacted = fixture.apply(Command::Compact { before });
    assert!(matches!(compacted, Outcome::Succeeded { .. }));
    let (chain, list) = (fixture.reader().chain(), fixture.reader().list(&Key::all()).unwrap());

    let mut more = true;
    let mut crashes = Vec::new();
    while more {
        fixture.store().checkpoint().unwrap();
        // What a power cut would leave: everything synced, nothing closed.
        let image = tempfile::tempdir().unwrap();
        copy(fixture.path(), image.path());
        crashes.push(image);
        more = fixture.store().purge().unwrap();
    }
    assert!(crashes.len() >= 4, "purged in {} steps", crashes.len());

    let database = fixture.database();
    fixture.close();
    let left = history_rows(&database);
    // 20 current records, and the deletion at the first revision kept with what it deleted.
    assert_eq!(left, 22);
    for image in crashes {
        let mut store = Store::open(image.path(), options()).unwrap();
        assert_eq!(store.healed(), None);
        assert_eq!((store.reader().chain(), store.reader().compacted()), (chain, before));
        assert_eq!(store.reader().list(&Key::all()).unwrap(), list);
        while store.purge().unwrap() {}
        drop(store);
        let name = fs::read_to_string(image.path().join("CURRENT")).unwrap();
        assert_eq!(history_rows(&image.path().join(name.trim_end())), left);
    }
}

#[test]
fn compaction_is_due_by_the_bounds_and_then_no_more() {
    let mut fixture = Fixture::new();
    for n in 0..100 {
        fixture.apply(do_put("a", format!("{n}")));
    }
    let reader = fixture.reader();
    // The options keep ten revisions and no age; the writes were made at 1,000 ms.
    assert_eq!(reader.compaction_due(1_000).unwrap(), None, "all of it is young");
    let due = reader.compaction_due(5_000).unwrap();
    assert_eq!(due, Some(Revision(92)));
    fixture.apply(Command::Compact { before: due.unwrap() });
    assert_eq!(reader.compaction_due(5_000).unwrap(), None);
}

#[test]
fn authors_are_read_while_their_revisions_go() {
    let mut fixture = Fixture::new();
    for n in 0..2_000 {
        fixture.apply_all(vec![do_put("a", format!("{n}")), do_put("b", format!("{n}"))]);
    }
    let reader = fixture.reader();
    let newest = reader.revision();
    let asking = std::thread::spawn({
        let reader = reader.clone();
        move || {
            let mut known = usize::MAX;
            while known > 3 {
                let now = (2..=newest.0).filter(|n| reader.author(Revision(*n)).unwrap().is_some()).count();
                assert!(now <= known, "a revision came back");
                known = now;
            }
        }
    });
    fixture.apply(Command::Compact { before: newest });
    while fixture.store().purge().unwrap() {}
    asking.join().unwrap();
}
