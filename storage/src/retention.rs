//! Retention: how much history is worth keeping. Pure.
//!
//! The store never compacts by itself: members would cut at different places. The leader asks for the cut its bounds
//! call for and proposes it as a command.

use crate::{options::HistoryBounds, revision::Revision};

/// Where to cut the history that begins at `first` and ends at `newest`: the first revision to keep, or nothing when
/// too little would be gained. `time_of` tells when a revision was made, in milliseconds.
///
/// Times were chosen by different members and may step back a little; the search by age then ends near the right
/// place, which is as good as the clocks are.
pub(crate) fn cut<E>(
    bounds: &HistoryBounds,
    first: Revision,
    newest: Revision,
    now_ms: u64,
    time_of: impl Fn(Revision) -> Result<u64, E>,
) -> Result<Option<Revision>, E> {
    let by_count = (newest.0 + 1).saturating_sub(bounds.revisions);
    let by_bound = (newest.0 + 1).saturating_sub(bounds.revisions_max);
    // A cut has its cost on every member, so it has to remove a tenth of what is kept.
    let worth = first.0 + bounds.revisions.min(bounds.revisions_max) / 10 + 1;
    if by_count.max(by_bound) < worth {
        return Ok(None);
    }
    let young = now_ms.saturating_sub(u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX));
    let (mut low, mut high) = (first.0, by_count);
    while low < high {
        let middle = low + (high - low) / 2;
        if time_of(Revision(middle))? < young { low = middle + 1 } else { high = middle }
    }
    let keep_from = low.max(by_bound);
    Ok((keep_from >= worth).then_some(Revision(keep_from)))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use super::*;

    /// Revision r was made at second r; the history is 1..=1000.
    fn cut_at(age_seconds: u64, revisions: u64, revisions_max: u64, now_seconds: u64) -> Option<u64> {
        let bounds = HistoryBounds { age: Duration::from_secs(age_seconds), revisions, revisions_max };
        let time_of = |revision: Revision| Ok::<u64, Infallible>(revision.0 * 1000);
        let cut = cut(&bounds, Revision(1), Revision(1000), now_seconds * 1000, time_of);
        cut.unwrap_or_else(|never| match never {}).map(|revision| revision.0)
    }

    #[test]
    fn what_is_young_or_among_the_newest_is_kept() {
        assert_eq!(cut_at(300, 100, 100_000, 1000), Some(700), "age keeps more than count");
        assert_eq!(cut_at(300, 500, 100_000, 1000), Some(501), "count keeps more than age");
        assert_eq!(cut_at(0, 100, 100_000, 1000), Some(901), "age keeps nothing");
        assert_eq!(cut_at(5000, 100, 100_000, 1000), None, "all of it is young");
        assert_eq!(cut_at(300, 100, 200, 1000), Some(801), "the bound holds against age");
        assert_eq!(cut_at(300, 1000, 100_000, 5000), None, "fewer than the count");
    }

    #[test]
    fn a_cut_that_gains_little_is_not_made() {
        assert_eq!(cut_at(0, 950, 100_000, 1000), None);
        assert_eq!(cut_at(0, 900, 100_000, 1000), Some(101));
    }
}
