//! Writers that know what they were told: several at once, each with its own objects, against a node that may be killed
//! at any moment. Every answer is held against what was acknowledged before it; what got no answer may have happened or
//! not, and is read back before the writer goes on.
//!
//! A store revision is acknowledged with every write, and that is what orders them: an answer's revision is above every
//! one that was complete before its request was sent, whichever process answered either.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use appliance_tests::api::{Answer, Api};
use appliance_tests::dice::Dice;
use appliance_tests::sets::{self, SETS, name, revision};
use serde_json::Value;

const WRITERS: u64 = 4;

const OBJECTS_EACH: u64 = 8;

/// One in so many objects is larger than the store's rows, which are under 6 KiB.
const LARGE_EVERY: u64 = 9;

const LARGE: u64 = 256;

/// Between attempts while the node is away.
const AWAY: Duration = Duration::from_millis(10);

/// What every writer was told.
#[derive(Default)]
pub(crate) struct Ledger {
    stop: AtomicBool,
    /// The newest revision in any answer.
    complete: AtomicU64,
    /// Every acknowledged create and replace: by revision, the object's name and its content.
    pub(crate) acknowledged: Mutex<BTreeMap<u64, (String, u64)>>,
    /// What must be in the store: by name, revision and content.
    pub(crate) standing: Mutex<BTreeMap<String, (u64, u64)>>,
    pub(crate) unanswered: AtomicU64,
}

/// Runs the writers while `f` does what it wants to the node, which must serve when `f` returns.
pub(crate) fn while_writing(api: &Api, seed: u64, f: impl FnOnce()) -> Ledger {
    let ledger = Ledger::default();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let ledger = &ledger;
                let dice = Dice::new(seed ^ (number << 32));
                let api = api.clone();
                scope.spawn(move || Writer { number, api, ledger, dice, content: 0 }.run())
            })
            .collect();
        // A writer that found something wrong ends early, and `f` must not hide that.
        f();
        ledger.stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    ledger
}

impl Ledger {
    /// Reads everything back: what stands is there, whole, at the revision it was acknowledged with; nothing else is.
    pub(crate) fn holds(&self, api: &Api) {
        let list = api.ask("GET", SETS, None).expect("a list");
        let newest = revision(&list.body);
        assert!(newest >= self.complete.load(Ordering::SeqCst), "the store went back to revision {newest}");
        let items = list.body["items"].as_array().expect("items");
        let found: BTreeMap<String, (u64, u64)> =
            items.iter().map(|item| (name(item), (revision(item), content(item)))).collect();
        assert_eq!(found, *self.standing.lock().expect("the ledger"));
    }

    fn completed(&self, revision: u64) {
        self.complete.fetch_max(revision, Ordering::SeqCst);
    }
}

struct Writer<'a> {
    number: u64,
    api: Api,
    ledger: &'a Ledger,
    dice: Dice,
    content: u64,
}

impl Writer<'_> {
    fn run(mut self) {
        while !self.ledger.stop.load(Ordering::SeqCst) {
            let name = format!("w{}-{}", self.number, self.dice.below(OBJECTS_EACH));
            let standing = self.ledger.standing.lock().expect("the ledger").get(&name).copied();
            match standing {
                Some((at, was)) if self.dice.below(5) == 0 => self.delete(&name, at, was),
                standing => self.write(&name, standing),
            }
        }
    }

    /// Creates an object, or replaces the revision that stands. A silent attempt is made again as it was: it must find
    /// itself done, or be done now, once.
    fn write(&mut self, name: &str, standing: Option<(u64, u64)>) {
        self.content += 1;
        let (method, path) = match standing {
            Some(_) => ("PUT", format!("{SETS}/{name}")),
            None => ("POST", SETS.to_owned()),
        };
        let object = object(name, standing.map(|(at, _)| at), self.content);
        let floor = self.ledger.complete.load(Ordering::SeqCst);
        let (answer, silent) = self.until_answered(method, &path, &object);
        let at = match answer.status {
            200 | 201 => {
                self.ledger
                    .acknowledged
                    .lock()
                    .expect("the ledger")
                    .insert(revision(&answer.body), (name.to_owned(), self.content));
                answer.body
            }
            409 if silent => self.read(name).body,
            _ => panic!("{method} {name}: {answer:?}"),
        };
        assert_eq!(content(&at), self.content, "{name} holds what was written last");
        let at = revision(&at);
        assert!(at > floor, "{name} was written at revision {at}, though {floor} was complete before");
        self.ledger.completed(at);
        self.ledger.standing.lock().expect("the ledger").insert(name.to_owned(), (at, self.content));
    }

    fn delete(&mut self, name: &str, at: u64, was: u64) {
        let before = self.read(name).body;
        assert_eq!((revision(&before), content(&before)), (at, was), "{name} is what was acknowledged");
        let (answer, silent) = self.until_answered("DELETE", &format!("{SETS}/{name}"), &Value::Null);
        assert!(answer.status == 200 || (silent && answer.status == 404), "DELETE {name}: {answer:?}");
        self.ledger.standing.lock().expect("the ledger").remove(name);
        assert_eq!(self.read(name).status, 404, "{name} was deleted");
    }

    fn read(&self, name: &str) -> Answer {
        self.until_answered("GET", &format!("{SETS}/{name}"), &Value::Null).0
    }

    /// The first answer, and whether an attempt before it got none.
    fn until_answered(&self, method: &str, path: &str, body: &Value) -> (Answer, bool) {
        let body = Some(body).filter(|body| !body.is_null());
        let mut silent = false;
        loop {
            match self.api.ask(method, path, body) {
                // A definite or an uncertain refusal of a node on its way down: neither says that it was done.
                Ok(answer) if answer.status >= 500 || answer.status == 429 => {}
                Ok(answer) => return (answer, silent),
                Err(_) => {}
            }
            if !silent {
                self.ledger.unanswered.fetch_add(1, Ordering::Relaxed);
            }
            silent = true;
            thread::sleep(AWAY);
        }
    }
}

/// The set of a write; some are larger than a row.
pub(crate) fn object(name: &str, at: Option<u64>, content: u64) -> Value {
    let nets = nets(content);
    let mut object = sets::object(name, at, content, &nets);
    if nets.len() as u64 == LARGE {
        object["metadata"]["annotations"]["padding"] = "x".repeat(8_000).into();
    }
    object
}

fn nets(content: u64) -> Vec<String> {
    let members = if content.is_multiple_of(LARGE_EVERY) { LARGE } else { 3 };
    let (high, low) = (content >> 8 & 255, content & 255);
    (0..members).map(|i| format!("10.{high}.{low}.{i}/32")).collect()
}

/// The number of the write an object is of.
pub(crate) fn content(item: &Value) -> u64 {
    sets::content(item, nets)
}
