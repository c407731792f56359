//! How much two members say to each other over TLS on loopback.
//!
//! `cargo run --release -p appliance-consensus --example transport`: messages of 100 bytes, of 4 KiB and of 256 KiB a second,
//! written as raft writes appends and read by a raft that has no use for them; then a snapshot of 1 GiB into a file,
//! with the longest that a beat took beside it, and the memory the process held at most.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use appliance_consensus::{
    Beat, Config, Export, Origin, Outgoing, Payload, Raft, Sender, SnapshotBody, StateMachine, start,
    transport::{self, Options, PeerTls, SERVER_NAME, Serving, member_uri},
};
use raft::eraftpb::{ConfState, Message, MessageType, Snapshot, SnapshotMetadata};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, string::Ia5String};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{net::TcpListener, sync::watch, time::sleep};

const CLUSTER: u128 = 1;
const SNAPSHOT_BYTES: usize = 1 << 30;
const MEASURED: Duration = Duration::from_secs(3);

/// A state that holds nothing.
struct Nothing;

impl StateMachine for Nothing {
    fn check(_: &[u8]) -> Result<(), String> {
        Ok(())
    }
    fn applied_index(&self) -> u64 {
        0
    }
    fn apply(&mut self, batch: &[(u64, &[u8])]) -> Vec<Vec<u8>> {
        vec![Vec::new(); batch.len()]
    }
    fn checkpoint(&mut self) {}
    fn export(&self) -> Export {
        Box::new(|| Ok(0))
    }
    fn log_may_be_cut_to(&self) -> u64 {
        0
    }
    fn housekeep(&mut self) -> bool {
        false
    }
    fn snapshot(&self) -> SnapshotBody {
        Arc::new(|_| Ok(()))
    }
    fn restore(&mut self, _: &Path) {}
    /// Refused at the end of it: a raft that restored from it would be another raft.
    fn check_snapshot(file: &Path) -> Result<u64, String> {
        let bytes = fs::metadata(file).map_err(|error| error.to_string())?.len();
        Err(format!("{bytes} bytes received"))
    }
    fn chain(&self) -> (u64, [u8; 32]) {
        (0, [0; 32])
    }
    fn chain_at(&self, _: u64) -> Option<[u8; 32]> {
        None
    }
}

struct Member {
    send: Sender,
    serving: Serving,
    _kept: (Raft, watch::Sender<PeerTls>, watch::Sender<transport::Removed>),
    addresses: watch::Sender<transport::Addresses>,
    address: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let mut one = member(&authority, 1, folder.path()).await?;
    let two = member(&authority, 2, folder.path()).await?;
    one.addresses.send_replace(BTreeMap::from([(2, vec![two.address.clone()])]));
    two.addresses.send_replace(BTreeMap::from([(1, vec![one.address.clone()])]));
    while received(&two) == 0 {
        (one.send)(vec![beat()]);
        sleep(Duration::from_millis(50)).await;
    }
    println!("   bytes  messages/s    MB/s  dropped");
    for bytes in [100, 4 * 1_024, 256 * 1_024] {
        messages(&mut one, &two, bytes).await;
    }
    snapshot(&mut one, &two).await;
    if let Some(peak) =
        fs::read_to_string("/proc/self/status")?.lines().find(|line| line.starts_with("VmHWM"))
    {
        println!("{peak}");
    }
    one.serving.stop().await;
    two.serving.stop().await;
    Ok(())
}

