//! Guests: who may come in, and for how long. Pure.
//!
//! Before a hello a connection is anybody's, so few are let in at once and fewer from one address. After it the member
//! is known: a connection of its takes the place of the one before, which may be half dead without knowing; and a
//! process that started later takes the place of the member's former one, which is not listened to again.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use tokio::sync::oneshot;

use super::hello::{Purpose, Refusal};

/// Connections that have not said hello yet. Each costs a handshake's memory for a few seconds at most.
const STRANGERS_MAX: usize = 128;

/// Of these from one address: the members of a whole test cluster on one host, but no flood.
const STRANGERS_PER_ADDRESS_MAX: usize = 32;

/// Snapshots received at once. More than one only while leadership moves; each writes a whole state to disk.
const RECEIVING_MAX: usize = 2;

/// Former processes of one member that are still recognised.
const FORMER_MAX: usize = 8;

/// Connections that nobody has vouched for.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    by_address: BTreeMap<IpAddr, usize>,
    all: usize,
}

impl Strangers {
    /// Lets one more in, unless there are too many.
    pub(crate) fn enter(&mut self, address: IpAddr) -> bool {
        let here = self.by_address.entry(address).or_default();
        if self.all >= STRANGERS_MAX || *here >= STRANGERS_PER_ADDRESS_MAX {
            return false;
        }
        *here += 1;
        self.all += 1;
        true
    }

    /// One has gone, or is no stranger any more.
    pub(crate) fn leave(&mut self, address: IpAddr) {
        if let Some(here) = self.by_address.get_mut(&address) {
            *here -= 1;
            self.all -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// Resolves when its connection has to end, because another has taken its place.
pub(crate) type Replaced = oneshot::Receiver<std::convert::Infallible>;

/// Members that are connected.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    members: BTreeMap<u64, Guest>,
    tickets: u64,
}

#[derive(Debug)]
struct Guest {
    incarnation: u64,
    former: VecDeque<u64>,
    raft: Option<Held>,
    bulk: Option<Held>,
}

/// Dropping the sender ends the connection.
#[derive(Debug)]
struct Held {
    ticket: u64,
    _until_replaced: oneshot::Sender<std::convert::Infallible>,
}

impl Guests {
    /// Admits a member's connection; the number answered is given back when it ends.
    pub(crate) fn admit(
        &mut self,
        member: u64,
        incarnation: u64,
        purpose: Purpose,
    ) -> Result<(u64, Replaced), Refusal> {
        let receiving = self.members.iter().filter(|(id, guest)| **id != member && guest.bulk.is_some());
        if purpose == Purpose::Bulk && receiving.count() >= RECEIVING_MAX {
            return Err(Refusal::Busy);
        }
        let guest = self.members.entry(member).or_insert_with(|| Guest {
            incarnation,
            former: VecDeque::new(),
            raft: None,
            bulk: None,
        });
        if guest.former.contains(&incarnation) {
            return Err(Refusal::Superseded);
        }
        if guest.incarnation != incarnation {
            guest.former.push_back(guest.incarnation);
            if guest.former.len() > FORMER_MAX {
                guest.former.pop_front();
            }
            guest.incarnation = incarnation;
            (guest.raft, guest.bulk) = (None, None);
        }
        self.tickets += 1;
        let (sender, replaced) = oneshot::channel();
        let held = Some(Held { ticket: self.tickets, _until_replaced: sender });
        match purpose {
            Purpose::Raft => guest.raft = held,
            Purpose::Bulk => guest.bulk = held,
        }
        Ok((self.tickets, replaced))
    }

    /// A connection has ended.
    pub(crate) fn leave(&mut self, member: u64, ticket: u64) {
        if let Some(guest) = self.members.get_mut(&member) {
            for held in [&mut guest.raft, &mut guest.bulk] {
                held.take_if(|held| held.ticket == ticket);
            }
        }
    }

    /// Whether the member's messages come in.
    pub(crate) fn has_raft(&self, member: u64) -> bool {
        self.members.get(&member).is_some_and(|guest| guest.raft.is_some())
    }

    /// The member has left the cluster: its connections end, and it is forgotten.
    pub(crate) fn forget(&mut self, member: u64) {
        self.members.remove(&member);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn admit(guests: &mut Guests, member: u64, incarnation: u64, purpose: Purpose) -> (u64, Replaced) {
        guests.admit(member, incarnation, purpose).unwrap()
    }

    #[test]
    fn strangers_are_few_and_fewer_from_one_address() {
        let mut strangers = Strangers::default();
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let entered = (0..STRANGERS_MAX).filter(|_| strangers.enter(address(1))).count();
        assert_eq!(entered, STRANGERS_PER_ADDRESS_MAX);
        let others = (2..=255).filter(|last| strangers.enter(address(*last))).count();
        assert_eq!(others, STRANGERS_MAX - STRANGERS_PER_ADDRESS_MAX);
        strangers.leave(address(1));
        assert!(strangers.enter(address(250)));
        assert!(!strangers.enter(address(1)));
    }

    #[test]
    fn a_newer_connection_takes_the_place_of_the_older_of_its_kind() {
        let mut guests = Guests::default();
        let (first, mut replaced) = admit(&mut guests, 1, 7, Purpose::Raft);
        let (_, mut bulk) = admit(&mut guests, 1, 7, Purpose::Bulk);
        assert_eq!(replaced.try_recv().unwrap_err(), TryRecvError::Empty);
        let (second, mut still) = admit(&mut guests, 1, 7, Purpose::Raft);
        assert_eq!(replaced.try_recv().unwrap_err(), TryRecvError::Closed);
        guests.leave(1, first);
        assert!(guests.has_raft(1), "the older one's end is not the newer one's");
        assert_eq!(still.try_recv().unwrap_err(), TryRecvError::Empty);
        assert_eq!(bulk.try_recv().unwrap_err(), TryRecvError::Empty);
        guests.leave(1, second);
        assert!(!guests.has_raft(1));
    }

    #[test]
    fn a_newer_process_ends_the_older_ones_connections_for_good() {
        let mut guests = Guests::default();
        let (_, mut raft) = admit(&mut guests, 1, 7, Purpose::Raft);
        let (_, mut bulk) = admit(&mut guests, 1, 7, Purpose::Bulk);
        admit(&mut guests, 1, 8, Purpose::Raft);
        assert_eq!(raft.try_recv().unwrap_err(), TryRecvError::Closed);
        assert_eq!(bulk.try_recv().unwrap_err(), TryRecvError::Closed);
        assert_eq!(guests.admit(1, 7, Purpose::Raft).unwrap_err(), Refusal::Superseded);
        for incarnation in 9..100 {
            admit(&mut guests, 1, incarnation, Purpose::Raft);
        }
        assert_eq!(guests.members[&1].former.len(), FORMER_MAX);
    }

    #[test]
    fn few_snapshots_are_received_at_once_and_a_members_next_replaces_its_last() {
        let mut guests = Guests::default();
        for member in 1..=RECEIVING_MAX as u64 {
            admit(&mut guests, member, 1, Purpose::Bulk);
        }
        assert_eq!(guests.admit(9, 1, Purpose::Bulk).unwrap_err(), Refusal::Busy);
        let (ticket, _) = admit(&mut guests, 1, 1, Purpose::Bulk);
        guests.leave(1, ticket);
        admit(&mut guests, 9, 1, Purpose::Bulk);
        guests.forget(9);
        admit(&mut guests, 1, 1, Purpose::Bulk);
    }
}
