//! Random commands against a model that fits on a page: same outcomes, same records, same history, over restarts,
//! compactions and restored snapshots. proptest prints the input of a failure and keeps its seed.

use std::{collections::BTreeMap, fmt::Write};

use appliance_storage::{Command, Compare, Key, Op, Revision, Store};
use proptest::prelude::*;

use crate::support::{Fixture, now, restore, show_event, show_outcome, show_record, txn};

/// What the store should be: current records, and every event as text.
#[derive(Clone, Default)]
struct Model {
    records: BTreeMap<String, Held>,
    revision: u64,
    compacted: u64,
    events: Vec<(u64, String)>,
}

#[derive(Clone, PartialEq)]
struct Held {
    value: String,
    create: u64,
    modified: u64,
    version: u64,
}

impl Model {
    fn apply(&mut self, command: &Command) -> String {
        match command {
            Command::Compact { before } if before.0 > self.revision => {
                format!("refused: compact before {before}: the store is at {}", self.revision)
            }
            Command::Compact { before } => {
                self.compacted = self.compacted.max(before.0);
                format!("succeeded at {}", self.revision)
            }
            Command::Txn { compare, then, otherwise, .. } => {
                if let Some(key) = written_twice(then).or(written_twice(otherwise)) {
                    return format!("refused: key {key} is written twice in one transaction");
                }
                let holds = compare.iter().all(|compare| self.holds(compare));
                let (word, ops) = if holds { ("succeeded", then) } else { ("failed", otherwise) };
                self.carry_out(word, ops)
            }
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        if let Compare::NoneNewer { prefix, than } = compare {
            let prefix = prefix.to_string();
            return !self
                .records
                .iter()
                .any(|(key, held)| key.starts_with(&prefix) && held.modified > than.0);
        }
        let held = self.records.get(&compare.key().to_string());
        match compare {
            Compare::ModRevision { equals, .. } => held.map_or(0, |held| held.modified) == equals.0,
            Compare::CreateRevision { equals, .. } => held.map_or(0, |held| held.create) == equals.0,
            Compare::Version { equals, .. } => held.map_or(0, |held| held.version) == *equals,
            Compare::Value { equals, .. } => held.is_some_and(|held| held.value.as_bytes() == equals),
            Compare::Exists { .. } => held.is_some(),
            Compare::Absent { .. } => held.is_none(),
            Compare::NoneNewer { .. } => unreachable!("answered above"),
        }
    }

    fn carry_out(&mut self, word: &str, ops: &[Op]) -> String {
        let revision = self.revision + 1;
        let (mut replies, mut changed) = (String::new(), false);
        for op in ops {
            let key = op.key().to_string();
            let before = self.records.get(&key).cloned();
            let reply = match op {
                Op::Get { .. } => format!("got {}", show(&key, before.as_ref())),
                Op::Delete { .. } => {
                    self.records.remove(&key);
                    format!("deleted {}", show(&key, before.as_ref()))
                }
                Op::Put { value, .. } => {
                    let value = String::from_utf8(value.clone()).unwrap();
                    let (create, version) =
                        before.as_ref().map_or((revision, 1), |held| (held.create, held.version + 1));
                    let same = before.as_ref().is_some_and(|held| held.value == value);
                    let after = Held { value, create, modified: revision, version };
                    let after = if same { before.clone().unwrap() } else { after };
                    self.records.insert(key.clone(), after.clone());
                    format!("{} {}", if same { "unchanged" } else { "put" }, show(&key, Some(&after)))
                }
            };
            write!(replies, "\n  {reply}").unwrap();
            let after = self.records.get(&key);
            if before.as_ref() != after {
                changed = true;
                let at = |held: Option<&Held>| {
                    held.map_or("nothing".into(), |held| format!("{}@{}", held.value, held.modified))
                };
                self.events
                    .push((revision, format!("{revision} {key}: {} -> {}", at(before.as_ref()), at(after))));
            }
        }
        self.revision += u64::from(changed);
        format!("{word} at {}{replies}", self.revision)
    }

    fn list(&self) -> Vec<String> {
        self.records.iter().map(|(key, held)| show(key, Some(held))).collect()
    }

    fn history(&self) -> Vec<String> {
        let kept = self.events.iter().filter(|(revision, _)| *revision >= self.compacted);
        kept.map(|(_, text)| text.clone()).collect()
    }
}

fn written_twice(ops: &[Op]) -> Option<&Key> {
    let writes: Vec<&Key> = ops.iter().filter(|op| !matches!(op, Op::Get { .. })).map(Op::key).collect();
    writes.iter().enumerate().find(|(n, key)| writes[..*n].contains(key)).map(|(_, key)| *key)
}

fn show(key: &str, held: Option<&Held>) -> String {
    let Some(Held { value, create, modified, version }) = held else { return "nothing".into() };
    format!("{key}={value} create {create} mod {modified} version {version}")
}

/// One thing that happens to a store.
#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Command>),
    Reopen,
    Purge,
    /// Carry on in another directory, from a snapshot.
    Move,
}

