//! Snapshots: files of the whole state that this node makes by itself, so that there is something to restore.
//!
//! `<data-dir>/snapshots/<UTC time>-r<revision>.snap`: the newest few, one each interval in which something changed.
//! They are what `appliance ctl snapshot restore` takes. Every member makes its own, for a backup that lies on the one
//! host that burnt down is none; copying them elsewhere is the operator's. A disk too full for one is a warning and no
//! more: what is there already stays, and the next interval tries again.
//!
//! The interval is counted from the newest file, not from the start, so that a node that restarts often still makes
//! them. A file from the future was made by a clock that was wrong: it counts for nothing and goes first.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use appliance_storage::{Reader, Revision, SnapshotError};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Below the data directory.
const DIRECTORY: &str = "snapshots";

/// How a file's name says when it was made, in UTC.
const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// What a name ends with.
const SUFFIX: &str = ".snap";

/// Whether one is due is asked this often; asking costs one look at a directory.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// When to make them, and how many to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// From one to the next.
    pub(crate) interval: Duration,
    /// The newest so many stay.
    pub(crate) keep: usize,
}

/// Why none was made.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error("{path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {source}", path = .path.display())]
    Snapshot { path: PathBuf, source: SnapshotError },
}

/// One of the files, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    at: OffsetDateTime,
    revision: u64,
}

impl Made {
    fn parse(name: &str) -> Option<Made> {
        let (at, revision) = name.strip_suffix(SUFFIX)?.split_once("-r")?;
        let at = PrimitiveDateTime::parse(at, TIME).ok()?.assume_utc();
        Some(Made { at, revision: revision.parse().ok()? })
    }

    fn name(&self) -> String {
        // A time that was given in UTC always formats.
        format!("{}-r{}{SUFFIX}", self.at.format(TIME).unwrap_or_default(), self.revision)
    }
}

/// The revisions of the files below a data directory, by their names.
pub(crate) fn revisions(data_dir: &Path) -> Vec<Revision> {
    let entries = fs::read_dir(data_dir.join(DIRECTORY)).into_iter().flatten().filter_map(Result::ok);
    let made = entries.filter_map(|entry| Made::parse(&entry.file_name().to_string_lossy()));
    made.map(|made| Revision(made.revision)).collect()
}

/// Runs until it is aborted; a file it was writing then has no name yet and is removed by the next start.
pub(crate) async fn run(data_dir: PathBuf, reader: Reader, schedule: Schedule) {
    let directory = data_dir.join(DIRECTORY);
    let mut ticks = tokio::time::interval(LOOK_INTERVAL.min(schedule.interval));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        ticks.tick().await;
        let (directory, reader) = (directory.clone(), reader.clone());
        let now = OffsetDateTime::now_utc();
        let made = tokio::task::spawn_blocking(move || make_if_due(&directory, &reader, schedule, now)).await;
        let was_failing = std::mem::replace(&mut failed, !matches!(made, Ok(Ok(_))));
        match made {
            Ok(Ok(Some(file))) => tracing::info!("made snapshot {}", file.display()),
            Ok(Ok(None)) => {}
            // Said once, not every half minute.
            Ok(Err(error)) if !was_failing => {
                tracing::warn!("no snapshot was made: {error}; it is tried again")
            }
            Ok(Err(error)) => tracing::debug!("no snapshot was made: {error}"),
            Err(error) => tracing::warn!("no snapshot was made: {error}"),
        }
    }
}

/// Makes one if the newest is older than the interval and of another revision, and removes those beyond the number kept.
fn make_if_due(
    directory: &Path,
    reader: &Reader,
    schedule: Schedule,
    now: OffsetDateTime,
) -> Result<Option<PathBuf>, MakeError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| MakeError::Io { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io(directory))?;
    let mut made = list(directory, now).map_err(io(directory))?;
    // A joiner that has not been sent anything yet would spend its interval on an empty file.
    if reader.records() == 0 || !is_due(made.last(), reader.revision().0, schedule.interval, now) {
        return Ok(None);
    }
    let snapshot = reader
        .snapshot()
        .map_err(|fatal| MakeError::Snapshot { path: directory.to_owned(), source: fatal.into() })?;
    let newest = Made { at: now, revision: snapshot.chain().revision.0 };
    let path = directory.join(newest.name());
    snapshot.save(&path).map_err(|source| MakeError::Snapshot { path: path.clone(), source })?;
    made.push(newest);
    for old in made.iter().rev().skip(schedule.keep) {
        let path = directory.join(old.name());
        fs::remove_file(&path).map_err(io(&path))?;
    }
    Ok(Some(path))
}

/// A clock that was set back must not stop snapshots for good: with nothing but files of the future one is due.
fn is_due(newest: Option<&Made>, revision: u64, interval: Duration, now: OffsetDateTime) -> bool {
    newest
        .is_none_or(|newest| newest.revision != revision && (now < newest.at || now - newest.at >= interval))
}

