//! Load: reads a whole database into memory and believes none of it.
//!
//! Every start walks `rev` once, rebuilds the index from it, and checks what sled does not: that no retained revision
//! is missing, that the chain recomputed over them is the stored one, and that the current records are exactly those
//! the state's fingerprint counts. sled loses data silently in one of twelve kinds of damage measured
//! (`reference/store.md` 2.3); here that is noticed, and the store is healed instead of served.

use std::{
    collections::VecDeque,
    sync::mpsc::{self, SyncSender},
    thread,
};

use crate::{
    chain::ChainHash,
    chunk::{self, Joined},
    codec::{self, FORMAT, Kind},
    db::{Db, Row, Tree},
    error::Fatal,
    history::{self, First, Location, Written},
    index::Index,
    key::Key,
    options::ClusterId,
    purging::Superseded,
    requests::{PACK_KEY, Requests},
    revision::Revision,
    state::{Fingerprint, STATE_KEY, State},
};

/// The row of `meta` that names the format. Its own layout never changes, so that every version can read every other's.
const FORMAT_KEY: &[u8] = b"format";
/// Bytes of rows handed on at once, and how many such batches wait to be checked: half a megabyte in memory.
const BATCH_BYTES: usize = 128 * 1024;
const BATCHES_AHEAD: usize = 3;

/// The row of `meta` that names the cluster.
const CLUSTER_KEY: &[u8] = b"cluster";

/// A database in memory, every check passed.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) state: State,
    pub(crate) index: Index,
    pub(crate) requests: Requests,
    pub(crate) superseded: VecDeque<Superseded>,
}

/// Why a database is not taken into service.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// It is of another format, and may be perfectly well.
    Format(u32),
    /// It is of another cluster.
    Foreign(ClusterId),
    /// It is damaged, or the disk is.
    Fatal(Fatal),
}

impl From<Fatal> for LoadError {
    fn from(fatal: Fatal) -> LoadError {
        LoadError::Fatal(fatal)
    }
}

impl From<String> for LoadError {
    fn from(text: String) -> LoadError {
        LoadError::Fatal(Fatal::Damaged(text))
    }
}

/// Whether a database may turn out to be nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It is made into an empty store if it is nothing yet.
    Anything,
    /// It was a store when it was last seen.
    Store,
}

/// Loads a database, which must belong to the cluster asked for, or to none yet.
pub(crate) fn load(
    db: &Db,
    expect: Expect,
    cluster: Option<ClusterId>,
    cache_bytes: usize,
) -> Result<Loaded, LoadError> {
    let cluster = identify(db, expect, cluster)?;
    let state = match history::read_blob(db, Tree::Sm, STATE_KEY)? {
        Some(blob) => codec::decode(Kind::State, &blob).map_err(|error| format!("state: {error}"))?,
        None => State::empty(),
    };
    let (index, superseded) = walk(db, &state, cache_bytes)?;
    let mut requests = Requests::default();
    for_each_blob(db, Tree::Sm, PACK_KEY, |blob| requests.load(blob))?;
    Ok(Loaded { cluster, state, index, requests, superseded })
}

/// Walks over the whole history. Sled's pages are read here while another thread checks what was read before: each is
/// half of what a start costs, and there are at least two processors nearly everywhere.
fn walk(db: &Db, state: &State, cache_bytes: usize) -> Result<(Index, VecDeque<Superseded>), LoadError> {
    thread::scope(|scope| {
        let (ahead, batches) = mpsc::sync_channel::<Batch>(BATCHES_AHEAD);
        let check = move || {
            let (mut blobs, mut scan) = (Blobs::default(), Scan::new(state, cache_bytes));
            for batch in batches {
                for (key, value) in batch.rows() {
                    if let Some((key, blob)) = blobs.push(key, value)? {
                        scan.on_blob(&key, blob)?;
                    }
                }
            }
            blobs.end()?;
            scan.finish()
        };
        let checker = thread::Builder::new().name("check".to_owned()).spawn_scoped(scope, check);
        let checker = checker.map_err(|error| format!("start a thread to check with: {error}"))?;
        let read = read_ahead(db, ahead);
        let checked = checker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What could not be read was not checked, so what reading says comes first.
        read?;
        Ok(checked?)
    })
}

/// Hands the rows of the history on until there are no more, or nobody wants them: whoever checks ends early only if it
/// found something, and says so itself.
fn read_ahead(db: &Db, ahead: SyncSender<Batch>) -> Result<(), Fatal> {
    let mut batch = Batch::new();
    db.scan::<Fatal>(Tree::Rev, &[], |key, value| {
        batch.push(key, value);
        if batch.bytes.len() < BATCH_BYTES {
            return Ok(true);
        }
        Ok(ahead.send(std::mem::replace(&mut batch, Batch::new())).is_ok())
    })?;
    let _ = ahead.send(batch);
    Ok(())
}