fn key() -> impl Strategy<Value = Key> {
    prop::sample::select(vec!["a", "b", "b/1", "b/2", "c"]).prop_map(Key::from)
}

/// Few values, so that writes meet what is there; long ones, so that they take several chunks and leave the cache.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => "[xyz]", 1 => "[xy]".prop_map(|text| text.repeat(7_000))].prop_map(String::into_bytes)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (key(), value()).prop_map(|(key, value)| Op::Put { key, value }),
        3 => key().prop_map(|key| Op::Delete { key }),
        1 => key().prop_map(|key| Op::Get { key }),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let number = 0u64..12;
    prop_oneof![
        (key(), number.clone()).prop_map(|(key, n)| Compare::ModRevision { key, equals: Revision(n) }),
        (key(), number.clone()).prop_map(|(key, n)| Compare::CreateRevision { key, equals: Revision(n) }),
        (key(), 0u64..3).prop_map(|(key, equals)| Compare::Version { key, equals }),
        (key(), value()).prop_map(|(key, equals)| Compare::Value { key, equals }),
        key().prop_map(|key| Compare::Exists { key }),
        key().prop_map(|key| Compare::Absent { key }),
        (key(), 0u64..30).prop_map(|(prefix, n)| Compare::NoneNewer { prefix, than: Revision(n) }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let ops = || prop::collection::vec(op(), 0..4);
    prop_oneof![
        12 => (prop::collection::vec(compare(), 0..2), ops(), ops()).prop_map(|(c, t, o)| txn(c, t, o)),
        1 => (1u64..40).prop_map(|before| Command::Compact { before: Revision(before) }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(command(), 1..6).prop_map(Step::Batch),
        2 => Just(Step::Reopen),
        1 => Just(Step::Purge),
        1 => Just(Step::Move),
    ]
}

fn check(fixture: &Fixture, model: &Model) {
    let reader = fixture.reader();
    let (revision, records) = reader.list(&Key::all()).unwrap();
    assert_eq!((revision.0, reader.compacted().0), (model.revision, model.compacted));
    assert_eq!(records.iter().map(show_record).collect::<Vec<_>>(), model.list());
    for record in &records {
        assert_eq!(reader.get(&record.key).unwrap().as_ref(), Some(record));
        assert!(reader.author(record.mod_revision).unwrap().is_some(), "author of {}", record.key);
    }
    let mut watcher = reader.watch(&Key::all(), reader.compacted().previous()).unwrap();
    let mut events = Vec::new();
    while let Some(next) = now(watcher.next()) {
        events.extend(next.unwrap().iter().map(|event| show_event(event)));
    }
    assert_eq!(events, model.history());
}

fn carry_on_elsewhere(fixture: &mut Fixture) {
    let snapshot = fixture.store().snapshot().unwrap().to_bytes().unwrap();
    let chain = fixture.reader().chain();
    fixture.close();
    fixture.dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(fixture.dir.path(), fixture.options.clone()).unwrap();
    restore(&mut store, &snapshot).unwrap();
    assert_eq!((store.applied_index(), store.reader().chain()), (fixture.index, chain));
    fixture.store = Some(store);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_its_model(steps in prop::collection::vec(step(), 1..24)) {
        let mut fixture = Fixture::new();
        let mut model = Model { revision: 1, ..Model::default() };
        for step in steps {
            match step {
                Step::Batch(commands) => {
                    let expected: Vec<String> = commands.iter().map(|command| model.apply(command)).collect();
                    let outcomes = fixture.apply_all(commands);
                    prop_assert_eq!(outcomes.iter().map(show_outcome).collect::<Vec<_>>(), expected);
                }
                Step::Reopen => fixture.reopen(),
                Step::Purge => while fixture.store().purge().unwrap() {},
                Step::Move => carry_on_elsewhere(&mut fixture),
            }
            check(&fixture, &model);
        }
    }

    #[test]
    fn how_a_log_is_cut_into_batches_does_not_matter(
        commands in prop::collection::vec(command(), 1..40),
        cuts in prop::collection::vec(1usize..8, 1..40),
    ) {
        let (mut one_by_one, mut in_batches) = (Fixture::new(), Fixture::new());
        let expected: Vec<_> = commands.iter().map(|command| one_by_one.apply(command.clone())).collect();
        let (mut rest, mut outcomes) = (commands.as_slice(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (batch, after) = rest.split_at(rest.len().min(*cut));
            outcomes.extend(in_batches.apply_all(batch.to_vec()));
            rest = after;
            if rest.is_empty() { break }
        }
        prop_assert_eq!(outcomes, expected);
        prop_assert_eq!(in_batches.reader().chain(), one_by_one.reader().chain());
        prop_assert_eq!(in_batches.reader().list(&Key::all()).unwrap(), one_by_one.reader().list(&Key::all()).unwrap());
    }
}
