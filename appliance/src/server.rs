//! Server: a node from its first step to its last, as a list.
//!
//! # Start-up, in this order, and why
//!
//! 1. **The host**: settings are logged, the signals become ours, the limit on open files is raised.
//! 2. **The kernel**: with enforcement on, nft and the right to use it are asked for before anything is made. A host
//!    that can not be policed must not look as if it were.
//! 3. **The data directory**: created, locked, and asked who we are. From here on no second process can do harm.
//! 4. **The doors**: both listeners are bound, and do not accept. A port already taken is heard of before a store is
//!    opened; a client that comes early waits in the backlog instead of being refused.
//! 5. **The store, keys and raft**: opening may take long after a power cut, and everything below asks them. The keys
//!    come between the two: the store has the authority that issues them, and members speak with them.
//! 6. **Enforcement**, before anybody is served: a restart must not wait for clients. The dataplane writes nothing
//!    to the kernel until the syncer has passed on the whole current state; until then yesterday's ruleset stands.
//! 7. **The authority** of a new cluster goes to the store, before anybody is shown a certificate of it; and the
//!    **first objects**, which need a leader; one that is missing later is put back.
//! 8. **The API**: the doors open. systemd hears that we serve, the log gets one line with the addresses.
//!
//! # Shutdown: the same list from its end
//!
//! Doors close and requests under way finish; reports end; the syncer and the reconciler stop, **leaving the kernel's
//! policy as it is**; raft makes the store durable; the directory is unlocked by the kernel when we are gone. Dying at
//! any point of it loses nothing: that is what the log is for.
//!
//! # What ends a node
//!
//! A signal; raft stopping by itself (a disk failed: a replica that can not write must not answer); the reconciler or
//! the syncer ending by itself. Whoever started us starts us again; meanwhile the kernel enforces what it has.
//!
//! *Questions for a reviewer*: does any step write to the kernel before step 6 has seen the whole store? Does any step
//! accept a client before step 8? Is anything started here that the shutdown list does not stop?

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use appliance_consensus::{Config as RaftConfig, Origin, Raft, StartError, StopReason};
use appliance_resources::NodeReportStatus;
use appliance_storage::{OpenError, Reader, Store, StoreOptions};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::load::Load;
use crate::api::registry::Registry;
use crate::api::{Api, ApiOptions};
use crate::author;
use crate::bootstrap::{self, BootstrapError};
use crate::cluster::alarms::Alarms;
use crate::cluster::handle::ClusterHandle;
use crate::cluster::keyring::{self, Keyring, KeyringError, Opening};
use crate::cluster::keys::Who;
use crate::cluster::peers::{self, Directory, Own};
use crate::cluster::records::MemberId;
use crate::cluster::recover::{self, RecoverError};
use crate::cluster::registry::Records;
use crate::cluster::renewal;
use crate::compactor;
use crate::config::{Config, Host};
use crate::data_dir::{DataDir, DataDirError};
use crate::enforcer::{Enforcer, EnforcerError, Place};
use crate::host;
use crate::identity::{self, IdentityError, NodeIdentity, Settled, Wanted};
use crate::listener::{self, ListenError, RootListener, TlsListener};
use crate::logging;
use crate::metrics::Metrics;
use crate::readings;
use crate::shutdown::{self, Signals, Trigger};
use crate::snapshots;
use crate::systemd;
use crate::version;

/// The store, in the data directory.
const STORE: &str = "store";

/// The log's directory, which consensus makes in the data directory.
const LOG: &str = "wal";

/// Threads for blocking calls (opening the store, resolving names): few at a time, and each costs a stack.
const BLOCKING_THREADS_MAX: usize = 8;

