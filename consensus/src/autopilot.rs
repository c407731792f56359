//! Autopilot: which changes of the members a leader makes by itself. Pure: a view in, a change out, which then has to pass
//! [`crate::membership`] like any other. Asked about once a second by [`crate::stewardship`].

use crate::{
    membership::{View, check_quorum, quorum},
    message::MemberChange,
};

/// Fewer voters than this and none is replaced without being asked.
const VOTERS_MIN: usize = 3;

/// How the leader looks after its cluster by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Autopilot {
    /// Learners that caught up are promoted while there are fewer voters than this.
    pub(crate) voters_max: usize,
    /// A voter that is silent for longer is replaced; with `None` none is.
    pub(crate) replace_after_ticks: Option<u32>,
}

/// What the leader does without being asked. No other change is under way.
pub(crate) fn change(view: &View, settings: Autopilot) -> Option<MemberChange> {
    let ready = view.learners.iter().copied().find(|id| view.is_ready(*id) && !view.held.contains(id))?;
    if let Some(patience) = settings.replace_after_ticks {
        let silent = |id: &&u64| view.standings.get(id).is_some_and(|standing| !standing.healthy);
        let mut silent = view.voters.iter().filter(silent).copied().peekable();
        if silent.peek().is_some() {
            // A voter more would raise the quorum and replace nobody, so the learner is kept for the one that is lost.
            let lost = silent.find(|id| view.standings[id].silent_ticks >= patience)?;
            return may_replace(view, ready).then_some(MemberChange::Replace { lost, by: ready });
        }
    }
    let mut voters = view.voters.clone();
    voters.insert(ready);
    (view.voters.len() < settings.voters_max && check_quorum(view, &voters).is_ok())
        .then_some(MemberChange::Promote(ready))
}

/// Never below three voters, and never while fewer than a quorum plus one are healthy.
///
/// Of three voters one of which is lost only two can be healthy, so what is counted are members: the voters that answer,
/// and the learner that takes the lost one's place, which answers and has caught up. It does not vote yet, so the voters
/// that answer must be a quorum without it. With the learner they are then a quorum and one: the second condition follows
/// from the first, and says what it is for: one more may fail right after the change, and the cluster still writes. What
/// both keep from happening is that a leader which has lost its quorum, and was not told yet, changes its members.
fn may_replace(view: &View, by: u64) -> bool {
    let (answering, quorum) = (view.healthy(&view.voters), quorum(view.voters.len()));
    let healthy = answering + usize::from(view.is_ready(by));
    view.voters.len() >= VOTERS_MIN && answering >= quorum && healthy > quorum
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::membership::tests::{BEHIND, silent, view};

    const AUTOPILOT: Autopilot = Autopilot { voters_max: 5, replace_after_ticks: Some(100) };

    #[test]
    fn learners_that_caught_up_are_promoted_one_at_a_time_up_to_the_limit() {
        assert_eq!(change(&view(&[1], &[2, 3], &[(2, BEHIND)]), AUTOPILOT), Some(MemberChange::Promote(3)));
        assert_eq!(change(&view(&[1], &[2], &[(2, silent(2))]), AUTOPILOT), None);
        assert_eq!(change(&view(&[1, 2, 3, 4, 5], &[6], &[]), AUTOPILOT), None, "five are enough");
        let held = View { held: BTreeSet::from([2]), ..view(&[1], &[2], &[]) };
        assert_eq!(change(&held, AUTOPILOT), None, "it was demoted by hand");
        let off = Autopilot { voters_max: 0, replace_after_ticks: None };
        assert_eq!(change(&view(&[1], &[2], &[]), off), None);
    }

    #[test]
    fn a_lost_voter_is_replaced_after_a_while_and_the_learner_is_kept_for_that() {
        let lost = |ticks| view(&[1, 2, 3], &[4], &[(3, silent(ticks))]);
        assert_eq!(
            change(&lost(99), AUTOPILOT),
            None,
            "it may come back, and a fourth voter would help nobody"
        );
        assert_eq!(change(&lost(100), AUTOPILOT), Some(MemberChange::Replace { lost: 3, by: 4 }));
        let off = Autopilot { replace_after_ticks: None, ..AUTOPILOT };
        assert_eq!(change(&lost(100), off), Some(MemberChange::Promote(4)), "with the switch off, as ever");
    }

    #[test]
    fn nothing_is_replaced_below_three_voters_or_without_one_to_spare() {
        let replaced = |voters: &[u64], learners: &[u64], lost: &[u64]| {
            let lost: Vec<_> = lost.iter().map(|id| (*id, silent(500))).collect();
            change(&view(voters, learners, &lost), AUTOPILOT)
        };
        assert_eq!(replaced(&[1, 2], &[3], &[2]), None);
        // Three voters: two that answer are a quorum, and three healthy members with the learner.
        let third = MemberChange::Replace { lost: 3, by: 4 };
        assert_eq!(replaced(&[1, 2, 3], &[4], &[3]), Some(third));
        assert_eq!(replaced(&[1, 2, 3], &[4], &[2, 3]), None, "one answers, and it takes two to write");
        assert_eq!(replaced(&[1, 2, 3], &[4, 5, 6], &[2, 3]), None, "learners do not vote, however many");
        // Five: it takes three.
        let fourth = MemberChange::Replace { lost: 4, by: 6 };
        assert_eq!(replaced(&[1, 2, 3, 4, 5], &[6], &[4]), Some(fourth));
        assert_eq!(replaced(&[1, 2, 3, 4, 5], &[6], &[4, 5]), Some(fourth));
        assert_eq!(replaced(&[1, 2, 3, 4, 5], &[6], &[3, 4, 5]), None);
        assert_eq!(replaced(&[1, 2, 3, 4, 5], &[6, 7], &[3, 4, 5]), None);
        // Four: it takes three as well, and none is to spare.
        let third = MemberChange::Replace { lost: 3, by: 6 };
        assert_eq!(replaced(&[1, 2, 3, 4], &[6], &[3]), Some(third));
        assert_eq!(replaced(&[1, 2, 3, 4], &[6], &[3, 4]), None);
        // The learner must be one that answers and has caught up.
        let behind = view(&[1, 2, 3], &[4], &[(3, silent(500)), (4, BEHIND)]);
        assert_eq!(change(&behind, AUTOPILOT), None);
    }

    #[test]
    fn a_replacement_leaves_a_cluster_that_one_more_loss_does_not_stop() {
        for voters in 3..=5_u64 {
            for lost in 1..voters {
                let ids: Vec<u64> = (1..=voters).collect();
                let gone: Vec<_> = (voters - lost + 1..=voters).map(|id| (id, silent(500))).collect();
                let view = view(&ids, &[9], &gone);
                let replaced = change(&view, AUTOPILOT).is_some();
                let after = voters - lost + 1;
                assert_eq!(replaced, after > voters / 2 + 1, "{lost} of {voters}");
            }
        }
    }
}
