//! Compactor: keeps the store's history within its bounds.
//!
//! The store says where history should be cut, the leader proposes it, and every replica cuts at the same place; this
//! is the clock that asks. A cut that fails is no event: the next one does it.

use std::time::Duration;

use appliance_consensus::Raft;
use appliance_storage::{Command, Reader};

use crate::author;

/// History may outgrow its bounds by what is written in this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// Runs until it is aborted; whatever it was doing is done again by the next one.
pub(crate) async fn run(raft: Raft, reader: Reader) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if raft.status().is_leader() {
            compact(&raft, &reader).await;
        }
    }
}

async fn compact(raft: &Raft, reader: &Reader) {
    let before = match reader.compaction_due(author::now_ms()) {
        Ok(Some(before)) => before,
        Ok(None) => return,
        Err(error) => return tracing::warn!("could not ask the store about its history: {error}"),
    };
    match raft.propose(Command::Compact { before }.encode()).await {
        Ok(_) => tracing::debug!("gave up the history before revision {before}"),
        Err(error) => tracing::debug!("history before revision {before} stays for now: {error}"),
    }
}
