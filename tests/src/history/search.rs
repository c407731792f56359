//! The check that does not trust revisions: Wing and Gong's search for an order in which all that was answered makes
//! sense, in the form of Lowe (each operation takes effect just in time: when another's answer needs it), with a memo.
//!
//! One object at a time, because objects are independent: a history is linearizable when each object's is. The search
//! walks the moments of one object's history with the set of all situations the object can be in: what it holds, and
//! which of the operations under way have taken effect already. An answer leaves those in which it was true; when none
//! is left, no order explains the history. The set is the memo: two ways to one situation are walked on as one.
//!
//! What was never answered stays under way for ever, and every such write doubles the situations until somebody sees
//! it or makes it impossible. So what nobody ever saw is left out where that changes nothing. It changes something where
//! an answer says what the object did *not* hold: what was there before may have gone with such a write. Which of them it
//! was nobody can tell, so they are taken in the order they were asked for. And the number of situations has a bound,
//! beyond which the search says that it does not know. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use super::operation::{Call, NEVER, Operation, Outcome, Version};

/// More situations at one moment than this are not walked: a history that needs them has too many unanswered writes of
/// one object, and wants more objects. A hundred bytes each, so some MiB.
const SITUATIONS_MAX: usize = 20_000;

/// What the search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none for this object.
    Violation(Impossible),
    /// For this object there were more situations than [`search`] walks.
    Undecided {
        /// The object.
        name: String,
    },
}

/// The first answer that no order explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// The object.
    pub name: String,
    /// The operation, as text.
    pub operation: String,
    /// What the object could have held when it was answered, before the answer was looked at.
    pub possible: BTreeSet<Option<u64>>,
    /// What was asked of this object just before, as text.
    pub before: Vec<String>,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "no order explains {}, for {} could only be {:?}; before it:",
            self.operation, self.name, self.possible
        )?;
        self.before.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// How much of an object's history is told with a violation.
const TOLD_BEFORE: usize = 12;

/// Searches an order for every object, from `initial` on. Local lists promise no place in any order and are not asked.
#[must_use]
pub fn search(operations: &[Operation], initial: &BTreeMap<String, Version>) -> Verdict {
    let mut undecided = None;
    for name in names(operations, initial) {
        let history = History::of(operations, name);
        let held = initial.get(name).map(|version| version.content);
        match history.search(held) {
            Verdict::Linearizable => {}
            Verdict::Undecided { name } => undecided = Some(Verdict::Undecided { name }),
            violation => return violation,
        }
    }
    undecided.unwrap_or(Verdict::Linearizable)
}

fn names<'a>(operations: &'a [Operation], initial: &'a BTreeMap<String, Version>) -> BTreeSet<&'a str> {
    let listed = operations.iter().filter_map(|operation| match &operation.outcome {
        Outcome::Listed { objects, .. } => Some(objects.keys()),
        _ => None,
    });
    let asked = operations.iter().filter_map(|operation| operation.call.name());
    asked.chain(initial.keys().map(String::as_str)).chain(listed.flatten().map(String::as_str)).collect()
}

/// One object's part in an operation: what it does when it takes effect, and what must be so for its answer.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// The object holds this (or is absent); nothing changes.
    Is(Option<u64>),
    /// It is there; nothing changes.
    IsThere,
    /// It does not hold this; nothing changes.
    IsNot(u64),
    /// It was absent, and holds this now.
    Create(u64),
    /// It was there, and holds this now.
    Put(u64),
    /// It held the one and holds the other now; `None` to hold is to be absent.
    Change(u64, Option<u64>),
    /// It was there and is absent now.
    Delete,
}

impl Part {
    /// What the object holds afterwards; nothing when this could not have been answered.
    fn apply(self, held: Option<u64>) -> Option<Option<u64>> {
        let (so, then) = match self {
            Part::Is(what) => (held == what, held),
            Part::IsThere => (held.is_some(), held),
            Part::IsNot(what) => (held != Some(what), held),
            Part::Create(content) => (held.is_none(), Some(content)),
            Part::Put(content) => (held.is_some(), Some(content)),
            Part::Change(from, to) => (held == Some(from), to),
            Part::Delete => (held.is_some(), None),
        };
        so.then_some(then)
    }

