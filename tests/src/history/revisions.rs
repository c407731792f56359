//! The check by revision. Every write is answered with a revision of its own, and a list with the store's; so the order
//! in which all took effect need not be searched for, it is told, and only has to be checked:
//!
//! - an acknowledged write stands in the history at the revision it was acknowledged with, and nothing else does there;
//! - what stands in the history is the doing of one operation, each of one place, and of none that was refused;
//! - a write's revision is above every revision that was complete before it was asked;
//! - what was read was so at one revision, not below any that was complete before it was asked; a list was so as a whole.
//!
//! The history comes from watches. Pure; O(n log n). It refuses to judge a watch (see [`super::watches`]), and trusts
//! revisions, which [`super::search`] does not.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::operation::{Call, NEVER, Operation, Outcome, Version};

/// What happened to the objects, by revision, from a state on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The objects before the first change.
    pub initial: BTreeMap<String, Version>,
    /// Name and new content (none: removed) of what changed at a revision.
    pub changes: BTreeMap<u64, Vec<(String, Option<u64>)>>,
}

/// What the operations of a history say that can not be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong.
    pub what: Wrong,
    /// The operation it was noticed at, as text; a change of the log that nobody made has none.
    pub operation: String,
}

/// The ways a history can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It was acknowledged and the history has something else there, or nothing.
    LostWrite,
    /// Its effect stands in the history more than once.
    TwoEffects,
    /// It was refused and took effect.
    RefusedButDone,
    /// The history has a change that nobody asked for.
    NobodyAsked,
    /// Its revision is not above one that was complete before it was asked.
    RevisionBackwards,
    /// It shows a state that was over before it was asked.
    Stale,
    /// It shows a state that never was.
    NeverSo,
    /// It shows a write that was asked for only after it was answered.
    FromTheFuture,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.what, self.operation)
    }
}

impl Log {
    /// The life of every object: from which revision on it was what.
    fn lives(&self) -> BTreeMap<&str, Vec<(u64, Option<u64>)>> {
        let mut lives: BTreeMap<&str, Vec<(u64, Option<u64>)>> = BTreeMap::new();
        for (name, version) in &self.initial {
            lives.entry(name).or_default().push((version.revision, Some(version.content)));
        }
        for (revision, changes) in &self.changes {
            for (name, content) in changes {
                // Before its first change it was absent, or as it was in the beginning.
                lives.entry(name).or_insert_with(|| vec![(0, None)]).push((*revision, *content));
            }
        }
        lives
    }
}

/// Checks operations against the history; the violations it finds, in no order that means anything.
#[must_use]
pub fn check(operations: &[Operation], log: &Log) -> Vec<Violation> {
    let mut check = Check::new(log);
    check.effects(operations);
    check.order(operations);
    check.left_over(operations);
    check.violations
}

