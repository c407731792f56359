//! Enforcer: the syncer, the reconciler and the status writer, as one thing that starts, ends and stops.
//!
//! ```text
//!   store ──► syncer ──inputs──► reconciler ──report──► status writer ──► store
//!                └────────────────refusals──────────────────┘
//! ```
//!
//! With enforcement off there is only the status writer, which says so. Nothing about policy is decided here: the
//! dataplane is told what it may never close and where it keeps its files, and that is all.

use std::path::PathBuf;

use appliance_dataplane::nft::command::CommandError;
use appliance_dataplane::saved::{self, PutBack};
use appliance_dataplane::{Options, ProbeError, Protected, Reconciler, StartError, probe, standing};
use appliance_resources::{EnforcementState, NodeReportStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};

use crate::api::registry::Registry;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::shutdown::{self, Trigger};
use crate::status_writer::{Refusals, StatusWriter};
use crate::syncer::{Begins, SyncError, Syncer};

/// Messages between syncer and reconciler. Each is a batch already; a reconciler this far behind takes in what waits
/// before it computes anything, so more would only be memory.
const INPUTS_MAX: usize = 64;

/// Endpoints that a refusal names; a host may have thousands.
const NAMED_MAX: usize = 8;

/// The last enforced rulesets, in the data directory; loaded at boot by `appliance-firewall.service`.
pub(crate) const STATE_DIRECTORY: &str = "dataplane";

