//! Offline: a stopped member's log, read to its end, and the beginning of a new one. For disaster recovery only.
//!
//! [`replay`] carries out every entry the log still holds, also those that were not known to be committed: without a
//! quorum nobody can say which of them were acknowledged, and dropping one that was would be the worse mistake. It
//! says how many those are. [`begin`] writes the log of a cluster of one behind a state that is there already. Neither
//! may run beside the member: the log's own lock sees to that. Nothing here talks to anybody.

use std::{
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
};

use raft::eraftpb::EntryType;

use crate::{
    config::Config,
    error::StartError,
    log::{self, BOOTSTRAP_INDEX, Log},
    panics,
    state_machine::StateMachine,
    wal::{Wal, WalError},
};

/// Bytes of entries read and applied at once.
const REPLAY_BYTES: u64 = 1_024 * 1_024;

/// What a stopped member's log held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The last entry in the state before.
    pub applied_before: u64,
    /// The last entry in the state now: the last in the log.
    pub applied: u64,
    /// The last entry known to be committed. Every member with a quorum has the entries up to here; those after it may
    /// have been acknowledged, or may never have left this member.
    pub known_committed: u64,
    /// The term of the last entry. Of two survivors' logs the one with the newer term holds more, however long the other.
    pub last_term: u64,
    /// The newest term this member took part in.
    pub term: u64,
    /// Who voted, by what this member last heard.
    pub voters: Vec<u64>,
}

impl Replayed {
    /// The entries applied that were not known to be committed.
    pub fn in_doubt(&self) -> RangeInclusive<u64> {
        self.known_committed + 1..=self.applied
    }
}

/// Applies everything in the log of the member that `config` names and `machine` does not hold yet. The log itself stays
/// as it is; its checks are those of a start.
pub fn replay<M: StateMachine>(config: &Config, machine: &mut M) -> Result<Replayed, StartError> {
    let dir = config.wal_dir();
    if !dir.is_dir() {
        let reason = "there is none".to_owned();
        return Err(WalError::Open { dir, reason }.into());
    }
    let applied_before = machine.applied_index();
    let mut log = Log::open(config, &[], applied_before)?;
    log.agree_with(log.applied_floor(applied_before))?;
    let mut next = log.applied_floor(applied_before) + 1;
    while next <= log.last() {
        let page = log.page(next, REPLAY_BYTES)?;
        let batch: Vec<(u64, &[u8])> = page
            .iter()
            .map(|entry| match entry.get_entry_type() {
                EntryType::EntryNormal => (entry.index, &entry.data[..]),
                // Who votes is for the new cluster to say.
                _ => (entry.index, b"".as_slice()),
            })
            .collect();
        let apply = AssertUnwindSafe(|| machine.apply(&batch));
        // The state panics over what it can not apply; here that is one more thing to tell the operator.
        catch_unwind(apply).map_err(|panic| StartError::State(panics::message(&*panic)))?;
        next += page.len() as u64;
    }
    catch_unwind(AssertUnwindSafe(|| machine.checkpoint()))
        .map_err(|panic| StartError::State(panics::message(&*panic)))?;
    Ok(Replayed {
        applied_before,
        applied: machine.applied_index(),
        known_committed: log.commit().max(applied_before),
        last_term: log.last_term(),
        term: log.newest_term(),
        voters: log.voters(),
    })
}

/// Makes the log of a cluster of one whose only voter is `config.node_id`, in a directory that has none. Its first entry
/// will follow `index`, which the state machine must hold; answers the index, for a log can not begin behind nothing.
pub fn begin(config: &Config, index: u64) -> Result<u64, StartError> {
    config.check().map_err(StartError::Config)?;
    let dir = config.wal_dir();
    let mut wal = Wal::open(&dir, config.wal_file_bytes)?;
    if wal.get::<raft::eraftpb::SnapshotMetadata>(crate::wal::Slot::Member)?.is_some() {
        let reason = "there is one already".to_owned();
        return Err(WalError::Open { dir, reason }.into());
    }
    let index = index.max(BOOTSTRAP_INDEX);
    log::bootstrap_at(&mut wal, config, &[config.node_id], index)?;
    Ok(index)
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{Entry, HardState};

    use super::*;
    use crate::map::Map;

    fn entry(index: u64, data: &[u8]) -> Entry {
        let mut entry = Entry::default();
        (entry.index, entry.term) = (index, 3);
        entry.data = data.to_vec().into();
        entry
    }

    fn config(folder: &tempfile::TempDir) -> Config {
        Config { cluster: 9, ..Config::new(7, folder.path()) }
    }

    /// A log with entries 2 to 5, of which 4 is the last that was known to be committed.
    fn left_behind(folder: &tempfile::TempDir) -> Config {
        let config = config(folder);
        let mut log = Log::open(&config, &[7, 8, 9], 0).unwrap();
        let mut hard_state = HardState::default();
        (hard_state.term, hard_state.commit) = (4, 4);
        let entries = [entry(2, b""), entry(3, b"a=1"), entry(4, b"b=2"), entry(5, b"a=3")];
        log.append(&entries, Some(&hard_state)).unwrap();
        config
    }

    #[test]
    fn everything_is_applied_and_what_is_in_doubt_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = left_behind(&folder);
        let mut machine = Map::open(folder.path());
        let replayed = replay(&config, &mut machine).unwrap();
        assert_eq!(machine.to_string(), "@5 {a=3 b=2}");
        assert_eq!(
            replayed,
            Replayed {
                applied_before: 0,
                applied: 5,
                known_committed: 4,
                last_term: 3,
                term: 4,
                voters: vec![7, 8, 9]
            }
        );
        assert_eq!(replayed.in_doubt(), 5..=5);
        let again = replay(&config, &mut machine).unwrap();
        assert_eq!(
            (again.applied_before, again.applied),
            (5, 5),
            "a second time there is nothing left to do"
        );
    }

    #[test]
    fn an_entry_the_state_can_not_apply_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let config = left_behind(&folder);
        let error = replay(&config, &mut Map::open(folder.path()).failing_at(4)).unwrap_err();
        assert!(error.to_string().contains("failed at entry 4"), "{error}");
    }

    #[test]
    fn without_a_log_or_with_anothers_nothing_is_replayed() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let error = replay(&config, &mut Map::open(folder.path())).unwrap_err().to_string();
        assert!(error.contains("there is none"), "{error}");
        assert!(!config.wal_dir().exists(), "and none was made");
        left_behind(&folder);
        let other = Config { cluster: 1, ..config };
        assert!(matches!(
            replay(&other, &mut Map::open(folder.path())),
            Err(StartError::WrongCluster { .. })
        ));
    }

    #[test]
    fn a_new_log_begins_behind_the_state_and_its_only_voter_leads_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = left_behind(&folder);
        replay(&config, &mut Map::open(folder.path())).unwrap();

        let new = tempfile::tempdir().unwrap();
        let config = Config { cluster: 10, ..Config::new(70, new.path()) };
        assert_eq!(begin(&config, 5).unwrap(), 5);
        assert!(begin(&config, 5).is_err(), "only once");

        let mut log = Log::open(&config, &[], 5).unwrap();
        log.agree_with(5).unwrap();
        assert_eq!((log.first(), log.last(), log.voters()), (6, 5, vec![70]));
        let mut node = crate::node::Node::start(&config, log, 5, 1).unwrap();
        node.campaign_if_alone();
        assert!(node.has_ready());
    }

    #[test]
    fn a_log_behind_nothing_begins_where_every_cluster_does() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(begin(&config(&folder), 0).unwrap(), BOOTSTRAP_INDEX);
    }
}
