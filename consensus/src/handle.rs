//! Raft: the cloneable handle. Everything else in the process meets consensus here: callers are async, the driver is
//! a thread, and a bounded queue lies between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{oneshot, watch};

use crate::{
    config::COMMAND_BYTES_MAX,
    error::{ChangeError, ProposeError, ReadError, StopReason},
    input::{Input, InputSender, QueueFull, Unqueued},
    message::{Incoming, IncomingPayload, MemberChange},
    status::Status,
};

/// A handle on this member. Clones are cheap, and the member runs on when all are dropped only until its thread sees
/// that nobody is left to ask it anything.
#[derive(Clone)]
pub struct Raft {
    pub(crate) inputs: InputSender,
    pub(crate) reports: Arc<Reports>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) stopped: watch::Receiver<Option<StopReason>>,
    pub(crate) removed: watch::Receiver<bool>,
    pub(crate) check: fn(&[u8]) -> Result<(), String>,
    pub(crate) check_snapshot: fn(&Path) -> Result<u64, String>,
}

/// How snapshots ended, by member. Beside the queue, for a report that is lost because the queue is full would keep its
/// member waiting; bounded by the number of members.
#[derive(Default)]
pub(crate) struct Reports(Mutex<BTreeMap<u64, bool>>);

impl Reports {
    fn add(&self, member: u64, ok: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(member, ok);
    }

