//! What schedules came to. A run that tried nothing has proven nothing.

/// What a schedule came to, so that a run can be asked whether it tried anything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) deaths: u64,
    pub(crate) losses: u64,
    pub(crate) terms: u64,
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    pub(crate) changes: u64,
    pub(crate) transfers: u64,
    pub(crate) restores: u64,
    /// Schedules that ended without a quorum, for good.
    pub(crate) quorums_lost: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.deaths += other.deaths;
        self.losses += other.losses;
        self.terms += other.terms;
        self.writes += other.writes;
        self.reads += other.reads;
        self.changes += other.changes;
        self.transfers += other.transfers;
        self.restores += other.restores;
        self.quorums_lost += other.quorums_lost;
    }

    /// Holds a whole run to have tried what it is there for.
    pub(crate) fn assert_enough(&self) {
        let done =
            [self.deaths, self.losses, self.terms, self.writes, self.reads, self.changes, self.restores];
        assert!(
            done.iter().all(|times| *times >= 500) && self.transfers >= 50,
            "too little was tried: {self:?}"
        );
        assert!(self.quorums_lost < 100, "too many schedules end without a quorum: {self:?}");
    }
}
