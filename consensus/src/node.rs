//! Node: raft's own state machine over our log. Pure apart from its log: no clock, no thread, no network and no dice.
//!
//! What raft 0.7 leaves to its caller is done here, each with the trap it avoids: a member alone campaigns at once; a
//! follower never proposes, for raft would forward the command in silence and lose it in silence; a leader that is no
//! longer a member steps down; a new leader leaves a joint configuration that its predecessor entered.

use protobuf::Message as _;
use raft::{
    INVALID_ID, LightReady, Progress, ProgressState, RawNode, Ready, SnapshotStatus, StateRole,
    eraftpb::{ConfChange, ConfChangeSingle, ConfChangeV2, Entry, EntryType, Message, MessageType},
};

use crate::{
    config::Config,
    error::{ProposeError, StartError},
    log::{Log, has_member},
    logger,
    proposals::ProposalId,
    reads,
    status::{Role, Status},
    trust::{self, Refuted},
    wal::WalError,
};

/// What a change of the members did.
pub(crate) struct Applied {
    /// Learners that are to stay such until somebody promotes them.
    pub(crate) held: Vec<u64>,
    /// Why it had no effect, if it had none.
    pub(crate) refused: Option<String>,
}

impl Applied {
    /// The context of a change that makes a learner which stays one.
    pub(crate) const HELD: &[u8] = b"held";
}

/// A leader and its term. A command that was handed to one may be lost with the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reign {
    pub(crate) leader: u64,
    pub(crate) term: u64,
}

/// One member's raft.
pub(crate) struct Node {
    raw: RawNode<Log>,
    id: u64,
    election_ticks: usize,
    /// Decides the election timeouts, so that the same seed plays the same game.
    seed: u64,
    /// The cluster has removed this member, whatever its log says.
    removed: bool,
}

impl Node {
    /// Starts raft over a log that agrees with a state of `applied` entries.
    pub(crate) fn start(config: &Config, mut log: Log, applied: u64, seed: u64) -> Result<Node, StartError> {
        log.agree_with(applied)?;
        let raw = RawNode::new(&config.to_raft(applied), log, &logger::logger())
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let mut node = Node {
            raw,
            id: config.node_id,
            election_ticks: config.election_ticks,
            seed,
            removed: config.removed,
        };
        node.draw_timeout();
        Ok(node)
    }

    /// A lone voter needs nobody's vote, so it need not wait for a timeout either (11 to 19 ticks otherwise).
    pub(crate) fn campaign_if_alone(&mut self) {
        let conf = self.raw.raft.prs().conf().to_conf_state();
        if conf.voters == [self.id] && conf.voters_outgoing.is_empty() {
            self.campaign();
        }
    }

    /// Stands for election now.
    pub(crate) fn campaign(&mut self) {
        // An error says that this member may not stand; then it does not.
        let _ = self.raw.campaign();
        self.draw_timeout();
    }

    /// One tick of raft's clock.
    pub(crate) fn tick(&mut self) {
        self.raw.tick();
        self.draw_timeout();
        if self.must_leave_joint() {
            // Dropped only while leadership is being handed over; the next tick asks again.
            let _ = self.propose_conf_change(Vec::new(), &ConfChangeV2::default());
        }
    }

    /// A message from another member, of any kind but a snapshot. Answers what this member must have lost, if the message
    /// shows that.
    pub(crate) fn step(&mut self, message: Message) -> Option<String> {
        if message.to != self.id || !is_for_peers(message.get_msg_type()) {
            tracing::warn!(from = message.from, kind = ?message.get_msg_type(), "not a message for this member");
            return None;
        }
        self.step_checked(message)
    }

    /// A snapshot message, whose state lies in a file.
    pub(crate) fn step_snapshot(&mut self, message: Message) {
        if message.to == self.id && message.get_msg_type() == MessageType::MsgSnapshot {
            self.step_checked(message);
        }
    }

