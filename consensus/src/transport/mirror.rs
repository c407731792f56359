//! Mirror: raft's messages as they stand on the wire, field by field. Pure.
//!
//! Raft's own encoding is protobuf 2.28, whose decoder overflows the stack on bytes made for that (RUSTSEC-2024-0437),
//! so no byte from the network reaches it. Messages are copied into the structures below, which `bincode` reads within
//! a limit and without recursion. The one place where raft decodes protobuf out of an entry is a change of the members:
//! here that change travels as a structure too, and the receiver encodes it anew. Whatever a peer sends, the bytes that
//! raft decodes were written by protobuf's own encoder on this host.
//!
//! Only the kinds that members send each other are read, and only messages that keep to [`super::rules`], because raft
//! takes both on trust.

use bincode::{BorrowDecode, Decode, Encode};
use bytes::Bytes;
use protobuf::{Message as _, ProtobufEnum as _};
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, Message, MessageType, Snapshot, SnapshotMetadata,
};

use super::rules::{self, CONTEXT_BYTES_MAX};

/// Members one configuration or one change of it may name: far beyond any cluster, far below any harm.
const MEMBERS_MAX: usize = 4_096;

/// Bytes of raft's snapshot data: a manifest at most, for the state itself is streamed beside it.
const MANIFEST_BYTES_MAX: usize = 64 * 1_024;

/// Why a message is not passed on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MirrorError {
    #[error("raft message of kind {0}, which members do not send each other this way")]
    Kind(i32),
    #[error("entry {index} of term {term} does not follow the one before it")]
    Order { index: u64, term: u64 },
    #[error("{0} entries in a message that carries none")]
    Entries(usize),
    #[error("change of the members that can not be read")]
    Change,
    #[error("configuration of {0} members, more than {MEMBERS_MAX}")]
    Members(usize),
    #[error("snapshot without its metadata, of a later term than its leader's, or with data of its own")]
    Snapshot,
    #[error("message of term {0}, which no member sends of its kind")]
    Term(u64),
    #[error("number {0}, which no log ever reaches")]
    Number(u64),
    #[error("context of {0} bytes, more than {CONTEXT_BYTES_MAX}")]
    Context(usize),
    #[error("message with a priority or a wish for a snapshot, which no member has")]
    Foreign,
    #[error("question or answer of a read with {0} contexts in place of one")]
    Round(usize),
    #[error("snapshot of a configuration that no cluster can have")]
    Configuration,
}

/// A message on the wire. Its large parts are borrowed: from the message when it is written, from the frame when read.
#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(crate) struct WireMessage<'a> {
    kind: u8,
    to: u64,
    from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    commit: u64,
    commit_term: u64,
    request_snapshot: u64,
    reject: bool,
    reject_hint: u64,
    deprecated_priority: u64,
    priority: i64,
    context: &'a [u8],
    entries: Vec<WireEntry<'a>>,
    snapshot: Option<WireSnapshot<'a>>,
}

#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
struct WireEntry<'a> {
    term: u64,
    index: u64,
    context: &'a [u8],
    body: WireBody<'a>,
}

#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
enum WireBody<'a> {
    Command(&'a [u8]),
    ChangeV1(Box<WireChangeV1>),
    Change(Box<WireChange>),
}

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
struct WireChangeV1 {
    kind: u8,
    member: u64,
    id: u64,
    context: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
struct WireChange {
    transition: u8,
    changes: Vec<(u8, u64)>,
    context: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
struct WireSnapshot<'a> {
    index: u64,
    term: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    voters_outgoing: Vec<u64>,
    learners_next: Vec<u64>,
    auto_leave: bool,
    data: &'a [u8],
}

/// Which messages a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// All that members send each other except snapshots.
    Messages,
    /// Snapshots only.
    Snapshots,
}

