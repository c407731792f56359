//! Index: every current key with its counters, and the bytes of those written last. Pure.
//!
//! It is rebuilt from `rev` at every start, as etcd rebuilds its own, so that a put costs sled one row and not two
//! (`reference/store.md` 5.1). Values beyond the cache's bound are read from sled.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use crate::{history::Location, key::Key, record::Record, state::Counters};

/// A current record, as far as it is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) counters: Counters,
    pub(crate) value: Option<Arc<[u8]>>,
}

impl Slot {
    /// The record, if its bytes are in memory.
    pub(crate) fn record(&self, key: &Key) -> Option<Record> {
        let Counters { create_revision, at, version } = self.counters;
        let value = self.value.clone()?;
        Some(Record { key: key.clone(), value, create_revision, mod_revision: at.revision, version })
    }
}

/// The current keys in order.
///
/// * The values held together are at most `cache_bytes`, the ones written last.
/// * `written` names every slot that holds a value, oldest first, and some that no longer do.
#[derive(Debug)]
pub(crate) struct Index {
    slots: BTreeMap<Key, Slot>,
    written: VecDeque<(Key, Location)>,
    cached_bytes: usize,
    cache_bytes: usize,
}

impl Index {
    pub(crate) fn new(cache_bytes: usize) -> Index {
        Index { slots: BTreeMap::new(), written: VecDeque::new(), cached_bytes: 0, cache_bytes }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Slot> {
        self.slots.get(key)
    }

    /// The slots under a prefix, in key order.
    pub(crate) fn range<'a>(&'a self, prefix: &'a Key) -> impl Iterator<Item = (&'a Key, &'a Slot)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.slots.range::<Key, _>(from).take_while(|(key, _)| key.starts_with(prefix))
    }

    /// Takes in what a revision wrote; answers where the record it replaced is.
    pub(crate) fn put(&mut self, record: &Record, at: Location) -> Option<Location> {
        let counters = Counters { create_revision: record.create_revision, at, version: record.version };
        let slot = Slot { counters, value: Some(record.value.clone()) };
        self.cached_bytes += record.value.len();
        self.written.push_back((record.key.clone(), at));
        let replaced = self.slots.insert(record.key.clone(), slot);
        let replaced = replaced.map(|slot| self.forget(slot));
        self.evict();
        replaced
    }

    /// Takes in what a revision wrote without its bytes, which are read from sled when they are asked for; answers what
    /// was known of the record it replaced.
    pub(crate) fn place(&mut self, key: Key, counters: Counters) -> Option<Counters> {
        let replaced = self.slots.insert(key, Slot { counters, value: None })?;
        let counters = replaced.counters;
        self.forget(replaced);
        Some(counters)
    }

    /// Takes out what a revision deleted; answers what was known of it.
    pub(crate) fn displace(&mut self, key: &Key) -> Option<Counters> {
        let removed = self.slots.remove(key)?;
        let counters = removed.counters;
        self.forget(removed);
        Some(counters)
    }

    /// Takes out what a revision deleted; answers where it is.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Location> {
        self.displace(key).map(|removed| removed.at)
    }

    fn forget(&mut self, slot: Slot) -> Location {
        self.cached_bytes -= slot.value.map_or(0, |value| value.len());
        slot.counters.at
    }

    fn evict(&mut self) {
        while self.cached_bytes > self.cache_bytes {
            let Some((key, at)) = self.written.pop_front() else { break };
            if let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.counters.at == at) {
                self.cached_bytes -= slot.value.take().map_or(0, |value| value.len());
            }
        }
        // Overwritten keys leave names behind. Half the queue being such is the price of not searching it each time.
        if self.written.len() > 2 * self.slots.len() + 64 {
            let slots = &self.slots;
            self.written.retain(|(key, at)| slots.get(key).is_some_and(|slot| slot.counters.at == *at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Revision;

    fn put(index: &mut Index, key: &str, revision: u64, bytes: usize) -> Option<Location> {
        let (key, value) = (Key::from(key), vec![0; bytes].into());
        let mod_revision = Revision(revision);
        let record = Record { key, value, create_revision: mod_revision, mod_revision, version: 1 };
        index.put(&record, Location { revision: mod_revision, sub: 0 })
    }

    #[test]
    fn values_leave_memory_oldest_first_and_keys_stay() {
        let mut index = Index::new(100);
        for (revision, key) in ["a", "b", "c"].into_iter().enumerate() {
            put(&mut index, key, revision as u64, 40);
        }

        let held: Vec<bool> = index.range(&Key::all()).map(|(_, slot)| slot.value.is_some()).collect();

        assert_eq!(held, [false, true, true]);
    }

    #[test]
    fn overwriting_one_key_holds_one_value_and_few_names() {
        let mut index = Index::new(100);
        let replaced: Vec<_> = (2..10_000).map(|revision| put(&mut index, "a", revision, 40)).collect();

        assert_eq!(replaced[1], Some(Location { revision: Revision(2), sub: 0 }));
        assert_eq!(index.cached_bytes, 40);
        assert!(index.written.len() <= 66, "{} names", index.written.len());
    }

    #[test]
    fn a_range_ends_with_its_prefix() {
        let mut index = Index::new(100);
        for key in ["a", "a/1", "a/2", "a0", "b"] {
            put(&mut index, key, 2, 1);
        }
        let keys = |prefix: &str| {
            let prefix = Key::from(prefix);
            index.range(&prefix).map(|(key, _)| key.to_string()).collect::<Vec<_>>().join(" ")
        };

        assert_eq!(keys("a/"), "a/1 a/2");
        assert_eq!(keys("a"), "a a/1 a/2 a0");
        assert_eq!(keys(""), "a a/1 a/2 a0 b");
    }
}
