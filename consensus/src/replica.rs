//! Replica: one member without its thread. Raft's node, the state it builds, and everyone who waits for either.
//!
//! The driver feeds it inputs and ticks and then drains it; the golden scripts do the same by hand. It holds no clock
//! and starts nothing. What it sends goes through one function that the caller plugs in.

use raft::eraftpb::Message;

use crate::{
    checkpoint::Checkpoints,
    config::Config,
    error::{ProposeError, StartError},
    log::Log,
    node::Node,
    proposals::{self, Proposals},
    reads::{self, Reads},
    state_machine::{Export, StateMachine},
    status::Status,
    wal::WalError,
};

/// Takes messages for other members. May drop any of them, as a network may; must not block.
pub(crate) type Sender = Box<dyn FnMut(Vec<Message>) + Send>;

/// One member.
///
/// * The state never holds an entry that is not durable in the log.
/// * A waiter is answered after its command is durable and applied, never before.
pub(crate) struct Replica<M> {
    pub(crate) node: Node,
    pub(crate) machine: M,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) send: Sender,
    /// The term this member led when it was last drained.
    pub(crate) led: Option<u64>,
    checkpoint_bytes: u64,
    retained_entries: u64,
}

impl<M: StateMachine> Replica<M> {
    /// Opens the log under `config.data_dir`, a new one with the voters `founders`, and starts raft over it.
    /// `incarnation` must be fresh: it tells this life's proposals and reads from those before.
    pub(crate) fn start(
        config: &Config,
        machine: M,
        founders: &[u64],
        incarnation: u64,
        send: Sender,
    ) -> Result<Replica<M>, StartError> {
        config.check().map_err(StartError::Config)?;
        let log = Log::open(config, founders, machine.applied_index())?;
        let applied = log.applied_floor(machine.applied_index());
        let (entries, bytes) = log.size();
        let mut checkpoints = Checkpoints::new(config.checkpoint_entries, config.checkpoint_bytes);
        checkpoints.resume(entries.saturating_sub(config.retained_entries), bytes);
        let node = Node::start(config, log, applied, incarnation)?;
        Ok(Replica {
            led: node.leads(),
            node,
            machine,
            proposals: Proposals::new(config.node_id, incarnation),
            reads: Reads::new(config.node_id, incarnation),
            checkpoints,
            send,
            checkpoint_bytes: config.checkpoint_bytes,
            retained_entries: config.retained_entries,
        })
    }

    /// The first thing after the start: applies what the log knows to be committed, and campaigns if nobody else could.
    /// In this order, for raft reads everything unapplied into memory before it campaigns, and refuses to with a conf
    /// change among it.
    pub(crate) fn settle(&mut self) -> Result<(), WalError> {
        self.drain()?;
        self.node.campaign_if_alone();
        self.drain()
    }

    /// Proposes a command; its waiter is answered when it is applied, or told why it will not be.
    pub(crate) fn propose(&mut self, command: Vec<u8>, waiter: proposals::Waiter) {
        if self.node.leads().is_none() {
            return proposals::answer(waiter, Err(ProposeError::NoLeader));
        }
        let Some(id) = self.proposals.enter(waiter) else { return };
        if let Err(error) = self.node.propose(id, command) {
            self.proposals.refused(id, error);
        }
    }

    /// Finds an index for a linearizable read.
    pub(crate) fn read(&mut self, waiter: reads::Waiter) {
        self.reads.enter(waiter);
    }

    /// One tick of raft's clock.
    pub(crate) fn tick(&mut self) {
        self.node.tick();
        if let Some(context) = self.reads.tick() {
            self.node.read_index(context);
        }
    }

    /// A message from another member.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "its caller, the transport, comes with the second member")
    )]
    pub(crate) fn step(&mut self, message: Message) {
        self.node.step(message);
    }

    /// Handles one Ready after the other until there is none. An error is fatal.
    pub(crate) fn drain(&mut self) -> Result<(), WalError> {
        loop {
            // Asked before every Ready, for the one before may have ended the round that others were waiting behind.
            if let Some(context) = self.reads.ask() {
                self.node.read_index(context);
            }
            if !self.node.has_ready() {
                break;
            }
            self.handle_ready()?;
            self.reads.applied(self.machine.applied_index());
        }
        self.serve_snapshot()
    }

    /// The state for a follower whose next entry was cut.
    fn serve_snapshot(&mut self) -> Result<(), WalError> {
        let applied = self.machine.applied_index();
        match self.node.log().take_wanted() {
            Some(wanted) if wanted <= applied => {
                let state = self.machine.snapshot();
                self.node.log_mut().offer_snapshot(applied, state)
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
        self.checkpoints.finish(result.ok(), self.checkpoint_bytes);
        let cut = self.machine.log_may_be_cut_to().min(self.machine.applied_index());
        self.node.log_mut().cut_to(cut.saturating_sub(self.retained_entries))
    }

    /// Tells everyone who waits that no answer will come.
    pub(crate) fn abandon(&mut self) {
        self.proposals.leadership_moved();
        self.reads.stop();
    }

    pub(crate) fn status(&self) -> Status {
        self.node.status(self.machine.applied_index())
    }
}
