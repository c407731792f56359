//! Payload: what members say to each other, as frames and back. Pure.
//!
//! How urgent a payload is, what it weighs in a queue, how it is written, and what of what a peer wrote is believed:
//! a message must come from the member at the other end and be for this one. Everything is read from a slice, within
//! a limit, and whatever stands behind what was read makes the frame wrong.

use bincode::{Decode, Encode};
use raft::eraftpb::{Message, MessageType};

use super::{
    frame::{self, FRAME_BYTES_MAX, Frame, Kind},
    mirror::{Carries, MirrorError, WireMessage},
    queue::Class,
};
use crate::{
    message::{self, Beat, IncomingPayload, MemberChange, Payload, entry_bytes},
    proposals::ProposalId,
};

/// Entries of one append frame, unless one entry alone is larger; a larger append is sent as several. What is urgent
/// waits for the end of a frame: half a second on a line of one megabit.
const APPEND_BYTES_MAX: usize = 64 * 1_024;

const BINCODE: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<FRAME_BYTES_MAX>,
> = bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();

/// Why a payload is not written, or not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("body that can not be read")]
    Body,
    #[error("{0:?} frame, which has no place here")]
    Place(Kind),
    #[error("message from member {from:016x} to {to:016x} on another member's connection")]
    Stranger { from: u64, to: u64 },
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

/// The two ends of a connection, as seen from the one that receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

#[derive(Encode, Decode)]
struct WireRequest<T> {
    id: [u8; ProposalId::BYTES],
    what: T,
}

#[derive(Encode, Decode)]
enum WireChange {
    AddLearner(u64),
    Promote(u64),
    Demote(u64),
    Remove(u64),
    Replace { lost: u64, by: u64 },
    Reseed { old: u64, new: u64 },
}

/// What a request asks the leader for, besides a command.
#[derive(Encode, Decode)]
enum WireWish {
    Change(WireChange),
    Transfer(Option<u64>),
}

#[derive(Encode, Decode)]
enum WireRefusal {
    NoLeader,
    Busy,
    AlreadySo,
    Invalid(String),
}

#[derive(Encode, Decode)]
struct WireBeat {
    applied: u64,
    commit: u64,
    last: u64,
    last_term: u64,
    term: u64,
    revision: u64,
    chain: [u8; 32],
    diverged: bool,
}

/// How urgent it is; see [`super::queue`]. Snapshots do not queue.
pub(crate) fn class(payload: &Payload) -> Class {
    match payload {
        Payload::Message(message) => match message.msg_type {
            MessageType::MsgAppend | MessageType::MsgAppendResponse => Class::Append,
            _ => Class::Urgent,
        },
        Payload::Beat(_) => Class::Urgent,
        Payload::Snapshot { .. }
        | Payload::Propose { .. }
        | Payload::Change { .. }
        | Payload::Transfer { .. }
        | Payload::Refused { .. } => Class::Command,
    }
}

/// The request that is lost with this payload, if it is one that somebody waits for.
pub(crate) fn request(payload: &Payload) -> Option<ProposalId> {
    match payload {
        Payload::Propose { id, .. } | Payload::Change { id, .. } | Payload::Transfer { id, .. } => Some(*id),
        Payload::Message(_) | Payload::Snapshot { .. } | Payload::Refused { .. } | Payload::Beat(_) => None,
    }
}

/// An append as pieces that each fit a frame. Raft merges what it sends to one member at one time into one message of
/// any size; cut at any entry, each piece is an append that raft could have sent.
pub(crate) fn pieces(mut message: Message) -> Vec<Message> {
    let whole: usize = message.entries.iter().map(entry_bytes).sum();
    if message.msg_type != MessageType::MsgAppend || whole <= APPEND_BYTES_MAX {
        return vec![message];
    }
    let entries = message.take_entries().into_vec();
    let mut pieces = Vec::new();
    let (mut piece, mut held) = (Vec::new(), 0);
    for entry in entries {
        let bytes = entry_bytes(&entry);
        if !piece.is_empty() && held + bytes > APPEND_BYTES_MAX {
            pieces.push(std::mem::take(&mut piece));
            held = 0;
        }
        held += bytes;
        piece.push(entry);
    }
    pieces.push(piece);
    let mut appends = Vec::with_capacity(pieces.len());
    for entries in pieces {
        let mut append = message.clone();
        if let Some(last) = entries.last() {
            (message.index, message.log_term) = (last.index, last.term);
        }
        append.set_entries(entries.into());
        appends.push(append);
    }
    appends
}

/// Appends a payload as a frame.
pub(crate) fn write(out: &mut Vec<u8>, payload: &Payload) -> Result<(), PayloadError> {
    match payload {
        Payload::Message(message) | Payload::Snapshot { message, .. } => {
            let kind = match message.msg_type {
                MessageType::MsgSnapshot => Kind::Snapshot,
                _ => Kind::Message,
            };
            let wire = WireMessage::of(message)?;
            frame::write(out, kind, |out| encode(out, &wire))
        }
        Payload::Propose { id, command } => frame::write(out, Kind::Propose, |out| {
            // Written by hand: the command is large and needs no wrapping.
            out.extend_from_slice(&id.to_bytes());
            out.extend_from_slice(command);
            Ok(())
        }),
        Payload::Change { id, change } => write_wish(out, *id, WireWish::Change(WireChange::of(*change))),
        Payload::Transfer { id, to } => write_wish(out, *id, WireWish::Transfer(*to)),
        Payload::Refused { id, refusal } => {
            let wire = WireRequest { id: id.to_bytes(), what: WireRefusal::of(refusal) };
            frame::write(out, Kind::Refused, |out| encode(out, &wire))
        }
        Payload::Beat(beat) => frame::write(out, Kind::Beat, |out| encode(out, &WireBeat::of(beat))),
    }
}

