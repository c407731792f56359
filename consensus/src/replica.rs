//! Replica: one member without its thread. Raft's node, the state it builds, and everyone who waits for either.
//!
//! The driver feeds it inputs and ticks and then drains it; the golden scripts do the same by hand. It holds no clock
//! and starts nothing. What it sends goes through one function that the caller plugs in.

use std::collections::BTreeSet;

use crate::{
    autopilot::Autopilot,
    changes::{Ask, Changes},
    checkpoint::{self, Checkpoints},
    config::Config,
    divergence::Divergence,
    error::{ProposeError, ReadError, StartError},
    log::{Log, LogFiles},
    message::{Incoming, IncomingPayload, Outgoing, Payload, Refusal, Sender},
    node::{Node, Reign},
    peers::{Peer, Peers},
    proposals::{self, ProposalId, Proposals},
    reads::{self, Reads},
    snapshots::{self, Snapshots},
    state_machine::{Export, StateMachine},
    status::{PeerStatus, Status},
    wal::WalError,
};

/// One member.
///
/// * The state never holds an entry that is not durable in the log.
/// * A waiter is answered after its command is durable and applied, never before.
pub(crate) struct Replica<M> {
    pub(crate) node: Node,
    pub(crate) machine: M,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    pub(crate) snapshots: Snapshots,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) send: Sender,
    /// Who led when this member was last drained.
    pub(crate) reign: Option<Reign>,
    /// Ticks since that changed.
    pub(crate) reign_ticks: u32,
    pub(crate) peers: Peers,
    pub(crate) changes: Changes,
    pub(crate) divergence: Divergence,
    /// Why this member's data can not be trusted; whoever drives it stops it then.
    pub(crate) diverged: Option<String>,
    /// This member is about to stop: it takes no new commands.
    pub(crate) leaving: bool,
    /// Learners that were demoted by hand, as far as the log tells.
    pub(crate) held_by_log: BTreeSet<u64>,
    /// Learners that are to stay such, as somebody who remembers it longer says.
    pub(crate) held_by_caller: BTreeSet<u64>,
    /// What is to be sent with the next drain, beside raft's own messages.
    pub(crate) outbox: Vec<Outgoing>,
    pub(crate) id: u64,
    pub(crate) autopilot: Autopilot,
    pub(crate) election_ticks: u32,
    /// Ticks since the last beat.
    pub(crate) ticks: u32,
    pub(crate) ticks_per_second: u32,
    keep: Keep,
}

/// How much of the log is kept.
struct Keep {
    checkpoint_bytes: u64,
    retained_entries: u64,
    lag_entries: u64,
    lag_bytes: u64,
}

impl<M: StateMachine> Replica<M> {
    /// Opens the log under `config.data_dir`, and starts over it.
    #[cfg(test)]
    pub(crate) fn start(
        config: &Config,
        machine: M,
        founders: &[u64],
        incarnation: u64,
        send: Sender,
    ) -> Result<Replica<M>, StartError> {
        Replica::start_over(LogFiles::open(config)?, config, machine, founders, incarnation, send)
    }

    /// Starts raft over the log in these files, a new one with the voters `founders`. `incarnation` must be fresh: it
    /// tells this life's proposals and reads from those before.
    pub(crate) fn start_over(
        files: LogFiles,
        config: &Config,
        machine: M,
        founders: &[u64],
        incarnation: u64,
        send: Sender,
    ) -> Result<Replica<M>, StartError> {
        let log = Log::of(files, config, founders, machine.applied_index())?;
        let applied = log.applied_floor(machine.applied_index());
        let (entries, bytes) = log.size();
        let mut checkpoints = Checkpoints::new(config.checkpoint_entries, config.checkpoint_bytes);
        checkpoints.resume(entries.saturating_sub(config.retained_entries), bytes);
        let node = Node::start(config, log, applied, incarnation)?;
        let mut replica = Replica {
            reign: node.reign(),
            reign_ticks: 0,
            node,
            machine,
            proposals: Proposals::new(config.node_id, incarnation),
            reads: Reads::new(config.node_id, incarnation),
            snapshots: Snapshots::default(),
            checkpoints,
            send,
            peers: Peers::new(),
            changes: Changes::default(),
            divergence: Divergence::default(),
            diverged: None,
            leaving: false,
            held_by_log: BTreeSet::new(),
            held_by_caller: BTreeSet::new(),
            outbox: Vec::new(),
            id: config.node_id,
            autopilot: Autopilot {
                voters_max: config.voters_max,
                replace_after_ticks: config.replace_after_ticks,
            },
            election_ticks: u32::try_from(config.election_ticks).unwrap_or(u32::MAX),
            ticks: 0,
            ticks_per_second: config.ticks_per_second(),
            keep: Keep {
                checkpoint_bytes: config.checkpoint_bytes,
                retained_entries: config.retained_entries,
                lag_entries: config.lag_entries,
                lag_bytes: config.lag_bytes,
            },
        };
        replica.members_changed();
        Ok(replica)
    }

