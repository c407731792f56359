//! Changes: who is waiting for a change of the members, or of the leader. No clock and no I/O; ticks are counted.
//!
//! A wish is put to whoever leads. It is put again, under the same name, when another leads or when the leader was busy:
//! a leader does not do twice what is so already. It has come true when this member has applied it.

use tokio::sync::oneshot;

use crate::{
    error::ChangeError,
    message::{MemberChange, Refusal},
    node::Reign,
    proposals::ProposalId,
};

/// With this many wishes waiting, a new one is refused; members do not change often.
const CHANGES_MAX: usize = 64;

/// Ticks after which a change of the members that was not seen to happen is given up.
const CHANGE_PATIENCE_TICKS: u32 = 100;

/// Ticks after which a change of leader is given up. Raft gives up a transfer after an election timeout.
const TRANSFER_PATIENCE_TICKS: u32 = 30;

/// Ticks between two questions to a leader that was busy.
const RETRY_TICKS: u32 = 3;

/// Where the answer to a change of the members goes.
pub(crate) type ChangeWaiter = oneshot::Sender<Result<(), ChangeError>>;

/// Where the answer to a change of the leader goes.
pub(crate) type TransferWaiter = oneshot::Sender<Result<u64, ChangeError>>;

/// What is to be put to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Change(MemberChange),
    Transfer(Option<u64>),
}

/// The wishes of this member's callers.
///
/// * A waiter is answered exactly once, and at most `CHANGES_MAX` wait.
#[derive(Default)]
pub(crate) struct Changes {
    waiting: Vec<Waiting>,
}

struct Waiting {
    id: ProposalId,
    wish: Wish,
    state: State,
    ticks_left: u32,
}

enum Wish {
    Change {
        change: MemberChange,
        waiter: ChangeWaiter,
    },
    /// `from` led when it was first put to somebody.
    Transfer {
        to: Option<u64>,
        from: Option<u64>,
        waiter: TransferWaiter,
    },
}

enum State {
    /// To be put to whoever leads, once these ticks have passed. Nothing of it was done; a leader said why, if any did.
    Idle { pause: u32, refused: Option<ChangeError> },
    /// A leader has it.
    Asked(Reign),
    /// It is in force, but the joint configuration it began with was not left yet.
    InForce,
    /// To be answered so.
    Over(Result<(), ChangeError>),
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Admits a wish for other members, or answers it at once when too many wait already.
    pub(crate) fn enter_change(&mut self, id: ProposalId, change: MemberChange, waiter: ChangeWaiter) {
        self.enter(id, Wish::Change { change, waiter }, CHANGE_PATIENCE_TICKS);
    }

    /// Admits a wish for another leader.
    pub(crate) fn enter_transfer(&mut self, id: ProposalId, to: Option<u64>, waiter: TransferWaiter) {
        self.enter(id, Wish::Transfer { to, from: None, waiter }, TRANSFER_PATIENCE_TICKS);
    }

    fn enter(&mut self, id: ProposalId, wish: Wish, ticks_left: u32) {
        let state = match self.waiting.len() {
            CHANGES_MAX => return wish.answer(Err(ChangeError::Busy), None),
            _ => State::Idle { pause: 0, refused: None },
        };
        self.waiting.push(Waiting { id, wish, state, ticks_left });
    }

    /// What is to be put to the leader now. Who calls this puts it.
    pub(crate) fn ask(&mut self, reign: Reign) -> Vec<(ProposalId, Ask)> {
        let mut asks = Vec::new();
        for waiting in &mut self.waiting {
            match waiting.state {
                State::Idle { pause: 0, .. } => {}
                State::Asked(earlier) if earlier != reign => {}
                _ => continue,
            }
            waiting.state = State::Asked(reign);
            asks.push((waiting.id, waiting.wish.ask(reign)));
        }
        asks
    }

