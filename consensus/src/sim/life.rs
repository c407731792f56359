//! One life of one member: a whole `Replica` over the real log on a simulated disk, from its start to the power cut.
//! It does by hand what the driver's thread does: take inputs, tick, drain once, export when that is due.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    decoy::forget_last_block,
    dice::Dice,
    disk::{Disk, Image},
    ledger::{Journal, Ledger, command},
};
use crate::{
    config::Config,
    error::{ChangeError, ProposeError, ReadError},
    message::{Incoming, IncomingPayload, MemberChange, Outgoing, Payload, Sender},
    replica::Replica,
    state_machine::{Export, StateMachine},
};

/// What wakes a member.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Step { from: u64, payload: Payload },
    Write { op: usize, number: u64 },
    Read { op: usize },
    Change { op: usize, change: MemberChange },
    Transfer { op: usize, to: Option<u64> },
    SnapshotSent { member: u64, ok: bool },
    Unreachable { member: u64 },
    Stop,
}

impl Input {
    /// The client's question, if it is one.
    pub(crate) fn op(&self) -> Option<usize> {
        match self {
            Input::Write { op, .. }
            | Input::Read { op }
            | Input::Change { op, .. }
            | Input::Transfer { op, .. } => Some(*op),
            _ => None,
        }
    }
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The command was applied at this entry.
    Written(u64),
    /// A read may be served at this entry.
    ReadAt(u64),
    /// The members are changed.
    Changed,
    /// This one leads now.
    Leads(u64),
    /// Nothing was done, and nothing will be.
    Refused(String),
    /// Nobody knows.
    Unknown,
    /// A live member forgot the client.
    Forgotten,
}

/// A client's end of a question.
enum Slot {
    Write(oneshot::Receiver<Result<Vec<u8>, ProposeError>>),
    Read(oneshot::Receiver<Result<u64, ReadError>>),
    Change(oneshot::Receiver<Result<(), ChangeError>>),
    Transfer(oneshot::Receiver<Result<u64, ChangeError>>),
}

/// The clients of one life, and what they were told before it ended.
#[derive(Default)]
struct Clients {
    waiting: Vec<(usize, Slot)>,
    answered: Vec<(usize, Answer)>,
}

/// One member that runs.
pub(crate) struct Life {
    pub(crate) replica: Replica<Ledger>,
    pub(crate) disk: Disk,
    clients: Arc<Mutex<Clients>>,
    sent: Arc<Mutex<Vec<Outgoing>>>,
    export: Option<Export>,
    dir: PathBuf,
    received: u64,
    /// Ticks that are left to hand leadership over in, once it was asked to stop.
    stopping: Option<u32>,
    /// The last entry that the oracle has seen committed here.
    pub(crate) seen: u64,
}

/// How a member begins.
pub(crate) struct Start<'a> {
    pub(crate) config: Config,
    pub(crate) founders: &'a [u64],
    pub(crate) incarnation: u64,
    pub(crate) image: &'a Image,
    pub(crate) journal: Journal,
    pub(crate) dice: Dice,
    pub(crate) lazy: bool,
    pub(crate) wrong_from: Option<u64>,
    /// Power is cut at this step of the start itself.
    pub(crate) cut_in: Option<u64>,
}

impl Life {
    /// Opens log and state, and settles; or says what the member itself says against that.
    pub(crate) fn start(start: Start<'_>) -> Result<Life, String> {
        forget_last_block();
        let dir = start.config.data_dir.clone();
        let disk = Disk::mount(&start.config.wal_dir(), start.image, start.dice, start.lazy);
        let clients: Arc<Mutex<Clients>> = Arc::default();
        let sent: Arc<Mutex<Vec<Outgoing>>> = Arc::default();
        disk.at_death({
            let clients = clients.clone();
            move || lock(&clients).die()
        });
        if let Some(steps) = start.cut_in {
            disk.cut_in(steps);
        }
        let mut ledger = Ledger::open(start.config.node_id, disk.clone(), start.journal);
        ledger.wrong_from = start.wrong_from;
        let send = sender(disk.clone(), sent.clone());
        let mut replica = Replica::start(&start.config, ledger, start.founders, start.incarnation, send)
            .map_err(|error| error.to_string())?;
        replica.settle().map_err(|error| error.to_string())?;
        Ok(Life { replica, disk, clients, sent, export: None, dir, received: 0, stopping: None, seen: 0 })
    }

    /// One turn of the driver's loop.
    pub(crate) fn turn(&mut self, inputs: impl IntoIterator<Item = Input>, tick: bool) -> Result<(), String> {
        forget_last_block();
        for input in inputs {
            self.disk.step();
            self.take(input);
        }
        if tick {
            self.replica.tick();
            self.replica.machine.housekeep();
        }
        self.replica.drain().map_err(|error| error.to_string())?;
        if let Some(detail) = &self.replica.diverged {
            return Err(format!("it diverged: {detail}"));
        }
        if self.export.is_none() {
            self.export = self.replica.checkpoint();
        }
        self.stop_if_asked(tick);
        lock(&self.clients).hear();
        Ok(())
    }

    /// Leaves as the driver does: hands over while there is time, answers everyone, makes the state durable.
    fn stop_if_asked(&mut self, tick: bool) {
        let Some(ticks_left) = &mut self.stopping else { return };
        *ticks_left = ticks_left.saturating_sub(u32::from(tick));
        if *ticks_left > 0 && self.replica.hand_over() {
            return;
        }
        self.replica.abandon();
        self.replica.machine.checkpoint();
        lock(&self.clients).hear();
        self.disk.cut();
    }

