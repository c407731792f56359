//! Chaos: clients and watchers that write down everything they ask and are told, while a test does its worst to the
//! nodes; and the judgement of what they wrote.
//!
//! A client has a connection of its own and the nodes it may talk to: one, or several in turn. It never waits for a
//! fate: what a node does not answer is written down as unknown, and the checks find out. With `retries`, an unanswered
//! write is sent again under the same request id to the next node, and must count once.
//!
//! A watcher follows the collection through everything: when its stream ends, or is silent while others write, it
//! resumes at its next node from the last revision it was told.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::dice::Dice;
use crate::history::operation::{Call, NEVER, Operation, Outcome, Version};
use crate::history::revisions::{self, Log};
use crate::history::search::{self, Verdict};
use crate::history::watches::{self, Change, Event, Told, Watched};

/// The collection all of it is about: small objects that no enforcement hangs on.
pub const SETS: &str = "/apis/projectcalico.org/v3/globalnetworksets";

/// The object that is written when everything else is, for the watchers to end with.
const LAST: &str = "zz-last";

/// A client gives up on an answer after this; a node answers a write that it cannot bring through before that.
const CLIENT_PATIENCE: Duration = Duration::from_secs(8);

/// A watcher that hears nothing for so long, while clients write all the time, asks another node.
const WATCH_PATIENCE: Duration = Duration::from_millis(1_500);

/// How long the end of a run may take: the last write, and every watcher's way to it.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// Between attempts while a node is away.
const AWAY: Duration = Duration::from_millis(25);

/// An unanswered write is sent again so often.
const RETRIES: usize = 6;

/// Who does what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all choices are made from.
    pub seed: u64,
    /// How many objects the clients share.
    pub objects: u64,
    /// For each client the nodes it talks to.
    pub clients: Vec<Vec<usize>>,
    /// For each watcher the nodes it resumes at, in turn.
    pub watchers: Vec<Vec<usize>>,
    /// Whether unanswered writes are sent again under the same request id.
    pub retries: bool,
    /// The pause of a client between two operations, at most; keeps small machines and logs small.
    pub pause: Duration,
}

impl Plan {
    /// Two clients for each of `nodes`, two who talk to all, and a watcher for each who resumes at the others.
    #[must_use]
    pub fn of(seed: u64, nodes: usize) -> Plan {
        let all: Vec<usize> = (0..nodes).collect();
        let mut clients: Vec<Vec<usize>> = all.iter().flat_map(|node| [vec![*node], vec![*node]]).collect();
        clients.extend([all.clone(), all.clone()]);
        let from = |node: &usize| all.iter().map(|step| (node + step) % nodes).collect();
        Plan {
            seed,
            objects: 24,
            clients,
            watchers: all.iter().map(from).collect(),
            retries: false,
            pause: Duration::from_millis(8),
        }
    }
}

/// What was asked and told.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// By every client, in no order.
    pub operations: Vec<Operation>,
    /// By every watcher.
    pub watches: Vec<Watched>,
    /// The objects before the first operation.
    pub initial: BTreeMap<String, Version>,
    /// Answers that no node should ever give.
    pub surprises: Vec<String>,
}

/// Everything a recorded history is accused of; nothing, if all is well.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// By the check by revision.
    pub by_revision: Vec<revisions::Violation>,
    /// By the search.
    pub by_search: Option<String>,
    /// By the check of watches.
    pub of_watches: Vec<watches::Fault>,
}

impl Recorded {
    /// Holds the history against all three checks.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let log = self.log();
        let by_search = match search::search(&self.operations, &self.initial) {
            Verdict::Linearizable => None,
            Verdict::Violation(impossible) => Some(impossible.to_string()),
            Verdict::Undecided { name } => Some(format!("too many possibilities for {name}: not decided")),
        };
        Judgement {
            by_revision: revisions::check(&self.operations, &log),
            by_search,
            of_watches: watches::check(&log, &self.watches),
        }
    }

    /// What happened, as the watchers were told.
    #[must_use]
    pub fn log(&self) -> Log {
        watches::history(self.initial.clone(), &self.watches)
    }

    /// How many operations were answered, and how many never were.
    #[must_use]
    pub fn answered(&self) -> (usize, usize) {
        let unknown =
            self.operations.iter().filter(|operation| operation.outcome == Outcome::Unknown).count();
        (self.operations.len() - unknown, unknown)
    }

    /// Demands that all is well, and that enough happened for that to mean something: so many acknowledged writes.
    ///
    /// # Panics
    /// When it is not; the message tells everything that is wrong, and the history is written to a file.
    pub fn holds(&self, writes: usize) {
        let judgement = self.judge();
        let (answered, unknown) = self.answered();
        let written = self
            .operations
            .iter()
            .filter(|operation| matches!(operation.outcome, Outcome::Written { .. }))
            .count();
        let resumed =
            |watched: &Watched| watched.told.iter().filter(|told| matches!(told, Told::Resumed(_))).count();
        let resumed: usize = self.watches.iter().map(resumed).sum();
        eprintln!(
            "{answered} operations answered, {written} of them writes done, {unknown} unknown; {} changes, \
             watches resumed {resumed} times",
            self.log().changes.len()
        );
        if !judgement.is_clean() || !self.surprises.is_empty() {
            let file = self.keep();
            panic!("the history in {file} is wrong:\n{judgement}{}", self.surprises.join("\n"));
        }
        assert!(written >= writes, "only {written} writes were acknowledged: that proves nothing");
    }

    /// Writes the history to a file and says where.
    fn keep(&self) -> String {
        let path = std::env::temp_dir().join(format!("appliance-history-{}.txt", std::process::id()));
        let mut operations = self.operations.clone();
        operations.sort_unstable_by_key(|operation| operation.invoked);
        let operations = operations.iter().map(ToString::to_string);
        let watches = self.watches.iter().map(|watched| format!("{watched:?}"));
        let lines: Vec<String> = operations.chain(watches).collect();
        match std::fs::write(&path, lines.join("\n")) {
            Ok(()) => path.display().to_string(),
            Err(error) => format!("(not kept: {error})"),
        }
    }
}

