//! Divergence: whose state is not what was agreed on. Pure: beats in, verdict out.
//!
//! Every member compares the hash over its history with every other's, at a revision both have. They never differ, unless
//! memory, a disk or a version of this program does not do what the log says. Then the odd one out stops: it is the one
//! that differs from more voters than it agrees with. Where that is a tie, as between two, the leader is right.

use std::collections::BTreeMap;

use crate::message::Beat;

/// Beats for which a member that found a difference waits for the word of voters that live and were not compared yet.
const PATIENCE_BEATS: u32 = 3;

/// What comparing showed.
#[derive(Default)]
pub(crate) struct Divergence {
    verdicts: BTreeMap<u64, Verdict>,
    /// What others said of revisions that this member has not reached.
    ahead: BTreeMap<u64, (u64, [u8; 32])>,
    /// Beats since a difference was first seen.
    beats: u32,
}

#[derive(Clone, Copy)]
struct Verdict {
    agrees: bool,
    revision: u64,
}

/// A voter, and whether something was heard from it of late.
#[derive(Clone, Copy)]
pub(crate) struct Voter {
    pub(crate) id: u64,
    pub(crate) lives: bool,
}

impl Divergence {
    /// Another member said how far it is. `own` is our revision, and `chain_at` the hash over everything up to one.
    pub(crate) fn compare(
        &mut self,
        from: u64,
        beat: &Beat,
        own: u64,
        chain_at: impl Fn(u64) -> Option<[u8; 32]>,
    ) {
        let earlier = self.ahead.remove(&from);
        for (revision, chain) in earlier.into_iter().chain([(beat.revision, beat.chain)]) {
            if revision > own {
                // The oldest is kept: one that is always a little behind would otherwise never be compared.
                self.ahead.entry(from).or_insert((revision, chain));
            } else if let Some(ours) = chain_at(revision) {
                self.verdicts.insert(from, Verdict { agrees: ours == chain, revision });
            }
        }
    }

    /// The state was replaced: what was compared before says nothing of it.
    pub(crate) fn forget(&mut self) {
        *self = Divergence::default();
    }

    /// About once a second: whether this member is the odd one out, and why. `voters` are all others.
    pub(crate) fn judge(&mut self, votes: bool, leader: Option<u64>, voters: &[Voter]) -> Option<String> {
        let verdict = |id: &u64| self.verdicts.get(id);
        let differing: Vec<u64> =
            voters.iter().map(|voter| voter.id).filter(|id| verdict(id).is_some_and(|v| !v.agrees)).collect();
        if differing.is_empty() {
            self.beats = 0;
            return None;
        }
        self.beats += 1;
        let unknown = voters.iter().any(|voter| voter.lives && verdict(&voter.id).is_none());
        if unknown && self.beats <= PATIENCE_BEATS {
            return None;
        }
        let agreeing = voters.iter().filter(|voter| verdict(&voter.id).is_some_and(|v| v.agrees)).count();
        let agreeing = agreeing + usize::from(votes);
        let leader_differs = leader.is_some_and(|leader| differing.contains(&leader));
        if differing.len() < agreeing || (differing.len() == agreeing && !leader_differs) {
            return None;
        }
        let named: Vec<String> = differing.iter().map(|id| format!("{id:016x}")).collect();
        let revision = differing.iter().filter_map(verdict).map(|v| v.revision).min().unwrap_or(0);
        Some(format!("at revision {revision} its history is not that of {}", named.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: Option<u64> = Some(1);

    fn beat(revision: u64, chain: u8) -> Beat {
        Beat { revision, chain: [chain; 32], ..Beat::default() }
    }

    fn voters(ids: &[u64]) -> Vec<Voter> {
        ids.iter().map(|id| Voter { id: *id, lives: true }).collect()
    }

    /// A member at revision 10 that heard these hashes of revision 5; its own is 7.
    fn heard(beats: &[(u64, u8)]) -> Divergence {
        let mut divergence = Divergence::default();
        for (from, chain) in beats {
            divergence.compare(*from, &beat(5, *chain), 10, |_| Some([7; 32]));
        }
        divergence
    }

    #[test]
    fn the_one_that_differs_from_most_stops_whoever_leads() {
        let detail = heard(&[(1, 8), (2, 8)]).judge(true, LEADER, &voters(&[1, 2])).unwrap();
        assert!(detail.starts_with("at revision 5 ") && detail.contains("0001, "), "{detail}");
        assert!(
            heard(&[(2, 8), (3, 8)]).judge(true, Some(9), &voters(&[2, 3])).is_some(),
            "the leader itself"
        );
        assert!(
            heard(&[(1, 8), (3, 7)]).judge(true, LEADER, &voters(&[1, 3])).is_none(),
            "the leader is odd"
        );
        assert!(heard(&[(1, 7), (2, 7)]).judge(true, LEADER, &voters(&[1, 2])).is_none());
    }

    #[test]
    fn between_two_the_leader_is_right() {
        assert!(heard(&[(1, 8)]).judge(true, LEADER, &voters(&[1])).is_some());
        assert!(heard(&[(2, 8)]).judge(true, Some(9), &voters(&[2])).is_none());
        assert!(
            heard(&[(1, 8)]).judge(true, None, &voters(&[1])).is_none(),
            "nobody leads: nobody is right yet"
        );
    }

    #[test]
    fn a_learner_that_differs_stops_and_one_that_agrees_with_half_asks_the_leader() {
        assert!(heard(&[(1, 8), (2, 8)]).judge(false, LEADER, &voters(&[1, 2])).is_some());
        assert!(heard(&[(1, 7), (2, 8)]).judge(false, LEADER, &voters(&[1, 2])).is_none());
        assert!(heard(&[(1, 8), (2, 7)]).judge(false, LEADER, &voters(&[1, 2])).is_some());
    }

    #[test]
    fn voters_that_live_are_waited_for_and_silent_ones_are_not() {
        let mut divergence = heard(&[(1, 8)]);
        for _ in 0..PATIENCE_BEATS {
            assert!(divergence.judge(true, LEADER, &voters(&[1, 2])).is_none(), "2 was not compared yet");
        }
        assert!(divergence.judge(true, LEADER, &voters(&[1, 2])).is_some());

        let one_silent = [Voter { id: 1, lives: true }, Voter { id: 2, lives: false }];
        assert!(heard(&[(1, 8)]).judge(true, LEADER, &one_silent).is_some());
    }

    #[test]
    fn a_revision_that_is_still_ahead_is_compared_once_it_is_reached() {
        let mut divergence = Divergence::default();
        divergence.compare(1, &beat(20, 8), 10, |_| panic!("not reached"));
        divergence.compare(1, &beat(30, 8), 15, |_| panic!("not reached"));
        assert!(divergence.judge(true, LEADER, &voters(&[1])).is_none());

        divergence.compare(1, &beat(40, 8), 25, |revision| (revision == 20).then_some([7; 32]));
        assert!(divergence.judge(true, LEADER, &voters(&[1])).is_some());

        divergence.forget();
        assert!(divergence.judge(true, LEADER, &voters(&[1])).is_none(), "the state is another one");
    }

    #[test]
    fn a_revision_whose_hash_is_gone_says_nothing() {
        let mut divergence = Divergence::default();
        divergence.compare(1, &beat(2, 8), 10, |_| None);
        assert!(divergence.judge(true, LEADER, &voters(&[1])).is_none());
    }
}
