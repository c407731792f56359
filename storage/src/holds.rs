//! Holds: who is reading, and what purging has to leave alone for them. Pure.
//!
//! A hold never stops purging, it only bounds what may go: a store that is read without a pause, or whose snapshot
//! takes minutes to reach a slow member, still gives up what it no longer needs.
//!
//! * A reader looks entries up by name. It may read what was current or retained when it began, so it keeps what was
//!   superseded at or after the first revision that was kept then.
//! * A snapshot walks over rows, and must find none of them half gone. It keeps every entry of a revision up to its own,
//!   which is a state once, however long it takes; what is written and superseded meanwhile comes and goes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::revision::Revision;

/// Everyone who holds something. At most one entry for each distinct revision, so it is as small as readers are few.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// By the first revision kept when they began.
    readers: BTreeMap<Revision, usize>,
    /// By the revision they are of.
    snapshots: BTreeMap<Revision, usize>,
}

/// One reader or snapshot; what it holds is free when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Arc<Holds>,
    by: HeldBy,
}

#[derive(Clone, Copy, Debug)]
enum HeldBy {
    Reader { kept_from: Revision },
    Snapshot { of: Revision },
}

/// What must stay at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// For readers: whatever was superseded here or later.
    pub(crate) superseded_from: Option<Revision>,
    /// For snapshots: every entry written here or earlier.
    pub(crate) written_until: Option<Revision>,
}

impl Holds {
    /// For somebody who reads entries that are current, or whose events are kept from `kept_from` on.
    pub(crate) fn read(self: &Arc<Holds>, kept_from: Revision) -> Hold {
        self.take(HeldBy::Reader { kept_from })
    }

    /// For a snapshot of a revision.
    pub(crate) fn snapshot(self: &Arc<Holds>, of: Revision) -> Hold {
        self.take(HeldBy::Snapshot { of })
    }

    /// What must stay now.
    pub(crate) fn pins(&self) -> Pins {
        let held = self.lock();
        Pins {
            superseded_from: held.readers.first_key_value().map(|(revision, _)| *revision),
            written_until: held.snapshots.last_key_value().map(|(revision, _)| *revision),
        }
    }

    fn take(self: &Arc<Holds>, by: HeldBy) -> Hold {
        *self.lock().counts(by).entry(by.revision()).or_default() += 1;
        Hold { holds: self.clone(), by }
    }

    // Nothing in here can panic between two changes.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn counts(&mut self, by: HeldBy) -> &mut BTreeMap<Revision, usize> {
        match by {
            HeldBy::Reader { .. } => &mut self.readers,
            HeldBy::Snapshot { .. } => &mut self.snapshots,
        }
    }
}

impl HeldBy {
    fn revision(self) -> Revision {
        match self {
            HeldBy::Reader { kept_from } => kept_from,
            HeldBy::Snapshot { of } => of,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.lock();
        let counts = held.counts(self.by);
        let revision = self.by.revision();
        match counts.get_mut(&revision) {
            Some(others) if *others > 1 => *others -= 1,
            _ => drop(counts.remove(&revision)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_reader_and_the_latest_snapshot_decide_until_they_are_gone() {
        let holds = Arc::new(Holds::default());
        assert_eq!(holds.pins(), Pins::default());
        let (early, twin) = (holds.read(Revision(3)), holds.read(Revision(3)));
        let late = holds.read(Revision(9));
        let (old, new) = (holds.snapshot(Revision(20)), holds.snapshot(Revision(30)));
        let pins = |from, until| Pins { superseded_from: from, written_until: until };
        assert_eq!(holds.pins(), pins(Some(Revision(3)), Some(Revision(30))));
        drop((early, new));
        assert_eq!(holds.pins(), pins(Some(Revision(3)), Some(Revision(20))), "its twin still reads");
        drop((twin, old));
        assert_eq!(holds.pins(), pins(Some(Revision(9)), None));
        drop(late);
        assert_eq!(holds.pins(), Pins::default());
    }
}
