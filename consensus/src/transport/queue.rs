//! Queue: what waits to be written to one peer. Pure.
//!
//! Three classes, the more urgent always first: what keeps leaders and elections alive must never wait behind
//! megabytes of log. Each class is bounded in items and in bytes. What does not fit is dropped, and who dropped
//! appends or commands is told, since raft must not go on as if they were on their way, and a proposer must not wait
//! for an answer that can not come.

use std::collections::VecDeque;

/// How urgent an item is; the first is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Heartbeats, votes, beats, read indices: small, and late means wrong.
    Urgent,
    /// Entries of the log, and their acknowledgements.
    Append,
    /// Commands and changes on their way to the leader, and its refusals.
    Command,
}

/// How much of one class may wait.
#[derive(Clone, Copy, Debug)]
struct Bound {
    items: usize,
    bytes: usize,
}

/// A leader's heartbeats and a peer's read rounds of many seconds; of more, only the newest mean anything.
const URGENT: Bound = Bound { items: 1_024, bytes: 1_024 * 1_024 };

/// Two seconds of a disk's log, or the smallest quarter of what raft keeps on its way to one follower. More would be
/// stale by the time it is written, and this is paid once for every peer that does not read.
const APPENDS: Bound = Bound { items: 4_096, bytes: 16 * 1_024 * 1_024 };

/// As many as proposals wait on one member, and some of the largest commands.
const COMMANDS: Bound = Bound { items: 4_096, bytes: 8 * 1_024 * 1_024 };

/// What may be queued for one peer in all.
#[cfg(test)]
pub(crate) const QUEUE_BYTES_MAX: usize = URGENT.bytes + APPENDS.bytes + COMMANDS.bytes;

/// Bytes that one item costs besides what it carries: its own structure and its frame.
pub(crate) const ITEM_BYTES: usize = 256;

/// What became of an item that was pushed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed<T> {
    /// It waits.
    Queued,
    /// It waits, and an older one of its class was forgotten for it.
    Displaced,
    /// There is no room; it is given back.
    Refused(T),
}

/// The items for one peer.
///
/// * Items of one class leave in the order they came.
/// * No class holds more than its bound, except that a lone item is always taken.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    urgent: Row<T>,
    appends: Row<T>,
    commands: Row<T>,
}

#[derive(Debug)]
struct Row<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    bound: Bound,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        Queue { urgent: Row::new(URGENT), appends: Row::new(APPENDS), commands: Row::new(COMMANDS) }
    }

    /// Adds an item that carries `bytes`.
    pub(crate) fn push(&mut self, class: Class, bytes: usize, item: T) -> Pushed<T> {
        let bytes = bytes.saturating_add(ITEM_BYTES);
        match class {
            Class::Urgent => {
                let mut pushed = Pushed::Queued;
                while !self.urgent.has_room(bytes) && self.urgent.pop().is_some() {
                    pushed = Pushed::Displaced;
                }
                self.urgent.push(bytes, item);
                pushed
            }
            Class::Append => self.appends.offer(bytes, item),
            Class::Command => self.commands.offer(bytes, item),
        }
    }

    /// Takes what is written next: everything urgent, then appends up to `budget` bytes, then commands. One command
    /// at least goes with every batch, so that a stream of appends can not hold them up for ever.
    pub(crate) fn take(&mut self, budget: usize, taken: &mut Vec<T>) {
        let mut left = budget;
        while let Some((_, item)) = self.urgent.pop() {
            taken.push(item);
        }
        left = self.appends.take(left, taken);
        self.commands.take(left.max(1), taken);
    }

    /// Takes everything, in no hurry: the peer is gone.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        let rows = [&mut self.urgent, &mut self.appends, &mut self.commands];
        let mut items = Vec::new();
        for row in rows {
            row.bytes = 0;
            // The room goes too: a peer that is away costs nothing.
            items.extend(std::mem::take(&mut row.items).into_iter().map(|(_, item)| item));
        }
        items
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.urgent.items.len() + self.appends.items.len() + self.commands.items.len()
    }

    /// What is queued, with what each item costs besides.
    pub(crate) fn bytes(&self) -> usize {
        self.urgent.bytes + self.appends.bytes + self.commands.bytes
    }
}

