//! A peer played by hand: it holds a genuine certificate, and says what no member would.

use std::{io, time::Duration};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::*;
use crate::transport::{
    frame::{self, FRAME_BYTES_MAX, Kind},
    hello::{Hello, Purpose, Refusal},
    line::Line,
    queue::QUEUE_BYTES_MAX,
};

/// The first words of a member played by hand.
pub(super) fn hello(from: u64, to: u64, purpose: Purpose) -> Hello {
    Hello { purpose, cluster: CLUSTER, from, to, incarnation: 1, advertise: Vec::new(), now_ms: 0 }
}

/// Dials a member with these keys, and says nothing yet.
pub(super) async fn dial(address: SocketAddr, tls: &PeerTls) -> Line {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let stream = TlsConnector::from(tls.client.clone()).connect(name, stream).await.unwrap();
    Line::new(TlsStream::from(stream))
}

/// Dials and says hello; answers what was answered.
pub(super) async fn greet(address: SocketAddr, tls: &PeerTls, hello: &Hello) -> (Line, frame::Frame) {
    let mut line = dial(address, tls).await;
    hello.write(line.writer.out());
    line.writer.flush().await.unwrap();
    let answer = line.reader.frame(FRAME_BYTES_MAX).await.unwrap();
    (line, answer)
}

/// Accepts one connection, as the member that holds these keys, and answers its hello.
pub(super) async fn accept(listener: &TcpListener, tls: &PeerTls, member: u64) -> Line {
    let (stream, _) = listener.accept().await.unwrap();
    let stream = TlsAcceptor::from(tls.server.clone()).accept(stream).await.unwrap();
    let mut line = Line::new(TlsStream::from(stream));
    let theirs = Hello::read(&line.reader.frame(FRAME_BYTES_MAX).await.unwrap()).unwrap();
    hello(member, theirs.from, theirs.purpose).write(line.writer.out());
    line.writer.flush().await.unwrap();
    line
}

/// Waits until the other side has closed; passes over what it says meanwhile.
async fn is_closed(mut line: Line) {
    let closed = async { while line.reader.frame(FRAME_BYTES_MAX).await.is_ok() {} };
    timeout(PATIENCE, closed).await.expect("never closed");
}

