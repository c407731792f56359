//! Inbound: accepts connections, finds out which member each is, and hands what it says to raft.
//!
//! Nothing is believed before TLS, the certificate and the hello agree. Raft's queue is never waited for: what it has
//! no room for is dropped where raft copes with that, and refused where somebody waits for an answer, so however fast
//! a peer sends, memory here does not grow.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{
    dial::HELLO_MAX,
    frame::{FRAME_BYTES_MAX, Kind},
    guests::{Guests, Replaced, Strangers},
    hello::{HELLO_BYTES_MAX, Hello, Purpose, Refusal},
    identity::no_tls,
    line::{Line, LineError, Reader},
    payload::{self, PayloadError},
    peers::{Peer, lock},
    shared::{Shared, identity},
    snapshot_receive,
};
use crate::message::{self, Incoming, IncomingPayload, Payload};

/// After a failed accept (out of files, out of memory) the next one is tried when some connection may have ended.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a dialler gets to read why it was refused.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// The side that accepts.
struct Inbound {
    shared: Arc<Shared>,
    strangers: Mutex<Strangers>,
    guests: Mutex<Guests>,
}

/// Why a connection did not become a member's.
enum NotGreeted {
    Tls(io::Error),
    Line(LineError),
    NotPeer,
    /// We refused.
    Refusing(Refusal),
    /// The dialler did not like our certificate.
    Refused(Refusal),
}

/// A member that was let in.
struct Greeted {
    line: Line,
    peer: Arc<Peer>,
    purpose: Purpose,
    ticket: u64,
    replaced: Replaced,
}

/// Accepts until the transport stops.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let (strangers, guests) = (Mutex::default(), Mutex::default());
    let inbound = Arc::new(Inbound { shared: shared.clone(), strangers, guests });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    // Too many of them: closed without a word, which costs us least.
                    if lock(&inbound.strangers).enter(address.ip()) {
                        connections.spawn(inbound.clone().serve(stream, address));
                    }
                }
                Err(error) => {
                    if lock(&shared.voice).is_news("accept", &error.to_string()) {
                        tracing::warn!("could not accept a peer's connection: {error}");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = shared.stopping() => break,
        }
    }
    connections.shutdown().await;
}

