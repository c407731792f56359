//! The errors of each operation: starting, proposing, reading, stopping. A variant exists because its reader acts
//! differently on it; none carries a type of another crate across our border.

use std::path::PathBuf;

use crate::wal::WalError;

/// Why a proposal did not become an outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was written; another member, or a later moment, may serve the command.
    #[error("this member is not the leader")]
    NoLeader,
    /// Nothing was written; the same command may be sent again after a pause.
    #[error("too many commands wait already")]
    Busy,
    /// The command may or may not take effect; only the caller's request id can tell.
    #[error("leadership moved or the member stopped before the command committed; it may still take effect")]
    Uncertain,
    /// Nothing was written, and this command never will be.
    #[error("command is {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes of the command.
        size: usize,
        /// `COMMAND_BYTES_MAX`.
        limit: usize,
    },
    /// Nothing was written: the state machine could not read this command.
    #[error("command refused: {reason}")]
    Invalid {
        /// What the state machine says of it.
        reason: String,
    },
    /// Nothing was written: this member was removed from its cluster.
    #[error("this member was removed from its cluster; ask another one")]
    Removed,
    /// Nothing was written: the member had stopped before it saw the command.
    #[error("this member has stopped")]
    Stopped,
}

/// Why a change of the members, or of the leader, was not seen to happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Nothing was changed: nobody leads, so there may be no quorum.
    #[error("no member leads the cluster now, so nothing was changed; try again when one does")]
    NoLeader,
    /// Nothing was changed; the same may be asked again after a pause.
    #[error("another change of the members is under way, so nothing was changed; try again in a moment")]
    Busy,
    /// It may have happened or may still. Asking again does no harm: what is so already is not changed twice.
    #[error("the change was not seen to happen in time; it may still: look at the members, then ask again")]
    Uncertain,
    /// Nothing was changed, and nothing would be if it were asked again now.
    #[error("nothing was changed: {reason}")]
    Refused {
        /// What is in the way, and what helps.
        reason: String,
    },
    /// Nothing was changed: this member has stopped, or was removed.
    #[error("this member has stopped; ask another one")]
    Stopped,
}

/// Why a read found no index it may be served at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed itself in time: there may be no quorum.
    #[error("no leader confirmed the read in time")]
    NoLeader,
    /// Nothing was tried; the read may be sent again after a pause.
    #[error("too many reads wait already")]
    Busy,
    /// This member was removed from its cluster, so nothing tells it what is current.
    #[error("this member was removed from its cluster; ask another one")]
    Removed,
    /// The member has stopped and serves nothing.
    #[error("this member has stopped")]
    Stopped,
}

/// Why a member would not start. Each says what was found and what an operator can do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting that raft cannot run with.
    #[error("consensus settings: {0}")]
    Config(String),
    /// The log could not be opened or read.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The data directory belongs to another member.
    #[error(
        "{} holds the log of member {found}, but this member is {configured}: a data directory is never shared or copied \
         between members; remove it and join again, or start with the right one", .dir.display()
    )]
    WrongMember {
        /// The log's directory.
        dir: PathBuf,
        /// Who wrote the log.
        found: u64,
        /// Who was asked to start.
        configured: u64,
    },
    /// The log belongs to another cluster; all first members have the same id.
    #[error(
        "{} holds the log of another cluster: put this member's own log directory back, or restore its data directory \
         from a backup", .dir.display()
    )]
    WrongCluster {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The state knows more than the log: the log's end, or all of it, is gone.
    #[error(
        "the state has applied entry {applied}, but the log in {} ends at {last}: entries {}..={applied} are missing; \
         put the log directory back, or restore this member from a snapshot file", .dir.display(), .last + 1
    )]
    LogBehindState {
        /// The log's directory.
        dir: PathBuf,
        /// The last entry in the state.
        applied: u64,
        /// The last entry in the log.
        last: u64,
    },
    /// The state was lost or is old, and the log no longer reaches back to it.
    #[error(
        "the state ends at entry {applied}, but the log in {} begins at {first}: entries {}..={} are missing; put back \
         the exported snapshot file the store heals from (it must reach at least entry {}), or restore from a backup",
        .dir.display(), .applied + 1, .first - 1, .first - 1
    )]
    LogCut {
        /// The log's directory.
        dir: PathBuf,
        /// The last entry in the state.
        applied: u64,
        /// The first entry in the log.
        first: u64,
    },
    /// The log ends before what its own hard state says was committed.
    #[error(
        "the log in {} ends at entry {last}, but entry {commit} was committed: entries {}..={commit} are missing; put \
         the log directory back, or restore this member from a snapshot file", .dir.display(), .last + 1
    )]
    LogBehindCommit {
        /// The log's directory.
        dir: PathBuf,
        /// The commit index of the hard state.
        commit: u64,
        /// The last entry in the log.
        last: u64,
    },
    /// The state could not follow the log.
    #[error("apply the log: {0}")]
    State(String),
    /// Raft refused what the checks above let through.
    #[error("raft refused to start: {0}")]
    Raft(String),
    /// The operating system gave no thread.
    #[error("start the consensus thread: {0}")]
    Thread(std::io::Error),
}

/// Why the member no longer runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// Somebody called [`crate::Raft::stop`].
    #[error("stopped as requested")]
    Requested,
    /// This member's state or log is not what the others agreed on. Its data must not be used again: it needs a fresh
    /// copy from its peers.
    #[error("this member's data differs from its peers': {detail}")]
    Diverged {
        /// What was compared, and with whom.
        detail: String,
    },
    /// The disk failed or the state could not follow the log; the process must end.
    #[error("{0}")]
    Failed(String),
}
