//! Command: what a client wants done, as it travels through the raft log. Pure.
//!
//! A transaction is etcd's: if every compare holds, `then` is done, otherwise `otherwise`; all of it or nothing, in
//! one revision. Everything that could differ between replicas (times, uids, defaults) was chosen before the command
//! was proposed and is in it.

use std::{collections::BTreeSet, fmt};

use crate::{
    codec::{self, CodecError},
    key::{KEY_BYTES_MAX, Key},
    revision::Revision,
};

/// A larger encoded command is refused before it is proposed (etcd's limit on a request).
pub const COMMAND_BYTES_MAX: usize = 1_536 * 1_024;

/// More compares or operations than this in one transaction would hold up everyone behind it.
pub const TXN_OPS_MAX: usize = 1_024;

/// Each walks the keys under its prefix, on the thread that everyone's writes wait for.
pub const PREFIX_COMPARES_MAX: usize = 4;

/// A longer reason, name or address tells nobody more, and each is kept with its revision.
pub const AUTHOR_FIELD_BYTES_MAX: usize = 1_024;

/// One entry of the replicated log that is ours.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Command {
    /// Compares, then one of two lists of operations, all in at most one revision.
    Txn {
        /// Who asks, from where, why and when.
        author: Author,
        /// What must hold for `then` to be done.
        compare: Vec<Compare>,
        /// Done when every compare holds.
        then: Vec<Op>,
        /// Done when one does not.
        otherwise: Vec<Op>,
    },
    /// Gives up the history before a revision. Events at `before` and after stay, and so do all current records.
    Compact {
        /// The first revision whose events are kept.
        before: Revision,
    },
}

/// Who made a revision. Kept with it for as long as its history is, and part of what the chain hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Author {
    /// The authenticated name.
    pub name: String,
    /// The address the request came from, or `unix:<uid>`.
    pub source: String,
    /// Why, in the author's words; may be empty.
    pub reason: String,
    /// When, in milliseconds since the epoch, by the clock of the member that proposed it.
    pub time: u64,
    /// Names the request, so that a retry is answered and not done again.
    pub request: Option<RequestId>,
}

/// Names one request for ever: 128 bits nobody else has drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A precondition of a transaction.
///
/// The log keeps them by their place here: new ones go to the end, and none ever leaves.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Compare {
    /// The key was last written at exactly this revision; 0 asks for it to be absent.
    ModRevision {
        /// The key looked at.
        key: Key,
        /// What its mod_revision must be.
        equals: Revision,
    },
    /// The key was created at exactly this revision; 0 asks for it to be absent.
    CreateRevision {
        /// The key looked at.
        key: Key,
        /// What its create_revision must be.
        equals: Revision,
    },
    /// The key has exactly this version; 0 asks for it to be absent.
    Version {
        /// The key looked at.
        key: Key,
        /// What its version must be.
        equals: u64,
    },
    /// The key holds exactly these bytes; an absent key holds none, not even empty ones.
    Value {
        /// The key looked at.
        key: Key,
        /// The bytes it must hold.
        equals: Vec<u8>,
    },
    /// The key exists.
    Exists {
        /// The key looked at.
        key: Key,
    },
    /// The key does not exist.
    Absent {
        /// The key looked at.
        key: Key,
    },
    /// No record under the prefix was last written after this revision: what a list at that revision did not show is
    /// not there. Records that went since do not count; whoever looked for something still finds no more than it did.
    NoneNewer {
        /// The prefix of the keys looked at.
        prefix: Key,
        /// The revision of the list.
        than: Revision,
    },
}

impl Compare {
    /// The key it looks at, or the prefix of the keys.
    pub fn key(&self) -> &Key {
        match self {
            Compare::NoneNewer { prefix, .. } => prefix,
            Compare::ModRevision { key, .. }
            | Compare::CreateRevision { key, .. }
            | Compare::Version { key, .. }
            | Compare::Value { key, .. }
            | Compare::Exists { key }
            | Compare::Absent { key } => key,
        }
    }
}

/// One operation of a transaction. Operations are done in order, and a later one sees what an earlier one did.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Op {
    /// Writes a record; writing the bytes that are there already changes nothing.
    Put {
        /// The record's key.
        key: Key,
        /// Its new bytes.
        value: Vec<u8>,
    },
    /// Removes a record; removing an absent one changes nothing.
    Delete {
        /// The record's key.
        key: Key,
    },
    /// Reads a record.
    Get {
        /// The record's key.
        key: Key,
    },
}

