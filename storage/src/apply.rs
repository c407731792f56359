//! Apply: a function of (state, index, command) to the rows to write, the new state and the outcome.
//!
//! No clock, no randomness, no configuration, and every map it walks is ordered: the same log makes the same store on
//! every member. It reads the store (the index, and sled for bytes that are not in memory) and writes nothing: what
//! a whole batch of commands changes is gathered here and committed by `Store::apply` in one piece.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use crate::{
    chain::ChainHash,
    command::{Author, Command, Compare, Op},
    db::{Db, Row},
    error::Fatal,
    event::{Change, Event},
    history::{self, Entry, Head, Location, Written, read_record},
    index::Index,
    key::Key,
    outcome::{Outcome, Reply},
    purging::Superseded,
    record::Record,
    requests::Requests,
    revision::Revision,
    state::{Counters, State},
};

/// A transaction that would answer more than this is refused: its outcome travels in one piece and is remembered.
pub const REPLIES_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A current record and where its entry is.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) record: Record,
    pub(crate) at: Location,
}

impl Current {
    fn counters(&self) -> Counters {
        let Record { create_revision, version, .. } = self.record;
        Counters { create_revision, at: self.at, version }
    }
}

/// What applying a batch will change, gathered command by command.
pub(crate) struct Batch<'a> {
    db: &'a Db,
    index: &'a Index,
    requests: &'a mut Requests,
    /// The state after the commands so far.
    pub(crate) state: State,
    /// The keys the commands so far wrote, with what they hold now; `None` where they were deleted.
    pub(crate) writes: BTreeMap<Key, Option<Current>>,
    pub(crate) changes: Vec<Arc<Change>>,
    pub(crate) superseded: Vec<Superseded>,
    rows: Vec<Row>,
}

