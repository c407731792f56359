//! Watchers and readers beside a writer that does not wait for them.

use std::thread;

use appliance_storage::{Fatal, Key, Reader, Revision, Stopped, StoreOptions, WatchClosed};

use crate::support::{Fixture, do_put, now, options, put, txn};

const REVISIONS: u64 = 3_000;

/// Follows until the last revision; every revision must come, once, in order, with both its keys.
async fn follow(reader: Reader, after: u64) {
    let mut watcher = reader.watch(&Key::from("k/"), Revision(after)).unwrap();
    let mut expected = after.max(1) + 1;
    while expected <= REVISIONS + 1 {
        let events = watcher.next().await.unwrap();
        for pair in events.chunks(2) {
            assert_eq!(pair.len(), 2, "a revision was cut in half");
            for event in pair {
                assert_eq!(event.revision, Revision(expected));
                let before = event.before.as_ref().map_or(1, |before| before.mod_revision.0);
                assert_eq!(before, expected - 1, "the record before is the one before");
            }
            expected += 1;
        }
    }
    assert_eq!(watcher.progress(), Revision(REVISIONS + 1));
}

#[test]
fn watchers_beside_a_writer_see_every_revision_once_and_in_order() {
    let mut fixture = Fixture::with(StoreOptions { watch_lag_revisions: REVISIONS, ..options() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let reader = fixture.reader();
    let early: Vec<_> = [0, 1, 2, 500].map(|after| runtime.spawn(follow(reader.clone(), after))).into();
    let lists = {
        let reader = reader.clone();
        thread::spawn(move || {
            while reader.revision().0 <= REVISIONS {
                let (revision, records) = reader.list(&Key::from("k/")).unwrap();
                let whole = records.iter().all(|record| record.mod_revision == revision);
                assert!(whole, "a list saw half of a revision at {revision}");
            }
        })
    };
    let mut revision = 0;
    while revision < REVISIONS {
        let batch = (revision..revision + 10).map(|revision| {
            let value = revision.to_string();
            txn(vec![], vec![put("k/1", value.clone()), put("k/2", value)], vec![])
        });
        fixture.apply_all(batch.collect());
        revision += 10;
    }
    let late = [0, 1_000, REVISIONS - 1].map(|after| runtime.spawn(follow(reader.clone(), after)));
    for follower in early.into_iter().chain(late) {
        runtime.block_on(follower).unwrap();
    }
    lists.join().unwrap();
}

#[test]
fn a_wait_ends_when_its_entry_is_applied_or_never_will_be() {
    let mut fixture = Fixture::new();
    let reader = fixture.reader();
    assert_eq!(now(reader.wait_applied(0)), Some(Ok(())));
    assert_eq!(now(reader.wait_applied(1)), None);
    fixture.apply(do_put("a", "1"));
    assert_eq!(now(reader.wait_applied(1)), Some(Ok(())));
    fixture.close();
    assert_eq!(now(reader.wait_applied(1)), Some(Ok(())));
    assert_eq!(now(reader.wait_applied(2)), Some(Err(Stopped)));
}

#[test]
fn closing_the_store_ends_a_watch_after_its_last_event() {
    let mut fixture = Fixture::new();
    let mut watcher = fixture.reader().watch(&Key::all(), Revision(1)).unwrap();
    fixture.apply(do_put("a", "1"));
    fixture.close();
    assert_eq!(now(watcher.next()).unwrap().unwrap().len(), 1);
    assert_eq!(now(watcher.next()).unwrap(), Err(WatchClosed::Shutdown { delivered: Revision(2) }));
}

#[test]
fn an_entry_out_of_order_stops_the_store_for_good() {
    let mut fixture = Fixture::new();
    fixture.apply(do_put("a", "1"));
    // What a store that failed had not made durable is the log's to bring back.
    fixture.store().checkpoint().unwrap();
    let skipped = Fatal::Order { applied: 1, index: 3 };
    assert_eq!(fixture.store().apply(&[(3, None)]), Err(skipped.clone()));
    assert_eq!(
        fixture.store().apply(&[(2, None)]),
        Err(skipped.clone()),
        "the first failure is the answer to all"
    );
    assert_eq!(fixture.store().checkpoint(), Err(skipped.clone()));
    assert_eq!(fixture.reader().get(&Key::from("a")), Err(skipped));
    fixture.reopen();
    assert_eq!(fixture.reader().records(), 1);
}

#[test]
fn the_first_entry_of_an_empty_store_may_have_any_index() {
    let mut fixture = Fixture::new();
    fixture.store().apply(&[(7, None), (8, Some(do_put("a", "1")))]).unwrap();
    assert_eq!(fixture.reader().applied_index(), 8);
}
