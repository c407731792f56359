//! Damaged databases: opening one never panics, never answers with what was not written, and heals.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use appliance_storage::{ChainHead, Command, Key, OpenError, Record, Revision, Store};
use proptest::prelude::*;

use crate::support::{Fixture, copy, do_delete, do_put, options};

/// A store to damage copies of: what it was at every applied index, and where its exports are.
struct Original {
    fixture: Fixture,
    was: Vec<(ChainHead, Vec<Record>)>,
}

const EXPORTED: u64 = 150;

fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let mut fixture = Fixture::new();
        let look =
            |fixture: &Fixture| (fixture.reader().chain(), fixture.reader().list(&Key::all()).unwrap().1);
        let mut was = vec![look(&fixture)];
        for n in 1..=400u64 {
            let key = format!("key {}", n * 7 % 31);
            fixture.apply(match n {
                _ if n % 100 == 0 => Command::Compact { before: Revision(n / 2) },
                _ if n % 11 == 0 => do_delete(&key),
                _ if n % 13 == 0 => do_put(&key, vec![b'x'; 20_000]),
                _ => do_put(&key, format!("{n}").repeat(50)),
            });
            was.push(look(&fixture));
            if n == EXPORTED || n == EXPORTED - 50 {
                fixture.store().export().unwrap();
            }
            if n % 50 == 0 {
                fixture.store().checkpoint().unwrap();
            }
        }
        fixture.close();
        Original { fixture, was }
    })
}

/// A copy of the original, damaged by `damage`, which is given the sled directory.
fn damaged(damage: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(original().fixture.path(), dir.path());
    damage(&dir.path().join(original().fixture.database().file_name().unwrap()));
    dir
}

/// Opens what was damaged: it must be what the original was at the index it says it stands at, and go on from there.
fn open_and_check(dir: &Path) -> Store {
    let mut store = Store::open(dir, options()).unwrap();
    let applied = store.applied_index();
    let (chain, records) = &original().was[applied as usize];
    assert!(
        applied >= EXPORTED,
        "behind the newest export, at {applied}: the log may not reach back that far"
    );
    assert_eq!(store.reader().chain(), *chain, "at {applied}");
    assert_eq!(store.reader().list(&Key::all()).unwrap().1, *records, "at {applied}");
    if let Some(healed) = store.healed() {
        assert_eq!(healed.snapshot, Some(EXPORTED), "the newest export");
        assert!(healed.quarantine.as_ref().is_some_and(|place| place.join("db").exists()), "{healed:?}");
    }
    store.apply(&[(applied + 1, Some(do_put("goes", "on")))]).unwrap();
    store.checkpoint().unwrap();
    store
}

#[derive(Clone, Debug)]
enum Damage {
    Flip { at: prop::sample::Index, bit: u8 },
    Zero { at: prop::sample::Index, bytes: usize },
    Garbage { at: prop::sample::Index, seed: u8 },
    Truncate { at: prop::sample::Index },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        2 => (at(), 1usize..5_000).prop_map(|(at, bytes)| Damage::Zero { at, bytes }),
        1 => (at(), any::<u8>()).prop_map(|(at, seed)| Damage::Garbage { at, seed }),
        2 => at().prop_map(|at| Damage::Truncate { at }),
    ]
}

fn inflict(damage: &Damage, file: &PathBuf) {
    let mut bytes = fs::read(file).unwrap();
    // Only where something was written: the file ends with what sled has reserved.
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    match damage {
        Damage::Flip { at, bit } => bytes[at.index(written)] ^= 1 << bit,
        Damage::Zero { at, bytes: length } => {
            let at = at.index(written);
            bytes[at..written.min(at + length)].fill(0);
        }
        Damage::Garbage { at, seed } => {
            let at = at.index(written);
            let garbage = (0u32..).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed);
            bytes[at..written].iter_mut().zip(garbage).for_each(|(byte, garbage)| *byte = garbage);
        }
        Damage::Truncate { at } => bytes.truncate(at.index(written)),
    }
    fs::write(file, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_database_heals_or_was_not_harmed(damage in damage()) {
        let dir = damaged(|database| inflict(&damage, &database.join("db")));
        drop(open_and_check(dir.path()));
        // And what it became opens again, unharmed.
        let store = Store::open(dir.path(), options()).unwrap();
        prop_assert!(store.healed().is_none(), "{:?}", store.healed());
    }
}

#[test]
fn damage_to_sleds_other_files_heals() {
    for name in ["conf", "snap"] {
        let dir = damaged(|database| {
            for entry in fs::read_dir(database).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_string_lossy().starts_with(name) {
                    fs::write(path, b"garbage").unwrap();
                }
            }
        });
        open_and_check(dir.path());
    }
}

#[test]
fn what_a_killed_opening_left_of_sleds_snapshot_is_not_damage() {
    let dir =
        damaged(|database| fs::write(database.join("snap.FFFFFFFFFFFFFFFF.generating"), b"half").unwrap());
    assert_eq!(open_and_check(dir.path()).healed(), None);
}

