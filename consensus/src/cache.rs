//! Cache: the newest entries of the log in memory. Apply reads a group a moment after it was written, and followers
//! read what is new; both find it here. Pure; who asks for more than it holds goes to the disk.

use std::collections::VecDeque;

use protobuf::Message;
use raft::eraftpb::Entry;

/// Bytes of entries kept: far more than a group, far less than the log.
const CACHE_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// The newest entries.
///
/// * Their indexes are contiguous and end where the log ends.
/// * They hold at most `CACHE_BYTES_MAX`, or are a single entry.
#[derive(Default)]
pub(crate) struct Cache {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Cache {
    /// Adds the entry after the last, at the cost of the oldest.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += bytes(&entry);
        self.entries.push_back(entry);
        while self.bytes > CACHE_BYTES_MAX && self.entries.len() > 1 {
            self.pop_front();
        }
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// The log was cut up to `index`.
    pub(crate) fn forget_to(&mut self, index: u64) {
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            self.pop_front();
        }
    }

    /// A new leader's entries replace ours from `index` on.
    pub(crate) fn forget_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|entry| entry.index >= index) {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, bytes);
        }
    }

    fn pop_front(&mut self) {
        self.bytes -= self.entries.pop_front().as_ref().map_or(0, bytes);
    }
}

fn bytes(entry: &Entry) -> usize {
    entry.compute_size() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, bytes: usize) -> Entry {
        Entry { index, term: 2, data: vec![1; bytes].into(), ..Entry::default() }
    }

    fn indexes(cache: &Cache) -> Vec<u64> {
        assert_eq!(cache.bytes, cache.entries.iter().map(bytes).sum::<usize>());
        cache.entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn the_oldest_make_room() {
        let mut cache = Cache::default();
        (2..20).for_each(|index| cache.push(entry(index, 1_024 * 1_024)));
        assert_eq!(indexes(&cache), [13, 14, 15, 16, 17, 18, 19]);

        cache.push(entry(20, 2 * CACHE_BYTES_MAX));
        assert_eq!(indexes(&cache), [20], "one is always kept");
    }

    #[test]
    fn entries_are_found_and_forgotten_at_both_ends() {
        let mut cache = Cache::default();
        (5..=9).for_each(|index| cache.push(entry(index, 10)));
        assert_eq!(cache.get(7).map(|entry| entry.index), Some(7));
        assert_eq!((cache.get(4), cache.get(10)), (None, None));

        cache.forget_to(5);
        cache.forget_from(9);
        assert_eq!(indexes(&cache), [6, 7, 8]);

        cache.forget_from(0);
        assert_eq!(indexes(&cache), [0; 0]);
    }
}