    /// The export thread has ended, if one ran.
    pub(crate) fn finish_export(&mut self) -> Result<(), String> {
        let Some(export) = self.export.take() else { return Ok(()) };
        forget_last_block();
        self.replica.exported(export()).map_err(|error| error.to_string())
    }

    pub(crate) fn is_exporting(&self) -> bool {
        self.export.is_some()
    }

    /// What was sent since it was last asked.
    pub(crate) fn take_sent(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut *lock(&self.sent))
    }

    /// What clients were told since it was last asked.
    pub(crate) fn take_answers(&mut self) -> Vec<(usize, Answer)> {
        std::mem::take(&mut lock(&self.clients).answered)
    }

    /// Clients that still wait.
    pub(crate) fn waiting(&self) -> Vec<usize> {
        lock(&self.clients).waiting.iter().map(|(op, _)| *op).collect()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Step { from, payload } => {
                let payload = self.unpack(payload);
                self.replica.step(Incoming { from, payload });
            }
            Input::Write { op, number } => {
                let (waiter, answer) = oneshot::channel();
                self.enter(op, Slot::Write(answer));
                self.replica.propose(command(number), waiter);
            }
            Input::Read { op } => {
                let (waiter, answer) = oneshot::channel();
                self.enter(op, Slot::Read(answer));
                self.replica.read(waiter);
            }
            Input::Change { op, change } => {
                let (waiter, answer) = oneshot::channel();
                self.enter(op, Slot::Change(answer));
                self.replica.change_members(change, waiter);
            }
            Input::Transfer { op, to } => {
                let (waiter, answer) = oneshot::channel();
                self.enter(op, Slot::Transfer(answer));
                self.replica.transfer_leadership(to, waiter);
            }
            Input::SnapshotSent { member, ok } => self.replica.snapshot_sent(member, ok),
            Input::Unreachable { member } => self.replica.unreachable(member),
            Input::Stop => {
                self.stopping.get_or_insert(self.replica.election_ticks);
            }
        }
    }

    /// What a transport does at its end: a snapshot becomes a file, everything else is what it was.
    fn unpack(&mut self, payload: Payload) -> IncomingPayload {
        payload.carried(|message, state| {
            self.received += 1;
            let file = self.dir.join(format!("received-{}", self.received));
            let mut bytes = Vec::new();
            state(&mut bytes).expect("a snapshot's bytes");
            fs::write(&file, bytes).expect("write a snapshot file");
            let (holds, says) = (Ledger::check_snapshot(&file), message.get_snapshot().get_metadata().index);
            assert_eq!(holds, Ok(says), "a snapshot holds another state than its message says");
            file
        })
    }

    fn enter(&mut self, op: usize, slot: Slot) {
        let mut clients = lock(&self.clients);
        if self.disk.is_dead() {
            clients.answered.push((op, Answer::Unknown));
        } else {
            clients.waiting.push((op, slot));
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Whatever closing the log still does to the disk, it does without power.
        self.disk.cut();
        Disk::unmount(&self.dir.join("wal"));
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Every message is a step of its own: power can fail between two of them.
fn sender(disk: Disk, sent: Arc<Mutex<Vec<Outgoing>>>) -> Sender {
    Box::new(move |messages| {
        for message in messages {
            disk.step();
            if !disk.is_dead() {
                lock(&sent).push(message);
            }
        }
    })
}

/// Where a life keeps its files.
pub(crate) fn dir_of(folder: &Path, member: u64, life: u64) -> PathBuf {
    folder.join(format!("{member}-{life}"))
}

impl Clients {
    fn hear(&mut self) {
        let answered = &mut self.answered;
        self.waiting.retain_mut(|(op, slot)| match slot.hear() {
            Some(answer) => {
                answered.push((*op, answer));
                false
            }
            None => true,
        });
    }

    fn die(&mut self) {
        self.hear();
        self.answered.extend(self.waiting.drain(..).map(|(op, _)| (op, Answer::Unknown)));
    }
}

impl Slot {
    fn hear(&mut self) -> Option<Answer> {
        match self {
            Slot::Write(answer) => heard(answer, |outcome| {
                let index: Result<[u8; 8], _> = outcome.try_into();
                Answer::Written(index.map(u64::from_be_bytes).expect("the ledger answers with an index"))
            }),
            Slot::Read(answer) => heard(answer, Answer::ReadAt),
            Slot::Change(answer) => heard(answer, |()| Answer::Changed),
            Slot::Transfer(answer) => heard(answer, Answer::Leads),
        }
    }
}

fn heard<T, E: Refuses>(
    answer: &mut oneshot::Receiver<Result<T, E>>,
    done: impl FnOnce(T) -> Answer,
) -> Option<Answer> {
    match answer.try_recv() {
        Ok(Ok(outcome)) => Some(done(outcome)),
        Ok(Err(error)) if error.is_in_doubt() => Some(Answer::Unknown),
        Ok(Err(error)) => Some(Answer::Refused(error.to_string())),
        Err(TryRecvError::Closed) => Some(Answer::Forgotten),
        Err(TryRecvError::Empty) => None,
    }
}

/// An error that is a definite no, or is not.
trait Refuses: Display {
    fn is_in_doubt(&self) -> bool;
}

impl Refuses for ProposeError {
    fn is_in_doubt(&self) -> bool {
        *self == ProposeError::Uncertain
    }
}

impl Refuses for ChangeError {
    fn is_in_doubt(&self) -> bool {
        *self == ChangeError::Uncertain
    }
}

impl Refuses for ReadError {
    fn is_in_doubt(&self) -> bool {
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
