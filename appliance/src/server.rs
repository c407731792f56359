//! Server: a node from its first step to its last, as a list.
//!
//! # Start-up, in this order, and why
//!
//! 1. **The host**: settings are logged, the signals become ours, the limit on open files is raised.
//! 2. **The kernel**: the policy that was enforced last is put back if the kernel has none, or an emptied one. That only
//!    reads, so it comes before everything that can fail: from here on nothing waits, and nothing gives up, with an open
//!    host. Then, with enforcement on, nft and the right to use it are asked for before anything is made. A host that can
//!    not be policed must not look as if it were.
//! 3. **The data directory**: created, locked, and asked who we are. From here on no second process can do harm. Nobody
//!    founds a new cluster on a host that is policed.
//! 4. **The doors**: all listeners are bound, and do not accept. A port already taken is heard of before a store is
//!    opened; a client that comes early waits in the backlog instead of being refused. Now no other node rules this host,
//!    so what the kernel has is held until step 7: what others change in it is put back.
//! 5. **Who we are**: a new node joins, which needs the addresses of step 4; a member whose data is of no use any more
//!    begins again, and tells so at the doors for as long as that takes; everybody else is who they were.
//! 6. **The store, keys and raft**: opening may take long after a power cut, and everything below asks them. The keys
//!    come between the two: the store has the authority that issues them, and members speak with them. Nothing here or
//!    below waits for other members.
//! 7. **Enforcement**, before anybody is served: a restart must not wait for clients. The dataplane writes nothing
//!    to the kernel until the syncer has passed on the whole current state; until then yesterday's ruleset stands.
//! 8. **The authority** of a new cluster goes to the store, before anybody is shown a certificate of it; and the
//!    **first objects**. In a cluster that exists this happens beside everything else, for it needs a leader; an object
//!    that is missing later is put back.
//! 9. **The API**: the doors open. systemd hears that we serve, the log gets one line with the addresses.
//!
//! # Shutdown: the same list from its end
//!
//! Doors close and requests under way finish; reports end; the syncer and the reconciler stop, **leaving the kernel's
//! policy as it is**; raft hands leadership over and makes the store durable; the directory is unlocked by the kernel
//! when we are gone. Dying at any point of it loses nothing: that is what the log is for.
//!
//! # What ends a node
//!
//! A signal; raft stopping by itself (a disk failed: a replica that can not write must not answer); the reconciler or
//! the syncer ending by itself. Whoever started us starts us again; meanwhile the kernel enforces what it has. And what
//! can only be done to a node at rest: it was removed, its data is of no use, it is to go on alone. Then it stops like
//! this and starts again by itself ([`crate::restart`]).
//!
//! *Questions for a reviewer*: does any step write to the kernel before step 7 has seen the whole store, other than
//! steps 2 and 4 what was there before? Does any step accept a client before step 9? Is anything started here that the
//! shutdown list does not stop? Which step could wait for another member, other than a join?

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use appliance_consensus::StopReason;
use appliance_resources::{AnyResource, NodeReportStatus};
use appliance_storage::Reader;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::anteroom::Anteroom;
use crate::api::load::Load;
use crate::api::registry::Registry;
use crate::api::{Api, ApiOptions};
use crate::author;
use crate::bootstrap::{self, BootstrapError};
use crate::cluster::alarms::Alarms;
use crate::cluster::entry::{self, EntryError};
use crate::cluster::handle::{ClusterHandle, Settings};
use crate::cluster::join::Reception;
use crate::cluster::join_client::Joiner;
use crate::cluster::keyring::{self, Keyring, KeyringError, Opening};
use crate::cluster::keys::Who;
use crate::cluster::member::{Member, MemberError, Opened, Start};
use crate::cluster::peers::Own;
use crate::cluster::recover::{self, RecoverError};
use crate::cluster::registry::Records;
use crate::cluster::reseed;
use crate::compactor;
use crate::config::{Config, Host};
use crate::data_dir::{DataDir, DataDirError};
use crate::enforcer::{Enforcer, EnforcerError, Place, STATE_DIRECTORY};
use crate::host;
use crate::identity::{self, IdentityError, NodeIdentity, Settled};
use crate::listener::{self, ListenError, RootListener, TlsListener};
use crate::logging;
use crate::metrics::Metrics;
use crate::readings;
use crate::restart::Restart;
use crate::shutdown::{self, Signals, Trigger};
use crate::snapshots;
use crate::systemd;
use crate::version;

