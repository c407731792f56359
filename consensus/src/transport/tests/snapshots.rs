//! A snapshot arrives whole or not at all, costs little memory, and always ends in a word to raft.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use raft::eraftpb::{ConfState, Snapshot, SnapshotMetadata};

use super::{
    hostile::{accept, greet, hello},
    *,
};
use crate::{
    message::SnapshotBody,
    transport::{
        chunks::Total,
        frame::{self, FRAME_BYTES_MAX, Kind},
        hello::{Purpose, Refusal},
        line::Line,
        payload,
    },
};

const MIB: usize = 1_024 * 1_024;

fn snapshot_message(from: u64, to: u64, index: u64) -> Message {
    let mut snapshot = Snapshot::default();
    let mut metadata = SnapshotMetadata { index, term: 3, ..SnapshotMetadata::default() };
    metadata.set_conf_state(ConfState { voters: vec![from], learners: vec![to], ..ConfState::default() });
    snapshot.set_metadata(metadata);
    let mut message = message(MessageType::MsgSnapshot, from, to);
    message.set_snapshot(snapshot);
    message
}

/// The state of an index: the index, and then so many bytes that differ from place to place.
fn body(index: u64, mib: usize) -> (SnapshotBody, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let body = move |out: &mut dyn Write| {
        out.write_all(&index.to_le_bytes()).map_err(|error| error.to_string())?;
        for at in 0..mib {
            out.write_all(&[at as u8; MIB]).map_err(|error| error.to_string())?;
            count.fetch_add(MIB, Ordering::Relaxed);
        }
        Ok(())
    };
    (Arc::new(body), written)
}

fn snapshot(to: u64, index: u64, body: SnapshotBody) -> Outgoing {
    Outgoing { to, payload: Payload::Snapshot { message: snapshot_message(1, to, index), state: body } }
}

async fn is_given(member: &mut Member) -> (Message, PathBuf) {
    member
        .is_told(|told| match told {
            Told::Step(incoming) => match incoming.payload {
                IncomingPayload::Snapshot { message, state } => Some((message, state)),
                _ => None,
            },
            _ => None,
        })
        .await
}

