//! Watcher: skeleton.
use crate::*;
use std::sync::Arc;

/// A place in the history and what comes after it.
pub struct Watcher {}

/// The history asked for is gone: list, and watch from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("history before revision {compacted} has been compacted; revision {after} was asked for")]
pub struct Compacted {
    /// The revision after which events were asked for.
    pub after: Revision,
    /// The first revision whose events are kept.
    pub compacted: Revision,
}

/// Why a watch ended. Everything up to `delivered` was delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchClosed {
    /// It fell too far behind; it may resume after `delivered`.
    #[error("watcher fell too far behind; delivered up to revision {delivered}")]
    TooSlow {
        /// The last revision delivered.
        delivered: Revision,
    },
    /// What it had not seen yet was compacted: list anew.
    #[error("history before revision {compacted} has been compacted; delivered up to revision {delivered}")]
    Compacted {
        /// The last revision delivered.
        delivered: Revision,
        /// The first revision whose events are kept.
        compacted: Revision,
    },
    /// The store has stopped.
    #[error("the store has stopped; delivered up to revision {delivered}")]
    Shutdown {
        /// The last revision delivered.
        delivered: Revision,
    },
    /// The store has failed.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

impl Watcher {
    /// The next events, whole revisions in order; waits for one. May be dropped while waiting: nothing is lost.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, WatchClosed> {
        Ok(Vec::new())
    }
    /// Every event at or before this revision was delivered: what a bookmark may say.
    pub fn progress(&self) -> Revision {
        Revision::FIRST
    }
}
