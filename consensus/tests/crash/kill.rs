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

/// The longest life. Short ones die while opening.
const LIFE_MS: u64 = 250;

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
    assert!(written > 1_000, "only {written} transactions were acknowledged: the writers hardly ran");
}

fn live_and_die(mut dice: Dice) -> usize {
    let folder = Folder::new();
    let (data, acks) = (folder.path().join("data"), folder.path().join("acks"));
    let (seen, store) = (folder.path().join("seen"), data.join("store"));
    for life in 1..=LIVES {
        let (used, before) = (acks::count(&acks) > 0, quarantined(&store));
        let writer = writer::spawn(&data, &acks);
        thread::sleep(Duration::from_millis(dice.below(LIFE_MS)));
        let status = writer.kill();
        assert_eq!(status.code(), None, "in life {life} the writer ended by itself");
        if life % LOOK_EVERY == 0 {
            verify(&data, &acks, &seen)
                .and_then(|()| check_exports(&store))
                .unwrap_or_else(|error| panic!("after {life} lives: {error}"));
            // What a process wrote, the kernel has. Only a database with nothing in it yet may be taken for damaged.
            assert!(!used || quarantined(&store) == before, "life {life}: a kill was taken for damage");
        }
    }
    acks::count(&acks)
}
