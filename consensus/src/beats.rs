//! Beats: the replica's second hand. About once a second it tells every other member how far it is, compares what they
//! say of their history with its own, and looks after its members. It counts ticks and reads no clock.

use crate::{
    divergence::Voter,
    log::has_member,
    message::{Beat, Outgoing, Payload},
    peers::Peer,
    replica::Replica,
    state_machine::StateMachine,
};

/// Ticks within which something came from a member that counts as living: several signs of life.
pub(crate) const LIVE_TICKS: u32 = 50;

impl<M: StateMachine> Replica<M> {
    /// One tick passed; every so often that is a second.
    pub(crate) fn tick_beat(&mut self) {
        self.ticks += 1;
        if self.ticks < self.ticks_per_second {
            return;
        }
        self.ticks = 0;
        self.judge();
        self.beat();
        self.look_after_members();
    }

    /// Tells every other member how far this one is.
    pub(crate) fn beat(&mut self) {
        if self.node.is_removed() {
            return;
        }
        let (revision, chain) = self.machine.chain();
        let (term, commit, last) = self.node.progress();
        let beat = Beat {
            applied: self.machine.applied_index(),
            commit,
            last,
            last_term: self.node.log().last_term(),
            term,
            revision,
            chain,
            diverged: self.diverged.is_some(),
        };
        let members = self.peers.iter().map(|(id, _)| id);
        self.outbox.extend(members.map(|to| Outgoing { to, payload: Payload::Beat(beat) }));
    }

    /// Another member said how far it is.
    pub(crate) fn heard_beat(&mut self, from: u64, beat: Beat) {
        let known = |peer: &Peer| peer.beat.is_some_and(|beat| beat.diverged);
        if beat.diverged && self.peers.get(from).is_some_and(|peer| !known(peer)) {
            tracing::error!("member {from:016x} says that its data differs from the others'; it has stopped");
        }
        self.peers.beat(from, beat);
        // One that says of itself that it is wrong is no judge of others.
        if !beat.diverged && has_member(self.node.log().conf_state(), from) {
            let (own, machine) = (self.machine.chain().0, &self.machine);
            self.divergence.compare(from, &beat, own, |revision| machine.chain_at(revision));
        }
    }

    fn judge(&mut self) {
        if self.diverged.is_some() || self.node.is_removed() {
            return;
        }
        let conf = self.node.log().conf_state();
        let lives = |id: &u64| self.peers.get(*id).is_some_and(|peer| peer.heard_ticks() <= LIVE_TICKS);
        let others = conf.voters.iter().filter(|id| **id != self.id);
        let voters: Vec<Voter> = others.map(|id| Voter { id: *id, lives: lives(id) }).collect();
        let votes = conf.voters.contains(&self.id);
        let leader = self.node.reign().map(|reign| reign.leader);
        if let Some(detail) = self.divergence.judge(votes, leader, &voters) {
            self.diverge(detail);
        }
    }

    /// This member's data is not what was agreed on. It says so to everybody, and whoever drives it stops it.
    pub(crate) fn diverge(&mut self, detail: String) {
        self.diverged = Some(detail);
        self.beat();
    }

    /// The entry after which the log must be kept for the slowest member that lives, or that is being sent a snapshot. One
    /// that is behind the log already gets a snapshot whatever is kept.
    pub(crate) fn slowest_live(&self) -> Option<u64> {
        let begins_after = self.node.log().first() - 1;
        let position = |id: u64, beat: Option<Beat>| {
            let matched = self.node.snapshot_to(id).or_else(|| self.node.matched(id)).unwrap_or(0);
            // Followers know nobody's log, and a new leader not yet; a sign of life tells what is safe of it.
            if matched > 0 { matched } else { beat.map_or(0, |beat| beat.commit.min(beat.last)) }
        };
        self.peers
            .iter()
            .filter(|(id, peer)| peer.heard_ticks() <= LIVE_TICKS || self.snapshots.is_sending(*id))
            .map(|(id, peer)| position(id, peer.beat))
            .filter(|position| *position >= begins_after)
            .min()
    }
}
