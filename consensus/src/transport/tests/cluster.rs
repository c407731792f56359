//! Three real members over the real transport: they elect, take commands from each, and go on when one dies.

use super::*;
use crate::{
    config::Config,
    error::{ChangeError, ProposeError},
    handle::Raft,
    map::Map,
    message::{MemberChange, Origin},
    start,
};

/// A member with its raft.
struct Node {
    raft: Raft,
    serving: Serving,
    address: SocketAddr,
    addresses: watch::Sender<Addresses>,
    _kept: (watch::Sender<PeerTls>, watch::Sender<Removed>, TempDir),
}

async fn node(authority: &Authority, member: u64, origin: Origin) -> Node {
    let folder = TempDir::new().unwrap();
    let listener = bind().await;
    let address = listener.local_addr().unwrap();
    let (tls, tls_shown) = watch::channel(authority.tls(CLUSTER, member));
    let (addresses, addresses_shown) = watch::channel(Addresses::new());
    let (removed, removed_shown) = watch::channel(Removed::new());
    let options = Options {
        member,
        cluster: CLUSTER,
        incarnation: 1,
        advertise: vec![address.to_string()],
        incoming_dir: folder.path().join("incoming"),
        tls: tls_shown,
    };
    let (send, transport) = crate::transport::new(options);
    // Few entries kept, so that whoever joins needs a snapshot.
    let config = Config { checkpoint_entries: 20, retained_entries: 5, ..Config::new(member, folder.path()) };
    let raft = start(config, Map::open(folder.path()), origin, send).unwrap();
    let serving = transport.serve(raft.clone(), listener, addresses_shown, removed_shown);
    Node { raft, serving, address, addresses, _kept: (tls, removed, folder) }
}

/// Asks until it is done: an election takes a second or two, and whoever asks meanwhile is told so.
async fn propose(raft: &Raft, command: &str) -> Vec<u8> {
    let proposing = async {
        loop {
            match raft.propose(command.as_bytes().to_vec()).await {
                Ok(outcome) => return outcome,
                Err(ProposeError::NoLeader | ProposeError::Busy | ProposeError::Uncertain) => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(PATIENCE, proposing).await.expect("never applied")
}

async fn change(raft: &Raft, change: MemberChange) {
    let mut last = None;
    let changing = async {
        while let Err(error) = raft.change_members(change).await {
            assert_ne!(error, ChangeError::Stopped);
            last = Some(error);
            sleep(Duration::from_millis(100)).await;
        }
    };
    if timeout(PATIENCE, changing).await.is_err() {
        panic!("never done: {change}: {last:?}: {:?}", raft.status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_join_by_snapshot_take_commands_from_each_and_survive_one() {
    let authority = Authority::new();
    let founder = node(&authority, 1, Origin::Founder).await;
    for turn in 0..40 {
        propose(&founder.raft, &format!("a={turn}")).await;
    }
    let second = node(&authority, 2, Origin::Joiner).await;
    let third = node(&authority, 3, Origin::Joiner).await;
    let all: Addresses = [(1, &founder), (2, &second), (3, &third)]
        .into_iter()
        .map(|(id, node)| (id, vec![node.address.to_string()]))
        .collect();
    for (id, node) in [(1, &founder), (2, &second), (3, &third)] {
        let others = all.clone().into_iter().filter(|(other, _)| *other != id).collect();
        node.addresses.send_replace(others);
    }
    for id in [2, 3] {
        change(&founder.raft, MemberChange::AddLearner(id)).await;
        change(&founder.raft, MemberChange::Promote(id)).await;
    }
    // The status is shown a moment after the answer is given.
    let joined = founder.raft.wait_status(|status| status.voters == [1, 2, 3]);
    assert!(timeout(PATIENCE, joined).await.is_ok(), "{:?}", founder.raft.status());

    let nodes = [&founder, &second, &third];
    for (at, node) in nodes.iter().enumerate() {
        let before = propose(&node.raft, &format!("b={at}")).await;
        let expected = if at == 0 { String::new() } else { (at - 1).to_string() };
        assert_eq!(before, expected.into_bytes(), "each sees what the one before it wrote");
    }
    for node in nodes {
        assert!(node.raft.read_index().await.is_ok());
    }

    // The leader's network ends without a word; the other two go on.
    let Node { raft: dead, serving, .. } = founder;
    drop(serving);
    assert_eq!(propose(&second.raft, "b=x").await, b"2");
    assert_eq!(propose(&third.raft, "b=y").await, b"x");
    assert!(second.raft.read_index().await.is_ok());
    for raft in [dead, second.raft.clone(), third.raft.clone()] {
        raft.stop().await;
    }
    second.serving.stop().await;
    third.serving.stop().await;
}
