//! Membership: which changes of the members a leader makes when it is asked. Pure: a view in, a verdict out. What it does
//! by itself is in [`crate::autopilot`]; who acts on either is [`crate::stewardship`].
//!
//! The rule behind all of it: no change may leave a cluster that could not commit right after it. What is unhealthy now
//! counts as gone.

use std::collections::{BTreeMap, BTreeSet};

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use crate::message::{MemberChange, Refusal};

/// Entries that a learner may lag when it is promoted: so few that it will not hold up the first commit.
pub(crate) const CAUGHT_UP_ENTRIES: u64 = 1_000;

/// What a leader knows of its cluster.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The leader.
    pub(crate) me: u64,
    /// Who votes.
    pub(crate) voters: BTreeSet<u64>,
    /// Who only follows.
    pub(crate) learners: BTreeSet<u64>,
    /// Learners that are to stay such.
    pub(crate) held: BTreeSet<u64>,
    /// How every other member stands.
    pub(crate) standings: BTreeMap<u64, Standing>,
}

/// How a member stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// It was heard from within an election timeout, and its state is that of the others.
    pub(crate) healthy: bool,
    /// Its log is nearly as long as what is committed.
    pub(crate) caught_up: bool,
    /// Ticks for which it is known to have been silent towards this leader, as such.
    pub(crate) silent_ticks: u32,
}

/// What is to be done about a change that somebody asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Propose this.
    Propose(ConfChangeV2),
    /// Let this voter lead first; it will be asked again.
    HandOver(u64),
}

impl View {
    fn is_member(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }

    fn is_healthy(&self, id: u64) -> bool {
        id == self.me || self.standings.get(&id).is_some_and(|standing| standing.healthy)
    }

    pub(crate) fn is_ready(&self, learner: u64) -> bool {
        self.standings.get(&learner).is_some_and(|standing| standing.healthy && standing.caught_up)
    }

    pub(crate) fn healthy(&self, voters: &BTreeSet<u64>) -> usize {
        voters.iter().filter(|id| self.is_healthy(**id)).count()
    }

    /// The voter that would lead best in place of `me`, among those that may.
    fn successor(&self, among: &BTreeSet<u64>) -> Option<u64> {
        let mut others = among.iter().filter(|id| **id != self.me && self.voters.contains(id));
        others.find(|id| self.is_ready(**id)).copied()
    }

    /// What a member's successor in leadership is when nobody is named.
    pub(crate) fn best_successor(&self) -> Option<u64> {
        self.successor(&self.voters)
    }

    /// Whether this voter can take over leadership now.
    pub(crate) fn can_lead(&self, id: u64) -> Result<(), Refusal> {
        match () {
            () if !self.is_member(id) => invalid(format!("{id:016x} is no member")),
            () if !self.voters.contains(&id) => {
                invalid(format!("{id:016x} is a learner, and only voters lead: promote it first"))
            }
            () if !self.is_healthy(id) => invalid(format!("{id:016x} does not answer")),
            () if id != self.me && !self.is_ready(id) => {
                invalid(format!("{id:016x} has not caught up with the log yet"))
            }
            () => Ok(()),
        }
    }
}

/// What a leader does about a change that it is asked for. No other change is under way.
pub(crate) fn decide(view: &View, change: MemberChange) -> Result<Verdict, Refusal> {
    let steps = steps(view, change)?;
    let mut voters = view.voters.clone();
    for (kind, id) in &steps {
        match kind {
            ConfChangeType::AddNode => voters.insert(*id),
            _ => voters.remove(id),
        };
    }
    if voters != view.voters {
        check_quorum(view, &voters)?;
        if !voters.contains(&view.me) {
            let Some(successor) = view.successor(&voters) else {
                return invalid(
                    "no other voter could lead instead: none has caught up and answers".to_owned(),
                );
            };
            return Ok(Verdict::HandOver(successor));
        }
    }
    Ok(Verdict::Propose(to_raft(&steps)))
}

type Step = (ConfChangeType, u64);

