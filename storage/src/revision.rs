//! Revision: the store-wide counter that every change advances by one. Pure.
//!
//! An empty store stands at revision 1, as etcd's does, so that 0 stays free to mean "absent" in a compare and
//! "any" in a Kubernetes `resourceVersion`. The first change makes revision 2.

use std::fmt;

/// The number of one change to the store; a transaction takes one, however many keys it touches.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
)]
pub struct Revision(pub u64);

impl Revision {
    /// No revision at all: what an absent key compares equal to.
    pub const ZERO: Revision = Revision(0);
    /// Where an empty store stands.
    pub const FIRST: Revision = Revision(1);

    /// The revision after this one.
    pub fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }

    /// The revision before this one; zero has none before it.
    pub fn previous(self) -> Revision {
        Revision(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
