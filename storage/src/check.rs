//! Check: whether the rows of a history are those a store wrote. Pure; `load` reads them from a database, `inspect` from
//! a snapshot file.
//!
//! A history is checked in stretches of revisions, each by itself and in any order, because every revision carries its
//! link of the chain: a stretch begins behind a link that it takes on trust, and [`History`], which puts the stretches
//! together in order, demands that the one before has come to that very link. What can only be known in order, which
//! record an entry replaced, is checked there too. Nothing is believed before [`History::finish`].

use std::{borrow::Cow, collections::VecDeque};

use crate::{
    chain::{ChainHash, Link},
    chunk::{self, Joined},
    history::{self, FirstView, Location},
    index::Index,
    key::Key,
    purging::Superseded,
    revision::Revision,
    state::{Counters, Fingerprint, Print, State},
};

/// A whole blob behind the key of its first row; most are one row, and are not copied.
type Blob<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Rows in key order, put together to whole blobs.
#[derive(Default)]
pub(crate) struct Blobs {
    open: Option<(Vec<u8>, Joined)>,
}

impl Blobs {
    /// Takes the next row; answers a blob, and the key of its first row, once it is whole.
    pub(crate) fn push<'a>(&mut self, key: &'a [u8], value: &'a [u8]) -> Result<Option<Blob<'a>>, String> {
        let (first, joined) = match self.open.take() {
            None => {
                let chunk = chunk::first(key, value)?;
                if let Some(whole) = chunk.whole() {
                    return Ok(Some((Cow::Borrowed(key), Cow::Borrowed(whole))));
                }
                (key.to_vec(), chunk.join(key)?)
            }
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
            Ok(blob) => Ok(Some((Cow::Owned(first), Cow::Owned(blob)))),
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

/// A place in the history: everything before it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The next revision that must be there.
    pub(crate) expected: Revision,
    /// The link before it.
    pub(crate) chain: ChainHash,
}

impl Place {
    /// Where the retained revisions of a state begin.
    pub(crate) fn first(state: &State) -> Place {
        Place { expected: state.first_retained(), chain: state.base }
    }
}

/// An entry that was checked, without its value.
#[derive(Debug)]
pub(crate) struct Seen {
    at: Location,
    key: Key,
    /// The record it wrote, and that one's part of the fingerprint; nothing when it was a deletion.
    wrote: Option<(Counters, Print)>,
    before: Option<Location>,
}

/// Some revisions in a row, being checked.
pub(crate) struct Stretch<'a> {
    state: &'a State,
    begin: Place,
    reached: Place,
    open: Option<OpenRevision>,
    seen: Vec<Seen>,
}

/// A stretch that was checked.
#[derive(Debug)]
pub(crate) struct Checked {
    begin: Place,
    end: Place,
    seen: Vec<Seen>,
}

/// A revision whose entries are still coming.
struct OpenRevision {
    revision: Revision,
    /// Nothing where history was given up: only the records are left of it.
    claim: Option<Claim>,
    entries: u32,
}

/// What a retained revision says of itself.
struct Claim {
    link: Link,
    chain: ChainHash,
    entries: u32,
    index: u64,
}

impl<'a> Stretch<'a> {
    /// Begins at a place, which is taken on trust.
    pub(crate) fn new(state: &'a State, begin: Place) -> Stretch<'a> {
        Stretch { state, begin, reached: begin, open: None, seen: Vec::new() }
    }

    /// Takes the next whole blob, with the key of its first row.
    pub(crate) fn on_blob(&mut self, key: &[u8], blob: &[u8]) -> Result<(), String> {
        let (at, part) = Location::parse(key)?;
        if part != 0 {
            return Err(format!("revision {} entry {} begins with part {part}", at.revision, at.sub));
        }
        if at.sub > 0 {
            return self.on_entry(at, blob);
        }
        self.close_revision()?;
        let named = |text: String| format!("revision {}: {text}", at.revision);
        let first = FirstView::split(blob).map_err(named)?;
        let head = history::decode_head(first.head).map_err(named)?;
        let retained = at.revision >= self.state.first_retained();
        let claim = retained.then(|| {
            let mut link = self.reached.chain.link(at.revision);
            link.part(first.head);
            Claim { link, chain: first.chain, entries: head.entries, index: head.index }
        });
        self.open = Some(OpenRevision { revision: at.revision, claim, entries: 0 });
        // Compaction leaves a head without an entry while others of its revision live.
        if first.entry.is_empty() && !retained { Ok(()) } else { self.on_entry(at, first.entry) }
    }

    fn on_entry(&mut self, at: Location, bytes: &[u8]) -> Result<(), String> {
        let name = || format!("revision {} entry {}", at.revision, at.sub);
        let open = self.open.as_mut().filter(|open| open.revision == at.revision);
        let open = open.ok_or_else(|| format!("{} has no head", name()))?;
        let entry = history::view_entry(bytes).map_err(|text| format!("{}: {text}", name()))?;
        open.entries += 1;
        if let Some(claim) = &mut open.claim {
            claim.link.part(bytes);
        }
        let key = Key::from(entry.key);
        let wrote = entry.counters().map(|(create_revision, version)| {
            let counters = Counters { create_revision, at, version };
            (counters, Print::of(&key, &counters))
        });
        self.seen.push(Seen { at, key, wrote, before: entry.before });
        Ok(())
    }

    /// Checks a revision once all its entries have come.
    fn close_revision(&mut self) -> Result<(), String> {
        let Some(OpenRevision { revision, claim, entries }) = self.open.take() else { return Ok(()) };
        let Some(claim) = claim else { return Ok(()) };
        if revision != self.reached.expected || claim.entries != entries {
            return Err(format!("revision {} is missing, or part of it", self.reached.expected));
        }
        if claim.index > self.state.applied {
            return Err(format!("revision {revision} comes from an entry that was not applied"));
        }
        if claim.link.finish() != claim.chain {
            return Err(format!("the chain breaks at revision {revision}"));
        }
        self.reached = Place { expected: revision.next(), chain: claim.chain };
        Ok(())
    }

    /// The entries since it was asked last, in order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Seen> {
        self.seen.drain(..)
    }