    /// The first thing after the start: applies what the log knows to be committed, and campaigns if nobody else could.
    /// In this order, for raft reads everything unapplied into memory before it campaigns, and refuses to with a conf
    /// change among it.
    pub(crate) fn settle(&mut self) -> Result<(), WalError> {
        self.drain()?;
        self.node.campaign_if_alone();
        self.drain()
    }

    /// Proposes a command, or hands it to the leader; its waiter is answered when it is applied here, or told why it will
    /// not be.
    pub(crate) fn propose(&mut self, command: Vec<u8>, waiter: proposals::Waiter) {
        if self.node.is_removed() {
            return proposals::answer(waiter, Err(ProposeError::Removed));
        }
        if self.leaving {
            return proposals::answer(waiter, Err(ProposeError::Stopped));
        }
        let Some(reign) = self.living_reign() else {
            return proposals::answer(waiter, Err(ProposeError::NoLeader));
        };
        let Some(id) = self.proposals.enter(waiter, reign) else { return };
        if !self.node.is_leader() {
            self.outbox.push(Outgoing { to: reign.leader, payload: Payload::Propose { id, command } });
        } else if let Err(error) = self.node.propose(id, command) {
            self.proposals.refused(id, error);
        }
    }

    /// The leader, if something was heard from it of late. A learner, which never stands for election, would otherwise
    /// hand commands to one that is gone.
    fn living_reign(&self) -> Option<Reign> {
        let heard =
            |leader| self.peers.get(leader).is_none_or(|peer| peer.silent_ticks() <= 2 * self.election_ticks);
        self.node.reign().filter(|reign| reign.leader == self.id || heard(reign.leader))
    }

    /// Another member handed us a command. It hears of a definite refusal; of anything else it hears from its own log.
    fn propose_for(&mut self, from: u64, id: ProposalId, command: Vec<u8>) {
        let proposed =
            if self.leaving { Err(ProposeError::NoLeader) } else { self.node.propose(id, command) };
        let refusal = match proposed {
            Ok(()) => return,
            Err(ProposeError::Busy) => Refusal::Busy,
            Err(_) => Refusal::NoLeader,
        };
        self.outbox.push(Outgoing { to: from, payload: Payload::Refused { id, refusal } });
    }

    /// Another member handed us a command that no state could read.
    pub(crate) fn refuse(&mut self, to: u64, id: ProposalId, reason: String) {
        let refusal = Refusal::Invalid(reason);
        self.outbox.push(Outgoing { to, payload: Payload::Refused { id, refusal } });
    }

    /// The leader did not do what we asked it to.
    fn refused(&mut self, id: ProposalId, refusal: Refusal) {
        if self.changes.refused(id, refusal.clone()) {
            return;
        }
        let error = match refusal {
            Refusal::NoLeader => ProposeError::NoLeader,
            // A leader never says that of a command; that nothing was written holds either way.
            Refusal::Busy | Refusal::AlreadySo => ProposeError::Busy,
            Refusal::Invalid(reason) => ProposeError::Invalid { reason },
        };
        self.proposals.refused(id, error);
    }

    /// Finds an index for a linearizable read.
    pub(crate) fn read(&mut self, waiter: reads::Waiter) {
        if self.node.is_removed() {
            return reads::answer(waiter, Err(ReadError::Removed));
        }
        self.reads.enter(waiter);
    }

    /// One tick of raft's clock.
    pub(crate) fn tick(&mut self) {
        self.node.tick();
        self.reign_ticks = self.reign_ticks.saturating_add(1);
        self.peers.tick();
        self.proposals.tick();
        self.changes.tick();
        self.tick_beat();
        if let Some(context) = self.reads.tick() {
            self.node.read_index(context);
        }
        if self.snapshots.tick() {
            self.node.log_mut().withdraw_snapshot();
        }
    }