    /// The part of an operation that has to do with `name`; nothing when its answer says nothing about it.
    fn of(operation: &Operation, name: &str) -> Option<Part> {
        if let (Call::List { local: false }, Outcome::Listed { objects, .. }) =
            (&operation.call, &operation.outcome)
        {
            return Some(Part::Is(objects.get(name).map(|version| version.content)));
        }
        if operation.call.name() != Some(name) {
            return None;
        }
        match (&operation.call, &operation.outcome) {
            (_, Outcome::Refused) | (Call::Read { .. } | Call::List { .. }, Outcome::Unknown) => None,
            (_, Outcome::Absent) => Some(Part::Is(None)),
            (_, Outcome::Exists) => Some(Part::IsThere),
            (Call::Read { .. }, Outcome::Found(version)) => Some(Part::Is(Some(version.content))),
            (
                Call::Cas { expected, .. } | Call::Delete { expected: Some(expected), .. },
                Outcome::Conflict,
            ) => Some(Part::IsNot(expected.content)),
            (_, Outcome::Conflict) => None,
            (Call::Create { content, .. }, _) => Some(Part::Create(*content)),
            (Call::Put { content, .. }, _) => Some(Part::Put(*content)),
            (Call::Cas { expected, content, .. }, _) => Some(Part::Change(expected.content, Some(*content))),
            (Call::Delete { expected: Some(expected), .. }, _) => Some(Part::Change(expected.content, None)),
            (Call::Delete { expected: None, .. }, _) => Some(Part::Delete),
            (Call::Read { .. } | Call::List { .. }, _) => None,
        }
    }
}

/// One object's history.
struct History<'a> {
    name: &'a str,
    parts: Vec<(&'a Operation, Part)>,
    /// Those of the parts that are writes which nobody was answered and nobody saw, in the order they were asked for.
    unseen: Vec<u32>,
    /// What some answer says the object did not hold.
    missed: HashSet<u64>,
}

/// What an object may be in: what it holds, and who of those under way has taken effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Situation {
    held: Option<u64>,
    /// Sorted.
    done: Vec<u32>,
}

