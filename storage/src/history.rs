//! History: what every revision did, as it stands on disk, and how it is read back.
//!
//! A revision's rows are keyed by (revision, sub, part). Sub 0 holds the head (author, log index, number of entries),
//! its link of the chain and the first entry; sub n holds entry n. So a put is one row when it is written and one when
//! compaction removes it, and each entry can be read, kept or removed by itself. Entries never change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bincode::{BorrowDecode, Decode, Encode};

use crate::{
    chain::ChainHash,
    chunk::{self, Joined},
    codec::{self, Kind},
    command::Author,
    db::{Db, Row, Tree},
    error::Fatal,
    event::{Change, Event},
    key::Key,
    record::Record,
    revision::Revision,
};

/// What one revision is, apart from its entries.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Head {
    pub(crate) author: Author,
    /// The log entry that made it.
    pub(crate) index: u64,
    /// How many entries it had when it was made.
    pub(crate) entries: u32,
}

/// What one revision did to one key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) written: Written,
    /// Where the record it replaced or removed is.
    pub(crate) before: Option<Location>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Written {
    Put { create_revision: Revision, version: u64, value: Arc<[u8]> },
    Delete,
}

/// An [`Entry`] as it lies in its bytes, for who only looks at it.
#[derive(Debug, BorrowDecode)]
pub(crate) struct EntryView<'a> {
    pub(crate) key: &'a [u8],
    written: WrittenView<'a>,
    pub(crate) before: Option<Location>,
}

#[derive(Debug, BorrowDecode)]
enum WrittenView<'a> {
    Put { create_revision: Revision, version: u64, _value: &'a [u8] },
    Delete,
}

impl EntryView<'_> {
    /// The create revision and the version of the record it wrote; nothing when it was a deletion.
    pub(crate) fn counters(&self) -> Option<(Revision, u64)> {
        match self.written {
            WrittenView::Delete => None,
            WrittenView::Put { create_revision, version, .. } => Some((create_revision, version)),
        }
    }
}

/// Where an entry is: its revision and its number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(crate) struct Location {
    pub(crate) revision: Revision,
    pub(crate) sub: u32,
}

impl Location {
    /// The beginning of the keys of its rows.
    pub(crate) fn prefix(self) -> [u8; 12] {
        let mut prefix = [0; 12];
        prefix[..8].copy_from_slice(&self.revision.0.to_be_bytes());
        prefix[8..].copy_from_slice(&self.sub.to_be_bytes());
        prefix
    }

    /// Reads the key of a row: where, and which part.
    pub(crate) fn parse(key: &[u8]) -> Result<(Location, u16), String> {
        let Some((revision, rest)) = key.split_first_chunk::<8>() else {
            return Err(format!("row {} has no revision", key.escape_ascii()));
        };
        let &[a, b, c, d, e, f] = rest else {
            return Err(format!("row {} has a key of the wrong length", key.escape_ascii()));
        };
        let location = Location {
            revision: Revision(u64::from_be_bytes(*revision)),
            sub: u32::from_be_bytes([a, b, c, d]),
        };
        Ok((location, u16::from_be_bytes([e, f])))
    }
}

impl Entry {
    /// The record it wrote; nothing when it was a deletion.
    pub(crate) fn record(&self, revision: Revision) -> Option<Record> {
        match &self.written {
            Written::Delete => None,
            Written::Put { create_revision, version, value } => Some(Record {
                key: self.key.clone(),
                value: value.clone(),
                create_revision: *create_revision,
                mod_revision: revision,
                version: *version,
            }),
        }
    }
}

/// What sub 0 holds.
#[derive(Clone, Debug)]
pub(crate) struct First {
    /// The bytes all of it takes.
    length: usize,
    /// The head as it was hashed.
    pub(crate) head_bytes: Vec<u8>,
    pub(crate) head: Head,
    pub(crate) chain: ChainHash,
    /// The first entry as it was hashed; empty once compaction removed it and others of the revision live on.
    pub(crate) entry_bytes: Vec<u8>,
}

impl First {
    fn encode(head_bytes: &[u8], chain: ChainHash, entry_bytes: &[u8]) -> Vec<u8> {
        let length = (head_bytes.len() as u32).to_be_bytes();
        [&length, head_bytes, &chain.0, entry_bytes].concat()
    }

