//! What the tests share: a store in a temporary directory, short ways to write commands, and polling without a clock.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use appliance_storage::{
    Author, Command, Compare, Event, HistoryBounds, Key, Op, Outcome, Reader, Record, Reply, RequestId,
    SnapshotError, Store, StoreOptions,
};

/// A store that numbers its own log entries.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Option<Store>,
    pub(crate) options: StoreOptions,
    pub(crate) index: u64,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        Fixture::with(options())
    }

    pub(crate) fn with(options: StoreOptions) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(Store::open(dir.path(), options.clone()).unwrap());
        Fixture { dir, store, options, index: 0 }
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    pub(crate) fn reader(&self) -> Reader {
        self.store.as_ref().unwrap().reader()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The sled database in use.
    pub(crate) fn database(&self) -> PathBuf {
        let name = std::fs::read_to_string(self.path().join("CURRENT")).unwrap();
        self.path().join(name.trim_end())
    }

    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        self.apply_all(vec![command]).remove(0)
    }

    pub(crate) fn apply_all(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let batch: Vec<(u64, Option<Command>)> =
            (self.index + 1..).zip(commands.into_iter().map(Some)).collect();
        self.index += batch.len() as u64;
        self.store().apply(&batch).unwrap()
    }

    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    /// Closes and opens; the log goes on where the store stands.
    pub(crate) fn reopen(&mut self) {
        self.close();
        self.store = Some(Store::open(self.dir.path(), self.options.clone()).unwrap());
        self.index = self.store().applied_index();
    }
}

/// Copies a directory and all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Without ballast, and with a small cache, ring and lag, so that small tests reach all of them.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        ballast_bytes: 0,
        value_cache_bytes: 2_000,
        ring_events: 8,
        watch_lag_revisions: 20,
        history: HistoryBounds { age: Duration::ZERO, revisions: 10, revisions_max: 1_000 },
        ..StoreOptions::default()
    }
}

/// Restores from a file that holds these bytes and is gone afterwards, as one that a peer sent.
pub(crate) fn restore(store: &mut Store, snapshot: &[u8]) -> Result<(), SnapshotError> {
    let received = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(received.path(), snapshot).unwrap();
    store.restore_from(received.path())
}

pub(crate) fn txn(compare: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>) -> Command {
    Command::Txn { author: author(None), compare, then, otherwise }
}

pub(crate) fn author(request: Option<u128>) -> Author {
    Author {
        name: "alice".into(),
        source: "unix:0".into(),
        reason: "test".into(),
        time: 1_000,
        request: request.map(|id| RequestId(id.to_be_bytes())),
    }
}

pub(crate) fn put(key: &str, value: impl Into<Vec<u8>>) -> Op {
    Op::Put { key: Key::from(key), value: value.into() }
}

pub(crate) fn delete(key: &str) -> Op {
    Op::Delete { key: Key::from(key) }
}

pub(crate) fn do_put(key: &str, value: impl Into<Vec<u8>>) -> Command {
    txn(vec![], vec![put(key, value)], vec![])
}

pub(crate) fn do_delete(key: &str) -> Command {
    txn(vec![], vec![delete(key)], vec![])
}

/// What a future answers without waiting for anything; nothing if it would wait.
pub(crate) fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    // Yielding to other tasks is not waiting; nothing here yields this often.
    (0..1_000).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

pub(crate) fn show_record(record: &Record) -> String {
    let Record { key, value, create_revision, mod_revision, version } = record;
    let value = value.escape_ascii();
    format!("{key}={value} create {create_revision} mod {mod_revision} version {version}")
}

pub(crate) fn show_outcome(outcome: &Outcome) -> String {
    let (word, revision, replies) = match outcome {
        Outcome::Refused { reason } => return format!("refused: {reason}"),
        Outcome::Forgotten => return "forgotten".to_owned(),
        Outcome::Succeeded { revision, replies } => ("succeeded", revision, replies),
        Outcome::Failed { revision, replies } => ("failed", revision, replies),
    };
    let replies: String = replies.iter().map(|reply| format!("\n  {}", show_reply(reply))).collect();
    format!("{word} at {revision}{replies}")
}

fn show_reply(reply: &Reply) -> String {
    let show = |record: &Option<Record>| record.as_ref().map_or("nothing".to_owned(), show_record);
    match reply {
        Reply::Put { record, changed: true } => format!("put {}", show_record(record)),
        Reply::Put { record, changed: false } => format!("unchanged {}", show_record(record)),
        Reply::Delete { before } => format!("deleted {}", show(before)),
        Reply::Get { record } => format!("got {}", show(record)),
    }
}

pub(crate) fn show_event(event: &Event) -> String {
    let Event { revision, key, before, after } = event;
    let show = |record: &Option<Record>| {
        record.as_ref().map_or("nothing".to_owned(), |record| {
            format!("{}@{}", record.value.escape_ascii(), record.mod_revision)
        })
    };
    format!("{revision} {key}: {} -> {}", show(before), show(after))
}
