//! Messages: everything one member says to another. Plain values; the transport carries them and decides nothing.
//!
//! Raft's own messages are among them as they are, except that a snapshot's body travels beside its message: raft holds
//! only which state it is. The rest is ours: commands and changes handed on to the leader, its refusals, and a beat.

use std::{fmt, io, path::PathBuf, sync::Arc};

use raft::eraftpb::{Entry, Message};

use crate::proposals::ProposalId;

/// Takes what this member says to others. Never blocks. It may lose anything, as a network may, except that every
/// [`Payload::Snapshot`] ends in one call of [`crate::Raft::snapshot_sent`]. What is not raft's own it never delivers
/// twice: a command would be carried out twice, or refused although it was.
pub type Sender = Box<dyn FnMut(Vec<Outgoing>) + Send>;

/// Writes the state out as it was at one applied index. May be called on any thread, and more than once; the state is
/// held until the last clone is dropped.
pub type SnapshotBody = Arc<dyn Fn(&mut dyn io::Write) -> Result<(), String> + Send + Sync>;

/// What an empty log begins as. A log that holds anything ignores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A cluster of one, of which this member is the only voter.
    Founder,
    /// Nothing, until a leader sends a snapshot.
    Joiner,
}

/// Something to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The member it is for.
    pub to: u64,
    /// What it says.
    pub payload: Payload,
}

/// What a member says to another; `S` is the state that goes with a snapshot.
#[derive(Clone)]
pub enum Payload<S = SnapshotBody> {
    /// A message of raft's, of any kind but a snapshot.
    Message(Message),
    /// Raft's snapshot message, whose data is empty, and the state it stands for.
    Snapshot {
        /// Raft's message.
        message: Message,
        /// The state as of the index in the message.
        state: S,
    },
    /// A command for the leader. Its proposer answers its own waiter when it applies the entry.
    Propose {
        /// Names the proposal; it travels in the entry.
        id: ProposalId,
        /// The command.
        command: Vec<u8>,
    },
    /// A change of the members for the leader.
    Change {
        /// Names the request.
        id: ProposalId,
        /// The change.
        change: MemberChange,
    },
    /// A wish that somebody else led, for the leader.
    Transfer {
        /// Names the request.
        id: ProposalId,
        /// Who; nobody in particular when there is none.
        to: Option<u64>,
    },
    /// From the leader: what was asked under this id was definitely not done.
    Refused {
        /// Names the request.
        id: ProposalId,
        /// Why.
        refusal: Refusal,
    },
    /// A sign of life.
    Beat(Beat),
}

/// Something that was received.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The member that sent it; the transport has made sure of that.
    pub from: u64,
    /// What it says.
    pub payload: IncomingPayload,
}

/// What a member heard from another. The state of a snapshot has become a file: whole, synced, and found good by
/// [`crate::Raft::check_snapshot`], which also answered the index in the message. The member removes it when it is done.
pub type IncomingPayload = Payload<PathBuf>;

/// A sign of life: how far a member is, and the hash over its history. Every member sends one to every other about once
/// a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The last entry in its state.
    pub applied: u64,
    /// The last entry it knows to be committed.
    pub commit: u64,
    /// The last entry in its log.
    pub last: u64,
    /// The term of that entry.
    pub last_term: u64,
    /// Its term.
    pub term: u64,
    /// The revision of its state.
    pub revision: u64,
    /// The hash over everything up to that revision.
    pub chain: [u8; 32],
    /// It found that its state differs from the others' and stops.
    pub diverged: bool,
}

/// A change of who belongs to the cluster. Asking for what is so already changes nothing and is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member that follows and does not vote.
    AddLearner(u64),
    /// A learner becomes a voter.
    Promote(u64),
    /// A voter becomes a learner, and stays one until somebody promotes it.
    Demote(u64),
    /// A member leaves.
    Remove(u64),
    /// In one step: a voter becomes a learner and a learner takes its place.
    Replace {
        /// The voter.
        lost: u64,
        /// The learner.
        by: u64,
    },
    /// In one step: a member leaves, and its successor is a new learner.
    Reseed {
        /// The member whose data is gone.
        old: u64,
        /// The id it comes back with.
        new: u64,
    },
}

/// Why a leader did not do what another member asked it to. In every case nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not lead, or is handing leadership over.
    NoLeader,
    /// Too much waits already; the same may be asked again after a pause.
    Busy,
    /// What was asked for is so already.
    AlreadySo,
    /// It can not be, for this reason.
    Invalid(String),
}

/// What an entry costs besides its data and its context. Most entries are small, and some have neither.
const ENTRY_BYTES: usize = std::mem::size_of::<Entry>();

/// What an entry costs whoever holds it.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_BYTES
}

impl<S> Payload<S> {
    /// What it weighs in a queue, besides its own structure.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Payload::Message(message) => {
                message.context.len() + message.entries.iter().map(entry_bytes).sum::<usize>()
            }
            Payload::Propose { command, .. } => command.len(),
            Payload::Refused { refusal: Refusal::Invalid(reason), .. } => reason.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
impl<S> Payload<S> {
    /// The same on the other side of a transport, where a snapshot's state has become something else.
    pub(crate) fn carried<T>(self, state: impl FnOnce(&Message, S) -> T) -> Payload<T> {
        match self {
            Payload::Message(message) => Payload::Message(message),
            Payload::Snapshot { message, state: before } => {
                Payload::Snapshot { state: state(&message, before), message }
            }
            Payload::Propose { id, command } => Payload::Propose { id, command },
            Payload::Change { id, change } => Payload::Change { id, change },
            Payload::Transfer { id, to } => Payload::Transfer { id, to },
            Payload::Refused { id, refusal } => Payload::Refused { id, refusal },
            Payload::Beat(beat) => Payload::Beat(beat),
        }
    }
}

impl<S> fmt::Debug for Payload<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Message(message) => f.debug_tuple("Message").field(message).finish(),
            Payload::Snapshot { message, .. } => {
                f.debug_struct("Snapshot").field("message", message).finish_non_exhaustive()
            }
            Payload::Propose { id, command } => {
                f.debug_struct("Propose").field("id", id).field("bytes", &command.len()).finish()
            }
            Payload::Change { id, change } => {
                f.debug_struct("Change").field("id", id).field("change", change).finish()
            }
            Payload::Transfer { id, to } => {
                f.debug_struct("Transfer").field("id", id).field("to", to).finish()
            }
            Payload::Refused { id, refusal } => {
                f.debug_struct("Refused").field("id", id).field("refusal", refusal).finish()
            }
            Payload::Beat(beat) => f.debug_tuple("Beat").field(beat).finish(),
        }
    }
}

impl fmt::Display for MemberChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberChange::AddLearner(id) => write!(f, "add {id:016x} as a learner"),
            MemberChange::Promote(id) => write!(f, "promote {id:016x} to a voter"),
            MemberChange::Demote(id) => write!(f, "demote {id:016x} to a learner"),
            MemberChange::Remove(id) => write!(f, "remove {id:016x}"),
            MemberChange::Replace { lost, by } => write!(f, "replace {lost:016x} by {by:016x}"),
            MemberChange::Reseed { old, new } => {
                write!(f, "remove {old:016x} and add {new:016x} as a learner")
            }
        }
    }
}