impl Inbound {
    async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let greeted = timeout(HELLO_MAX, self.greet(stream, address)).await;
        lock(&self.strangers).leave(address.ip());
        let Greeted { line, peer, purpose, ticket, replaced } = match greeted {
            Ok(Some(greeted)) => greeted,
            Ok(None) => return,
            Err(_) => return tracing::debug!("{address}: no hello within {HELLO_MAX:?}"),
        };
        match purpose {
            Purpose::Raft => {
                peer.counters.inbound(true);
                self.converse(&peer, line, replaced).await;
            }
            Purpose::Bulk => self.receive(&peer, line, replaced).await,
        }
        let mut guests = lock(&self.guests);
        if self.shared.removed.borrow().contains(&peer.member) {
            guests.forget(peer.member);
        }
        guests.leave(peer.member, ticket);
        peer.counters.inbound(guests.has_raft(peer.member));
    }

    /// Everything up to the answer to the hello. Whoever is turned away is told why if that can be told.
    async fn greet(&self, stream: TcpStream, address: SocketAddr) -> Option<Greeted> {
        let (line, error) = match self.shake_hands(stream).await {
            Ok(line) => match self.introduce(line).await {
                Ok(greeted) => return Some(greeted),
                Err((line, member, error)) => (Some((line, member)), error),
            },
            Err(error) => (None, error),
        };
        let who = match &line {
            Some((_, Some(member))) => format!("{member:016x}"),
            _ => address.ip().to_canonical().to_string(),
        };
        self.log_turned_away(&who, &error);
        if let (Some((mut line, _)), NotGreeted::Refusing(refusal)) = (line, error) {
            refusal.write(line.writer.out());
            if line.writer.flush().await.is_ok() {
                line.reader.linger(LINGER_MAX).await;
            }
            line.writer.close().await;
        }
        None
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, NotGreeted> {
        stream.set_nodelay(true).map_err(NotGreeted::Tls)?;
        let acceptor = TlsAcceptor::from(self.shared.tls.borrow().server.clone());
        acceptor.accept(stream).await.map(TlsStream::from).map_err(NotGreeted::Tls)
    }

    /// Hears who it is, and answers in kind. On failure gives the line back, with the member that its certificate
    /// names.
    async fn introduce(
        &self,
        stream: TlsStream<TcpStream>,
    ) -> Result<Greeted, (Line, Option<u64>, NotGreeted)> {
        let shown = identity(stream.get_ref().1.peer_certificates());
        let mut line = Line::new(stream);
        match self.admit(&mut line, shown).await {
            Ok((hello, peer, ticket, replaced)) => {
                let purpose = hello.purpose;
                self.shared.met(&peer, hello);
                if !peer.is_connected() {
                    peer.knocked.notify_one();
                }
                Ok(Greeted { line, peer, purpose, ticket, replaced })
            }
            Err(error) => Err((line, shown.map(|shown| shown.member), error)),
        }
    }

    async fn admit(
        &self,
        line: &mut Line,
        shown: Option<super::identity::Identity>,
    ) -> Result<(Hello, Arc<Peer>, u64, Replaced), NotGreeted> {
        let first = line.reader.frame(HELLO_BYTES_MAX).await.map_err(NotGreeted::Line)?;
        if first.kind == Kind::Refusal {
            return Err(NotGreeted::Refused(Refusal::read(&first.body)));
        }
        let hello = Hello::read(&first)
            .map_err(|error| Refusal::of(&error).map_or(NotGreeted::NotPeer, NotGreeted::Refusing))?;
        let removed = self.shared.removed.borrow().clone();
        hello.judge(shown, self.shared.us, &removed).map_err(NotGreeted::Refusing)?;
        let full = NotGreeted::Refusing(Refusal::Busy);
        let peer = self.shared.peers.get_or_add(hello.from).ok_or(full)?;
        let admitted = lock(&self.guests).admit(hello.from, hello.incarnation, hello.purpose);
        let (ticket, replaced) = admitted.map_err(NotGreeted::Refusing)?;
        self.shared.hello(hello.from, hello.purpose).write(line.writer.out());
        if let Err(error) = line.writer.flush().await {
            lock(&self.guests).leave(hello.from, ticket);
            return Err(NotGreeted::Line(error));
        }
        Ok((hello, peer, ticket, replaced))
    }

    fn log_turned_away(&self, who: &str, error: &NotGreeted) {
        let reason = match error {
            // A port that was merely looked at, by a scanner or a health check, is not worth a line.
            NotGreeted::Tls(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            NotGreeted::Tls(error) => no_tls(error),
            NotGreeted::Line(error) => error.to_string(),
            NotGreeted::NotPeer => "what it says is not a peer's hello".to_owned(),
            NotGreeted::Refusing(refusal) => format!("refused: {refusal}"),
            NotGreeted::Refused(refusal) => format!("it refused this member: {refusal}"),
        };
        if lock(&self.shared.voice).is_news(&format!("from {who}"), &reason) {
            tracing::warn!("a connection from {who} was not accepted: {reason}");
        }
    }

    /// Hears a member until something ends that.
    async fn converse(&self, peer: &Peer, mut line: Line, replaced: Replaced) {
        let shared = &self.shared;
        let mut removed = shared.removed.clone();
        let member = peer.member;
        lock(&shared.voice).forget(&format!("from {member:016x}"));
        let farewell = tokio::select! {
            error = hear(shared, peer, &mut line.reader) => {
                self.log_ended(member, &error);
                None
            }
            error = line.writer.stay_alive() => {
                self.log_ended(member, &Unheard::Line(error));
                None
            }
            Ok(_) = removed.wait_for(|removed| removed.contains(&member)) => Some(Refusal::Removed),
            // Nothing is ever sent there; it resolves when another connection takes this one's place.
            _ = replaced => None,
            () = shared.stopping() => None,
        };
        if let Some(refusal) = farewell {
            tracing::info!("member {member:016x} is told: {refusal}");
            refusal.write(line.writer.out());
            if line.writer.flush().await.is_ok() {
                line.reader.linger(LINGER_MAX).await;
            }
        }
        line.writer.close().await;
    }

    fn log_ended(&self, member: u64, error: &Unheard) {
        match error {
            Unheard::Line(error) => tracing::info!("connection from member {member:016x} ended: {error}"),
            Unheard::Payload(error) => {
                if lock(&self.shared.voice).is_news(&format!("said by {member:016x}"), &error.to_string()) {
                    tracing::warn!("connection from member {member:016x} closed, for it sent a {error}");
                }
            }
        }
    }

    async fn receive(&self, peer: &Peer, line: Line, replaced: Replaced) {
        let mut removed = self.shared.removed.clone();
        tokio::select! {
            () = snapshot_receive::receive(&self.shared, peer.member, line) => {}
            _ = replaced => {}
            Ok(_) = removed.wait_for(|removed| removed.contains(&peer.member)) => {}
            () = self.shared.stopping() => {}
        }
    }
}

/// Why a member is not heard any more.
enum Unheard {
    Line(LineError),
    Payload(PayloadError),
}

/// Hands everything the member says to raft.
async fn hear(shared: &Shared, peer: &Peer, reader: &mut Reader) -> Unheard {
    let ends = payload::Ends { from: peer.member, to: shared.us.member };
    loop {
        let frame = match reader.frame(FRAME_BYTES_MAX).await {
            Ok(frame) => frame,
            Err(error) => return Unheard::Line(error),
        };
        if frame.kind == Kind::Alive {
            continue;
        }
        match payload::read(&frame, ends) {
            Ok(payload) => step(shared, peer, payload),
            Err(error) => return Unheard::Payload(error),
        }
    }
}

fn step(shared: &Shared, peer: &Peer, payload: IncomingPayload) {
    peer.counters.received();
    let request = match &payload {
        IncomingPayload::Propose { id, .. }
        | IncomingPayload::Change { id, .. }
        | IncomingPayload::Transfer { id, .. } => Some(*id),
        _ => None,
    };
    if (shared.ends.step)(Incoming { from: peer.member, payload }).is_ok() {
        return;
    }
    peer.counters.dropped(1);
    if let Some(id) = request {
        peer.push(Payload::Refused { id, refusal: message::Refusal::Busy });
    }
}
