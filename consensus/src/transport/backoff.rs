//! Backoff: how long to wait before a member is dialled again. Pure; the dice are the caller's.

use std::time::Duration;

/// The first wait: shorter than an election timeout, so that a peer that restarts misses no election.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest: a peer that comes back after hours is spoken to within two seconds.
const LONGEST: Duration = Duration::from_secs(2);

/// Waits that double, each between half and the whole of its length, so that members that lost the same peer at the
/// same moment do not all knock at the same moment again.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// For connections to a peer.
    pub(crate) fn dialling() -> Backoff {
        Backoff::between(SHORTEST, LONGEST)
    }

    /// Waits that start at `shortest` and end at `longest`.
    pub(crate) fn between(shortest: Duration, longest: Duration) -> Backoff {
        Backoff { shortest, longest, next: shortest }
    }

    /// The next wait; `dice` is any number.
    pub(crate) fn wait(&mut self, dice: u32) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        whole / 2 + (whole / 2).mul_f64(f64::from(dice) / f64::from(u32::MAX))
    }

    /// It worked; the next failure waits shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = self.shortest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_bounds_and_start_over_after_success() {
        let mut backoff = Backoff::dialling();
        let longest: Vec<_> = (0..7).map(|_| backoff.wait(u32::MAX).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(backoff.wait(0), LONGEST / 2, "the dice take at most half");
        backoff.reset();
        assert_eq!(backoff.wait(0), SHORTEST / 2);
    }
}
