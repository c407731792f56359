//! Whole members with their threads, in one process, over a network that is a function call. What the golden scripts
//! can not show: that the thread, its queue and its callers do what the replica says. Tests only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tempfile::TempDir;

use crate::{
    Config, Raft,
    error::{ChangeError, ProposeError, ReadError, StopReason},
    map::Map,
    message::{Incoming, IncomingPayload, MemberChange, Origin, Outgoing, Payload, Sender},
    start,
};

/// Who can be reached, and who can not be for now.
#[derive(Default)]
struct Wires {
    members: BTreeMap<u64, Raft>,
    cut: BTreeSet<u64>,
    files: u64,
}

struct Cluster {
    folder: TempDir,
    wires: Arc<Mutex<Wires>>,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster { folder: TempDir::new().unwrap(), wires: Arc::default() }
    }

    fn start(&self, id: u64, origin: Origin) -> Raft {
        let dir = self.folder.path().join(id.to_string());
        fs::create_dir_all(&dir).unwrap();
        let raft = start(Config::new(id, &dir), Map::open(&dir), origin, self.sender(id)).unwrap();
        self.wires.lock().unwrap().members.insert(id, raft.clone());
        raft
    }

    /// A founder and two that joined, all of them voters.
    async fn of_three() -> (Cluster, [Raft; 3]) {
        let cluster = Cluster::new();
        let first = cluster.start(1, Origin::Founder);
        first.wait_status(|status| status.is_leader()).await.unwrap();
        first.propose(b"a=1".to_vec()).await.unwrap();
        let [second, third] = [2, 3].map(|id| cluster.start(id, Origin::Joiner));
        // Both at once: one of them waits until the other is in.
        let (two, three) = tokio::join!(
            first.change_members(MemberChange::AddLearner(2)),
            first.change_members(MemberChange::AddLearner(3))
        );
        two.unwrap();
        three.unwrap();
        for raft in [&first, &second, &third] {
            raft.wait_status(|status| status.voters == [1, 2, 3]).await.unwrap();
        }
        (cluster, [first, second, third])
    }

    fn cut(&self, id: u64) {
        self.wires.lock().unwrap().cut.insert(id);
    }

    fn sender(&self, from: u64) -> Sender {
        let (wires, folder) = (self.wires.clone(), self.folder.path().to_owned());
        Box::new(move |sent: Vec<Outgoing>| {
            let mut wires = wires.lock().unwrap_or_else(PoisonError::into_inner);
            for Outgoing { to, payload } in sent {
                let reached =
                    wires.members.contains_key(&to) && !wires.cut.iter().any(|id| [from, to].contains(id));
                let snapshot = matches!(payload, Payload::Snapshot { .. });
                if reached {
                    wires.files += 1;
                    let payload = carry(payload, folder.join(format!("snapshot-{}", wires.files)));
                    wires.members[&to].step(Incoming { from, payload }).unwrap();
                }
                if snapshot && let Some(sender) = wires.members.get(&from) {
                    sender.snapshot_sent(to, reached);
                }
            }
        })
    }
}

fn carry(payload: Payload, file: PathBuf) -> IncomingPayload {
    payload.carried(|_, state| {
        state(&mut File::create(&file).unwrap()).unwrap();
        file
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_serves_writes_and_reads() {
    let (_cluster, members) = Cluster::of_three().await;
    let mut before = "1".to_owned();
    for (turn, raft) in members.iter().cycle().take(9).enumerate() {
        let value = format!("turn {turn}");
        assert_eq!(raft.propose(format!("a={value}").into_bytes()).await, Ok(before.clone().into_bytes()));
        let at = members[(turn + 1) % 3].read_index().await.unwrap();
        assert!(at >= raft.status().applied, "a read on another member sees the write");
        before = value;
    }
    let waiting: Vec<_> = (0..300)
        .map(|key| {
            let raft = members[key % 3].clone();
            tokio::spawn(async move { raft.propose(format!("{key}=x").into_bytes()).await })
        })
        .collect();
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), Ok(Vec::new()));
    }
    for raft in &members {
        let status = raft.wait_status(|status| status.applied >= 315 && status.has_quorum()).await.unwrap();
        assert_eq!((status.peers.len(), status.removed, status.diverged), (2, false, false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_when_asked_for_and_before_a_leader_stops() {
    let (_cluster, members) = Cluster::of_three().await;
    assert_eq!(members[2].transfer_leadership(Some(2)).await, Ok(2));
    assert!(matches!(members[0].transfer_leadership(Some(9)).await, Err(ChangeError::Refused { .. })));
    let next = members[2].transfer_leadership(None).await.unwrap();
    assert_ne!(next, 2);

    let leader = &members[usize::try_from(next - 1).unwrap()];
    let term = leader.status().term;
    leader.stop().await;
    assert_eq!(leader.stopped().await, StopReason::Requested);
    let other = members.iter().find(|raft| raft.status().node_id != next).unwrap();
    let status = other.wait_status(|status| status.term > term && status.leader.is_some()).await.unwrap();
    assert_eq!(status.term, term + 1, "nobody waited for a timeout, and no election failed");
    other.propose(b"a=2".to_vec()).await.unwrap();
    assert_eq!(leader.transfer_leadership(None).await, Err(ChangeError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_members_is_shown_by_whoever_answered_it() {
    let (_cluster, members) = Cluster::of_three().await;
    let leader = members[0].status().leader.unwrap();
    let other = (1..=3).find(|id| *id != leader).unwrap();
    for turn in 0..15 {
        let raft = &members[turn % 3];
        raft.change_members(MemberChange::Demote(other)).await.unwrap();
        let status = raft.status();
        assert_eq!((status.learners, status.voters.len()), (vec![other], 2), "turn {turn}");
        // So already, says the leader, which this member may not have seen.
        let raft = &members[(turn + 1) % 3];
        raft.change_members(MemberChange::Demote(other)).await.unwrap();
        assert_eq!(raft.status().learners, [other], "turn {turn}");
        let raft = &members[(turn + 2) % 3];
        raft.change_members(MemberChange::Promote(other)).await.unwrap();
        assert_eq!((raft.status().learners, raft.status().voters.len()), (vec![], 3), "turn {turn}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_leader_says_so_and_the_others_go_on() {
    let (_cluster, members) = Cluster::of_three().await;
    let leader = members[0].status().leader.unwrap();
    let removed = &members[usize::try_from(leader - 1).unwrap()];
    removed.change_members(MemberChange::Remove(leader)).await.unwrap();
    assert!(removed.status().removed);
    assert_eq!(removed.propose(b"a=2".to_vec()).await, Err(ProposeError::Removed));
    assert_eq!(removed.read_index().await, Err(ReadError::Removed));
    for raft in members.iter().filter(|raft| raft.status().node_id != leader) {
        raft.propose(b"a=3".to_vec()).await.unwrap();
        assert_eq!(raft.status().voters.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_everyone_hears_so_and_nothing_else_breaks() {
    let (cluster, members) = Cluster::of_three().await;
    cluster.cut(2);
    cluster.cut(3);
    members[0].wait_status(|status| status.leader.is_none()).await.unwrap();
    assert_eq!(members[0].propose(b"a=2".to_vec()).await, Err(ProposeError::NoLeader));
    assert_eq!(members[0].read_index().await, Err(ReadError::NoLeader));
    assert_eq!(members[0].change_members(MemberChange::Remove(2)).await, Err(ChangeError::NoLeader));
    assert!(!members[0].status().has_quorum());
}
