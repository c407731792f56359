//! Rules: what a raft message of a member may be, whatever the receiver's log holds. Pure.
//!
//! Raft 0.7 takes its peers on trust: an index into a list that may be empty, a sum that may overflow, a term that only
//! its own messages leave out; each of them panics the thread of whoever is sent such a message, or makes it forget its
//! term. A connection that brings one is closed. What only the receiver's log can refute is left to [`crate::trust`].

use raft::eraftpb::{ConfState, Message, MessageType, Snapshot};

use super::mirror::MirrorError;

/// No cluster elects or writes so often; below it no sum of raft's overflows.
pub(super) const NUMBER_MAX: u64 = u64::MAX / 2;

/// What a read round or a campaign says of itself: ours say 24 bytes at most. A leader keeps each question until it is
/// answered, and repeats it to everyone.
pub(super) const CONTEXT_BYTES_MAX: usize = 64;

/// What every message must be.
pub(super) fn check(message: &Message) -> Result<(), MirrorError> {
    let numbers = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
    ];
    if let Some(number) = numbers.into_iter().find(|number| *number > NUMBER_MAX) {
        return Err(MirrorError::Number(number));
    }
    // Raft takes a message without a term for one of its own; only a question for the leader has none, and raft would
    // panic over passing on one that has.
    if (message.term == 0) != (message.msg_type == MessageType::MsgReadIndex) {
        return Err(MirrorError::Term(message.term));
    }
    if message.context.len() > CONTEXT_BYTES_MAX {
        return Err(MirrorError::Context(message.context.len()));
    }
    // Members have no priorities, and ask for no snapshot: their leader sees that they need one. A vote with less than
    // none would be refused without a term by a member that has none yet, which raft panics over.
    if message.priority != 0 || message.deprecated_priority != 0 || message.request_snapshot != 0 {
        return Err(MirrorError::Foreign);
    }
    check_entries(message)
}

/// Entries of an append start behind the index it names and follow one another; a read index carries its context as
/// one entry; nothing else carries any.
fn check_entries(message: &Message) -> Result<(), MirrorError> {
    let entries = message.entries.len();
    match message.msg_type {
        MessageType::MsgAppend => {
            let (mut index, mut term) = (message.index, message.log_term.max(1));
            for entry in &message.entries {
                let follows = index.checked_add(1) == Some(entry.index);
                if !follows || entry.term < term || entry.term > message.term {
                    return Err(MirrorError::Order { index: entry.index, term: entry.term });
                }
                (index, term) = (entry.index, entry.term);
            }
            Ok(())
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => match message.entries.as_ref() {
            [round] if round.data.len() <= CONTEXT_BYTES_MAX => Ok(()),
            [round] => Err(MirrorError::Context(round.data.len())),
            _ => Err(MirrorError::Round(entries)),
        },
        _ if entries == 0 => Ok(()),
        _ => Err(MirrorError::Entries(entries)),
    }
}

/// What the snapshot of a message must be, beside the sizes that were checked when it was read: of its leader's term at
/// most, and with members that raft can put into force. It panics over any others.
pub(super) fn check_snapshot(snapshot: &Snapshot, message_term: u64) -> Result<(), MirrorError> {
    let metadata = snapshot.get_metadata();
    if metadata.index > NUMBER_MAX {
        return Err(MirrorError::Number(metadata.index));
    }
    if metadata.index == 0 || metadata.term == 0 || metadata.term > message_term {
        return Err(MirrorError::Snapshot);
    }
    if is_configuration(metadata.get_conf_state()) { Ok(()) } else { Err(MirrorError::Configuration) }
}

/// Whether this can be the configuration of a cluster: somebody votes, nobody is named twice or nought, and nobody is
/// voter and learner at once, save the voters on their way out that are learners next.
fn is_configuration(conf: &ConfState) -> bool {
    let lists = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
    let sound = |list: &&Vec<u64>| {
        let mut sorted = (*list).clone();
        sorted.sort_unstable();
        sorted.first() != Some(&0) && sorted.windows(2).all(|pair| pair[0] != pair[1])
    };
    let none_of = |list: &[u64], other: &[u64]| !list.iter().any(|id| other.contains(id));
    let is_joint = !conf.voters_outgoing.is_empty();
    !conf.voters.is_empty()
        && lists.iter().all(sound)
        && none_of(&conf.learners, &conf.voters)
        && none_of(&conf.learners, &conf.voters_outgoing)
        && none_of(&conf.learners_next, &conf.voters)
        && conf.learners_next.iter().all(|id| conf.voters_outgoing.contains(id))
        && (is_joint || !conf.auto_leave)
}
