//! Client: one who reads and writes by the dice and writes down what came of it.
//!
//! A client has a connection of its own and the nodes it may talk to: one, or several in turn. It never waits for a
//! fate: what a node does not answer is written down as unknown, and the checks find out. With `retries`, an unanswered
//! write is sent again under the same request id to the next node, and must count once.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::told::{object, objects, version};
use super::{AWAY, Run};
use crate::api::Answer;
use crate::dice::Dice;
use crate::history::operation::{Call, NEVER, Operation, Outcome, Version};
use crate::sets::{SETS, revision};

/// An unanswered write is sent again so often.
const RETRIES: usize = 6;

pub(super) struct Client<'a> {
    run: &'a Run<'a>,
    pub(super) number: usize,
    pub(super) nodes: &'a [usize],
    dice: Dice,
    seen: BTreeMap<String, Version>,
}

/// What one attempt came to.
enum Attempt {
    Definite(Outcome),
    /// Certainly not done.
    NotDone,
    /// Perhaps done.
    Silent,
}

impl<'a> Client<'a> {
    pub(super) fn new(run: &'a Run<'a>, number: usize) -> Client<'a> {
        let dice = Dice::new(run.plan.seed ^ ((number as u64 + 1) << 40));
        Client { run, number, nodes: &run.plan.clients[number], dice, seen: BTreeMap::new() }
    }

    pub(super) fn run(mut self) {
        while !self.run.stop.load(Ordering::SeqCst) {
            let call = self.choose();
            match self.perform(call) {
                Outcome::Refused | Outcome::Unknown => thread::sleep(AWAY),
                _ => {}
            }
            let pause = u64::try_from(self.run.plan.pause.as_micros()).unwrap_or(0);
            thread::sleep(Duration::from_micros(self.dice.below(pause + 1)));
        }
    }

    fn choose(&mut self) -> Call {
        let name = format!("k{:02}", self.dice.below(self.run.plan.objects));
        let seen = self.seen.get(&name).copied();
        match (self.dice.below(100), seen) {
            (0..=34, _) => Call::Read { name },
            (35..=39, _) => Call::List { local: false },
            (40..=42, _) => Call::List { local: true },
            (43..=57, _) => Call::Create { name, content: self.content() },
            (58..=72, _) => Call::Put { name, content: self.content() },
            (73..=90, Some(expected)) => Call::Cas { name, expected, content: self.content() },
            (91..=95, expected) => Call::Delete { name, expected },
            (96.., _) => Call::Delete { name, expected: None },
            (_, None) => Call::Read { name },
        }
    }

    fn content(&self) -> u64 {
        self.run.content.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Asks, as often as this client does, and writes down what came of it.
    pub(super) fn perform(&mut self, call: Call) -> Outcome {
        let first = *self.dice.of(self.nodes);
        let place = self.nodes.iter().position(|node| *node == first).unwrap_or(0);
        let id = format!("{:016x}{:016x}", self.dice.below(u64::MAX), self.dice.below(u64::MAX));
        let id = Some(id.as_str()).filter(|_| self.run.plan.retries && call.writes());
        let invoked = self.run.now();
        let mut outcome = Outcome::Refused;
        for attempt in 0..=RETRIES {
            let node = self.nodes[(place + attempt) % self.nodes.len()];
            match self.attempt(node, &call, id) {
                Attempt::Definite(definite) => {
                    outcome = definite;
                    break;
                }
                // An attempt that certainly did nothing says nothing about one before it.
                Attempt::NotDone => {}
                Attempt::Silent => outcome = Outcome::Unknown,
            }
            if id.is_none() || self.run.stop.load(Ordering::SeqCst) {
                break;
            }
            thread::sleep(AWAY);
        }
        let completed = if outcome == Outcome::Unknown { NEVER } else { self.run.now() };
        self.learn(&call, &outcome);
        let operation = Operation {
            client: self.number,
            node: first,
            invoked,
            completed,
            call,
            outcome: outcome.clone(),
        };
        self.run.operations.lock().expect("the operations").push(operation);
        outcome
    }

    /// Remembers versions, to compare with later.
    fn learn(&mut self, call: &Call, outcome: &Outcome) {
        match (call, outcome) {
            (Call::Read { name }, Outcome::Found(version)) => drop(self.seen.insert(name.clone(), *version)),
            (_, Outcome::Written { revision }) => {
                if let (Some(name), Some(content)) = (call.name(), call.content()) {
                    self.seen.insert(name.to_owned(), Version { revision: *revision, content });
                }
            }
            (_, Outcome::Listed { objects, .. }) => self.seen.extend(objects.clone()),
            (_, Outcome::Absent | Outcome::Deleted) => {
                call.name().map(|name| self.seen.remove(name));
            }
            _ => {}
        }
    }

    fn attempt(&self, node: usize, call: &Call, id: Option<&str>) -> Attempt {
        let (method, path, body) = request(call);
        let header = id.map(|id| ("appliance-request", id));
        let headers: Vec<(&str, &str)> = header.into_iter().collect();
        match self.run.nodes[node].ask_with(method, &path, &headers, body.as_ref()) {
            Ok(answer) => self.answered(node, call, &answer),
            // Nobody listened, so nobody heard.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                Attempt::NotDone
            }
            Err(_) => Attempt::Silent,
        }
    }

    fn answered(&self, node: usize, call: &Call, answer: &Answer) -> Attempt {
        let body = &answer.body;
        match (answer.status, call) {
            (200, Call::Read { .. }) => Attempt::Definite(Outcome::Found(version(body))),
            (200, Call::List { .. }) => {
                let (revision, objects) = (revision(body), objects(body));
                Attempt::Definite(Outcome::Listed { revision, objects })
            }
            (200, Call::Delete { .. }) => Attempt::Definite(Outcome::Deleted),
            (200 | 201, _) => {
                let version = version(body);
                if Some(version.content) != call.content() {
                    self.run.surprise(format!("node {node}: {call} was answered with {version}"));
                }
                Attempt::Definite(Outcome::Written { revision: version.revision })
            }
            (409, Call::Create { .. }) => Attempt::Definite(Outcome::Exists),
            (409, _) => Attempt::Definite(Outcome::Conflict),
            (404, _) => Attempt::Definite(Outcome::Absent),
            (503, _) if answer.retry_after.is_none() => {
                self.run.surprise(format!("node {node}: 503 without Retry-After to {call}: {body}"));
                Attempt::NotDone
            }
            (429 | 503, _) => Attempt::NotDone,
            (504, _) => Attempt::Silent,
            (500, _) => Attempt::Silent,
            (status, _) => {
                self.run.surprise(format!("node {node}: {status} to {call}: {body}"));
                Attempt::Silent
            }
        }
    }
}

impl Call {
    fn writes(&self) -> bool {
        !matches!(self, Call::Read { .. } | Call::List { .. })
    }
}

fn request(call: &Call) -> (&'static str, String, Option<Value>) {
    let one = |name: &str| format!("{SETS}/{name}");
    match call {
        Call::Create { name, content } => ("POST", SETS.to_owned(), Some(object(name, None, *content))),
        Call::Put { name, content } => {
            let whole = object(name, None, *content);
            let patch =
                json!({"metadata": {"annotations": whole["metadata"]["annotations"]}, "spec": whole["spec"]});
            ("PATCH", one(name), Some(patch))
        }
        Call::Cas { name, expected, content } => {
            ("PUT", one(name), Some(object(name, Some(expected.revision), *content)))
        }
        Call::Delete { name, expected: Some(expected) } => {
            let condition = json!({"preconditions": {"resourceVersion": expected.revision.to_string()}});
            ("DELETE", one(name), Some(condition))
        }
        Call::Delete { name, expected: None } => ("DELETE", one(name), None),
        Call::Read { name } => ("GET", one(name), None),
        Call::List { local: true } => ("GET", format!("{SETS}?resourceVersion=0"), None),
        Call::List { local: false } => ("GET", SETS.to_owned(), None),
    }
}
