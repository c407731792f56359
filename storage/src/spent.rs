//! Spent: which requests had their answer so long ago that it is no longer kept. Pure.
//!
//! An answer takes kilobytes and a name eight bytes, so names are remembered thirty times longer. A request found here is
//! not carried out: it was, or was refused, and what it was told is gone. Its client hears that, and looks for itself.
//!
//! Part of the window, and so of the replicated state: names enter in the order in which their answers leave
//! ([`crate::requests`]), and leave by their number alone. A row is written once, when a pack of answers goes for whose
//! requests it stands, and never rewritten: eight bytes a write, in a row of some hundred.

use std::collections::{BTreeSet, VecDeque};

use bincode::{Decode, Encode};

use crate::{
    chunk,
    codec::{self, Kind},
    command::RequestId,
    db::{Row, Tree},
    requests::PACK_KEY,
};

/// So many are remembered: a minute of 4,300 writes a second, in ordinary life weeks. Clients repeat a request within a
/// minute or so. Five megabytes in memory, two on disk.
pub(crate) const SPENT_MAX: usize = 256 * 1024;

/// The number in the rows' keys where packs of answers have the number of a log entry, which is never this: the rows stand
/// before those packs, as what they hold is older.
const NO_ENTRY: u64 = 0;

/// A row: requests in order.
#[derive(Debug, Encode, Decode)]
pub(crate) struct SpentPack {
    /// The log entry of the first, by which rows are ordered.
    pub(crate) first: u64,
    names: Vec<u64>,
}

/// Requests without an answer.
///
/// * `order` holds each once, oldest first, and `known`, once it is made, the same ones.
/// * `packs` are the rows that hold them, oldest first; of the first one `outgrown` are forgotten, fewer than it has. The
///   last `loose` of `order` are in no row yet, but in a pack of answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    order: VecDeque<u64>,
    /// Made when it is first asked: a start reads names in order, and sorting them is the first command's business.
    known: Option<BTreeSet<u64>>,
    packs: VecDeque<Pack>,
    outgrown: usize,
    loose: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pack {
    first: u64,
    names: usize,
    parts: u16,
}

impl Spent {
    /// Whether a request had its answer before.
    pub(crate) fn contains(&mut self, request: RequestId) -> bool {
        let known = self.known.get_or_insert_with(|| self.order.iter().copied().collect());
        known.contains(&name(request))
    }

    /// Takes in a request whose answer is forgotten from now on; answers the rows that nobody needs any more.
    pub(crate) fn add(&mut self, request: RequestId) -> Vec<Row> {
        self.loose += 1;
        self.push(name(request))
    }

    /// Writes the oldest `requests` that are in no row yet, whose pack of answers begins at entry `first` and goes.
    pub(crate) fn write(&mut self, first: u64, requests: usize) -> Vec<Row> {
        let requests = requests.min(self.loose);
        if requests == 0 {
            return Vec::new();
        }
        let from = self.order.len() - self.loose;
        let names = self.order.range(from..from + requests).copied().collect();
        self.loose -= requests;
        let blob = codec::encode(Kind::Spent, &SpentPack { first, names });
        let rows = chunk::split(&prefix(first), &blob);
        self.packs.push_back(Pack { first, names: requests, parts: rows.len() as u16 });
        rows.into_iter().map(|(key, value)| Row { tree: Tree::Sm, key, value: Some(value) }).collect()
    }

    /// Takes in one row at start-up. They come in order; what has been outgrown is dropped as it was then.
    pub(crate) fn load(&mut self, pack: SpentPack, bytes: usize) -> Result<(), String> {
        if pack.names.is_empty() || self.packs.back().is_some_and(|last| last.first >= pack.first) {
            return Err("an empty pack of requests, or one out of order".into());
        }
        let (first, names) = (pack.first, pack.names.len());
        self.packs.push_back(Pack { first, names, parts: chunk::parts(bytes) });
        for name in pack.names {
            // The rows of outgrown packs were removed in the batch that outgrew them.
            self.push(name);
        }
        Ok(())
    }

    fn push(&mut self, name: u64) -> Vec<Row> {
        let mut rows = Vec::new();
        // Room is made first, or the queue would double for one more.
        while self.order.len() >= SPENT_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            // Rows of ours never come to this; those of a crafted file might.
            self.loose = self.loose.min(self.order.len() + 1);
            if let Some(known) = &mut self.known {
                known.remove(&oldest);
            }
            self.outgrown += 1;
            while let Some(pack) = self.packs.front().filter(|pack| pack.names <= self.outgrown) {
                let keys = (0..pack.parts).map(|part| chunk::part_key(&prefix(pack.first), part));
                rows.extend(keys.map(|key| Row { tree: Tree::Sm, key, value: None }));
                self.outgrown -= pack.names;
                self.packs.pop_front();
            }
        }
        self.order.push_back(name);
        if let Some(known) = &mut self.known {
            known.insert(name);
        }
        rows
    }
}

/// A request by half of its bits. They are random, or of a hash over what only its client says: that another request among
/// all these has the same name happens once in 2^46 writes, and then one client is told that nobody can say.
fn name(RequestId(id): RequestId) -> u64 {
    let id = u128::from_be_bytes(id);
    (id >> 64) as u64 ^ id as u64
}

fn prefix(first: u64) -> Vec<u8> {
    [PACK_KEY, &NO_ENTRY.to_be_bytes(), &first.to_be_bytes()].concat()
}
