//! Raft: the cloneable handle. Everything else in the process meets consensus here: callers are async, the driver is
//! a thread, and a bounded queue lies between them.

use std::sync::mpsc::{SyncSender, TrySendError};

use tokio::sync::{oneshot, watch};

use crate::{
    config::COMMAND_BYTES_MAX,
    error::{ProposeError, ReadError, StopReason},
    input::Input,
    status::Status,
};

/// A handle on this member. Clones are cheap, and the member runs on when all are dropped only until its thread sees
/// that nobody is left to ask it anything.
#[derive(Clone)]
pub struct Raft {
    pub(crate) inputs: SyncSender<Input>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) stopped: watch::Receiver<Option<StopReason>>,
    pub(crate) check: fn(&[u8]) -> Result<(), String>,
}

impl Raft {
    /// Proposes a command and waits until this member has applied it; answers the state machine's outcome.
    ///
    /// Dropping the future withdraws nothing: the command may still take effect.
    pub async fn propose(&self, command: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { size: command.len(), limit: COMMAND_BYTES_MAX });
        }
        (self.check)(&command).map_err(|reason| ProposeError::Invalid { reason })?;
        let (waiter, answer) = oneshot::channel();
        self.inputs.try_send(Input::Propose { command, waiter }).map_err(|error| match error {
            TrySendError::Full(_) => ProposeError::Busy,
            TrySendError::Disconnected(_) => ProposeError::Stopped,
        })?;
        // A waiter dropped without an answer was with a thread that is gone; what became of its command is unknown.
        answer.await.unwrap_or(Err(ProposeError::Uncertain))
    }

    /// Waits until a linearizable read may be served from this member's state, and answers the index it stands at.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        let (waiter, answer) = oneshot::channel();
        self.inputs.try_send(Input::Read { waiter }).map_err(|error| match error {
            TrySendError::Full(_) => ReadError::Busy,
            TrySendError::Disconnected(_) => ReadError::Stopped,
        })?;
        answer.await.unwrap_or(Err(ReadError::Stopped))
    }

    /// What this member believed a moment ago.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the status satisfies a condition; `None` when the member stopped first.
    pub async fn wait_status(&self, condition: impl FnMut(&Status) -> bool) -> Option<Status> {
        let mut status = self.status.clone();
        status.wait_for(condition).await.ok().map(|status| status.clone())
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

    /// Stops the member: answers everyone who waits, makes the state durable and ends the thread. Nothing is lost
    /// either way; a member that was stopped opens faster than one that was killed.
    pub async fn stop(&self) {
        // An error other than "full" means that the thread has ended already.
        while let Err(TrySendError::Full(_)) = self.inputs.try_send(Input::Stop) {
            tokio::task::yield_now().await;
        }
        self.stopped().await;
    }
}
