//! Chaos: clients and watchers that write down everything they ask and are told, while a test does its worst to the
//! nodes. `recorded` judges what they wrote.
//!
//! A watcher follows the collection through everything: when its stream ends, or is silent while others write, it
//! resumes at its next node from the last revision it was told.

mod client;
mod recorded;
mod told;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::history::operation::{Call, Operation, Outcome, Version};
use crate::history::watches::{Told, Watched};
use crate::sets::{SETS, revision};

use client::Client;
use recorded::TOLD;
use told::{objects, told};

pub use recorded::{Judgement, Recorded};

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
        let mut client = Client::new(self, 0);
        (client.nodes, client.number) = (&all, self.plan.clients.len());
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
            let mut client = Client::new(self, 0);
            (client.nodes, client.number) = (&one, self.plan.clients.len() + 1 + node);
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