/// What one transaction is about to do, while it may still come to nothing.
struct Draft {
    revision: Revision,
    entries: Vec<Entry>,
    events: Vec<Arc<Event>>,
    writes: BTreeMap<Key, Option<Current>>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(db: &'a Db, index: &'a Index, state: &State, requests: &'a mut Requests) -> Batch<'a> {
        Batch {
            db,
            index,
            requests,
            state: state.clone(),
            writes: BTreeMap::new(),
            changes: Vec::new(),
            superseded: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Carries out the command of the next log entry; raft's own entries have none.
    pub(crate) fn apply(&mut self, index: u64, command: Option<&Command>) -> Result<Outcome, Fatal> {
        let applied = self.state.applied;
        if index <= applied || (applied != 0 && index != applied + 1) {
            return Err(self.db.fail(Fatal::Order { applied, index }));
        }
        self.state.applied = index;
        let Some(command) = command else {
            return Ok(Outcome::Succeeded { revision: self.state.revision, replies: Vec::new() });
        };
        if let Some(first) = self.requests.answer(self.db, command)? {
            return Ok(first);
        }
        let outcome = self.carry_out(index, command)?;
        let rows = self.requests.remember(index, command, &outcome);
        self.rows.extend(rows);
        Ok(outcome)
    }

    /// Everything to write, the new state included.
    pub(crate) fn finish_rows(&mut self) -> Vec<Row> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.extend(self.requests.finish_batch());
        rows.extend(self.state.rows());
        rows
    }

    fn carry_out(&mut self, index: u64, command: &Command) -> Result<Outcome, Fatal> {
        if let Err(invalid) = command.check() {
            return Ok(Outcome::Refused { reason: invalid.to_string() });
        }
        match command {
            Command::Txn { author, compare, then, otherwise } => {
                let succeeded = self.all_hold(compare)?;
                let ops = if succeeded { then } else { otherwise };
                let mut draft = Draft::new(self.state.revision.next());
                let mut replies = Vec::with_capacity(ops.len());
                for op in ops {
                    replies.push(self.reply(&mut draft, op)?);
                }
                let bytes: usize = replies.iter().map(reply_bytes).sum();
                if bytes > REPLIES_BYTES_MAX {
                    let reason = format!("answers of {bytes} bytes; at most {REPLIES_BYTES_MAX}");
                    return Ok(Outcome::Refused { reason });
                }
                self.take(index, author, draft);
                let revision = self.state.revision;
                Ok(match succeeded {
                    true => Outcome::Succeeded { revision, replies },
                    false => Outcome::Failed { revision, replies },
                })
            }
            Command::Compact { before } => self.compact(*before),
        }
    }

    fn all_hold(&self, compares: &[Compare]) -> Result<bool, Fatal> {
        for compare in compares {
            if !self.holds(compare)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds(&self, compare: &Compare) -> Result<bool, Fatal> {
        if let Compare::Value { key, equals } = compare {
            let current = self.current(key)?;
            return Ok(current.is_some_and(|current| *current.record.value == **equals));
        }
        if let Compare::NoneNewer { prefix, than } = compare {
            return Ok(self.none_newer(prefix, *than));
        }
        let counters = self.counters(compare.key());
        Ok(match compare {
            Compare::ModRevision { equals, .. } => {
                counters.map_or(Revision::ZERO, |counters| counters.at.revision) == *equals
            }
            Compare::CreateRevision { equals, .. } => {
                counters.map_or(Revision::ZERO, |counters| counters.create_revision) == *equals
            }
            Compare::Version { equals, .. } => counters.map_or(0, |counters| counters.version) == *equals,
            Compare::Exists { .. } => counters.is_some(),
            // The value's and the prefix's were answered above.
            Compare::Absent { .. } | Compare::Value { .. } | Compare::NoneNewer { .. } => counters.is_none(),
        })
    }

    /// Whether every record under the prefix was last written at this revision or before.
    fn none_newer(&self, prefix: &Key, than: Revision) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let mut written = self.writes.range::<Key, _>(from).take_while(|(key, _)| key.starts_with(prefix));
        let mut standing = self.index.range(prefix).filter(|(key, _)| !self.writes.contains_key(key));
        !written.any(|(_, current)| current.as_ref().is_some_and(|current| current.at.revision > than))
            && !standing.any(|(_, slot)| slot.counters.at.revision > than)
    }

    fn reply(&self, draft: &mut Draft, op: &Op) -> Result<Reply, Fatal> {
        let before = match draft.writes.get(op.key()) {
            Some(written) => written.clone(),
            None => self.current(op.key())?,
        };
        Ok(match op {
            Op::Get { .. } => Reply::Get { record: before.map(|current| current.record) },
            Op::Put { key, value } => match before {
                Some(current) if *current.record.value == **value => {
                    Reply::Put { record: current.record, changed: false }
                }
                before => Reply::Put { record: draft.put(key, value, before), changed: true },
            },
            Op::Delete { key } => match before {
                None => Reply::Delete { before: None },
                Some(current) => Reply::Delete { before: Some(draft.delete(key, current)) },
            },
        })
    }

    /// Makes a draft a revision; one that changes nothing takes none.
    fn take(&mut self, index: u64, author: &Author, draft: Draft) {
        if draft.entries.is_empty() {
            return;
        }
        let Draft { revision, entries, events, writes } = draft;
        let head = Head { author: author.clone(), index, entries: entries.len() as u32 };
        let (rows, chain) = history::rows(self.state.chain, revision, &head, &entries);
        self.rows.extend(rows);
        self.state.chain = chain;
        self.state.revision = revision;
        for (sub, entry) in (0..).zip(&entries) {
            if let Some(before) = entry.before {
                self.superseded.push(Superseded { by: revision, what: before });
            }
            if entry.written == Written::Delete {
                self.superseded.push(Superseded { by: revision, what: Location { revision, sub } });
            }
        }
        for (key, after) in writes {
            if let Some(before) = self.counters(&key) {
                self.state.live.remove(&key, &before);
            }
            if let Some(after) = &after {
                self.state.live.add(&key, &after.counters());
            }
            self.writes.insert(key, after);
        }
        self.changes.push(Arc::new(Change { revision, chain, events }));
    }

    fn compact(&mut self, before: Revision) -> Result<Outcome, Fatal> {
        let revision = self.state.revision;
        if before > revision {
            return Ok(Outcome::Refused {
                reason: format!("compact before {before}: the store is at {revision}"),
            });
        }
        if before > self.state.compacted {
            self.state.base = self.chain_at(before.previous())?;
            self.state.compacted = before;
        }
        Ok(Outcome::Succeeded { revision, replies: Vec::new() })
    }

    /// The link of a retained revision, or of one this very batch makes.
    fn chain_at(&self, revision: Revision) -> Result<ChainHash, Fatal> {
        if revision <= Revision::FIRST {
            return Ok(ChainHash::GENESIS);
        }
        if let Some(change) = self.changes.iter().find(|change| change.revision == revision) {
            return Ok(change.chain);
        }
        let first = history::read_first(self.db, revision)?;
        let missing = || self.db.fail(Fatal::Damaged(format!("revision {revision} is missing")));
        Ok(first.ok_or_else(missing)?.chain)
    }

    fn counters(&self, key: &Key) -> Option<Counters> {
        match self.writes.get(key) {
            Some(written) => written.as_ref().map(Current::counters),
            None => self.index.get(key).map(|slot| slot.counters),
        }
    }

    fn current(&self, key: &Key) -> Result<Option<Current>, Fatal> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        let Some(slot) = self.index.get(key) else { return Ok(None) };
        let at = slot.counters.at;
        let record = match slot.record(key) {
            Some(record) => record,
            None => read_record(self.db, at)?,
        };
        Ok(Some(Current { record, at }))
    }
}

impl Draft {
    fn new(revision: Revision) -> Draft {
        Draft { revision, entries: Vec::new(), events: Vec::new(), writes: BTreeMap::new() }
    }

    fn put(&mut self, key: &Key, value: &[u8], before: Option<Current>) -> Record {
        let (create_revision, version) = match &before {
            Some(Current { record, .. }) => (record.create_revision, record.version + 1),
            None => (self.revision, 1),
        };
        let record = Record {
            key: key.clone(),
            value: value.into(),
            create_revision,
            mod_revision: self.revision,
            version,
        };
        let written = Written::Put { create_revision, version, value: record.value.clone() };
        self.write(key, written, before, Some(record.clone()));
        record
    }

    fn delete(&mut self, key: &Key, before: Current) -> Record {
        let record = before.record.clone();
        self.write(key, Written::Delete, Some(before), None);
        record
    }

    fn write(&mut self, key: &Key, written: Written, before: Option<Current>, after: Option<Record>) {
        let at = Location { revision: self.revision, sub: self.entries.len() as u32 };
        self.entries.push(Entry {
            key: key.clone(),
            written,
            before: before.as_ref().map(|current| current.at),
        });
        self.writes.insert(key.clone(), after.clone().map(|record| Current { record, at }));
        let before = before.map(|current| current.record);
        self.events.push(Arc::new(Event { revision: self.revision, key: key.clone(), before, after }));
    }
}

fn reply_bytes(reply: &Reply) -> usize {
    let record = match reply {
        Reply::Put { record, .. } => Some(record),
        Reply::Delete { before } => before.as_ref(),
        Reply::Get { record } => record.as_ref(),
    };
    record.map_or(0, |record| record.key.as_bytes().len() + record.value.len())
}
