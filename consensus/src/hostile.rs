//! A peer that holds a certificate and says whatever the wire can carry: it must not end the thread that hears it.
//!
//! What it says goes through the transport's reader and, if that lets it pass, into a member over a real log, with
//! ticks and Readys in between. Anything may become of what the member believes; panics, and failures of its log, may
//! not.

use proptest::{collection::vec, prelude::*, sample::select};
use protobuf::{Message as _, ProtobufEnum as _};
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType,
    Snapshot, SnapshotMetadata,
};
use tempfile::TempDir;

use crate::{
    config::Config,
    map::Map,
    message::{Incoming, IncomingPayload},
    replica::Replica,
    transport::through_the_wire,
};

/// Who hears it.
#[derive(Clone, Copy, Debug)]
enum Hearer {
    /// Waits for its first snapshot.
    Joiner,
    Follower,
    Leader,
    /// The only voter, which leads and has a learner.
    Alone,
}

#[derive(Clone, Debug)]
enum Step {
    Says(u64, Box<Message>),
    Ticks(u32),
    Drains,
}

struct Played {
    folder: TempDir,
    replica: Replica<Map>,
    files: u32,
}

impl Played {
    fn new(hearer: Hearer) -> Played {
        let folder = TempDir::new().unwrap();
        let founders: &[u64] = match hearer {
            Hearer::Joiner => &[],
            Hearer::Follower | Hearer::Leader => &[1, 2, 3],
            Hearer::Alone => &[1],
        };
        let config = Config { voters_max: 0, replace_after_ticks: None, ..Config::new(1, folder.path()) };
        let map = Map::open(folder.path());
        let mut replica = Replica::start(&config, map, founders, 7, Box::new(drop)).unwrap();
        replica.settle().unwrap();
        let mut played = Played { folder, replica, files: 0 };
        if let Hearer::Leader = hearer {
            played.replica.node.campaign();
            played.replica.drain().unwrap();
            // A candidate asks for the term after its own at first, and then for its own.
            for (kind, ahead) in
                [(MessageType::MsgRequestPreVoteResponse, 1), (MessageType::MsgRequestVoteResponse, 0)]
            {
                let term = played.replica.status().term + ahead;
                played.hear(2, &Message { term, ..of(kind, 2) });
                played.replica.drain().unwrap();
            }
            assert!(played.replica.node.is_leader(), "{:?}", played.replica.status());
        }
        if let Hearer::Alone = hearer {
            let learner = ConfChangeSingle {
                node_id: 2,
                change_type: ConfChangeType::AddLearnerNode,
                ..Default::default()
            };
            let change = ConfChangeV2 { changes: vec![learner].into(), ..ConfChangeV2::default() };
            played.replica.node.propose_conf_change(Vec::new(), &change).unwrap();
            played.replica.drain().unwrap();
            assert!(played.replica.node.is_leader());
        }
        played
    }

    fn hear(&mut self, from: u64, message: &Message) {
        let Some(message) = through_the_wire(from, 1, message) else { return };
        let payload = if message.msg_type == MessageType::MsgSnapshot {
            self.files += 1;
            let state = self.folder.path().join(format!("snapshot-{}", self.files));
            let index = message.get_snapshot().get_metadata().index;
            std::fs::write(&state, format!("{index}\n0 {}\n", "0".repeat(64))).unwrap();
            IncomingPayload::Snapshot { message, state }
        } else {
            IncomingPayload::Message(message)
        };
        self.replica.step(Incoming { from, payload });
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Says(from, message) => self.hear(*from, message),
            Step::Ticks(times) => (0..*times).for_each(|_| self.replica.tick()),
            Step::Drains => self.replica.drain().unwrap(),
        }
    }
}

fn of(msg_type: MessageType, from: u64) -> Message {
    Message { msg_type, from, to: 1, ..Message::default() }
}

/// Small, so that the log's own are met, or as large as can be.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..9_u64, 1 => select(vec![u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX])]
}

