//! Watcher: a place in the history and everything that comes after it; no gap, no repeat, in order, whole revisions.
//!
//! A watcher takes from the hub's ring, and from `rev` what the ring no longer has. It begins by catching up, which
//! may take as long as its reader likes, bounded only by compaction; once it has been up to date it may fall behind by
//! `watch_lag_revisions` and is then closed, with the last revision delivered, to resume from.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    error::Fatal,
    event::{Change, Event},
    hub::{After, Progress},
    key::Key,
    reader::Shared,
    revision::Revision,
};

/// Revisions read from disk at a time: some milliseconds, then other tasks have their turn.
const REPLAY_PAGE_REVISIONS: u64 = 128;

/// The history asked for is gone: list, and watch from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "history before revision {compacted} has been compacted; events after revision {after} were asked for"
)]
pub struct Compacted {
    /// The revision after which events were asked for.
    pub after: Revision,
    /// The first revision whose events are kept.
    pub compacted: Revision,
}

/// Why a watch ended. Everything up to `delivered` was delivered, and nothing after it.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Has not been up to date yet.
    CatchingUp,
    /// Has been up to date; may fall behind only so far.
    Live,
}

/// A subscription to the changes under a prefix.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    bell: watch::Receiver<Progress>,
    prefix: Key,
    delivered: Revision,
    pace: Pace,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, prefix: Key, after: Revision) -> Watcher {
        let bell = shared.hub.bell();
        Watcher { shared, bell, prefix, delivered: after, pace: Pace::CatchingUp }
    }

    /// The next events: whole revisions, in order. Waits until there are some. May be dropped while it waits. Catching
    /// up reads a page of revisions from disk at a time, some milliseconds, and yields in between.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, WatchClosed> {
        loop {
            // Looked at before the changes, so that one published in between rings the bell again.
            let progress = *self.bell.borrow_and_update();
            match self.take_page()? {
                Some(events) if !events.is_empty() => return Ok(events),
                Some(_) => tokio::task::yield_now().await,
                None if progress.stopped => return Err(WatchClosed::Shutdown { delivered: self.delivered }),
                None => {
                    self.pace = Pace::Live;
                    // The bell's other end lives in `shared`, which this holds, so it can not be gone.
                    let _ = self.bell.changed().await;
                }
            }
        }
    }

    /// Every event at or before this revision was delivered: what a bookmark may say. It moves on while `next` waits,
    /// also past revisions that changed nothing under the prefix.
    pub fn progress(&self) -> Revision {
        self.delivered
    }

    /// The matching events of the next few changes; `None` when there are no changes.
    fn take_page(&mut self) -> Result<Option<Vec<Arc<Event>>>, WatchClosed> {
        let changes = match self.shared.hub.after(self.delivered) {
            After::UpToDate => return Ok(None),
            After::Recent(changes) => changes,
            // The empty store's own revision has no changes: past it, though nothing was read.
            After::Older { until } if until <= Revision::FIRST => {
                self.delivered = until;
                return Ok(Some(Vec::new()));
            }
            After::Older { until } => self.replay(until)?,
        };
        let last = changes.last().map(|change| change.revision);
        self.delivered = last.unwrap_or(self.delivered);
        Ok(Some(changes.iter().flat_map(|change| self.matching(change)).collect()))
    }

    fn replay(&self, until: Revision) -> Result<Vec<Arc<Change>>, WatchClosed> {
        let delivered = self.delivered;
        let behind = self.shared.hub.newest().0.saturating_sub(delivered.0);
        if self.pace == Pace::Live && behind > self.shared.watch_lag_revisions {
            return Err(WatchClosed::TooSlow { delivered });
        }
        let replayed = self.shared.replay(delivered, until, REPLAY_PAGE_REVISIONS)?;
        replayed.map_err(|compacted| WatchClosed::Compacted { delivered, compacted })
    }

    fn matching(&self, change: &Change) -> impl Iterator<Item = Arc<Event>> {
        let events = change.events.iter().filter(|event| event.key.starts_with(&self.prefix));
        events.cloned().collect::<Vec<_>>().into_iter()
    }
}
