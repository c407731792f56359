//! What a damaged log may do: lose a torn tail, which nobody was told of, or refuse to open. Never anything else.
//!
//! Every test writes a real log and then harms its files. `Log::open` and `Log::agree_with` together are what stands
//! between the disk and raft.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, atomic::Ordering},
};

use proptest::prelude::*;
use raft::{
    GetEntriesContext, Storage,
    eraftpb::{Entry, HardState},
};
use tempfile::TempDir;

use crate::{
    config::Config,
    error::StartError,
    log::Log,
    wal::{Faults, Wal, WalFiles},
};

/// Small files, so that a few hundred entries fill several.
const FILE_BYTES: u64 = 32 * 1_024;

/// A log of groups of one entry each, indexes 2 to `last`.
fn written(last: u64) -> (TempDir, Config) {
    let folder = TempDir::new().unwrap();
    let config = Config { wal_file_bytes: FILE_BYTES, ..Config::new(1, folder.path()) };
    let mut log = Log::open(&config, &[1], 0).unwrap();
    for index in 2..=last {
        append(&mut log, index);
    }
    (folder, config)
}

fn append(log: &mut Log, index: u64) {
    log.append(&[entry(index)], Some(&hard_state())).unwrap();
}

fn entry(index: u64) -> Entry {
    let mut entry = Entry::default();
    (entry.index, entry.term) = (index, 2);
    entry.data = format!("{index:-<400}").into();
    entry
}

fn hard_state() -> HardState {
    let mut hard_state = HardState::default();
    (hard_state.term, hard_state.commit) = (2, 1);
    hard_state
}

/// A copy of one log of 150 entries: writing it anew for every case would take a minute of fsyncs.
fn copied() -> (TempDir, Config) {
    static TEMPLATE: LazyLock<(TempDir, Config)> = LazyLock::new(|| written(150));
    let folder = TempDir::new().unwrap();
    let config = Config { data_dir: folder.path().to_owned(), ..TEMPLATE.1.clone() };
    fs::create_dir(config.wal_dir()).unwrap();
    for file in fs::read_dir(TEMPLATE.1.wal_dir()).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), config.wal_dir().join(file.file_name())).unwrap();
    }
    (folder, config)
}

/// Opens it over a state of `applied` entries; answers the last entry after reading all of them.
fn open(config: &Config, applied: u64) -> Result<u64, StartError> {
    let mut log = Log::open(config, &[1], applied)?;
    log.agree_with(applied)?;
    let (first, last) = (applied + 1, log.last());
    if first <= last {
        let read = log.entries(first, last + 1, None, GetEntriesContext::empty(false)).unwrap();
        assert_eq!(read, (first..=last).map(entry).collect::<Vec<Entry>>(), "an entry changed");
    }
    Ok(last)
}

/// The files of the log in order.
fn files(config: &Config) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(config.wal_dir())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "raftlog"))
        .collect();
    files.sort();
    files
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

#[test]
fn the_last_group_torn_at_any_byte_is_the_only_one_lost() {
    let (_folder, config) = written(5);
    let file = files(&config).pop().unwrap();
    let before = fs::read(&file).unwrap().len();
    append(&mut Log::open(&config, &[1], 1).unwrap(), 6);
    let whole = fs::read(&file).unwrap();
    let group = whole.len() - before;
    assert!(group > 400);
    for torn in (before..whole.len()).step_by(7) {
        // The file system had room set aside behind the tear, as raft-engine asks for.
        let mut bytes = whole[..torn].to_vec();
        bytes.resize(whole.len() + 4_096, 0);
        fs::write(&file, &bytes).unwrap();
        assert_eq!(open(&config, 1).unwrap(), 5, "torn at byte {torn}");
    }
    for lost in [0, 64, 200] {
        // A later sector reached the disk, an earlier one did not.
        fs::write(&file, &whole).unwrap();
        change(&file, |bytes| bytes[before + lost..before + lost + 64].fill(0));
        assert_eq!(open(&config, 1).unwrap(), 5, "64 bytes lost at {lost}");
    }
}

