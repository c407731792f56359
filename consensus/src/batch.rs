//! Joins appends to one member into one message, as long as they follow each other. Pure; called before messages leave.
//!
//! Raft 0.7 can do this itself (`batch_append`), and does it wrongly: it adds entries to an *empty* append without
//! asking whether they begin where that one stands. After a refused append the two differ; the follower then counts
//! entries it does not have, says so, and the leader commits what no majority holds. The simulation found it
//! (`sim::FOUND`, seed 22). So raft's own joining stays off, and every joint is looked at here.

use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};

use crate::config::MESSAGE_BYTES_MAX;

/// The same messages in the same order for each member, with fewer appends.
pub(crate) fn joined(messages: Vec<Message>) -> Vec<Message> {
    let mut joined: Vec<(Message, u64)> = Vec::with_capacity(messages.len());
    for mut message in messages {
        let bytes = u64::from(message.compute_size());
        // Only the newest message to a member can be added to, or they would change places.
        match joined.iter_mut().rev().find(|(before, _)| before.to == message.to) {
            Some((before, size)) if *size + bytes <= MESSAGE_BYTES_MAX && follows(before, &message) => {
                // Counted along, for sizing what has grown again with each entry would take its square.
                *size += bytes;
                before.commit = before.commit.max(message.commit);
                before.mut_entries().extend(message.take_entries());
            }
            _ => joined.push((message, bytes)),
        }
    }
    joined.into_iter().map(|(message, _)| message).collect()
}

/// Whether a member that took `before` would take exactly `after` next.
fn follows(before: &Message, after: &Message) -> bool {
    let appends = [before, after].iter().all(|message| message.get_msg_type() == MessageType::MsgAppend);
    let (index, term) = before
        .get_entries()
        .last()
        .map_or((before.index, before.log_term), |entry| (entry.index, entry.term));
    appends && before.term == after.term && (index, term) == (after.index, after.log_term)
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn append(to: u64, index: u64, entries: &[u64], commit: u64) -> Message {
        let mut message = Message { to, term: 3, index, log_term: 3, commit, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        let entry = |index: &u64| Entry { index: *index, term: 3, ..Entry::default() };
        message.set_entries(entries.iter().map(entry).collect());
        message
    }

    #[test]
    fn appends_that_follow_each_other_become_one() {
        let messages = vec![
            append(2, 4, &[5], 3),
            append(3, 4, &[5], 3),
            append(2, 5, &[6, 7], 4),
            append(2, 7, &[], 5),
            append(2, 7, &[8], 5),
        ];
        assert_eq!(joined(messages), [append(2, 4, &[5, 6, 7, 8], 5), append(3, 4, &[5], 3)]);
    }

    #[test]
    fn entries_that_do_not_follow_an_empty_append_stay_apart() {
        let messages = vec![append(2, 61, &[], 54), append(2, 54, &[55, 56], 54)];
        assert_eq!(joined(messages.clone()), messages);
    }

    #[test]
    fn another_term_another_kind_and_too_many_bytes_stay_apart() {
        let mut heartbeat = append(2, 5, &[], 0);
        heartbeat.set_msg_type(MessageType::MsgHeartbeat);
        let mut later = append(2, 5, &[6], 0);
        later.term = 4;
        let mut large = append(2, 5, &[6], 0);
        large.mut_entries()[0].data = vec![0; MESSAGE_BYTES_MAX as usize].into();
        for other in [heartbeat, later, large] {
            let messages = vec![append(2, 4, &[5], 0), other];
            assert_eq!(joined(messages.clone()), messages);
        }
    }
}
