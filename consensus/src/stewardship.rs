//! Stewardship: what a replica does about members and leadership, for its own callers, for other members that ask it as
//! their leader, and by itself. The rules are in [`crate::membership`] and [`crate::autopilot`]; here they meet raft.

use std::collections::BTreeSet;

use crate::{
    autopilot,
    changes::{Ask, ChangeWaiter, TransferWaiter},
    error::{ChangeError, ProposeError},
    membership::{self, CAUGHT_UP_ENTRIES, Standing, Verdict, View},
    message::{MemberChange, Outgoing, Payload, Refusal},
    node::Applied,
    peers::Peer,
    proposals::ProposalId,
    replica::Replica,
    state_machine::StateMachine,
};

impl<M: StateMachine> Replica<M> {
    /// Changes the members; the waiter is answered when this member has applied the change.
    pub(crate) fn change_members(&mut self, change: MemberChange, waiter: ChangeWaiter) {
        if self.node.is_removed() {
            // The waiter may be gone; then nobody is left to be told.
            return drop(waiter.send(Err(ChangeError::Stopped)));
        }
        let id = self.proposals.fresh();
        self.changes.enter_change(id, change, waiter);
    }

    /// Lets somebody else lead; the waiter is answered when this member knows the new leader.
    pub(crate) fn transfer_leadership(&mut self, to: Option<u64>, waiter: TransferWaiter) {
        if self.node.is_removed() {
            // The waiter may be gone; then nobody is left to be told.
            return drop(waiter.send(Err(ChangeError::Stopped)));
        }
        let id = self.proposals.fresh();
        self.changes.enter_transfer(id, to, waiter);
    }

    /// These learners stay learners, in place of those that were said before.
    pub(crate) fn hold(&mut self, members: BTreeSet<u64>) {
        self.held_by_caller = members;
    }

    /// Answers the wishes that came true and puts the others to whoever leads.
    pub(crate) fn serve_changes(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        let reign = self.node.reign();
        self.changes.settle(reign, self.node.is_joint());
        let Some(reign) = reign else { return };
        for (id, ask) in self.changes.ask(reign) {
            if !self.node.is_leader() {
                let payload = match ask {
                    Ask::Change(change) => Payload::Change { id, change },
                    Ask::Transfer(to) => Payload::Transfer { id, to },
                };
                self.outbox.push(Outgoing { to: reign.leader, payload });
            } else if let Err(refusal) = self.carry_out(id, ask) {
                self.changes.refused(id, refusal);
            }
        }
        self.changes.settle(Some(reign), self.node.is_joint());
    }

    /// Another member asks us as its leader. It hears only of a refusal; it sees anything else happen.
    pub(crate) fn asked(&mut self, from: u64, id: ProposalId, ask: Ask) {
        if let Err(refusal) = self.carry_out(id, ask) {
            self.outbox.push(Outgoing { to: from, payload: Payload::Refused { id, refusal } });
        }
    }

    fn carry_out(&mut self, id: ProposalId, ask: Ask) -> Result<(), Refusal> {
        if !self.node.is_leader() || self.leaving {
            return Err(Refusal::NoLeader);
        }
        if self.node.is_transferring() {
            return Err(Refusal::Busy);
        }
        match ask {
            Ask::Change(change) => self.propose_change(id, change),
            Ask::Transfer(to) => self.hand_over_to(to),
        }
    }

    fn propose_change(&mut self, id: ProposalId, change: MemberChange) -> Result<(), Refusal> {
        if self.node.is_changing() {
            return Err(Refusal::Busy);
        }
        let mut proposal = match membership::decide(&self.view(), change)? {
            Verdict::Propose(proposal) => proposal,
            Verdict::HandOver(successor) => {
                tracing::info!(change = %change, successor, "this leader hands over before it leaves");
                self.node.transfer(successor);
                return Err(Refusal::Busy);
            }
        };
        if let MemberChange::Demote(_) = change {
            proposal.context = Applied::HELD.to_vec().into();
        }
        tracing::info!(change = %change, "the members change");
        self.node.propose_conf_change(id.to_bytes().to_vec(), &proposal).map_err(|error| match error {
            ProposeError::NoLeader => Refusal::NoLeader,
            _ => Refusal::Busy,
        })
    }

    fn hand_over_to(&mut self, to: Option<u64>) -> Result<(), Refusal> {
        let view = self.view();
        let nobody = || Refusal::Invalid("no other voter has caught up and answers".to_owned());
        let to = to.map_or_else(|| view.best_successor().ok_or_else(nobody), Ok)?;
        view.can_lead(to)?;
        if to == self.id {
            return Err(Refusal::AlreadySo);
        }
        self.node.transfer(to);
        Ok(())
    }

    /// A committed change of the members came into force here, or had no effect.
    pub(crate) fn change_applied(&mut self, context: &[u8], applied: Applied) {
        self.held_by_log.extend(applied.held);
        if let Some(id) = ProposalId::from_bytes(context) {
            self.changes.applied(id, applied.refused);
        }
        self.members_changed();
    }

    /// Another configuration is in force.
    pub(crate) fn members_changed(&mut self) {
        let conf = self.node.log().conf_state();
        let members = conf.voters.iter().chain(&conf.voters_outgoing).chain(&conf.learners);
        self.peers.set_members(&members.copied().filter(|id| *id != self.id).collect());
        self.held_by_log.retain(|id| conf.learners.contains(id));
        if self.node.is_removed() {
            tracing::warn!("this member was removed from its cluster");
            // Nothing tells it any more what becomes of them.
            self.proposals.leadership_moved(None);
        }
    }

    /// About once a second: what a leader does without being asked.
    pub(crate) fn look_after_members(&mut self) {
        if !self.node.is_leader() || self.leaving || self.node.is_changing() || self.node.is_transferring() {
            return;
        }
        if let Some(change) = autopilot::change(&self.view(), self.autopilot) {
            let id = self.proposals.fresh();
            if let Err(refusal) = self.propose_change(id, change) {
                tracing::debug!(%change, ?refusal, "nothing was changed");
            }
        }
    }

    /// A leader that is about to stop hands over, once its own callers are served; whether it is still to be waited for.
    pub(crate) fn hand_over(&mut self) -> bool {
        self.leaving = true;
        if !self.node.is_leader() {
            return false;
        }
        if !self.proposals.is_empty() || self.node.is_transferring() {
            return true;
        }
        let Some(successor) = self.view().best_successor() else { return false };
        self.node.transfer(successor);
        true
    }

    /// What this leader knows of its members.
    fn view(&self) -> View {
        let conf = self.node.log().conf_state();
        View {
            me: self.id,
            voters: conf.voters.iter().copied().collect(),
            learners: conf.learners.iter().copied().collect(),
            held: self.held_by_log.union(&self.held_by_caller).copied().collect(),
            standings: self.peers.iter().map(|(id, peer)| (id, self.standing(id, peer))).collect(),
        }
    }

    fn standing(&self, id: u64, peer: &Peer) -> Standing {
        let diverged = peer.beat.is_some_and(|beat| beat.diverged);
        let replicating = self.node.replicated_to(id);
        Standing {
            healthy: peer.heard_ticks() <= self.election_ticks && !diverged,
            caught_up: replicating.is_some_and(|matched| matched + CAUGHT_UP_ENTRIES >= self.node.commit()),
            // Followers need not hear each other, so what one was missing before it led is nobody's fault.
            silent_ticks: peer.silent_ticks().min(self.reign_ticks),
        }
    }
}
