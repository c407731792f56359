//! WatchHub: the newest changes in memory, and the bell that wakes whoever waits for more.
//!
//! Watchers are not pushed to. Each keeps its own place and takes what comes after it, here or from history, so a slow
//! one costs nothing but its place, and one copy of every event serves them all. The ring is bounded by events and by
//! bytes; what falls out of it is still in `rev`.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;

use crate::{event::Change, revision::Revision};

/// The most changes handed out at once, so that a watcher far behind does not hold the lock or the thread for long.
const CHANGES_PER_PAGE: usize = 128;

/// How far the store is: what rings the bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) applied: u64,
    pub(crate) revision: Revision,
    /// No more will come.
    pub(crate) stopped: bool,
}

#[derive(Debug)]
pub(crate) struct WatchHub {
    ring: RwLock<Ring>,
    bell: watch::Sender<Progress>,
}

/// * The changes are contiguous and end at `newest`.
/// * Together they hold at most `events_max` events and `bytes_max` bytes.
#[derive(Debug)]
struct Ring {
    changes: VecDeque<Arc<Change>>,
    newest: Revision,
    events: usize,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

/// What comes after a place in the history.
pub(crate) enum After {
    /// Nothing yet.
    UpToDate,
    /// These, the next ones in order.
    Recent(Vec<Arc<Change>>),
    /// Something that is in memory no longer; the ring begins after this revision.
    Older { until: Revision },
}

impl WatchHub {
    pub(crate) fn new(progress: Progress, events_max: usize, bytes_max: usize) -> WatchHub {
        let changes = VecDeque::new();
        let ring = Ring { changes, newest: progress.revision, events: 0, bytes: 0, events_max, bytes_max };
        WatchHub { ring: RwLock::new(ring), bell: watch::Sender::new(progress) }
    }

    /// A bell of one's own.
    pub(crate) fn bell(&self) -> watch::Receiver<Progress> {
        self.bell.subscribe()
    }

    /// Takes in the changes of an applied batch and wakes everyone.
    pub(crate) fn publish(&self, applied: u64, changes: Vec<Arc<Change>>) {
        let revision = {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            changes.into_iter().for_each(|change| ring.push(change));
            ring.newest
        };
        self.bell.send_modify(|progress| *progress = Progress { applied, revision, ..*progress });
    }

    /// Starts over at another state: what is between is not in memory.
    pub(crate) fn reset(&self, progress: Progress) {
        {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.changes.clear();
            (ring.events, ring.bytes, ring.newest) = (0, 0, progress.revision);
        }
        self.bell.send_replace(progress);
    }

    /// No more will come.
    pub(crate) fn stop(&self) {
        self.bell.send_modify(|progress| progress.stopped = true);
    }

    /// The next changes after a revision.
    pub(crate) fn after(&self, revision: Revision) -> After {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if revision >= ring.newest {
            return After::UpToDate;
        }
        let until = ring.changes.front().map_or(ring.newest, |change| change.revision.previous());
        if revision < until {
            return After::Older { until };
        }
        let skip = (revision.0 - until.0) as usize;
        After::Recent(ring.changes.iter().skip(skip).take(CHANGES_PER_PAGE).cloned().collect())
    }

    /// The newest revision published.
    pub(crate) fn newest(&self) -> Revision {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).newest
    }
}

impl Ring {
    fn push(&mut self, change: Arc<Change>) {
        self.newest = change.revision;
        self.events += change.events.len();
        self.bytes += change.bytes();
        self.changes.push_back(change);
        while self.events > self.events_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.events -= oldest.events.len();
            self.bytes -= oldest.bytes();
        }
    }
}
