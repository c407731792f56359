//! Intrusion: what others did to our table and is not put right yet, and how long a repair waits when they do it again.
//!
//! Kept by the reconciler from the announcement to the repair, however many attempts lie between, so that nothing that
//! was repaired goes unreported.

use std::time::Duration;

use tokio::time::Instant;

use crate::enforcer::Intruder;
use crate::nft::actual::Drift;

/// Differences that are named; a report holds a few lines, the kernel could differ in thousands of places.
const NAMED_MAX: usize = 16;
/// Announcements that are named between the first and the repair.
const SUSPECTS_MAX: usize = 3;
/// An audit this soon after another means that something fights us.
const FIGHT_WINDOW: Duration = Duration::from_secs(10);
/// Each audit in a fight waits this much longer.
const FIGHT_STEP: Duration = Duration::from_millis(50);
/// Even in a fight a repair comes well within the promised second.
pub(crate) const FIGHT_MAX: Duration = Duration::from_millis(500);

/// Something others did.
#[derive(Default)]
pub(crate) struct Intrusion {
    found: Vec<String>,
    unnamed: usize,
    by: Vec<String>,
    last: Option<Instant>,
    rounds: u32,
}

impl Intrusion {
    /// How long to wait before looking: not at all, unless the last time was just now. What arrives meanwhile is looked
    /// at in one go, so that whoever commits a thousand times a second costs two listings.
    pub(crate) fn pause(&mut self) -> Duration {
        let now = Instant::now();
        let fighting = self.last.is_some_and(|last| now.duration_since(last) < FIGHT_WINDOW);
        self.rounds = if fighting { self.rounds.saturating_add(1) } else { 0 };
        self.last = Some(now);
        FIGHT_STEP.saturating_mul(self.rounds).min(FIGHT_MAX)
    }

    /// Someone touched our table; what they changed is found next.
    pub(crate) fn suspect(&mut self, intruder: Intruder) {
        if let Intruder::Process(process) = intruder
            && self.by.len() < SUSPECTS_MAX
        {
            self.by.push(process);
        }
    }

    /// What an audit found; says whether anything is to be put right.
    pub(crate) fn found(&mut self, drift: Vec<Drift>) -> bool {
        for Drift(change) in drift {
            if self.found.contains(&change) {
                continue;
            }
            if self.found.len() < NAMED_MAX { self.found.push(change) } else { self.unnamed += 1 }
        }
        if self.found.is_empty() {
            self.by.clear();
        }
        self.is_pending()
    }

    /// Whether something was found and is not put right yet.
    pub(crate) fn is_pending(&self) -> bool {
        !self.found.is_empty()
    }

    /// It is put right: what it was and who did it, for the report. None if there was nothing.
    pub(crate) fn repaired(&mut self) -> Option<String> {
        let words = self.is_pending().then(|| self.words());
        (self.found, self.unnamed, self.by) = (Vec::new(), 0, Vec::new());
        words
    }

    /// What was found, in words.
    pub(crate) fn words(&self) -> String {
        let mut words = self.found.join(", ");
        if self.unnamed > 0 {
            words.push_str(&format!(" and {} more", self.unnamed));
        }
        if !self.by.is_empty() {
            words.push_str(&format!(" (by {})", self.by.join("; ")));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(changes: &[&str]) -> Vec<Drift> {
        changes.iter().map(|change| Drift((*change).to_owned())).collect()
    }

    #[test]
    fn what_is_found_in_several_attempts_is_one_report() {
        let mut intrusion = Intrusion::default();
        intrusion.suspect(Intruder::Process("nft (pid 7): deleted the table".to_owned()));
        assert!(intrusion.found(drift(&["the table was deleted"])));
        intrusion.suspect(Intruder::Unknown);
        assert!(intrusion.found(drift(&["the table was deleted", "chain c was added"])));
        let words = "the table was deleted, chain c was added (by nft (pid 7): deleted the table)";
        assert_eq!(intrusion.repaired().as_deref(), Some(words));
        assert_eq!(intrusion.repaired(), None);
    }

    #[test]
    fn who_changed_nothing_is_not_blamed_for_the_next() {
        let mut intrusion = Intrusion::default();
        intrusion.suspect(Intruder::Process("nft (pid 7): added set s".to_owned()));
        assert!(!intrusion.found(Vec::new()));
        intrusion.found(drift(&["set s was changed"]));
        assert_eq!(intrusion.repaired().as_deref(), Some("set s was changed"));
    }

    #[test]
    fn the_list_is_bounded() {
        let mut intrusion = Intrusion::default();
        intrusion.found((0..100).map(|number| Drift(format!("set {number}"))).collect());
        assert!(intrusion.words().ends_with("set 15 and 84 more"), "{}", intrusion.words());
    }
}