impl<'a> History<'a> {
    fn of(operations: &'a [Operation], name: &'a str) -> History<'a> {
        let mut parts: Vec<_> =
            operations.iter().filter_map(|operation| Some((operation, Part::of(operation, name)?))).collect();
        let seen: HashSet<u64> = parts.iter().flat_map(|(_, part)| part.sees()).collect();
        let missed: HashSet<u64> = parts.iter().filter_map(|(_, part)| part.misses()).collect();
        // A change that nobody was answered and nobody saw might as well not have been. Not so one that makes the
        // object be there or not, which others than those who look at its content notice; nor one that may be why a
        // content is gone that somebody asked for. Contents are written once, so one for each of these is enough, and
        // the first will do.
        parts.sort_by_key(|(operation, _)| operation.invoked);
        let mut kept: BTreeMap<Option<u64>, usize> = BTreeMap::new();
        let mut unseen = Vec::new();
        let mut index = 0;
        parts.retain(|(operation, part)| {
            let needed = match part {
                _ if operation.completed != NEVER => None,
                Part::Put(content) if !seen.contains(content) => Some((None, missed.len())),
                Part::Change(from, Some(content)) if !seen.contains(content) => {
                    Some((Some(*from), usize::from(missed.contains(from))))
                }
                _ => None,
            };
            if let Some((what, enough)) = needed {
                let kept = kept.entry(what).or_default();
                if *kept == enough {
                    return false;
                }
                *kept += 1;
                unseen.push(index);
            }
            index += 1;
            true
        });
        History { name, parts, unseen, missed }
    }

    fn search(&self, held: Option<u64>) -> Verdict {
        let mut situations = HashSet::from([Situation { held, done: Vec::new() }]);
        let mut under_way: Vec<u32> = Vec::new();
        for (_, answered, index) in self.moments() {
            if !answered {
                under_way.push(index);
                continue;
            }
            let Some(reached) = self.reach(situations, &under_way) else {
                return Verdict::Undecided { name: self.name.to_owned() };
            };
            let possible = reached.iter().map(|situation| situation.held).collect();
            situations = reached.into_iter().filter_map(|situation| situation.without(index)).collect();
            under_way.retain(|other| *other != index);
            if situations.is_empty() {
                return Verdict::Violation(self.impossible(index, possible));
            }
        }
        Verdict::Linearizable
    }

    /// Invocations and answers in the order in which they were.
    fn moments(&self) -> Vec<(u64, bool, u32)> {
        let mut moments = Vec::with_capacity(2 * self.parts.len());
        for (index, (operation, _)) in (0..).zip(&self.parts) {
            moments.push((operation.invoked, false, index));
            if operation.completed != NEVER {
                moments.push((operation.completed, true, index));
            }
        }
        moments.sort_unstable();
        moments
    }

    /// Every situation that can come about while these are under way; nothing when there are too many.
    fn reach(&self, from: HashSet<Situation>, under_way: &[u32]) -> Option<HashSet<Situation>> {
        let mut fresh: Vec<Situation> = from.iter().cloned().collect();
        let mut reached = from;
        while let Some(situation) = fresh.pop() {
            for &index in under_way {
                let (_, part) = self.parts[index as usize];
                let Err(place) = situation.done.binary_search(&index) else { continue };
                if !self.may_pass_unseen(index, &situation) {
                    continue;
                }
                let Some(held) = part.apply(situation.held) else { continue };
                let mut next = Situation { held, done: situation.done.clone() };
                if self.is_put(index) || self.unseen.binary_search(&index).is_err() {
                    next.done.insert(place, index);
                }
                if reached.insert(next.clone()) {
                    fresh.push(next);
                }
            }
            if reached.len() > SITUATIONS_MAX {
                return None;
            }
        }
        Some(reached)
    }

    /// Whether there is a point in letting this write happen now, if it is one that nobody saw: it takes the place of
    /// what somebody missed, and no earlier one that would do as well is left. One that changes a certain content needs
    /// no turn, and no note that it happened: that content never comes again.
    fn may_pass_unseen(&self, index: u32, situation: &Situation) -> bool {
        let Ok(at) = self.unseen.binary_search(&index) else { return true };
        let earlier = self.unseen[..at].iter().rev().find(|other| self.is_put(**other));
        let in_turn = earlier.is_none_or(|other| situation.done.binary_search(other).is_ok());
        (in_turn || !self.is_put(index)) && situation.held.is_some_and(|held| self.missed.contains(&held))
    }

    fn is_put(&self, index: u32) -> bool {
        matches!(self.parts[index as usize].1, Part::Put(_))
    }

    fn impossible(&self, index: u32, possible: BTreeSet<Option<u64>>) -> Impossible {
        let (operation, _) = self.parts[index as usize];
        let mut before: Vec<&Operation> = self.parts.iter().map(|(other, _)| *other).collect();
        before.retain(|other| other.invoked < operation.completed && *other != operation);
        before.sort_unstable_by_key(|other| other.invoked);
        let told = before.split_off(before.len().saturating_sub(TOLD_BEFORE));
        Impossible {
            name: self.name.to_owned(),
            operation: operation.to_string(),
            possible,
            before: told.into_iter().map(ToString::to_string).collect(),
        }
    }
}

impl Situation {
    /// This situation once the operation is over, if it has taken effect in it.
    fn without(mut self, index: u32) -> Option<Situation> {
        let place = self.done.binary_search(&index).ok()?;
        self.done.remove(place);
        Some(self)
    }
}

impl Part {
    /// What the object did not hold, as this answer says.
    fn misses(self) -> Option<u64> {
        match self {
            Part::IsNot(what) => Some(what),
            _ => None,
        }
    }