struct Check<'a> {
    log: &'a Log,
    lives: BTreeMap<&'a str, Vec<(u64, Option<u64>)>>,
    /// Writes by revision and name: the moment each was asked for.
    asked: HashMap<(u64, &'a str), u64>,
    /// Removals that an operation was found for, by revision and name.
    removals: HashMap<(u64, &'a str), bool>,
    violations: Vec<Violation>,
}

impl<'a> Check<'a> {
    fn new(log: &'a Log) -> Check<'a> {
        let removals = log.changes.iter().flat_map(|(revision, changes)| {
            let removed = changes.iter().filter(|(_, content)| content.is_none());
            removed.map(|(name, _)| ((*revision, name.as_str()), false))
        });
        Check {
            log,
            lives: log.lives(),
            asked: HashMap::new(),
            removals: removals.collect(),
            violations: Vec::new(),
        }
    }

    fn wrong(&mut self, what: Wrong, operation: &impl ToString) {
        self.violations.push(Violation { what, operation: operation.to_string() });
    }

    /// Every change was asked for by one operation that was not refused, every acknowledged write is there, and none
    /// twice.
    fn effects(&mut self, operations: &[Operation]) {
        let by_content: HashMap<u64, &Operation> =
            operations.iter().filter_map(|operation| Some((operation.call.content()?, operation))).collect();
        let mut places: HashMap<u64, u32> = HashMap::new();
        for (revision, changes) in &self.log.changes {
            for (name, content) in changes {
                let Some(content) = content else { continue };
                match by_content.get(content) {
                    Some(operation) if operation.call.name() == Some(name) => {
                        self.asked.insert((*revision, name), operation.invoked);
                        let seen = places.entry(*content).or_default();
                        *seen += 1;
                        if *seen > 1 {
                            self.wrong(Wrong::TwoEffects, operation);
                        }
                        match &operation.outcome {
                            Outcome::Written { .. } | Outcome::Unknown => {}
                            _ => self.wrong(Wrong::RefusedButDone, operation),
                        }
                    }
                    _ => self.wrong(Wrong::NobodyAsked, &format!("@{revision} {name}={content}")),
                }
            }
        }
        for operation in operations {
            if let Outcome::Written { revision } = operation.outcome
                && !self.stands(revision, &operation.call)
            {
                self.wrong(Wrong::LostWrite, operation);
            }
        }
    }

    fn stands(&self, revision: u64, call: &Call) -> bool {
        let changes = self.log.changes.get(&revision).map_or(&[][..], Vec::as_slice);
        changes.iter().any(|(name, content)| Some(name.as_str()) == call.name() && *content == call.content())
    }

    /// Follows the operations through time. A floor is the newest revision known to be complete; every operation takes
    /// effect at the lowest revision it can, which is what leaves most room for the others.
    fn order(&mut self, operations: &'a [Operation]) {
        let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * operations.len());
        for (index, operation) in operations.iter().enumerate() {
            moments.push((operation.invoked, false, index));
            moments.push((operation.completed, true, index));
        }
        moments.sort_unstable();
        let (mut floor, mut floors) = (0, vec![0; operations.len()]);
        for (_, complete, index) in moments {
            let operation = &operations[index];
            if !complete {
                floors[index] = floor;
            } else if operation.completed == NEVER {
                self.unanswered(operation, floors[index]);
            } else if let Some(revision) = self.place(operation, floors[index]) {
                floor = floor.max(revision);
            }
        }
    }

    /// What never was answered may have been done at any time after it was asked, but not before.
    fn unanswered(&mut self, operation: &Operation, floor: u64) {
        let (Some(name), Some(content)) = (operation.call.name(), operation.call.content()) else { return };
        let life = self.lives.get(name).map_or(&[][..], Vec::as_slice);
        if life.iter().any(|(revision, what)| *what == Some(content) && *revision <= floor) {
            self.wrong(Wrong::RevisionBackwards, operation);
        }
    }

    /// The revision at which an answered operation took effect; complains when there is none it could be.
    fn place(&mut self, operation: &'a Operation, floor: u64) -> Option<u64> {
        match (&operation.call, &operation.outcome) {
            (_, Outcome::Written { revision }) => {
                if *revision <= floor {
                    self.wrong(Wrong::RevisionBackwards, operation);
                }
                Some(*revision)
            }
            (Call::Delete { name, expected }, Outcome::Deleted) => {
                self.removal(operation, name, *expected, floor)
            }
            (Call::List { local }, Outcome::Listed { revision, objects }) => {
                self.list(operation, *revision, objects);
                if !local && *revision < floor {
                    self.wrong(Wrong::Stale, operation);
                }
                (!local).then_some(*revision)
            }
            (Call::Read { name }, Outcome::Found(seen)) => {
                self.state(operation, name, floor, |revision, content| {
                    (revision, content) == (seen.revision, Some(seen.content))
                })
            }
            (call, Outcome::Absent) => {
                self.state(operation, call.name()?, floor, |_, content| content.is_none())
            }
            (call, Outcome::Exists) => {
                self.state(operation, call.name()?, floor, |_, content| content.is_some())
            }
            (
                Call::Cas { name, expected, .. } | Call::Delete { name, expected: Some(expected) },
                Outcome::Conflict,
            ) => self.state(operation, name, floor, |revision, content| {
                (revision, content) != (expected.revision, Some(expected.content))
            }),
            _ => None,
        }
    }

    /// The first removal of the object above `floor` that no other operation claims. Operations come here in the order
    /// of their completion, so whoever must have been done first gets the first.
    fn removal(
        &mut self,
        operation: &Operation,
        name: &'a str,
        expected: Option<Version>,
        floor: u64,
    ) -> Option<u64> {
        let life = self.lives.get(name).map_or(&[][..], Vec::as_slice);
        let found = life.windows(2).find_map(|pair| {
            let ((before, content), (revision, removed)) = (pair[0], pair[1]);
            let meant = expected.is_none_or(|seen| (before, content) == (seen.revision, Some(seen.content)));
            let free = self.removals.get(&(revision, name)) == Some(&false);
            (removed.is_none() && revision > floor && meant && free).then_some(revision)
        });
        match found {
            Some(revision) => drop(self.removals.insert((revision, name), true)),
            None => self.wrong(Wrong::LostWrite, operation),
        }
        found
    }

    /// The first revision from `floor` on at which the object was as `is` wants it.
    fn state(
        &mut self,
        operation: &Operation,
        name: &str,
        floor: u64,
        is: impl Fn(u64, Option<u64>) -> bool,
    ) -> Option<u64> {
        let absent = [(0, None)];
        let life = self.lives.get(name).map_or(&absent[..], Vec::as_slice);
        let until = |place: usize| life.get(place + 1).map_or(NEVER, |(next, _)| *next);
        let mut so = (0..life.len()).filter(|place| is(life[*place].0, life[*place].1)).peekable();
        let Some(&first) = so.peek() else {
            self.wrong(Wrong::NeverSo, operation);
            return None;
        };
        let found = so.find(|place| until(*place) > floor);
        let (revision, late) = life[found.unwrap_or(first)];
        let asked = self.asked.get(&(revision, name)).copied();
        match found {
            None => self.wrong(Wrong::Stale, operation),
            Some(_) if late.is_some() && asked.is_some_and(|asked| asked > operation.completed) => {
                self.wrong(Wrong::FromTheFuture, operation);
            }
            Some(_) => {}
        }
        found.map(|_| revision.max(floor))
    }

    fn list(&mut self, operation: &Operation, revision: u64, objects: &BTreeMap<String, Version>) {
        let then = |life: &[(u64, Option<u64>)]| {
            let place = life.partition_point(|(from, _)| *from <= revision);
            let (from, content) = *life.get(place.checked_sub(1)?)?;
            content.map(|content| Version { revision: from, content })
        };
        let all = self.lives.iter().filter_map(|(name, life)| Some((*name, then(life)?)));
        if !all.eq(objects.iter().map(|(name, version)| (name.as_str(), *version))) {
            self.wrong(Wrong::NeverSo, operation);
        }
    }

    /// Removals that no answered operation claims are the doing of unanswered ones, one each.
    fn left_over(&mut self, operations: &[Operation]) {
        let mut unanswered: HashMap<&str, usize> = HashMap::new();
        for operation in operations {
            if let (Call::Delete { name, .. }, Outcome::Unknown) = (&operation.call, &operation.outcome) {
                *unanswered.entry(name).or_default() += 1;
            }
        }
        let mut left: Vec<_> =
            self.removals.iter().filter(|(_, taken)| !**taken).map(|(at, _)| *at).collect();
        left.sort_unstable();
        for (revision, name) in left {
            match unanswered.get_mut(name) {
                Some(count @ 1..) => *count -= 1,
                _ => self.wrong(Wrong::NobodyAsked, &format!("@{revision} {name} removed")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::notation::{history, number};
    use super::*;

    /// `@5 k=1`, `@6 k-`: one change each, separated by commas.
    fn log(text: &str) -> Log {
        let mut log = Log::default();
        for change in text.split(", ").filter(|change| !change.is_empty()) {
            let (revision, what) = change[1..].split_once(' ').expect("@revision change");
            let (name, content) = match what.split_once('=') {
                Some((name, content)) => (name, Some(number(content))),
                None => (what.strip_suffix('-').expect("name- for a removal"), None),
            };
            log.changes.entry(number(revision)).or_default().push((name.to_owned(), content));
        }
        log
    }

    fn check(log: &str, operations: &str) -> Vec<Wrong> {
        super::check(&history(operations), &self::log(log)).into_iter().map(|found| found.what).collect()
    }

    #[test]
    fn a_good_history_is_good() {
        let good = "
            1-4 c0/n0: create k=1 -> @5
            2-6 c1/n1: create k=2 -> exists
            3-5 c2/n2: read k -> absent
            7-8 c1/n1: read k -> 1@5
            9-12 c0/n0: put k=3 -> @7
            10-11 c1/n1: read k -> 1@5
            13-14 c1/n2: cas k=4 if 1@5 -> conflict
            13-15 c2/n2: cas k=5 if 3@7 -> @8
            16-17 c0/n0: list -> {k=5@8}@8
            18-21 c0/n0: delete k if 5@8 -> deleted
            19-20 c1/n1: list -> {k=5@8}@8
            22-23 c1/n1: put k=6 -> absent
            24-25 c1/n1: locallist -> {k=1@5}@6
            26-27 c1/n1: list -> {}@12";
        assert_eq!(check("@5 k=1, @7 k=3, @8 k=5, @9 k-", good), []);
    }

    #[test]
    fn a_stale_read_is_found() {
        let read = |how: &str| {
            let text = format!("1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: put k=2 -> @6\n5-6 c1/n1: {how}");
            check("@5 k=1, @6 k=2", &text)
        };
        assert_eq!(read("read k -> 2@6"), []);
        assert_eq!(read("read k -> 1@5"), [Wrong::Stale]);
        assert_eq!(read("read k -> absent"), [Wrong::Stale]);
        assert_eq!(read("list -> {k=1@5}@5"), [Wrong::Stale]);
        assert_eq!(read("locallist -> {k=1@5}@5"), [], "which promises no more");
        assert_eq!(read("cas k=3 if 2@6 -> conflict"), [Wrong::Stale]);
        assert_eq!(read("create k=3 -> exists"), []);
    }

    #[test]
    fn what_one_client_has_seen_no_other_misses_afterwards() {
        let two = "
            1-9 c0/n0: create k=1 -> @5
            2-3 c1/n1: read k -> 1@5
            4-5 c2/n2: read k -> absent";
        assert_eq!(check("@5 k=1", two), [Wrong::Stale], "though the write is still under way");
    }

    #[test]
    fn a_revision_that_goes_backwards_for_one_client_is_found() {
        let lists = "
            1-2 c0/n0: list -> {}@9
            3-4 c0/n1: list -> {}@7";
        assert_eq!(check("", lists), [Wrong::Stale]);
        let writes = "
            1-2 c0/n0: create k=1 -> @5
            3-4 c0/n1: create l=2 -> @4";
        assert_eq!(check("@4 l=2, @5 k=1", writes), [Wrong::RevisionBackwards]);
    }

    #[test]
    fn a_lost_write_is_found() {
        assert_eq!(check("", "1-2 c0/n0: create k=1 -> @5"), [Wrong::LostWrite]);
        assert_eq!(
            check("@5 k=2", "1-2 c0/n0: create k=1 -> @5\n1-.. c1/n0: create k=2 -> ?"),
            [Wrong::LostWrite],
            "another write has its place"
        );
        let delete = "1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: delete k -> deleted";
        assert_eq!(check("@5 k=1", delete), [Wrong::LostWrite]);
        assert_eq!(check("@5 k=1, @6 k-", delete), []);
    }

    #[test]
    fn an_unanswered_write_happened_once_or_not_at_all_and_not_before_it_was_asked() {
        let one = "1-2 c0/n0: create k=1 -> @5\n3-.. c0/n0: put k=2 -> ?\n4-5 c1/n0: create l=3 -> @9";
        assert_eq!(check("@5 k=1, @9 l=3", one), []);
        assert_eq!(check("@5 k=1, @7 k=2, @9 l=3", one), []);
        assert_eq!(check("@5 k=1, @9 l=3, @11 k=2", one), []);
        assert_eq!(check("@5 k=1, @6 k=2, @9 l=3, @11 k=2", one), [Wrong::TwoEffects]);
        assert_eq!(check("@4 k=2, @5 k=1, @9 l=3", one), [Wrong::RevisionBackwards]);
    }

    #[test]
    fn two_effects_of_one_retry_are_found() {
        let put = "1-2 c0/n0: create k=1 -> @5\n3-6 c0/n0: put k=2 -> @8\n4-5 c1/n1: put k=3 -> @7";
        assert_eq!(check("@5 k=1, @7 k=3, @8 k=2", put), []);
        assert_eq!(check("@5 k=1, @6 k=2, @7 k=3, @8 k=2", put), [Wrong::TwoEffects]);
        let delete =
            "1-2 c0/n0: create k=1 -> @5\n3-6 c0/n0: delete k -> deleted\n4-5 c1/n1: create k=2 -> @7";
        assert_eq!(check("@5 k=1, @6 k-, @7 k=2", delete), []);
        assert_eq!(check("@5 k=1, @6 k-, @7 k=2, @8 k-", delete), [Wrong::NobodyAsked]);
    }

    #[test]
    fn a_refused_write_that_took_effect_is_found() {
        let refused = "1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: put k=2 -> refused";
        assert_eq!(check("@5 k=1", refused), []);
        assert_eq!(check("@5 k=1, @6 k=2", refused), [Wrong::RefusedButDone]);
        assert_eq!(check("@5 k=1", "1-2 c0/n0: create k=1 -> exists"), [Wrong::RefusedButDone]);
        assert_eq!(check("@5 k=7", ""), [Wrong::NobodyAsked]);
    }

    #[test]
    fn what_never_was_is_found() {
        let written = "1-2 c0/n0: create k=1 -> @5\n3-4 c0/n0: create l=2 -> @6\n";
        let with = |read: &str| check("@5 k=1, @6 l=2", &format!("{written}{read}"));
        assert_eq!(with("5-6 c0/n0: read k -> 2@5"), [Wrong::NeverSo]);
        assert_eq!(with("5-6 c0/n0: read k -> 1@6"), [Wrong::NeverSo]);
        assert_eq!(with("5-6 c0/n0: list -> {l=2@6}@6"), [Wrong::NeverSo], "a list with a hole");
        assert_eq!(
            with("5-6 c0/n0: locallist -> {k=1@5 l=2@6}@5"),
            [Wrong::NeverSo],
            "a list of two revisions"
        );
    }

    #[test]
    fn a_read_of_a_write_that_nobody_had_asked_for_yet_is_found() {
        let early = "1-2 c0/n0: read k -> 1@5\n3-4 c1/n0: create k=1 -> @5";
        assert_eq!(check("@5 k=1", early), [Wrong::FromTheFuture, Wrong::RevisionBackwards]);
    }

    #[test]
    fn of_two_removals_each_is_claimed_once() {
        let twice = "
            1-2 c0/n0: create k=1 -> @5
            3-8 c0/n0: delete k -> deleted
            3-9 c1/n1: delete k -> deleted
            4-7 c2/n2: create k=2 -> @7";
        assert_eq!(check("@5 k=1, @6 k-, @7 k=2, @8 k-", twice), []);
        assert_eq!(check("@5 k=1, @6 k-, @7 k=2", twice), [Wrong::LostWrite]);
    }
}