    /// The blob without the entry, for others of the revision live on.
    pub(crate) fn without_entry(&self) -> Vec<u8> {
        First::encode(&self.head_bytes, self.chain, &[])
    }

    /// Reads the blob of sub 0.
    pub(crate) fn decode(blob: &[u8]) -> Result<First, String> {
        let FirstView { head, chain, entry } = FirstView::split(blob)?;
        Ok(First {
            length: blob.len(),
            head: decode_head(head)?,
            head_bytes: head.to_vec(),
            chain,
            entry_bytes: entry.to_vec(),
        })
    }
}

/// A [`First`] as it lies in its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstView<'a> {
    /// The head as it was hashed.
    pub(crate) head: &'a [u8],
    pub(crate) chain: ChainHash,
    /// The first entry as it was hashed, or nothing.
    pub(crate) entry: &'a [u8],
}

impl<'a> FirstView<'a> {
    /// Tells the parts of the blob of sub 0.
    pub(crate) fn split(blob: &'a [u8]) -> Result<FirstView<'a>, String> {
        let short = || "head of a revision is too short".to_owned();
        let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(short)?;
        let (head, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(short)?;
        let (chain, entry) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        Ok(FirstView { head, chain: ChainHash(*chain), entry })
    }
}

/// Reads a head's bytes.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<Head, String> {
    codec::decode(Kind::RevisionHead, bytes).map_err(|error| error.to_string())
}

/// Reads an entry's bytes, and copies none of them.
pub(crate) fn view_entry(bytes: &[u8]) -> Result<EntryView<'_>, String> {
    codec::view(Kind::Entry, bytes).map_err(|error| error.to_string())
}

/// Reads an entry's bytes.
pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, String> {
    codec::decode(Kind::Entry, bytes).map_err(|error| error.to_string())
}

/// The rows of a new revision, and its link of the chain.
pub(crate) fn rows(
    before: ChainHash,
    revision: Revision,
    head: &Head,
    entries: &[Entry],
) -> (Vec<Row>, ChainHash) {
    let head = codec::encode(Kind::RevisionHead, head);
    let mut blobs: Vec<Vec<u8>> = entries.iter().map(|entry| codec::encode(Kind::Entry, entry)).collect();
    let parts = std::iter::once(head.as_slice()).chain(blobs.iter().map(Vec::as_slice));
    let chain = before.extend(revision, parts);
    if let Some(first) = blobs.first_mut() {
        *first = First::encode(&head, chain, first);
    }
    let rows = blobs.iter().zip(0u32..).flat_map(|(blob, sub)| {
        chunk::split(&Location { revision, sub }.prefix(), blob).into_iter().map(rev_row)
    });
    (rows.collect(), chain)
}

fn rev_row((key, value): (Vec<u8>, Vec<u8>)) -> Row {
    Row { tree: Tree::Rev, key, value: Some(value) }
}

/// Reads a whole blob from a tree; nothing when its first row is not there.
pub(crate) fn read_blob(db: &Db, tree: Tree, prefix: &[u8]) -> Result<Option<Vec<u8>>, Fatal> {
    let key = chunk::part_key(prefix, 0);
    let Some(value) = db.get(tree, &key)? else { return Ok(None) };
    let damaged = |text: String| db.fail(Fatal::Damaged(text));
    let mut joined = Joined::start(&key, &value).map_err(damaged)?;
    loop {
        let (part, unfinished) = match joined.finish() {
            Ok(blob) => return Ok(Some(blob)),
            Err(missing) => missing,
        };
        let key = chunk::part_key(prefix, part);
        let value = db.get(tree, &key)?;
        let value = value.ok_or_else(|| damaged(format!("row {} is missing", key.escape_ascii())))?;
        joined = unfinished.push(&key, &value).map_err(damaged)?;
    }
}

/// The head of a revision, its link and its first entry; nothing when it was compacted away.
pub(crate) fn read_first(db: &Db, revision: Revision) -> Result<Option<First>, Fatal> {
    let blob = read_blob(db, Tree::Rev, &Location { revision, sub: 0 }.prefix())?;
    let first = blob.map(|blob| First::decode(&blob)).transpose();
    first.map_err(|text| db.fail(Fatal::Damaged(format!("revision {revision}: {text}"))))
}

