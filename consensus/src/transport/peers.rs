//! Peers: what waits for every other member, from where raft's thread leaves it to where a connection takes it.
//!
//! Raft's thread hands over messages and must never wait, so a lock here is held for a push and no longer. What does
//! not fit is dropped where raft copes with that, and answered where somebody waits: a request that never left is
//! refused in the leader's name, a snapshot that is not sent is reported as failed.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use raft::eraftpb::Message;
use tokio::sync::{Notify, watch};

use super::{
    options::Removed,
    payload,
    queue::{Pushed, Queue},
    status::{Counters, OutboundState, PeerConnections},
};
use crate::{
    handle::Raft,
    input::QueueFull,
    message::{Incoming, IncomingPayload, Outgoing, Payload, Refusal, SnapshotBody},
    proposals::ProposalId,
};

/// Members spoken to: every host of a large cluster.
pub(crate) const PEERS_MAX: usize = 1_024;

/// Requests refused at once when they were dropped: as many as proposals wait on one member.
const LOST_MAX: usize = 4_096;

/// What the transport tells this member's raft: functions rather than the handle, so that tests can listen.
pub(crate) struct Ends {
    pub(crate) step: Box<dyn Fn(Incoming) -> Result<(), QueueFull> + Send + Sync>,
    pub(crate) unreachable: Box<dyn Fn(u64) + Send + Sync>,
    pub(crate) snapshot_sent: Box<dyn Fn(u64, bool) + Send + Sync>,
    pub(crate) check_snapshot: fn(&Path) -> Result<u64, String>,
}

impl Ends {
    pub(crate) fn of(raft: &Raft) -> Ends {
        let [step, unreachable, sent] = [raft.clone(), raft.clone(), raft.clone()];
        Ends {
            step: Box::new(move |incoming| step.step(incoming)),
            unreachable: Box::new(move |member| unreachable.unreachable(member)),
            snapshot_sent: Box::new(move |member, ok| sent.snapshot_sent(member, ok)),
            check_snapshot: raft.check_snapshot(),
        }
    }
}

/// All peers.
pub(crate) struct Peers {
    us: u64,
    map: Mutex<BTreeMap<u64, Arc<Peer>>>,
    /// Members that are not spoken to any more.
    removed: Mutex<Removed>,
    /// Known once raft runs, which needs the sender first.
    reports: Arc<Reports>,
    /// A peer was added.
    pub(crate) added: Notify,
}

/// Where the ends of snapshots are reported, from before raft is known.
#[derive(Default)]
pub(crate) struct Reports {
    ends: OnceLock<Arc<Ends>>,
    early: Mutex<Vec<u64>>,
}

impl Reports {
    fn failed(&self, member: u64) {
        match self.ends.get() {
            Some(ends) => (ends.snapshot_sent)(member, false),
            None => lock(&self.early).push(member),
        }
    }
}

impl Peers {
    pub(crate) fn new(us: u64) -> Peers {
        Peers {
            us,
            map: Mutex::default(),
            removed: Mutex::default(),
            reports: Arc::default(),
            added: Notify::new(),
        }
    }

    /// From here on there is a raft to report to.
    pub(crate) fn connect(&self, ends: Arc<Ends>) {
        let _ = self.reports.ends.set(ends.clone());
        for member in lock(&self.reports.early).drain(..) {
            (ends.snapshot_sent)(member, false);
        }
    }

    /// Queues what raft sends. Never blocks.
    pub(crate) fn send(&self, batch: Vec<Outgoing>) {
        for Outgoing { to, payload } in batch {
            match (self.get_or_add(to), payload) {
                (Some(peer), Payload::Snapshot { message, state }) => {
                    peer.offer_snapshot(SnapshotJob::new(to, message, state, self.reports.clone()));
                }
                (Some(peer), payload) => peer.push(payload),
                (None, Payload::Snapshot { .. }) => self.reports.failed(to),
                (None, _) => {}
            }
        }
    }