impl Judgement {
    /// Whether no check found anything.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.by_revision.is_empty() && self.by_search.is_none() && self.of_watches.is_empty()
    }
}

/// Of each check, no more findings than a person reads.
const TOLD: usize = 10;

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for violation in self.by_revision.iter().take(TOLD) {
            writeln!(f, "by revision: {violation}")?;
        }
        if let Some(impossible) = &self.by_search {
            writeln!(f, "by search: {impossible}")?;
        }
        self.of_watches.iter().take(TOLD).try_for_each(|fault| writeln!(f, "watch: {fault}"))
    }
}

/// Runs clients and watchers against the nodes while `f` does what it wants to them. When `f` returns, the nodes must
/// be able to serve again; the run ends with a last write that every watcher waits for, and a list from every node.
///
/// # Panics
/// When `f` does, or the nodes do not serve again.
pub fn record(nodes: &[Api], plan: &Plan, f: impl FnOnce()) -> Recorded {
    let run = Run::new(nodes, plan);
    let (from, initial) = run.beginning();
    thread::scope(|scope| {
        let watchers: Vec<_> = (plan.watchers.iter().enumerate())
            .map(|(number, nodes)| {
                let run = &run;
                scope.spawn(move || run.watch(number, nodes, from))
            })
            .collect();
        let clients: Vec<_> = (0..plan.clients.len())
            .map(|number| {
                let run = &run;
                scope.spawn(move || Client::new(run, number).run())
            })
            .collect();
        let given_up = GivenUp(&run);
        f();
        run.stop.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        run.end();
        std::mem::forget(given_up);
        *run.deadline.lock().expect("the deadline") = Some(Instant::now() + END_PATIENCE);
        let watches = watchers
            .into_iter()
            .map(|watcher| watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let watches = watches.collect();
        Recorded {
            operations: std::mem::take(&mut *run.operations.lock().expect("the operations")),
            watches,
            initial,
            surprises: std::mem::take(&mut *run.surprises.lock().expect("the surprises")),
        }
    })
}

/// Ends clients and watchers when a test fails, which would else wait for them.
struct GivenUp<'a>(&'a Run<'a>);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
        *self.0.deadline.lock().expect("the deadline") = Some(Instant::now());
    }
}

/// What all clients and watchers of a run share.
struct Run<'a> {
    nodes: Vec<Api>,
    plan: &'a Plan,
    /// The clock that every moment is read from.
    moment: AtomicU64,
    /// The last content given out.
    content: AtomicU64,
    stop: AtomicBool,
    /// When watchers stop waiting for the last write.
    deadline: Mutex<Option<Instant>>,
    operations: Mutex<Vec<Operation>>,
    surprises: Mutex<Vec<String>>,
}

