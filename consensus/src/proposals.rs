//! Proposals: who is waiting for which command.
//!
//! A waiter enters when its command is handed to raft and is answered once: with the outcome when this replica
//! applies the command, or with `Uncertain` when leadership moves and nobody can say. No clock and no I/O here;
//! the replica decides when to call what.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::error::ProposeError;

/// With this many commands waiting, a new one would outlive its client's patience; it is refused instead.
pub(crate) const PROPOSALS_MAX: usize = 4_096;

/// Names one proposal for ever. It travels in the entry's context, so every replica can tell whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProposalId {
    node: u64,
    /// Fresh at every start: entries proposed before a restart are applied after it and must find no waiter.
    incarnation: u64,
    sequence: u64,
}

impl ProposalId {
    const BYTES: usize = 24;

    /// The id as it stands in an entry's context.
    pub(crate) fn to_bytes(self) -> [u8; ProposalId::BYTES] {
        let mut bytes = [0; ProposalId::BYTES];
        bytes[0..8].copy_from_slice(&self.node.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.incarnation.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The id in an entry's context, if it carries one; raft's own entries do not.
    pub(crate) fn from_bytes(context: &[u8]) -> Option<ProposalId> {
        let context: &[u8; ProposalId::BYTES] = context.try_into().ok()?;
        let [node, incarnation, sequence] = [0, 8, 16].map(|at| {
            let mut word = [0; 8];
            word.copy_from_slice(&context[at..at + 8]);
            u64::from_be_bytes(word)
        });
        Some(ProposalId { node, incarnation, sequence })
    }
}

/// Where the answer to a proposal goes.
pub(crate) type Waiter = oneshot::Sender<Result<Vec<u8>, ProposeError>>;

/// The commands this replica has proposed and not yet seen applied.
///
/// * An id is never used twice.
/// * A waiter is answered exactly once.
/// * At most `PROPOSALS_MAX` wait.
pub(crate) struct Proposals {
    next: ProposalId,
    waiting: HashMap<ProposalId, Waiter>,
}

impl Proposals {
    pub(crate) fn new(node: u64, incarnation: u64) -> Proposals {
        Proposals { next: ProposalId { node, incarnation, sequence: 0 }, waiting: HashMap::new() }
    }

    /// Admits a waiter and names its proposal, or answers it at once when too many wait already.
    pub(crate) fn enter(&mut self, waiter: Waiter) -> Option<ProposalId> {
        if self.waiting.len() == PROPOSALS_MAX {
            answer(waiter, Err(ProposeError::Busy));
            return None;
        }
        let id = self.next;
        self.next.sequence += 1;
        self.waiting.insert(id, waiter);
        Some(id)
    }

    /// Answers a proposal that raft would not take: nothing of it was written.
    pub(crate) fn refused(&mut self, id: ProposalId, error: ProposeError) {
        if let Some(waiter) = self.waiting.remove(&id) {
            answer(waiter, Err(error));
        }
    }

    /// Answers whoever proposed an applied command, if that was us and in this life.
    pub(crate) fn applied(&mut self, id: ProposalId, outcome: Vec<u8>) {
        if let Some(waiter) = self.waiting.remove(&id) {
            answer(waiter, Ok(outcome));
        }
    }

    /// Tells everyone still waiting that their command may or may not commit: the truth, and all we know.
    pub(crate) fn leadership_moved(&mut self) {
        for waiter in std::mem::take(&mut self.waiting).into_values() {
            answer(waiter, Err(ProposeError::Uncertain));
        }
    }
}

/// A waiter that has gone away is a client that hung up, which is not an error.
pub(crate) fn answer(waiter: Waiter, result: Result<Vec<u8>, ProposeError>) {
    let _ = waiter.send(result);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_from_before_the_restart_finds_no_waiter() {
        let (waiter, mut answer) = oneshot::channel();
        let before = Proposals::new(1, 7).enter(oneshot::channel().0).unwrap();
        let mut proposals = Proposals::new(1, 8);
        proposals.enter(waiter);

        proposals.applied(before, b"stale".to_vec());

        assert!(answer.try_recv().is_err(), "nothing was answered");
    }

    #[test]
    fn a_waiter_is_answered_once() {
        let (waiter, mut answer) = oneshot::channel();
        let mut proposals = Proposals::new(1, 1);
        let id = proposals.enter(waiter).unwrap();

        proposals.applied(id, b"done".to_vec());
        proposals.leadership_moved();

        assert_eq!(answer.try_recv().unwrap(), Ok(b"done".to_vec()));
    }

    #[test]
    fn one_proposal_too_many_is_told_busy_and_takes_no_id() {
        let mut proposals = Proposals::new(1, 1);
        let waiting: Vec<_> = (0..PROPOSALS_MAX)
            .map(|_| {
                let (waiter, answer) = oneshot::channel();
                proposals.enter(waiter).unwrap();
                answer
            })
            .collect();
        let (waiter, mut refused) = oneshot::channel();

        assert_eq!(proposals.enter(waiter), None);

        assert_eq!(refused.try_recv().unwrap(), Err(ProposeError::Busy));
        proposals.leadership_moved();
        for mut answer in waiting {
            assert_eq!(answer.try_recv().unwrap(), Err(ProposeError::Uncertain));
        }
    }

    #[test]
    fn an_id_survives_the_trip_through_an_entry() {
        let mut proposals = Proposals::new(3, u64::MAX);
        proposals.enter(oneshot::channel().0);
        let id = proposals.enter(oneshot::channel().0).unwrap();

        assert_eq!(ProposalId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(ProposalId::from_bytes(b""), None);
        assert_eq!(ProposalId::from_bytes(&[0; 25]), None);
    }
}