    /// The peer, new if it was not there; `None` for this member itself, for a removed one and for one too many.
    pub(crate) fn get_or_add(&self, member: u64) -> Option<Arc<Peer>> {
        let mut map = lock(&self.map);
        if let Some(peer) = map.get(&member) {
            return Some(peer.clone());
        }
        if member == self.us || member == 0 || map.len() >= PEERS_MAX || lock(&self.removed).contains(&member)
        {
            return None;
        }
        let peer = Arc::new(Peer::new(member));
        map.insert(member, peer.clone());
        self.added.notify_one();
        Some(peer)
    }

    pub(crate) fn remove(&self, member: u64) {
        lock(&self.map).remove(&member);
    }

    /// These members are never spoken to again.
    pub(crate) fn set_removed(&self, removed: Removed) {
        *lock(&self.removed) = removed;
    }

    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        lock(&self.map).values().cloned().collect()
    }
}

/// One other member.
pub(crate) struct Peer {
    pub(crate) member: u64,
    outbox: Mutex<Outbox>,
    /// Something was queued.
    pub(crate) queued: Notify,
    snapshot: Mutex<Option<SnapshotJob>>,
    /// A snapshot was offered.
    pub(crate) offered: Notify,
    /// The peer has just dialled us, so it can be dialled.
    pub(crate) knocked: Notify,
    /// The process that last spoke for the member; 0 until one has.
    pub(crate) incarnation: watch::Sender<u64>,
    /// Where the peer itself says it is reached.
    learned: Mutex<Vec<String>>,
    pub(crate) outbound: Mutex<OutboundState>,
    pub(crate) counters: Counters,
}

struct Outbox {
    queue: Queue<Payload>,
    lost: Lost,
}

/// What was dropped for lack of room since it was last asked for.
#[derive(Default)]
pub(crate) struct Lost {
    /// Raft must learn that what it sent is not on its way.
    pub(crate) appends: bool,
    /// Requests that never left this host; at most [`LOST_MAX`], for the rest their proposers' patience ends the wait.
    pub(crate) requests: Vec<ProposalId>,
}

impl Peer {
    fn new(member: u64) -> Peer {
        Peer {
            member,
            outbox: Mutex::new(Outbox { queue: Queue::new(), lost: Lost::default() }),
            queued: Notify::new(),
            snapshot: Mutex::default(),
            offered: Notify::new(),
            knocked: Notify::new(),
            incarnation: watch::Sender::new(0),
            learned: Mutex::default(),
            outbound: Mutex::new(OutboundState::NoAddress),
            counters: Counters::default(),
        }
    }

    /// Queues a payload, or drops it when there is no room.
    pub(crate) fn push(&self, payload: Payload) {
        {
            let mut outbox = lock(&self.outbox);
            match payload {
                Payload::Message(message) => {
                    for piece in payload::pieces(message) {
                        outbox.push(Payload::Message(piece), &self.counters);
                    }
                }
                payload => outbox.push(payload, &self.counters),
            }
        }
        self.queued.notify_one();
    }

    /// Takes what is written next, about `budget` bytes of it, and what was lost meanwhile.
    pub(crate) fn take(&self, budget: usize, taken: &mut Vec<Payload>) -> Lost {
        let mut outbox = lock(&self.outbox);
        outbox.queue.take(budget, taken);
        std::mem::take(&mut outbox.lost)
    }

    pub(crate) fn has_queued(&self) -> bool {
        !lock(&self.outbox).queue.is_empty()
    }

    /// The peer can not be reached: forgets what waits for it, and answers what was lost with that.
    pub(crate) fn give_up(&self) -> Lost {
        let mut outbox = lock(&self.outbox);
        let dropped = outbox.queue.clear();
        self.counters.dropped(dropped.len());
        let mut lost = std::mem::take(&mut outbox.lost);
        lost.requests.extend(dropped.iter().filter_map(payload::request));
        lost
    }

