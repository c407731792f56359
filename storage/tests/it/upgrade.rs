//! A log that an older version wrote is applied by this one, and what this one adds does not change what was there.

use appliance_storage::{Command, Compare, Key, Outcome, Revision};

use crate::support::{Fixture, delete, do_put, put, show_outcome, txn};

/// A transaction with every compare there was before prefixes could be compared, as that version wrote it to its log:
/// six compares of `k`, a put, and else a delete and a get.
const OLDER: &str = "\
    0101000000000500000000000000616c6963650600000000000000756e69783a3003000000000000007768790807060504030201\
    01eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee06000000000000000000000001000000000000006b0700000000000000010000000100\
    0000000000006b08000000000000000200000001000000000000006b09000000000000000300000001000000000000006b010000\
    0000000000760400000001000000000000006b0500000001000000000000006b0100000000000000000000000100000000000000\
    6b050000000000000076616c756502000000000000000100000001000000000000006b0200000001000000000000006b";

#[test]
fn an_entry_of_an_older_log_still_applies() {
    let bytes: Vec<u8> =
        (0..OLDER.len()).step_by(2).map(|at| u8::from_str_radix(&OLDER[at..at + 2], 16).unwrap()).collect();
    let command = Command::decode(&bytes).unwrap();
    assert_eq!(command.encode(), bytes, "and is written the same");
    let mut fixture = Fixture::new();
    fixture.apply(do_put("k", "old"));
    let outcome = fixture.apply(command);
    assert_eq!(
        show_outcome(&outcome),
        "failed at 3\n  deleted k=old create 2 mod 2 version 1\n  got nothing"
    );
}

#[test]
fn a_prefix_is_compared_with_what_the_same_batch_wrote_and_took_away() {
    let guarded = || {
        let compare = Compare::NoneNewer { prefix: Key::from("pol/"), than: Revision::FIRST };
        txn(vec![compare], vec![delete("tier")], vec![])
    };
    let mut fixture = Fixture::new();
    fixture.apply(do_put("pol/old", "1"));
    let outcomes = fixture.apply_all(vec![
        do_put("tier", "1"),
        guarded(),
        txn(vec![], vec![delete("pol/old"), put("pol/new", "1")], vec![]),
        guarded(),
        txn(vec![], vec![delete("pol/new")], vec![]),
        guarded(),
    ]);
    let done: Vec<bool> =
        outcomes.iter().map(|outcome| matches!(outcome, Outcome::Succeeded { .. })).collect();
    assert_eq!(done, [true, false, true, false, true, true], "{outcomes:?}");
    assert_eq!(fixture.reader().get(&Key::from("tier")).unwrap(), None);
}
