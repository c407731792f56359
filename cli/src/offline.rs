//! Offline: what the binary can do with the files of a store, lent to commands that need no node.
//!
//! The store is not this crate's business; it knows these functions and prints what they answer.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Functions of the binary. Each answers what to print as JSON, or a sentence that says what was wrong.
#[derive(Clone, Copy, Debug)]
pub struct Offline {
    /// Verifies a snapshot to its last byte: `{cluster, revision, compacted, applied, records, bytes, chain}`.
    pub inspect: fn(&Path) -> Result<Value, String>,
    /// Makes a data directory from a snapshot: `{cluster, revision, records, node, dataDir}`.
    pub restore: fn(RestoreArgs) -> Result<Value, String>,
    /// Leaves the wish for a fresh copy in a stopped node's data directory: `{node, message}`.
    pub reseed: fn(&Path) -> Result<Value, String>,
}

/// What a restore is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreArgs {
    /// The snapshot.
    pub file: PathBuf,
    /// The data directory to make: empty, absent, or a stopped node's, whose data is set aside.
    pub data_dir: PathBuf,
    /// The name of the node that will run there; none takes the host's.
    pub node_name: Option<String>,
    /// How far revisions go on above what was reached.
    pub revision_jump: u64,
}
