//! Snapshots: the state that is offered to followers, those it is on its way to, and the ones that were received. Pure
//! but for removing received files; ticks are counted.
//!
//! A leader sends nothing else to a member it sent a snapshot, until it hears how that ended. It always hears, from the
//! transport, which knows a transfer that stands still from one that is slow; here a slow one has all the time it needs,
//! for a transfer that is given up begins anew, and would never end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::message::SnapshotBody;

/// Ticks for which one state is offered: followers that ask together get the same, and the store, which keeps history
/// for as long as a snapshot exists, is not kept from purging for ever.
const OFFER_TICKS: u32 = 300;

/// The snapshots of one member.
///
/// * At most one state is offered.
/// * A member is in `sending` from the message to the report.
#[derive(Default)]
pub(crate) struct Snapshots {
    offer: Option<Offer>,
    sending: BTreeSet<u64>,
    received: BTreeMap<(u64, u64), PathBuf>,
}

struct Offer {
    index: u64,
    body: SnapshotBody,
    ticks: u32,
}

impl Snapshots {
    /// From now on this state is offered.
    pub(crate) fn offer(&mut self, index: u64, body: SnapshotBody) {
        self.offer = Some(Offer { index, body, ticks: 0 });
    }

    /// The state of this index goes to a member, if it is still offered.
    pub(crate) fn send(&mut self, to: u64, index: u64) -> Option<SnapshotBody> {
        let offer = self.offer.as_ref().filter(|offer| offer.index == index)?;
        self.sending.insert(to);
        Some(offer.body.clone())
    }

    /// A member's snapshot arrived or was lost; whether it was on its way at all.
    pub(crate) fn reported(&mut self, member: u64) -> bool {
        self.sending.remove(&member)
    }

    pub(crate) fn is_sending(&self, member: u64) -> bool {
        self.sending.contains(&member)
    }

    /// Whether the offer has become too old to be sent again.
    pub(crate) fn tick(&mut self) -> bool {
        let Some(offer) = &mut self.offer else { return false };
        offer.ticks += 1;
        let withdrawn = offer.ticks > OFFER_TICKS;
        if withdrawn {
            self.offer = None;
        }
        withdrawn
    }

    /// A leader's snapshot was received as a file.
    pub(crate) fn receive(&mut self, index: u64, term: u64, file: PathBuf) {
        if let Some(earlier) = self.received.insert((index, term), file.clone())
            && earlier != file
        {
            remove(&earlier);
        }
    }

    /// The file of a snapshot that raft accepted; who takes it removes it.
    pub(crate) fn take_received(&mut self, index: u64, term: u64) -> Option<PathBuf> {
        self.received.remove(&(index, term))
    }

    /// Raft was asked about all files and has no use for those that are left: we have what is in them.
    pub(crate) fn discard_received(&mut self) {
        while let Some((_, file)) = self.received.pop_first() {
            remove(&file);
        }
    }
}

/// Removes a received file. One that stays is removed with its directory's other leftovers at the next start.
pub(crate) fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        tracing::warn!(file = %file.display(), %error, "a received snapshot could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn body() -> SnapshotBody {
        Arc::new(|_| Ok(()))
    }

    fn file(folder: &tempfile::TempDir, name: &str) -> PathBuf {
        let file = folder.path().join(name);
        fs::write(&file, "a state").unwrap();
        file
    }

    #[test]
    fn a_state_is_offered_for_a_while_and_only_as_what_it_is() {
        let mut snapshots = Snapshots::default();
        let held = body();
        snapshots.offer(7, held.clone());
        assert!(snapshots.send(2, 6).is_none(), "another index is another state");
        assert!(!snapshots.is_sending(2));
        assert!(snapshots.send(2, 7).is_some());

        assert!((0..OFFER_TICKS).all(|_| !snapshots.tick()));
        assert!(snapshots.tick());
        assert!(snapshots.send(3, 7).is_none());
        assert_eq!(Arc::strong_count(&held), 1, "the store is held no longer");
    }

    #[test]
    fn a_snapshot_is_on_its_way_until_its_end_is_reported_however_long_that_takes() {
        const DAY_TICKS: u32 = 24 * 3_600 * 10;
        let mut snapshots = Snapshots::default();
        snapshots.offer(7, body());
        snapshots.send(2, 7);
        snapshots.send(3, 7);
        assert!(snapshots.reported(3));
        assert!(!snapshots.reported(3), "it was over already");

        (0..DAY_TICKS).for_each(|_| _ = snapshots.tick());
        assert!(snapshots.is_sending(2), "a slow link is not a broken one");
        assert!(snapshots.reported(2));
        assert!(!snapshots.is_sending(2));
    }

    #[test]
    fn received_files_are_taken_by_raft_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["taken", "late", "again"].map(|name| file(&folder, name));
        let mut snapshots = Snapshots::default();
        snapshots.receive(5, 2, files[1].clone());
        snapshots.receive(9, 2, files[0].clone());
        snapshots.receive(5, 2, files[2].clone());
        assert!(!files[1].exists(), "the same state came twice");

        assert_eq!(snapshots.take_received(9, 2).as_ref(), Some(&files[0]));
        snapshots.discard_received();
        assert_eq!(files.map(|file| file.exists()), [true, false, false]);
        assert!(snapshots.take_received(5, 2).is_none());
    }
}
