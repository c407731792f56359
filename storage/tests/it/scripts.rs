//! Scripts and what they print: `testdata/scripts/*.txt`.
//!
//! A script is blocks of commands, a line `----`, and the transcript expected, up to an empty line. With `UPDATE=1` in
//! the environment the files are rewritten to what was printed; read the difference before committing it.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use appliance_storage::{Command, Compare, Key, Op, Revision, WatchClosed, Watcher};

use crate::support::{Fixture, author, now, show_event, show_outcome, show_record, txn};

#[test]
fn apply() {
    check("apply.txt");
}

#[test]
fn history() {
    check("history.txt");
}

#[test]
fn watch() {
    check("watch.txt");
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether to rewrite the expectations is asked of the environment"
)]
fn check(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/scripts").join(file);
    let script = fs::read_to_string(&path).unwrap();
    let printed = run(&script);
    if std::env::var("UPDATE").is_ok() {
        fs::write(&path, &printed).unwrap();
    }
    assert_eq!(printed, script, "{file} prints something else");
}

/// The script again, with the transcripts it really prints.
fn run(script: &str) -> String {
    let mut session = Session { fixture: Fixture::new(), watchers: BTreeMap::new() };
    let mut printed = String::new();
    for block in script.trim_end().split("\n\n") {
        let commands = block.split("\n----").next().unwrap_or_default();
        printed.push_str(commands);
        let lines = commands.lines().filter(|line| !line.starts_with('#'));
        let answers: Vec<String> =
            lines.map(|line| session.run(line)).filter(|text| !text.is_empty()).collect();
        if !answers.is_empty() {
            write!(printed, "\n----\n{}", answers.join("\n")).unwrap();
        }
        printed.push_str("\n\n");
    }
    printed.trim_end().to_owned() + "\n"
}

struct Session {
    fixture: Fixture,
    watchers: BTreeMap<String, Watcher>,
}

impl Session {
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["put" | "delete" | "get", ..] => {
                let op = parse_op(&words);
                show_outcome(&self.fixture.apply(txn(vec![], vec![op], vec![])))
            }
            ["txn", rest @ ..] => show_outcome(&self.fixture.apply(parse_txn(rest))),
            ["compact", before] => show_outcome(
                &self.fixture.apply(Command::Compact { before: Revision(before.parse().unwrap()) }),
            ),
            ["raft"] => {
                self.fixture.index += 1;
                let index = self.fixture.index;
                show_outcome(&self.fixture.store().apply(&[(index, None)]).unwrap()[0])
            }
            ["reopen"] => {
                self.watchers.clear();
                self.fixture.reopen();
                String::new()
            }
            ["list", prefix @ ..] => self.list(prefix.first().unwrap_or(&"")),
            ["state"] => self.state(),
            ["author", revision] => self.author(Revision(revision.parse().unwrap())),
            ["watch", name, prefix, after] => self.watch(name, prefix, Revision(after.parse().unwrap())),
            ["next", name] => self.next(name),
            ["progress", name] => format!("{name}: {}", self.watchers[*name].progress()),
            ["puts", key, from, to] => {
                for value in from.parse::<u64>().unwrap()..=to.parse().unwrap() {
                    self.run(&format!("put {key} {value}"));
                }
                String::new()
            }
            other => panic!("no such command: {other:?}"),
        }
    }

    fn list(&self, prefix: &str) -> String {
        let (revision, records) = self.fixture.reader().list(&Key::from(prefix)).unwrap();
        let records: String = records.iter().map(|record| format!("\n  {}", show_record(record))).collect();
        format!("at {revision}{records}")
    }

    fn state(&self) -> String {
        let reader = self.fixture.reader();
        let chain = reader.chain();
        assert_eq!(
            reader.chain_at(chain.revision).unwrap(),
            Some(chain),
            "the chain is stored with its revision"
        );
        let (applied, revision, compacted) = (reader.applied_index(), reader.revision(), reader.compacted());
        let hash = &chain.hash.to_string()[..16];
        format!("applied {applied} revision {revision} compacted {compacted} chain {hash}")
    }

    fn author(&self, revision: Revision) -> String {
        match self.fixture.reader().author(revision).unwrap() {
            Some(author) => {
                format!("{revision} by {} from {}: {}", author.name, author.source, author.reason)
            }
            None => format!("{revision} is not known"),
        }
    }

    fn watch(&mut self, name: &str, prefix: &str, after: Revision) -> String {
        match self.fixture.reader().watch(&Key::from(prefix.trim_matches('"')), after) {
            Ok(watcher) => {
                self.watchers.insert(name.to_owned(), watcher);
                String::new()
            }
            Err(compacted) => format!("{name}: {compacted}"),
        }
    }

    /// Everything a watcher has to say before it waits.
    fn next(&mut self, name: &str) -> String {
        let watcher = self.watchers.get_mut(name).unwrap();
        let mut text = format!("{name}:");
        loop {
            match now(watcher.next()) {
                None => return format!("{text}\n  waits"),
                Some(Ok(events)) => {
                    events.iter().for_each(|event| write!(text, "\n  {}", show_event(event)).unwrap());
                }
                Some(Err(closed)) => {
                    assert_eq!(Some(watcher.progress()), delivered(&closed), "what it says it delivered");
                    return format!("{text}\n  closed: {closed}");
                }
            }
        }
    }
}

fn delivered(closed: &WatchClosed) -> Option<Revision> {
    match closed {
        WatchClosed::TooSlow { delivered }
        | WatchClosed::Compacted { delivered, .. }
        | WatchClosed::Shutdown { delivered } => Some(*delivered),
        WatchClosed::Fatal(_) => None,
    }
}

/// `[request N] [if COMPARE and COMPARE …] then OP ; OP … [else OP ; OP …]`
fn parse_txn(words: &[&str]) -> Command {
    let (mut request, mut compare, mut then, mut otherwise) = (None, Vec::new(), Vec::new(), Vec::new());
    let keyword = |word: &&str| ["request", "if", "then", "else"].contains(word);
    for clause in words.chunk_by(|_, next| !keyword(next)) {
        let parts = |separator: &'static str| clause[1..].split(move |word| *word == separator);
        match clause[0] {
            "request" => request = Some(clause[1].parse().unwrap()),
            "if" => compare = parts("and").map(parse_compare).collect(),
            "then" => then = parts(";").map(parse_op).collect(),
            _ => otherwise = parts(";").map(parse_op).collect(),
        }
    }
    Command::Txn { author: author(request), compare, then, otherwise }
}

fn parse_compare(words: &[&str]) -> Compare {
    let key = Key::from(words[1]);
    let number = || words[2].parse().unwrap();
    match words[0] {
        "mod" => Compare::ModRevision { key, equals: Revision(number()) },
        "create" => Compare::CreateRevision { key, equals: Revision(number()) },
        "version" => Compare::Version { key, equals: number() },
        "value" => Compare::Value { key, equals: words[2].as_bytes().to_vec() },
        "exists" => Compare::Exists { key },
        "absent" => Compare::Absent { key },
        "none-newer" => Compare::NoneNewer { prefix: key, than: Revision(number()) },
        other => panic!("no such compare: {other}"),
    }
}

fn parse_op(words: &[&str]) -> Op {
    let key = Key::from(words[1]);
    match words[0] {
        "put" => Op::Put { key, value: words[2].as_bytes().to_vec() },
        "delete" => Op::Delete { key },
        "get" => Op::Get { key },
        other => panic!("no such operation: {other}"),
    }
}
