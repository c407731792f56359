//! Requests: the last requests carried out and what they were answered, so that a retry is answered and not done
//! again. Pure but for reading an answer back.
//!
//! The window is part of the replicated state: every member forgets the same answer at the same log entry, and much later
//! that there was a request ([`crate::spent`]). Answers stand in `sm` in packs; the bytes of a put are left out, the retry
//! brings them along. The newest pack grows with a few small batches, so that its row, rewritten by each, reaches sled once
//! for them all (see [`crate::pending`]).

use std::collections::{BTreeMap, VecDeque};

use bincode::{Decode, Encode};

use crate::{
    chunk,
    codec::{self, CodecError, Kind},
    command::{Command, Op, RequestId},
    db::{Db, Row, Tree},
    error::Fatal,
    history::read_blob,
    outcome::{Outcome, Reply},
    spent::{Spent, SpentPack},
};

/// So many answers are remembered: seconds at full speed, in ordinary life hours. Nearly every retry comes so soon. One
/// that comes later is told that it had its answer.
pub(crate) const REQUESTS_MAX: usize = 8_192;
/// The bytes their answers may take.
pub(crate) const REQUESTS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A pack is closed at this size, so that reading one answer back does not read megabytes of others.
const PACK_BYTES: usize = 64 * 1024;
/// A pack of this size grows no more with another batch: each rewrites it, and it should stay one row.
const GROWING_BYTES: usize = 4 * 1024;

/// The beginning of the packs' keys in `sm`.
pub(crate) const PACK_KEY: &[u8] = b"requests/";

/// One request with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Remembered {
    /// The log entry that carried it out.
    index: u64,
    request: RequestId,
    /// Of the operations, so that an id used for two different requests is noticed.
    fingerprint: u32,
    outcome: Outcome,
}

/// The window.
///
/// * `order` holds each request with an answer once, oldest first, and `known` the same ones by id.
/// * Every pack in `packs` holds at least one remembered request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    known: BTreeMap<RequestId, u64>,
    order: VecDeque<(u64, RequestId, usize)>,
    bytes: usize,
    packs: BTreeMap<u64, Pack>,
    /// Those whose answer is forgotten.
    spent: Spent,
    /// The newest pack, which still grows, and whatever this batch adds. Packs can be read back once their batch is
    /// written; until then a retry in the same batch, as when a member that was away catches up, is answered from here.
    fresh: Vec<Remembered>,
    /// So many of them are in a pack that is closed.
    closed: usize,
    /// So many of them are in a pack, closed or growing.
    packed: usize,
    /// The bytes of those that are in no closed one.
    growing_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pack {
    last: u64,
    parts: u16,
    requests: usize,
}

impl Requests {
    /// The first answer to a command, if it was carried out before.
    pub(crate) fn answer(&mut self, db: &Db, command: &Command) -> Result<Option<Outcome>, Fatal> {
        let Some(request) = request_of(command) else { return Ok(None) };
        let Some(&index) = self.known.get(&request) else {
            return Ok(self.spent.contains(request).then_some(Outcome::Forgotten));
        };
        let remembered = match self.fresh.iter().find(|fresh| fresh.index == index) {
            Some(fresh) => fresh.clone(),
            None => self.read(db, index)?,
        };
        Ok(Some(remembered.answer(command)))
    }

    /// Remembers what a command was answered; answers the rows to write, once a pack is full.
    pub(crate) fn remember(&mut self, index: u64, command: &Command, outcome: &Outcome) -> Vec<Row> {
        let Some(request) = request_of(command) else { return Vec::new() };
        let remembered = Remembered {
            index,
            request,
            fingerprint: fingerprint(command),
            outcome: without_put_values(outcome),
        };
        let bytes = codec::encode(Kind::Requests, &remembered).len();
        self.admit(index, request, bytes);
        self.fresh.push(remembered);
        self.growing_bytes += bytes;
        let mut rows = self.forget();
        if self.growing_bytes >= PACK_BYTES {
            rows.extend(self.pack());
            self.close();
        }
        rows
    }

    /// Ends a batch: writes its last pack. The batch is written before the next one asks.
    pub(crate) fn finish_batch(&mut self) -> Vec<Row> {
        let rows = self.pack();
        if self.growing_bytes >= GROWING_BYTES {
            self.close();
        }
        self.fresh.drain(..self.closed);
        (self.closed, self.packed) = (0, self.fresh.len());
        rows
    }

    /// Writes the growing pack, if there is anything new for it.
    fn pack(&mut self) -> Vec<Row> {
        if self.packed == self.fresh.len() {
            return Vec::new();
        }
        let growing = &self.fresh[self.closed..];
        let (Some(first), Some(last)) = (growing.first(), growing.last()) else { return Vec::new() };
        let (first, last) = (first.index, last.index);
        let blob = codec::encode(Kind::Requests, &growing);
        let rows = chunk::split(&pack_prefix(first), &blob);
        self.packs.insert(first, Pack { last, parts: rows.len() as u16, requests: growing.len() });
        self.packed = self.fresh.len();
        rows.into_iter().map(|(key, value)| Row { tree: Tree::Sm, key, value: Some(value) }).collect()
    }