    /// All of it, or what has not been drained.
    pub(crate) fn finish(mut self) -> Result<Checked, String> {
        self.close_revision()?;
        Ok(Checked { begin: self.begin, end: self.reached, seen: self.seen })
    }
}

/// Stretches put together in order, and the index they come to.
pub(crate) struct History<'a> {
    state: &'a State,
    reached: Place,
    index: Index,
    /// Of the records in the index.
    live: Fingerprint,
    superseded: VecDeque<Superseded>,
}

impl<'a> History<'a> {
    pub(crate) fn new(state: &'a State, cache_bytes: usize) -> History<'a> {
        let (index, live) = (Index::new(cache_bytes), Fingerprint::default());
        History { state, reached: Place::first(state), index, live, superseded: VecDeque::new() }
    }

    /// Takes the next stretch.
    pub(crate) fn add(&mut self, checked: Checked) -> Result<(), String> {
        if checked.begin.expected != self.reached.expected {
            return Err(format!("revision {} is missing, or part of it", self.reached.expected));
        }
        if checked.begin.chain != self.reached.chain {
            return Err(format!("the chain breaks before revision {}", self.reached.expected));
        }
        checked.seen.into_iter().try_for_each(|seen| self.put(seen))?;
        self.reached = checked.end;
        Ok(())
    }

    /// Takes the next entry of a stretch that will come.
    pub(crate) fn put(&mut self, seen: Seen) -> Result<(), String> {
        let Seen { at, key, wrote, before } = seen;
        let named = key.clone();
        let replaced = match &wrote {
            Some((counters, _)) => self.index.place(key, *counters),
            None => self.index.displace(&key),
        };
        // What was given up of history may be gone, with what it replaced.
        if at.revision >= self.state.first_retained() && replaced.map(|replaced| replaced.at) != before {
            let Location { revision, sub } = at;
            return Err(format!("revision {revision} entry {sub} does not follow the record before it"));
        }
        if let Some(replaced) = replaced {
            self.live.remove(&named, &replaced);
            self.superseded.push_back(Superseded { by: at.revision, what: replaced.at });
        }
        match wrote {
            Some((_, print)) => self.live.count_in(print),
            None => self.superseded.push_back(Superseded { by: at.revision, what: at }),
        }
        Ok(())
    }

    /// What all of it comes to, every check passed.
    pub(crate) fn finish(self) -> Result<(Index, VecDeque<Superseded>), String> {
        let Place { expected, chain } = self.reached;
        if expected != self.state.revision.next() {
            let reached = expected.previous();
            return Err(format!("history ends at revision {reached}, the state at {}", self.state.revision));
        }
        if chain != self.state.chain {
            return Err("the chain ends in another hash than the state's".to_owned());
        }
        if self.live != self.state.live {
            let (found, expected) = (self.live.records(), self.state.live.records());
            return Err(format!("{found} current records are not the {expected} the state counts"));
        }
        Ok((self.index, self.superseded))
    }
}