/// What still runs this long after everything was stopped is a task that nobody waits for; the process ends.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// Why a node did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("the runtime could not be started: {0}")]
    Runtime(io::Error),
    #[error("signals can not be listened for: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(
        "{path}: missing, though this node has formed its cluster; put the directory back, restore the data directory \
         from a backup, or move all of it away to begin a new cluster"
    )]
    LogMissing { path: PathBuf },
    #[error("the store could not be opened: {0}")]
    Store(#[from] OpenError),
    #[error("the store could not be opened: the thread that opened it ended early")]
    StoreThread,
    #[error("{0}")]
    Raft(#[from] StartError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Enforcer(#[from] EnforcerError),
    #[error("joining is being built")]
    JoinNotYet,
    #[error("consensus ended: {0}; the kernel keeps the policy it has")]
    Consensus(StopReason),
}

/// Runs a node until it is told to stop, or can not go on.
pub(crate) fn run(config: Config) -> Result<(), Box<dyn Error>> {
    logging::start(config.log.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("appliance")
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    let result = runtime.block_on(serve(config));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    Ok(result?)
}

/// Starts a node and waits for its end. Told to stop during the start, it stops where it is: as after a crash, the next
/// start finds everything as it was left.
async fn serve(config: Config) -> Result<(), ServerError> {
    let mut signals = Signals::listen().map_err(ServerError::Signals)?;
    let started = tokio::select! {
        started = start(config) => started?,
        signal = signals.next() => {
            tracing::info!("{signal} during the start: stopped; the kernel keeps the policy it has");
            return Ok(());
        }
    };
    started.until_told(signals).await
}

/// Start-up, as the essay lists it.
async fn start(config: Config) -> Result<Running, ServerError> {
    let begun = Instant::now();
    // 1. The host.
    announce(&config);
    host::raise_open_files();
    // 2. The kernel.
    Enforcer::check(&config)?;
    // 3. The data directory, and the policy that was enforced last.
    let data_dir = DataDir::open(&config.data_dir)?;
    Enforcer::put_back(&config, data_dir.path()).await;
    recover_if_asked(&data_dir, config.force_new_cluster).await?;
    let settled = settle_identity(&config, &data_dir)?;
    // 4. The doors.
    let root = RootListener::bind(&config.run_dir).await?;
    let network = TlsListener::bind(config.api_listen)?;
    let (_peer_listener, peer_address) = listener::bind_peers(config.peer_listen)?;
    let (addresses, api_port) =
        (format!("{} and https://{}", root.path().display(), network.address()), network.address().port());
    // 5. The store, keys and raft.
    let reached_on = reached_on(&config);
    let identity = match settled {
        Settled::Stands(identity) => identity,
        Settled::Founds(identity) => {
            identity::save(data_dir.path(), &identity)?;
            identity
        }
        Settled::Joins { .. } => return Err(ServerError::JoinNotYet),
    };
    tracing::info!("member {} of cluster {}", identity.member_id, identity.cluster_id);
    let node_name = identity.node_name.clone();
    let (raft, reader, keyring) = open_store(&data_dir, &identity, &reached_on, api_port).await?;
    // 6. Enforcement.
    let registry = Registry::new(raft.clone(), reader.clone());
    let own = Own {
        id: identity.member_id,
        cluster: identity.cluster_id.clone(),
        peer: on_port(&reached_on, peer_address.port()),
        api: on_port(&reached_on, api_port),
        ports: [api_port, peer_address.port()].into(),
        data_dir: data_dir.path().to_owned(),
    };
    let directory = Directory::start(own, reader.clone()).await;
    let place = Place {
        config: &config,
        data_dir: &data_dir,
        node_name: &node_name,
        protected: directory.protected(),
    };
    let enforcer = Enforcer::start(&place, &registry);
    // 7. The authority and the first objects.
    let cluster = ClusterHandle {
        records: Records::new(raft.clone(), reader.clone()),
        keyring: Arc::new(keyring),
        alarms: Alarms::default(),
        cluster_id: identity.cluster_id.clone(),
        member: identity.member_id,
        node_name: node_name.clone(),
    };
    cluster.keyring.establish(&cluster.records, || author::node(&node_name, "a new cluster")).await?;
    tracing::info!("kubeconfig of the administrator is {}", cluster.keyring.kubeconfig().display());
    let objects = bootstrap::objects(&identity.cluster_id, &node_name, &reached_on);
    bootstrap::ensure(&registry, &node_name, objects).await?;
    remember_formed(&data_dir, &identity)?;
    // 8. The API.
    let doors = Doors::open(root, network, &registry, cluster.clone(), enforcer.report());
    let compactor = tokio::spawn(compactor::run(raft.clone(), reader.clone()));
    let renewal = tokio::spawn(renewal::run(cluster));
    let snapshots = config
        .snapshots
        .map(|schedule| tokio::spawn(snapshots::run(data_dir.path().to_owned(), reader, schedule)));
    systemd::notify(systemd::READY);
    tracing::info!("node {node_name} serves on {addresses}, {:.0?} after its start", begun.elapsed());
    Ok(Running {
        raft,
        enforcer,
        doors,
        compactor,
        renewal,
        snapshots,
        _directory: directory,
        _data_dir: data_dir,
    })
}

/// Everything that runs.
struct Running {
    raft: Raft,
    enforcer: Enforcer,
    doors: Doors,
    compactor: JoinHandle<()>,
    renewal: JoinHandle<()>,
    snapshots: Option<JoinHandle<()>>,
    /// Follows the members as long as it lives.
    _directory: Directory,
    /// Locked until everything else is gone.
    _data_dir: DataDir,
}

impl Running {
    /// Waits for the first reason to end, then stops everything in the reverse of its start.
    async fn until_told(mut self, mut signals: Signals) -> Result<(), ServerError> {
        let result = tokio::select! {
            signal = signals.next() => {
                tracing::info!("{signal}: stopping; the kernel keeps the policy it has; a second signal exits at once");
                Ok(())
            }
            reason = self.raft.stopped() => Err(ServerError::Consensus(reason)),
            error = self.enforcer.ended() => Err(error.into()),
        };
        tokio::select! {
            () = self.stop() => result,
            never = signals.exit_on_next() => match never {},
        }
    }

    async fn stop(self) {
        systemd::notify(systemd::STOPPING);
        self.doors.close().await;
        self.renewal.abort();
        self.compactor.abort();
        self.snapshots.iter().for_each(JoinHandle::abort);
        self.enforcer.stop().await;
        self.raft.stop().await;
        tracing::info!("stopped");
    }
}

/// The listeners at work.
struct Doors {
    trigger: Trigger,
    root: JoinHandle<()>,
    network: JoinHandle<()>,
}

impl Doors {
    /// Serves whoever comes, and whoever has waited in the backlog since the doors were bound.
    fn open(
        root: RootListener,
        network: TlsListener,
        registry: &Registry,
        cluster: ClusterHandle,
        report: watch::Receiver<NodeReportStatus>,
    ) -> Doors {
        let (raft, reader) = (registry.raft().clone(), registry.reader().clone());
        let (trigger, shutdown) = shutdown::channel();
        let load = Arc::new(Load::default());
        let metrics = Metrics::new(readings::of_node(raft.clone(), reader.clone(), report, load.clone()));
        let (node_name, tls) = (cluster.node_name.clone(), cluster.keyring.api_tls());
        let options =
            ApiOptions { node_name, cluster, metrics: metrics.clone(), load, shutdown: shutdown.clone() };
        let api = Api::new(raft, reader, options);
        let root = root.serve(api.clone(), metrics.clone(), shutdown.clone());
        let network = network.serve(tls, api, metrics, shutdown);
        Doors { trigger, root: tokio::spawn(root), network: tokio::spawn(network) }
    }

    /// Both at once: each gives its clients a moment.
    async fn close(self) {
        self.trigger.fire();
        for door in [self.root, self.network] {
            // A door that panicked is closed.
            let _ = door.await;
        }
    }
}

fn announce(config: &Config) {
    tracing::info!(
        "appliance {} ({}, {}) on {}",
        version::VERSION,
        version::COMMIT,
        version::TARGET,
        host::kernel()
    );
    for setting in &config.effective {
        tracing::info!("setting {} is {} (from {})", setting.name, setting.value, setting.source);
    }
    for variable in &config.unknown_variables {
        tracing::warn!("environment variable {variable} is no setting of ours and is ignored");
    }
}

/// Finishes a restore that a crash cut short, and goes on alone if the operator wants that: before anybody looks at what
/// this directory is.
async fn recover_if_asked(data_dir: &DataDir, flag: bool) -> Result<(), ServerError> {
    let path = data_dir.path().to_owned();
    let recovered = tokio::task::spawn_blocking(move || recover::at_start(&path, flag)).await;
    if let Some(done) = recovered.unwrap_or(Err(RecoverError::Cut))? {
        tracing::warn!("this node is a cluster of its own now: {done}");
    }
    Ok(())
}

/// Who this node is, or is to be.
fn settle_identity(config: &Config, data_dir: &DataDir) -> Result<Settled, ServerError> {
    let host_name = host::name();
    let stored = identity::load(data_dir.path())?;
    let known = stored.as_ref().and_then(|stored| peers::load(data_dir.path(), &stored.cluster_id));
    let known: Vec<String> =
        known.unwrap_or_default().members.into_iter().flat_map(|member| member.api).collect();
    let wanted = Wanted {
        node_name: config.node_name.as_ref(),
        join: config.join.as_ref(),
        host_name: &host_name,
        known: &known,
        fresh_cluster_id: uuid::Uuid::new_v4().simple().to_string(),
        fresh_member: MemberId::random(),
    };
    let (settled, source) = identity::settle(stored, wanted)?;
    let node_name = match &settled {
        Settled::Stands(identity) | Settled::Founds(identity) => &identity.node_name,
        Settled::Joins { node_name } => node_name,
    };
    tracing::info!("node name is {node_name} (from {source})");
    match &settled {
        Settled::Stands(identity) if identity.formed && !data_dir.join(LOG).is_dir() => {
            Err(ServerError::LogMissing { path: data_dir.join(LOG) })
        }
        _ => Ok(settled),
    }
}

/// Where others find a port of this node.
fn on_port(reached_on: &[Host], port: u16) -> Vec<String> {
    reached_on.iter().map(|host| format!("{}:{port}", host.in_url())).collect()
}

/// From here on an empty store would be a loss and not a beginning.
fn remember_formed(data_dir: &DataDir, identity: &NodeIdentity) -> Result<(), ServerError> {
    if !identity.formed {
        identity::save(data_dir.path(), &identity.clone().into_formed())?;
    }
    Ok(())
}

/// What others reach this node on: what was configured, else the address that is listened on, else the address of the
/// default route's interface.
fn reached_on(config: &Config) -> Vec<Host> {
    if !config.advertise.is_empty() {
        return config.advertise.clone();
    }
    let listen = config.api_listen.ip();
    if !listen.is_unspecified() {
        return vec![Host::Address(listen)];
    }
    let found: Vec<Host> = host::default_route_addresses().into_iter().map(Host::Address).collect();
    if found.is_empty() {
        tracing::warn!(
            "no default route: others can not be told where this node is; give --advertise-address"
        );
        return vec![Host::Address(Ipv4Addr::LOCALHOST.into())];
    }
    let names: Vec<String> = found.iter().map(Host::to_string).collect();
    tracing::info!("advertised address is {} (from the default route)", names.join(", "));
    found
}

/// Opens the store where nothing else waits for it, and starts the thread that owns it.
async fn open_store(
    data_dir: &DataDir,
    identity: &NodeIdentity,
    reached_on: &[Host],
    api_port: u16,
) -> Result<(Raft, Reader, Keyring), ServerError> {
    let config = RaftConfig {
        cluster: identity.log_number(),
        ..RaftConfig::new(identity.member_id.0, data_dir.path())
    };
    let path = data_dir.join(STORE);
    let cluster = Some(identity.store_cluster());
    let host = reached_on.first().map_or_else(|| "localhost".to_owned(), Host::in_url);
    let server = format!("https://{host}:{api_port}");
    let who = Who::new(identity.cluster_number(), identity.member_id.0, &identity.node_name, reached_on);
    let (directory, identity) = (data_dir.path().to_owned(), identity.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let store = Store::open(&path, StoreOptions { cluster, ..StoreOptions::default() })?;
        if let Some(healed) = store.healed() {
            tracing::warn!("the store was damaged and is being rebuilt: {healed:?}");
        }
        let reader = store.reader();
        let NodeIdentity { cluster_id, formed, .. } = &identity;
        let opening = Opening {
            data_dir: &directory,
            cluster_id,
            who,
            formed: *formed,
            joined: identity.is_joiner(),
            server,
        };
        let keyring =
            Keyring::open(opening, keyring::ca_record(&reader)?.as_ref(), OffsetDateTime::now_utc())?;
        let raft = appliance_consensus::start(config, store, Origin::Founder, Box::new(drop))?;
        Ok((raft, reader, keyring))
    });
    opened.await.unwrap_or(Err(ServerError::StoreThread))
}
