//! Members of a cluster on loopback, with real TLS and with raft's end of the transport played by the test.

mod cluster;
mod conversations;
mod hostile;
mod refusals;
mod snapshots;
mod wire;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use raft::eraftpb::{Entry, Message, MessageType};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, string::Ia5String};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{Addresses, Options, PeerTls, Removed, SERVER_NAME, Serving, member_uri, peers::Ends};
use crate::{
    input::QueueFull,
    message::{Beat, Incoming, IncomingPayload, Outgoing, Payload, Sender},
};

/// The cluster of most tests.
const CLUSTER: u128 = 0xc1;

/// How long a test waits for what must happen; a machine with much else to do is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// An authority that signs members' certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// What a member of this cluster speaks with.
    fn tls(&self, cluster: u128, member: u64) -> PeerTls {
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        let uri = Ia5String::try_from(member_uri(cluster, member)).unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = || PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut trusted = RootCertStore::empty();
        trusted.add(self.certificate.clone()).unwrap();
        let trusted = Arc::new(trusted);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(trusted.clone(), provider.clone());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate.clone()], key())
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_client_auth_cert(vec![certificate], key())
            .unwrap();
        PeerTls { server: Arc::new(server), client: Arc::new(client) }
    }
}

/// What a transport tells its raft.
#[derive(Debug)]
enum Told {
    Step(Box<Incoming>),
    Unreachable(u64),
    SnapshotSent(u64, bool),
}

/// How a raft played by a test takes what it is told.
type Step = Box<dyn Fn(&Incoming) -> Result<(), QueueFull> + Send + Sync>;

/// What a member is made of; the tests change one thing or another.
struct Spec {
    member: u64,
    cluster: u128,
    incarnation: u64,
    advertise: Vec<String>,
    tls: PeerTls,
    /// Where it listens; the kernel's choice unless the test has bound it.
    listener: Option<TcpListener>,
    step: Step,
}

impl Spec {
    fn new(authority: &Authority, member: u64) -> Spec {
        Spec {
            member,
            cluster: CLUSTER,
            incarnation: 1,
            advertise: Vec::new(),
            tls: authority.tls(CLUSTER, member),
            listener: None,
            step: Box::new(|_| Ok(())),
        }
    }

    async fn start(self) -> Member {
        let folder = TempDir::new().unwrap();
        let listener = match self.listener {
            Some(listener) => listener,
            None => bind().await,
        };
        let address = listener.local_addr().unwrap();
        let (tls, tls_shown) = watch::channel(self.tls);
        let (addresses, addresses_shown) = watch::channel(Addresses::new());
        let (removed, removed_shown) = watch::channel(Removed::new());
        let options = Options {
            member: self.member,
            cluster: self.cluster,
            incarnation: self.incarnation,
            advertise: self.advertise,
            incoming_dir: folder.path().join("incoming"),
            tls: tls_shown,
        };
        let (send, transport) = super::new(options);
        let (told, hears) = mpsc::unbounded_channel();
        let ends = ends(told, self.step);
        let serving = transport.serve_ends(ends, listener, addresses_shown, removed_shown);
        Member { member: self.member, address, send, serving, hears, tls, addresses, removed, folder }
    }
}

/// A port of loopback that is free.
async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn ends(told: mpsc::UnboundedSender<Told>, step: Step) -> Ends {
    let (stepped, unreachable, sent) = (told.clone(), told.clone(), told);
    Ends {
        step: Box::new(move |incoming| {
            step(&incoming)?;
            let _ = stepped.send(Told::Step(Box::new(incoming)));
            Ok(())
        }),
        unreachable: Box::new(move |member| {
            let _ = unreachable.send(Told::Unreachable(member));
        }),
        snapshot_sent: Box::new(move |member, ok| {
            let _ = sent.send(Told::SnapshotSent(member, ok));
        }),
        check_snapshot,
    }
}

/// A snapshot of the tests begins with the index it stands for.
fn check_snapshot(file: &Path) -> Result<u64, String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let index = bytes.first_chunk().ok_or("it is empty")?;
    match u64::from_le_bytes(*index) {
        u64::MAX => Err("it is damaged".to_owned()),
        index => Ok(index),
    }
}

