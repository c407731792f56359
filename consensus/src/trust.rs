//! Trust: what raft 0.7 would believe of a message although this member's own log or role refutes it. Pure.
//!
//! The transport closes the connection that brings what no member may ever say (`transport::rules`). What is left are
//! messages that are possible, but not here and now. Raft would panic over most of them; they are not handed to it. A
//! network may bring some of them late, so that alone is nobody's fault.

use raft::{
    INVALID_ID, Raft, StateRole, Storage,
    eraftpb::{Message, MessageType},
};

/// Terms that a cluster may be ahead of one of its members: an election every second for a century. A single message
/// could otherwise lift the term so far that none is left for the next election.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

/// Why a message is not handed to raft.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refuted {
    /// It is of no use here, for this reason.
    Unfit(&'static str),
    /// It shows that this member has lost what it acknowledged.
    Lost(String),
}

/// Whether, and why, a message must not reach raft as it stands now.
pub(crate) fn refuted<S: Storage>(raft: &Raft<S>, message: &Message) -> Option<Refuted> {
    let (log, last) = (&raft.raft_log, raft.raft_log.last_index());
    if message.term > raft.term.saturating_add(TERMS_AHEAD_MAX) {
        return Some(Refuted::Unfit("it is of a term that no elections led to"));
    }
    if message.term != 0 && message.term < raft.term {
        // Raft ignores it, or answers that the term has passed.
        return None;
    }
    let reason = match message.msg_type {
        MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
            if leads_or_follows_another(raft, message) =>
        {
            "another member leads this term"
        }
        // A leader commits on our heartbeat no more than we acknowledged. Raft would panic.
        MessageType::MsgHeartbeat if message.commit > last => {
            let lost =
                format!("it acknowledged entry {} to its leader, and its log ends at {last}", message.commit);
            return Some(Refuted::Lost(lost));
        }
        // Raft finds term 0 wherever it has no entry, and would go on behind a gap.
        MessageType::MsgAppend if message.log_term == 0 && message.index > last => {
            "it goes on behind entries that this member has not"
        }
        // Raft would pass it on to the leader, which believes nobody who speaks for another; whoever asks asks again.
        MessageType::MsgReadIndex if raft.state != StateRole::Leader => "this member does not lead",
        // Raft expects of a leader that its log is on disk when it is elected.
        MessageType::MsgTimeoutNow
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVoteResponse
            if log.persisted != last =>
        {
            "an election has to wait for the disk"
        }
        _ => return None,
    };
    Some(Refuted::Unfit(reason))
}

/// A term has one leader. Whoever else speaks as one is wrong, whatever became of it.
fn leads_or_follows_another<S: Storage>(raft: &Raft<S>, message: &Message) -> bool {
    message.term == raft.term && raft.leader_id != INVALID_ID && raft.leader_id != message.from
}
