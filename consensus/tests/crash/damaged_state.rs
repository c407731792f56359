//! The state's database is harmed while nobody looks: bytes flipped, the end cut off, garbage, gone. The log and the
//! exported snapshot heal it, with everything that was ever acknowledged.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{
    acks,
    dice::Dice,
    folder::{Folder, check_exports, quarantined},
    verify::verify,
    writer,
};

/// Times that each kind of harm is done.
const ROUNDS: u64 = 4;

/// Answers the writer must have before it is stopped: several checkpoints, exports and cuts.
const ACKS_PER_ROUND: usize = 700;

/// Starts a supervisor makes before somebody is called.
const STARTS_MAX: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Truncate,
    Garbage,
    Remove,
}

#[test]
fn a_damaged_database_is_healed_from_snapshot_and_log() {
    let mut dice = Dice::new("damaged state");
    let mut healed = 0;
    for harm in [Harm::Flip, Harm::Truncate, Harm::Garbage, Harm::Remove] {
        let folder = Folder::new();
        let (data, acks) = (folder.path().join("data"), folder.path().join("acks"));
        let seen = folder.path().join("seen");
        for round in 1..=ROUNDS {
            write_some(&data, &acks);
            check_exports(&data.join("store"))
                .unwrap_or_else(|error| panic!("{harm:?}, before the harm of round {round}: {error}"));
            let what = do_harm(harm, &data.join("store"), &mut dice);
            verify(&data, &acks, &seen)
                .unwrap_or_else(|error| panic!("{harm:?}, round {round}, {what}: {error}"));
            healed += usize::from(quarantined(&data.join("store")) > 0);
        }
    }
    eprintln!("damaged state: {healed} looks found a quarantined database beside the healed one");
    assert!(healed > 0, "no harm was bad enough to need healing");
}

fn write_some(data: &Path, acks: &Path) {
    let before = acks::count(acks);
    for _ in 0..STARTS_MAX {
        let mut writer = writer::spawn(data, acks);
        while writer.ended().is_none() {
            if acks::count(acks) >= before + ACKS_PER_ROUND {
                writer.kill();
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Harm can hide in a page that nobody read while opening. Then the member stops when it is met, and its next
        // start must heal.
        eprintln!("the member stopped: {}", writer::complaint(acks));
    }
    panic!("the member stops at every start");
}

fn do_harm(harm: Harm, store: &Path, dice: &mut Dice) -> String {
    let file = database_file(store);
    let mut bytes = fs::read(&file).expect("the database");
    let length = bytes.len() as u64;
    match harm {
        Harm::Flip => {
            for _ in 0..1 + dice.below(20) {
                bytes[dice.below(length) as usize] ^= 1 << dice.below(8);
            }
        }
        Harm::Truncate => bytes.truncate(dice.below(length) as usize),
        Harm::Garbage => {
            let from = dice.below(length) as usize;
            let end = (from + 65_536).min(bytes.len());
            bytes[from..end].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
        }
        Harm::Remove => {
            fs::remove_dir_all(file.parent().expect("its directory")).expect("remove the database");
            return "removed".to_owned();
        }
    }
    fs::write(&file, bytes).expect("write the damaged database");
    format!("{} of {length} bytes", file.display())
}

/// sled's main file: the only one named `db` below the store's directory, apart from quarantined ones.
fn database_file(store: &Path) -> PathBuf {
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the store").map(|entry| entry.expect("an entry").path()) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if entry.is_dir() && !name.starts_with("quarantine") {
                folders.push(entry);
            } else if name == "db" && entry.is_file() {
                return entry;
            }
        }
    }
    panic!("no database below {}", store.display());
}
