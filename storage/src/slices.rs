//! Slices: a history cut into parts that several threads can read at once.
//!
//! Nobody knows how many rows lie between two revisions: a restored store leaps over a thousand million numbers, and
//! compaction thins out what is old. So the widest slice is cut at its middle again and again, and shrinks to where its
//! rows are; a handful of look-ups finds parts that are about even.

use crate::{
    db::{Db, Tree},
    error::Fatal,
    history::Location,
    revision::Revision,
};

/// Slices at the most: enough that the last of them keeps nobody waiting.
pub(crate) const SLICES_MAX: usize = 32;

/// Look-ups at the most, of some ten microseconds each.
const LOOK_UPS_MAX: usize = 128;

/// A slice of fewer revisions is not worth a thread.
const WIDTH_MIN: u64 = 512;

/// Revisions from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) first: Revision,
    pub(crate) last: Revision,
}

impl Slice {
    /// Whether a row is of this slice. One that no revision can be read from is left to whoever checks.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        Location::parse(key).map_or(true, |(at, _)| at.revision <= self.last)
    }

    fn width(&self) -> u64 {
        self.last.0 - self.first.0
    }
}

/// Cuts everything a database has, up to what lies behind the newest revision, into slices, in order.
pub(crate) fn of(db: &Db, newest: Revision) -> Result<Vec<Slice>, Fatal> {
    let mut slices = cut(newest, |from| first_from(db, from))?;
    // Rows behind the newest revision are damage, and must be found.
    if let Some(slice) = slices.last_mut() {
        slice.last = Revision(u64::MAX);
    }
    Ok(slices)
}

/// Cuts, asking for the first revision there is from one on.
fn cut<E>(
    newest: Revision,
    mut first_from: impl FnMut(Revision) -> Result<Option<Revision>, E>,
) -> Result<Vec<Slice>, E> {
    let Some(first) = first_from(Revision::ZERO)? else { return Ok(Vec::new()) };
    let mut slices = vec![Slice { first, last: newest.max(first) }];
    for _ in 0..LOOK_UPS_MAX {
        let widest = (0..slices.len()).max_by_key(|at| slices[*at].width()).unwrap_or(0);
        let Slice { first, last } = slices[widest];
        if slices.len() == SLICES_MAX || slices[widest].width() < WIDTH_MIN {
            break;
        }
        let middle = Revision(first.0 + (last.0 - first.0) / 2 + 1);
        slices[widest].last = middle.previous();
        if let Some(found) = first_from(middle)?.filter(|found| *found <= last) {
            slices.insert(widest + 1, Slice { first: found, last });
        }
    }
    Ok(slices)
}

/// The first revision from one on that has rows.
fn first_from(db: &Db, from: Revision) -> Result<Option<Revision>, Fatal> {
    let mut found = None;
    db.scan::<Fatal>(Tree::Rev, &from.0.to_be_bytes(), |key, _| {
        let (at, _) = Location::parse(key).map_err(Fatal::Damaged)?;
        found = Some(at.revision);
        Ok(false)
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, convert::Infallible};

    use super::*;

    /// How many of these revisions are in each slice; every one is in exactly one, and they come in order.
    fn shares(revisions: &BTreeSet<u64>) -> Vec<usize> {
        let newest = revisions.last().map_or(Revision::FIRST, |last| Revision(*last));
        let look =
            |from: Revision| Ok::<_, Infallible>(revisions.range(from.0..).next().copied().map(Revision));
        let Ok(slices) = cut(newest, look);
        assert!(slices.windows(2).all(|pair| pair[0].last < pair[1].first), "{slices:?}");
        let shares = slices.iter().map(|slice| revisions.range(slice.first.0..=slice.last.0).count());
        let shares: Vec<usize> = shares.collect();
        assert_eq!(shares.iter().sum::<usize>(), revisions.len(), "{slices:?}");
        shares
    }

    #[test]
    fn nothing_is_no_slice_and_little_is_one() {
        assert!(shares(&BTreeSet::new()).is_empty());
        assert_eq!(shares(&(2..300).collect()), [298]);
    }

    #[test]
    fn a_history_is_cut_evenly_also_where_it_leapt() {
        for leap in [0, 1_000_000_000, 1 << 60] {
            let revisions = (2..50_000).chain((50_000..100_000).map(|revision| revision + leap)).collect();
            let shares = shares(&revisions);
            assert!(shares.len() >= SLICES_MAX / 2, "{shares:?}");
            assert!(shares.iter().all(|share| *share <= 100_000 / 8), "{shares:?}");
        }
    }
}