#[test]
fn a_lost_database_or_current_is_made_up_for() {
    let lost_current = damaged(|database| fs::remove_file(database.with_file_name("CURRENT")).unwrap());
    assert_eq!(open_and_check(lost_current.path()).healed(), None, "there is only one it can have named");

    let garbage = damaged(|database| fs::write(database.with_file_name("CURRENT"), b"\xff../x").unwrap());
    assert_eq!(open_and_check(garbage.path()).healed(), None);

    let lost_database = damaged(|database| fs::remove_dir_all(database).unwrap());
    let store = Store::open(lost_database.path(), options()).unwrap();
    assert_eq!(store.applied_index(), EXPORTED, "from the newest export");
    assert_eq!(store.reader().chain(), original().was[EXPORTED as usize].0);

    let emptied = damaged(|database| {
        fs::remove_dir_all(database).unwrap();
        drop(sled::Config::new().path(database).segment_size(512 * 1024).open().unwrap());
    });
    let store = Store::open(emptied.path(), options()).unwrap();
    assert_eq!(
        store.applied_index(),
        EXPORTED,
        "a database that lost everything is damaged, however well it opens"
    );
}

#[test]
fn the_second_export_serves_when_the_newest_is_damaged_too() {
    let dir = damaged(|database| {
        fs::write(database.join("db"), b"nothing of use").unwrap();
        let newest = database.with_file_name("snapshots").join(format!("{EXPORTED:020}.snapshot"));
        let mut bytes = fs::read(&newest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(newest, bytes).unwrap();
    });
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(store.healed().unwrap().snapshot, Some(EXPORTED - 50));
    assert_eq!(store.reader().chain(), original().was[EXPORTED as usize - 50].0);
}

#[test]
fn exports_that_can_not_be_read_now_are_kept_for_the_next_start() {
    let dir = damaged(|database| {
        fs::write(database.join("db"), b"nothing of use").unwrap();
        let snapshots = database.with_file_name("snapshots");
        for entry in fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap()) {
            fs::rename(entry.path(), database.with_file_name(entry.file_name())).unwrap();
            // Opens, and can not be read.
            fs::create_dir(entry.path()).unwrap();
        }
    });
    let refused = Store::open(dir.path(), options()).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "an empty store would be the end of it: {refused}");

    for applied in [EXPORTED - 50, EXPORTED] {
        let name = format!("{applied:020}.snapshot");
        let place = dir.path().join("snapshots").join(&name);
        fs::remove_dir(&place).unwrap();
        fs::rename(dir.path().join(&name), place).unwrap();
    }
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!((store.applied_index(), store.healed().unwrap().snapshot), (EXPORTED, Some(EXPORTED)));
}

#[test]
fn without_an_export_a_damaged_store_starts_empty_and_says_so() {
    let dir = damaged(|database| {
        fs::write(database.join("db"), b"nothing of use").unwrap();
        fs::remove_dir_all(database.with_file_name("snapshots")).unwrap();
    });
    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!((store.applied_index(), store.healed().unwrap().snapshot), (0, None));
}

#[test]
fn a_database_that_is_gone_is_a_loss_also_where_nothing_was_exported() {
    let dir = damaged(|database| {
        fs::remove_dir_all(database).unwrap();
        fs::remove_dir_all(database.with_file_name("snapshots")).unwrap();
    });
    let store = Store::open(dir.path(), options()).unwrap();
    let healed = store.healed().unwrap();
    assert_eq!((healed.reason.as_str(), healed.snapshot), ("the database is gone", None));
    drop(store);
    assert!(
        Store::open(dir.path(), options()).unwrap().healed().is_none(),
        "and the next start is an ordinary one"
    );
}

#[test]
fn the_newest_two_damaged_databases_are_kept() {
    let dir = damaged(|_| ());
    for _ in 0..4 {
        let name = fs::read_to_string(dir.path().join("CURRENT")).unwrap();
        fs::write(dir.path().join(name.trim_end()).join("db"), b"nothing of use").unwrap();
        assert!(Store::open(dir.path(), options()).unwrap().healed().is_some());
    }
    let mut kept: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("quarantine") || name.starts_with("db"))
        .collect();
    kept.sort();
    assert_eq!(kept, ["db-5", "quarantine-3", "quarantine-4"]);
}

#[test]
fn a_store_in_use_is_refused_and_not_taken_for_damaged() {
    let mut fixture = Fixture::new();
    assert!(matches!(Store::open(fixture.path(), options()), Err(OpenError::InUse(_))));
    fixture.apply(do_put("a", "1"));
    // The owner is gone, but a reader still has the database open.
    let reader = fixture.reader();
    fixture.close();
    assert!(matches!(Store::open(fixture.path(), options()), Err(OpenError::InUse(_))));
    drop(reader);
    fixture.reopen();
    assert_eq!(fixture.reader().records(), 1);
    assert_eq!(fixture.store().healed(), None);
}