fn term() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0_u64), 8 => 1..5_u64, 1 => select(vec![1 << 40, u64::MAX / 2, u64::MAX])]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    (0..4_u64, select(vec![None, Some(1), Some(2), Some(3)]), select(ConfChangeType::values())).prop_map(
        |(term, changed, change_type)| {
            let Some(node_id) = changed else {
                return Entry { term, data: b"k=v".as_slice().into(), ..Entry::default() };
            };
            let single = ConfChangeSingle { node_id, change_type, ..Default::default() };
            let change = ConfChangeV2 { changes: vec![single].into(), ..ConfChangeV2::default() };
            let data = change.write_to_bytes().unwrap().into();
            Entry { term, data, entry_type: EntryType::EntryConfChangeV2, ..Entry::default() }
        },
    )
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let ids = || vec(0..4_u64, 0..3);
    (number(), term(), vec(0..4_u64, 0..4), ids(), ids(), ids(), any::<bool>()).prop_map(
        |(index, term, voters, learners, voters_outgoing, learners_next, auto_leave)| {
            let (mut snapshot, mut metadata) = (Snapshot::default(), SnapshotMetadata::default());
            (metadata.index, metadata.term) = (index, term);
            metadata.set_conf_state(ConfState {
                voters,
                learners,
                voters_outgoing,
                learners_next,
                auto_leave,
                ..ConfState::default()
            });
            snapshot.set_metadata(metadata);
            snapshot
        },
    )
}

fn any_message() -> impl Strategy<Value = (u64, Message)> {
    let kinds: Vec<MessageType> = MessageType::values().to_vec();
    let context = select(vec![b"".to_vec(), b"CampaignTransfer".to_vec(), vec![7; 24], vec![7; 65]]);
    let rare = |value: i64| prop_oneof![9 => Just(0_i64), 1 => Just(value)];
    (
        (select(vec![2_u64, 3, 9]), select(kinds), term(), term(), number(), number(), term()),
        (any::<bool>(), number(), context, vec(any_entry(), 0..3), any_snapshot(), rare(-1), rare(3)),
    )
        .prop_map(|(numbers, rest)| {
            let (from, kind, term, log_term, index, commit, commit_term) = numbers;
            let (reject, reject_hint, context, mut entries, snapshot, priority, request) = rest;
            for (at, entry) in (1..).zip(&mut entries) {
                entry.index = index.wrapping_add(at);
            }
            let mut message = Message { term, log_term, index, commit, commit_term, ..of(kind, from) };
            (message.reject, message.reject_hint) = (reject, reject_hint);
            (message.priority, message.request_snapshot) = (priority, request.cast_unsigned());
            message.context = context.into();
            match kind {
                MessageType::MsgAppend | MessageType::MsgPropose => message.set_entries(entries.into()),
                MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
                    // The wire's commonest question has no term.
                    message.term = if reject { 0 } else { term };
                    message.set_entries(entries.into());
                }
                MessageType::MsgSnapshot => message.set_snapshot(snapshot),
                _ => {}
            }
            (from, message)
        })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any_message().prop_map(|(from, message)| Step::Says(from, Box::new(message))),
        1 => (1..40_u32).prop_map(Step::Ticks),
        2 => Just(Step::Drains),
    ]
}

proptest! {
    #[test]
    fn no_peer_ends_the_thread_that_hears_it(
        hearer in select(vec![Hearer::Joiner, Hearer::Follower, Hearer::Leader, Hearer::Alone]),
        steps in vec(any_step(), 1..40),
    ) {
        let mut played = Played::new(hearer);
        for step in &steps {
            played.play(step);
            if played.replica.diverged.is_some() {
                break;
            }
        }
        played.replica.drain().unwrap();
    }
}

#[test]
fn a_leader_that_has_applied_nothing_offers_no_state_of_nothing() {
    let mut played = Played::new(Hearer::Leader);
    let term = played.replica.status().term;
    // It has not one entry, it says, so it needs them from the first, which no log of ours has.
    played.hear(2, &Message { term, index: 1, reject: true, ..of(MessageType::MsgAppendResponse, 2) });
    played.replica.drain().unwrap();
    assert!(played.replica.node.is_leader());
}
