//! State: where the state machine stands, in one row that every batch rewrites. Pure.
//!
//! Besides the counters it holds what a start-up needs to notice that anything is missing: the chain over the
//! retained revisions, and a fingerprint of the current records, which the chain no longer covers once their
//! revision is compacted.

use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::{
    chain::{ChainHash, ChainHead},
    codec::{self, Kind},
    db::{Row, Tree},
    history::Location,
    key::Key,
    revision::Revision,
};

/// The row's key prefix in `sm`.
pub(crate) const STATE_KEY: &[u8] = b"state";

/// Where the state machine stands after an applied index.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct State {
    /// The last log entry applied; 0 when none was.
    pub(crate) applied: u64,
    /// The revision reached.
    pub(crate) revision: Revision,
    /// The first revision whose events are kept.
    pub(crate) compacted: Revision,
    /// The link before the first revision kept.
    pub(crate) base: ChainHash,
    /// The newest link.
    pub(crate) chain: ChainHash,
    /// The current records.
    pub(crate) live: Fingerprint,
}

impl State {
    /// The state of an empty store.
    pub(crate) fn empty() -> State {
        State {
            applied: 0,
            revision: Revision::FIRST,
            compacted: Revision::ZERO,
            base: ChainHash::GENESIS,
            chain: ChainHash::GENESIS,
            live: Fingerprint::default(),
        }
    }

    /// The newest link with its revision.
    pub(crate) fn head(&self) -> ChainHead {
        ChainHead { revision: self.revision, hash: self.chain }
    }

    /// The first revision that must be there whole; the empty store's own has nothing in it.
    pub(crate) fn first_retained(&self) -> Revision {
        self.compacted.max(Revision::FIRST.next())
    }

    /// The rows that store it.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let rows = crate::chunk::split(STATE_KEY, &codec::encode(Kind::State, self)).into_iter();
        rows.map(|(key, value)| Row { tree: Tree::Sm, key, value: Some(value) }).collect()
    }
}

/// The number of current records, and the exclusive or of a hash of each: adding and removing a record cost the same,
/// in any order, and a record that is missing, doubled or of another version shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Fingerprint {
    records: u64,
    sum: [u8; 16],
}

/// One record's part of a fingerprint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Print([u8; 16]);

impl Print {
    pub(crate) fn of(key: &Key, counters: &Counters) -> Print {
        let mut hasher = Sha256::new();
        hasher.update(counters.at.prefix());
        hasher.update(counters.create_revision.0.to_be_bytes());
        hasher.update(counters.version.to_be_bytes());
        hasher.update(key.as_bytes());
        let mut print = [0; 16];
        print.iter_mut().zip(hasher.finalize()).for_each(|(ours, byte)| *ours = byte);
        Print(print)
    }
}

impl Fingerprint {
    /// Counts a record in.
    pub(crate) fn add(&mut self, key: &Key, counters: &Counters) {
        self.count_in(Print::of(key, counters));
    }

    /// Counts a record out.
    pub(crate) fn remove(&mut self, key: &Key, counters: &Counters) {
        self.count_out(Print::of(key, counters));
    }

    /// Counts a record in whose part is known.
    pub(crate) fn count_in(&mut self, print: Print) {
        self.records = self.records.wrapping_add(1);
        self.mix(print);
    }

    /// Counts a record out whose part is known.
    pub(crate) fn count_out(&mut self, print: Print) {
        self.records = self.records.wrapping_sub(1);
        self.mix(print);
    }

    /// How many records there are.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    fn mix(&mut self, Print(print): Print) {
        self.sum.iter_mut().zip(print).for_each(|(sum, byte)| *sum ^= byte);
    }
}

/// What is known of a record without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) create_revision: Revision,
    /// Where its entry is; the revision is its mod_revision.
    pub(crate) at: Location,
    pub(crate) version: u64,
}
