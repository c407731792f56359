//! StateMachine: what the log's commands are applied to. Two implementors: the store, and the map that prints itself
//! in golden scripts.

use std::{panic, path::Path, sync::Arc};

use appliance_storage::{Command, Outcome, Revision, Store, inspect};

use crate::message::SnapshotBody;

/// Writes the state as it was when this was made to a file that a lone member can heal from; answers its bytes.
/// It runs on a thread of its own, for it may take as long as the state is large.
pub type Export = Box<dyn FnOnce() -> Result<u64, String> + Send>;

/// The state that the log builds. Owned by the consensus thread.
///
/// Apply is a function of the state and the command, nothing else. A machine that cannot apply a committed command, or
/// that cannot trust its disk, unwinds: a replica that skips one has forked, and stopping is the only safe answer.
pub trait StateMachine: Send + 'static {
    /// Refuses a command that `apply` could not read. Called before a command is proposed, on its proposer's thread.
    fn check(command: &[u8]) -> Result<(), String>;

    /// The last entry in the state; 0 in a new one.
    fn applied_index(&self) -> u64;

    /// Applies entries in order, all or none of them, together with the index of the last. An empty command is one of
    /// raft's own entries. Answers one outcome for each entry. What it did need not be durable yet.
    fn apply(&mut self, batch: &[(u64, &[u8])]) -> Vec<Vec<u8>>;

    /// Makes everything applied durable.
    fn checkpoint(&mut self);

    /// Fixes the state as it is now, to be written out elsewhere.
    fn export(&self) -> Export;

    /// The entry up to which the log may be cut: durable in the state, and held by a finished export.
    fn log_may_be_cut_to(&self) -> u64;

    /// Does a small piece of work that can wait; whether there is more.
    fn housekeep(&mut self) -> bool;

    /// Fixes the whole state as it is now, for a follower whose next entry was cut.
    fn snapshot(&self) -> SnapshotBody;

    /// Replaces the whole state by a leader's snapshot, durably. The file is complete and was checked.
    fn restore(&mut self, file: &Path);

    /// Reads a snapshot file to its last byte; the applied index in it, or what is wrong with it.
    fn check_snapshot(file: &Path) -> Result<u64, String>;

    /// The revision of the state, and the hash over everything up to it.
    fn chain(&self) -> (u64, [u8; 32]);

    /// The hash over everything up to an earlier revision, as far as it is still known.
    fn chain_at(&self, revision: u64) -> Option<[u8; 32]>;
}

impl StateMachine for Store {
    fn check(command: &[u8]) -> Result<(), String> {
        let command = Command::decode(command).map_err(|error| error.to_string())?;
        command.check().map_err(|error| error.to_string())
    }

    fn applied_index(&self) -> u64 {
        Store::applied_index(self)
    }

    fn apply(&mut self, batch: &[(u64, &[u8])]) -> Vec<Vec<u8>> {
        let batch: Vec<(u64, Option<Command>)> =
            batch.iter().map(|(index, command)| (*index, decode(*index, command))).collect();
        let outcomes = or_stop("apply committed commands", Store::apply(self, &batch));
        outcomes.iter().map(Outcome::encode).collect()
    }

    fn checkpoint(&mut self) {
        or_stop("make the state durable", Store::checkpoint(self));
    }

    fn export(&self) -> Export {
        let snapshot = or_stop("fix the state for export", Store::snapshot(self));
        Box::new(move || {
            let path = snapshot.export().map_err(|error| error.to_string())?;
            let file = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(file.len())
        })
    }

    fn log_may_be_cut_to(&self) -> u64 {
        Store::log_may_be_cut_to(self)
    }

    fn housekeep(&mut self) -> bool {
        or_stop("delete compacted history", Store::purge(self))
    }

    fn snapshot(&self) -> SnapshotBody {
        let snapshot = or_stop("fix the state for a follower", Store::snapshot(self));
        Arc::new(move |out| snapshot.write_to(out).map_err(|error| error.to_string()))
    }

    fn restore(&mut self, file: &Path) {
        or_stop("restore the leader's snapshot", Store::restore_from(self, file));
    }

    fn check_snapshot(file: &Path) -> Result<u64, String> {
        inspect(file).map(|info| info.applied).map_err(|error| error.to_string())
    }

    fn chain(&self) -> (u64, [u8; 32]) {
        let head = self.reader().chain();
        (head.revision.0, head.hash.0)
    }

    fn chain_at(&self, revision: u64) -> Option<[u8; 32]> {
        or_stop("read an old revision's hash", self.reader().chain_at(Revision(revision)))
            .map(|head| head.hash.0)
    }
}

fn decode(index: u64, command: &[u8]) -> Option<Command> {
    if command.is_empty() {
        return None;
    }
    // Checked before it was proposed; if this member still cannot read it, another version wrote it, and guessing
    // would fork the replicas.
    let command = or_stop(&format!("decode committed entry {index}"), Command::decode(command));
    Some(command)
}

/// The one panic of the state: its disk or its invariants failed, and no further answer may be served.
fn or_stop<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    // Unwinds without the hook's line on standard error: this is expected of a full disk, the driver's thread catches it,
    // and whoever waits for the member hears the reason.
    result.unwrap_or_else(|error| panic::resume_unwind(Box::new(format!("{what}: {error}"))))
}
