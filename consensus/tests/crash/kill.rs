//! SIGKILL at random moments: while writing, while the state is exported and the log cut, while recovering from the
//! last kill.

use std::{thread, time::Duration};

use crate::{
    acks,
    dice::Dice,
    folder::{Folder, check_exports, quarantined},
    verify::verify,
    writer,
};

/// Members killed side by side; the disk and the processor are shared, so moments of death vary the more.
const MEMBERS: u64 = 4;

/// Lives of each member.
const LIVES: u64 = 90;

/// The longest life, or in a working life what is left of it after its work. Short ones die while opening.
const LIFE_MS: u64 = 250;

/// So many of the lives are spared until they have done some work; the others die when they die, on a slow machine all
/// of them before they have done anything.
const WORKING_EVERY: u64 = 2;

/// Answers of a working life: with those of all such lives enough for logs to roll over and to be cut.
const WORK: usize = 25;

/// So many of the lives are looked at; the others go straight from one kill to the next.
const LOOK_EVERY: u64 = 3;

#[test]
fn a_killed_writer_loses_nothing_that_was_acknowledged() {
    let mut dice = Dice::new("kill");
    let members: Vec<_> = (0..MEMBERS)
        .map(|_| {
            let seed = dice.below(u64::MAX);
            thread::spawn(move || live_and_die(Dice::from(seed)))
        })
        .collect();
    let written: usize = members.into_iter().map(|member| member.join().expect("a member")).sum();
    eprintln!("kill: {} kills, {written} acknowledged transactions, all there", MEMBERS * LIVES);
    let due = MEMBERS * (LIVES / WORKING_EVERY) * WORK as u64;
    assert!(
        written as u64 >= due,
        "only {written} transactions were acknowledged, and {due} were waited for"
    );
}

fn live_and_die(mut dice: Dice) -> usize {
    let folder = Folder::new();
    let (data, acks) = (folder.path().join("data"), folder.path().join("acks"));
    let (seen, store) = (folder.path().join("seen"), data.join("store"));
    for life in 1..=LIVES {
        let (had, before) = (acks::count(&acks), quarantined(&store));
        let mut writer = writer::spawn(&data, &acks);
        if life % WORKING_EVERY == 0 {
            writer.wait_for_acks(&acks, had + WORK);
        }
        thread::sleep(Duration::from_millis(dice.below(LIFE_MS)));
        let status = writer.kill();
        assert_eq!(status.code(), None, "in life {life} the writer ended by itself");
        if life % LOOK_EVERY == 0 {
            verify(&data, &acks, &seen)
                .and_then(|()| check_exports(&store))
                .unwrap_or_else(|error| panic!("after {life} lives: {error}"));
            // What a process wrote, the kernel has. Only a database with nothing in it yet may be taken for damaged.
            assert!(had == 0 || quarantined(&store) == before, "life {life}: a kill was taken for damage");
        }
    }
    acks::count(&acks)
}
