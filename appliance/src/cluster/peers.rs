//! Peers: where the members of the cluster are, as this node knows it, and who is told when that changes.
//!
//! The members' records in the store say it. Before this node has any (it has just joined, or its store is gone) the
//! file `peers.json` in the data directory does, which is written whenever the records change. From both follow the
//! addresses that the transport dials, the members it refuses, and the ways that policy can not close. Names among the
//! addresses are looked up beside that, and nobody waits for it. It refuses to decide who is a member: raft does; to know
//! an address too many is harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use appliance_dataplane::Protected;
use appliance_storage::{Fatal, Key, Reader, Record, Revision};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::look_ups::{self, LookUps, Resolver};
use super::records::{self, MemberId, MemberRecord};
use crate::data_dir;

/// The file in the data directory.
const FILE: &str = "peers.json";

/// The form of the file.
const FORMAT: u32 = 1;

/// Names among the addresses are looked up this often: a member that moved is found by those who know it by name.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(60);

/// After a store that would not be read.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where every other member is reached, `host:port`.
pub(crate) type Addresses = BTreeMap<u64, Vec<String>>;

/// Members that are none any more.
pub(crate) type Removed = BTreeSet<u64>;

/// A member and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peer {
    /// Its raft id.
    pub(crate) id: MemberId,
    /// Its node name.
    pub(crate) name: String,
    /// `host:port` its peers reach it on.
    pub(crate) peer: Vec<String>,
    /// `host:port` clients reach its API on.
    pub(crate) api: Vec<String>,
}

impl From<&MemberRecord> for Peer {
    fn from(record: &MemberRecord) -> Peer {
        let MemberRecord { id, name, peer, api, .. } = record.clone();
        Peer { id, name, peer, api }
    }
}

/// Every member this node knows, itself among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers {
    /// Members, by id.
    pub(crate) members: Vec<Peer>,
    /// Members that were removed.
    pub(crate) removed: BTreeSet<MemberId>,
    /// Members that an operator wants to stay learners.
    pub(crate) held: BTreeSet<MemberId>,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    format: u32,
    cluster: String,
    members: Vec<Peer>,
}

/// This node, among the others.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// Its id.
    pub(crate) id: MemberId,
    /// The cluster.
    pub(crate) cluster: String,
    /// Where it is itself.
    pub(crate) peer: Vec<String>,
    /// Where its own API is.
    pub(crate) api: Vec<String>,
    /// The TCP ports it listens on.
    pub(crate) ports: BTreeSet<u16>,
    /// Its data directory.
    pub(crate) data_dir: PathBuf,
}

/// What is known now, for whoever must follow it.
pub(crate) struct Directory {
    peers: watch::Receiver<Peers>,
    addresses: watch::Receiver<Addresses>,
    removed: watch::Receiver<Removed>,
    protected: watch::Receiver<Protected>,
    task: JoinHandle<()>,
}

impl Directory {
    /// Begins with what the store or else the file says, and follows the store from there. Waits for nobody: what names
    /// mean is known later.
    pub(crate) fn start(own: Own, reader: Reader) -> Directory {
        Directory::with(own, reader, look_ups::system())
    }

    fn with(own: Own, reader: Reader, resolver: Resolver) -> Directory {
        let mut senders = Senders::new(own, resolver);
        let remembered = load(&senders.own.data_dir, &senders.own.cluster).unwrap_or_default();
        let (revision, known) = match read(&reader) {
            Ok((revision, known)) if !known.members.is_empty() => (revision, known),
            _ => (Revision::ZERO, remembered),
        };
        senders.tell(known);
        Directory {
            peers: senders.peers.subscribe(),
            addresses: senders.addresses.subscribe(),
            removed: senders.removed.subscribe(),
            protected: senders.protected.subscribe(),
            task: tokio::spawn(follow(senders, reader, revision)),
        }
    }

    /// Every member known.
    pub(crate) fn peers(&self) -> watch::Receiver<Peers> {
        self.peers.clone()
    }

    /// Where the transport finds the others.
    pub(crate) fn addresses(&self) -> watch::Receiver<Addresses> {
        self.addresses.clone()
    }

    /// Whom the transport refuses.
    pub(crate) fn removed(&self) -> watch::Receiver<Removed> {
        self.removed.clone()
    }

