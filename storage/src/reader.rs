//! Reader: skeleton.
use crate::*;

/// The read side: cheap to clone, used from any thread.
#[derive(Clone)]
pub struct Reader {}

/// The store is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped")]
pub struct Stopped;

impl Reader {
    /// One record.
    pub fn get(&self, _key: &Key) -> Result<Option<Record>, Fatal> {
        Ok(None)
    }
    /// Every record under a prefix, in key order, and the revision they were read at.
    pub fn list(&self, _prefix: &Key) -> Result<(Revision, Vec<Record>), Fatal> {
        Ok((Revision::FIRST, Vec::new()))
    }
    /// The revision the store stands at.
    pub fn revision(&self) -> Revision {
        Revision::FIRST
    }
    /// The first revision whose events are kept; a watch may start after the one before it.
    pub fn compacted(&self) -> Revision {
        Revision::ZERO
    }
    /// The last index applied.
    pub fn applied_index(&self) -> u64 {
        0
    }
    /// Waits until `index` is applied.
    pub async fn wait_applied(&self, _index: u64) -> Result<(), Stopped> {
        Ok(())
    }
    /// Every event under `prefix` after `after`: from history, then live.
    pub fn watch(&self, _prefix: &Key, _after: Revision) -> Result<Watcher, Compacted> {
        Ok(Watcher {})
    }
    /// The newest link of the hash chain.
    pub fn chain(&self) -> ChainHead {
        ChainHead { revision: Revision::FIRST, hash: ChainHash::GENESIS }
    }
    /// The link at a revision, while its history is kept.
    pub fn chain_at(&self, _revision: Revision) -> Result<Option<ChainHead>, Fatal> {
        Ok(None)
    }
    /// Who made a revision, while its history is kept.
    pub fn author(&self, _revision: Revision) -> Result<Option<Author>, Fatal> {
        Ok(None)
    }
    /// Where history should now be cut by the store's `HistoryBounds`; `None`: nothing to gain. The leader proposes it as `Command::Compact`.
    pub fn compaction_due(&self, _now_ms: u64) -> Result<Option<Revision>, Fatal> {
        Ok(None)
    }
}
