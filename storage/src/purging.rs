//! Purging: the entries that are current no longer, in the order in which they may go. Pure.
//!
//! An entry is removed before the deletion that superseded it, or together with it: after a crash in between, the index
//! is rebuilt from what is left, and a deletion that went first would bring its record back.

use std::collections::VecDeque;

use crate::{history::Location, holds::Pins, revision::Revision};

/// An entry that is current no longer: once history before `by` is given up, nobody needs `what`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superseded {
    pub(crate) by: Revision,
    pub(crate) what: Location,
}

impl Superseded {
    /// A deletion supersedes itself. So, in a way, does a put that its own transaction overwrote: keeping it as long
    /// costs nothing.
    fn may_be_deletion(&self) -> bool {
        self.what.revision == self.by
    }
}

/// What compaction may remove.
///
/// * `queue` and `aside` are each in the order in which their entries were superseded, and whatever is in `aside` was
///   superseded before whatever is in `queue`.
/// * `aside` is empty while no snapshot is held, once `take` has looked.
#[derive(Debug, Default)]
pub(crate) struct Purging {
    queue: VecDeque<Superseded>,
    /// Would have gone, had a snapshot not held it.
    aside: VecDeque<Superseded>,
}

impl Purging {
    pub(crate) fn new(queue: VecDeque<Superseded>) -> Purging {
        Purging { queue, aside: VecDeque::new() }
    }

    /// More was superseded.
    pub(crate) fn extend(&mut self, superseded: Vec<Superseded>) {
        self.queue.extend(superseded);
    }

    /// Looks at up to `most` entries and answers those to remove now.
    pub(crate) fn take(&mut self, compacted: Revision, pins: Pins, most: usize) -> Vec<Location> {
        if pins.written_until.is_none() {
            while let Some(last) = self.aside.pop_back() {
                self.queue.push_front(last);
            }
        }
        let mut taken = Vec::new();
        for _ in 0..most {
            if !self.is_due(compacted, pins) {
                break;
            }
            let Some(next) = self.queue.pop_front() else { break };
            let held = pins.written_until.is_some_and(|until| next.what.revision <= until);
            // An earlier entry of its key may be aside; which one is not worth knowing.
            if held || next.may_be_deletion() && !self.aside.is_empty() {
                self.aside.push_back(next);
            } else {
                taken.push(next.what);
            }
        }
        taken
    }

    /// Whether there is something to look at.
    pub(crate) fn is_due(&self, compacted: Revision, pins: Pins) -> bool {
        let before = pins.superseded_from.map_or(compacted, |from| from.min(compacted));
        let next = if pins.written_until.is_none() { self.aside.front() } else { None };
        next.or(self.queue.front()).is_some_and(|next| next.by < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superseded(what: u64, by: u64) -> Superseded {
        Superseded { by: Revision(by), what: Location { revision: Revision(what), sub: 0 } }
    }

    fn purging() -> Purging {
        // 2 and 4 are puts of one key, 6 its deletion; 3 and 5 puts of another, which 7 overwrote.
        let entries = [(2, 4), (3, 5), (4, 6), (6, 6), (5, 7)];
        Purging::new(entries.into_iter().map(|(what, by)| superseded(what, by)).collect())
    }

    fn take(purging: &mut Purging, compacted: u64, pins: Pins) -> Vec<u64> {
        purging.take(Revision(compacted), pins, 100).iter().map(|at| at.revision.0).collect()
    }

    #[test]
    fn what_was_superseded_before_the_cut_goes_in_order() {
        let mut purging = purging();
        assert_eq!(take(&mut purging, 4, Pins::default()), [0; 0]);
        assert_eq!(take(&mut purging, 6, Pins::default()), [2, 3]);
        assert_eq!(take(&mut purging, 100, Pins::default()), [4, 6, 5]);
    }

    #[test]
    fn a_reader_keeps_what_was_kept_when_it_began_and_nothing_older() {
        let reader = Pins { superseded_from: Some(Revision(6)), written_until: None };
        let mut purging = purging();
        assert_eq!(take(&mut purging, 100, reader), [2, 3]);
        assert!(!purging.is_due(Revision(100), reader));
        assert_eq!(take(&mut purging, 100, Pins::default()), [4, 6, 5]);
    }

    #[test]
    fn a_snapshot_keeps_its_own_entries_and_deletions_and_lets_younger_puts_go() {
        let snapshot = Pins { superseded_from: None, written_until: Some(Revision(3)) };
        let mut purging = purging();
        assert_eq!(take(&mut purging, 100, snapshot), [4, 5], "2 and 3 are held, 6 keeps 2 deleted");
        assert!(!purging.is_due(Revision(100), snapshot));
        assert!(purging.is_due(Revision(100), Pins::default()), "what it held is due when it is gone");
        assert_eq!(take(&mut purging, 100, Pins::default()), [2, 3, 6]);
        assert!(!purging.is_due(Revision(100), Pins::default()));
    }
}
