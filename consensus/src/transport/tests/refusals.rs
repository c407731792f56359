//! Whoever does not belong is refused, definitely, and both sides know why.

use super::{
    hostile::{accept, greet, hello},
    *,
};
use crate::transport::{
    OutboundState,
    frame::{self, FRAME_BYTES_MAX, Kind},
    hello::{Hello, Purpose, Refusal},
};

/// Waits until a member says that it is not spoken to, for this reason.
async fn sees_refusal(member: &Member, to: u64, reason: &str) {
    member
        .sees(to, |peer| match &peer.outbound {
            OutboundState::Refused { reason: shown } => shown.contains(reason),
            _ => false,
        })
        .await;
}

/// What a hello is refused with.
async fn refusal(address: SocketAddr, tls: &PeerTls, hello: Hello) -> Refusal {
    let (_line, answer) = greet(address, tls, &hello).await;
    assert_eq!(answer.kind, Kind::Refusal);
    Refusal::read(&answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_two_clusters_refuse_each_other() {
    let authority = Authority::new();
    let one = Spec::new(&authority, 1).start().await;
    let other = Spec { cluster: 0xc2, tls: authority.tls(0xc2, 2), ..Spec::new(&authority, 2) };
    let other = other.start().await;
    one.knows(&[(2, other.address)]);
    sees_refusal(&one, 2, "another cluster: the refusing member belongs to 000000000000000000000000000000c1")
        .await;

    // Whatever the hello says, the certificate says otherwise; and the other way round.
    let wrong = Refusal::WrongCluster { ours: CLUSTER };
    let theirs = authority.tls(0xc2, 2);
    assert_eq!(refusal(one.address, &theirs, hello(2, 1, Purpose::Raft)).await, wrong);
    let ours = authority.tls(CLUSTER, 2);
    let said = Hello { cluster: 0xc2, ..hello(2, 1, Purpose::Bulk) };
    assert_eq!(refusal(one.address, &ours, said).await, wrong);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_not_the_clusters_is_nobodys() {
    let one = Spec::new(&Authority::new(), 1).start().await;
    let other = Spec::new(&Authority::new(), 2).start().await;
    one.knows(&[(2, other.address)]);
    other.knows(&[(1, one.address)]);
    let failed = |peer: &crate::transport::PeerConnections| matches!(&peer.outbound, OutboundState::Dialling { failure: Some(reason) } if reason.ends_with("; what it shows is no certificate of this cluster"));
    one.sees(2, failed).await;
    other.sees(1, failed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_member_at_an_address_is_not_taken_for_the_one_that_was_meant() {
    let authority = Authority::new();
    let one = Spec::new(&authority, 1).start().await;
    let two = Spec::new(&authority, 2).start().await;
    // Member 3 is said to be where member 2 is, and member 4 where we are ourselves.
    one.knows(&[(3, two.address), (4, one.address)]);
    sees_refusal(&one, 3, "belongs to member 0000000000000002, not to 0000000000000003").await;
    sees_refusal(&one, 4, "the dialling member's own").await;

    let tls = authority.tls(CLUSTER, 2);
    let meant_another = hello(2, 3, Purpose::Raft);
    assert_eq!(refusal(one.address, &tls, meant_another).await, Refusal::WrongMember { ours: 1 });
    let pretends = hello(3, 1, Purpose::Raft);
    let shown = Refusal::WrongCertificate { shown: Some(2), claimed: 3 };
    assert_eq!(refusal(one.address, &tls, pretends).await, shown);
    let ourselves = authority.tls(CLUSTER, 1);
    assert_eq!(refusal(one.address, &ourselves, hello(1, 1, Purpose::Raft)).await, Refusal::Itself);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dials_the_wrong_member_says_so_before_it_goes() {
    let authority = Authority::new();
    let listener = bind().await;
    let one = Spec::new(&authority, 1).start().await;
    one.knows(&[(3, listener.local_addr().unwrap())]);
    let (stream, _) = listener.accept().await.unwrap();
    let tls = authority.tls(CLUSTER, 2);
    let stream = tokio_rustls::TlsAcceptor::from(tls.server).accept(stream).await.unwrap();
    let mut line = crate::transport::line::Line::new(tokio_rustls::TlsStream::from(stream));
    let first = line.reader.frame(FRAME_BYTES_MAX).await.unwrap();
    assert_eq!(first.kind, Kind::Refusal);
    assert_eq!(Refusal::read(&first.body), Refusal::WrongCertificate { shown: Some(2), claimed: 3 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_is_told_while_connected_and_when_it_comes_again() {
    let authority = Authority::new();
    let (mut one, mut two) = pair(&authority).await;
    two.reaches(&mut one, 1).await;
    let mut told = two.serving.told_removed();
    assert!(!*told.borrow());

    one.removed.send_replace(Removed::from([2]));
    timeout(PATIENCE, told.wait_for(|told| *told)).await.expect("never told").unwrap();
    sees_refusal(&two, 1, "the dialling member was removed").await;
    assert!(eventually(|| !one.serving.connections().contains_key(&2)).await, "it is not a peer any more");
    assert!(!*one.serving.told_removed().borrow());

    let tls = authority.tls(CLUSTER, 2);
    for purpose in [Purpose::Raft, Purpose::Bulk] {
        assert_eq!(refusal(one.address, &tls, hello(2, 1, purpose)).await, Refusal::Removed);
    }
    one.send(2, beat(9));
    assert!(!one.serving.connections().contains_key(&2), "nor when raft still speaks of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_we_do_not_speak_is_told_which_we_do() {
    let authority = Authority::new();
    let one = Spec::new(&authority, 1).start().await;
    let tls = authority.tls(CLUSTER, 2);
    let mut line = hostile::dial(one.address, &tls).await;
    // A hello of the future: magic, newest 9, oldest 7, and then what nobody knows yet.
    frame::write_body(line.writer.out(), Kind::Hello, b"APPLPEER\x09\x07tomorrow");
    line.writer.flush().await.unwrap();
    let answer = line.reader.frame(FRAME_BYTES_MAX).await.unwrap();
    assert_eq!(answer.kind, Kind::Refusal);
    assert_eq!(Refusal::read(&answer.body), Refusal::Protocol { oldest: 1, newest: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_process_is_refused_and_its_successor_is_not() {
    let authority = Authority::new();
    let one = Spec::new(&authority, 1).start().await;
    let tls = authority.tls(CLUSTER, 2);
    let of = |incarnation| Hello { incarnation, ..hello(2, 1, Purpose::Raft) };
    let (_first, answer) = greet(one.address, &tls, &of(1)).await;
    assert_eq!(answer.kind, Kind::Hello);
    let (_second, answer) = greet(one.address, &tls, &of(2)).await;
    assert_eq!(answer.kind, Kind::Hello);
    assert_eq!(refusal(one.address, &tls, of(1)).await, Refusal::Superseded);
    let (_second, answer) = greet(one.address, &tls, &of(2)).await;
    assert_eq!(answer.kind, Kind::Hello);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_refuses_is_left_for_the_other_address() {
    let authority = Authority::new();
    let mut one = Spec::new(&authority, 1).start().await;
    let two = Spec::new(&authority, 2).start().await;
    let mut three = Spec::new(&authority, 3).start().await;
    // The first address is another member's by now.
    let places = vec![two.address.to_string(), three.address.to_string()];
    one.addresses.send_replace(Addresses::from([(3, places)]));
    one.reaches(&mut three, 1).await;
    let listener = bind().await;
    one.knows(&[(2, listener.local_addr().unwrap()), (3, three.address)]);
    let _line = accept(&listener, &authority.tls(CLUSTER, 2), 2).await;
}
