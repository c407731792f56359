//! Commits: which of the commits the kernel announces are ours.
//!
//! The kernel announces every commit with the generation it made. Before and after each of our transactions the
//! generation is read; when the two are neighbours, the second is ours and nobody else's. When others committed at the
//! same time, the first commit in between that touched our table is taken for ours and any further one for theirs: at
//! worst the wrong process is named, for whoever it was, what differs is found by an audit.

use std::collections::VecDeque;

use crate::nft::Committed;
use crate::nft::netlink::events::Commit;

/// Announcements follow commits within a millisecond; so many transactions are never on the way at once.
const REMEMBERED: usize = 256;

/// Whose commit it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Ours.
    Ours,
    /// Someone else's, and it touched our table.
    Foreign,
    /// Someone else's, about something else.
    Elsewhere,
}

/// Our recent transactions, by the generations they lie between, and the newest generation accounted for.
#[derive(Debug, Default)]
pub struct Commits {
    recent: VecDeque<Range>,
    accounted: Option<u32>,
}

/// A transaction of ours made one of the generations after `before`, up to `after`.
#[derive(Debug)]
struct Range {
    before: u32,
    after: u32,
    claimed: bool,
}

impl Commits {
    /// Notes a transaction of ours.
    pub fn note(&mut self, committed: Committed) {
        let (Some(before), Some(after)) = (committed.before, committed.after) else { return };
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(Range { before, after, claimed: false });
        // With a gap on either side, the announcements of the others have yet to come.
        if self.accounted == Some(before) && after == before.wrapping_add(1) {
            self.accounted = Some(after);
        }
    }

    /// Decides whose an announced commit was.
    pub fn whose(&mut self, commit: &Commit) -> Whose {
        if !self.accounts_for(commit.generation) {
            self.accounted = Some(commit.generation);
        }
        let range = self.recent.iter_mut().find(|range| range.holds(commit.generation));
        match range {
            _ if commit.ours.is_empty() => Whose::Elsewhere,
            Some(range) if !range.claimed => {
                range.claimed = true;
                Whose::Ours
            }
            _ => Whose::Foreign,
        }
    }

    /// Whether everything up to `generation` has been announced or was ours. If not, something was missed.
    pub fn accounts_for(&self, generation: u32) -> bool {
        self.accounted.is_some_and(|accounted| accounted.wrapping_sub(generation) <= u32::MAX / 2)
    }

    /// Takes `generation` as accounted for: everything up to it has been looked at by other means.
    pub fn start_from(&mut self, generation: u32) {
        self.accounted = Some(generation);
    }
}

impl Range {
    /// Generations wrap round.
    fn holds(&self, generation: u32) -> bool {
        let distance = generation.wrapping_sub(self.before);
        distance >= 1 && distance <= self.after.wrapping_sub(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(generation: u32, ours: &str) -> Commit {
        Commit { generation, ours: ours.to_owned(), process: "nft (pid 1)".to_owned() }
    }

    fn committed(before: u32, after: u32) -> Committed {
        Committed { before: Some(before), after: Some(after) }
    }

    #[test]
    fn a_commit_between_neighbours_is_ours() {
        let mut commits = Commits::default();
        commits.start_from(u32::MAX);
        commits.note(committed(u32::MAX, 0));
        assert!(commits.accounts_for(0));
        assert_eq!(commits.whose(&commit(0, "added set s")), Whose::Ours);
        assert_eq!(commits.whose(&commit(1, "deleted the table")), Whose::Foreign);
        assert_eq!(commits.whose(&commit(2, "")), Whose::Elsewhere);
        assert!(commits.accounts_for(2) && !commits.accounts_for(3));
    }

    #[test]
    fn of_several_commits_at_the_same_time_one_is_ours() {
        let mut commits = Commits::default();
        commits.start_from(7);
        commits.note(committed(7, 10));
        assert!(!commits.accounts_for(10), "the others have not been announced");
        assert_eq!(commits.whose(&commit(8, "")), Whose::Elsewhere);
        assert_eq!(commits.whose(&commit(9, "added set s")), Whose::Ours);
        assert_eq!(commits.whose(&commit(10, "deleted the table")), Whose::Foreign);
        assert!(commits.accounts_for(10));
    }

    #[test]
    fn a_generation_nobody_announced_was_missed() {
        let mut commits = Commits::default();
        assert!(!commits.accounts_for(5));
        commits.start_from(5);
        assert!(commits.accounts_for(5));
        assert_eq!(commits.whose(&commit(6, "")), Whose::Elsewhere);
        assert!(commits.accounts_for(6));
    }
}