    pub(crate) fn take(&self) -> BTreeMap<u64, bool> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Raft {
    /// Proposes a command and waits until this member has applied it; answers the state machine's outcome. A member that
    /// follows hands the command on to its leader.
    ///
    /// Dropping the future withdraws nothing: the command may still take effect.
    pub async fn propose(&self, command: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { size: command.len(), limit: COMMAND_BYTES_MAX });
        }
        (self.check)(&command).map_err(|reason| ProposeError::Invalid { reason })?;
        let (waiter, answer) = oneshot::channel();
        self.inputs.try_send(Input::Propose { command, waiter }).map_err(|error| match error {
            Unqueued::Full => ProposeError::Busy,
            Unqueued::Stopped => ProposeError::Stopped,
        })?;
        // A waiter dropped without an answer was with a thread that is gone; what became of its command is unknown.
        answer.await.unwrap_or(Err(ProposeError::Uncertain))
    }

    /// Waits until a linearizable read may be served from this member's state, and answers the index it stands at.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        let (waiter, answer) = oneshot::channel();
        self.inputs.try_send(Input::Read { waiter }).map_err(|error| match error {
            Unqueued::Full => ReadError::Busy,
            Unqueued::Stopped => ReadError::Stopped,
        })?;
        answer.await.unwrap_or(Err(ReadError::Stopped))
    }

    /// Changes the members and waits until this member has seen the change in force, and its status says so. From any
    /// member; asking for what is so already is no error.
    pub async fn change_members(&self, change: MemberChange) -> Result<(), ChangeError> {
        let (waiter, answer) = oneshot::channel();
        self.inputs.try_send(Input::Change { change, waiter }).map_err(change_error)?;
        answer.await.unwrap_or(Err(ChangeError::Uncertain))?;
        self.shown(change).await;
        Ok(())
    }

    /// Waits for the status to show a change that was made. The answer to it comes before the status does; and where the
    /// leader says that it is so already, this member may have yet to apply that. Somebody else may have changed the same
    /// once more by then, so everything that was in force when this began is waited for, and no longer.
    async fn shown(&self, change: MemberChange) {
        if self.status.borrow().shows(change) {
            return;
        }
        // Without an answer there is nothing to wait for: nobody leads, or this member has stopped.
        let _ = match self.read_index().await {
            Ok(index) => self.wait_status(|status| status.shows(change) || status.applied >= index).await,
            Err(ReadError::Removed) => self.wait_status(|status| status.removed).await,
            Err(_) => None,
        };
    }

    /// Hands leadership over, to the voter that is furthest when none is named, and answers who leads now. From any
    /// member.
    pub async fn transfer_leadership(&self, to: Option<u64>) -> Result<u64, ChangeError> {
        let (waiter, answer) = oneshot::channel();
        self.inputs.try_send(Input::Transfer { to, waiter }).map_err(change_error)?;
        answer.await.unwrap_or(Err(ChangeError::Uncertain))
    }

    /// Learners that are not promoted by themselves, in place of those said before. A member that was demoted by hand
    /// stays a learner as long as the leader remembers that; who keeps it in a record says it here at every start.
    pub fn hold_learners(&self, members: BTreeSet<u64>) -> Result<(), QueueFull> {
        queued(self.inputs.try_send(Input::Hold(members)))
    }

    /// Another member said something. Never blocks. A command that could not be applied is refused in our name.
    pub fn step(&self, incoming: Incoming) -> Result<(), QueueFull> {
        let from = incoming.from;
        let input = match incoming.payload {
            IncomingPayload::Propose { id, ref command } => match self.check_forwarded(command) {
                Ok(()) => Input::Step(incoming),
                Err(reason) => Input::Refuse { to: from, id, reason },
            },
            _ => Input::Step(incoming),
        };
        queued(self.inputs.try_send(input))
    }

    fn check_forwarded(&self, command: &[u8]) -> Result<(), String> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(format!("command is {} bytes, the limit is {COMMAND_BYTES_MAX}", command.len()));
        }
        (self.check)(command)
    }

    /// Messages to a member were lost. Never blocks; a report that is itself lost is found out by raft.
    pub fn unreachable(&self, member: u64) {
        // Raft would only send a little more slowly.
        let _ = self.inputs.try_send(Input::Unreachable(member));
    }

    /// A snapshot reached its member, or did not. Never blocks, and is never lost; seen within a tick.
    pub fn snapshot_sent(&self, member: u64, ok: bool) {
        self.reports.add(member, ok);
    }

    /// What reads a received snapshot to its last byte, and answers the applied index in it.
    pub fn check_snapshot(&self) -> fn(&Path) -> Result<u64, String> {
        self.check_snapshot
    }

    /// What this member believed a moment ago.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the status satisfies a condition; `None` when the member stopped first. Wakes with every entry that is
    /// applied, so it is for waits that end soon.
    pub async fn wait_status(&self, condition: impl FnMut(&Status) -> bool) -> Option<Status> {
        let mut status = self.status.clone();
        status.wait_for(condition).await.ok().map(|status| status.clone())
    }

    /// Waits until this member knows that it belongs to the cluster no longer; for ever, when it stops before. Costs nothing
    /// while it waits.
    pub async fn removed(&self) {
        if self.removed.clone().wait_for(|removed| *removed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the member has stopped, and says why. Once it has, every call answers `Stopped`; when the reason is
    /// not that it was asked to, the process must end too.
    pub async fn stopped(&self) -> StopReason {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(StopReason::Requested),
            Err(_) => StopReason::Failed("the consensus thread ended without a reason".to_owned()),
        }
    }

    /// Stops the member: a leader hands over first, if it can within an election timeout; then everyone who waits is
    /// answered, the state made durable and the thread ended. Nothing is lost either way; a member that was stopped opens
    /// faster than one that was killed.
    pub async fn stop(&self) {
        // An error other than "full" means that the thread has ended already.
        while let Err(Unqueued::Full) = self.inputs.try_send(Input::Stop) {
            tokio::task::yield_now().await;
        }
        self.stopped().await;
    }
}

/// Whoever brings something to a member that has stopped is none the wiser, as if the network had lost it.
fn queued(result: Result<(), Unqueued>) -> Result<(), QueueFull> {
    match result {
        Ok(()) | Err(Unqueued::Stopped) => Ok(()),
        Err(Unqueued::Full) => Err(QueueFull),
    }
}

fn change_error(error: Unqueued) -> ChangeError {
    match error {
        Unqueued::Full => ChangeError::Busy,
        Unqueued::Stopped => ChangeError::Stopped,
    }
}
