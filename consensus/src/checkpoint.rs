//! Checkpoint: when the state is made durable and written out, so that the log behind it may be cut. Pure: it counts,
//! and the driver acts.
//!
//! An export writes the whole state, so a large state is exported more rarely: the log since the last export grows to
//! the size of that export before the next one begins. Disk use and bytes written stay within a factor of two either way.

/// How far the next checkpoint is.
pub(crate) struct Checkpoints {
    entries_max: u64,
    bytes_max: u64,
    state: State,
}

enum State {
    /// Counting what was applied since the last checkpoint.
    Counting { entries: u64, bytes: u64 },
    /// A state is being written out; what is applied meanwhile counts for the next one.
    Exporting { entries: u64, bytes: u64 },
}

impl Checkpoints {
    pub(crate) fn new(entries_max: u64, bytes_max: u64) -> Checkpoints {
        Checkpoints { entries_max, bytes_max, state: State::Counting { entries: 0, bytes: 0 } }
    }

    /// At a start, with what the log holds: a log that grew over many short lives is due like one that grew in one, or
    /// it would grow for ever. One checkpoint's worth is behind the newer of the two exports and no reason for another.
    pub(crate) fn resume(&mut self, log_entries: u64, log_bytes: u64) {
        self.applied(log_entries.saturating_sub(self.entries_max), log_bytes.saturating_sub(self.bytes_max));
    }

    /// Entries were applied.
    pub(crate) fn applied(&mut self, new_entries: u64, new_bytes: u64) {
        let (State::Counting { entries, bytes } | State::Exporting { entries, bytes }) = &mut self.state;
        *entries += new_entries;
        *bytes += new_bytes;
    }

    /// Whether a checkpoint is to begin now. Never while one is on its way.
    pub(crate) fn due(&self) -> bool {
        match self.state {
            State::Counting { entries, bytes } => entries >= self.entries_max || bytes >= self.bytes_max,
            State::Exporting { .. } => false,
        }
    }

    /// A checkpoint began.
    pub(crate) fn begin(&mut self) {
        self.state = State::Exporting { entries: 0, bytes: 0 };
    }

    /// It ended: a state of `size` bytes stands in a file, or nothing does and the next one will try again.
    pub(crate) fn finish(&mut self, size: Option<u64>, bytes_max: u64) {
        if let State::Exporting { entries, bytes } = self.state {
            self.state = State::Counting { entries, bytes };
        }
        self.bytes_max = bytes_max.max(size.unwrap_or(0));
    }
}

/// The entry up to which the log is cut when `durable` is the last it need not hold: `retained` are kept behind it, and
/// for the slowest follower that lives as many as it needs, but not more than `lag`.
pub(crate) fn cut(durable: u64, retained: u64, slowest: Option<u64>, lag: u64) -> u64 {
    let plain = durable.saturating_sub(retained);
    slowest.map_or(plain, |slowest| plain.min(slowest.max(durable.saturating_sub(lag.max(retained)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_waits_for_the_slowest_follower_within_bounds() {
        assert_eq!(cut(1_000, 50, None, 300), 950);
        assert_eq!(cut(1_000, 50, Some(990), 300), 950, "it needs less than is kept anyway");
        assert_eq!(cut(1_000, 50, Some(800), 300), 800);
        assert_eq!(cut(1_000, 50, Some(100), 300), 700, "it gets a snapshot");
        assert_eq!(cut(1_000, 50, Some(100), 0), 950, "never less than is kept anyway");
        assert_eq!(cut(10, 50, Some(5), 300), 0);
    }

    #[test]
    fn entries_or_bytes_make_a_checkpoint_due_once() {
        let mut checkpoints = Checkpoints::new(10, 1_000);
        checkpoints.applied(9, 999);
        assert!(!checkpoints.due());
        checkpoints.applied(1, 0);
        assert!(checkpoints.due());

        checkpoints.begin();
        checkpoints.applied(20, 2_000);
        assert!(!checkpoints.due(), "one at a time");

        checkpoints.finish(None, 1_000);
        assert!(checkpoints.due(), "what was applied meanwhile counts");
    }

    #[test]
    fn a_log_that_grew_over_many_lives_becomes_due() {
        for (entries, bytes, due) in
            [(10, 1_000, false), (19, 1_999, false), (20, 0, true), (0, 2_000, true), (0, 0, false)]
        {
            let mut checkpoints = Checkpoints::new(10, 1_000);
            checkpoints.resume(entries, bytes);
            assert_eq!(checkpoints.due(), due, "{entries} entries, {bytes} bytes");
        }
    }

    #[test]
    fn a_large_state_is_written_out_more_rarely() {
        let mut checkpoints = Checkpoints::new(u64::MAX, 1_000);
        checkpoints.begin();
        checkpoints.finish(Some(50_000), 1_000);

        checkpoints.applied(1, 49_999);
        assert!(!checkpoints.due());
        checkpoints.applied(1, 1);
        assert!(checkpoints.due());
    }
}
