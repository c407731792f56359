//! Loudness: how much of what strangers cause goes to the log, which they could fill.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in a [`PERIOD`]; whoever logs more makes it debug output.
const LINES_MAX: u32 = 60;

/// See [`LINES_MAX`].
const PERIOD: Duration = Duration::from_secs(60);

/// Counts the lines of one kind.
#[derive(Debug)]
pub(crate) struct Loudness(Mutex<(Instant, u32)>);

impl Default for Loudness {
    fn default() -> Loudness {
        Loudness(Mutex::new((Instant::now(), 0)))
    }
}

impl Loudness {
    /// Whether the log takes one more now; if it does, it counts.
    pub(crate) fn allows(&self) -> bool {
        self.allows_at(Instant::now())
    }

    fn allows_at(&self, now: Instant) -> bool {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(lines.0) > PERIOD {
            *lines = (now, 0);
        }
        lines.1 = lines.1.saturating_add(1);
        lines.1 <= LINES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_minute_and_then_as_many_in_the_next() {
        let loudness = Loudness::default();
        let allowed = |at| (0..100).filter(|_| loudness.allows_at(at)).count();
        let now = Instant::now();
        assert_eq!((allowed(now), allowed(now + PERIOD / 2)), (60, 0));
        assert_eq!(allowed(now + 2 * PERIOD), 60);
    }
}