/// The single steps of a change, and whether it makes sense at all.
fn steps(view: &View, change: MemberChange) -> Result<Vec<Step>, Refusal> {
    use ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
    let no_member = |id: u64| invalid(format!("{id:016x} is no member"));
    match change {
        MemberChange::AddLearner(0) | MemberChange::Reseed { new: 0, .. } => {
            invalid("0 is no member's id".to_owned())
        }
        MemberChange::AddLearner(id) if view.is_member(id) => Err(Refusal::AlreadySo),
        MemberChange::AddLearner(id) => Ok(vec![(AddLearnerNode, id)]),
        MemberChange::Promote(id) if view.voters.contains(&id) => Err(Refusal::AlreadySo),
        MemberChange::Promote(id) if !view.is_member(id) => no_member(id),
        MemberChange::Promote(id) => ready(view, id).map(|()| vec![(AddNode, id)]),
        MemberChange::Demote(id) if view.learners.contains(&id) => Err(Refusal::AlreadySo),
        MemberChange::Demote(id) if !view.is_member(id) => no_member(id),
        MemberChange::Demote(id) => Ok(vec![(AddLearnerNode, id)]),
        MemberChange::Remove(id) if !view.is_member(id) => Err(Refusal::AlreadySo),
        MemberChange::Remove(id) => Ok(vec![(RemoveNode, id)]),
        MemberChange::Replace { lost, by } if view.learners.contains(&lost) && view.voters.contains(&by) => {
            Err(Refusal::AlreadySo)
        }
        MemberChange::Replace { lost, .. } if !view.voters.contains(&lost) => {
            invalid(format!("{lost:016x} is no voter, so there is nothing to replace"))
        }
        MemberChange::Replace { by, .. } if !view.learners.contains(&by) => {
            invalid(format!("{by:016x} is no learner, so it can not take a voter's place"))
        }
        MemberChange::Replace { lost, by } => {
            ready(view, by).map(|()| vec![(AddNode, by), (AddLearnerNode, lost)])
        }
        MemberChange::Reseed { old, new } if old == new => {
            invalid("a member comes back under an id it never had".to_owned())
        }
        MemberChange::Reseed { old, new } => match (view.is_member(old), view.is_member(new)) {
            (false, true) => Err(Refusal::AlreadySo),
            (false, false) => Ok(vec![(AddLearnerNode, new)]),
            (true, false) => Ok(vec![(RemoveNode, old), (AddLearnerNode, new)]),
            (true, true) => Ok(vec![(RemoveNode, old)]),
        },
    }
}

fn ready(view: &View, learner: u64) -> Result<(), Refusal> {
    if !view.is_healthy(learner) {
        return invalid(format!("{learner:016x} does not answer, so its vote would only be missed"));
    }
    if !view.is_ready(learner) {
        return invalid(format!("{learner:016x} has not caught up with the log yet; try again in a moment"));
    }
    Ok(())
}

/// The strict check: after the change the voters that are healthy now must be a quorum.
pub(crate) fn check_quorum(view: &View, voters: &BTreeSet<u64>) -> Result<(), Refusal> {
    if voters.is_empty() {
        return invalid("it is the last voter: without it there would be no cluster".to_owned());
    }
    let (healthy, quorum) = (view.healthy(voters), quorum(voters.len()));
    if healthy < quorum {
        return invalid(format!(
            "of the {} voters there would be, {healthy} would answer, and it takes {quorum} to write: bring members \
             back, or add new ones, first",
            voters.len()
        ));
    }
    Ok(())
}

pub(crate) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// The same steps in raft's words. Raft enters a joint configuration for more than one, and leaves it by itself.
fn to_raft(steps: &[Step]) -> ConfChangeV2 {
    let changes: Vec<ConfChangeSingle> = steps
        .iter()
        .map(|(kind, id)| {
            let mut change = ConfChangeSingle { node_id: *id, ..ConfChangeSingle::default() };
            change.set_change_type(*kind);
            change
        })
        .collect();
    let mut change = ConfChangeV2::default();
    change.set_changes(changes.into());
    change
}

