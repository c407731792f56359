//! Reached: how far revisions may have gone already, as far as a data directory and the clock can say.
//!
//! A cluster that is made of a snapshot must stand above everything that clients were shown, not only above the snapshot:
//! the same file may be restored twice, or an older one after a newer. What a directory holds says how far its nodes
//! came. Of other hosts only time is known, and no cluster writes faster than [`PER_SECOND`] for long. What can not be
//! read says nothing, and what no cluster reaches is not believed; neither stands in the way of a restore.

use std::fs;
use std::path::{Path, PathBuf};

use appliance_storage::{Revision, Store, StoreOptions, inspect_head};
use time::OffsetDateTime;
use time::macros::datetime;

use super::refounding::STORE;
use super::reseed::ASIDE;
use super::staging::QUARANTINE;
use crate::snapshots;

/// A store's own exports, below it.
const EXPORTS: &str = "snapshots";

/// Revisions that time is worth: more than a cluster writes, and far from the last number for ten thousand years.
const PER_SECOND: u64 = 10_000;

/// When that count begins.
const EPOCH: OffsetDateTime = datetime!(2020-01-01 00:00 UTC);

/// The last number that every JSON reader keeps exact. Whatever says more is damaged.
const BELIEVED_MAX: u64 = 1 << 53;

/// The highest revision that anything in a stopped node's directory says was reached. The caller holds the directory's
/// lock. The store is opened as a start would: healed, if it is damaged.
pub(crate) fn in_directory(data_dir: &Path) -> Revision {
    highest(stores(data_dir).iter().flat_map(|store| exports(store)).chain(of_store(data_dir)).chain(
        // Their names say it, and outlive their content.
        snapshots::revisions(data_dir),
    ))
}

/// What all clusters together may have reached by now.
pub(crate) fn by_clock(now: OffsetDateTime) -> Revision {
    let seconds = u64::try_from((now - EPOCH).whole_seconds()).unwrap_or(0);
    Revision(seconds.saturating_mul(PER_SECOND).min(BELIEVED_MAX))
}

fn highest(revisions: impl Iterator<Item = Revision>) -> Revision {
    revisions.filter(|revision| revision.0 <= BELIEVED_MAX).max().unwrap_or(Revision::ZERO)
}

/// Every store there is: the one in use, and those that were set aside.
fn stores(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir).into_iter().flatten().filter_map(Result::ok);
    let is_aside = |name: &str| [QUARANTINE, ASIDE].iter().any(|prefix| name.starts_with(prefix));
    let aside = entries.filter(|entry| is_aside(&entry.file_name().to_string_lossy()));
    let directories = std::iter::once(data_dir.to_owned()).chain(aside.map(|entry| entry.path()));
    directories.map(|directory| directory.join(STORE)).collect()
}

/// The exports of one store, by their heads.
fn exports(store: &Path) -> Vec<Revision> {
    let entries = fs::read_dir(store.join(EXPORTS)).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| inspect_head(&entry.path()).ok()).map(|info| info.revision).collect()
}

fn of_store(data_dir: &Path) -> Option<Revision> {
    let path = data_dir.join(STORE);
    if !path.is_dir() {
        return None;
    }
    let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
    match Store::open(&path, options) {
        Ok(store) => Some(store.reader().revision()),
        Err(error) => {
            tracing::warn!("how far this node's store came can not be read: {error}; going by its snapshots");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_or_believed_says_nothing() {
        let folder = tempfile::tempdir().expect("tempdir");
        assert_eq!(in_directory(folder.path()), Revision::ZERO);
        assert!(!folder.path().join(STORE).exists(), "nothing is made");
        for directory in ["store/snapshots", "snapshots", "quarantine-20261120T164510Z/store/snapshots"] {
            fs::create_dir_all(folder.path().join(directory)).expect("made");
            fs::write(folder.path().join(directory).join("5.snapshot"), "rot").expect("written");
        }
        assert!(in_directory(folder.path()) <= Revision::FIRST);
        let file = |name: &str| fs::write(folder.path().join("snapshots").join(name), "").expect("written");
        file("20261120T120000Z-r18446744073709551615.snap");
        file("20261120T110000Z-r1000000007.snap");
        assert_eq!(in_directory(folder.path()), Revision(1_000_000_007));
    }

    #[test]
    fn the_clock_only_goes_up_and_stays_exact_in_json() {
        let at = |year| {
            OffsetDateTime::new_utc(
                time::Date::from_ordinal_date(year, 1).expect("a day"),
                time::Time::MIDNIGHT,
            )
        };
        assert_eq!(by_clock(at(1970)), Revision::ZERO);
        assert_eq!(by_clock(at(2021)).0, 366 * 86_400 * PER_SECOND);
        assert!(by_clock(at(9999)).0 < BELIEVED_MAX);
    }
}
