//! Pending: rows that were committed and are not in sled yet. Pure; [`crate::mover`] fills it and empties it.
//!
//! A sled transaction costs two writes of its own and wakes every thread of sled's pool, whatever is in it; measured with
//! one client on three members, that was most of what a write cost the processor. The state is not durable before a
//! checkpoint either way and is replayed from the log, so small batches gather here and go on together. Rows that every
//! batch writes anew (where the state stands, the newest requests) then reach sled once.
//!
//! There are two of it, as in any log-structured store: what gathers, and what is under way and no longer changes.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use sled::IVec;

use crate::db::{Row, Tree};

/// With so many rows what gathers goes on: a transaction of them takes a millisecond or two.
const ROWS_DUE: usize = 128;

/// With so many bytes likewise, whatever their number.
const BYTES_DUE: usize = 256 * 1_024;

/// With so many times that, whoever adds more waits, for memory is bounded.
const FULL: usize = 8;

/// What a row will be: a value, or gone.
type Tail = BTreeMap<Vec<u8>, Option<IVec>>;

/// Rows, the newest of each key.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    meta: Tail,
    rev: Tail,
    sm: Tail,
    bytes: usize,
}

/// Rows on their way to sled.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    gathering: Rows,
    /// Older than anything that gathers.
    moving: Option<Arc<Rows>>,
}

impl Pending {
    /// Takes a batch in.
    pub(crate) fn add(&mut self, rows: &[Row]) {
        rows.iter().for_each(|row| self.gathering.add(row));
    }

    /// Whether what gathered is worth a transaction.
    pub(crate) fn is_due(&self) -> bool {
        self.gathering.exceeds(1)
    }

    /// Whether nothing more may be added before some of it has moved on.
    pub(crate) fn is_full(&self) -> bool {
        self.gathering.exceeds(FULL)
    }

    /// What is to be moved now: what gathered. What was under way before has ended.
    pub(crate) fn begin(&mut self) -> Arc<Rows> {
        let rows = Arc::new(std::mem::take(&mut self.gathering));
        self.moving = Some(rows.clone());
        rows
    }

    /// What was under way is in sled.
    pub(crate) fn end(&mut self) {
        self.moving = None;
    }

    /// What a key's row will be, if it is among them.
    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Option<&Option<IVec>> {
        self.newest_first().find_map(|rows| rows.tree(tree).get(key))
    }

    /// The rows of a tree from one key on.
    pub(crate) fn from(&self, tree: Tree, from: &[u8]) -> BTreeMap<Vec<u8>, Option<IVec>> {
        let range = (Bound::Included(from), Bound::Unbounded);
        let mut found = BTreeMap::new();
        for rows in self.newest_first() {
            for (key, value) in rows.tree(tree).range::<[u8], _>(range) {
                found.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        found
    }

    fn newest_first(&self) -> impl Iterator<Item = &Rows> {
        std::iter::once(&self.gathering).chain(self.moving.as_deref())
    }
}

impl Rows {
    fn add(&mut self, row: &Row) {
        let value = row.value.as_deref().map(IVec::from);
        let bytes = |value: &Option<IVec>| row.key.len() + value.as_ref().map_or(0, |value| value.len());
        self.bytes += bytes(&value);
        if let Some(before) = self.tree_mut(row.tree).insert(row.key.clone(), value) {
            self.bytes -= bytes(&before);
        }
    }

    /// All of them, tree by tree.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Tree, &Vec<u8>, &Option<IVec>)> {
        [Tree::Meta, Tree::Rev, Tree::Sm]
            .into_iter()
            .flat_map(|tree| self.tree(tree).iter().map(move |(key, value)| (tree, key, value)))
    }

    fn exceeds(&self, times: usize) -> bool {
        let rows = self.meta.len() + self.rev.len() + self.sm.len();
        rows >= times * ROWS_DUE || self.bytes >= times * BYTES_DUE
    }

    fn tree(&self, tree: Tree) -> &Tail {
        match tree {
            Tree::Meta => &self.meta,
            Tree::Rev => &self.rev,
            Tree::Sm => &self.sm,
        }
    }

    fn tree_mut(&mut self, tree: Tree) -> &mut Tail {
        match tree {
            Tree::Meta => &mut self.meta,
            Tree::Rev => &mut self.rev,
            Tree::Sm => &mut self.sm,
        }
    }
}
