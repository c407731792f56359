//! What is still to happen, in the order of its moments; what is due at one moment happens in the order it was planned.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::life::Input;

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    Arrive(u64, Box<Input>),
    Wake(u64),
    Exported(u64, u64),
    Restart(u64),
    Client,
    Fault,
}

struct Timed {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Timed) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Timed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Timed) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The list of everything that is still to happen.
#[derive(Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<Timed>>,
    order: u64,
}

impl Events {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse(Timed { at, order: self.order, event }));
    }

    /// The next event and its moment, if that is not after `end`.
    pub(crate) fn pop_until(&mut self, end: u64) -> Option<(u64, Event)> {
        if self.heap.peek().is_none_or(|Reverse(next)| next.at > end) {
            return None;
        }
        self.heap.pop().map(|Reverse(next)| (next.at, next.event))
    }
}