    /// Another member said something.
    pub(crate) fn step(&mut self, Incoming { from, payload }: Incoming) {
        self.peers.heard(from);
        match payload {
            IncomingPayload::Message(message) => {
                if let Some(loss) = self.node.step(message) {
                    self.diverge(loss);
                }
            }
            IncomingPayload::Snapshot { message, state } => {
                let metadata = message.get_snapshot().get_metadata();
                self.snapshots.receive(metadata.index, metadata.term, state);
                self.node.step_snapshot(message);
            }
            IncomingPayload::Propose { id, command } => self.propose_for(from, id, command),
            IncomingPayload::Change { id, change } => self.asked(from, id, Ask::Change(change)),
            IncomingPayload::Transfer { id, to } => self.asked(from, id, Ask::Transfer(to)),
            IncomingPayload::Refused { id, refusal } => self.refused(id, refusal),
            IncomingPayload::Beat(beat) => self.heard_beat(from, beat),
        }
    }

    /// Messages to a member were lost.
    pub(crate) fn unreachable(&mut self, member: u64) {
        self.node.unreachable(member);
    }

    /// A snapshot reached its member, or did not.
    pub(crate) fn snapshot_sent(&mut self, member: u64, ok: bool) {
        if self.snapshots.reported(member) {
            self.node.snapshot_sent(member, ok);
        }
    }

    /// Handles one Ready after the other until there is none. An error is fatal.
    pub(crate) fn drain(&mut self) -> Result<(), WalError> {
        loop {
            // Asked before every Ready, for the one before may have ended the round that others were waiting behind.
            if let Some(context) = self.reads.ask() {
                self.node.read_index(context);
            }
            self.serve_changes();
            if !self.node.has_ready() {
                break;
            }
            self.handle_ready()?;
            self.reads.applied(self.machine.applied_index());
        }
        self.snapshots.discard_received();
        if !self.outbox.is_empty() {
            (self.send)(std::mem::take(&mut self.outbox));
        }
        self.serve_snapshot()
    }

    /// The state for a follower whose next entry was cut.
    fn serve_snapshot(&mut self) -> Result<(), WalError> {
        let applied = self.machine.applied_index();
        match self.node.log().take_wanted() {
            // A state that is behind the log's beginning, as founders' is at first, stands for no entry of it.
            Some(wanted) if wanted <= applied && applied + 1 >= self.node.log().first() => {
                self.snapshots.offer(applied, self.machine.snapshot());
                self.node.log_mut().offer_snapshot(applied)
            }
            _ => Ok(()),
        }
    }

    /// Makes the state durable and answers the job that writes it out, if the log has grown enough for that.
    pub(crate) fn checkpoint(&mut self) -> Option<Export> {
        if !self.checkpoints.due() {
            return None;
        }
        self.machine.checkpoint();
        self.checkpoints.begin();
        Some(self.machine.export())
    }

    /// The job ended: the log is cut behind what is now durable and held by a snapshot file.
    pub(crate) fn exported(&mut self, result: Result<u64, String>) -> Result<(), WalError> {
        if let Err(error) = &result {
            // The log keeps what the file would have held, and the next checkpoint tries again.
            tracing::warn!(error, "the state could not be exported; the log keeps growing");
        }
        self.checkpoints.finish(result.ok(), self.keep.checkpoint_bytes);
        let cut = self.machine.log_may_be_cut_to().min(self.machine.applied_index());
        let slowest = self.slowest_live().filter(|_| self.node.log().size().1 < self.keep.lag_bytes);
        let (retained, lag) = (self.keep.retained_entries, self.keep.lag_entries);
        self.node.log_mut().cut_to(checkpoint::cut(cut, retained, slowest, lag))
    }

    /// Tells everyone who waits that no answer will come.
    pub(crate) fn abandon(&mut self) {
        self.proposals.leadership_moved(None);
        self.changes.stop();
        self.reads.stop();
    }

    pub(crate) fn status(&self) -> Status {
        let mut status = self.node.status(self.machine.applied_index());
        status.quorum_contact = self.peers.quorum_contact(self.id, &status.voters);
        if !status.outgoing_voters.is_empty() {
            let outgoing = self.peers.quorum_contact(self.id, &status.outgoing_voters);
            status.quorum_contact = status.quorum_contact.max(outgoing);
        }
        status.diverged = self.diverged.is_some();
        status.peers = self.peers.iter().map(|(id, peer)| (id, self.peer_status(id, peer))).collect();
        status
    }

    fn peer_status(&self, id: u64, peer: &Peer) -> PeerStatus {
        PeerStatus {
            beat: peer.beat,
            heard_ticks: peer.heard_ticks(),
            matched: self.node.matched(id),
            snapshotting: self.snapshots.is_sending(id),
        }
    }
}

/// Something that came too late: a file that came with it is nobody's.
pub(crate) fn discard(incoming: Incoming) {
    if let IncomingPayload::Snapshot { state, .. } = incoming.payload {
        snapshots::remove(&state);
    }
}