/// Rows on their way from thread to thread, in one piece: were each allocated here and freed there, the two would spend
/// a fifth of their time waiting for the allocator (measured).
struct Batch {
    bytes: Vec<u8>,
    /// The lengths of each row's key and value.
    lengths: Vec<(usize, usize)>,
}

impl Batch {
    fn new() -> Batch {
        Batch { bytes: Vec::with_capacity(BATCH_BYTES + chunk::ROW_BYTES_MAX), lengths: Vec::new() }
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.lengths.push((key.len(), value.len()));
    }

    fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map(move |(key, value)| {
            let (row, after) = rest.split_at(key + value);
            rest = after;
            row.split_at(*key)
        })
    }
}

/// The rows that say what a database is.
pub(crate) fn identity_rows(cluster: Option<ClusterId>) -> Vec<Row> {
    let format = u32::from(FORMAT).to_be_bytes();
    let value = [format, crc32fast::hash(&format).to_be_bytes()].concat();
    let mut rows = vec![Row { tree: Tree::Meta, key: FORMAT_KEY.to_vec(), value: Some(value) }];
    if let Some(ClusterId(id)) = cluster {
        let parts = chunk::split(CLUSTER_KEY, &id).into_iter();
        rows.extend(parts.map(|(key, value)| Row { tree: Tree::Meta, key, value: Some(value) }));
    }
    rows
}

/// Reads what the database is; writes it when it is nothing yet, or belongs to no cluster yet.
fn identify(db: &Db, expect: Expect, wanted: Option<ClusterId>) -> Result<Option<ClusterId>, LoadError> {
    match read_format(db)? {
        Some(format) if format != u32::from(FORMAT) => return Err(LoadError::Format(format)),
        Some(_) => {}
        None if expect == Expect::Store => return Err("it was a store and is nothing now".to_owned().into()),
        None if is_empty(db)? => {}
        None => return Err("it names no format and yet holds rows".to_owned().into()),
    }
    let found = match history::read_blob(db, Tree::Meta, CLUSTER_KEY)? {
        Some(id) => Some(ClusterId(id.try_into().map_err(|_| "cluster id of the wrong length".to_owned())?)),
        None => None,
    };
    match (found, wanted) {
        (Some(found), Some(wanted)) if found != wanted => Err(LoadError::Foreign(found)),
        (Some(found), _) => Ok(Some(found)),
        (None, wanted) => {
            db.commit(&identity_rows(wanted))?;
            // Before CURRENT names it: a store whose process was killed must not be found to be nothing.
            db.sync()?;
            Ok(wanted)
        }
    }
}

fn read_format(db: &Db) -> Result<Option<u32>, LoadError> {
    let Some(value) = db.get(Tree::Meta, FORMAT_KEY)? else { return Ok(None) };
    let damaged = || "the row that names its format is damaged".to_owned();
    let (format, sum) = value.split_first_chunk::<4>().ok_or_else(damaged)?;
    if sum != crc32fast::hash(format).to_be_bytes() {
        return Err(damaged().into());
    }
    Ok(Some(u32::from_be_bytes(*format)))
}

fn is_empty(db: &Db) -> Result<bool, LoadError> {
    let mut empty = true;
    for tree in [Tree::Rev, Tree::Sm] {
        db.scan::<Fatal>(tree, &[], |_, _| {
            empty = false;
            Ok(false)
        })?;
    }
    Ok(empty)
}

/// Calls `each` with every whole blob whose keys begin with `prefix`, in order.
fn for_each_blob(
    db: &Db,
    tree: Tree,
    prefix: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), LoadError> {
    let mut blobs = Blobs::default();
    db.scan::<LoadError>(tree, prefix, |key, value| {
        if !key.starts_with(prefix) {
            return Ok(false);
        }
        if let Some((_, blob)) = blobs.push(key, value)? {
            each(&blob)?;
        }
        Ok(true)
    })?;
    Ok(blobs.end()?)
}

/// A whole blob behind the key of its first row.
type Blob = (Vec<u8>, Vec<u8>);

/// Rows in key order, put together to whole blobs.
#[derive(Default)]
pub(crate) struct Blobs {
    open: Option<(Vec<u8>, Joined)>,
}

impl Blobs {
    /// Takes the next row; answers a blob, and the key of its first row, once it is whole.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Blob>, String> {
        let (first, joined) = match self.open.take() {
            None => (key.to_vec(), Joined::start(key, value)?),
            Some((first, joined)) => {
                let prefix = &first[..first.len().saturating_sub(2)];
                let expected = chunk::part_key(prefix, joined.parts());
                if key != expected {
                    return Err(format!("row {} is missing", expected.escape_ascii()));
                }
                (first, joined.push(key, value)?)
            }
        };
        match joined.finish() {
            Ok(blob) => Ok(Some((first, blob))),
            Err((_, joined)) => {
                self.open = Some((first, joined));
                Ok(None)
            }
        }
    }

    /// Whether the last blob was whole.
    pub(crate) fn end(self) -> Result<(), String> {
        match self.open {
            None => Ok(()),
            Some((first, _)) => Err(format!("the rest of row {} is missing", first.escape_ascii())),
        }
    }
}