/// Keeps a few megabytes queued, for as long as is measured.
async fn messages(one: &mut Member, two: &Member, bytes: usize) {
    let (begin, before, dropped) = (Instant::now(), received(two), dropped(one));
    let mut message =
        Message { msg_type: MessageType::MsgAppendResponse, from: 1, to: 2, ..Message::default() };
    message.context = vec![7; bytes].into();
    let batch = (4 << 20) / (bytes + 1_024);
    while begin.elapsed() < MEASURED {
        let queued = one.serving.connections()[&2].queued;
        if queued < batch / 2 {
            let payload = || Outgoing { to: 2, payload: Payload::Message(message.clone()) };
            (one.send)((0..batch.min(2_000)).map(|_| payload()).collect());
        }
        tokio::task::yield_now().await;
    }
    let rate = (received(two) - before) as f64 / begin.elapsed().as_secs_f64();
    println!(
        "{bytes:>8}  {rate:>10.0}  {:>6.0}  {:>7}",
        rate * bytes as f64 / 1e6,
        self::dropped(one) - dropped
    );
    while one.serving.connections()[&2].queued > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A snapshot, and the slowest of the beats sent meanwhile.
async fn snapshot(one: &mut Member, two: &Member) {
    let state: SnapshotBody = Arc::new(|out: &mut dyn Write| {
        let piece = vec![7; 1 << 20];
        for _ in 0..SNAPSHOT_BYTES >> 20 {
            out.write_all(&piece).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    let mut metadata = SnapshotMetadata { index: 7, term: 1, ..SnapshotMetadata::default() };
    metadata.set_conf_state(ConfState { voters: vec![1], ..ConfState::default() });
    let mut message = Message { msg_type: MessageType::MsgSnapshot, from: 1, to: 2, ..Message::default() };
    let mut snapshot = Snapshot::default();
    snapshot.set_metadata(metadata);
    message.set_snapshot(snapshot);

    let (begin, before) = (Instant::now(), one.serving.connections()[&2].sent_bytes);
    (one.send)(vec![Outgoing { to: 2, payload: Payload::Snapshot { message, state } }]);
    let mut slowest = Duration::ZERO;
    while one.serving.connections()[&2].sent_bytes - before < SNAPSHOT_BYTES as u64 {
        let (sent, count) = (Instant::now(), received(two));
        (one.send)(vec![beat()]);
        while received(two) == count {
            sleep(Duration::from_millis(1)).await;
        }
        slowest = slowest.max(sent.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    let rate = SNAPSHOT_BYTES as f64 / 1e6 / begin.elapsed().as_secs_f64();
    println!("snapshot of 1 GiB: {rate:.0} MB/s; slowest beat beside it {} ms", slowest.as_millis());
}

fn beat() -> Outgoing {
    Outgoing { to: 2, payload: Payload::Beat(Beat::default()) }
}

fn received(member: &Member) -> u64 {
    member.serving.connections().values().map(|peer| peer.received).sum()
}

fn dropped(member: &Member) -> u64 {
    member.serving.connections().values().map(|peer| peer.dropped).sum()
}

async fn member(authority: &Authority, id: u64, folder: &Path) -> Result<Member, Box<dyn Error>> {
    let data: PathBuf = folder.join(id.to_string());
    fs::create_dir(&data)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let (tls, tls_shown) = watch::channel(authority.tls(id)?);
    let (addresses, addresses_shown) = watch::channel(BTreeMap::new());
    let (removed, removed_shown) = watch::channel(transport::Removed::new());
    let (send, transport) = transport::new(Options {
        member: id,
        cluster: CLUSTER,
        incarnation: 1,
        advertise: Vec::new(),
        incoming_dir: data.join("incoming"),
        tls: tls_shown,
    });
    // Raft itself stays quiet: it has no voters.
    let raft = start(Config::new(id, data), Nothing, Origin::Joiner, Box::new(drop))?;
    let serving = transport.serve(raft.clone(), listener, addresses_shown, removed_shown);
    Ok(Member { send, serving, _kept: (raft, tls, removed), addresses, address })
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Result<Authority, Box<dyn Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Authority { issuer: Issuer::new(params, key), certificate })
    }

    fn tls(&self, member: u64) -> Result<PeerTls, Box<dyn Error>> {
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(member_uri(CLUSTER, member))?));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = || PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut trusted = RootCertStore::empty();
        trusted.add(self.certificate.clone())?;
        let (trusted, provider) = (Arc::new(trusted), Arc::new(rustls::crypto::ring::default_provider()));
        let clients =
            WebPkiClientVerifier::builder_with_provider(trusted.clone(), provider.clone()).build()?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.clone()], key())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trusted)
            .with_client_auth_cert(vec![certificate], key())?;
        Ok(PeerTls { server: Arc::new(server), client: Arc::new(client) })
    }
}
