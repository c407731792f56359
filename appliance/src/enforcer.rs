//! Enforcer: the syncer, the reconciler and the status writer, as one thing that starts, ends and stops.
//!
//! ```text
//!   store ──► syncer ──inputs──► reconciler ──report──► status writer ──► store
//!                └────────────────refusals──────────────────┘
//! ```
//!
//! With enforcement off there is only the status writer, which says so. Nothing about policy is decided here: the
//! dataplane is told what it may never close and where it keeps its files, and that is all.

use std::path::Path;

use appliance_dataplane::saved::{self, PutBack};
use appliance_dataplane::{Options, ProbeError, Protected, Reconciler, StartError, probe};
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

/// The last enforced ruleset, in the data directory; loaded at boot by `appliance-firewall.service`.
pub(crate) const STATE_DIRECTORY: &str = "dataplane";

/// Why a node can not enforce, or no longer does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnforcerError {
    #[error("this host can not be policed: {0}; or run store and API alone with --no-enforce")]
    Probe(#[from] ProbeError),
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

    /// Puts the policy that was enforced last back in force, if the kernel has none of ours: the first thing a start
    /// does, for everything after it may wait for the network, for other members, or for a store that heals.
    pub(crate) async fn put_back(config: &Config, data_dir: &Path) {
        if !config.enforce {
            return;
        }
        let table = Options::new("").table;
        match saved::put_back(&config.nft, &data_dir.join(STATE_DIRECTORY), &table).await {
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
