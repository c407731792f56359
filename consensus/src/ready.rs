//! One Ready, in the one order that is safe.
//!
//! ```text
//!  1 send            a leader's messages may overtake its own disk: followers acknowledge what *they* have
//!  2 apply what is   commands that an earlier Ready made durable and others acknowledged since: nobody who waits for
//!    durable         them waits for the disk once more
//!  3 restore         a snapshot replaces the state, then the log begins behind it
//!  4 append + fsync  entries and hard state, one group, one fdatasync
//!  5 send persisted  votes and acknowledgements: promises about what step 4 made durable
//!  6 advance append  raft learns what is durable, and says what that commits
//!  7 apply the rest  in order, one state transaction per run; a conf change before raft hears it is applied;
//!                    each proposer is answered after its command
//!  8 advance apply   raft learns how far the state is
//! ```
//!
//! Swap 4 and 5 and a member that lost its vote in a power cut votes twice; swap 4 and 7 and a client holds an answer
//! that no disk knows; swap 7 and 8 and a joint configuration is never left.

use raft::{
    Ready,
    eraftpb::{Entry, EntryType, Message, MessageType},
};

use crate::{
    batch,
    message::{Outgoing, Payload},
    proposals::ProposalId,
    replica::Replica,
    snapshots,
    state_machine::StateMachine,
    wal::WalError,
};

impl<M: StateMachine> Replica<M> {
    pub(crate) fn handle_ready(&mut self) -> Result<(), WalError> {
        let mut ready = self.node.ready();
        self.send_messages(ready.take_messages());
        let mut committed = ready.take_committed_entries();
        let mut applied = self.apply_durable(&ready, &mut committed)?;
        let restored = self.restore(&ready)?;
        self.append(&ready)?;
        self.send_messages(ready.take_persisted_messages());
        for read in ready.take_read_states() {
            self.reads.confirm(&read.request_ctx, read.index);
        }
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.log_mut().set_commit(commit);
        }
        self.send_messages(light.take_messages());
        committed.append(&mut light.take_committed_entries());
        self.apply(&committed)?;
        applied |= !committed.is_empty();
        // After a restore even with nothing applied: raft would look for entries that the snapshot replaced.
        if restored || applied {
            self.node.advance_apply(self.machine.applied_index());
        }
        self.note_leadership();
        Ok(())
    }

    /// Applies the commands at the front of what is committed, and takes them out; whether there were any. Raft hands out
    /// as committed only what it was told is durable, so these are, whatever this Ready adds. Nothing is done before a
    /// restore, which replaces the state, nor from a conf change on, which raft must not hear of in the middle of a Ready.
    fn apply_durable(&mut self, ready: &Ready, committed: &mut Vec<Entry>) -> Result<bool, WalError> {
        if ready.snapshot().get_metadata().index != 0 {
            return Ok(false);
        }
        let commands = committed.iter().take_while(|entry| is_ordinary(entry)).count();
        let rest = committed.split_off(commands);
        let durable = std::mem::replace(committed, rest);
        self.apply(&durable)?;
        self.reads.applied(self.machine.applied_index());
        Ok(!durable.is_empty())
    }

    fn send_messages(&mut self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let outgoing: Vec<Outgoing> =
            batch::joined(messages).into_iter().filter_map(|message| self.outgoing(message)).collect();
        (self.send)(outgoing);
    }

    fn outgoing(&mut self, message: Message) -> Option<Outgoing> {
        let to = message.to;
        if message.get_msg_type() != MessageType::MsgSnapshot {
            return Some(Outgoing { to, payload: Payload::Message(message) });
        }
        match self.snapshots.send(to, message.get_snapshot().get_metadata().index) {
            Some(state) => Some(Outgoing { to, payload: Payload::Snapshot { message, state } }),
            None => {
                // Withdrawn since raft took it; it asks again.
                self.node.snapshot_sent(to, false);
                None
            }
        }
    }

    /// Three durable steps, so that a crash between any two leaves either the old state and log or the new ones.
    fn restore(&mut self, ready: &Ready) -> Result<bool, WalError> {
        let snapshot = ready.snapshot();
        if snapshot.get_metadata().index == 0 {
            return Ok(false);
        }
        let metadata = snapshot.get_metadata();
        let file = self.snapshots.take_received(metadata.index, metadata.term);
        // Only messages that came with a file reach raft.
        let file =
            file.unwrap_or_else(|| stop(format!("the snapshot of entry {} has no file", metadata.index)));
        self.node.log_mut().announce_restore(metadata)?;
        self.machine.restore(&file);
        snapshots::remove(&file);
        let applied = self.machine.applied_index();
        if applied != metadata.index {
            stop(format!("the snapshot of entry {} holds the state of entry {applied}", metadata.index));
        }
        self.node.log_mut().begin_at(metadata)?;
        self.divergence.forget();
        self.members_changed();
        Ok(true)
    }

    fn append(&mut self, ready: &Ready) -> Result<(), WalError> {
        match ready.hs() {
            hard_state if ready.must_sync() => self.node.log_mut().append(ready.entries(), hard_state),
            // Only the commit index moved; it may wait for the next group.
            Some(hard_state) => {
                self.node.log_mut().set_commit(hard_state.commit);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Applies runs of ordinary entries each in one transaction, and conf changes alone in between.
    fn apply(&mut self, committed: &[Entry]) -> Result<(), WalError> {
        let bytes = committed.iter().map(|entry| entry.data.len() as u64).sum();
        self.checkpoints.applied(committed.len() as u64, bytes);
        for run in committed.chunk_by(|one, next| is_ordinary(one) && is_ordinary(next)) {
            match run {
                [change] if !is_ordinary(change) => {
                    let applied = self.node.apply_conf_change(change)?;
                    self.change_applied(&change.context, applied);
                    self.machine.apply(&[(change.index, b"")]);
                }
                run => self.apply_commands(run),
            }
        }
        Ok(())
    }

    fn apply_commands(&mut self, run: &[Entry]) {
        let batch: Vec<(u64, &[u8])> = run.iter().map(|entry| (entry.index, &entry.data[..])).collect();
        let outcomes = self.machine.apply(&batch);
        // Answering the wrong proposer would be worse than answering nobody.
        assert_eq!(outcomes.len(), run.len(), "one outcome for each entry");
        for (entry, outcome) in run.iter().zip(outcomes) {
            if let Some(id) = ProposalId::from_bytes(&entry.context) {
                self.proposals.applied(id, outcome);
            }
        }
    }

    /// Commands that were handed to a leader that leads no longer may be overwritten by the next, or may not.
    fn note_leadership(&mut self) {
        let reign = self.node.reign();
        if self.reign != reign {
            self.reign_ticks = 0;
            self.proposals.leadership_moved(reign);
            if let Some(context) = reign.and_then(|_| self.reads.leader_changed()) {
                self.node.read_index(context);
            }
        }
        self.reign = reign;
    }
}

/// The end of this member: what raft and the state believe no longer fits together. Without the hook's line on standard
/// error, as every other end.
fn stop(reason: String) -> ! {
    std::panic::resume_unwind(Box::new(reason))
}

fn is_ordinary(entry: &Entry) -> bool {
    entry.get_entry_type() == EntryType::EntryNormal
}