    /// The leader did nothing about it, and says why. Whether it was one of ours.
    pub(crate) fn refused(&mut self, id: ProposalId, refusal: Refusal) -> bool {
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) else { return false };
        let later = |error| State::Idle { pause: RETRY_TICKS, refused: Some(error) };
        waiting.state = match refusal {
            Refusal::NoLeader => later(ChangeError::NoLeader),
            Refusal::Busy => later(ChangeError::Busy),
            Refusal::AlreadySo => State::Over(Ok(())),
            Refusal::Invalid(reason) => State::Over(Err(ChangeError::Refused { reason })),
        };
        true
    }

    /// This member applied a change of that name; or nobody could, for this reason.
    pub(crate) fn applied(&mut self, id: ProposalId, refused: Option<String>) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.state = match refused {
                None => State::InForce,
                Some(reason) => State::Over(Err(ChangeError::Refused { reason })),
            };
        }
    }

    /// Answers every wish that has come true, or never will.
    pub(crate) fn settle(&mut self, reign: Option<Reign>, joint: bool) {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.verdict(reign, joint) {
                None => self.waiting.push(waiting),
                Some(result) => waiting.wish.answer(result, reign),
            }
        }
    }

    /// One tick passed.
    pub(crate) fn tick(&mut self) {
        for waiting in &mut self.waiting {
            waiting.ticks_left = waiting.ticks_left.saturating_sub(1);
            if let State::Idle { pause, .. } = &mut waiting.state {
                *pause = pause.saturating_sub(1);
            }
            if waiting.ticks_left == 0 && !matches!(waiting.state, State::Over(_)) {
                waiting.state = State::Over(Err(match &waiting.state {
                    State::Idle { refused, .. } => refused.clone().unwrap_or(ChangeError::NoLeader),
                    _ => ChangeError::Uncertain,
                }));
            }
        }
    }

    /// Tells everyone that this member answers no more.
    pub(crate) fn stop(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let error = match waiting.state {
                State::Idle { .. } => ChangeError::Stopped,
                _ => ChangeError::Uncertain,
            };
            waiting.wish.answer(Err(error), None);
        }
    }
}

impl Waiting {
    fn verdict(&self, reign: Option<Reign>, joint: bool) -> Option<Result<(), ChangeError>> {
        if let State::Over(result) = &self.state {
            return Some(result.clone());
        }
        let done = match (&self.wish, &self.state, reign) {
            (Wish::Change { .. }, State::InForce, _) => !joint,
            (Wish::Transfer { to: Some(to), .. }, _, Some(reign)) => reign.leader == *to,
            (Wish::Transfer { to: None, from: Some(from), .. }, _, Some(reign)) => reign.leader != *from,
            _ => false,
        };
        done.then_some(Ok(()))
    }
}

impl Wish {
    fn ask(&mut self, reign: Reign) -> Ask {
        match self {
            Wish::Change { change, .. } => Ask::Change(*change),
            Wish::Transfer { to, from, .. } => {
                from.get_or_insert(reign.leader);
                Ask::Transfer(*to)
            }
        }
    }