    /// The next answer begins another pack.
    fn close(&mut self) {
        self.closed = self.fresh.len();
        self.growing_bytes = 0;
    }

    /// Takes in one pack at start-up. Packs come in order; what the window has outgrown is dropped as it was then.
    pub(crate) fn load(&mut self, blob: &[u8]) -> Result<(), String> {
        match codec::decode::<SpentPack>(Kind::Spent, blob) {
            Ok(spent) => return self.spent.load(spent, blob.len()),
            Err(CodecError::Kind { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        let pack: Vec<Remembered> = codec::decode(Kind::Requests, blob).map_err(|error| error.to_string())?;
        let (Some(first), Some(last)) = (pack.first(), pack.last()) else { return Err("empty pack".into()) };
        self.packs.insert(
            first.index,
            Pack { last: last.index, parts: chunk::parts(blob.len()), requests: pack.len() },
        );
        for remembered in &pack {
            let bytes = codec::encode(Kind::Requests, remembered).len();
            self.admit(remembered.index, remembered.request, bytes);
            // The rows of outgrown packs were removed in the batch that outgrew them.
            self.forget();
        }
        Ok(())
    }

    fn admit(&mut self, index: u64, request: RequestId, bytes: usize) {
        self.known.insert(request, index);
        self.order.push_back((index, request, bytes));
        self.bytes += bytes;
    }

    /// Forgets the oldest until the window is within its bounds; answers the rows of packs nobody needs any more.
    fn forget(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        while self.order.len() > REQUESTS_MAX || self.bytes > REQUESTS_BYTES_MAX {
            let Some((index, request, bytes)) = self.order.pop_front() else { break };
            // An id may be used again once it is forgotten; then the later use is the one to remember.
            if self.known.get(&request) == Some(&index) {
                self.known.remove(&request);
            }
            self.bytes -= bytes;
            rows.extend(self.spent.add(request));
        }
        let oldest = self.order.front().map_or(u64::MAX, |(index, ..)| *index);
        while let Some(pack) = self.packs.first_entry().filter(|pack| pack.get().last < oldest) {
            let (first, pack) = pack.remove_entry();
            let keys = (0..pack.parts).map(|part| chunk::part_key(&pack_prefix(first), part));
            rows.extend(keys.map(|key| Row { tree: Tree::Sm, key, value: None }));
            rows.extend(self.spent.write(first, pack.requests));
        }
        rows
    }

    fn read(&self, db: &Db, index: u64) -> Result<Remembered, Fatal> {
        let damaged = |text: String| db.fail(Fatal::Damaged(format!("answer of entry {index}: {text}")));
        let first = self.packs.range(..=index).next_back().map(|(first, _)| *first);
        let first = first.ok_or_else(|| damaged("in no pack".into()))?;
        let blob = read_blob(db, Tree::Sm, &pack_prefix(first))?;
        let blob = blob.ok_or_else(|| damaged("its pack is missing".into()))?;
        let pack: Vec<Remembered> =
            codec::decode(Kind::Requests, &blob).map_err(|error| damaged(error.to_string()))?;
        let found = pack.into_iter().find(|remembered| remembered.index == index);
        found.ok_or_else(|| damaged("not in its pack".into()))
    }
}

impl Remembered {
    fn answer(mut self, command: &Command) -> Outcome {
        if asks(command) {
            return self.outcome;
        }
        if self.fingerprint != fingerprint(command) {
            return Outcome::Refused { reason: format!("request {:?} was another one before", self.request) };
        }
        if let Command::Txn { then, otherwise, .. } = command {
            match &mut self.outcome {
                Outcome::Succeeded { replies, .. } => fill_put_values(replies, then),
                Outcome::Failed { replies, .. } => fill_put_values(replies, otherwise),
                Outcome::Refused { .. } | Outcome::Forgotten => {}
            }
        }
        self.outcome
    }
}

/// A transaction of nothing asks what became of the request it names: it is answered as that was, without the bytes of
/// its puts. If the request was never carried out it never will be, for from now on its id is known.
fn asks(command: &Command) -> bool {
    match command {
        Command::Txn { compare, then, otherwise, .. } => {
            compare.is_empty() && then.is_empty() && otherwise.is_empty()
        }
        Command::Compact { .. } => false,
    }
}

fn request_of(command: &Command) -> Option<RequestId> {
    match command {
        Command::Txn { author, .. } => author.request,
        Command::Compact { .. } => None,
    }
}

/// Of what a command does, not of who asks: a retry may come from another address at another time.
fn fingerprint(command: &Command) -> u32 {
    match command {
        Command::Txn { compare, then, otherwise, .. } => {
            crc32fast::hash(&codec::encode(Kind::Command, &(compare, then, otherwise)))
        }
        Command::Compact { .. } => 0,
    }
}

fn without_put_values(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    if let Outcome::Succeeded { replies, .. } | Outcome::Failed { replies, .. } = &mut outcome {
        for reply in replies {
            if let Reply::Put { record, .. } = reply {
                record.value = [].into();
            }
        }
    }
    outcome
}

fn fill_put_values(replies: &mut [Reply], ops: &[Op]) {
    for (reply, op) in replies.iter_mut().zip(ops) {
        if let (Reply::Put { record, .. }, Op::Put { value, .. }) = (reply, op) {
            record.value = value.as_slice().into();
        }
    }
}

fn pack_prefix(first: u64) -> Vec<u8> {
    [PACK_KEY, &first.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command::Author, revision::Revision, spent::SPENT_MAX};

    fn command(id: u128) -> Command {
        let author = Author { request: Some(RequestId(id.to_be_bytes())), ..Author::default() };
        Command::Txn { author, compare: vec![], then: vec![], otherwise: vec![] }
    }

    /// The keys of the rows that one batch of one request writes.
    fn batch(requests: &mut Requests, index: u64) -> Vec<Vec<u8>> {
        let outcome = Outcome::Succeeded { revision: Revision(index), replies: vec![] };
        let mut rows = requests.remember(index, &command(index.into()), &outcome);
        rows.extend(requests.finish_batch());
        rows.into_iter().map(|row| row.key).collect()
    }

    /// What is known after requests 1 to `last`, in batches of `size`, and the rows that then stand.
    fn window(last: u64, size: u64) -> (Requests, BTreeMap<Vec<u8>, Vec<u8>>) {
        let (mut requests, mut standing) = (Requests::default(), BTreeMap::new());
        for index in 1..=last {
            let outcome = Outcome::Succeeded { revision: Revision(index), replies: vec![] };
            let mut rows = requests.remember(index, &command(index.into()), &outcome);
            if index % size == 0 || index == last {
                rows.extend(requests.finish_batch());
            }
            for row in rows {
                match row.value {
                    Some(value) => standing.insert(row.key, value),
                    None => standing.remove(&row.key),
                };
            }
        }
        (requests, standing)
    }

    /// The same as a start finds it.
    fn loaded(standing: &BTreeMap<Vec<u8>, Vec<u8>>) -> Requests {
        let (mut requests, mut blobs) = (Requests::default(), crate::check::Blobs::default());
        for (key, value) in standing {
            if let Some((_, blob)) = blobs.push(key, value).unwrap() {
                requests.load(&blob).unwrap();
            }
        }
        requests
    }

    fn is_spent(requests: &mut Requests, id: u64) -> bool {
        requests.spent.contains(RequestId(u128::from(id).to_be_bytes()))
    }

    #[test]
    fn every_member_knows_the_same_requests_however_its_batches_were_and_after_a_start() {
        let last = (REQUESTS_MAX + SPENT_MAX + 5_000) as u64;
        for size in [700, last] {
            let (mut lived, standing) = window(last, size);
            let mut started = loaded(&standing);
            for requests in [&mut lived, &mut started] {
                assert_eq!(requests.known.len(), REQUESTS_MAX);
                assert!(!is_spent(requests, 5_000) && is_spent(requests, 5_001), "batches of {size}");
                assert!(is_spent(requests, 5_000 + SPENT_MAX as u64), "batches of {size}");
                assert!(!is_spent(requests, 5_001 + SPENT_MAX as u64), "that one has its answer");
            }
            assert_eq!(started.order, lived.order, "batches of {size}");
            let bytes: usize = standing.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(bytes < 3 * 1024 * 1024, "{bytes} bytes in {} rows", standing.len());
        }
    }

    #[test]
    fn a_window_of_a_version_without_spent_requests_is_read() {
        let (_, mut standing) = window(9_000, 100);
        let spent = [PACK_KEY, &[0; 8]].concat();
        standing.retain(|key, _| !key.starts_with(&spent));
        let mut requests = loaded(&standing);
        assert_eq!(requests.known.len(), REQUESTS_MAX);
        assert!(!is_spent(&mut requests, 1), "that version did not write it down");
        let (index, outcome) = (9_001, Outcome::Forgotten);
        requests.remember(index, &command(index.into()), &outcome);
        assert!(is_spent(&mut requests, 9_001 - REQUESTS_MAX as u64), "from now on it is");
    }

    #[test]
    fn small_batches_share_a_row_until_it_is_full() {
        let mut requests = Requests::default();
        let first = batch(&mut requests, 1);
        assert_eq!(first, [chunk::part_key(&pack_prefix(1), 0)]);
        let next = (2..).find(|index| batch(&mut requests, *index) != first).expect("a second pack");
        let share = next - 1;
        assert!((20..=2 * GROWING_BYTES as u64 / 16).contains(&share), "{share} to a row");
        assert_eq!(batch(&mut requests, next + 1), [chunk::part_key(&pack_prefix(next), 0)]);
        assert!(requests.finish_batch().is_empty(), "a batch without requests rewrites nothing");
        assert!(requests.fresh.len() <= 2, "what is closed is read back from its row");
    }
}