/// The walk over `rev`.
pub(crate) struct Scan<'a> {
    state: &'a State,
    index: Index,
    superseded: VecDeque<Superseded>,
    /// The link of the last revision checked.
    chain: ChainHash,
    /// The next revision that must be there.
    expected: Revision,
    open: Option<OpenRevision>,
}

/// A revision whose entries are still coming.
struct OpenRevision {
    revision: Revision,
    first: First,
    entries: Vec<Vec<u8>>,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(state: &'a State, cache_bytes: usize) -> Scan<'a> {
        Scan {
            state,
            index: Index::new(cache_bytes),
            superseded: VecDeque::new(),
            chain: state.base,
            expected: state.first_retained(),
            open: None,
        }
    }

    /// Takes the next whole blob, with the key of its first row.
    pub(crate) fn on_blob(&mut self, key: &[u8], blob: Vec<u8>) -> Result<(), String> {
        let (at, part) = Location::parse(key)?;
        if part != 0 {
            return Err(format!("revision {} entry {} begins with part {part}", at.revision, at.sub));
        }
        if at.sub == 0 {
            self.close_revision()?;
            let mut first =
                First::decode(&blob).map_err(|text| format!("revision {}: {text}", at.revision))?;
            let entry = std::mem::take(&mut first.entry_bytes);
            self.open = Some(OpenRevision { revision: at.revision, first, entries: Vec::new() });
            // Compaction leaves a head without an entry while others of its revision live.
            return if entry.is_empty() && !self.is_retained(at.revision) {
                Ok(())
            } else {
                self.on_entry(at, entry)
            };
        }
        self.on_entry(at, blob)
    }

    fn on_entry(&mut self, at: Location, bytes: Vec<u8>) -> Result<(), String> {
        let name = || format!("revision {} entry {}", at.revision, at.sub);
        let open = self.open.as_mut().filter(|open| open.revision == at.revision);
        let open = open.ok_or_else(|| format!("{} has no head", name()))?;
        let entry = history::decode_entry(&bytes).map_err(|text| format!("{}: {text}", name()))?;
        open.entries.push(bytes);
        let before = match entry.record(at.revision) {
            Some(record) => self.index.put(&record, at),
            None => self.index.remove(&entry.key),
        };
        if self.is_retained(at.revision) && before != entry.before {
            return Err(format!("{} does not follow the record before it", name()));
        }
        self.superseded.extend(before.map(|what| Superseded { by: at.revision, what }));
        if entry.written == Written::Delete {
            self.superseded.push_back(Superseded { by: at.revision, what: at });
        }
        Ok(())
    }

    fn is_retained(&self, revision: Revision) -> bool {
        revision >= self.state.first_retained()
    }

    /// Checks a revision once all its entries have come.
    fn close_revision(&mut self) -> Result<(), String> {
        let Some(OpenRevision { revision, first, entries }) = self.open.take() else { return Ok(()) };
        if !self.is_retained(revision) {
            return Ok(());
        }
        if revision != self.expected || first.head.entries as usize != entries.len() {
            return Err(format!("revision {} is missing, or part of it", self.expected));
        }
        if first.head.index > self.state.applied {
            return Err(format!("revision {revision} comes from an entry that was not applied"));
        }
        let parts = std::iter::once(first.head_bytes.as_slice()).chain(entries.iter().map(Vec::as_slice));
        self.chain = self.chain.extend(revision, parts);
        if self.chain != first.chain {
            return Err(format!("the chain breaks at revision {revision}"));
        }
        self.expected = revision.next();
        Ok(())
    }

    /// What all of it comes to, every check passed.
    pub(crate) fn finish(mut self) -> Result<(Index, VecDeque<Superseded>), String> {
        self.close_revision()?;
        if self.expected != self.state.revision.next() {
            let reached = self.expected.previous();
            return Err(format!("history ends at revision {reached}, the state at {}", self.state.revision));
        }
        if self.chain != self.state.chain {
            return Err("the chain ends in another hash than the state's".to_owned());
        }
        let mut live = Fingerprint::default();
        self.index.range(&Key::all()).for_each(|(key, slot)| live.add(key, &slot.counters));
        if live != self.state.live {
            let (found, expected) = (live.records(), self.state.live.records());
            return Err(format!("{found} current records are not the {expected} the state counts"));
        }
        Ok((self.index, self.superseded))
    }
}