impl<'a> WireMessage<'a> {
    /// The message as it is written.
    pub(crate) fn of(message: &'a Message) -> Result<WireMessage<'a>, MirrorError> {
        Ok(WireMessage {
            kind: wire_kind(message.msg_type)?,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            commit: message.commit,
            commit_term: message.commit_term,
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            deprecated_priority: message.deprecated_priority,
            priority: message.priority,
            context: &message.context,
            entries: message.entries.iter().map(WireEntry::of).collect::<Result<_, _>>()?,
            snapshot: message.snapshot.as_ref().map(WireSnapshot::of),
        })
    }

    /// The message it was, if a member may have sent it.
    pub(crate) fn into_message(self, carries: Carries) -> Result<Message, MirrorError> {
        let kind = raft_kind(self.kind, carries)?;
        let mut message = Message {
            msg_type: kind,
            to: self.to,
            from: self.from,
            term: self.term,
            log_term: self.log_term,
            index: self.index,
            commit: self.commit,
            commit_term: self.commit_term,
            request_snapshot: self.request_snapshot,
            reject: self.reject,
            reject_hint: self.reject_hint,
            deprecated_priority: self.deprecated_priority,
            priority: self.priority,
            context: Bytes::copy_from_slice(self.context),
            ..Message::default()
        };
        let entries = self.entries.into_iter().map(WireEntry::into_entry).collect::<Result<Vec<_>, _>>()?;
        message.set_entries(entries.into());
        rules::check(&message)?;
        match (kind, self.snapshot) {
            (MessageType::MsgSnapshot, Some(snapshot)) => {
                let snapshot = snapshot.into_snapshot()?;
                rules::check_snapshot(&snapshot, message.term)?;
                message.set_snapshot(snapshot);
            }
            (MessageType::MsgSnapshot, None) | (_, Some(_)) => return Err(MirrorError::Snapshot),
            (_, None) => {}
        }
        Ok(message)
    }
}

impl<'a> WireEntry<'a> {
    fn of(entry: &'a Entry) -> Result<WireEntry<'a>, MirrorError> {
        // What is decoded here was encoded here, or came through this mirror: it is our own log's.
        let body = match entry.entry_type {
            EntryType::EntryNormal => WireBody::Command(&entry.data),
            EntryType::EntryConfChange => {
                let change = ConfChange::parse_from_bytes(&entry.data).map_err(|_| MirrorError::Change)?;
                WireBody::ChangeV1(Box::new(WireChangeV1::of(&change)))
            }
            EntryType::EntryConfChangeV2 => {
                let change = ConfChangeV2::parse_from_bytes(&entry.data).map_err(|_| MirrorError::Change)?;
                WireBody::Change(Box::new(WireChange::of(&change)))
            }
        };
        Ok(WireEntry { term: entry.term, index: entry.index, context: &entry.context, body })
    }

    fn into_entry(self) -> Result<Entry, MirrorError> {
        let (entry_type, data) = match self.body {
            WireBody::Command(data) => (EntryType::EntryNormal, Bytes::copy_from_slice(data)),
            WireBody::ChangeV1(change) => (EntryType::EntryConfChange, change.into_protobuf()?),
            WireBody::Change(change) => (EntryType::EntryConfChangeV2, change.into_protobuf()?),
        };
        let context = Bytes::copy_from_slice(self.context);
        Ok(Entry { entry_type, term: self.term, index: self.index, data, context, ..Entry::default() })
    }
}

impl WireChangeV1 {
    fn of(change: &ConfChange) -> WireChangeV1 {
        WireChangeV1 {
            kind: change.change_type as u8,
            member: change.node_id,
            id: change.id,
            context: change.context.to_vec(),
        }
    }

    fn into_protobuf(self) -> Result<Bytes, MirrorError> {
        let change = ConfChange {
            change_type: change_type(self.kind)?,
            node_id: self.member,
            id: self.id,
            context: self.context.into(),
            ..ConfChange::default()
        };
        change.write_to_bytes().map(Bytes::from).map_err(|_| MirrorError::Change)
    }
}

impl WireChange {
    fn of(change: &ConfChangeV2) -> WireChange {
        WireChange {
            transition: change.transition as u8,
            changes: change.changes.iter().map(|one| (one.change_type as u8, one.node_id)).collect(),
            context: change.context.to_vec(),
        }
    }