/// Why a node can not enforce, or no longer does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnforcerError {
    #[error("this host can not be policed: {0}; or run store and API alone with --no-enforce")]
    Probe(#[from] ProbeError),
    #[error(
        "a new cluster would begin here, and table inet {table} polices this host already (host endpoints {endpoints}): a \
         cluster that knows nothing of them would open it. To join the cluster that wrote them, start with --join and \
         --token, as \"appliance ctl token create\" prints them; to begin from a backup, \"appliance ctl snapshot \
         restore\"; to begin anew on purpose, remove {saved} and \"nft delete table inet {table}\"; or run store and API \
         alone with --no-enforce", saved = .saved.display()
    )]
    Standing { table: String, endpoints: String, saved: PathBuf },
    #[error("whether this host is policed already can not be found out: {0}")]
    Look(CommandError),
    #[error("enforcement did not start: {0}; the kernel keeps the policy it has")]
    Start(#[from] StartError),
    #[error("policy can not be read any longer: {0}; the kernel keeps the policy it has")]
    Sync(#[from] SyncError),
    #[error("{part} ended unexpectedly: {reason}; the kernel keeps the policy it has")]
    Ended { part: &'static str, reason: String },
}

/// Where a node enforces.
pub(crate) struct Place<'a> {
    /// Its settings.
    pub(crate) config: &'a Config,
    /// Its data directory.
    pub(crate) data_dir: &'a DataDir,
    /// Its name.
    pub(crate) node_name: &'a str,
    /// What policy can not close: a cluster must not be able to cut itself in two.
    pub(crate) protected: watch::Receiver<Protected>,
    /// There is no cluster any more whose state this node's could be behind.
    pub(crate) removed: bool,
}

/// Enforcement at work, or switched off, and the report of either.
pub(crate) struct Enforcer {
    work: Work,
    writer: JoinHandle<()>,
    report: watch::Receiver<NodeReportStatus>,
}

/// Nobody rules the table yet, and nobody else may.
pub(crate) struct Held(Option<JoinHandle<()>>);

impl Held {
    /// Ends it. A script that was on its way to the kernel gets there whole or not at all.
    pub(crate) async fn release(mut self) {
        if let Some(holding) = self.0.take() {
            holding.abort();
            let _ = holding.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(holding) = &self.0 {
            holding.abort();
        }
    }
}

enum Work {
    Off,
    On {
        trigger: Trigger,
        syncer: JoinHandle<Result<(), SyncError>>,
        reconciler: JoinHandle<Result<(), StartError>>,
    },
}

impl Enforcer {
    /// Whether this host can be policed, if it is to be; asked before anything is made.
    pub(crate) fn check(config: &Config) -> Result<(), EnforcerError> {
        if config.enforce {
            let version = probe(&config.nft)?;
            tracing::info!("nft is {version}");
        } else {
            tracing::warn!("enforcement is off (no-enforce): the kernel is not touched");
        }
        Ok(())
    }

    /// Puts the policy that was enforced last back in force, if the kernel has none of ours, or one that was emptied: the
    /// first thing a start does, for everything after it may fail, or wait for the network, for other members, or for a
    /// store that heals. Only reads, and before the directory is known to be ours alone: where a table of ours stands,
    /// another process may rule it.
    pub(crate) async fn put_back(config: &Config) {
        if !config.enforce {
            return;
        }
        let table = Options::new("").table;
        match saved::put_back(&config.nft, &config.data_dir.join(STATE_DIRECTORY), &table).await {
            Ok(PutBack::Stands) => {
                tracing::info!("the kernel has a policy of ours, which stands until the store is known")
            }
            Ok(PutBack::Done) => {
                tracing::info!("the kernel had no policy of ours; the last enforced one is in force again")
            }
            Ok(PutBack::Refilled) => {
                tracing::warn!(
                    "somebody emptied the table of our policy, or switched it off; the last enforced one is in force again"
                )
            }
            Ok(PutBack::NothingSaved) => tracing::info!("no policy was ever enforced here"),
            Err(error) => tracing::error!("the last enforced policy could not be put back in force: {error}"),
        }
    }

    /// Whether a new cluster may begin here: it knows nothing of what polices this host, and would take it away.
    pub(crate) async fn check_new(config: &Config) -> Result<(), EnforcerError> {
        if !config.enforce {
            return Ok(());
        }
        let table = Options::new("").table;
        let standing = standing::endpoints(&config.nft, &table).await.map_err(EnforcerError::Look)?;
        if standing.is_empty() {
            return Ok(());
        }
        let mut endpoints: Vec<String> = standing.into_iter().collect();
        if let Some(more) = endpoints.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            endpoints.truncate(NAMED_MAX);
            endpoints.push(format!("{more} more"));
        }
        let saved = config.data_dir.join(STATE_DIRECTORY);
        Err(EnforcerError::Standing { table, endpoints: endpoints.join(", "), saved })
    }

    /// Holds what was enforced last, from here until it is dropped: nothing new reaches the kernel, and what others change
    /// is put back from disk. For the time in which a node waits for others or for its store, which may be long.
    pub(crate) fn hold(config: &Config, data_dir: &DataDir) -> Held {
        let options = Options {
            nft: config.nft.clone(),
            state_dir: Some(data_dir.join(STATE_DIRECTORY)),
            ..Options::new("")
        };
        Held(config.enforce.then(|| tokio::spawn(Reconciler::hold(options))))
    }

    /// Starts what the settings ask for. Nothing new reaches the kernel before the store was read whole.
    pub(crate) fn start(place: &Place<'_>, registry: &Registry) -> Enforcer {
        let (report_sender, report) = watch::channel(NodeReportStatus::default());
        let (refusals_sender, refusals) = watch::channel(Refusals::new());
        let work = if place.config.enforce {
            work(place, registry, report_sender, refusals_sender)
        } else {
            report_sender.send_replace(switched_off());
            Work::Off
        };
        let writer =
            StatusWriter::new(registry.clone(), place.node_name.to_owned(), report.clone(), refusals);
        Enforcer { work, writer: tokio::spawn(writer.run()), report }
    }

    /// What is enforced, for the metrics.
    pub(crate) fn report(&self) -> watch::Receiver<NodeReportStatus> {
        self.report.clone()
    }

    /// Returns only when a part of it ended by itself.
    pub(crate) async fn ended(&mut self) -> EnforcerError {
        match &mut self.work {
            Work::Off => std::future::pending().await,
            Work::On { syncer, reconciler, .. } => tokio::select! {
                result = syncer => reason("the syncer", result),
                result = reconciler => reason("the reconciler", result),
            },
        }
    }

    /// Stops, last part first; the kernel keeps the policy it has.
    pub(crate) async fn stop(self) {
        self.writer.abort();
        if let Work::On { trigger, syncer, reconciler } = self.work {
            syncer.abort();
            trigger.fire();
            // One that ended by itself has been asked for its result already.
            if !reconciler.is_finished() {
                let _ = reconciler.await;
            }
        }
    }
}

fn work(
    place: &Place<'_>,
    registry: &Registry,
    report: watch::Sender<NodeReportStatus>,
    refusals: watch::Sender<Refusals>,
) -> Work {
    let (inputs, incoming) = mpsc::channel(INPUTS_MAX);
    let (trigger, mut told) = shutdown::channel();
    let options = Options {
        nft: place.config.nft.clone(),
        state_dir: Some(place.data_dir.join(STATE_DIRECTORY)),
        protected: place.protected.clone(),
        ..Options::new(place.node_name)
    };
    let stop = async move { told.requested().await };
    // Read before the reconciler writes another.
    let enforced = saved::revision(&place.data_dir.join(STATE_DIRECTORY));
    let begins = if place.removed { Begins::Alone { enforced } } else { Begins::Current { enforced } };
    let reconciler = tokio::spawn(Reconciler::run(options, incoming, report, stop));
    let syncer = Syncer::new(registry.raft().clone(), registry.reader().clone(), inputs, refusals, begins);
    Work::On { trigger, syncer: tokio::spawn(syncer.run()), reconciler }
}

fn switched_off() -> NodeReportStatus {
    NodeReportStatus {
        state: EnforcementState::Disabled,
        message: "started with --no-enforce: the kernel is not touched".to_owned(),
        ..NodeReportStatus::default()
    }
}

fn reason<E: Into<EnforcerError>>(
    part: &'static str,
    result: Result<Result<(), E>, JoinError>,
) -> EnforcerError {
    match result {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) => EnforcerError::Ended { part, reason: "its input ended".to_owned() },
        Err(panic) => EnforcerError::Ended { part, reason: panic.to_string() },
    }
}