    /// A waiter that has gone away is a client that hung up, which is not an error.
    fn answer(self, result: Result<(), ChangeError>, reign: Option<Reign>) {
        match self {
            Wish::Change { waiter, .. } => drop(waiter.send(result)),
            Wish::Transfer { waiter, .. } => {
                let leader = reign.map(|reign| reign.leader).ok_or(ChangeError::NoLeader);
                drop(waiter.send(result.and(leader)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposals::Proposals;

    const HERE: Reign = Reign { leader: 1, term: 5 };
    const THERE: Reign = Reign { leader: 2, term: 6 };
    const ADD: MemberChange = MemberChange::AddLearner(9);

    fn change() -> (Changes, ProposalId, oneshot::Receiver<Result<(), ChangeError>>) {
        let (waiter, answer) = oneshot::channel();
        let (mut changes, id) = (Changes::default(), Proposals::new(1, 1).fresh());
        changes.enter_change(id, ADD, waiter);
        (changes, id, answer)
    }

    fn transfer(to: Option<u64>) -> (Changes, ProposalId, oneshot::Receiver<Result<u64, ChangeError>>) {
        let (waiter, answer) = oneshot::channel();
        let (mut changes, id) = (Changes::default(), Proposals::new(1, 1).fresh());
        changes.enter_transfer(id, to, waiter);
        (changes, id, answer)
    }

    #[test]
    fn a_change_is_put_to_each_leader_once_and_answered_when_the_joint_configuration_is_left() {
        let (mut changes, id, mut answer) = change();
        assert_eq!(changes.ask(HERE), [(id, Ask::Change(ADD))]);
        assert_eq!(changes.ask(HERE), []);
        assert_eq!(changes.ask(THERE), [(id, Ask::Change(ADD))]);

        changes.applied(id, None);
        changes.settle(Some(THERE), true);
        assert!(answer.try_recv().is_err(), "two sets of voters are in force");
        changes.settle(Some(THERE), false);
        assert_eq!(answer.try_recv().unwrap(), Ok(()));
        assert!(changes.is_empty());
    }

    #[test]
    fn a_busy_leader_is_asked_again_and_its_word_is_the_last_when_patience_ends() {
        let (mut changes, id, mut answer) = change();
        changes.ask(HERE);
        assert!(changes.refused(id, Refusal::Busy));
        assert_eq!(changes.ask(HERE), []);
        (0..RETRY_TICKS).for_each(|_| changes.tick());
        assert_eq!(changes.ask(HERE).len(), 1);
        changes.refused(id, Refusal::Busy);
        (0..CHANGE_PATIENCE_TICKS).for_each(|_| changes.tick());
        changes.settle(Some(HERE), false);
        assert_eq!(answer.try_recv().unwrap(), Err(ChangeError::Busy));
    }

    #[test]
    fn what_a_leader_has_and_nobody_saw_happen_is_uncertain_and_the_rest_is_not() {
        let (mut changes, _, mut answer) = change();
        changes.ask(HERE);
        (0..CHANGE_PATIENCE_TICKS).for_each(|_| changes.tick());
        changes.settle(Some(HERE), false);
        assert_eq!(answer.try_recv().unwrap(), Err(ChangeError::Uncertain));

        let (mut changes, _, mut answer) = change();
        (0..CHANGE_PATIENCE_TICKS).for_each(|_| changes.tick());
        changes.settle(None, false);
        assert_eq!(answer.try_recv().unwrap(), Err(ChangeError::NoLeader));
    }

    #[test]
    fn a_refusal_with_a_reason_and_a_change_that_is_so_already_end_the_wait() {
        let (mut changes, id, mut answer) = change();
        changes.ask(HERE);
        changes.refused(id, Refusal::Invalid("no".to_owned()));
        changes.settle(Some(HERE), true);
        assert_eq!(answer.try_recv().unwrap(), Err(ChangeError::Refused { reason: "no".to_owned() }));

        let (mut changes, id, mut answer) = change();
        changes.ask(HERE);
        changes.refused(id, Refusal::AlreadySo);
        changes.settle(Some(HERE), true);
        assert_eq!(answer.try_recv().unwrap(), Ok(()));
        assert!(!changes.refused(id, Refusal::Busy), "it waits no longer");
    }

    #[test]
    fn leadership_went_where_it_was_to_go_or_anywhere_else() {
        let (mut changes, id, mut answer) = transfer(Some(2));
        changes.settle(Some(HERE), false);
        assert_eq!(changes.ask(HERE), [(id, Ask::Transfer(Some(2)))]);
        changes.settle(None, false);
        assert!(answer.try_recv().is_err());
        changes.settle(Some(THERE), false);
        assert_eq!(answer.try_recv().unwrap(), Ok(2));

        let (mut changes, _, mut answer) = transfer(None);
        changes.settle(Some(HERE), false);
        changes.ask(HERE);
        changes.settle(Some(HERE), false);
        assert!(answer.try_recv().is_err());
        changes.settle(Some(THERE), false);
        assert_eq!(answer.try_recv().unwrap(), Ok(2));
    }

    #[test]
    fn one_wish_too_many_is_told_busy_and_stopping_answers_the_rest() {
        let (mut changes, id, mut first) = change();
        changes.ask(HERE);
        let mut waiting: Vec<_> = (1..CHANGES_MAX)
            .map(|_| {
                let (waiter, answer) = oneshot::channel();
                changes.enter_change(id, ADD, waiter);
                answer
            })
            .collect();
        let (waiter, mut refused) = oneshot::channel();
        changes.enter_change(id, ADD, waiter);
        assert_eq!(refused.try_recv().unwrap(), Err(ChangeError::Busy));

        changes.stop();
        assert_eq!(first.try_recv().unwrap(), Err(ChangeError::Uncertain), "a leader had it");
        for answer in &mut waiting {
            assert_eq!(answer.try_recv().unwrap(), Err(ChangeError::Stopped));
        }
    }
}
