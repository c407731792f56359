//! Event: one record before and after one revision. Pure.
//!
//! Watchers receive events behind an `Arc`: the hub, its ring and every watcher share one copy.

use std::sync::Arc;

use crate::{chain::ChainHash, key::Key, record::Record, revision::Revision};

/// What one revision did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision that did it.
    pub revision: Revision,
    /// The key it was done to.
    pub key: Key,
    /// The record before; absent when the revision created it.
    pub before: Option<Record>,
    /// The record after; absent when the revision deleted it.
    pub after: Option<Record>,
}

/// Everything one revision did, in the order of its operations: what a watcher is given is always whole ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) chain: ChainHash,
    pub(crate) events: Vec<Arc<Event>>,
}

impl Change {
    /// Roughly the memory it holds; values dominate.
    pub(crate) fn bytes(&self) -> usize {
        let size = |record: &Option<Record>| record.as_ref().map_or(0, |record| record.value.len());
        self.events
            .iter()
            .map(|event| event.key.as_bytes().len() + size(&event.before) + size(&event.after))
            .sum()
    }
}
