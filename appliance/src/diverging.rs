//! Diverging: a store that can be made to hold something else than its peers'. Test builds only; see [`crate::planted`].
//!
//! What it does wrong is what a flipped bit or a bug would do: one write is applied with another value than was agreed
//! on, and nothing on this node notices. A member that has begun again makes the mistake no more, or no fresh copy could
//! ever mend it.

use std::path::Path;

use appliance_consensus::{Export, SnapshotBody, StateMachine};
use appliance_storage::Store;

use crate::cluster::reseed;

/// A write that names this is the one.
const TRIGGER: &[u8] = b"diverge-me";

/// What is in it, and what is applied instead; of one length, for lengths are written before values.
const AGREED: &[u8] = b"agreed";
const APPLIED: &[u8] = b"differ";

/// A store, and whether it is yet to differ.
pub(crate) struct Diverging {
    store: Store,
    armed: bool,
}

impl Diverging {
    /// The store; `planted` says whether it is to make the mistake.
    pub(crate) fn new(store: Store, data_dir: &Path, planted: bool) -> Diverging {
        Diverging { store, armed: planted && !has_begun_again(data_dir) }
    }
}

/// Whether this member has set data aside before.
fn has_begun_again(data_dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(data_dir) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(reseed::ASIDE))
}

/// The command as it is applied instead, if it is the one.
fn otherwise(command: &[u8]) -> Option<Vec<u8>> {
    let place = |what: &[u8]| command.windows(what.len()).position(|window| window == what);
    let _ = place(TRIGGER)?;
    let agreed = place(AGREED)?;
    let mut other = command.to_vec();
    other.get_mut(agreed..agreed + APPLIED.len())?.copy_from_slice(APPLIED);
    Some(other)
}

impl StateMachine for Diverging {
    fn check(command: &[u8]) -> Result<(), String> {
        <Store as StateMachine>::check(command)
    }

    fn applied_index(&self) -> u64 {
        StateMachine::applied_index(&self.store)
    }

    fn apply(&mut self, batch: &[(u64, &[u8])]) -> Vec<Vec<u8>> {
        let others: Vec<Option<Vec<u8>>> =
            batch.iter().map(|(_, command)| self.armed.then(|| otherwise(command)).flatten()).collect();
        let batch: Vec<(u64, &[u8])> = batch
            .iter()
            .zip(&others)
            .map(|((at, command), other)| (*at, other.as_deref().unwrap_or(command)))
            .collect();
        StateMachine::apply(&mut self.store, &batch)
    }

    fn checkpoint(&mut self) {
        StateMachine::checkpoint(&mut self.store);
    }

    fn export(&self) -> Export {
        StateMachine::export(&self.store)
    }

    fn log_may_be_cut_to(&self) -> u64 {
        StateMachine::log_may_be_cut_to(&self.store)
    }

    fn housekeep(&mut self) -> bool {
        StateMachine::housekeep(&mut self.store)
    }

    fn snapshot(&self) -> SnapshotBody {
        StateMachine::snapshot(&self.store)
    }

    fn restore(&mut self, file: &Path) {
        StateMachine::restore(&mut self.store, file);
    }

    fn check_snapshot(file: &Path) -> Result<u64, String> {
        <Store as StateMachine>::check_snapshot(file)
    }

    fn chain(&self) -> (u64, [u8; 32]) {
        StateMachine::chain(&self.store)
    }

    fn chain_at(&self, revision: u64) -> Option<[u8; 32]> {
        StateMachine::chain_at(&self.store, revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_is_applied_otherwise_and_every_other_as_it_is() {
        assert_eq!(otherwise(b"diverge-me: agreed"), Some(b"diverge-me: differ".to_vec()));
        assert_eq!(otherwise(b"another: agreed"), None);
        assert_eq!(otherwise(b""), None);
    }
}
