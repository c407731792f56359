//! A request that comes twice is done once and answered twice.

use appliance_storage::{Command, Compare, Key, Op, Outcome, Revision};

use crate::support::{Fixture, author, delete, do_put, put};

fn request(id: u128, compare: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>) -> Command {
    Command::Txn { author: author(Some(id)), compare, then, otherwise }
}

fn create(id: u128, key: &str, value: &str) -> Command {
    request(id, vec![Compare::Absent { key: Key::from(key) }], vec![put(key, value)], vec![])
}

#[test]
fn a_retry_is_answered_as_the_first_was_whatever_happened_since() {
    let mut fixture = Fixture::new();
    let first = fixture.apply(create(1, "a", "one"));
    let failed = fixture.apply(request(
        2,
        vec![Compare::Absent { key: Key::from("a") }],
        vec![],
        vec![Op::Get { key: Key::from("a") }],
    ));
    let deleted = fixture.apply(request(3, vec![], vec![delete("a")], vec![]));
    assert!(matches!(failed, Outcome::Failed { .. }));
    // What the deletion and the get answered is compacted away everywhere but in the window.
    for value in ["x", "y", "z"] {
        fixture.apply(do_put("b", value));
    }
    fixture.apply(Command::Compact { before: Revision(6) });
    while fixture.store().purge().unwrap() {}
    for reopened in [false, true] {
        if reopened {
            fixture.reopen();
        }
        let revision = fixture.reader().revision();
        assert_eq!(fixture.apply(create(1, "a", "one")), first);
        assert_eq!(fixture.apply(request(3, vec![], vec![delete("a")], vec![])), deleted);
        let again = vec![Compare::Absent { key: Key::from("a") }];
        assert_eq!(fixture.apply(request(2, again, vec![], vec![Op::Get { key: Key::from("a") }])), failed);
        assert_eq!(fixture.reader().revision(), revision, "nothing was done again");
    }
}

#[test]
fn a_retry_in_the_same_batch_is_done_once() {
    let mut fixture = Fixture::new();
    let outcomes = fixture.apply_all(vec![create(1, "a", "one"), do_put("a", "two"), create(1, "a", "one")]);
    assert_eq!(outcomes[0], outcomes[2]);
    assert_eq!(&*fixture.reader().get(&Key::from("a")).unwrap().unwrap().value, b"two");
}

/// A member that catches up applies in one batch what others applied in hundreds.
#[test]
fn a_retry_late_in_a_large_batch_is_answered_as_the_first_was() {
    let mut fixture = Fixture::new();
    let first = create(1, "a", "one");
    let others = (2..3_000).map(|id| create(id, &format!("k{id}"), "v"));
    let batch: Vec<_> = std::iter::once(first.clone()).chain(others).chain([first.clone()]).collect();
    let outcomes = fixture.apply_all(batch);
    assert_eq!(outcomes[0], outcomes[outcomes.len() - 1]);
    assert_eq!(fixture.apply(first), outcomes[0], "and once the batch is written");
}

#[test]
fn an_id_used_for_another_request_is_refused() {
    let mut fixture = Fixture::new();
    fixture.apply(create(1, "a", "one"));
    let Outcome::Refused { reason } = fixture.apply(create(1, "a", "two")) else { panic!("not refused") };
    assert_eq!(reason, "request 00000000000000000000000000000001 was another one before");
}

#[test]
fn the_window_is_bounded_and_the_same_after_a_restart() {
    let mut fixture = Fixture::new();
    // The window holds 8,192 answers: of 8,300, the first 108 are forgotten. That they were given is not.
    for batch in 0..83 {
        fixture.apply_all(
            (batch * 100..batch * 100 + 100).map(|id| create(id, &format!("k{id}"), "v")).collect(),
        );
    }
    for reopened in [false, true] {
        if reopened {
            fixture.reopen();
        }
        let remembered = fixture.apply(create(150, "k150", "v"));
        assert!(matches!(remembered, Outcome::Succeeded { revision: Revision(152), .. }), "{remembered:?}");
    }
    let revision = fixture.reader().revision();
    for reopened in [false, true] {
        if reopened {
            fixture.reopen();
        }
        for id in [0, 107] {
            assert_eq!(fixture.apply(create(id, &format!("k{id}"), "v")), Outcome::Forgotten);
            assert_eq!(
                fixture.apply(request(id, vec![], vec![], vec![])),
                Outcome::Forgotten,
                "asked of {id}"
            );
        }
        assert!(matches!(fixture.apply(create(108, "k108", "v")), Outcome::Succeeded { .. }));
    }
    assert_eq!(
        fixture.reader().revision(),
        revision,
        "nothing was done again, and nothing pushed out another"
    );
}

#[test]
fn a_request_whose_answer_is_gone_is_not_done_again_by_who_came_by_a_snapshot_either() {
    let mut fixture = Fixture::new();
    let add = |id| request(id, vec![], vec![put("a", id.to_string())], vec![]);
    for batch in 0..90u128 {
        fixture.apply_all((batch * 100..batch * 100 + 100).map(add).collect());
    }
    let file = fixture.path().join("copy.snapshot");
    fixture.store().snapshot().unwrap().save(&file).unwrap();
    let mut other = Fixture::new();
    other.store().restore_from(&file).unwrap();
    other.index = fixture.index;
    for member in [&mut fixture, &mut other] {
        for id in [0, 400, 807] {
            assert_eq!(member.apply(add(id)), Outcome::Forgotten);
        }
        assert!(matches!(member.apply(add(808)), Outcome::Succeeded { .. }), "its answer is kept");
        assert_eq!(&*member.reader().get(&Key::from("a")).unwrap().unwrap().value, b"8999");
    }
}

#[test]
fn a_transaction_of_nothing_asks_what_became_of_a_request() {
    let mut fixture = Fixture::new();
    let ask = |id| request(id, vec![], vec![], vec![]);
    let Outcome::Succeeded { revision, .. } = fixture.apply(create(1, "a", "one")) else {
        panic!("not done")
    };
    fixture.apply(create(2, "a", "one"));
    for reopened in [false, true] {
        if reopened {
            fixture.reopen();
        }
        let Outcome::Succeeded { revision: then, replies } = fixture.apply(ask(1)) else {
            panic!("not told")
        };
        assert_eq!((then, replies.len()), (revision, 1));
        assert!(matches!(fixture.apply(ask(2)), Outcome::Failed { .. }));
    }
    assert_eq!(fixture.reader().revision(), revision, "asking changes nothing");
}

#[test]
fn a_request_that_was_asked_about_in_vain_is_never_carried_out() {
    let mut fixture = Fixture::new();
    let asked = fixture.apply(request(1, vec![], vec![], vec![]));
    assert!(matches!(&asked, Outcome::Succeeded { replies, .. } if replies.is_empty()), "{asked:?}");
    assert!(matches!(fixture.apply(create(1, "a", "one")), Outcome::Refused { .. }));
    assert_eq!(fixture.reader().get(&Key::from("a")).unwrap(), None);
    assert_eq!(fixture.apply(request(1, vec![], vec![], vec![])), asked);
}
