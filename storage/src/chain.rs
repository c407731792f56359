//! The hash over revisions: each one's author and operations, and the hash before it. Pure.
//!
//! Two members that applied the same log have the same hash at the same revision; one that differs has provably
//! diverged. The hash stands in the record of its revision, so any retained revision can be compared, not only the
//! newest, and it is recomputed over the retained revisions at every start.

use std::fmt;

use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::revision::Revision;

/// A revision and the hash of everything up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChainHead {
    /// The revision.
    pub revision: Revision,
    /// SHA-256 over the hash before it, the revision, its author and its operations.
    pub hash: ChainHash,
}

/// One link of the chain. Prints as hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// What stands before the first change.
    pub const GENESIS: ChainHash = ChainHash([0; 32]);

    /// The hash of `revision`, which follows the one this is the hash of. The parts are the encoded head of the
    /// revision and each of its encoded entries, in order.
    pub(crate) fn extend<'a>(&self, revision: Revision, parts: impl Iterator<Item = &'a [u8]>) -> ChainHash {
        let mut link = self.link(revision);
        parts.for_each(|part| link.part(part));
        link.finish()
    }

    /// The same, part by part.
    pub(crate) fn link(&self, revision: Revision) -> Link {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(revision.0.to_be_bytes());
        Link(hasher)
    }
}

/// The hash of one revision while its parts come.
#[derive(Debug)]
pub(crate) struct Link(Sha256);

impl Link {
    /// Takes the next part in.
    pub(crate) fn part(&mut self, part: &[u8]) {
        // Each part is preceded by its length, so that no two different revisions hash the same bytes.
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    /// The hash over all of them.
    pub(crate) fn finish(self) -> ChainHash {
        ChainHash(self.0.finalize().into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