    /// A snapshot to send. It takes the place of one that waits, or is being sent: that one was of an earlier state.
    fn offer_snapshot(&self, job: SnapshotJob) {
        if let Some(before) = lock(&self.snapshot).replace(job) {
            before.supersede();
        }
        self.offered.notify_one();
    }

    pub(crate) fn take_snapshot(&self) -> Option<SnapshotJob> {
        lock(&self.snapshot).take()
    }

    pub(crate) fn has_snapshot(&self) -> bool {
        lock(&self.snapshot).is_some()
    }

    /// The peer spoke to us: this process speaks for it now, and this is where it says it is.
    pub(crate) fn met(&self, incarnation: u64, advertise: Vec<String>) {
        *lock(&self.learned) = advertise;
        self.incarnation.send_if_modified(|known| std::mem::replace(known, incarnation) != incarnation);
    }

    /// Where to look for the peer: as its record says first, then as it said itself.
    pub(crate) fn candidates(&self, recorded: Option<&Vec<String>>) -> Vec<String> {
        let mut candidates = recorded.cloned().unwrap_or_default();
        for address in lock(&self.learned).iter() {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        candidates
    }

    pub(crate) fn show(&self, state: OutboundState) {
        *lock(&self.outbound) = state;
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*lock(&self.outbound), OutboundState::Connected { .. })
    }

    pub(crate) fn connections(&self) -> PeerConnections {
        let outbox = lock(&self.outbox);
        let (queued, queued_bytes) = (outbox.queue.len(), outbox.queue.bytes());
        drop(outbox);
        self.counters.show(lock(&self.outbound).clone(), queued, queued_bytes)
    }
}

impl Outbox {
    fn push(&mut self, payload: Payload, counters: &Counters) {
        let class = payload::class(&payload);
        let bytes = payload.bytes();
        match self.queue.push(class, bytes, payload) {
            Pushed::Queued => {}
            Pushed::Displaced => counters.dropped(1),
            Pushed::Refused(payload) => {
                counters.dropped(1);
                match payload::request(&payload) {
                    Some(id) if self.lost.requests.len() < LOST_MAX => self.lost.requests.push(id),
                    Some(_) => {}
                    None => self.lost.appends = true,
                }
            }
        }
    }
}

/// What a member hears in its leader's name about requests that never left.
pub(crate) fn refuse(ends: &Ends, leader: u64, lost: Lost, refusal: &Refusal) {
    if lost.appends {
        (ends.unreachable)(leader);
    }
    for id in lost.requests {
        let payload = IncomingPayload::Refused { id, refusal: refusal.clone() };
        // When even that has no room the proposer's own patience ends its wait.
        let _ = (ends.step)(Incoming { from: leader, payload });
    }
}

/// A snapshot on its way. However it ends, raft is told once, unless a newer one has taken its place.
pub(crate) struct SnapshotJob {
    pub(crate) message: Message,
    pub(crate) body: SnapshotBody,
    to: u64,
    reports: Option<Arc<Reports>>,
}

impl SnapshotJob {
    fn new(to: u64, message: Message, body: SnapshotBody, reports: Arc<Reports>) -> SnapshotJob {
        SnapshotJob { message, body, to, reports: Some(reports) }
    }

    /// It arrived.
    pub(crate) fn succeeded(mut self) {
        if let Some(ends) = self.reports.take().and_then(|reports| reports.ends.get().cloned()) {
            (ends.snapshot_sent)(self.to, true);
        }
    }

    /// A newer one was handed over for the same member. Raft waits for the end of that one only: told of this one's
    /// it would give that one up, make another, and so on for ever.
    pub(crate) fn supersede(mut self) {
        self.reports = None;
    }
}

impl Drop for SnapshotJob {
    fn drop(&mut self) {
        if let Some(reports) = &self.reports {
            reports.failed(self.to);
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