/// Objects that every cluster has and that can not be looked for yet are looked for again after this time.
const FIRST_OBJECTS_PAUSE: Duration = Duration::from_secs(1);

/// Threads for blocking calls (opening the store, resolving names): few at a time, and each costs a stack.
const BLOCKING_THREADS_MAX: usize = 8;

/// Consensus says why it ends this long after its store is gone, at most; it only closes its log in between.
const CONSENSUS_GRACE: Duration = Duration::from_secs(5);

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
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("the wish for a fresh copy can not be kept in the data directory: {0}")]
    Wish(io::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Enforcer(#[from] EnforcerError),
    #[error("consensus ended: {0}; the kernel keeps the policy it has")]
    Consensus(StopReason),
}

/// How a node ended that was not stopped by an error.
pub(crate) enum Ending {
    /// Somebody wanted it to.
    Stop,
    /// It is to start again, by itself.
    Again,
}

/// Runs a node until it is told to stop, or can not go on.
pub(crate) fn run(config: Config) -> Result<Ending, Box<dyn Error>> {
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
async fn serve(config: Config) -> Result<Ending, ServerError> {
    let mut signals = Signals::listen().map_err(ServerError::Signals)?;
    let started = tokio::select! {
        started = start(config) => started?,
        signal = signals.next() => {
            tracing::info!("{signal} during the start: stopped; the kernel keeps the policy it has");
            return Ok(Ending::Stop);
        }
    };
    match started {
        Started::Running(running) => running.until_told(signals).await,
        Started::Again => Ok(Ending::Again),
    }
}

/// What a start comes to.
enum Started {
    Running(Box<Running>),
    /// What was found must be mended by a start that opens none of it.
    Again,
}

/// Start-up, as the essay lists it.
async fn start(config: Config) -> Result<Started, ServerError> {
    let begun = Instant::now();
    // 1. The host.
    announce(&config);
    host::raise_open_files();
    // 2. The kernel, and the policy that was enforced last.
    Enforcer::put_back(&config).await;
    Enforcer::check(&config)?;
    // 3. The data directory.
    let data_dir = DataDir::open(&config.data_dir)?;
    recover_if_asked(&data_dir, config.force_new_cluster).await?;
    let settled = match entry::settle(&config, &data_dir) {
        Ok(settled) => settled,
        Err(error) => {
            entry::decline(&config, &data_dir, &error).await;
            return Err(error.into());
        }
    };
    if matches!(settled, Settled::Founds(_)) {
        Enforcer::check_new(&config).await?;
    }
    // 4. The doors.
    let root = RootListener::bind(&config.run_dir).await?;
    let network = TlsListener::bind(config.api_listen)?;
    let (listener, peer_address) = listener::bind_peers(config.peer_listen)?;
    let api_port = network.address().port();
    let addresses = format!("{} and https://{}", root.path().display(), network.address());
    let held = Enforcer::hold(&config, &data_dir);
    // 5. Who we are.
    let reached_on = reached_on(&config);
    let (peer, api) = (on_port(&reached_on, peer_address.port()), on_port(&reached_on, api_port));
    let name = settled.node_name().to_owned();
    let joiner = Joiner { data_dir: data_dir.path(), name: &name, peer: peer.clone(), api: api.clone() };
    let anteroom = Anteroom { root: &root, network: &network, data_dir: data_dir.path() };
    let identity = anteroom.during(entry::enter(&config, settled, &joiner)).await?;
    tracing::info!("member {} of cluster {}", identity.member_id, identity.cluster_id);
    // 6. The store, keys and raft.
    let ports = [api_port, peer_address.port()].into();
    let own = Own {
        id: identity.member_id,
        cluster: identity.cluster_id.clone(),
        peer,
        api,
        ports,
        data_dir: data_dir.path().to_owned(),
    };
    let opened = match Opened::open(&config, &data_dir, &identity).await {
        Err(error) if error.is_loss() => return mend(&data_dir, &identity, error),
        opened => opened?,
    };
    let keyring = Arc::new(open_keyring(&data_dir, &identity, &reached_on, api_port, &opened.reader())?);
    let start = Start { data_dir: &data_dir, identity: &identity, own, keyring: &keyring, listener };
    let mut member = match Member::start(opened, start).await {
        Err(error) if error.is_loss() => return mend(&data_dir, &identity, error),
        member => member?,
    };
    let cluster = handle(&config, &data_dir, &identity, &member, keyring);
    // 7. Enforcement.
    let registry = Registry::new(member.raft().clone(), member.reader().clone());
    let place = Place {
        config: &config,
        data_dir: &data_dir,
        node_name: &name,
        protected: member.directory().protected(),
        removed: identity.removed,
    };
    held.release().await;
    let enforcer = Enforcer::start(&place, &registry);
    // 8. The authority and the first objects.
    let objects = bootstrap::objects(&identity.cluster_id, &name, &reached_on);
    let first = if identity.formed || identity.is_joiner() {
        remember_formed(&data_dir, &identity)?;
        tokio::spawn(first_objects_in_time(cluster.clone(), registry.clone(), objects))
    } else {
        first_objects(&cluster, &registry, objects).await?;
        remember_formed(&data_dir, &identity)?;
        tokio::spawn(async {})
    };
    member.tend(&cluster);
    // 9. The API.
    let doors = Doors::open(root, network, &registry, cluster.clone(), enforcer.report());
    let compactor = tokio::spawn(compactor::run(member.raft().clone(), member.reader().clone()));
    systemd::notify(systemd::READY);
    tracing::info!("node {name} serves on {addresses}, {:.0?} after its start", begun.elapsed());
    let snapshots = config.snapshots.map(|schedule| {
        tokio::spawn(snapshots::run(data_dir.path().to_owned(), member.reader().clone(), schedule))
    });
    let tasks = [first, compactor].into_iter().chain(snapshots).collect();
    Ok(Started::Running(Box::new(Running { member, enforcer, doors, tasks, cluster, identity, data_dir })))
}

/// What is on this member's disk is of no use: with other members to ask it begins again, else it can only say so.
fn mend(data_dir: &DataDir, identity: &NodeIdentity, error: MemberError) -> Result<Started, ServerError> {
    if identity.removed || !entry::has_peers(data_dir, identity) {
        return Err(error.into());
    }
    tracing::error!("{error}; a fresh copy is fetched from the other members");
    reseed::request(data_dir.path(), &error.to_string()).map_err(ServerError::Wish)?;
    Ok(Started::Again)
}

/// Everything that runs.
struct Running {
    member: Member,
    enforcer: Enforcer,
    doors: Doors,
    tasks: Vec<JoinHandle<()>>,
    cluster: ClusterHandle,
    identity: NodeIdentity,
    /// Locked until everything else is gone.
    data_dir: DataDir,
}

impl Running {
    /// Waits for the first reason to end, then stops everything in the reverse of its start.
    async fn until_told(mut self, mut signals: Signals) -> Result<Ending, ServerError> {
        let result = tokio::select! {
            signal = signals.next() => {
                tracing::info!("{signal}: stopping; the kernel keeps the policy it has; a second signal exits at once");
                Ok(Ending::Stop)
            }
            reason = self.member.raft().stopped() => self.consensus_ended(reason),
            error = self.enforcer.ended() => self.enforcer_ended(error).await,
            () = self.member.removed() => self.removed(),
            reason = self.cluster.restart.requested() => {
                tracing::warn!("starting again: {reason}; the kernel keeps the policy it has");
                Ok(Ending::Again)
            }
        };
        // Told that we stop, systemd would kill us for not being gone in time.
        if !matches!(result, Ok(Ending::Again)) {
            systemd::notify(systemd::STOPPING);
        }
        tokio::select! {
            () = self.stop() => result,
            never = signals.exit_on_next() => match never {},
        }
    }

    /// A member whose data differs from the others' must not go on with it, and need not: they have the right one.
    fn consensus_ended(&self, reason: StopReason) -> Result<Ending, ServerError> {
        let StopReason::Diverged { detail } = &reason else { return Err(ServerError::Consensus(reason)) };
        tracing::error!(
            "this member's data differs from the others': {detail}; a fresh copy is fetched from them"
        );
        reseed::request(self.data_dir.path(), detail).map_err(ServerError::Wish)?;
        Ok(Ending::Again)
    }

    /// Consensus that ends takes the store with it, and the enforcer may notice that first: its end is then not the
    /// reason, and a member that is to begin again must not end of it.
    async fn enforcer_ended(&self, error: EnforcerError) -> Result<Ending, ServerError> {
        match tokio::time::timeout(CONSENSUS_GRACE, self.member.raft().stopped()).await {
            Ok(reason) => self.consensus_ended(reason),
            Err(_) => Err(error.into()),
        }
    }

    /// From here on this node only looks after its own host.
    fn removed(&self) -> Result<Ending, ServerError> {
        tracing::warn!(
            "the cluster has removed this member: it takes part in nothing any more and keeps enforcing the policy it has; \
             to join again, move everything but {STATE_DIRECTORY}/, which has that policy, out of {}, and start it with \
             --join and --token",
            self.data_dir.path().display()
        );
        identity::save(self.data_dir.path(), &self.identity.clone().into_removed())?;
        Ok(Ending::Again)
    }

    async fn stop(self) {
        self.doors.close().await;
        for task in &self.tasks {
            task.abort();
        }
        self.enforcer.stop().await;
        self.member.stop().await;
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
        let metrics = Metrics::new(readings::of_node(
            raft.clone(),
            reader.clone(),
            report,
            load.clone(),
            cluster.settings.tick,
        ));
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

/// Where others find a port of this node.
fn on_port(reached_on: &[Host], port: u16) -> Vec<String> {
    reached_on.iter().map(|host| format!("{}:{port}", host.in_url())).collect()
}

/// Finishes a restore that a crash cut short, and goes on alone if the operator wants that: before anybody looks at what
/// this directory is.
async fn recover_if_asked(data_dir: &DataDir, flag: bool) -> Result<(), ServerError> {
    let path = data_dir.path().to_owned();
    let finished = tokio::task::spawn_blocking(move || recover::finish(&path)).await;
    finished.unwrap_or(Err(RecoverError::Cut))?;
    recover::refuse_beside_a_majority(data_dir.path(), flag).await?;
    let path = data_dir.path().to_owned();
    let recovered = tokio::task::spawn_blocking(move || recover::at_start(&path, flag)).await;
    if let Some(done) = recovered.unwrap_or(Err(RecoverError::Cut))? {
        tracing::warn!("this node is a cluster of its own now: {done}");
    }
    Ok(())
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

/// What this node shows and whom it trusts.
fn open_keyring(
    data_dir: &DataDir,
    identity: &NodeIdentity,
    reached_on: &[Host],
    api_port: u16,
    reader: &Reader,
) -> Result<Keyring, ServerError> {
    let NodeIdentity { cluster_id, member_id, node_name, formed, .. } = identity;
    let host = reached_on.first().map_or_else(|| "localhost".to_owned(), Host::in_url);
    let opening = Opening {
        data_dir: data_dir.path(),
        cluster_id,
        who: Who::new(identity.cluster_number(), member_id.0, node_name, reached_on),
        formed: *formed,
        joined: identity.is_joiner(),
        server: format!("https://{host}:{api_port}"),
    };
    let keyring = Keyring::open(opening, keyring::ca_record(reader)?.as_ref(), OffsetDateTime::now_utc())?;
    tracing::info!("kubeconfig of the administrator is {}", keyring.kubeconfig().display());
    Ok(keyring)
}

/// What the rest of the node may ask its cluster for.
fn handle(
    config: &Config,
    data_dir: &DataDir,
    identity: &NodeIdentity,
    member: &Member,
    keyring: Arc<Keyring>,
) -> ClusterHandle {
    ClusterHandle {
        records: Records::new(member.raft().clone(), member.reader().clone()),
        reception: Arc::new(Reception::new(identity.cluster_id.clone(), keyring.clone())),
        keyring,
        alarms: Alarms::default(),
        links: member.links(),
        cluster_id: identity.cluster_id.clone(),
        member: identity.member_id,
        node_name: identity.node_name.clone(),
        restart: Restart::default(),
        settings: Settings {
            tick: config.heartbeat_interval,
            replace_after: config.replace_lost_voters_after,
            removed: identity.removed,
            data_dir: data_dir.path().to_owned(),
        },
    }
}

/// The authority and the objects that every cluster has.
async fn first_objects(
    cluster: &ClusterHandle,
    registry: &Registry,
    objects: Vec<AnyResource>,
) -> Result<(), ServerError> {
    let author = || author::node(&cluster.node_name, "a new cluster");
    cluster.keyring.establish(&cluster.records, author).await?;
    Ok(bootstrap::ensure(registry, &cluster.node_name, objects).await?)
}

/// The same where others may have to come first.
async fn first_objects_in_time(cluster: ClusterHandle, registry: Registry, objects: Vec<AnyResource>) {
    if cluster.settings.removed {
        return;
    }
    while let Err(error) = first_objects(&cluster, &registry, objects.clone()).await {
        tracing::debug!("{error}; trying again");
        tokio::time::sleep(FIRST_OBJECTS_PAUSE).await;
    }
}
