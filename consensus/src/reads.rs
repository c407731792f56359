//! Reads: who waits for which index.
//!
//! A linearizable read needs an index that some leader, confirmed after the read arrived, had committed; then it waits
//! until this replica has applied that far. Rounds go to raft one at a time, and everything that arrives meanwhile
//! joins the next. Two traps of raft 0.7 shape this file: a leader that has not yet committed in its own term drops
//! the question in silence, so a round is asked again; and a context used twice can be answered by a confirmation that
//! was already on its way (etcd 20418), so every attempt has a fresh one. No clock: ticks are counted.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::error::ReadError;

/// With this many reads waiting, a new one is refused.
pub(crate) const READS_MAX: usize = 8_192;

/// Ticks after which a round that raft has not answered is asked again, under a new context.
const RETRY_TICKS: u32 = 5;

/// Attempts before the readers of a round are told that nobody leads: three seconds at the default tick.
const ATTEMPTS_MAX: u32 = 6;

/// Ticks a confirmed read waits for the state to follow: as long as an unconfirmed one waits for its leader.
const APPLY_TICKS_MAX: u32 = RETRY_TICKS * ATTEMPTS_MAX;

/// Where the index for a read goes.
pub(crate) type Waiter = oneshot::Sender<Result<u64, ReadError>>;

/// Names one attempt of one round for ever; raft carries it out and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    node: u64,
    incarnation: u64,
    sequence: u64,
}

impl Context {
    /// The bytes raft carries.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.node, self.incarnation, self.sequence].iter().flat_map(|word| word.to_be_bytes()).collect()
    }
}

/// The reads of this replica, from arrival to answer.
///
/// * At most one round is with raft.
/// * A context is never used twice.
/// * A waiter is answered exactly once, and at most `READS_MAX` wait.
pub(crate) struct Reads {
    next: Context,
    arrived: Vec<Waiter>,
    round: Option<Round>,
    confirmed: VecDeque<Confirmed>,
    waiting: usize,
}

struct Round {
    context: Context,
    waiters: Vec<Waiter>,
    attempts: u32,
    ticks: u32,
}

struct Confirmed {
    index: u64,
    waiters: Vec<Waiter>,
    ticks: u32,
}

impl Reads {
    pub(crate) fn new(node: u64, incarnation: u64) -> Reads {
        let next = Context { node, incarnation, sequence: 0 };
        Reads { next, arrived: Vec::new(), round: None, confirmed: VecDeque::new(), waiting: 0 }
    }

    /// Admits a reader; it joins the next round.
    pub(crate) fn enter(&mut self, waiter: Waiter) {
        if self.waiting == READS_MAX {
            answer(waiter, Err(ReadError::Busy));
            return;
        }
        self.waiting += 1;
        self.arrived.push(waiter);
    }

    /// The question to put to raft now, if there is one.
    pub(crate) fn ask(&mut self) -> Option<Context> {
        if self.round.is_some() || self.arrived.is_empty() {
            return None;
        }
        let context = self.fresh();
        let waiters = std::mem::take(&mut self.arrived);
        self.round = Some(Round { context, waiters, attempts: 1, ticks: 0 });
        Some(context)
    }

    /// One tick passed: the question to put again, if raft kept silent long enough.
    pub(crate) fn tick(&mut self) -> Option<Context> {
        self.tick_confirmed();
        let round = self.round.as_mut()?;
        round.ticks += 1;
        if round.ticks < RETRY_TICKS {
            return None;
        }
        if round.attempts == ATTEMPTS_MAX {
            self.give_up();
            return None;
        }
        round.attempts += 1;
        self.again(0)
    }

    /// Another member leads: the question to put to it, if one is open. Whoever led before took it along, or there was
    /// nobody to ask. A new leader drops it until an entry of its own is committed, so the next tick asks once more.
    pub(crate) fn leader_changed(&mut self) -> Option<Context> {
        self.again(RETRY_TICKS - 1)
    }

    /// The open question under a new context, as if asked so many ticks ago.
    fn again(&mut self, ticks: u32) -> Option<Context> {
        let context = self.round.is_some().then(|| self.fresh())?;
        let round = self.round.as_mut()?;
        (round.context, round.ticks) = (context, ticks);
        Some(context)
    }

    /// Raft answered a question. An answer to an earlier attempt is ignored; its round was asked again.
    pub(crate) fn confirm(&mut self, context: &[u8], index: u64) {
        if let Some(round) = self.round.take_if(|round| round.context.to_bytes() == context) {
            self.confirmed.push_back(Confirmed { index, waiters: round.waiters, ticks: 0 });
        }
    }

    /// The state has reached `applied`: whoever waited for that, or less, may read.
    pub(crate) fn applied(&mut self, applied: u64) {
        // Rounds are confirmed one after the other, so their indexes never fall.
        while self.confirmed.front().is_some_and(|confirmed| confirmed.index <= applied) {
            let Some(confirmed) = self.confirmed.pop_front() else { return };
            self.waiting -= confirmed.waiters.len();
            for waiter in confirmed.waiters {
                answer(waiter, Ok(applied));
            }
        }
    }

    /// Tells everyone that this replica answers no more.
    pub(crate) fn stop(&mut self) {
        self.waiting = 0;
        let round = self.round.take().map(|round| round.waiters).unwrap_or_default();
        let confirmed = self.confirmed.drain(..).flat_map(|confirmed| confirmed.waiters);
        for waiter in self.arrived.drain(..).chain(round).chain(confirmed) {
            answer(waiter, Err(ReadError::Stopped));
        }
    }

