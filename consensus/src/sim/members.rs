//! A second opinion on who the members are: the changes in the committed log, played by a model that shares no code
//! with raft's. It also asks of every change whether the sets before and after it could elect two leaders.

use std::collections::BTreeSet;

use protobuf::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType,
};

use crate::message::MemberChange;

/// Who votes and who only follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) voters: BTreeSet<u64>,
    /// The voters before the change that is under way.
    pub(crate) outgoing: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
    /// Voters of `outgoing` that become learners when the change is done.
    next: BTreeSet<u64>,
}

impl Members {
    pub(crate) fn founded_by(voters: &[u64]) -> Members {
        Members { voters: voters.iter().copied().collect(), ..Members::default() }
    }

    pub(crate) fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Everyone who belongs.
    pub(crate) fn all(&self) -> BTreeSet<u64> {
        [&self.voters, &self.outgoing, &self.learners, &self.next].into_iter().flatten().copied().collect()
    }

    /// Whether these, together, can decide.
    pub(crate) fn is_quorum(&self, of: &BTreeSet<u64>) -> bool {
        let most = |set: &BTreeSet<u64>| set.is_empty() || set.intersection(of).count() > set.len() / 2;
        !self.voters.is_empty() && most(&self.voters) && most(&self.outgoing)
    }

    /// Whether a change has been made.
    pub(crate) fn fulfil(&self, change: MemberChange) -> bool {
        let learns = |id: &u64| self.learners.contains(id) || self.next.contains(id);
        match change {
            MemberChange::AddLearner(id) => self.all().contains(&id),
            MemberChange::Promote(id) => self.voters.contains(&id),
            MemberChange::Demote(id) => learns(&id),
            MemberChange::Remove(id) => !self.voters.contains(&id) && !learns(&id),
            MemberChange::Replace { lost, by } => self.voters.contains(&by) && learns(&lost),
            MemberChange::Reseed { old, new } => {
                self.all().contains(&new) && !self.voters.contains(&old) && !learns(&old)
            }
        }
    }

    /// The members after a committed entry; the same when it is no change, or one that raft refuses.
    pub(crate) fn after(&self, entry: &Entry) -> Members {
        let change = match entry.get_entry_type() {
            EntryType::EntryNormal => return self.clone(),
            EntryType::EntryConfChange => {
                let change = ConfChange::parse_from_bytes(&entry.data).expect("a change we encoded");
                let mut single = ConfChangeSingle { node_id: change.node_id, ..ConfChangeSingle::default() };
                single.set_change_type(change.get_change_type());
                let mut both = ConfChangeV2::default();
                both.set_changes(vec![single].into());
                both
            }
            EntryType::EntryConfChangeV2 => {
                ConfChangeV2::parse_from_bytes(&entry.data).expect("a change we encoded")
            }
        };
        self.changed(&change).unwrap_or_else(|| self.clone())
    }

    fn changed(&self, change: &ConfChangeV2) -> Option<Members> {
        let mut members = self.clone();
        let explicit = change.get_transition() != ConfChangeTransition::Auto;
        if change.get_changes().is_empty() && !explicit {
            members.outgoing.clear();
            members.learners.append(&mut members.next);
            return self.is_joint().then_some(members);
        }
        if self.is_joint() {
            return None;
        }
        let joint = explicit || change.get_changes().len() > 1;
        if joint {
            members.outgoing = members.voters.clone();
        }
        change.get_changes().iter().for_each(|single| members.change(single));
        let differing = members.voters.symmetric_difference(&self.voters).count();
        (!members.voters.is_empty() && (joint || differing <= 1)).then_some(members)
    }

    fn change(&mut self, single: &ConfChangeSingle) {
        let id = single.node_id;
        if id == 0 {
            return;
        }
        self.learners.remove(&id);
        self.next.remove(&id);
        self.voters.remove(&id);
        match single.get_change_type() {
            ConfChangeType::AddNode => drop(self.voters.insert(id)),
            ConfChangeType::AddLearnerNode if self.outgoing.contains(&id) => drop(self.next.insert(id)),
            ConfChangeType::AddLearnerNode => drop(self.learners.insert(id)),
            ConfChangeType::RemoveNode => {}
        }
    }

    /// Two sets without a common member, one of which could decide before a change and the other after it.
    pub(crate) fn disjoint_quorums(&self, after: &Members) -> Option<(BTreeSet<u64>, BTreeSet<u64>)> {
        let all: Vec<u64> = self.all().union(&after.all()).copied().collect();
        (0..1_u32 << all.len()).find_map(|mask| {
            let side = |inside: bool| {
                let members = all.iter().enumerate().filter(|(at, _)| (mask & (1 << at) != 0) == inside);
                members.map(|(_, id)| *id).collect::<BTreeSet<u64>>()
            };
            let (inside, outside) = (side(true), side(false));
            (self.is_quorum(&inside) && after.is_quorum(&outside)).then_some((inside, outside))
        })
    }

    /// Whether raft's own record says the same.
    pub(crate) fn equals(&self, conf: &ConfState) -> bool {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        self.voters == set(&conf.voters)
            && self.outgoing == set(&conf.voters_outgoing)
            && self.learners == set(&conf.learners)
            && self.next == set(&conf.learners_next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_voter_more_is_safe_and_two_at_once_are_not() {
        let three = Members::founded_by(&[1, 2, 3]);
        assert_eq!(three.disjoint_quorums(&Members::founded_by(&[1, 2, 3, 4])), None);
        assert!(three.disjoint_quorums(&Members::founded_by(&[1, 2, 3, 4, 5])).is_some());
        let joint = Members { outgoing: three.voters.clone(), ..Members::founded_by(&[1, 2, 3, 4, 5]) };
        assert_eq!(three.disjoint_quorums(&joint), None);
        assert_eq!(joint.disjoint_quorums(&Members::founded_by(&[1, 2, 3, 4, 5])), None);
    }
}