    /// Raft refuses what it cannot use, and is not shown what it would panic over; a peer's mistake is not ours.
    fn step_checked(&mut self, message: Message) -> Option<String> {
        match trust::refuted(&self.raw.raft, &message) {
            Some(Refuted::Lost(loss)) => return Some(loss),
            Some(Refuted::Unfit(reason)) => {
                tracing::debug!(from = message.from, kind = ?message.get_msg_type(), reason, "a message was ignored");
                return None;
            }
            None => {}
        }
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(%error, "raft refused a message");
        }
        self.draw_timeout();
        None
    }

    /// Appends a command to the log, if this member leads.
    pub(crate) fn propose(&mut self, id: ProposalId, command: Vec<u8>) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NoLeader);
        }
        // A leader drops a proposal when it hands leadership over or holds too much uncommitted.
        self.raw.propose(id.to_bytes().to_vec(), command).map_err(|_| ProposeError::Busy)
    }

    /// Appends a change of the members to the log, if this member leads.
    pub(crate) fn propose_conf_change(
        &mut self,
        context: Vec<u8>,
        change: &ConfChangeV2,
    ) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NoLeader);
        }
        self.raw.propose_conf_change(context, change.clone()).map_err(|_| ProposeError::Busy)
    }

    /// Asks for an index a read may be served at. Raft may drop the question in silence: the asker asks again.
    pub(crate) fn read_index(&mut self, context: reads::Context) {
        self.raw.read_index(context.to_bytes());
    }

    /// Whether there is something to write, send or apply.
    pub(crate) fn has_ready(&self) -> bool {
        self.raw.has_ready()
    }

    /// What there is to write, send and apply; [`crate::ready`] does it in the one order that is safe.
    pub(crate) fn ready(&mut self) -> Ready {
        self.raw.ready()
    }

    /// Tells raft that a Ready's entries and hard state are durable; it answers with what that commits.
    pub(crate) fn advance_append(&mut self, ready: Ready) -> LightReady {
        self.raw.advance_append(ready)
    }

    /// Tells raft how far the state machine is. Conf changes up to there must be in force already: raft leaves a joint
    /// configuration by itself in this very call, or never.
    pub(crate) fn advance_apply(&mut self, applied: u64) {
        self.raw.advance_apply_to(applied);
        if self.is_leader() && self.is_joint() {
            // The entry that leaves was appended, but raft does not send it before the next heartbeat.
            self.raw.raft.bcast_append();
        }
    }

    /// Puts a committed change of the members into force: first on disk, then the state may pass its entry.
    pub(crate) fn apply_conf_change(&mut self, entry: &Entry) -> Result<Applied, WalError> {
        let change = parse_change(entry);
        let mut applied = Applied { held: change.as_ref().map(held).unwrap_or_default(), refused: None };
        if entry.index <= self.log().conf_index() {
            // Replayed after a restart. It is in force, and entering a joint configuration twice would be an error.
            return Ok(applied);
        }
        if self.is_leader() {
            // Whoever leaves hears of it: a moment later raft knows it no more, and would not tell it what committed.
            self.raw.raft.bcast_append();
        }
        match change.and_then(|change| self.raw.apply_conf_change(&change)) {
            Ok(conf_state) => self.log_mut().set_conf_state(entry.index, conf_state)?,
            // Every member refuses it for the same reason, so all of them go on as before.
            Err(error) => {
                tracing::warn!(index = entry.index, %error, "a change of the members has no effect");
                applied.refused = Some(error.to_string());
            }
        }
        if self.is_leader() && !self.raw.raft.promotable() {
            // Raft 0.7 would lead a cluster it is no member of, and its heartbeats would stop every election.
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, INVALID_ID);
        }
        Ok(applied)
    }

    /// Lets another voter lead, if it catches up within an election timeout.
    pub(crate) fn transfer(&mut self, to: u64) {
        self.raw.transfer_leader(to);
    }

    /// Whether leadership is being handed over; a leader takes no commands meanwhile.
    pub(crate) fn is_transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// Whether a change of the members is under way: in the log and not applied, or in two steps and only one of them done.
    pub(crate) fn is_changing(&self) -> bool {
        self.raw.raft.has_pending_conf() || self.is_joint()
    }

    /// Tells raft how a snapshot to a member ended; until told, the leader sends that member nothing.
    pub(crate) fn snapshot_sent(&mut self, member: u64, ok: bool) {
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(member, status);
    }

    /// Tells raft that messages to a member were lost.
    pub(crate) fn unreachable(&mut self, member: u64) {
        self.raw.report_unreachable(member);
    }

    /// Who leads, and in which term, as far as this member knows.
    pub(crate) fn reign(&self) -> Option<Reign> {
        let raft = &self.raw.raft;
        (raft.leader_id != INVALID_ID).then_some(Reign { leader: raft.leader_id, term: raft.term })
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub(crate) fn log(&self) -> &Log {
        self.raw.store()
    }

    pub(crate) fn log_mut(&mut self) -> &mut Log {
        self.raw.mut_store()
    }

    /// What this member believes; `applied` is the state machine's.
    pub(crate) fn status(&self, applied: u64) -> Status {
        let raft = &self.raw.raft;
        let conf = raft.prs().conf().to_conf_state();
        let mut status = Status {
            node_id: self.id,
            role: match raft.state {
                StateRole::Follower => Role::Follower,
                StateRole::PreCandidate => Role::PreCandidate,
                StateRole::Candidate => Role::Candidate,
                StateRole::Leader => Role::Leader,
            },
            term: raft.term,
            leader: (raft.leader_id != INVALID_ID).then_some(raft.leader_id),
            commit: raft.raft_log.committed,
            applied,
            first: self.log().first(),
            last: self.log().last(),
            last_term: self.log().last_term(),
            removed: self.is_removed(),
            voters: conf.voters,
            outgoing_voters: conf.voters_outgoing,
            learners: conf.learners,
            ..Status::default()
        };
        status.voters.sort_unstable();
        status.outgoing_voters.sort_unstable();
        status.learners.sort_unstable();
        status
    }

    /// This member was in a configuration that was put into force, and is not in the one that is now; or its peers said
    /// so, who tell it nothing else any more. One that waits for its first snapshot knows no configuration at all.
    pub(crate) fn is_removed(&self) -> bool {
        let conf = self.log().conf_state();
        self.removed || (!conf.voters.is_empty() && !has_member(conf, self.id))
    }

    /// Term, commit index and the last entry.
    pub(crate) fn progress(&self) -> (u64, u64, u64) {
        (self.raw.raft.term, self.commit(), self.log().last())
    }

    pub(crate) fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// How far a member is that a leader sends entries to one after the other: not one it must probe, or one that waits
    /// for a snapshot. One that has everything counts although it is probed: that ends with the next new entry, which on
    /// a quiet cluster may never come.
    pub(crate) fn replicated_to(&self, member: u64) -> Option<u64> {
        let probed = self.progress_of(member, ProgressState::Probe);
        let whole = probed.filter(|progress| progress.matched >= self.log().last());
        let progress = self.progress_of(member, ProgressState::Replicate).or(whole);
        progress.map(|progress| progress.matched)
    }

    /// The index of the snapshot that a leader is sending a member.
    pub(crate) fn snapshot_to(&self, member: u64) -> Option<u64> {
        self.progress_of(member, ProgressState::Snapshot).map(|progress| progress.pending_snapshot)
    }

    fn progress_of(&self, member: u64, state: ProgressState) -> Option<&Progress> {
        let progress = self.is_leader().then(|| self.raw.raft.prs().get(member)).flatten();
        progress.filter(|progress| progress.state == state)
    }

    /// What a leader knows of another member's log.
    pub(crate) fn matched(&self, member: u64) -> Option<u64> {
        let progress = self.is_leader().then(|| self.raw.raft.prs().get(member)).flatten()?;
        Some(progress.matched)
    }

    /// Raft leaves a joint configuration when the leader that entered it applies it. If leadership moved in between,
    /// nobody does, for ever; so whoever leads leaves it.
    fn must_leave_joint(&self) -> bool {
        self.is_leader() && !self.raw.raft.has_pending_conf() && self.is_joint()
    }

    /// Whether two sets of voters must agree at the moment.
    pub(crate) fn is_joint(&self) -> bool {
        !self.raw.raft.prs().conf().to_conf_state().voters_outgoing.is_empty()
    }

    /// Raft draws its election timeout from the thread's dice whenever it changes role or term; ours is a function of
    /// the seed, the member and the term. It lies between one and two election timeouts, as raft's does.
    fn draw_timeout(&mut self) {
        let drawn = mix(self.seed ^ mix(self.id) ^ mix(self.raw.raft.term).rotate_left(32));
        let jitter = usize::try_from(drawn % self.election_ticks as u64).unwrap_or(0);
        self.raw.raft.set_randomized_election_timeout(self.election_ticks + jitter);
    }
}