/// One entry. The caller knows that it exists: the index or another entry names it.
pub(crate) fn read_entry(db: &Db, at: Location) -> Result<Entry, Fatal> {
    let damaged =
        |text: String| db.fail(Fatal::Damaged(format!("revision {} entry {}: {text}", at.revision, at.sub)));
    let bytes = match at.sub {
        0 => read_first(db, at.revision)?.map(|first| first.entry_bytes),
        _ => read_blob(db, Tree::Rev, &at.prefix())?,
    };
    let bytes = bytes.ok_or_else(|| damaged("it is missing".to_owned()))?;
    decode_entry(&bytes).map_err(damaged)
}

/// The record an entry wrote.
pub(crate) fn read_record(db: &Db, at: Location) -> Result<Record, Fatal> {
    let record = read_entry(db, at)?.record(at.revision);
    record.ok_or_else(|| db.fail(Fatal::Damaged(format!("revision {} wrote no record", at.revision))))
}

/// Everything a retained revision did, with the records before it.
pub(crate) fn read_change(db: &Db, revision: Revision) -> Result<Change, Fatal> {
    let first = read_first(db, revision)?;
    let first = first.ok_or_else(|| db.fail(Fatal::Damaged(format!("revision {revision} is missing"))))?;
    let events = (0..first.head.entries).map(|sub| {
        let entry = read_entry(db, Location { revision, sub })?;
        let before = entry.before.map(|at| read_record(db, at)).transpose()?;
        Ok(Arc::new(Event { revision, key: entry.key.clone(), before, after: entry.record(revision) }))
    });
    Ok(Change { revision, chain: first.chain, events: events.collect::<Result<_, Fatal>>()? })
}

/// The rows that remove superseded entries for good, and with the last of a revision its head. To be committed in one
/// piece, so that a crash leaves each entry whole or gone.
pub(crate) fn removal(db: &Db, entries: &[Location]) -> Result<Vec<Row>, Fatal> {
    let mut by_revision: BTreeMap<Revision, BTreeSet<u32>> = BTreeMap::new();
    for at in entries {
        by_revision.entry(at.revision).or_default().insert(at.sub);
    }
    let mut rows = Vec::new();
    for (revision, subs) in by_revision {
        // A revision that is gone already was removed before a crash.
        if let Some(first) = read_first(db, revision)? {
            rows.extend(removal_from(db, revision, &first, &subs)?);
        }
    }
    Ok(rows)
}

fn removal_from(db: &Db, revision: Revision, first: &First, subs: &BTreeSet<u32>) -> Result<Vec<Row>, Fatal> {
    let head = Location { revision, sub: 0 };
    let mut rows = Vec::new();
    for sub in subs.iter().filter(|sub| **sub > 0) {
        rows.extend(removed_rows(db, Location { revision, sub: *sub })?);
    }
    if entries_of(db, revision, first)?.is_subset(subs) {
        rows.extend(removed(head, first.length));
    } else if subs.contains(&0) {
        // Others of the revision live on, and their author with them.
        rows.extend(removed(head, first.length));
        rows.extend(chunk::split(&head.prefix(), &first.without_entry()).into_iter().map(rev_row));
    }
    Ok(rows)
}

/// The entries of a revision that are still there.
fn entries_of(db: &Db, revision: Revision, first: &First) -> Result<BTreeSet<u32>, Fatal> {
    let mut entries = BTreeSet::new();
    if !first.entry_bytes.is_empty() {
        entries.insert(0);
    }
    if first.head.entries == 1 {
        return Ok(entries);
    }
    db.scan::<Fatal>(Tree::Rev, &Location { revision, sub: 1 }.prefix(), |key, _| {
        let (at, _) = Location::parse(key).map_err(|text| db.fail(Fatal::Damaged(text)))?;
        let ours = at.revision == revision;
        if ours {
            entries.insert(at.sub);
        }
        Ok(ours)
    })?;
    Ok(entries)
}

fn removed_rows(db: &Db, at: Location) -> Result<Vec<Row>, Fatal> {
    let blob = read_blob(db, Tree::Rev, &at.prefix())?;
    Ok(blob.map(|blob| removed(at, blob.len()).collect()).unwrap_or_default())
}

fn removed(at: Location, length: usize) -> impl Iterator<Item = Row> {
    let keys = (0..chunk::parts(length)).map(move |part| chunk::part_key(&at.prefix(), part));
    keys.map(|key| Row { tree: Tree::Rev, key, value: None })
}
