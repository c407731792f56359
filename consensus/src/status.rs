//! Status: what this member believes about itself and the cluster, as a plain value.

use std::collections::BTreeMap;

use crate::message::{Beat, MemberChange};

/// A member's part in its cluster at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Orders the log.
    Leader,
}

impl Role {
    /// The word an operator reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}

/// One look at a member. It may be old by the time it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub node_id: u64,
    /// Its part.
    pub role: Role,
    /// Raft's term.
    pub term: u64,
    /// Who leads, as far as this member knows.
    pub leader: Option<u64>,
    /// The last entry known to be committed.
    pub commit: u64,
    /// The last entry in the state machine.
    pub applied: u64,
    /// The first entry still in the log.
    pub first: u64,
    /// The last entry in the log.
    pub last: u64,
    /// The term of the last entry in the log: what logs are compared by, before their length.
    pub last_term: u64,
    /// Members that vote, ascending.
    pub voters: Vec<u64>,
    /// Members that voted until the change that is under way, ascending; empty when none is.
    pub outgoing_voters: Vec<u64>,
    /// Members that only follow, ascending.
    pub learners: Vec<u64>,
    /// This member belonged to the cluster and no longer does.
    pub removed: bool,
    /// This member's data differs from the others', and it stops.
    pub diverged: bool,
    /// The other members.
    pub peers: BTreeMap<u64, PeerStatus>,
    /// Ticks since this member heard from a majority of the voters, itself included; `u32::MAX` when it never did.
    pub quorum_contact: u32,
}

/// Another member as this one sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its last sign of life.
    pub beat: Option<Beat>,
    /// Ticks since anything came from it; `u32::MAX` when nothing ever did.
    pub heard_ticks: u32,
    /// The last entry of its log known to agree with ours; only a leader knows.
    pub matched: Option<u64>,
    /// It is being sent a snapshot.
    pub snapshotting: bool,
}

/// Ticks of silence after which a quorum counts as lost: two signs of life, at the ticks that members run with.
const QUORUM_PATIENCE_TICKS: u32 = 20;

impl Status {
    /// Whether this member orders the log.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Whether a change of the members is in force, and nothing else under way.
    pub(crate) fn shows(&self, change: MemberChange) -> bool {
        let votes = |id: u64| self.voters.contains(&id);
        let learns = |id: u64| self.learners.contains(&id);
        let settled = self.outgoing_voters.is_empty();
        settled
            && match change {
                MemberChange::AddLearner(id) => votes(id) || learns(id),
                MemberChange::Promote(id) => votes(id),
                MemberChange::Demote(id) => learns(id),
                MemberChange::Remove(id) if id == self.node_id => self.removed,
                MemberChange::Remove(id) => !votes(id) && !learns(id),
                MemberChange::Replace { lost, by } => learns(lost) && votes(by),
                MemberChange::Reseed { old, new } => {
                    !votes(old) && !learns(old) && (votes(new) || learns(new))
                }
            }
    }

    /// Whether, as far as this member knows, the cluster can write at this moment.
    pub fn has_quorum(&self) -> bool {
        self.leader.is_some() && !self.removed && self.quorum_contact <= QUORUM_PATIENCE_TICKS
    }
}
