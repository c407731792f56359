//! Outcome: what a command did, told to whoever proposed it. Pure.
//!
//! It carries the records, so that nobody has to read again (and perhaps read something newer) to answer a client.

use crate::{
    codec::{self, CodecError},
    record::Record,
    revision::Revision,
};

/// What became of a command.
///
/// Members tell each other by the place here: new ones go to the end, and none ever leaves.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Outcome {
    /// Every compare held and `then` was done.
    Succeeded {
        /// The store's revision afterwards: a new one if anything changed, else the one it stood at.
        revision: Revision,
        /// One for each operation, in order.
        replies: Vec<Reply>,
    },
    /// A compare did not hold and `otherwise` was done.
    Failed {
        /// The store's revision afterwards: a new one if anything changed, else the one it stood at.
        revision: Revision,
        /// One for each operation, in order.
        replies: Vec<Reply>,
    },
    /// Nothing was done and never will be: the command breaks a rule.
    Refused {
        /// Which rule.
        reason: String,
    },
    /// Nothing was done now: a request of this id had its answer long ago, and what that was is no longer kept.
    Forgotten,
}

/// What one operation answers.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Reply {
    /// The record as it stands now.
    Put {
        /// The record; when nothing changed, the one that was there.
        record: Record,
        /// Whether this operation wrote it: false when the bytes were there already.
        changed: bool,
    },
    /// The record that is gone, or nothing when there was none.
    Delete {
        /// What was removed.
        before: Option<Record>,
    },
    /// The record read.
    Get {
        /// What was there.
        record: Option<Record>,
    },
}

impl Outcome {
    /// The outcome as it travels back to the member that proposed the command.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(codec::Kind::Outcome, self)
    }

    /// Reads an outcome.
    pub fn decode(bytes: &[u8]) -> Result<Outcome, CodecError> {
        codec::decode(codec::Kind::Outcome, bytes)
    }
}
