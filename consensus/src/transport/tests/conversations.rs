//! What members say to each other arrives, in the right order, and what is in the way does not stop it for long.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use raft::eraftpb::MessageType;

use super::*;
use crate::{
    message::Refusal,
    proposals::ProposalId,
    transport::{queue::QUEUE_BYTES_MAX, status::OutboundState},
};

fn id(number: u8) -> ProposalId {
    ProposalId::from_bytes(&[number; ProposalId::BYTES]).unwrap()
}

fn is_connected(peer: &crate::transport::PeerConnections) -> bool {
    matches!(peer.outbound, OutboundState::Connected { .. }) && peer.inbound
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_says_the_other_hears() {
    let authority = Authority::new();
    let (mut one, mut two) = pair(&authority).await;
    one.reaches(&mut two, 1).await;
    two.reaches(&mut one, 2).await;

    one.send(2, Payload::Message(message(MessageType::MsgHeartbeat, 1, 2)));
    one.send(2, append(1, 2, 7, 100));
    one.send(2, Payload::Propose { id: id(9), command: b"a=1".to_vec() });
    let heard = [two.hears().await, two.hears().await, two.hears().await];
    let kinds = heard.map(|incoming| match (incoming.from, incoming.payload) {
        (1, IncomingPayload::Message(message)) => format!("{:?} {}", message.msg_type, message.index),
        (1, IncomingPayload::Propose { id: same, command }) => format!("{} {command:?}", same == id(9)),
        other => format!("{other:?}"),
    });
    assert_eq!(kinds, ["MsgHeartbeat 0", "MsgAppend 7", "true [97, 61, 49]"]);

    // A frame is counted after it was sent, and so perhaps after it was heard.
    one.sees(2, |peer| is_connected(peer) && peer.sent >= 3).await;
    let shown = one.connections(2);
    assert!(shown.sent_bytes > 100, "{shown:?}");
    assert!(shown.clock_offset_ms.is_some_and(|offset| offset.abs() < 60_000), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_overtakes_a_backlog_of_a_hundred_megabytes() {
    let authority = Authority::new();
    // The peer's port is open, and nobody answers there yet.
    let listener = bind().await;
    let mut one = Spec::new(&authority, 1).start().await;
    one.knows(&[(2, listener.local_addr().unwrap())]);
    one.sees(2, |peer| matches!(peer.outbound, OutboundState::NoAddress | OutboundState::Dialling { .. }))
        .await;
    for index in 0..400 {
        one.send(2, append(1, 2, index, 256 * 1_024));
    }
    one.send(2, Payload::Message(message(MessageType::MsgHeartbeat, 1, 2)));
    let queued = one.connections(2).queued_bytes;
    assert!((8 << 20..QUEUE_BYTES_MAX).contains(&queued), "{queued}");

    let two = Spec { listener: Some(listener), ..Spec::new(&authority, 2) };
    let mut two = two.start().await;
    let first = two.hears().await;
    let IncomingPayload::Message(first) = first.payload else { panic!("{first:?}") };
    assert_eq!(first.msg_type, MessageType::MsgHeartbeat);
    let second = two.hears().await;
    let IncomingPayload::Message(second) = second.payload else { panic!("{second:?}") };
    assert_eq!(
        (second.msg_type, second.index),
        (MessageType::MsgAppend, 0),
        "and then the backlog in its order"
    );
    one.is_told(|told| matches!(told, Told::Unreachable(2)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_left_are_refused_in_the_leaders_name() {
    let authority = Authority::new();
    let mut one = Spec::new(&authority, 1).start().await;
    // Nobody listens there.
    let closed = bind().await.local_addr().unwrap();
    one.knows(&[(2, closed)]);
    one.send(2, Payload::Propose { id: id(1), command: vec![0; 100] });
    let incoming = one.hears().await;
    let IncomingPayload::Refused { id: refused, refusal: Refusal::NoLeader } = incoming.payload else {
        panic!("{incoming:?}");
    };
    assert_eq!((incoming.from, refused), (2, id(1)));
    one.is_told(|told| matches!(told, Told::Unreachable(2)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_too_much_to_do_refuses_requests_and_drops_the_rest() {
    let authority = Authority::new();
    let busy = Arc::new(AtomicBool::new(true));
    let is_busy = busy.clone();
    let mut two = Spec::new(&authority, 2);
    two.step = Box::new(move |_| if is_busy.load(Ordering::Relaxed) { Err(QueueFull) } else { Ok(()) });
    let mut two = two.start().await;
    let mut one = Spec::new(&authority, 1).start().await;
    one.knows(&[(2, two.address)]);
    two.knows(&[(1, one.address)]);
    one.sees(2, is_connected).await;
    two.sees(1, is_connected).await;

    one.send(2, append(1, 2, 1, 100));
    one.send(2, Payload::Propose { id: id(3), command: vec![0; 100] });
    let incoming = one.hears().await;
    let IncomingPayload::Refused { id: refused, refusal: Refusal::Busy } = incoming.payload else {
        panic!("{incoming:?}");
    };
    assert_eq!(refused, id(3));
    two.sees(1, |peer| peer.dropped >= 2).await;

    busy.store(false, Ordering::Relaxed);
    one.reaches(&mut two, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_followed_to_a_new_address_and_known_by_what_it_says_itself() {
    let authority = Authority::new();
    let mut one = Spec::new(&authority, 1).start().await;
    let mut two = Spec::new(&authority, 2).start().await;
    one.knows(&[(2, two.address)]);
    one.reaches(&mut two, 1).await;
    two.serving.stop().await;

    // It comes back elsewhere, first unannounced by the records: it dials, and says where it is.
    let listener = bind().await;
    let advertise = vec![listener.local_addr().unwrap().to_string()];
    let moved = Spec { incarnation: 2, listener: Some(listener), advertise, ..Spec::new(&authority, 2) };
    let mut moved = moved.start().await;
    moved.knows(&[(1, one.address)]);
    one.reaches(&mut moved, 2).await;
    moved.serving.stop().await;

    let mut again = Spec { incarnation: 3, ..Spec::new(&authority, 2) }.start().await;
    one.knows(&[(2, again.address)]);
    one.reaches(&mut again, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_restarts_is_spoken_to_again_and_its_former_self_never() {
    let authority = Authority::new();
    let (mut one, mut two) = pair(&authority).await;
    one.reaches(&mut two, 1).await;
    two.reaches(&mut one, 2).await;

    // A process that was not stopped: its connections stay open, as those of a host without power do.
    let new = Spec { incarnation: 2, ..Spec::new(&authority, 2) };
    let mut new = new.start().await;
    new.knows(&[(1, one.address)]);
    one.knows(&[(2, new.address)]);
    one.reaches(&mut new, 3).await;
    new.reaches(&mut one, 4).await;

    // The former self is told, and not heard any more.
    two.sees(1, |peer| matches!(&peer.outbound, OutboundState::Refused { reason } if reason.contains("another process"))).await;
    new.reaches(&mut one, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_changed_while_members_speak() {
    let (old, new) = (Authority::new(), Authority::new());
    let (mut one, mut two) = pair(&old).await;
    one.reaches(&mut two, 1).await;
    let sent = one.connections(2).sent;
    one.tls.send_replace(new.tls(CLUSTER, 1));
    two.tls.send_replace(new.tls(CLUSTER, 2));
    one.reaches(&mut two, 2).await;
    // On the connection there was; what was heard may not be counted yet.
    one.sees(2, |peer| peer.sent > sent).await;

    let mut three = Spec::new(&new, 3).start().await;
    three.knows(&[(1, one.address)]);
    one.knows(&[(2, two.address), (3, three.address)]);
    one.reaches(&mut three, 3).await;
    three.reaches(&mut one, 4).await;

    let four = Spec::new(&old, 4).start().await;
    four.knows(&[(1, one.address)]);
    four.sees(1, |peer| matches!(&peer.outbound, OutboundState::Dialling { failure: Some(reason) } if reason.contains("certificate"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_last_is_said_before_the_end() {
    let authority = Authority::new();
    let (mut one, mut two) = pair(&authority).await;
    one.reaches(&mut two, 1).await;
    let Member { mut send, serving, .. } = one;
    send(vec![Outgoing { to: 2, payload: Payload::Message(message(MessageType::MsgTimeoutNow, 1, 2)) }]);
    serving.stop().await;
    two.is_told(|told| match told {
        Told::Step(incoming) => match incoming.payload {
            IncomingPayload::Message(message) if message.msg_type == MessageType::MsgTimeoutNow => Some(()),
            _ => None,
        },
        _ => None,
    })
    .await;
}
