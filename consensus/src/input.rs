//! Input: the closed list of things that can wake the loop, and the bounded queue they wait in. A tick is not among
//! them: it is the absence of any.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    time::Duration,
};

use crate::{
    changes,
    message::{Incoming, MemberChange},
    proposals, reads,
};

/// With this many inputs queued, whoever brings another hears `Busy`.
pub(crate) const INPUTS_MAX: usize = 8_192;

/// Bytes of commands and messages queued. The loop takes everything at once, so this is what arrives during one fsync;
/// more than that comes from a disk that stands still, and then memory must not grow.
pub(crate) const INPUT_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// What the driver's thread can be woken with.
pub(crate) enum Input {
    /// Propose a command.
    Propose { command: Vec<u8>, waiter: proposals::Waiter },
    /// Find an index a linearizable read may be served at.
    Read { waiter: reads::Waiter },
    /// Change the members.
    Change { change: MemberChange, waiter: changes::ChangeWaiter },
    /// Let somebody else lead.
    Transfer { to: Option<u64>, waiter: changes::TransferWaiter },
    /// Another member said something.
    Step(Incoming),
    /// Another member asked for a command that can not be applied.
    Refuse { to: u64, id: proposals::ProposalId, reason: String },
    /// A member could not be reached.
    Unreachable(u64),
    /// Learners that stay learners.
    Hold(BTreeSet<u64>),
    /// Answer everyone, make the state durable and end.
    Stop,
}

impl Input {
    fn bytes(&self) -> usize {
        match self {
            Input::Propose { command, .. } => command.len(),
            Input::Step(Incoming { payload, .. }) => payload.bytes(),
            _ => 0,
        }
    }
}

/// The queue is full: nothing was queued, and the same may be tried again after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this member has too much to do already")]
pub struct QueueFull;

/// Why something was not queued.
pub(crate) enum Unqueued {
    Full,
    /// The thread has ended.
    Stopped,
}

/// The queue's entry.
#[derive(Clone)]
pub(crate) struct InputSender {
    queue: SyncSender<Input>,
    bytes: Arc<AtomicUsize>,
}

/// The queue's exit.
pub(crate) struct InputReceiver {
    queue: Receiver<Input>,
    bytes: Arc<AtomicUsize>,
}

pub(crate) fn queue() -> (InputSender, InputReceiver) {
    let (sender, receiver) = mpsc::sync_channel(INPUTS_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    (InputSender { queue: sender, bytes: bytes.clone() }, InputReceiver { queue: receiver, bytes })
}

impl InputSender {
    pub(crate) fn try_send(&self, input: Input) -> Result<(), Unqueued> {
        let bytes = input.bytes();
        // One input larger than what is left may pass: inputs are bounded each, and a bound that none fits is a wedge.
        if bytes > 0 && self.bytes.load(Ordering::Relaxed) >= INPUT_BYTES_MAX {
            return Err(Unqueued::Full);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.queue.try_send(input).map_err(|error| {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Unqueued::Full,
                TrySendError::Disconnected(_) => Unqueued::Stopped,
            }
        })
    }
}

impl InputReceiver {
    pub(crate) fn recv_timeout(&self, patience: Duration) -> Result<Input, RecvTimeoutError> {
        self.queue.recv_timeout(patience).inspect(|input| self.took(input))
    }

    pub(crate) fn try_recv(&self) -> Option<Input> {
        self.queue.try_recv().ok().inspect(|input| self.took(input))
    }

    fn took(&self, input: &Input) {
        self.bytes.fetch_sub(input.bytes(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{Entry, Message};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{COMMAND_BYTES_MAX, message::IncomingPayload};

    fn propose(bytes: usize) -> Input {
        Input::Propose { command: vec![0; bytes], waiter: oneshot::channel().0 }
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let (sender, receiver) = queue();
        let fit = INPUT_BYTES_MAX.div_ceil(COMMAND_BYTES_MAX);
        for _ in 0..fit {
            assert!(sender.try_send(propose(COMMAND_BYTES_MAX)).is_ok());
        }
        assert!(matches!(sender.try_send(propose(1)), Err(Unqueued::Full)));
        assert!(sender.try_send(Input::Unreachable(2)).is_ok(), "what has no bytes passes");

        while receiver.try_recv().is_some() {}
        assert_eq!(sender.bytes.load(Ordering::Relaxed), 0);
        assert!(sender.try_send(propose(1)).is_ok());
    }

    #[test]
    fn entries_without_a_byte_are_bounded_too() {
        let (sender, receiver) = queue();
        let append = || {
            let mut message = Message::default();
            message.set_entries(vec![Entry::default(); 10_000].into());
            Input::Step(Incoming { from: 2, payload: IncomingPayload::Message(message) })
        };
        let held = (0..INPUTS_MAX).take_while(|_| sender.try_send(append()).is_ok()).count();
        let memory = held * 10_000 * std::mem::size_of::<Entry>();
        assert!(memory < INPUT_BYTES_MAX + INPUT_BYTES_MAX / 4, "{held} appends of 10,000 entries each");
        while receiver.try_recv().is_some() {}
        assert_eq!(sender.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn inputs_are_bounded_and_a_queue_without_its_thread_says_so() {
        let (sender, receiver) = queue();
        for _ in 0..INPUTS_MAX {
            assert!(sender.try_send(Input::Unreachable(2)).is_ok());
        }
        assert!(matches!(sender.try_send(propose(9)), Err(Unqueued::Full)));
        assert_eq!(sender.bytes.load(Ordering::Relaxed), 0, "what was not queued does not count");
        drop(receiver);
        assert!(matches!(sender.try_send(propose(9)), Err(Unqueued::Stopped)));
    }
}
