//! Status: what this member believes about itself and the cluster, as a plain value.

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
    /// Members that vote, ascending.
    pub voters: Vec<u64>,
    /// Members that only follow, ascending.
    pub learners: Vec<u64>,
}

impl Status {
    /// Whether this member orders the log.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
}
