//! Pending: rows that were committed and are not in sled yet. Pure; [`crate::db`] asks it first and moves it on.
//!
//! A sled transaction costs two writes of its own and wakes every thread of sled's pool, whatever is in it; measured with
//! one client on three members, that was most of what a write cost the processor. The state is not durable before a
//! checkpoint either way and is replayed from the log, so small batches gather here and go on together. Rows that every
//! batch writes anew (where the state stands, the newest requests) then reach sled once.

use std::{collections::BTreeMap, ops::Bound};

use sled::IVec;

use crate::db::{Row, Tree};

/// With so many rows they go on: a transaction of them takes well under a millisecond, and nobody waits longer for it.
const ROWS_MAX: usize = 64;

/// With so many bytes they go on, whatever their number.
const BYTES_MAX: usize = 128 * 1_024;

/// What a row will be: a value, or gone.
type Rows = BTreeMap<Vec<u8>, Option<IVec>>;

/// Rows on their way to sled, the newest of each key.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    meta: Rows,
    rev: Rows,
    sm: Rows,
    bytes: usize,
}

impl Pending {
    /// Takes a batch in.
    pub(crate) fn add(&mut self, rows: &[Row]) {
        for row in rows {
            self.bytes += row.key.len() + row.value.as_ref().map_or(0, Vec::len);
            let value = row.value.as_deref().map(IVec::from);
            self.tree_mut(row.tree).insert(row.key.clone(), value);
        }
    }

    /// Whether they should go on now.
    pub(crate) fn is_due(&self) -> bool {
        self.meta.len() + self.rev.len() + self.sm.len() >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.meta.is_empty() && self.rev.is_empty() && self.sm.is_empty()
    }

    /// What a key's row will be, if it is among them.
    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Option<&Option<IVec>> {
        self.tree(tree).get(key)
    }

    /// The rows of a tree from one key on, in key order.
    pub(crate) fn from(&self, tree: Tree, from: &[u8]) -> Vec<(Vec<u8>, Option<IVec>)> {
        let range = (Bound::Included(from), Bound::Unbounded);
        self.tree(tree).range::<[u8], _>(range).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// All rows, tree by tree.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Tree, &Vec<u8>, &Option<IVec>)> {
        [Tree::Meta, Tree::Rev, Tree::Sm]
            .into_iter()
            .flat_map(|tree| self.tree(tree).iter().map(move |(key, value)| (tree, key, value)))
    }

    fn tree(&self, tree: Tree) -> &Rows {
        match tree {
            Tree::Meta => &self.meta,
            Tree::Rev => &self.rev,
            Tree::Sm => &self.sm,
        }
    }

    fn tree_mut(&mut self, tree: Tree) -> &mut Rows {
        match tree {
            Tree::Meta => &mut self.meta,
            Tree::Rev => &mut self.rev,
            Tree::Sm => &mut self.sm,
        }
    }
}