/// A transport that runs, and the test in place of its raft.
struct Member {
    member: u64,
    address: SocketAddr,
    send: Sender,
    serving: Serving,
    hears: mpsc::UnboundedReceiver<Told>,
    tls: watch::Sender<PeerTls>,
    addresses: watch::Sender<Addresses>,
    removed: watch::Sender<Removed>,
    folder: TempDir,
}

impl Member {
    fn send(&mut self, to: u64, payload: Payload) {
        (self.send)(vec![Outgoing { to, payload }]);
    }

    /// From now on this is where the others are.
    fn knows(&self, others: &[(u64, SocketAddr)]) {
        let addresses: BTreeMap<_, _> =
            others.iter().map(|(id, address)| (*id, vec![address.to_string()])).collect();
        self.addresses.send_replace(addresses);
    }

    /// Waits for something it is told; what is told before is passed over.
    async fn is_told<T>(&mut self, mut wanted: impl FnMut(Told) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let told = self.hears.recv().await.expect("the transport has ended");
                if let Some(found) = wanted(told) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("never told")
    }

    /// Waits for the next thing that another member said, beats aside: [`Member::reaches`] may have sent one too many.
    async fn hears(&mut self) -> Incoming {
        self.is_told(|told| match told {
            Told::Step(incoming) if !matches!(incoming.payload, IncomingPayload::Beat(_)) => Some(*incoming),
            _ => None,
        })
        .await
    }

    /// Waits for a beat with this number, passing over everything else.
    async fn hears_beat(&mut self, number: u64) {
        self.is_told(|told| match told {
            Told::Step(incoming) => match incoming.payload {
                IncomingPayload::Beat(beat) if beat.applied == number => Some(()),
                _ => None,
            },
            _ => None,
        })
        .await;
    }

    /// How a snapshot ended.
    async fn snapshot_ended(&mut self) -> (u64, bool) {
        self.is_told(|told| match told {
            Told::SnapshotSent(member, ok) => Some((member, ok)),
            _ => None,
        })
        .await
    }

    fn connections(&self, to: u64) -> super::PeerConnections {
        self.serving.connections().remove(&to).expect("a peer")
    }

    /// Waits until the connection to a peer looks so.
    async fn sees(&self, to: u64, wanted: impl Fn(&super::PeerConnections) -> bool) {
        let seen = || self.serving.connections().get(&to).is_some_and(&wanted);
        if !eventually(seen).await {
            panic!("member {} never saw it: {:?}", self.member, self.serving.connections().get(&to));
        }
    }

    /// Sends beats with this number until the other hears one: connections come and go, and drop what is queued.
    async fn reaches(&mut self, other: &mut Member, number: u64) {
        let reached = async {
            loop {
                self.send(other.member, beat(number));
                if timeout(Duration::from_millis(200), other.hears_beat(number)).await.is_ok() {
                    return;
                }
            }
        };
        timeout(PATIENCE, reached).await.expect("never reached");
    }
}

/// Waits until a condition holds; whether it ever did.
async fn eventually(condition: impl Fn() -> bool) -> bool {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, holds).await.is_ok()
}

/// Two members that know each other.
async fn pair(authority: &Authority) -> (Member, Member) {
    let one = Spec::new(authority, 1).start().await;
    let two = Spec::new(authority, 2).start().await;
    one.knows(&[(2, two.address)]);
    two.knows(&[(1, one.address)]);
    (one, two)
}

fn beat(number: u64) -> Payload {
    Payload::Beat(Beat { applied: number, ..Beat::default() })
}

fn message(kind: MessageType, from: u64, to: u64) -> Message {
    Message { msg_type: kind, from, to, term: 3, ..Message::default() }
}

/// An append of one entry with so many bytes.
fn append(from: u64, to: u64, index: u64, bytes: usize) -> Payload {
    let entry = Entry { term: 3, index: index + 1, data: vec![7; bytes].into(), ..Entry::default() };
    let mut append = Message { index, log_term: 3, ..message(MessageType::MsgAppend, from, to) };
    append.set_entries(vec![entry].into());
    Payload::Message(append)
}
