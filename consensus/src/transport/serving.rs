//! Serving: the transport at work. One task that starts the others and ends them.
//!
//! ```text
//!   supervise ──┬── inbound::run ── a task per connection that was accepted
//!               ├── outbound::run        ┐
//!               └── snapshot_send::run   ┘ for every other member, as long as it is one
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};

use super::{
    inbound,
    options::{Addresses, Removed},
    outbound,
    peers::{Peer, Peers},
    shared::Shared,
    snapshot_send,
    status::PeerConnections,
};

/// A task that ended though nobody asked it to is started again; this often somebody looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When the transport stops, connections get this long to say what was queued last.
const STOP_MAX: Duration = Duration::from_secs(1);

/// The running transport. When it is dropped the transport stops as well, but nobody waits for it.
pub struct Serving {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    supervisor: JoinHandle<()>,
}

/// The connections to the other members, looked at from elsewhere. Without any, nobody is another member.
#[derive(Clone, Default)]
pub struct Links {
    peers: Option<Arc<Peers>>,
}

impl Links {
    /// Every other member's, a moment ago.
    pub fn connections(&self) -> BTreeMap<u64, PeerConnections> {
        let peers = self.peers.iter().flat_map(|peers| peers.all());
        peers.map(|peer| (peer.member, peer.connections())).collect()
    }
}

impl Serving {
    pub(crate) fn start(shared: Arc<Shared>, stop: watch::Sender<bool>, listener: TcpListener) -> Serving {
        let supervisor = tokio::spawn(supervise(shared.clone(), listener));
        Serving { shared, stop, supervisor }
    }

    /// Becomes true, and stays so, when a member says that this one was removed from the cluster.
    pub fn told_removed(&self) -> watch::Receiver<bool> {
        self.shared.told_removed.subscribe()
    }

    /// The connections to every other member, a moment ago.
    pub fn connections(&self) -> BTreeMap<u64, PeerConnections> {
        self.links().connections()
    }

    /// The same for whoever looks now and then.
    pub fn links(&self) -> Links {
        Links { peers: Some(self.shared.peers.clone()) }
    }

    /// Writes what is queued, within a second, and closes every connection.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // An error says that it panicked, and then it is over as well.
        let _ = self.supervisor.await;
    }
}

async fn supervise(shared: Arc<Shared>, listener: TcpListener) {
    let accepting = tokio::spawn(inbound::run(shared.clone(), listener));
    let mut addresses = shared.addresses.clone();
    let mut removed = shared.removed.clone();
    let mut staff = Staff::default();
    let mut look = interval(LOOK_EVERY);
    loop {
        staff.follow(&shared, &addresses.borrow_and_update().clone(), &removed.borrow_and_update().clone());
        tokio::select! {
            Ok(()) = addresses.changed() => {}
            Ok(()) = removed.changed() => {}
            () = shared.peers.added.notified() => {}
            _ = look.tick() => {}
            () = shared.stopping() => break,
        }
    }
    let _ = timeout(STOP_MAX, staff.ended()).await;
    staff.dismiss_all();
    if timeout(STOP_MAX, accepting).await.is_err() {
        tracing::debug!("connections that did not close in time are left to the end of the process");
    }
}

/// The tasks of each peer.
#[derive(Default)]
struct Staff {
    tasks: BTreeMap<u64, Tasks>,
    /// Who had an address when it was last looked.
    recorded: BTreeSet<u64>,
}

struct Tasks {
    outbound: JoinHandle<()>,
    snapshots: JoinHandle<()>,
}

impl Staff {
    /// A peer for everyone who is to be spoken to, tasks for every peer, and neither for who has left.
    fn follow(&mut self, shared: &Arc<Shared>, addresses: &Addresses, removed: &Removed) {
        shared.peers.set_removed(removed.clone());
        let recorded: BTreeSet<u64> = addresses.keys().copied().collect();
        for member in self.recorded.difference(&recorded).chain(removed) {
            shared.peers.remove(*member);
            if let Some(tasks) = self.tasks.remove(member) {
                tasks.dismiss();
            }
        }
        self.recorded = recorded;
        for member in addresses.keys() {
            shared.peers.get_or_add(*member);
        }
        for peer in shared.peers.all() {
            let tasks = self.tasks.entry(peer.member).or_insert_with(|| Tasks::start(shared, &peer));
            tasks.restart(shared, &peer);
        }
    }

    async fn ended(&mut self) {
        for tasks in self.tasks.values_mut() {
            let _ = (&mut tasks.outbound).await;
        }
    }

    fn dismiss_all(self) {
        self.tasks.into_values().for_each(Tasks::dismiss);
    }
}

impl Tasks {
    fn start(shared: &Arc<Shared>, peer: &Arc<Peer>) -> Tasks {
        Tasks {
            outbound: tokio::spawn(outbound::run(shared.clone(), peer.clone())),
            snapshots: tokio::spawn(snapshot_send::run(shared.clone(), peer.clone())),
        }
    }

    /// A task that panicked must not leave its peer without.
    fn restart(&mut self, shared: &Arc<Shared>, peer: &Arc<Peer>) {
        if self.outbound.is_finished() {
            self.outbound = tokio::spawn(outbound::run(shared.clone(), peer.clone()));
        }
        if self.snapshots.is_finished() {
            self.snapshots = tokio::spawn(snapshot_send::run(shared.clone(), peer.clone()));
        }
    }

    fn dismiss(self) {
        self.outbound.abort();
        self.snapshots.abort();
    }
}