impl Op {
    /// The key it works on.
    pub fn key(&self) -> &Key {
        match self {
            Op::Put { key, .. } | Op::Delete { key } | Op::Get { key } => key,
        }
    }
}

/// Why no replica will carry a command out. The same check guards the proposer and, last, apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    /// A key is empty or too long.
    #[error("key of {0} bytes; a key has 1 to {KEY_BYTES_MAX}")]
    KeyLength(usize),
    /// Two operations of one list write the same key.
    #[error("key {0} is written twice in one transaction")]
    DuplicateKey(Key),
    /// Too many compares or operations.
    #[error("{0} compares and operations; a transaction has at most {TXN_OPS_MAX}")]
    TooManyOps(usize),
    /// Too many walks over a prefix.
    #[error("{0} compares of a whole prefix; a transaction has at most {PREFIX_COMPARES_MAX}")]
    TooManyPrefixes(usize),
    /// An author's name, source or reason is too long.
    #[error("author's {field} of {length} bytes; at most {AUTHOR_FIELD_BYTES_MAX}")]
    AuthorLength {
        /// Which of them.
        field: &'static str,
        /// How long it is.
        length: usize,
    },
    /// The whole command is too large.
    #[error("command of {0} bytes; at most {COMMAND_BYTES_MAX}")]
    TooLarge(usize),
}

impl Command {
    /// The command as it stands in the raft log.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(codec::Kind::Command, self)
    }

    /// Reads a command from the raft log.
    pub fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
        codec::decode(codec::Kind::Command, bytes)
    }

    /// Whether the command is one that apply will carry out. Proposers ask first; apply refuses by the same rule.
    pub fn check(&self) -> Result<(), InvalidCommand> {
        let Command::Txn { author, compare, then, otherwise } = self else { return Ok(()) };
        check_author(author)?;
        let ops = compare.len() + then.len() + otherwise.len();
        if ops > TXN_OPS_MAX {
            return Err(InvalidCommand::TooManyOps(ops));
        }
        let prefixes = compare.iter().filter(|compare| matches!(compare, Compare::NoneNewer { .. })).count();
        if prefixes > PREFIX_COMPARES_MAX {
            return Err(InvalidCommand::TooManyPrefixes(prefixes));
        }
        let keys = compare.iter().map(Compare::key).chain(then.iter().chain(otherwise).map(Op::key));
        for length in keys.map(|key| key.as_bytes().len()) {
            if length == 0 || length > KEY_BYTES_MAX {
                return Err(InvalidCommand::KeyLength(length));
            }
        }
        check_written_once(then)?;
        check_written_once(otherwise)?;
        let bytes = self.bytes();
        if bytes > COMMAND_BYTES_MAX { Err(InvalidCommand::TooLarge(bytes)) } else { Ok(()) }
    }

    /// The size that counts against `COMMAND_BYTES_MAX`: keys and values, without the framing around them.
    fn bytes(&self) -> usize {
        let Command::Txn { compare, then, otherwise, .. } = self else { return 0 };
        let compared = compare.iter().map(|compare| match compare {
            Compare::Value { key, equals } => key.as_bytes().len() + equals.len(),
            other => other.key().as_bytes().len(),
        });
        let operated = then.iter().chain(otherwise).map(|op| match op {
            Op::Put { key, value } => key.as_bytes().len() + value.len(),
            other => other.key().as_bytes().len(),
        });
        compared.chain(operated).sum()
    }
}

fn check_author(author: &Author) -> Result<(), InvalidCommand> {
    for (field, text) in [("name", &author.name), ("source", &author.source), ("reason", &author.reason)] {
        if text.len() > AUTHOR_FIELD_BYTES_MAX {
            return Err(InvalidCommand::AuthorLength { field, length: text.len() });
        }
    }
    Ok(())
}

fn check_written_once(ops: &[Op]) -> Result<(), InvalidCommand> {
    let mut written = BTreeSet::new();
    for op in ops.iter().filter(|op| !matches!(op, Op::Get { .. })) {
        if !written.insert(op.key()) {
            return Err(InvalidCommand::DuplicateKey(op.key().clone()));
        }
    }
    Ok(())
}
