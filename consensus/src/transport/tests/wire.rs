//! What is written is what is read; what is not written by a member is refused, whatever its bytes.

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, option, prelude::*};
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, Message, MessageType, Snapshot, SnapshotMetadata,
};

use crate::{
    message::{Beat, IncomingPayload, MemberChange, Payload, Refusal, SnapshotBody},
    proposals::ProposalId,
    transport::{
        frame::{FRAME_BYTES_MAX, Frame, Kind, Split, split},
        mirror::MirrorError,
        payload::{self, Ends, PayloadError},
        rules::NUMBER_MAX,
    },
};

const ENDS: Ends = Ends { from: 1, to: 2 };

fn framed(payload: &Payload) -> Frame {
    let mut out = Vec::new();
    payload::write(&mut out, payload).unwrap();
    match split(&mut BytesMut::from(&out[..]), FRAME_BYTES_MAX) {
        Ok(Split::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

fn through(message: Message) -> Result<Message, PayloadError> {
    match payload::read(&framed(&Payload::Message(message)), ENDS)? {
        IncomingPayload::Message(message) => Ok(message),
        other => panic!("{other:?}"),
    }
}

fn of(kind: MessageType) -> Message {
    Message { msg_type: kind, from: 1, to: 2, term: 9, ..Message::default() }
}

fn entry(index: u64, term: u64, data: Vec<u8>) -> Entry {
    Entry { index, term, data: data.into(), context: Bytes::from_static(b"id"), ..Entry::default() }
}

fn append(index: u64, entries: Vec<Entry>) -> Message {
    let mut append = Message { index, log_term: 2, commit: 4, ..of(MessageType::MsgAppend) };
    append.set_entries(entries.into());
    append
}

fn change() -> ConfChangeV2 {
    let single =
        |kind, id| ConfChangeSingle { change_type: kind, node_id: id, ..ConfChangeSingle::default() };
    let changes =
        vec![single(ConfChangeType::RemoveNode, 3), single(ConfChangeType::AddLearnerNode, u64::MAX)];
    ConfChangeV2 {
        transition: ConfChangeTransition::Implicit,
        changes: changes.into(),
        context: Bytes::from_static(b"why"),
        ..ConfChangeV2::default()
    }
}

fn changing(kind: EntryType, data: Vec<u8>) -> Message {
    append(4, vec![Entry { entry_type: kind, ..entry(5, 2, data) }])
}

#[test]
fn every_kind_that_members_send_comes_through_whole() {
    use MessageType::*;
    for kind in [
        MsgAppendResponse,
        MsgRequestVote,
        MsgRequestVoteResponse,
        MsgHeartbeat,
        MsgHeartbeatResponse,
        MsgTimeoutNow,
        MsgRequestPreVote,
        MsgRequestPreVoteResponse,
    ] {
        let message = Message {
            log_term: 1,
            index: NUMBER_MAX,
            commit: 3,
            commit_term: 4,
            reject: true,
            reject_hint: 6,
            context: Bytes::from_static(b"context"),
            ..of(kind)
        };
        assert_eq!(through(message.clone()), Ok(message));
    }
    for (kind, term) in [(MsgReadIndex, 0), (MsgReadIndexResp, 9)] {
        let read = round(kind, term, 1);
        assert_eq!(through(read.clone()), Ok(read));
    }
}

/// A read's question or answer, with so many contexts.
fn round(kind: MessageType, term: u64, contexts: usize) -> Message {
    let mut round = Message { term, ..of(kind) };
    round.set_entries(vec![entry(0, 0, vec![7; 24]); contexts].into());
    round
}

#[test]
fn entries_come_through_whole_and_a_change_of_the_members_is_encoded_anew() {
    let commands = append(4, vec![entry(5, 2, Vec::new()), entry(6, 9, vec![0; 100_000])]);
    assert_eq!(through(commands.clone()), Ok(commands));

    let v2 = changing(EntryType::EntryConfChangeV2, change().write_to_bytes().unwrap());
    assert_eq!(through(v2.clone()), Ok(v2));
    let leave = changing(EntryType::EntryConfChangeV2, Vec::new());
    assert_eq!(through(leave.clone()), Ok(leave), "what leaves a joint configuration is an empty change");
    let v1 = ConfChange { node_id: 4, id: 7, context: Bytes::from_static(b"x"), ..ConfChange::default() };
    let v1 = changing(EntryType::EntryConfChange, v1.write_to_bytes().unwrap());
    assert_eq!(through(v1.clone()), Ok(v1));
}

#[test]
fn protobuf_that_nests_groups_without_end_is_stopped_before_the_wire() {
    // The advisory's bytes: a start-group tag, over and over.
    let hostile = changing(EntryType::EntryConfChangeV2, vec![0x0b; 64]);
    let mut out = Vec::new();
    let refused = payload::write(&mut out, &Payload::Message(hostile));
    assert_eq!(refused, Err(PayloadError::Mirror(MirrorError::Change)));
    assert!(out.is_empty());

    // Written as a change's context they are bytes like others, and what raft decodes is a context.
    let mut odd = change();
    odd.context = vec![0x0b; 64].into();
    let odd = changing(EntryType::EntryConfChangeV2, odd.write_to_bytes().unwrap());
    let entry = through(odd).unwrap().take_entries().remove(0);
    assert_eq!(ConfChangeV2::parse_from_bytes(&entry.data).unwrap().context, vec![0x0b; 64]);
}

#[test]
fn what_a_member_may_not_send_is_refused() {
    let refused = |message: Message| through(message).unwrap_err().to_string();
    for kind in [MessageType::MsgHup, MessageType::MsgPropose, MessageType::MsgUnreachable] {
        assert!(refused(of(kind)).contains("do not send each other"), "{kind:?}");
    }
    let gap = append(4, vec![entry(5, 2, Vec::new()), entry(7, 2, Vec::new())]);
    assert!(refused(gap).contains("entry 7"));
    assert!(refused(append(4, vec![entry(4, 2, Vec::new())])).contains("entry 4"));
    assert!(refused(append(4, vec![entry(5, 1, Vec::new())])).contains("of term 1"));
    assert!(refused(append(4, vec![entry(5, 10, Vec::new())])).contains("of term 10"), "beyond its leader's");
    assert!(refused(append(u64::MAX, vec![entry(0, 2, Vec::new())])).contains("no log ever reaches"));
    let mut heartbeat = of(MessageType::MsgHeartbeat);
    heartbeat.set_entries(vec![entry(5, 2, Vec::new())].into());
    assert!(refused(heartbeat).contains("1 entries"));

    let stranger = Message { from: 3, ..of(MessageType::MsgHeartbeat) };
    assert_eq!(through(stranger), Err(PayloadError::Stranger { from: 3, to: 2 }));
    let misled = Message { to: 3, ..of(MessageType::MsgHeartbeat) };
    assert_eq!(through(misled), Err(PayloadError::Stranger { from: 1, to: 3 }));
}

#[test]
fn what_raft_would_panic_over_closes_the_connection() {
    use MessageType::*;
    let refused = |message: Message| through(message).unwrap_err().to_string();
    for contexts in [0, 2] {
        assert!(refused(round(MsgReadIndex, 0, contexts)).contains("in place of one"), "{contexts}");
        assert!(refused(round(MsgReadIndexResp, 9, contexts)).contains("in place of one"), "{contexts}");
    }
    assert!(refused(round(MsgReadIndex, 9, 1)).contains("of term 9"), "a follower would pass it on");
    for kind in [MsgAppend, MsgHeartbeat, MsgRequestVote, MsgRequestPreVote, MsgTimeoutNow] {
        assert!(refused(Message { term: 0, ..of(kind) }).contains("of term 0"), "{kind:?}: raft's own");
    }
    let first = Message { log_term: 0, ..append(0, vec![entry(1, 0, Vec::new())]) };
    assert!(refused(first).contains("entry 1 of term 0"));
    for message in [
        Message { term: u64::MAX, ..of(MsgHeartbeat) },
        Message { index: NUMBER_MAX + 1, ..of(MsgAppendResponse) },
        Message { reject_hint: u64::MAX, reject: true, ..of(MsgAppendResponse) },
    ] {
        assert!(refused(message).contains("no log ever reaches"));
    }
    assert!(refused(Message { priority: -1, ..of(MsgRequestPreVote) }).contains("priority"));
    assert!(refused(Message { request_snapshot: 5, ..of(MsgAppendResponse) }).contains("wish"));
    let long = Message { context: vec![7; 65].into(), ..of(MsgHeartbeatResponse) };
    assert!(refused(long).contains("context of 65 bytes"));
    assert!(refused(of(MsgTransferLeader)).contains("do not send each other"));
}

#[test]
fn a_snapshot_of_a_configuration_that_raft_can_not_enter_is_refused() {
    let taken = |change: fn(&mut ConfState)| {
        let mut message = snapshot();
        change(message.mut_snapshot().mut_metadata().mut_conf_state());
        payload::read_snapshot(&framed(&Payload::Message(message)), ENDS)
    };
    let refused = Err(PayloadError::Mirror(MirrorError::Configuration));
    assert!(taken(|_| {}).is_ok());
    assert_eq!(taken(|conf| conf.voters.clear()), refused, "nobody votes");
    assert_eq!(taken(|conf| conf.voters.push(2)), refused, "named twice");
    assert_eq!(taken(|conf| conf.learners.push(0)), refused, "nobody's id");
    assert_eq!(taken(|conf| conf.learners.push(2)), refused, "voter and learner");
    assert_eq!(taken(|conf| conf.learners.push(4)), refused, "learner before it has left");
    assert_eq!(taken(|conf| conf.learners_next.push(6)), refused, "leaves, and never voted");
    assert_eq!(taken(|conf| conf.learners_next.push(1)), refused, "leaves, and votes");
    assert_eq!(taken(|conf| (conf.voters_outgoing, conf.learners_next) = Default::default()), refused);
    let later = |message: &mut Message| message.mut_snapshot().mut_metadata().term = 10;
    let mut message = snapshot();
    later(&mut message);
    let later = payload::read_snapshot(&framed(&Payload::Message(message)), ENDS);
    assert_eq!(later, Err(PayloadError::Mirror(MirrorError::Snapshot)));
}

/// A snapshot's message, in the middle of a change of the members.
fn snapshot() -> Message {
    let conf_state = ConfState {
        voters: vec![1, 2],
        learners: vec![3],
        voters_outgoing: vec![1, 4, 5],
        learners_next: vec![5],
        auto_leave: true,
        ..ConfState::default()
    };
    let mut metadata = SnapshotMetadata { index: 7, term: 8, ..SnapshotMetadata::default() };
    metadata.set_conf_state(conf_state);
    let mut snapshot = Snapshot { data: Bytes::from_static(b"manifest"), ..Snapshot::default() };
    snapshot.set_metadata(metadata);
    let mut message = of(MessageType::MsgSnapshot);
    message.set_snapshot(snapshot);
    message
}

#[test]
fn a_snapshot_travels_only_as_one() {
    let mut message = snapshot();
    let frame = framed(&Payload::Message(message.clone()));
    assert_eq!(payload::read_snapshot(&frame, ENDS), Ok(message.clone()));
    let misplaced = payload::read(&frame, ENDS).unwrap_err();
    assert_eq!(misplaced, PayloadError::Place(Kind::Snapshot));
    let disguised = Frame { kind: Kind::Message, ..frame };
    assert!(payload::read(&disguised, ENDS).unwrap_err().to_string().contains("raft message of kind 7"));

    message.mut_snapshot().set_data(vec![0; 100_000].into());
    let large = payload::read_snapshot(&framed(&Payload::Message(message)), ENDS);
    assert_eq!(large, Err(PayloadError::Mirror(MirrorError::Snapshot)));
    let without = framed(&Payload::Message(of(MessageType::MsgSnapshot)));
    assert_eq!(payload::read_snapshot(&without, ENDS), Err(PayloadError::Mirror(MirrorError::Snapshot)));
}

#[test]
fn what_is_ours_comes_through_whole() {
    let id = ProposalId::from_bytes(&[7; ProposalId::BYTES]).unwrap();
    let read = |payload: Payload| payload::read(&framed(&payload), ENDS).unwrap();
    let IncomingPayload::Propose { id: same, command } = read(Payload::Propose { id, command: vec![1, 2] })
    else {
        panic!("a proposal");
    };
    assert_eq!((same, command), (id, vec![1, 2]));
    for change in [
        MemberChange::AddLearner(1),
        MemberChange::Promote(2),
        MemberChange::Demote(3),
        MemberChange::Remove(4),
        MemberChange::Replace { lost: 5, by: 6 },
        MemberChange::Reseed { old: 7, new: 8 },
    ] {
        let IncomingPayload::Change { change: same, .. } = read(Payload::Change { id, change }) else {
            panic!("a change");
        };
        assert_eq!(same, change);
    }
    for to in [None, Some(9)] {
        let IncomingPayload::Transfer { to: same, .. } = read(Payload::Transfer { id, to }) else {
            panic!("a transfer");
        };
        assert_eq!(same, to);
    }
    for refusal in
        [Refusal::NoLeader, Refusal::Busy, Refusal::AlreadySo, Refusal::Invalid("no such member".to_owned())]
    {
        let IncomingPayload::Refused { refusal: same, .. } =
            read(Payload::Refused { id, refusal: refusal.clone() })
        else {
            panic!("a refusal");
        };
        assert_eq!(same, refusal);
    }
    let (revision, chain) = (u64::MAX, [5; 32]);
    let beat =
        Beat { applied: 1, commit: 2, last: 3, last_term: 6, term: 4, revision, chain, diverged: true };
    let IncomingPayload::Beat(same) = read(Payload::Beat(beat)) else { panic!("a beat") };
    assert_eq!(same, beat);
}

#[test]
fn an_append_of_any_size_is_sent_in_pieces_that_raft_could_have_sent() {
    let entries: Vec<_> = (0..40).map(|at| entry(5 + at, 2 + at / 10, vec![0; 50_000])).collect();
    let whole = append(4, entries.clone());
    let pieces = payload::pieces(whole);
    assert!(pieces.len() > 4);
    let mut seen = Vec::new();
    let (mut index, mut log_term) = (4, 2);
    for piece in pieces {
        assert_eq!((piece.index, piece.log_term, piece.commit), (index, log_term, 4));
        let weighs = Payload::<SnapshotBody>::Message(piece.clone()).bytes();
        assert!(weighs <= 64 * 1_024, "{weighs}");
        let last = piece.entries.last().unwrap();
        (index, log_term) = (last.index, last.term);
        seen.extend(through(piece).unwrap().take_entries());
    }
    assert_eq!(seen, entries);

    let lone = append(4, vec![entry(5, 2, vec![0; 1_500_000])]);
    assert_eq!(payload::pieces(lone.clone()), [lone], "a large entry is a piece of its own");
}

#[test]
fn the_bytes_of_a_message_are_these() {
    let append = append(4, vec![entry(5, 3, b"a=1".to_vec())]);
    let golden = b"\x03\x02\x01\x09\x02\x04\x04\x00\x00\x00\x00\x00\x00\x00\x01\x03\x05\x02id\x00\x03a=1\x00";
    assert_eq!(framed(&Payload::Message(append)).body, Bytes::from_static(golden));
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    let mut body = framed(&Payload::Message(of(MessageType::MsgHeartbeat))).body.to_vec();
    // Behind the empty context stands the number of entries: make it two to the sixty-third.
    let at = body.len() - 2;
    body.splice(at..=at, [0xfd, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    let lying = Frame { kind: Kind::Message, body: body.into() };
    assert_eq!(payload::read(&lying, ENDS).unwrap_err(), PayloadError::Body);
}

fn any_message() -> impl Strategy<Value = Message> {
    let entries = vec((vec(any::<u8>(), 0..40), option::of(any::<u64>())), 0..6);
    (0..19_i32, entries, any::<[u64; 4]>(), vec(any::<u8>(), 0..30)).prop_map(
        |(kind, entries, numbers, context)| {
            let kind = protobuf::ProtobufEnum::from_i32(kind).unwrap();
            let mut message = append(numbers[0] / 2, Vec::new());
            let mut entries: Vec<_> = entries
                .into_iter()
                .enumerate()
                .map(|(at, (data, member))| match member {
                    None => entry(message.index + 1 + at as u64, 5, data),
                    Some(id) => {
                        let mut change = change();
                        change.mut_changes()[0].node_id = id;
                        let data = change.write_to_bytes().unwrap();
                        let entry_type = EntryType::EntryConfChangeV2;
                        Entry { entry_type, ..entry(message.index + 1 + at as u64, 5, data) }
                    }
                })
                .collect();
            if kind != MessageType::MsgAppend {
                entries.clear();
            }
            message.msg_type = kind;
            message.commit = numbers[1];
            message.reject_hint = numbers[2];
            message.priority = numbers[3].cast_signed();
            message.context = context.into();
            message.set_entries(entries.into());
            message
        },
    )
}

fn read_all(frame: &Frame) {
    let _ = payload::read(frame, ENDS);
    let _ = payload::read_snapshot(frame, ENDS);
}

const KINDS: [Kind; 6] =
    [Kind::Message, Kind::Propose, Kind::Change, Kind::Refused, Kind::Beat, Kind::Snapshot];

proptest! {
    #[test]
    fn any_message_comes_through_whole_or_not_at_all(message in any_message()) {
        let frame = framed(&Payload::Message(message.clone()));
        if let Ok(IncomingPayload::Message(same)) = payload::read(&frame, ENDS) {
            prop_assert_eq!(same, message);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(kind in 0..KINDS.len(), body in vec(any::<u8>(), 0..600)) {
        read_all(&Frame { kind: KINDS[kind], body: body.into() });
    }

    #[test]
    fn no_change_to_a_message_makes_the_decoder_panic(
        message in any_message(),
        changes in vec((any::<usize>(), any::<u8>()), 1..8),
        cut in any::<usize>(),
        kind in 0..KINDS.len(),
    ) {
        let mut body = framed(&Payload::Message(message)).body.to_vec();
        for (at, byte) in changes {
            let at = at % body.len();
            body[at] = byte;
        }
        read_all(&Frame { kind: Kind::Message, body: body.clone().into() });
        body.truncate(cut % body.len());
        read_all(&Frame { kind: KINDS[kind], body: body.into() });
    }
}