impl<T> Row<T> {
    fn new(bound: Bound) -> Row<T> {
        Row { items: VecDeque::new(), bytes: 0, bound }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.items.is_empty()
            || (self.items.len() < self.bound.items && self.bytes.saturating_add(bytes) <= self.bound.bytes)
    }

    fn offer(&mut self, bytes: usize, item: T) -> Pushed<T> {
        if !self.has_room(bytes) {
            return Pushed::Refused(item);
        }
        self.push(bytes, item);
        Pushed::Queued
    }

    fn push(&mut self, bytes: usize, item: T) {
        self.bytes += bytes;
        self.items.push_back((bytes, item));
    }

    fn pop(&mut self) -> Option<(usize, T)> {
        let (bytes, item) = self.items.pop_front()?;
        self.bytes -= bytes;
        Some((bytes, item))
    }

    /// Takes items until `budget` is used up, and answers what is left of it.
    fn take(&mut self, mut budget: usize, taken: &mut Vec<T>) -> usize {
        while budget > 0
            && let Some((bytes, item)) = self.pop()
        {
            budget = budget.saturating_sub(bytes);
            taken.push(item);
        }
        budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1_024 * 1_024;

    fn take(queue: &mut Queue<&'static str>, budget: usize) -> Vec<&'static str> {
        let mut taken = Vec::new();
        queue.take(budget, &mut taken);
        taken
    }

    #[test]
    fn the_urgent_overtake_everything_and_each_class_keeps_its_order() {
        let mut queue = Queue::new();
        for (class, item) in [
            (Class::Command, "c1"),
            (Class::Append, "a1"),
            (Class::Urgent, "u1"),
            (Class::Append, "a2"),
            (Class::Urgent, "u2"),
            (Class::Command, "c2"),
        ] {
            assert_eq!(queue.push(class, 10, item), Pushed::Queued);
        }
        assert_eq!(take(&mut queue, MIB), ["u1", "u2", "a1", "a2", "c1", "c2"]);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_batch_ends_at_its_budget_and_commands_are_never_starved() {
        let mut queue = Queue::new();
        for item in ["a1", "a2", "a3"] {
            queue.push(Class::Append, MIB, item);
        }
        queue.push(Class::Command, 10, "c1");
        queue.push(Class::Command, 10, "c2");
        assert_eq!(take(&mut queue, MIB), ["a1", "c1"]);
        queue.push(Class::Urgent, 10, "u1");
        assert_eq!(take(&mut queue, MIB), ["u1", "a2", "c2"]);
        assert_eq!(take(&mut queue, MIB), ["a3"]);
    }

    #[test]
    fn appends_and_commands_that_do_not_fit_are_given_back() {
        let mut queue = Queue::new();
        for class in [Class::Append, Class::Command] {
            let mut held = 0;
            while queue.push(class, MIB, "x") == Pushed::Queued {
                held += 1;
            }
            assert!((7..16).contains(&held), "{held}");
            assert_eq!(queue.push(class, MIB, "y"), Pushed::Refused("y"));
        }
        assert!(queue.bytes() <= QUEUE_BYTES_MAX);
        for _ in 0..APPENDS.items + COMMANDS.items {
            queue.push(Class::Append, 0, "x");
            queue.push(Class::Command, 0, "x");
        }
        assert!(queue.len() <= APPENDS.items + COMMANDS.items);
    }

    #[test]
    fn of_the_urgent_the_newest_stay() {
        let mut queue = Queue::new();
        queue.push(Class::Urgent, 0, "oldest");
        for _ in 0..URGENT.items - 1 {
            assert_eq!(queue.push(Class::Urgent, 0, "x"), Pushed::Queued);
        }
        assert_eq!(queue.push(Class::Urgent, 0, "newest"), Pushed::Displaced);
        let taken = take(&mut queue, MIB);
        assert_eq!((taken.len(), taken[0], taken[URGENT.items - 1]), (URGENT.items, "x", "newest"));
    }

    #[test]
    fn a_lone_item_passes_whatever_its_size_and_a_clear_queue_is_empty() {
        let mut queue = Queue::new();
        assert_eq!(queue.push(Class::Append, 100 * MIB, "large"), Pushed::Queued);
        assert_eq!(queue.push(Class::Append, 0, "next"), Pushed::Refused("next"));
        queue.push(Class::Urgent, 0, "u");
        assert_eq!(queue.clear(), ["u", "large"]);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }
}