fn incoming(member: &Member) -> Vec<PathBuf> {
    let entries = fs::read_dir(member.folder.path().join("incoming"));
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_megabytes_arrive_as_a_file_while_beats_go_on() {
    let authority = Authority::new();
    let (mut one, mut two) = pair(&authority).await;
    let (body, _) = body(7, 64);
    (one.send)(vec![snapshot(2, 7, body.clone()), Outgoing { to: 2, payload: beat(1) }]);
    let (message, file) = is_given(&mut two).await;
    assert_eq!(message, snapshot_message(1, 2, 7));
    assert_eq!(incoming(&two), std::slice::from_ref(&file));
    let mut expected = Vec::new();
    body(&mut expected).unwrap();
    assert!(fs::read(&file).unwrap() == expected, "the file is the state");
    assert_eq!(one.snapshot_ended().await, (2, true));
    assert!(one.connections(2).sent_bytes > 64 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_costs_its_sender_a_few_chunks() {
    let authority = Authority::new();
    let listener = bind().await;
    let mut one = Spec::new(&authority, 1).start().await;
    let tls = authority.tls(CLUSTER, 2);
    let (body, written) = body(7, 64);
    one.knows(&[(2, listener.local_addr().unwrap())]);
    let _raft = accept(&listener, &tls, 2).await;
    (one.send)(vec![snapshot(2, 7, body)]);
    let Line { mut reader, mut writer } = accept(&listener, &tls, 2).await;
    let alive = tokio::spawn(async move { writer.stay_alive().await });
    let begin = reader.frame(FRAME_BYTES_MAX).await.unwrap();
    assert_eq!(begin.kind, Kind::Snapshot);
    // The body stands still: the kernel's buffers are full, and so are ours.
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(500)).await;
        let now = written.load(Ordering::Relaxed);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before < 24 * MIB, "{before} bytes of 64 MiB were taken out of the state, and nobody reads them");
    let mut total = Total::default();
    loop {
        let frame = timeout(PATIENCE, reader.frame(FRAME_BYTES_MAX)).await.unwrap().unwrap();
        match frame.kind {
            Kind::Chunk => total.add(&frame.body),
            Kind::End => {
                assert_eq!(frame.body[..], total.to_bytes());
                break;
            }
            _ => {}
        }
    }
    assert_eq!(total.bytes(), 8 + 64 * MIB as u64);
    alive.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_fails_is_reported_and_leaves_no_file() {
    let authority = Authority::new();
    let (mut one, mut two) = pair(&authority).await;
    let failing: SnapshotBody = Arc::new(|out: &mut dyn Write| {
        out.write_all(&[1; 3 * MIB]).map_err(|error| error.to_string())?;
        Err("the disk has gone".to_owned())
    });
    (one.send)(vec![snapshot(2, 7, failing)]);
    assert_eq!(one.snapshot_ended().await, (2, false));
    let panicking: SnapshotBody = Arc::new(|_: &mut dyn Write| panic!("injected: a state that panics"));
    (one.send)(vec![snapshot(2, 8, panicking)]);
    assert_eq!(one.snapshot_ended().await, (2, false));
    assert!(eventually(|| incoming(&two).is_empty()).await);

    (one.send)(vec![snapshot(2, 9, body(9, 1).0)]);
    let (message, _) = is_given(&mut two).await;
    assert_eq!(message.get_snapshot().get_metadata().index, 9, "and nothing of what failed");
    assert_eq!(one.snapshot_ended().await, (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_what_it_says_is_refused() {
    let authority = Authority::new();
    let (mut one, mut two) = pair(&authority).await;
    // It verifies, as another index; and it does not verify.
    (one.send)(vec![snapshot(2, 7, body(8, 1).0)]);
    assert_eq!(one.snapshot_ended().await, (2, false));
    (one.send)(vec![snapshot(2, u64::MAX, body(u64::MAX, 1).0)]);
    assert_eq!(one.snapshot_ended().await, (2, false));
    assert_eq!(incoming(&two), [] as [PathBuf; 0]);
    two.send(1, beat(1));
    assert!(matches!(two.hears.try_recv(), Err(_) | Ok(Told::Unreachable(_))), "raft was given nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_can_not_write_says_why() {
    let authority = Authority::new();
    let listener = bind().await;
    let mut sender = Spec::new(&authority, 1).start().await;
    let two = Spec { listener: Some(listener), ..Spec::new(&authority, 2) }.start().await;
    sender.knows(&[(2, two.address)]);
    // Where the folder should be lies a file.
    fs::write(two.folder.path().join("incoming"), b"in the way").unwrap();
    (sender.send)(vec![snapshot(2, 7, body(7, 32).0)]);
    assert_eq!(sender.snapshot_ended().await, (2, false));

    // What the sender reads is the reason, though it was in the middle of writing.
    let tls = authority.tls(CLUSTER, 1);
    let mut said = hello(1, 2, Purpose::Bulk);
    said.incarnation = 2;
    let (mut line, answer) = greet(two.address, &tls, &said).await;
    assert_eq!(answer.kind, Kind::Hello);
    let begin = Payload::Snapshot { message: snapshot_message(1, 2, 7), state: body(7, 0).0 };
    payload::write(line.writer.out(), &begin).unwrap();
    frame::write_body(line.writer.out(), Kind::Chunk, &[0; 1_000]);
    line.writer.flush().await.unwrap();
    let refusal = loop {
        let frame = line.reader.frame(FRAME_BYTES_MAX).await.unwrap();
        if frame.kind == Kind::Refusal {
            break Refusal::read(&frame.body).to_string();
        }
    };
    assert!(refusal.contains("no folder for it"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_the_middle_leaves_nothing() {
    let authority = Authority::new();
    let mut two = Spec::new(&authority, 2).start().await;
    let tls = authority.tls(CLUSTER, 1);
    let begin = Payload::Snapshot { message: snapshot_message(1, 2, 7), state: body(7, 0).0 };
    let mut wrong_total = Vec::new();
    frame::write_body(&mut wrong_total, Kind::End, &Total::default().to_bytes());
    let mut out_of_place = Vec::new();
    payload::write(&mut out_of_place, &beat(1)).unwrap();
    for end in [Vec::new(), wrong_total, out_of_place, vec![0xff; 20]] {
        let (mut line, answer) = greet(two.address, &tls, &hello(1, 2, Purpose::Bulk)).await;
        assert_eq!(answer.kind, Kind::Hello);
        payload::write(line.writer.out(), &begin).unwrap();
        frame::write_body(line.writer.out(), Kind::Chunk, &7_u64.to_le_bytes());
        line.writer.flush().await.unwrap();
        assert!(eventually(|| incoming(&two).len() == 1).await, "it is being written");
        line.writer.out().extend_from_slice(&end);
        line.writer.flush().await.unwrap();
        drop(line);
        assert!(eventually(|| incoming(&two).is_empty()).await, "it is removed");
    }
    assert!(two.hears.try_recv().is_err(), "raft heard of none of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_dies_in_the_middle_fails_the_snapshot_and_the_next_one_passes() {
    let authority = Authority::new();
    let listener = bind().await;
    let mut one = Spec::new(&authority, 1).start().await;
    let tls = authority.tls(CLUSTER, 2);
    one.knows(&[(2, listener.local_addr().unwrap())]);
    let raft = accept(&listener, &tls, 2).await;
    (one.send)(vec![snapshot(2, 7, body(7, 16).0)]);
    let mut bulk = accept(&listener, &tls, 2).await;
    bulk.reader.frame(FRAME_BYTES_MAX).await.unwrap();
    drop((bulk, raft, listener));
    assert_eq!(one.snapshot_ended().await, (2, false));

    let mut two = Spec { incarnation: 2, ..Spec::new(&authority, 2) }.start().await;
    one.knows(&[(2, two.address)]);
    (one.send)(vec![snapshot(2, 8, body(8, 2).0)]);
    is_given(&mut two).await;
    assert_eq!(one.snapshot_ended().await, (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_snapshot_takes_the_place_of_the_one_on_its_way_and_one_word_ends_both() {
    let authority = Authority::new();
    let listener = bind().await;
    let mut one = Spec::new(&authority, 1).start().await;
    let tls = authority.tls(CLUSTER, 2);
    one.knows(&[(2, listener.local_addr().unwrap())]);
    let _raft = accept(&listener, &tls, 2).await;
    (one.send)(vec![snapshot(2, 7, body(7, 64).0)]);
    let mut first = accept(&listener, &tls, 2).await;
    first.reader.frame(FRAME_BYTES_MAX).await.unwrap();

    (one.send)(vec![snapshot(2, 8, body(8, 1).0)]);
    let mut second = accept(&listener, &tls, 2).await;
    let begin = second.reader.frame(FRAME_BYTES_MAX).await.unwrap();
    let ends = payload::Ends { from: 1, to: 2 };
    let index = payload::read_snapshot(&begin, ends).unwrap().get_snapshot().get_metadata().index;
    assert_eq!(index, 8);
    while second.reader.frame(FRAME_BYTES_MAX).await.unwrap().kind != Kind::End {}
    frame::write_body(second.writer.out(), Kind::Taken, &[]);
    second.writer.flush().await.unwrap();
    let mut words = Vec::new();
    words.push(one.snapshot_ended().await);
    while let Ok(told) = one.hears.try_recv() {
        if let Told::SnapshotSent(member, ok) = told {
            words.push((member, ok));
        }
    }
    assert_eq!(words, [(2, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_for_nobody_ends_too() {
    let authority = Authority::new();
    let mut one = Spec::new(&authority, 1).start().await;
    // Ourselves, no member, one without an address.
    for nobody in [1, 0, 9] {
        (one.send)(vec![snapshot(nobody, 7, body(7, 1).0)]);
        assert_eq!(one.snapshot_ended().await, (nobody, false));
    }
    // One that leaves while its snapshot waits.
    let listener = bind().await;
    one.knows(&[(2, listener.local_addr().unwrap())]);
    (one.send)(vec![snapshot(2, 7, body(7, 1).0)]);
    sleep(Duration::from_millis(50)).await;
    one.removed.send_replace(Removed::from([2]));
    assert_eq!(one.snapshot_ended().await, (2, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_without_room_is_given_the_snapshot_when_it_has_some() {
    let authority = Authority::new();
    let refusals = Arc::new(AtomicU64::new(5));
    let left = refusals.clone();
    let mut two = Spec::new(&authority, 2);
    two.step = Box::new(move |_| {
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(QueueFull),
            Err(_) => Ok(()),
        }
    });
    let mut two = two.start().await;
    let mut one = Spec::new(&authority, 1).start().await;
    one.knows(&[(2, two.address)]);
    (one.send)(vec![snapshot(2, 7, body(7, 1).0)]);
    is_given(&mut two).await;
    assert_eq!(one.snapshot_ended().await, (2, true));
    assert_eq!(refusals.load(Ordering::Relaxed), 0);
}

#[test]
fn what_an_earlier_life_received_is_removed_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    for name in ["1-2-3-0.part", "1-2-3-0.snapshot", "notes.txt"] {
        fs::write(folder.path().join(name), b"old").unwrap();
    }
    crate::transport::snapshot_receive::clean(folder.path());
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
    crate::transport::snapshot_receive::clean(&folder.path().join("not there"));
}
