//! Peers: what this member heard of every other, and how long ago. Pure: ticks are counted, not measured.
//!
//! Members that are not in the configuration in force are unknown here, so its size is bounded by theirs.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::Beat;

/// What is known of the other members.
pub(crate) struct Peers {
    known: BTreeMap<u64, Peer>,
}

/// What is known of one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Peer {
    /// The last sign of life.
    pub(crate) beat: Option<Beat>,
    /// Whether anything ever came from it in this life of ours.
    heard: bool,
    /// Ticks since something came from it, or since we know of it.
    silent: u32,
}

impl Peer {
    /// Ticks since something came from it; as many as there are when nothing ever did.
    pub(crate) fn heard_ticks(&self) -> u32 {
        if self.heard { self.silent } else { u32::MAX }
    }

    /// Ticks for which we know that nothing came from it. A member that just started knows nothing of anybody's silence.
    pub(crate) fn silent_ticks(&self) -> u32 {
        self.silent
    }
}

impl Peers {
    pub(crate) fn new() -> Peers {
        Peers { known: BTreeMap::new() }
    }

    /// Who the other members are now.
    pub(crate) fn set_members(&mut self, members: &BTreeSet<u64>) {
        self.known.retain(|id, _| members.contains(id));
        for id in members {
            self.known.entry(*id).or_default();
        }
    }

    /// Something came from a member.
    pub(crate) fn heard(&mut self, from: u64) {
        if let Some(peer) = self.known.get_mut(&from) {
            (peer.heard, peer.silent) = (true, 0);
        }
    }

    /// A sign of life came from a member.
    pub(crate) fn beat(&mut self, from: u64, beat: Beat) {
        if let Some(peer) = self.known.get_mut(&from) {
            peer.beat = Some(beat);
        }
    }

    pub(crate) fn tick(&mut self) {
        for peer in self.known.values_mut() {
            peer.silent = peer.silent.saturating_add(1);
        }
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Peer> {
        self.known.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Peer)> {
        self.known.iter().map(|(id, peer)| (*id, peer))
    }

    /// Ticks since this member last heard from a majority of `voters`, itself among them if it votes.
    pub(crate) fn quorum_contact(&self, me: u64, voters: &[u64]) -> u32 {
        let heard = |id: &u64| match self.known.get(id) {
            _ if *id == me => 0,
            Some(peer) => peer.heard_ticks(),
            None => u32::MAX,
        };
        let mut ticks: Vec<u32> = voters.iter().map(heard).collect();
        ticks.sort_unstable();
        ticks.get(voters.len() / 2).copied().unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(ids: &[u64]) -> Peers {
        let mut peers = Peers::new();
        peers.set_members(&ids.iter().copied().collect());
        peers
    }

    #[test]
    fn silence_is_counted_from_the_start_but_nobody_counts_as_heard() {
        let mut peers = peers(&[2, 3]);
        (0..7).for_each(|_| peers.tick());
        peers.heard(2);
        peers.tick();

        let seen = |id| peers.get(id).map(|peer| (peer.heard_ticks(), peer.silent_ticks()));
        assert_eq!((seen(2), seen(3)), (Some((1, 1)), Some((u32::MAX, 8))));
    }

    #[test]
    fn strangers_are_not_remembered() {
        let mut peers = peers(&[2, 3]);
        peers.heard(9);
        peers.beat(9, Beat::default());
        assert_eq!(peers.iter().count(), 2);

        peers.set_members(&BTreeSet::from([3]));
        assert!(peers.get(2).is_none());
    }

    #[test]
    fn a_quorum_was_heard_when_its_most_silent_member_was() {
        let mut peers = peers(&[2, 3, 4, 5]);
        assert_eq!(peers.quorum_contact(1, &[1]), 0, "alone");
        assert_eq!(peers.quorum_contact(1, &[1, 2, 3]), u32::MAX);
        peers.heard(2);
        (0..4).for_each(|_| peers.tick());
        assert_eq!(peers.quorum_contact(1, &[1, 2, 3]), 4);
        assert_eq!(peers.quorum_contact(1, &[1, 2, 3, 4, 5]), u32::MAX);
        peers.heard(5);
        assert_eq!(peers.quorum_contact(1, &[1, 2, 3, 4, 5]), 4);
        assert_eq!(peers.quorum_contact(1, &[2, 5]), 4, "a learner is no part of the quorum");
        assert_eq!(peers.quorum_contact(1, &[]), u32::MAX);
    }
}
