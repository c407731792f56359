//! Proposals: who is waiting for which command.
//!
//! A waiter enters when its command is handed to raft and is answered once: with the outcome when this replica
//! applies the command, or with `Uncertain` when leadership moves and nobody can say. No clock and no I/O here;
//! the replica decides when to call what.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use crate::{error::ProposeError, node::Reign};

/// With this many commands waiting, a new one would outlive its client's patience; it is refused instead.
pub(crate) const PROPOSALS_MAX: usize = 4_096;

/// Ticks after which a command that was handed to the leader and not seen since is given up. Three seconds: longer than a
/// slow disk's group, shorter than a client's patience.
pub(crate) const FORWARD_PATIENCE_TICKS: u64 = 30;

/// Names one proposal for ever. It travels in the entry's context, so every replica can tell whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProposalId {
    node: u64,
    /// Fresh at every start: entries proposed before a restart are applied after it and must find no waiter.
    incarnation: u64,
    sequence: u64,
}

impl ProposalId {
    /// Bytes of an id.
    pub const BYTES: usize = 24;

    /// The id as it stands in an entry's context, and in a peer's frame.
    pub fn to_bytes(self) -> [u8; ProposalId::BYTES] {
        let mut bytes = [0; ProposalId::BYTES];
        bytes[0..8].copy_from_slice(&self.node.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.incarnation.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The id in an entry's context, if it carries one; raft's own entries do not.
    pub fn from_bytes(context: &[u8]) -> Option<ProposalId> {
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
    waiting: HashMap<ProposalId, Waiting>,
    /// Those handed to another member, by the tick at which their patience ends; never falls.
    forwarded: VecDeque<(u64, ProposalId)>,
    tick: u64,
}

struct Waiting {
    waiter: Waiter,
    /// To whom the command was handed.
    reign: Reign,
}

impl Proposals {
    pub(crate) fn new(node: u64, incarnation: u64) -> Proposals {
        let next = ProposalId { node, incarnation, sequence: 0 };
        Proposals { next, waiting: HashMap::new(), forwarded: VecDeque::new(), tick: 0 }
    }

    /// Admits a waiter and names its proposal, or answers it at once when too many wait already.
    pub(crate) fn enter(&mut self, waiter: Waiter, reign: Reign) -> Option<ProposalId> {
        if self.waiting.len() == PROPOSALS_MAX {
            answer(waiter, Err(ProposeError::Busy));
            return None;
        }
        let id = self.fresh();
        self.waiting.insert(id, Waiting { waiter, reign });
        if reign.leader != id.node {
            self.forwarded.push_back((self.tick + FORWARD_PATIENCE_TICKS, id));
        }
        Some(id)
    }

    /// A name that nothing else has, for a request that is no command.
    pub(crate) fn fresh(&mut self) -> ProposalId {
        let id = self.next;
        self.next.sequence += 1;
        id
    }

    /// One tick passed: what was handed on and not seen since may have been lost on the way, or there, or may yet come.
    pub(crate) fn tick(&mut self) {
        self.tick += 1;
        while let Some((due, id)) = self.forwarded.front().copied()
            && due <= self.tick
        {
            self.forwarded.pop_front();
            self.refused(id, ProposeError::Uncertain);
        }
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Answers a proposal that raft would not take: nothing of it was written.
    pub(crate) fn refused(&mut self, id: ProposalId, error: ProposeError) {
        if let Some(Waiting { waiter, .. }) = self.waiting.remove(&id) {
            answer(waiter, Err(error));
        }
    }

    /// Answers whoever proposed an applied command, if that was us and in this life.
    pub(crate) fn applied(&mut self, id: ProposalId, outcome: Vec<u8>) {
        if let Some(Waiting { waiter, .. }) = self.waiting.remove(&id) {
            answer(waiter, Ok(outcome));
        }
    }

    /// Tells everyone whose command was handed to another than `now` leads that it may or may not commit: the truth, and
    /// all we know.
    pub(crate) fn leadership_moved(&mut self, now: Option<Reign>) {
        for (id, waiting) in std::mem::take(&mut self.waiting) {
            if Some(waiting.reign) == now {
                self.waiting.insert(id, waiting);
            } else {
                answer(waiting.waiter, Err(ProposeError::Uncertain));
            }
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

    const HERE: Reign = Reign { leader: 1, term: 5 };
    const THERE: Reign = Reign { leader: 2, term: 6 };

    #[test]
    fn a_command_from_before_the_restart_finds_no_waiter() {
        let (waiter, mut answer) = oneshot::channel();
        let before = Proposals::new(1, 7).enter(oneshot::channel().0, HERE).unwrap();
        let mut proposals = Proposals::new(1, 8);
        proposals.enter(waiter, HERE);

        proposals.applied(before, b"stale".to_vec());

        assert!(answer.try_recv().is_err(), "nothing was answered");
    }

    #[test]
    fn a_waiter_is_answered_once() {
        let (waiter, mut answer) = oneshot::channel();
        let mut proposals = Proposals::new(1, 1);
        let id = proposals.enter(waiter, HERE).unwrap();

        proposals.applied(id, b"done".to_vec());
        proposals.leadership_moved(None);

        assert_eq!(answer.try_recv().unwrap(), Ok(b"done".to_vec()));
    }

    #[test]
    fn one_proposal_too_many_is_told_busy_and_takes_no_id() {
        let mut proposals = Proposals::new(1, 1);
        let waiting: Vec<_> = (0..PROPOSALS_MAX)
            .map(|_| {
                let (waiter, answer) = oneshot::channel();
                proposals.enter(waiter, HERE).unwrap();
                answer
            })
            .collect();
        let (waiter, mut refused) = oneshot::channel();

        assert_eq!(proposals.enter(waiter, HERE), None);

        assert_eq!(refused.try_recv().unwrap(), Err(ProposeError::Busy));
        proposals.leadership_moved(None);
        for mut answer in waiting {
            assert_eq!(answer.try_recv().unwrap(), Err(ProposeError::Uncertain));
        }
    }

    #[test]
    fn an_id_survives_the_trip_through_an_entry() {
        let mut proposals = Proposals::new(3, u64::MAX);
        proposals.enter(oneshot::channel().0, HERE);
        let id = proposals.enter(oneshot::channel().0, HERE).unwrap();

        assert_eq!(ProposalId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(ProposalId::from_bytes(b""), None);
        assert_eq!(ProposalId::from_bytes(&[0; 25]), None);
    }

    #[test]
    fn what_was_handed_to_an_earlier_leader_is_uncertain_and_the_rest_waits() {
        let mut proposals = Proposals::new(1, 1);
        let [mut earlier, mut later] = [HERE, THERE].map(|reign| {
            let (waiter, answer) = oneshot::channel();
            proposals.enter(waiter, reign).unwrap();
            answer
        });

        proposals.leadership_moved(Some(THERE));

        assert_eq!(earlier.try_recv().unwrap(), Err(ProposeError::Uncertain));
        assert!(later.try_recv().is_err(), "its leader still leads");
    }

    #[test]
    fn only_what_was_handed_on_is_given_up_after_a_while() {
        let mut proposals = Proposals::new(1, 1);
        let [mut ours, mut theirs] = [HERE, THERE].map(|reign| {
            let (waiter, answer) = oneshot::channel();
            proposals.enter(waiter, reign).unwrap();
            answer
        });

        (1..FORWARD_PATIENCE_TICKS).for_each(|_| proposals.tick());
        assert!(theirs.try_recv().is_err());
        proposals.tick();

        assert_eq!(theirs.try_recv().unwrap(), Err(ProposeError::Uncertain));
        assert!(ours.try_recv().is_err(), "our own log tells what becomes of it");
        assert!(proposals.forwarded.is_empty());
    }
}