/// What members say to each other. Everything else either comes from within, or came with more than a message: a command
/// must be checked before it is in the log, and a snapshot needs its file.
fn is_for_peers(kind: MessageType) -> bool {
    use MessageType::*;
    matches!(
        kind,
        MsgAppend
            | MsgAppendResponse
            | MsgHeartbeat
            | MsgHeartbeatResponse
            | MsgReadIndex
            | MsgReadIndexResp
            | MsgRequestPreVote
            | MsgRequestPreVoteResponse
            | MsgRequestVote
            | MsgRequestVoteResponse
            | MsgTimeoutNow
    )
}

/// The change in an entry, in its newer form.
fn parse_change(entry: &Entry) -> raft::Result<ConfChangeV2> {
    match entry.get_entry_type() {
        EntryType::EntryConfChange => {
            let older = ConfChange::parse_from_bytes(&entry.data)?;
            let mut change = ConfChangeSingle { node_id: older.node_id, ..ConfChangeSingle::default() };
            change.set_change_type(older.get_change_type());
            Ok(ConfChangeV2 { changes: vec![change].into(), ..ConfChangeV2::default() })
        }
        _ => Ok(ConfChangeV2::parse_from_bytes(&entry.data)?),
    }
}

fn held(change: &ConfChangeV2) -> Vec<u64> {
    if change.context[..] != *Applied::HELD {
        return Vec::new();
    }
    change.changes.iter().map(|change| change.node_id).collect()
}

/// The finaliser of SplitMix64: spreads a small difference over all bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