    /// The content that this answer shows somebody to have seen, or asks about.
    fn sees(self) -> Option<u64> {
        match self {
            Part::Is(what) => what,
            Part::IsNot(what) | Part::Change(what, _) => Some(what),
            Part::IsThere | Part::Create(_) | Part::Put(_) | Part::Delete => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::notation::history;
    use super::*;

    fn search(text: &str) -> Verdict {
        super::search(&history(text), &BTreeMap::new())
    }

    fn fails_at(text: &str, line: &str) {
        match search(text) {
            Verdict::Violation(found) => assert_eq!(found.operation, line, "{found}"),
            verdict => panic!("{verdict:?}: {text}"),
        }
    }

    #[test]
    fn a_good_history_has_an_order() {
        let good = "
            1-9 c0/n0: create k=1 -> @5
            2-3 c1/n1: read k -> absent
            4-5 c1/n1: read k -> 1@5
            6-7 c2/n2: create k=2 -> exists
            10-20 c0/n0: put k=3 -> @7
            11-19 c1/n1: put k=4 -> @6
            12-13 c2/n2: read k -> 4@6
            14-15 c2/n2: list -> {k=3@7}@7
            21-22 c2/n2: cas k=5 if 3@7 -> @8
            23-24 c2/n2: cas k=6 if 3@7 -> conflict
            25-26 c2/n2: delete k if 5@8 -> deleted
            27-28 c2/n2: list -> {}@9
            29-30 c2/n2: put k=7 -> absent";
        assert_eq!(search(good), Verdict::Linearizable);
    }

    #[test]
    fn a_stale_read_has_none_whatever_revision_it_claims() {
        let written = "1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: put k=2 -> @6\n";
        fails_at(&format!("{written}5-6 c1/n1: read k -> 1@5"), "5-6 c1/n1: read k -> 1@5");
        fails_at(&format!("{written}5-6 c1/n1: read k -> 1@9"), "5-6 c1/n1: read k -> 1@9");
        fails_at(&format!("{written}5-6 c1/n1: list -> {{k=1@5}}@9"), "5-6 c1/n1: list -> {k=1@5}@9");
        assert_eq!(search(&format!("{written}5-6 c1/n1: locallist -> {{k=1@5}}@5")), Verdict::Linearizable);
    }

    #[test]
    fn what_one_client_has_seen_no_other_misses_afterwards() {
        fails_at(
            "1-9 c0/n0: create k=1 -> @5\n2-3 c1/n1: read k -> 1@5\n4-5 c2/n2: read k -> absent",
            "4-5 c2/n2: read k -> absent",
        );
    }

    #[test]
    fn a_lost_write_has_none_once_somebody_looks() {
        fails_at("1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: read k -> absent", "3-4 c0/n0: read k -> absent");
        fails_at(
            "1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: put k=2 -> @6\n5-6 c0/n0: delete k -> deleted\n\
             7-8 c0/n0: create k=3 -> exists",
            "7-8 c0/n0: create k=3 -> exists",
        );
    }

    #[test]
    fn what_was_not_answered_may_have_happened_late_or_never_but_once() {
        let unanswered = "1-2 c0/n0: create k=1 -> @5\n3-.. c0/n0: put k=2 -> ?\n";
        for ending in [
            "5-6 c1/n0: read k -> 1@5",
            "5-6 c1/n0: read k -> 2@6",
            "5-6 c1/n0: read k -> 1@5\n7-8 c1/n0: read k -> 2@6",
        ] {
            assert_eq!(search(&format!("{unanswered}{ending}")), Verdict::Linearizable, "{ending}");
        }
        let back = "5-6 c1/n0: read k -> 2@6\n7-8 c1/n0: read k -> 1@5";
        fails_at(&format!("{unanswered}{back}"), "7-8 c1/n0: read k -> 1@5");
        let twice = "5-6 c1/n0: read k -> 2@6\n7-8 c1/n0: put k=3 -> @7\n9-10 c1/n0: read k -> 2@8";
        fails_at(&format!("{unanswered}{twice}"), "9-10 c1/n0: read k -> 2@8");
    }

    #[test]
    fn an_unanswered_write_may_show_only_in_that_something_else_is_gone() {
        let created = "1-2 c0/n0: create k=1 -> @5\n";
        let missed = "5-6 c1/n1: cas k=3 if 1@5 -> conflict";
        let after = "\n7-8 c1/n1: put k=4 -> @7\n9-10 c1/n1: read k -> 4@7";
        for unanswered in ["3-.. c0/n0: put k=2 -> ?\n", "3-.. c0/n0: cas k=2 if 1@5 -> ?\n"] {
            assert_eq!(search(&format!("{created}{unanswered}{missed}{after}")), Verdict::Linearizable);
            assert_eq!(
                search(&format!("{created}{unanswered}5-6 c1/n1: delete k if 1@5 -> conflict")),
                Verdict::Linearizable
            );
            // It happened, and nobody has written the first content again.
            let back = "\n7-8 c1/n1: read k -> 1@5";
            fails_at(&format!("{created}{unanswered}{missed}{back}"), "7-8 c1/n1: read k -> 1@5");
        }
        fails_at(&format!("{created}{missed}"), missed);
        fails_at(&format!("{created}3-.. c0/n0: cas k=2 if 9@4 -> ?\n{missed}"), missed);
        fails_at(&format!("{created}{missed}\n7-.. c0/n0: put k=2 -> ?"), missed);
        // One write hides one content: the second that is missed, without a second write, is not explained.
        let twice = "7-8 c1/n1: put k=4 -> @7\n9-10 c1/n1: cas k=5 if 4@7 -> conflict";
        let put = "3-.. c0/n0: put k=2 -> ?\n";
        fails_at(&format!("{created}{put}{missed}\n{twice}"), "9-10 c1/n1: cas k=5 if 4@7 -> conflict");
        let puts = "3-.. c0/n0: put k=2 -> ?\n4-.. c2/n0: put k=6 -> ?\n";
        assert_eq!(search(&format!("{created}{puts}{missed}\n{twice}")), Verdict::Linearizable);
    }

    #[test]
    fn a_refused_write_that_somebody_sees_has_none() {
        fails_at(
            "1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: put k=2 -> refused\n5-6 c0/n0: read k -> 2@6",
            "5-6 c0/n0: read k -> 2@6",
        );
    }

    #[test]
    fn two_of_two_concurrent_creates_can_not_both_have_been_first() {
        fails_at("1-3 c0/n0: create k=1 -> @5\n2-4 c1/n1: create k=2 -> @6", "2-4 c1/n1: create k=2 -> @6");
        fails_at(
            "1-2 c0/n0: create k=1 -> @5\n3-5 c0/n0: cas k=2 if 1@5 -> @6\n4-6 c1/n1: cas k=3 if 1@5 -> @7",
            "4-6 c1/n1: cas k=3 if 1@5 -> @7",
        );
    }

    #[test]
    fn objects_are_searched_one_by_one_and_a_list_is_a_read_of_each() {
        let torn = "1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: create l=2 -> @6\n5-6 c1/n1: list -> {k=1@5}@6";
        match search(torn) {
            Verdict::Violation(found) => assert_eq!(found.name, "l"),
            verdict => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn many_unanswered_writes_that_nobody_saw_cost_nothing() {
        let mut text = "1-2 c0/n0: create k=1 -> @5\n".to_owned();
        for number in 0..200 {
            text += &format!("{}-.. c{number}/n0: put k={} -> ?\n", 3 + number, 100 + number);
        }
        text += "300-301 c0/n0: read k -> 1@5";
        assert_eq!(search(&text), Verdict::Linearizable);
    }

    #[test]
    fn many_unanswered_writes_that_only_conflicts_show_cost_little() {
        let mut text = "1-2 c0/n0: create k=1 -> @5\n".to_owned();
        for number in 0..40 {
            let (at, content) = (10 * number, 2 + number);
            text += &format!("{}-.. c{number}/n0: put k={} -> ?\n", at + 3, 1_000 + number);
            text +=
                &format!("{}-.. d{number}/n0: cas k={} if {}@9 -> ?\n", at + 4, 2_000 + number, content - 1);
            text +=
                &format!("{}-{} c0/n0: cas k=9{number} if {}@9 -> conflict\n", at + 5, at + 6, content - 1);
            text += &format!("{}-{} c0/n0: put k={content} -> @9\n", at + 7, at + 8);
            text += &format!("{}-{} c0/n0: read k -> {content}@9\n", at + 9, at + 10);
        }
        assert_eq!(search(&text), Verdict::Linearizable);
    }

    #[test]
    fn too_many_unanswered_writes_that_were_seen_are_not_decided() {
        let mut text = "1-2 c0/n0: create k=1 -> @5\n".to_owned();
        for number in 0..40 {
            text += &format!("{}-.. c{number}/n0: put k={} -> ?\n", 3 + number, 100 + number);
        }
        text += "290-300 c0/n0: read k -> 1@5\n";
        for number in 0..40 {
            text +=
                &format!("{}-{} c0/n0: read k -> {}@9\n", 301 + 2 * number, 302 + 2 * number, 100 + number);
        }
        assert_eq!(search(&text), Verdict::Undecided { name: "k".to_owned() });
    }

    #[test]
    fn a_long_history_of_many_clients_is_decided_quickly_enough_to_be_a_test() {
        let text: String = (0..4_000_u64)
            .map(|n| {
                let (at, client) = (10 + n * 2, n % 8);
                match n {
                    0 => "1-2 c0/n0: create k=1 -> @1\n".to_owned(),
                    _ if n % 2 == 1 => format!("{at}-{} c{client}/n0: put k={} -> @{n}\n", at + 9, n + 1),
                    _ => format!("{at}-{} c{client}/n0: read k -> {}@{}\n", at + 9, n, n - 1),
                }
            })
            .collect();
        assert_eq!(search(&text), Verdict::Linearizable);
    }
}