#[test]
fn after_a_torn_tail_the_log_goes_on() {
    let (_folder, config) = written(5);
    let file = files(&config).pop().unwrap();
    change(&file, |bytes| bytes.truncate(bytes.len() - 100));
    assert_eq!(open(&config, 1).unwrap(), 4);

    append(&mut Log::open(&config, &[1], 1).unwrap(), 5);
    assert_eq!(open(&config, 1).unwrap(), 5);
}

#[test]
fn a_missing_file_is_refused() {
    for missing in 0..3 {
        let (_folder, config) = written(250);
        let files = files(&config);
        assert!(files.len() > 3, "{files:?}");
        fs::remove_file(&files[missing]).unwrap();
        let error = open(&config, 1).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}

#[test]
fn the_newest_file_missing_is_found_by_whoever_applied_it() {
    let (_folder, config) = written(250);
    fs::remove_file(files(&config).pop().unwrap()).unwrap();

    let error = open(&config, 250).unwrap_err();

    assert!(matches!(error, StartError::LogBehindState { applied: 250, .. }), "{error}");
}

#[test]
fn a_sync_that_fails_is_fatal_and_what_was_acknowledged_before_is_there() {
    let folder = TempDir::new().unwrap();
    let faults = Faults::default();
    let mut wal = Wal::open_with(folder.path(), FILE_BYTES, WalFiles { faults: faults.clone() }).unwrap();
    wal.stage_entries(&[entry(2)]).unwrap();
    wal.commit().unwrap();

    faults.sync_fails.store(true, Ordering::SeqCst);
    wal.stage_entries(&[entry(3)]).unwrap();
    let error = wal.commit().unwrap_err();
    assert!(error.to_string().contains("input/output error"), "{error}");

    faults.sync_fails.store(false, Ordering::SeqCst);
    drop(wal);
    let wal = Wal::open(folder.path(), FILE_BYTES).unwrap();
    assert_eq!(wal.entries(2, 3, None).unwrap(), [entry(2)]);
}

#[test]
fn a_file_where_the_directory_should_be_is_named() {
    let folder = TempDir::new().unwrap();
    let blocked = folder.path().join("blocked");
    fs::write(&blocked, "not a directory").unwrap();

    let error = Wal::open(&blocked, FILE_BYTES).err().unwrap();

    assert!(error.to_string().contains("blocked"), "{error}");
}

#[test]
fn files_behind_a_cut_are_deleted_and_the_records_survive() {
    let (_folder, config) = written(600);
    let before = files(&config).len();
    let mut log = Log::open(&config, &[1], 1).unwrap();
    log.agree_with(600).unwrap();
    log.cut_to(590).unwrap();
    drop(log);

    assert!(files(&config).len() <= 2, "{before} files before, {} after", files(&config).len());
    assert_eq!(open(&config, 590).unwrap(), 600);
    let log = Log::open(&config, &[1], 590).unwrap();
    assert_eq!(log.initial_state().unwrap().conf_state.voters, [1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// One flipped bit anywhere in the log: either all entries are there, or the very last group is gone (to the file
    /// it looks torn), or the log refuses. Never an entry less, never a changed one.
    #[test]
    fn a_flipped_bit_loses_nothing_in_silence(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (_folder, config) = copied();
        let files = files(&config);
        let sizes: Vec<usize> = files.iter().map(|file| fs::metadata(file).unwrap().len() as usize).collect();
        let mut at = at.index(sizes.iter().sum());
        let mut file = 0;
        while at >= sizes[file] {
            at -= sizes[file];
            file += 1;
        }
        change(&files[file], |bytes| bytes[at] ^= 1 << bit);
        match open(&config, 1) {
            Ok(last) => prop_assert!(last >= 149, "opened with {last} of 150 after a flip in file {file} at {at}"),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// The newest file cut anywhere: what is left is a prefix, and a state that applied more refuses it.
    #[test]
    fn a_truncated_log_is_a_prefix(at in any::<prop::sample::Index>()) {
        let (_folder, config) = copied();
        let file = files(&config).pop().unwrap();
        change(&file, |bytes| bytes.truncate(at.index(bytes.len())));
        let last = open(&config, 1).unwrap();
        prop_assert!(last < 150);
        prop_assert!(matches!(open(&config, 150), Err(StartError::LogBehindState { .. })), "a state of 150 entries");
    }
}