/// The files there are, those of the future before all others and each of these oldest first; removes what a crash left
/// half written.
fn list(directory: &Path, now: OffsetDateTime) -> io::Result<Vec<Made>> {
    let mut made = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".tmp") {
            fs::remove_file(entry.path())?;
        }
        made.extend(Made::parse(&name));
    }
    made.sort_by_key(|made| (made.at <= now, made.at, made.revision));
    Ok(made)
}

#[cfg(test)]
mod tests {
    use appliance_storage::{Author, Command, Key, Op, Store, StoreOptions, inspect};
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);
    const SCHEDULE: Schedule = Schedule { interval: Duration::from_secs(3600), keep: 2 };

    fn put(store: &mut Store) {
        let index = store.applied_index() + 1;
        let author =
            Author { name: "a".into(), source: String::new(), reason: String::new(), time: 0, request: None };
        let then = vec![Op::Put { key: Key::from("k"), value: index.to_string().into_bytes() }];
        let command = Command::Txn { author, compare: vec![], then, otherwise: vec![] };
        store.apply(&[(index, Some(command))]).expect("applied");
    }

    fn names(directory: &Path) -> Vec<String> {
        let files = fs::read_dir(directory).expect("listed");
        let mut names: Vec<String> =
            files.map(|file| file.expect("file").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn one_is_made_each_interval_in_which_something_changed_and_the_newest_stay() {
        let folder = tempfile::tempdir().expect("tempdir");
        let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
        let mut store = Store::open(&folder.path().join("store"), options).expect("opened");
        let (directory, reader) = (folder.path().join(DIRECTORY), store.reader());
        let look = |hours: u32| {
            let now = NOW + Duration::from_secs(3600) * hours;
            make_if_due(&directory, &reader, SCHEDULE, now).expect("looked").is_some()
        };
        assert!(!look(0), "there is nothing yet");
        put(&mut store);
        assert_eq!([look(0), look(0), look(5)], [true, false, false], "nothing changed");
        put(&mut store);
        assert_eq!([look(5), look(5)], [true, false]);
        put(&mut store);
        fs::write(directory.join("20261120T000000Z-r9.tmp"), "half").expect("written");
        fs::write(directory.join("notes.txt"), "somebody's").expect("written");
        assert_eq!([look(5), look(6)], [false, true]);
        let names = names(&directory);
        assert_eq!(names, ["20261120T170000Z-r3.snap", "20261120T180000Z-r4.snap", "notes.txt"]);
        assert_eq!(inspect(&directory.join(&names[1])).expect("whole").revision.0, 4);
    }

    #[test]
    fn a_clock_that_was_set_back_stops_nothing() {
        let newest = Made { at: NOW, revision: 5 };
        assert!(is_due(Some(&newest), 6, SCHEDULE.interval, NOW - Duration::from_secs(60)));
        assert!(!is_due(Some(&newest), 6, SCHEDULE.interval, NOW + Duration::from_secs(60)));
    }

    #[test]
    fn files_of_a_clock_that_was_ahead_are_not_due_for_ever_and_go_first() {
        let folder = tempfile::tempdir().expect("tempdir");
        let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
        let mut store = Store::open(&folder.path().join("store"), options).expect("opened");
        let (directory, reader) = (folder.path().join(DIRECTORY), store.reader());
        let mut look = |at: OffsetDateTime| {
            put(&mut store);
            make_if_due(&directory, &reader, SCHEDULE, at).expect("looked").is_some()
        };
        let ahead = NOW + Duration::from_secs(365 * 24 * 3600);
        assert_eq!([look(ahead), look(ahead + SCHEDULE.interval)], [true, true]);
        // The clock is right again: one each interval, and what is made stays.
        let minutes = |minutes: u64| NOW + Duration::from_secs(60 * minutes);
        assert_eq!([look(minutes(0)), look(minutes(1)), look(minutes(59))], [true, false, false]);
        assert_eq!(names(&directory), ["20261120T120000Z-r4.snap", "20271120T130000Z-r3.snap"]);
        assert_eq!([look(minutes(60)), look(minutes(61))], [true, false]);
        assert_eq!(names(&directory), ["20261120T120000Z-r4.snap", "20261120T130000Z-r7.snap"]);
    }

    #[test]
    fn a_name_says_when_and_what_and_others_are_left_alone() {
        let made = Made { at: NOW, revision: 1_000_000_007 };
        assert_eq!(made.name(), "20261120T120000Z-r1000000007.snap");
        assert_eq!(Made::parse(&made.name()), Some(made));
        for odd in
            ["20261120T120000Z.snap", "20261320T120000Z-r1.snap", "x-r1.snap", "20261120T120000Z-r.snap"]
        {
            assert_eq!(Made::parse(odd), None, "{odd}");
        }
    }
}
