//! Refound: the same records as the beginning of another cluster.
//!
//! What a backup is restored as, and what a survivor goes on from when its quorum is gone. Only the current records come
//! along, each with its counters and its author; history, and the answers remembered for retries, stay behind. The
//! revision leaps ahead of anything the old cluster, or another made of the same file, may have handed out since, and everything before the leap is
//! compacted: a client that comes back with a version of the old cluster is told to list anew, and never finds an old
//! number on other data.
//!
//! A function of the file and of what is asked: whoever does it twice gets the same bytes. The old file is only read.

use std::{collections::BTreeSet, io::Write, path::Path};

use crate::{
    chain::ChainHash,
    check::Blobs,
    chunk,
    db::Tree,
    durable::write_atomically,
    error::SnapshotError,
    frames::{Frame, FrameReader, FrameWriter, Head},
    history::{First, Location},
    index::Index,
    inspect::{self, SnapshotInfo, Walked},
    key::Key,
    options::ClusterId,
    revision::Revision,
    state::{Fingerprint, State},
};

/// Far beyond what any cluster writes between a backup and its loss.
pub const REVISION_JUMP: u64 = 1_000_000_000;

/// What the new cluster begins as.
#[derive(Clone, Debug)]
pub struct Refound {
    /// Its id.
    pub cluster: ClusterId,
    /// The log entry after which its log begins.
    pub applied: u64,
    /// What may have been reached elsewhere: the revision leaps from there, if the file's is lower.
    pub above: Revision,
    /// How far the revision leaps; [`REVISION_JUMP`] unless there is a reason.
    pub revision_jump: u64,
    /// Records under these prefixes stay behind.
    pub without: Vec<Key>,
}

/// Reads and checks the snapshot `file` and writes `out`, durably, as the snapshot the new cluster begins with.
pub fn refound(file: &Path, out: &Path, to: &Refound) -> Result<SnapshotInfo, SnapshotError> {
    let Walked { head, index, .. } = inspect::walk(file)?;
    let (kept, live) = current(&index, &to.without);
    drop(index);
    let head = Head { cluster: Some(to.cluster), state: state(&head.state, to, live)? };
    let mut bytes = 0;
    write_atomically::<SnapshotError>(out, |out| {
        bytes = copy(file, out, &head, &kept)?;
        Ok(())
    })?;
    Ok(SnapshotInfo::new(&head, bytes))
}

/// Where the entries of the records that come along are.
fn current(index: &Index, without: &[Key]) -> (BTreeSet<Location>, Fingerprint) {
    let (mut kept, mut live) = (BTreeSet::new(), Fingerprint::default());
    for (key, slot) in index.range(&Key::all()) {
        if !without.iter().any(|prefix| key.starts_with(prefix)) {
            kept.insert(slot.counters.at);
            live.add(key, &slot.counters);
        }
    }
    (kept, live)
}

fn state(old: &State, to: &Refound, live: Fingerprint) -> Result<State, SnapshotError> {
    let reached = old.revision.max(to.above);
    let revision = reached.0.checked_add(to.revision_jump).filter(|revision| *revision < u64::MAX);
    let revision = Revision(revision.ok_or(SnapshotError::Revision(reached, to.revision_jump))?);
    let applied = to.applied.to_be_bytes();
    let parts = [b"refound".as_slice(), &to.cluster.0, &applied];
    let chain: ChainHash = old.chain.extend(revision, parts.into_iter());
    // Nothing is retained, the revision leapt to included: it has no events.
    Ok(State { applied: to.applied, revision, compacted: revision.next(), base: chain, chain, live })
}

/// Copies the kept entries, and the head of every revision that has one.
fn copy(
    file: &Path,
    out: &mut dyn Write,
    head: &Head,
    kept: &BTreeSet<Location>,
) -> Result<u64, SnapshotError> {
    let (mut frames, _) = FrameReader::new(inspect::open(file)?)?;
    let mut copy = Copy { out: FrameWriter::new(out, head)?, kept, pending: None };
    let mut blobs = Blobs::default();
    while let Frame::Row { tree, key, value } = frames.next()? {
        if tree == Tree::Rev
            && let Some((key, blob)) = blobs.push(&key, &value).map_err(SnapshotError::Damaged)?
        {
            copy.on_blob(&key, &blob)?;
        }
    }
    copy.out.end()
}

struct Copy<'a> {
    out: FrameWriter<'a>,
    kept: &'a BTreeSet<Location>,
    /// A head whose own entry stays behind, until another of its revision comes along.
    pending: Option<(Revision, First)>,
}

impl Copy<'_> {
    fn on_blob(&mut self, key: &[u8], blob: &[u8]) -> Result<(), SnapshotError> {
        let (at, _) = Location::parse(key).map_err(SnapshotError::Damaged)?;
        let kept = self.kept.contains(&at);
        if at.sub == 0 {
            let first = First::decode(blob).map_err(SnapshotError::Damaged)?;
            self.pending = (!kept).then_some((at.revision, first));
        }
        if !kept {
            return Ok(());
        }
        if let Some((revision, first)) = self.pending.take_if(|(revision, _)| *revision == at.revision) {
            self.write(Location { revision, sub: 0 }, &first.without_entry())?;
        }
        self.write(at, blob)
    }

    fn write(&mut self, at: Location, blob: &[u8]) -> Result<(), SnapshotError> {
        for (key, value) in chunk::split(&at.prefix(), blob) {
            self.out.row(Tree::Rev, &key, &value)?;
        }
        Ok(())
    }
}