fn write_wish(out: &mut Vec<u8>, id: ProposalId, what: WireWish) -> Result<(), PayloadError> {
    let wire = WireRequest { id: id.to_bytes(), what };
    frame::write(out, Kind::Change, |out| encode(out, &wire))
}

/// Reads what came on a raft connection.
pub(crate) fn read(frame: &Frame, ends: Ends) -> Result<IncomingPayload, PayloadError> {
    match frame.kind {
        Kind::Message => read_message(&frame.body, Carries::Messages, ends).map(IncomingPayload::Message),
        Kind::Propose => {
            let (id, command) = frame.body.split_at_checked(ProposalId::BYTES).ok_or(PayloadError::Body)?;
            Ok(IncomingPayload::Propose { id: proposal(id)?, command: command.to_vec() })
        }
        Kind::Change => {
            let wire: WireRequest<WireWish> = decode(&frame.body)?;
            let id = proposal(&wire.id)?;
            Ok(match wire.what {
                WireWish::Change(change) => IncomingPayload::Change { id, change: change.into_change() },
                WireWish::Transfer(to) => IncomingPayload::Transfer { id, to },
            })
        }
        Kind::Refused => {
            let wire: WireRequest<WireRefusal> = decode(&frame.body)?;
            let refusal = wire.what.into_refusal();
            Ok(IncomingPayload::Refused { id: proposal(&wire.id)?, refusal })
        }
        Kind::Beat => decode::<WireBeat>(&frame.body).map(|beat| IncomingPayload::Beat(beat.into_beat())),
        kind => Err(PayloadError::Place(kind)),
    }
}

/// Reads the message that begins a snapshot.
pub(crate) fn read_snapshot(frame: &Frame, ends: Ends) -> Result<Message, PayloadError> {
    match frame.kind {
        Kind::Snapshot => read_message(&frame.body, Carries::Snapshots, ends),
        kind => Err(PayloadError::Place(kind)),
    }
}

fn read_message(body: &[u8], carries: Carries, ends: Ends) -> Result<Message, PayloadError> {
    let (wire, read): (WireMessage<'_>, usize) =
        bincode::borrow_decode_from_slice(body, BINCODE).map_err(|_| PayloadError::Body)?;
    if read != body.len() {
        return Err(PayloadError::Body);
    }
    let message = wire.into_message(carries)?;
    if message.from != ends.from || message.to != ends.to {
        return Err(PayloadError::Stranger { from: message.from, to: message.to });
    }
    Ok(message)
}

fn encode<T: Encode>(out: &mut Vec<u8>, value: &T) -> Result<(), PayloadError> {
    bincode::encode_into_std_write(value, out, BINCODE).map(|_| ()).map_err(|_| PayloadError::Body)
}

fn decode<T: Decode<()>>(body: &[u8]) -> Result<T, PayloadError> {
    match bincode::decode_from_slice(body, BINCODE) {
        Ok((value, read)) if read == body.len() => Ok(value),
        _ => Err(PayloadError::Body),
    }
}

fn proposal(bytes: &[u8]) -> Result<ProposalId, PayloadError> {
    ProposalId::from_bytes(bytes).ok_or(PayloadError::Body)
}

impl WireChange {
    fn of(change: MemberChange) -> WireChange {
        match change {
            MemberChange::AddLearner(id) => WireChange::AddLearner(id),
            MemberChange::Promote(id) => WireChange::Promote(id),
            MemberChange::Demote(id) => WireChange::Demote(id),
            MemberChange::Remove(id) => WireChange::Remove(id),
            MemberChange::Replace { lost, by } => WireChange::Replace { lost, by },
            MemberChange::Reseed { old, new } => WireChange::Reseed { old, new },
        }
    }

    fn into_change(self) -> MemberChange {
        match self {
            WireChange::AddLearner(id) => MemberChange::AddLearner(id),
            WireChange::Promote(id) => MemberChange::Promote(id),
            WireChange::Demote(id) => MemberChange::Demote(id),
            WireChange::Remove(id) => MemberChange::Remove(id),
            WireChange::Replace { lost, by } => MemberChange::Replace { lost, by },
            WireChange::Reseed { old, new } => MemberChange::Reseed { old, new },
        }
    }
}

impl WireRefusal {
    fn of(refusal: &message::Refusal) -> WireRefusal {
        match refusal {
            message::Refusal::NoLeader => WireRefusal::NoLeader,
            message::Refusal::Busy => WireRefusal::Busy,
            message::Refusal::AlreadySo => WireRefusal::AlreadySo,
            message::Refusal::Invalid(reason) => WireRefusal::Invalid(reason.clone()),
        }
    }

    fn into_refusal(self) -> message::Refusal {
        match self {
            WireRefusal::NoLeader => message::Refusal::NoLeader,
            WireRefusal::Busy => message::Refusal::Busy,
            WireRefusal::AlreadySo => message::Refusal::AlreadySo,
            WireRefusal::Invalid(reason) => message::Refusal::Invalid(reason),
        }
    }
}

impl WireBeat {
    fn of(beat: &Beat) -> WireBeat {
        let Beat { applied, commit, last, last_term, term, revision, chain, diverged } = *beat;
        WireBeat { applied, commit, last, last_term, term, revision, chain, diverged }
    }

    fn into_beat(self) -> Beat {
        let WireBeat { applied, commit, last, last_term, term, revision, chain, diverged } = self;
        Beat { applied, commit, last, last_term, term, revision, chain, diverged }
    }
}
