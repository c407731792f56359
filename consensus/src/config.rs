//! Settings of one member. Plain values: nothing here reads a file, a flag or the environment.

use std::{path::PathBuf, time::Duration};

/// A command larger than this is refused before it is queued; etcd's limit for a request.
pub const COMMAND_BYTES_MAX: usize = 1_536 * 1_024;

/// Bytes of proposals the leader holds uncommitted; beyond it a proposer hears `Busy`. Sixteen of the largest commands.
pub(crate) const UNCOMMITTED_BYTES_MAX: u64 = 24 * 1_024 * 1_024;

/// Bytes of committed entries one Ready hands to apply, so that catching up is many short transactions, not a long one.
pub(crate) const COMMITTED_BYTES_PER_READY_MAX: u64 = 4 * 1_024 * 1_024;

/// Bytes of entries in one append message to a follower.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 256 * 1_024;

/// Append messages on the way to one follower; with [`MESSAGE_BYTES_MAX`] it bounds the bytes in flight to 64 MiB.
pub(crate) const INFLIGHT_MESSAGES_MAX: usize = 256;

/// How one member runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's id: not zero, never used again once its data is gone.
    pub node_id: u64,
    /// The cluster, as a number that no other has: a log says whose it is. 0 asks nothing, and says nothing.
    pub cluster: u64,
    /// Where the member keeps its data; the log lies in `wal` below it.
    pub data_dir: PathBuf,
    /// The length of one tick of raft's clock.
    pub tick: Duration,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Ticks without a leader before an election; the timeout drawn lies between one and two of these.
    pub election_ticks: usize,
    /// Entries applied since the last checkpoint that make the next one due.
    pub checkpoint_entries: u64,
    /// Bytes of entries applied since the last checkpoint that make the next one due.
    pub checkpoint_bytes: u64,
    /// Entries kept behind a checkpoint, so that a follower that lags a little needs no snapshot.
    pub retained_entries: u64,
    /// Entries kept at most for a follower that lives and lags more than that, before it gets a snapshot instead.
    pub lag_entries: u64,
    /// Bytes of log files above which no entries are kept for such a follower.
    pub lag_bytes: u64,
    /// Bytes of one file of the log.
    pub wal_file_bytes: u64,
    /// Learners that caught up are promoted while there are fewer voters than this; with 0 none ever is by itself.
    pub voters_max: usize,
    /// Ticks of silence after which a voter is replaced by a learner that caught up; with `None` none ever is by itself.
    pub replace_after_ticks: Option<u32>,
    /// The cluster has removed this member, and its log may not have heard of it.
    pub removed: bool,
}

impl Config {
    /// The settings a member runs with unless an operator says otherwise.
    pub fn new(node_id: u64, data_dir: impl Into<PathBuf>) -> Config {
        Config {
            node_id,
            cluster: 0,
            data_dir: data_dir.into(),
            tick: Duration::from_millis(100),
            heartbeat_ticks: 1,
            election_ticks: 10,
            checkpoint_entries: 100_000,
            checkpoint_bytes: 64 * 1_024 * 1_024,
            retained_entries: 5_000,
            lag_entries: 500_000,
            lag_bytes: 512 * 1_024 * 1_024,
            wal_file_bytes: 16 * 1_024 * 1_024,
            voters_max: 5,
            // Ten minutes: longer than a reboot, shorter than anybody's night.
            replace_after_ticks: Some(6_000),
            removed: false,
        }
    }

    /// Ticks in a second, which is how often members send each other a sign of life.
    pub(crate) fn ticks_per_second(&self) -> u32 {
        let ticks = Duration::from_secs(1).as_nanos() / self.tick.as_nanos().max(1);
        u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
    }

    /// What raft, or we, cannot run with.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.node_id == 0 {
            return Err("the member's id is 0".to_owned());
        }
        if self.tick.is_zero() {
            return Err("a tick has no length".to_owned());
        }
        if self.heartbeat_ticks == 0 || self.election_ticks <= self.heartbeat_ticks {
            let (heartbeat, election) = (self.heartbeat_ticks, self.election_ticks);
            return Err(format!(
                "{election} ticks to an election must be more than {heartbeat} to a heartbeat, and that more than none"
            ));
        }
        if self.checkpoint_entries == 0 || self.checkpoint_bytes == 0 || self.wal_file_bytes == 0 {
            return Err("a checkpoint or a file of the log would hold nothing".to_owned());
        }
        Ok(())
    }

    /// The log's directory.
    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.data_dir.join("wal")
    }

    /// The same settings in raft's words. `applied` is what the state machine holds.
    pub(crate) fn to_raft(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.node_id,
            election_tick: self.election_ticks,
            heartbeat_tick: self.heartbeat_ticks,
            applied,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            // A leader without a quorum steps down, and a member that was away cannot depose a leader that works.
            check_quorum: true,
            pre_vote: true,
            // Never leases: a process that was paused would serve stale reads (reference/store.md 5.4).
            read_only_option: raft::ReadOnlyOption::Safe,
            // Raft joins appends that do not follow each other; `batch` joins those that do.
            batch_append: false,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
            ..raft::Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_raft_leaves_unbounded_stays_so() {
        let raft = Config::new(1, "/nowhere").to_raft(0);
        assert!(raft.max_inflight_msgs as u64 * raft.max_size_per_msg <= 64 * 1_024 * 1_024);
        assert!(raft.max_uncommitted_size < u64::MAX && raft.max_committed_size_per_ready < u64::MAX);
        assert!(raft.check_quorum && raft.pre_vote && raft.read_only_option == raft::ReadOnlyOption::Safe);
    }

    #[test]
    fn a_second_is_a_number_of_ticks_and_never_none() {
        let ticks = |millis| {
            Config { tick: Duration::from_millis(millis), ..Config::new(1, "/nowhere") }.ticks_per_second()
        };
        assert_eq!((ticks(100), ticks(300), ticks(5_000)), (10, 3, 1));
    }

    #[test]
    fn what_raft_would_panic_on_is_refused() {
        let good = Config::new(1, "/nowhere");
        assert_eq!(good.check(), Ok(()));
        assert!(good.to_raft(0).validate().is_ok());
        for bad in [
            Config { node_id: 0, ..good.clone() },
            Config { tick: Duration::ZERO, ..good.clone() },
            Config { heartbeat_ticks: 0, ..good.clone() },
            Config { heartbeat_ticks: 10, ..good.clone() },
            Config { checkpoint_entries: 0, ..good.clone() },
            Config { wal_file_bytes: 0, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
