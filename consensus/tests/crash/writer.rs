//! The writer: a process of its own that commands a member as fast as it answers.
//!
//! Every client writes its two keys in one transaction, always with the same turn in both; some values are large enough
//! to be chunked, and a third key comes and goes. The files are small and checkpoints frequent, so that a short life
//! sees the log roll over, the state exported and the log cut.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command as Process, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use appliance_consensus::{Config, Origin, ProposeError, Raft, StopReason, start};
use appliance_storage::{Author, Command, Key, Op, Outcome, Reader, Revision, Store, StoreOptions};
use rustix::process::Pid;

use crate::acks::{self, Ack};

pub(crate) const CLIENTS: u64 = 8;

/// History is compacted every so many turns of one client, so that the state neither grows for ever nor stands still.
const COMPACT_EVERY: u64 = 25;

/// Revisions a compaction leaves.
const REVISIONS_KEPT: u64 = 400;

/// What the writer's exit says: the member stopped, as it must when its disk fails.
pub(crate) const MEMBER_STOPPED: i32 = 17;

/// Starts this binary again, as a writer over `data` that notes its answers in `acks`.
pub(crate) fn spawn(data: &Path, acks: &Path) -> Writer {
    let child = Process::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "writer::writer_process", "--nocapture", "--test-threads=1"])
        .env("WRITER_DATA", data)
        .env("WRITER_ACKS", acks)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(acks.with_extension("stderr")).expect("the file for its complaints"))
        .spawn()
        .expect("start the writer");
    Writer(child)
}

/// What the last writer said of its end.
pub(crate) fn complaint(acks: &Path) -> String {
    std::fs::read_to_string(acks.with_extension("stderr")).unwrap_or_default()
}

/// A running writer; killed when dropped, so that a failed test leaves none behind.
pub(crate) struct Writer(Child);

impl Writer {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Fails the test when it ended by itself, with what it said.
    pub(crate) fn must_run(&mut self, acks: &Path) {
        if let Some(status) = self.ended() {
            panic!("the writer ended by itself, {status}: {}", complaint(acks));
        }
    }

    /// Waits until the file holds so many answers, however long this machine takes for them.
    pub(crate) fn wait_for_acks(&mut self, acks: &Path, wanted: usize) {
        while acks::count(acks) < wanted {
            self.must_run(acks);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the writer's state")
    }

    /// Waits until it ends by itself, which it must within a minute.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        for _ in 0..6_000 {
            if let Some(status) = self.ended() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the disk failed and the writer goes on");
    }

    /// SIGKILL; answers how it ended, which is by this signal unless it had ended before.
    pub(crate) fn kill(mut self) -> ExitStatus {
        self.0.kill().expect("kill the writer");
        self.0.wait().expect("the writer's end")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is all we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: the body of the process that the tests start.
#[test]
fn writer_process() {
    let (Some(data), Some(acks)) = (std::env::var_os("WRITER_DATA"), std::env::var_os("WRITER_ACKS")) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    std::process::exit(runtime.block_on(write(PathBuf::from(data), PathBuf::from(acks))));
}

async fn write(data: PathBuf, acks: PathBuf) -> i32 {
    let (raft, reader) = match open(&data) {
        Ok(member) => member,
        Err(error) => {
            eprintln!("{error}");
            return MEMBER_STOPPED;
        }
    };
    let acks = Arc::new(OpenOptions::new().create(true).append(true).open(acks).expect("the file of acks"));
    for client in 0..CLIENTS {
        tokio::spawn(command(raft.clone(), reader.clone(), acks.clone(), client));
    }
    match raft.stopped().await {
        StopReason::Requested => {}
        reason => eprintln!("{reason}"),
    }
    MEMBER_STOPPED
}

/// Opens a member over `data` with sizes that make everything happen often.
pub(crate) fn open(data: &Path) -> Result<(Raft, Reader), String> {
    let options = StoreOptions { ballast_bytes: 1_024 * 1_024, ..StoreOptions::default() };
    let store = Store::open(&data.join("store"), options).map_err(|error| error.to_string())?;
    let reader = store.reader();
    let config = Config {
        wal_file_bytes: 256 * 1_024,
        checkpoint_entries: 300,
        retained_entries: 20,
        ..Config::new(1, data)
    };
    let raft = start(config, store, Origin::Founder, Box::new(drop)).map_err(|error| error.to_string())?;
    Ok((raft, reader))
}

async fn command(raft: Raft, reader: Reader, acks: Arc<File>, client: u64) {
    // A read at an index waits until the log is replayed; only then is our last turn visible.
    if raft.read_index().await.is_err() {
        return;
    }
    let note = |turn, revision| {
        let line = Ack { client, turn, revision }.line();
        (&*acks).write_all(line.as_bytes()).expect("note the ack");
    };
    let mut turn = 0;
    if let Some(found) = reader.get(&keys(client)[0]).expect("read our key") {
        // In flight when the last life ended. Now it was read, which is as good a promise as an answer.
        turn = turn_of(&found.value);
        note(turn, found.mod_revision.0);
    }
    loop {
        turn += 1;
        match raft.propose(transaction(client, turn).encode()).await {
            Ok(outcome) => {
                let Outcome::Succeeded { revision, .. } = Outcome::decode(&outcome).expect("an outcome")
                else {
                    panic!("a transaction without compares succeeds");
                };
                note(turn, revision.0);
                if client == 0 && turn.is_multiple_of(COMPACT_EVERY) {
                    let before = Revision(revision.0.saturating_sub(REVISIONS_KEPT));
                    // Whether it took effect is for the store to remember; nobody was promised anything.
                    let _ = raft.propose(Command::Compact { before }.encode()).await;
                }
            }
            Err(ProposeError::Busy) => turn -= 1,
            Err(_) => return,
        }
    }
}

pub(crate) fn keys(client: u64) -> [Key; 3] {
    ["a", "b", "sometimes"].map(|name| Key::from(format!("/client/{client}/{name}").as_str()))
}

/// The turn a record holds.
pub(crate) fn turn_of(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("a value of ours");
    text.split(' ').next().and_then(|turn| turn.parse().ok()).expect("a turn")
}

/// Whether the turn leaves a third record behind.
pub(crate) fn keeps_third(turn: u64) -> bool {
    !turn.is_multiple_of(3)
}

fn transaction(client: u64, turn: u64) -> Command {
    let [a, b, sometimes] = keys(client);
    let padding = if turn.is_multiple_of(29) { 20_000 } else { 200 };
    let value = format!("{turn} {:x>padding$}", "").into_bytes();
    let third = if keeps_third(turn) {
        Op::Put { key: sometimes, value: format!("{turn} third").into_bytes() }
    } else {
        Op::Delete { key: sometimes }
    };
    let then = vec![Op::Put { key: a, value: value.clone() }, Op::Put { key: b, value }, third];
    let author = Author { name: format!("client {client}"), time: turn, ..Author::default() };
    Command::Txn { author, compare: Vec::new(), then, otherwise: Vec::new() }
}
