//! StoreOptions: every size the store keeps to, with its default and the reason. Pure.

use std::time::Duration;

/// Where 16 bytes name a cluster. Random, chosen once when the cluster is made.
#[derive(Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ClusterId(pub [u8; 16]);

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl std::fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// sled's page cache: enough for the inner nodes of a million records; current values have a cache of their own.
pub(crate) const SLED_CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Current values kept in memory: some thousands of policies, and small beside the 40 MB the product may use.
pub(crate) const VALUE_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Recent events kept for watchers; a watcher further behind reads them from disk.
pub(crate) const RING_EVENTS: usize = 4_096;
/// The memory those events may hold, whatever their number.
pub(crate) const RING_BYTES: usize = 4 * 1024 * 1024;
/// A watcher further behind than this is closed: reading on would cost the disk more than the client listing anew.
pub(crate) const WATCH_LAG_REVISIONS: u64 = 10_000;
/// History younger than an hour is kept, so that a client may be away for a while and still resume.
pub(crate) const HISTORY_AGE: Duration = Duration::from_secs(60 * 60);
/// The newest ten thousand revisions are kept whatever their age: on a quiet store, weeks of blame and diff.
pub(crate) const HISTORY_REVISIONS: u64 = 10_000;
/// More than this is never kept, however young: it bounds the disk and the start-up scan under a storm of writes.
pub(crate) const HISTORY_REVISIONS_MAX: u64 = 100_000;
/// Given up to let a full disk open again: two sled segments and room for one recovery's writes.
pub(crate) const BALLAST_BYTES: u64 = 17 * 1024 * 1024;

/// What `Store::open` may be told. The default is what the product runs with.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The cluster the store must belong to; a new one is made to belong to it. `None` asks nothing.
    pub cluster: Option<ClusterId>,
    /// sled's page cache.
    pub sled_cache_bytes: u64,
    /// Current values kept in memory.
    pub value_cache_bytes: usize,
    /// Recent events kept in memory, by number.
    pub ring_events: usize,
    /// Recent events kept in memory, by size.
    pub ring_bytes: usize,
    /// How far a watcher may fall behind.
    pub watch_lag_revisions: u64,
    /// What to keep when history is compacted.
    pub history: HistoryBounds,
    /// The size of the ballast file; 0 for none.
    pub ballast_bytes: u64,
}

/// How much history `Reader::compaction_due` leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Everything younger is kept, unless `revisions_max` says otherwise.
    pub age: Duration,
    /// So many of the newest revisions are kept, whatever their age.
    pub revisions: u64,
    /// Never more than this.
    pub revisions_max: u64,
}

impl Default for HistoryBounds {
    fn default() -> HistoryBounds {
        HistoryBounds { age: HISTORY_AGE, revisions: HISTORY_REVISIONS, revisions_max: HISTORY_REVISIONS_MAX }
    }
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            cluster: None,
            sled_cache_bytes: SLED_CACHE_BYTES,
            value_cache_bytes: VALUE_CACHE_BYTES,
            ring_events: RING_EVENTS,
            ring_bytes: RING_BYTES,
            watch_lag_revisions: WATCH_LAG_REVISIONS,
            history: HistoryBounds::default(),
            ballast_bytes: BALLAST_BYTES,
        }
    }
}