    fn into_protobuf(self) -> Result<Bytes, MirrorError> {
        if self.changes.len() > MEMBERS_MAX {
            return Err(MirrorError::Members(self.changes.len()));
        }
        let single = |(kind, node_id)| {
            Ok(ConfChangeSingle { change_type: change_type(kind)?, node_id, ..ConfChangeSingle::default() })
        };
        let changes = self.changes.into_iter().map(single).collect::<Result<Vec<_>, MirrorError>>()?;
        let change = ConfChangeV2 {
            transition: ConfChangeTransition::from_i32(self.transition.into()).ok_or(MirrorError::Change)?,
            changes: changes.into(),
            context: self.context.into(),
            ..ConfChangeV2::default()
        };
        change.write_to_bytes().map(Bytes::from).map_err(|_| MirrorError::Change)
    }
}

impl<'a> WireSnapshot<'a> {
    fn of(snapshot: &'a Snapshot) -> WireSnapshot<'a> {
        let metadata = snapshot.get_metadata();
        let conf = metadata.get_conf_state();
        WireSnapshot {
            index: metadata.index,
            term: metadata.term,
            voters: conf.voters.clone(),
            learners: conf.learners.clone(),
            voters_outgoing: conf.voters_outgoing.clone(),
            learners_next: conf.learners_next.clone(),
            auto_leave: conf.auto_leave,
            data: &snapshot.data,
        }
    }

    fn into_snapshot(self) -> Result<Snapshot, MirrorError> {
        let members =
            self.voters.len() + self.learners.len() + self.voters_outgoing.len() + self.learners_next.len();
        if members > MEMBERS_MAX {
            return Err(MirrorError::Members(members));
        }
        if self.data.len() > MANIFEST_BYTES_MAX {
            return Err(MirrorError::Snapshot);
        }
        let conf_state = ConfState {
            voters: self.voters,
            learners: self.learners,
            voters_outgoing: self.voters_outgoing,
            learners_next: self.learners_next,
            auto_leave: self.auto_leave,
            ..ConfState::default()
        };
        let mut metadata =
            SnapshotMetadata { index: self.index, term: self.term, ..SnapshotMetadata::default() };
        metadata.set_conf_state(conf_state);
        let mut snapshot = Snapshot { data: Bytes::copy_from_slice(self.data), ..Snapshot::default() };
        snapshot.set_metadata(metadata);
        Ok(snapshot)
    }
}

fn change_type(kind: u8) -> Result<ConfChangeType, MirrorError> {
    ConfChangeType::from_i32(kind.into()).ok_or(MirrorError::Change)
}

fn wire_kind(kind: MessageType) -> Result<u8, MirrorError> {
    let number = kind as i32;
    u8::try_from(number).map_err(|_| MirrorError::Kind(number))
}

/// The kinds that members send each other; the rest are raft's talk with itself, and its way to forward proposals and
/// the wish that somebody else led, which are forwarded with their id instead.
fn raft_kind(kind: u8, carries: Carries) -> Result<MessageType, MirrorError> {
    use MessageType::*;
    let number = i32::from(kind);
    match (MessageType::from_i32(number), carries) {
        (Some(kind @ MsgSnapshot), Carries::Snapshots) => Ok(kind),
        (
            Some(
                kind @ (MsgAppend
                | MsgAppendResponse
                | MsgRequestVote
                | MsgRequestVoteResponse
                | MsgHeartbeat
                | MsgHeartbeatResponse
                | MsgTimeoutNow
                | MsgReadIndex
                | MsgReadIndexResp
                | MsgRequestPreVote
                | MsgRequestPreVoteResponse),
            ),
            Carries::Messages,
        ) => Ok(kind),
        _ => Err(MirrorError::Kind(number)),
    }
}