fn invalid<T>(reason: String) -> Result<T, Refusal> {
    Err(Refusal::Invalid(reason))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const WELL: Standing = Standing { healthy: true, caught_up: true, silent_ticks: 0 };
    pub(crate) const BEHIND: Standing = Standing { healthy: true, caught_up: false, silent_ticks: 0 };

    pub(crate) fn silent(ticks: u32) -> Standing {
        Standing { healthy: false, caught_up: false, silent_ticks: ticks }
    }

    /// A view of leader 1; everybody is well but those named.
    pub(crate) fn view(voters: &[u64], learners: &[u64], standings: &[(u64, Standing)]) -> View {
        let (voters, learners) =
            (BTreeSet::from_iter(voters.iter().copied()), learners.iter().copied().collect());
        let mut view = View { me: 1, voters, learners, ..View::default() };
        let others = view.voters.union(&view.learners).filter(|id| **id != 1);
        view.standings = others.map(|id| (*id, WELL)).collect();
        view.standings.extend(standings.iter().copied());
        view
    }

    fn reason(view: &View, change: MemberChange) -> String {
        match decide(view, change) {
            Err(Refusal::Invalid(reason)) => reason,
            other => panic!("{change:?}: {other:?}"),
        }
    }

    fn steps_of(verdict: Result<Verdict, Refusal>) -> Vec<(ConfChangeType, u64)> {
        let Ok(Verdict::Propose(change)) = verdict else { panic!("{verdict:?}") };
        change.changes.iter().map(|change| (change.get_change_type(), change.node_id)).collect()
    }

    #[test]
    fn what_is_so_already_is_not_done_again() {
        let view = view(&[1, 2, 3], &[4], &[]);
        for change in [
            MemberChange::AddLearner(4),
            MemberChange::AddLearner(2),
            MemberChange::Promote(3),
            MemberChange::Demote(4),
            MemberChange::Remove(9),
            MemberChange::Replace { lost: 4, by: 2 },
            MemberChange::Reseed { old: 9, new: 4 },
        ] {
            assert_eq!(decide(&view, change), Err(Refusal::AlreadySo), "{change:?}");
        }
    }

    #[test]
    fn each_change_becomes_its_steps_and_two_of_them_one_joint_change() {
        use ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
        let view = view(&[1, 2, 3], &[4], &[(3, silent(9))]);
        for (change, steps) in [
            (MemberChange::AddLearner(5), vec![(AddLearnerNode, 5)]),
            (MemberChange::Promote(4), vec![(AddNode, 4)]),
            (MemberChange::Demote(3), vec![(AddLearnerNode, 3)]),
            (MemberChange::Remove(3), vec![(RemoveNode, 3)]),
            (MemberChange::Remove(4), vec![(RemoveNode, 4)]),
            (MemberChange::Replace { lost: 3, by: 4 }, vec![(AddNode, 4), (AddLearnerNode, 3)]),
            (MemberChange::Reseed { old: 3, new: 6 }, vec![(RemoveNode, 3), (AddLearnerNode, 6)]),
            (MemberChange::Reseed { old: 9, new: 6 }, vec![(AddLearnerNode, 6)]),
        ] {
            assert_eq!(steps_of(decide(&view, change)), steps, "{change:?}");
        }
    }

    #[test]
    fn no_change_leaves_a_cluster_that_could_not_write() {
        let one_lost = view(&[1, 2, 3], &[], &[(3, silent(9))]);
        assert!(
            reason(&one_lost, MemberChange::Remove(2)).starts_with("of the 2 voters there would be, 1 would")
        );
        assert!(
            reason(&one_lost, MemberChange::Demote(2)).starts_with("of the 2 voters there would be, 1 would")
        );
        assert_eq!(steps_of(decide(&one_lost, MemberChange::Remove(3))).len(), 1, "the lost one may go");

        let alone = view(&[1], &[2], &[]);
        assert!(reason(&alone, MemberChange::Remove(1)).contains("the last voter"));
    }

    #[test]
    fn only_a_learner_that_answers_and_has_caught_up_becomes_a_voter() {
        let view = view(&[1, 2, 3], &[4, 5, 6], &[(4, BEHIND), (5, silent(3))]);
        assert!(reason(&view, MemberChange::Promote(4)).contains("has not caught up"));
        assert!(reason(&view, MemberChange::Promote(5)).contains("does not answer"));
        assert!(reason(&view, MemberChange::Promote(9)).contains("is no member"));
        assert!(reason(&view, MemberChange::Replace { lost: 3, by: 4 }).contains("has not caught up"));
        assert!(reason(&view, MemberChange::Replace { lost: 3, by: 2 }).contains("is no learner"));
        assert_eq!(steps_of(decide(&view, MemberChange::Promote(6))).len(), 1);
    }

    #[test]
    fn a_leader_that_leaves_hands_over_first_to_one_that_stays() {
        let healthy = view(&[1, 2, 3], &[], &[(2, BEHIND)]);
        assert_eq!(decide(&healthy, MemberChange::Remove(1)), Ok(Verdict::HandOver(3)));
        assert_eq!(decide(&healthy, MemberChange::Demote(1)), Ok(Verdict::HandOver(3)));
        let behind = view(&[1, 2, 3], &[], &[(2, BEHIND), (3, BEHIND)]);
        assert!(reason(&behind, MemberChange::Remove(1)).contains("no other voter could lead"));
    }

    #[test]
    fn who_may_lead() {
        let view = view(&[1, 2, 3], &[4], &[(2, BEHIND)]);
        assert_eq!(view.best_successor(), Some(3));
        assert_eq!((view.can_lead(1), view.can_lead(3)), (Ok(()), Ok(())));
        for id in [2, 4, 9] {
            assert!(view.can_lead(id).is_err(), "{id}");
        }
    }
}
