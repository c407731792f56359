//! Snapshot: skeleton.
use crate::*;
use std::{io::Write, path::PathBuf};

/// The whole state at one applied index, fixed; Send, cheap until written.
pub struct Snapshot {}

impl Snapshot {
    /// The last index whose effect it holds.
    pub fn applied_index(&self) -> u64 {
        0
    }
    /// Streams it.
    pub fn write_to(&self, _out: &mut dyn Write) -> Result<(), SnapshotError> {
        Ok(())
    }
    /// The whole snapshot in memory, for raft.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SnapshotError> {
        Ok(Vec::new())
    }
    /// Writes it into the store's own `snapshots` directory, durably, keeping the newest two.
    pub fn export(&self) -> Result<PathBuf, SnapshotError> {
        Ok(PathBuf::new())
    }
}
