//! Load: reads a whole database into memory and believes none of it.
//!
//! Every start walks `rev` once, rebuilds the index from it, and checks what sled does not: that no retained revision
//! is missing, that the chain recomputed over them is the stored one, and that the current records are exactly those
//! the state's fingerprint counts. sled loses data silently in one of twelve kinds of damage measured
//! (`reference/store.md` 2.3); here that is noticed, and the store is healed instead of served.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZero,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
};

use crate::{
    check::{Blobs, Checked, History, Place, Stretch},
    chunk,
    codec::{self, FORMAT, Kind},
    db::{Db, Row, Tree},
    error::Fatal,
    history,
    index::Index,
    options::ClusterId,
    purging::Superseded,
    requests::{PACK_KEY, Requests},
    slices::{self, SLICES_MAX, Slice},
    state::{STATE_KEY, State},
};

/// The row of `meta` that names the format. Its own layout never changes, so that every version can read every other's.
const FORMAT_KEY: &[u8] = b"format";

/// Threads that check. Sled's reads meet in its cache, and more of them gain little.
const WORKERS_MAX: usize = 4;

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

/// Reads and checks the whole history, in slices side by side: what a start costs is processor time, half of it sled's
/// and half the checks', and there are at least two processors nearly everywhere.
fn walk(db: &Db, state: &State, cache_bytes: usize) -> Result<(Index, VecDeque<Superseded>), LoadError> {
    let slices = slices::of(db, state.revision)?;
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(slices.len()).min(WORKERS_MAX);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (done, checked) = mpsc::sync_channel(SLICES_MAX);
        for _ in 0..workers {
            let (done, next, slices) = (done.clone(), &next, &slices);
            let work = move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(slice) = slices.get(number) else { break };
                    // Nobody wants more of it once something was found.
                    if done.send((number, check(db, state, *slice))).is_err() {
                        break;
                    }
                }
            };
            let worker = thread::Builder::new().name("check".to_owned()).spawn_scoped(scope, work);
            worker.map_err(|error| format!("start a thread to check with: {error}"))?;
        }
        drop(done);
        let mut history = History::new(state, cache_bytes);
        in_order(checked, slices.len(), |checked| Ok(history.add(checked)?))?;
        Ok(history.finish()?)
    })
}

/// Passes results on in the order of their numbers, and ends with the first error. Up to `count` of them wait.
fn in_order<T>(
    results: Receiver<(usize, Result<T, LoadError>)>,
    count: usize,
    mut each: impl FnMut(T) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let (mut waiting, mut expected) = (BTreeMap::new(), 0);
    for (number, result) in results {
        waiting.insert(number, result);
        while let Some(result) = waiting.remove(&expected) {
            each(result?)?;
            expected += 1;
        }
    }
    if expected < count { Err(format!("slice {expected} of {count} was not checked").into()) } else { Ok(()) }
}

/// Reads and checks one slice.
fn check(db: &Db, state: &State, slice: Slice) -> Result<Checked, LoadError> {
    let begin = match slice.first {
        first if first <= state.first_retained() => Place::first(state),
        // What is trusted here is demanded of the slice before.
        first => {
            let before = history::read_first(db, first.previous())?;
            let before = before.ok_or_else(|| format!("revision {} is missing", first.previous()))?;
            Place { expected: first, chain: before.chain }
        }
    };
    let (mut blobs, mut stretch) = (Blobs::default(), Stretch::new(state, begin));
    db.scan::<LoadError>(Tree::Rev, &slice.first.0.to_be_bytes(), |key, value| {
        if !slice.holds(key) {
            return Ok(false);
        }
        if let Some((key, blob)) = blobs.push(key, value)? {
            stretch.on_blob(&key, &blob)?;
        }
        Ok(true)
    })?;
    blobs.end()?;
    Ok(stretch.finish()?)
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

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use super::*;
    use crate::{
        command::Author,
        history::{Entry, Head, Written},
        key::Key,
        revision::Revision,
        state::Counters,
    };

    const REVISIONS: u64 = 3_000;

    /// A database of that many revisions of a few keys, and where it stands.
    fn filled(folder: &std::path::Path) -> (Db, State) {
        let lock = Arc::new(File::open(folder).unwrap());
        let db = Db::open(&folder.join("sled"), 1024 * 1024, lock).unwrap();
        db.commit(&identity_rows(None)).unwrap();
        let (mut state, mut slots) = (State::empty(), BTreeMap::<Key, Counters>::new());
        for number in 2..REVISIONS + 2 {
            let (revision, key) = (Revision(number), Key::from(format!("key-{}", number % 700)));
            let before = slots.get(&key).copied();
            let create_revision = before.map_or(revision, |before| before.create_revision);
            let version = before.map_or(1, |before| before.version + 1);
            let at = history::Location { revision, sub: 0 };
            let counters = Counters { create_revision, at, version };
            let value = number.to_be_bytes().as_slice().into();
            let written = Written::Put { create_revision, version, value };
            let entry = Entry { key: key.clone(), written, before: before.map(|before| before.at) };
            let head = Head { author: Author::default(), index: number, entries: 1 };
            let (rows, chain) = history::rows(state.chain, revision, &head, &[entry]);
            db.commit(&rows).unwrap();
            before.iter().for_each(|before| state.live.remove(&key, before));
            state.live.add(&key, &counters);
            slots.insert(key, counters);
            state = State { applied: number, revision, chain, ..state };
        }
        db.commit(&state.rows()).unwrap();
        (db, state)
    }

    fn load_all(db: &Db) -> Result<Loaded, LoadError> {
        load(db, Expect::Store, None, 0)
    }

    #[test]
    fn what_is_checked_in_slices_is_checked_where_they_meet() {
        let folder = tempfile::tempdir().unwrap();
        let (db, state) = filled(folder.path());
        let slices = slices::of(&db, state.revision).unwrap();
        assert!(slices.len() > 3, "{slices:?}");
        let loaded = load_all(&db).unwrap();
        assert_eq!((loaded.superseded.len() as u64, loaded.state), (REVISIONS - 700, state));

        for slice in &slices {
            for revision in [slice.first, slice.first.next(), slice.last.min(Revision(REVISIONS + 1))] {
                let mut key = history::Location { revision, sub: 0 }.prefix().to_vec();
                key.extend([0, 0]);
                let value = db.get(Tree::Rev, &key).unwrap().unwrap().to_vec();
                let row = |value| Row { tree: Tree::Rev, key: key.clone(), value };
                db.commit(&[row(None)]).unwrap();
                assert!(load_all(&db).is_err(), "revision {revision} is gone");
                // A row that is whole, and tells another history.
                let first = history::First::decode(&value[9..]).unwrap();
                let entry = first.entry_bytes.clone();
                let head = Head { index: 1, ..first.head };
                let entry = history::decode_entry(&entry).unwrap();
                let (rows, _) = history::rows(crate::chain::ChainHash::GENESIS, revision, &head, &[entry]);
                db.commit(&rows).unwrap();
                assert!(load_all(&db).is_err(), "revision {revision} is another");
                db.commit(&[row(Some(value))]).unwrap();
            }
        }
        assert!(load_all(&db).is_ok());
    }
}