impl<'a> Run<'a> {
    fn new(nodes: &[Api], plan: &'a Plan) -> Run<'a> {
        Run {
            nodes: nodes.iter().map(|node| node.clone().with_patience(CLIENT_PATIENCE)).collect(),
            plan,
            moment: AtomicU64::new(1),
            content: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            deadline: Mutex::default(),
            operations: Mutex::default(),
            surprises: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    /// The revision and the objects that the run begins with.
    fn beginning(&self) -> (u64, BTreeMap<String, Version>) {
        let deadline = Instant::now() + END_PATIENCE;
        loop {
            for node in &self.nodes {
                if let Ok(answer) = node.ask("GET", SETS, None)
                    && answer.status == 200
                {
                    let objects = objects(&answer.body);
                    let newest = objects.values().map(|version| version.content).max();
                    self.content.fetch_max(newest.unwrap_or(0), Ordering::SeqCst);
                    return (revision(&answer.body), objects);
                }
            }
            assert!(Instant::now() < deadline, "no node serves a list");
            thread::sleep(AWAY);
        }
    }

    /// The last write, and what every node says then.
    fn end(&self) {
        let deadline = Instant::now() + END_PATIENCE;
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let mut client = Client { nodes: &all, ..Client::new(self, 0) };
        client.number = self.plan.clients.len();
        loop {
            let name = LAST.to_owned();
            let content = self.content.fetch_add(1, Ordering::SeqCst) + 1;
            let created = client.perform(Call::Create { name: name.clone(), content });
            let written = |outcome: &Outcome| matches!(outcome, Outcome::Written { .. });
            if written(&created)
                || (created == Outcome::Exists
                    && written(&client.perform(Call::Put {
                        name,
                        content: self.content.fetch_add(1, Ordering::SeqCst) + 1,
                    })))
            {
                break;
            }
            assert!(Instant::now() < deadline, "the nodes take no writes when all is over: {created}");
            thread::sleep(AWAY);
        }
        for node in &all {
            let one = [*node];
            let mut client =
                Client { nodes: &one, number: self.plan.clients.len() + 1 + node, ..Client::new(self, 0) };
            while !matches!(client.perform(Call::List { local: false }), Outcome::Listed { .. }) {
                assert!(Instant::now() < deadline, "node {node} serves no list when all is over");
                thread::sleep(AWAY);
            }
        }
    }

    fn surprise(&self, what: String) {
        let mut surprises = self.surprises.lock().expect("the surprises");
        if surprises.len() < TOLD {
            surprises.push(what);
        }
    }

    fn over(&self) -> bool {
        self.deadline.lock().expect("the deadline").is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Follows the collection to the last write.
    fn watch(&self, number: usize, nodes: &[usize], from: u64) -> Watched {
        let mut watched = Watched { watcher: format!("watcher {number}"), from, told: Vec::new() };
        for turn in 0.. {
            let node = nodes[turn % nodes.len()];
            if turn > 0 {
                watched.told.push(Told::Resumed(node));
            }
            let at = watched.reached();
            let path = format!("{SETS}?watch=1&resourceVersion={at}&allowWatchBookmarks=true");
            // A short limit now and then, so that streams also end in good order, with a bookmark.
            let path = if turn % 3 == 1 { format!("{path}&timeoutSeconds=2") } else { path };
            if let Ok(mut stream) = self.nodes[node].clone().with_patience(WATCH_PATIENCE).watch(&path) {
                while let Some(line) = stream.next_event() {
                    match told(&line) {
                        Ok(Some(told)) => {
                            let last = matches!(&told, Told::Event(event) if event.name == LAST);
                            watched.told.push(told);
                            if last {
                                return watched;
                            }
                        }
                        Ok(None) => {}
                        // 410: this node has not the history; another has.
                        Err(410) => break,
                        Err(code) => self.surprise(format!("watch of node {node}: error {code}")),
                    }
                }
            }
            if self.over() {
                self.surprise(format!("watcher {number} never came to the end; it is at {at}"));
                break;
            }
            thread::sleep(AWAY);
        }
        watched
    }
}

struct Client<'a> {
    run: &'a Run<'a>,
    number: usize,
    nodes: &'a [usize],
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
    fn new(run: &'a Run<'a>, number: usize) -> Client<'a> {
        let dice = Dice::new(run.plan.seed ^ ((number as u64 + 1) << 40));
        Client { run, number, nodes: &run.plan.clients[number], dice, seen: BTreeMap::new() }
    }

    fn run(mut self) {
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
    fn perform(&mut self, call: Call) -> Outcome {
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

/// A set whose members are its content: all of them are of the same write, or the object is a mix of two.
fn object(name: &str, at: Option<u64>, content: u64) -> Value {
    let mut metadata = json!({"name": name, "annotations": {"content": content.to_string()}});
    if let Some(at) = at {
        metadata["resourceVersion"] = at.to_string().into();
    }
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet", "metadata": metadata,
        "spec": {"nets": [format!("10.{}.{}.{}/32", content >> 16 & 255, content >> 8 & 255, content & 255)]}
    })
}

/// One line of a watch; an error's code.
fn told(line: &Value) -> Result<Option<Told>, u64> {
    let item = &line["object"];
    let change = match line["type"].as_str() {
        Some("BOOKMARK") => return Ok(Some(Told::Bookmark(revision(item)))),
        Some("ADDED") => Change::Added,
        Some("MODIFIED") => Change::Modified,
        Some("DELETED") => Change::Deleted,
        _ => return Err(item["code"].as_u64().unwrap_or(0)),
    };
    let version = version(item);
    let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(Some(Told::Event(Event { revision: version.revision, name, change: change(version.content) })))
}

fn objects(list: &Value) -> BTreeMap<String, Version> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let object =
        |item: &Value| (item["metadata"]["name"].as_str().unwrap_or_default().to_owned(), version(item));
    items.iter().map(object).collect()
}

fn version(item: &Value) -> Version {
    let content = item["metadata"]["annotations"]["content"].as_str().and_then(|text| text.parse().ok());
    let content = content.unwrap_or_else(|| panic!("no content in {item}"));
    assert_eq!(item["spec"], object("", None, content)["spec"], "all of write {content}, and nothing but it");
    Version { revision: revision(item), content }
}

fn revision(item: &Value) -> u64 {
    let text = item["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
    text.unwrap_or_else(|| panic!("no resourceVersion in {item}"))
}