    /// What policy can not close.
    pub(crate) fn protected(&self) -> watch::Receiver<Protected> {
        self.protected.clone()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The other ends.
struct Senders {
    own: Own,
    look_ups: LookUps,
    peers: watch::Sender<Peers>,
    addresses: watch::Sender<Addresses>,
    removed: watch::Sender<Removed>,
    protected: watch::Sender<Protected>,
}

impl Senders {
    fn new(own: Own, resolver: Resolver) -> Senders {
        Senders {
            own,
            look_ups: LookUps::new(resolver),
            peers: watch::Sender::default(),
            addresses: watch::Sender::default(),
            removed: watch::Sender::default(),
            protected: watch::Sender::default(),
        }
    }

    /// Passes on what is known now, to each who follows only what is news to them.
    fn tell(&mut self, known: Peers) {
        replace(&self.addresses, addresses(&known, self.own.id));
        replace(&self.removed, known.removed.iter().map(|id| id.0).collect());
        if replace(&self.peers, known) {
            let known = self.peers.borrow().clone();
            if let Err(error) = save(&self.own.data_dir, &self.own.cluster, &known) {
                tracing::warn!(
                    "{FILE}: can not be written: {error}; it would help a node whose store is gone"
                );
            }
        }
        let wanted = reached(&self.peers.borrow(), &self.own);
        self.look_ups.want(wanted.into_iter().filter(|text| text.parse::<SocketAddr>().is_err()).collect());
        self.protect();
    }

    /// What policy can not close: the addresses, and what the names among them were found to mean.
    fn protect(&self) {
        let wanted = reached(&self.peers.borrow(), &self.own);
        let mut outbound: BTreeSet<SocketAddr> = wanted.iter().filter_map(|text| text.parse().ok()).collect();
        outbound.extend(self.look_ups.found());
        replace(&self.protected, Protected { inbound: self.own.ports.clone(), outbound });
    }
}

/// Follows the records until it is aborted.
async fn follow(mut senders: Senders, reader: Reader, mut revision: Revision) {
    let mut look_up = tokio::time::interval(LOOK_UP_INTERVAL);
    look_up.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    look_up.reset();
    loop {
        if let Ok(mut watcher) = reader.watch(&Key::from(records::PREFIX), revision) {
            loop {
                tokio::select! {
                    events = watcher.next() => if events.is_ok() { break } else {
                        tokio::time::sleep(RETRY_PAUSE).await;
                        break;
                    },
                    _ = look_up.tick() => senders.look_ups.refresh(),
                    news = senders.look_ups.answered() => if news { senders.protect() },
                }
            }
        }
        match read(&reader) {
            Ok((at, known)) => {
                revision = at;
                // An empty store knows less than the file.
                if !known.members.is_empty() {
                    senders.tell(known);
                }
            }
            Err(error) => {
                tracing::debug!("the members' records can not be read: {error}");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Sends what differs; says whether it did.
fn replace<T: PartialEq>(sender: &watch::Sender<T>, value: T) -> bool {
    sender.send_if_modified(|known| {
        let news = *known != value;
        if news {
            *known = value;
        }
        news
    })
}

/// Members and removed members, at one revision.
fn read(reader: &Reader) -> Result<(Revision, Peers), Fatal> {
    let (revision, found) = reader.list(&Key::from(records::PREFIX))?;
    Ok((revision, understand(&found)))
}

fn understand(found: &[Record]) -> Peers {
    let (members, removed) = (Key::from(records::MEMBERS), Key::from(records::REMOVED));
    let mut peers = Peers::default();
    for record in found {
        if record.key.starts_with(&members) {
            match records::decode::<MemberRecord>(&record.value) {
                Ok(member) => {
                    peers.members.push(Peer::from(&member));
                    peers.held.extend(member.held.then_some(member.id));
                }
                Err(error) => tracing::warn!("the record {} {error}", record.key),
            }
        } else if record.key.starts_with(&removed) {
            peers.removed.extend(records::id_of(&record.key).and_then(|id| id.parse::<MemberId>().ok()));
        }
    }
    peers
}

fn addresses(peers: &Peers, own: MemberId) -> Addresses {
    let others = peers.members.iter().filter(|peer| peer.id != own);
    others.map(|peer| (peer.id.0, peer.peer.clone())).collect()
}

/// Every `host:port` that this node must be able to reach: each member's, of which it is one.
fn reached(peers: &Peers, own: &Own) -> BTreeSet<String> {
    let members = peers.members.iter().flat_map(|peer| peer.peer.iter().chain(&peer.api));
    members.chain(own.peer.iter().chain(&own.api)).cloned().collect()
}

/// What an earlier run knew of this cluster. It is a hint: one that can not be read is no hint.
pub(crate) fn load(data_dir: &Path, cluster: &str) -> Option<Peers> {
    let path = data_dir.join(FILE);
    let text = match data_dir::read_small(&path) {
        Ok(text) => text?,
        Err(error) => {
            tracing::warn!("{}: can not be read: {error}", path.display());
            return None;
        }
    };
    match serde_json::from_str::<File>(&text) {
        Ok(file) if file.format == FORMAT && file.cluster == cluster => {
            Some(Peers { members: file.members, ..Peers::default() })
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!("{}: can not be read: {error}", path.display());
            None
        }
    }
}

/// Makes what is known durable.
pub(crate) fn save(data_dir: &Path, cluster: &str, peers: &Peers) -> io::Result<()> {
    let file = File { format: FORMAT, cluster: cluster.to_owned(), members: peers.members.clone() };
    let mut text = serde_json::to_vec_pretty(&file).map_err(io::Error::other)?;
    text.push(b'\n');
    data_dir::write_private(&data_dir.join(FILE), &text)
}

#[cfg(test)]
mod tests {
    use appliance_storage::{Author, Command, Op, Store, StoreOptions};
    use time::OffsetDateTime;

    use super::look_ups::tests::{Zone, answering};
    use super::*;

    fn peer(id: u64, host: &str) -> Peer {
        Peer {
            id: MemberId(id),
            name: format!("n{id}"),
            peer: vec![format!("{host}:2380")],
            api: vec![format!("{host}:6443")],
        }
    }

    fn own() -> Own {
        Own {
            id: MemberId(1),
            cluster: "c0ffee".to_owned(),
            peer: vec!["10.0.0.1:2380".to_owned()],
            api: vec!["10.0.0.1:6443".to_owned()],
            ports: [2380, 6443].into(),
            data_dir: PathBuf::new(),
        }
    }

    fn known() -> Peers {
        let members = vec![peer(1, "10.0.0.1"), peer(2, "[fd00::2]"), peer(3, "localhost")];
        Peers { members, ..Peers::default() }
    }

    #[test]
    fn the_transport_dials_everybody_else() {
        let addresses = addresses(&known(), MemberId(1));
        assert_eq!(addresses.keys().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(addresses[&2], ["[fd00::2]:2380"]);
    }

    #[tokio::test]
    async fn policy_can_close_neither_our_ports_nor_the_way_to_any_member() {
        let directory = tempfile::tempdir().expect("tempdir");
        let own = Own { data_dir: directory.path().to_owned(), ..own() };
        let mut senders = Senders::new(own, look_ups::system());
        senders.tell(known());
        while !senders.look_ups.answered().await {}
        senders.protect();
        let protected = senders.protected.borrow().clone();
        assert_eq!(protected.inbound, BTreeSet::from([2380, 6443]));
        let has = |address: &str| protected.outbound.contains(&address.parse().expect("address"));
        assert!(has("10.0.0.1:2380") && has("10.0.0.1:6443") && has("[fd00::2]:2380"), "{protected:?}");
        let port = |port| has(&format!("127.0.0.1:{port}")) || has(&format!("[::1]:{port}"));
        assert!(port(2380) || port(6443), "names are looked up: {protected:?}");
    }

    #[tokio::test]
    async fn a_dead_name_server_holds_up_neither_the_start_nor_the_members_that_come_and_go() {
        let folder = tempfile::tempdir().expect("tempdir");
        save(folder.path(), "c0ffee", &known()).expect("saved");
        let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
        let mut store = Store::open(&folder.path().join("store"), options).expect("opened");
        let own = Own { data_dir: folder.path().to_owned(), ..own() };
        let zone = Zone::default();

        let known = Directory::with(own, store.reader(), answering(&zone));
        assert_eq!(known.addresses().borrow().keys().copied().collect::<Vec<_>>(), [2, 3]);
        let has =
            |address: &str| known.protected().borrow().outbound.contains(&address.parse().expect("address"));
        assert!(has("[fd00::2]:2380"), "what needs no name server is known at once");

        let mut record = MemberRecord::new(MemberId(4), "n4", OffsetDateTime::UNIX_EPOCH);
        record.peer = vec!["n4.example:2380".to_owned()];
        let value = records::encode(&record).expect("encoded");
        put(&mut store, records::member_key(MemberId(4)), value);
        put(&mut store, records::removed_key(MemberId(2)), b"{}".to_vec());
        let waits = "in time, whatever the name server does";
        known.addresses().wait_for(|addresses| addresses.contains_key(&4)).await.expect(waits);
        known.removed().wait_for(|removed| removed.contains(&2)).await.expect(waits);
    }

    fn put(store: &mut Store, key: Key, value: Vec<u8>) {
        let index = store.applied_index() + 1;
        let author =
            Author { name: "a".into(), source: String::new(), reason: String::new(), time: 0, request: None };
        let then = vec![Op::Put { key, value }];
        let command = Command::Txn { author, compare: vec![], then, otherwise: vec![] };
        store.apply(&[(index, Some(command))]).expect("applied");
    }

    #[test]
    fn what_was_known_is_remembered_for_its_own_cluster() {
        let directory = tempfile::tempdir().expect("tempdir");
        assert_eq!(load(directory.path(), "c0ffee"), None);
        save(directory.path(), "c0ffee", &known()).expect("saved");
        assert_eq!(load(directory.path(), "c0ffee"), Some(known()));
        assert_eq!(load(directory.path(), "other"), None);
        std::fs::write(directory.path().join(FILE), "{").expect("write");
        assert_eq!(load(directory.path(), "c0ffee"), None, "a damaged hint is none");
        save(directory.path(), "c0ffee", &known()).expect("saved");
        let whole = std::fs::read(directory.path().join(FILE)).expect("read");
        for bit in 0..whole.len() * 8 {
            let mut harmed = whole.clone();
            harmed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(directory.path().join(FILE), harmed).expect("write");
            // It may name a wrong address, and nothing worse: the store knows better as soon as it is there.
            let members = load(directory.path(), "c0ffee").map_or(3, |peers| peers.members.len());
            assert_eq!(members, 3, "bit {bit}");
        }
    }
}