    /// A member that was cut off or removed after the confirmation may never come to the entry it stands for.
    fn tick_confirmed(&mut self) {
        self.confirmed.iter_mut().for_each(|confirmed| confirmed.ticks += 1);
        while self.confirmed.front().is_some_and(|confirmed| confirmed.ticks > APPLY_TICKS_MAX) {
            let Some(confirmed) = self.confirmed.pop_front() else { return };
            self.waiting -= confirmed.waiters.len();
            confirmed.waiters.into_iter().for_each(|waiter| answer(waiter, Err(ReadError::NoLeader)));
        }
    }

    fn give_up(&mut self) {
        let Some(round) = self.round.take() else { return };
        self.waiting -= round.waiters.len();
        for waiter in round.waiters {
            answer(waiter, Err(ReadError::NoLeader));
        }
    }

    fn fresh(&mut self) -> Context {
        let context = self.next;
        self.next.sequence += 1;
        context
    }
}

/// A reader that has gone away is a client that hung up, which is not an error.
pub(crate) fn answer(waiter: Waiter, result: Result<u64, ReadError>) {
    let _ = waiter.send(result);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<u64, ReadError>>;

    fn enter(reads: &mut Reads) -> Answer {
        let (waiter, answer) = oneshot::channel();
        reads.enter(waiter);
        answer
    }

    #[test]
    fn a_new_leader_is_asked_at_once_and_again_a_tick_later() {
        let mut reads = Reads::new(1, 1);
        assert_eq!(reads.leader_changed(), None, "nobody waits");
        let mut read = enter(&mut reads);
        let first = reads.ask().unwrap();
        let second = reads.leader_changed().unwrap();
        let third = reads.tick().unwrap();
        assert!(first != second && second != third);
        assert_eq!(reads.tick(), None, "then as patiently as ever");
        reads.confirm(&first.to_bytes(), 4);
        reads.confirm(&third.to_bytes(), 5);
        reads.applied(5);
        assert_eq!(read.try_recv().unwrap(), Ok(5));
    }

    #[test]
    fn what_arrives_during_a_round_joins_the_next() {
        let mut reads = Reads::new(1, 1);
        let mut first = enter(&mut reads);
        let round = reads.ask().unwrap();
        let mut second = enter(&mut reads);
        assert_eq!(reads.ask(), None, "one round at a time");

        reads.confirm(&round.to_bytes(), 5);
        reads.applied(5);

        assert_eq!(first.try_recv().unwrap(), Ok(5));
        assert!(second.try_recv().is_err(), "the second read arrived after the confirmation began");
        assert!(reads.ask().is_some());
    }

    #[test]
    fn a_confirmed_read_waits_until_the_state_has_followed() {
        let mut reads = Reads::new(1, 1);
        let mut answer = enter(&mut reads);
        let round = reads.ask().unwrap();
        reads.confirm(&round.to_bytes(), 9);

        reads.applied(8);
        assert!(answer.try_recv().is_err());

        reads.applied(12);
        assert_eq!(answer.try_recv().unwrap(), Ok(12));
    }

    #[test]
    fn a_confirmed_read_does_not_wait_for_ever_for_a_state_that_stands_still() {
        let mut reads = Reads::new(1, 1);
        let mut answer = enter(&mut reads);
        let round = reads.ask().unwrap();
        reads.confirm(&round.to_bytes(), 9);
        reads.applied(8);

        (0..=APPLY_TICKS_MAX).for_each(|_| assert_eq!(reads.tick(), None));

        assert_eq!(answer.try_recv().unwrap(), Err(ReadError::NoLeader));
        assert_eq!(reads.waiting, 0);
    }

    #[test]
    fn a_question_raft_dropped_is_asked_again_under_a_new_context() {
        let mut reads = Reads::new(1, 1);
        let mut answer = enter(&mut reads);
        let first = reads.ask().unwrap();

        let second = (0..RETRY_TICKS).find_map(|_| reads.tick()).expect("asked again");
        assert_ne!(first, second);

        reads.confirm(&first.to_bytes(), 3);
        reads.applied(3);
        assert!(answer.try_recv().is_err(), "an answer to the first attempt is stale");

        reads.confirm(&second.to_bytes(), 4);
        reads.applied(4);
        assert_eq!(answer.try_recv().unwrap(), Ok(4));
    }

    #[test]
    fn a_round_nobody_answers_ends() {
        let mut reads = Reads::new(1, 1);
        let mut answer = enter(&mut reads);
        reads.ask();

        let asked = (0..RETRY_TICKS * ATTEMPTS_MAX).filter_map(|_| reads.tick()).count();

        assert_eq!(asked as u32, ATTEMPTS_MAX - 1);
        assert_eq!(answer.try_recv().unwrap(), Err(ReadError::NoLeader));
        assert_eq!(reads.waiting, 0);
    }

    #[test]
    fn one_read_too_many_is_told_busy_and_stopping_answers_the_rest() {
        let mut reads = Reads::new(1, 1);
        let waiting: Vec<Answer> = (0..READS_MAX).map(|_| enter(&mut reads)).collect();
        let mut refused = enter(&mut reads);
        assert_eq!(refused.try_recv().unwrap(), Err(ReadError::Busy));

        reads.ask();
        reads.stop();

        for mut answer in waiting {
            assert_eq!(answer.try_recv().unwrap(), Err(ReadError::Stopped));
        }
    }
}