async fn is_closed_tcp(mut stream: TcpStream) {
    let mut scrap = [0; 1_024];
    let closed = async { while stream.read(&mut scrap).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, closed).await.expect("never closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_hello_ends_the_connection_and_nothing_else() {
    let authority = Authority::new();
    let mut one = Spec::new(&authority, 1).start().await;
    let tls = authority.tls(CLUSTER, 2);

    // Not even TLS.
    let mut stream = TcpStream::connect(one.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    is_closed_tcp(stream).await;
    // TLS, and then no frame; a frame that announces too much; a frame that is no hello; a hello with another's words.
    let mut no_hello = Vec::new();
    frame::write_body(&mut no_hello, Kind::Message, b"message");
    let mut no_words = Vec::new();
    frame::write_body(&mut no_words, Kind::Hello, b"hello");
    let mut large = Vec::new();
    frame::write_body(&mut large, Kind::Hello, &[0; 9_000]);
    large.truncate(frame::HEADER_BYTES);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &large, &no_hello, &no_words] {
        let mut line = dial(one.address, &tls).await;
        line.writer.out().extend_from_slice(garbage);
        line.writer.flush().await.unwrap();
        is_closed(line).await;
    }
    // Without a certificate there is nothing to say.
    let stream = TcpStream::connect(one.address).await.unwrap();
    let anonymous =
        rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates({
                let mut trusted = RootCertStore::empty();
                trusted.add(authority.certificate.clone()).unwrap();
                trusted
            })
            .with_no_client_auth();
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    if let Ok(mut stream) = TlsConnector::from(Arc::new(anonymous)).connect(name, stream).await {
        let refused: io::Result<usize> = stream.read(&mut [0; 16]).await;
        assert!(refused.is_err(), "{refused:?}");
    }

    let (_line, answer) = greet(one.address, &tls, &hello(2, 1, Purpose::Raft)).await;
    assert_eq!(answer.kind, Kind::Hello, "a member is let in all the same");
    assert!(one.hears.try_recv().is_err(), "nothing of all this reached raft");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_says_nonsense_loses_its_connection_only() {
    let authority = Authority::new();
    let mut one = Spec::new(&authority, 1).start().await;
    let tls = authority.tls(CLUSTER, 2);
    let mut chunk = Vec::new();
    frame::write_body(&mut chunk, Kind::Chunk, b"out of place");
    let mut body = Vec::new();
    frame::write_body(&mut body, Kind::Message, &[0xff; 40]);
    let mut stranger = Vec::new();
    let from_another = Payload::Message(message(raft::eraftpb::MessageType::MsgHeartbeat, 3, 1));
    crate::transport::payload::write(&mut stranger, &from_another).unwrap();
    let mut damaged = body.clone();
    damaged[12] ^= 1;
    for nonsense in [chunk, body, stranger, damaged, vec![0xff; 64]] {
        let (mut line, answer) = greet(one.address, &tls, &hello(2, 1, Purpose::Raft)).await;
        assert_eq!(answer.kind, Kind::Hello);
        crate::transport::payload::write(line.writer.out(), &beat(7)).unwrap();
        line.writer.out().extend_from_slice(&nonsense);
        crate::transport::payload::write(line.writer.out(), &beat(8)).unwrap();
        line.writer.flush().await.unwrap();
        is_closed(line).await;
        one.hears_beat(7).await;
        assert!(one.hears.try_recv().is_err(), "what stands behind nonsense is not believed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_then_silence_ends_the_connection() {
    let authority = Authority::new();
    let one = Spec::new(&authority, 1).start().await;
    let tls = authority.tls(CLUSTER, 2);
    let mut whole = Vec::new();
    frame::write_body(&mut whole, Kind::Message, &[0; 1_000]);
    let mut before = dial(one.address, &tls).await;
    let (mut after, _) = greet(one.address, &tls, &hello(2, 1, Purpose::Raft)).await;
    for line in [&mut before, &mut after] {
        line.writer.out().extend_from_slice(&whole[..500]);
        line.writer.flush().await.unwrap();
    }
    let silent = TcpStream::connect(one.address).await.unwrap();
    tokio::join!(is_closed(before), is_closed(after), is_closed_tcp(silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_is_left_and_dialled_again() {
    let authority = Authority::new();
    let listener = bind().await;
    let one = Spec::new(&authority, 1).start().await;
    one.knows(&[(2, listener.local_addr().unwrap())]);
    let tls = authority.tls(CLUSTER, 2);
    let frozen = accept(&listener, &tls, 2).await;
    one.sees(2, |peer| matches!(peer.outbound, crate::transport::OutboundState::Connected { .. })).await;
    // The second hello comes on a new connection, while the first still hangs there.
    let again = timeout(PATIENCE, accept(&listener, &tls, 2)).await.expect("dialled again");
    drop((frozen, again));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_costs_bounded_memory() {
    let authority = Authority::new();
    let listener = bind().await;
    let mut one = Spec::new(&authority, 1).start().await;
    one.knows(&[(2, listener.local_addr().unwrap())]);
    let Line { reader: _unread, mut writer } = accept(&listener, &authority.tls(CLUSTER, 2), 2).await;
    let alive = tokio::spawn(async move { writer.stay_alive().await });
    one.sees(2, |peer| matches!(peer.outbound, crate::transport::OutboundState::Connected { .. })).await;
    let mut index = 0;
    for _ in 0..8 {
        for _ in 0..100 {
            one.send(2, append(1, 2, index, 256 * 1_024));
            one.send(2, beat(index));
            let id = crate::proposals::ProposalId::from_bytes(&[1; 24]).unwrap();
            one.send(2, Payload::Propose { id, command: vec![0; 64 * 1_024] });
            index += 1;
        }
        let shown = one.connections(2);
        assert!(shown.queued_bytes <= QUEUE_BYTES_MAX, "{shown:?}");
        tokio::task::yield_now().await;
    }
    let shown = one.connections(2);
    assert!(shown.dropped > 300 && shown.queued_bytes > 8 << 20, "{shown:?}");
    alive.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_urgent_overtakes_what_a_slow_peer_has_not_read() {
    let authority = Authority::new();
    let socket = TcpSocket::new_v4().unwrap();
    // What lies in the peer's kernel can not be overtaken; a slow peer's is small.
    socket.set_recv_buffer_size(64 * 1_024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let mut one = Spec::new(&authority, 1).start().await;
    one.knows(&[(2, listener.local_addr().unwrap())]);
    let Line { mut reader, mut writer } = accept(&listener, &authority.tls(CLUSTER, 2), 2).await;
    let alive = tokio::spawn(async move { writer.stay_alive().await });
    for index in 0..224 {
        one.send(2, append(1, 2, index, 64 * 1_024));
    }
    // Until nothing moves any more: every buffer on the way is full.
    let mut queued = usize::MAX;
    while queued != one.connections(2).queued_bytes {
        queued = one.connections(2).queued_bytes;
        sleep(Duration::from_millis(200)).await;
    }
    one.send(2, beat(1));
    let mut before = 0;
    loop {
        let frame = timeout(PATIENCE, reader.frame(FRAME_BYTES_MAX)).await.expect("a frame").unwrap();
        match frame.kind {
            Kind::Beat => break,
            Kind::Message => before += 1,
            _ => {}
        }
    }
    // What the peer's kernel takes, and behind it one write and what ours may hold back: half a megabyte in all.
    assert!(before < 8, "{before} of 224 appends of 64 KiB came first");
    alive.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_at_the_door_do_not_keep_members_out() {
    let authority = Authority::new();
    let one = Spec::new(&authority, 1).start().await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(TcpStream::connect(one.address).await.unwrap());
    }
    // From their address nobody else is let in now; but they are not kept for long.
    let tls = authority.tls(CLUSTER, 2);
    let let_in = async {
        loop {
            let stream = TcpStream::connect(one.address).await.unwrap();
            let name = ServerName::try_from(SERVER_NAME).unwrap();
            if TlsConnector::from(tls.client.clone()).connect(name, stream).await.is_ok() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, let_in).await.expect("never let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_middle_is_believed() {
    let authority = Authority::new();
    let listener = bind().await;
    let one = Spec::new(&authority, 1).start().await;
    one.knows(&[(2, listener.local_addr().unwrap())]);
    let mut told = one.serving.told_removed();
    let mut line = accept(&listener, &authority.tls(CLUSTER, 2), 2).await;
    assert!(!*told.borrow());
    Refusal::Removed.write(line.writer.out());
    line.writer.flush().await.unwrap();
    timeout(PATIENCE, told.wait_for(|told| *told)).await.expect("never told").unwrap();
}
