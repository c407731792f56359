//! Reconciler: the loop that keeps the kernel at what the store says.
//!
//! ```text
//!   syncer ──► Input ──┐                                        ┌──► kernel (Enforcer)
//!   links  ──────────► ├─► calc ─► flush ─► render ─► program ──┼──► report
//!   kernel ──► Event ──┤     (what waits is taken in first)     └──► last ruleset on disk
//!   clock  ────────────┘
//! ```
//!
//! One place waits, on the closed list of `Wake`; what else has arrived is taken in before anything is computed, so a
//! burst costs one flush. Nothing new reaches the kernel before the store is in sync and the interfaces are known: until
//! then yesterday's ruleset stays in force, and is put back from disk when others change it. A change that fails stays wanted and is tried again, later each time. When
//! the loop ends, the policy stays.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, error, info, warn};

use crate::calc::{Calc, Desired, Structure, Update};
use crate::enforcer::{Enforcer, Intruder};
use crate::error::StartError;
use crate::interfaces::{Interfaces, Monitor};
use crate::intrusion::{FIGHT_MAX, Intrusion};
use crate::nft::plan::Begin;
use crate::nft::{Event, Kernel, Nft, NftError, Ruleset, probe, shield};
use crate::offenders;
use crate::render::{Marks, Protected, RenderOptions, refresh, render};
use crate::report::{Report, Reporter};
use crate::saved::Saved;

/// Inputs taken in before a flush; more wait for the next, so that a stream without end can not keep policy waiting.
const COALESCE_MAX: usize = 10_000;
/// The generation is compared this often: microseconds each, and the bound on how long a change that was not announced
/// goes unnoticed.
const GENERATION_INTERVAL: Duration = Duration::from_secs(1);
/// The whole table is compared this often unless the operator says otherwise (Calico's refresh interval).
const AUDIT_INTERVAL: Duration = Duration::from_secs(180);
/// The first retry after a failure; each further one waits twice as long.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest wait between retries: an operator who repaired the host should not wait longer.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// The last ruleset is written this long after it changed: a stream of changes costs one write, and what a crash in
/// between loses is the difference to a slightly older policy at the next boot.
const SAVE_DELAY: Duration = Duration::from_secs(2);
/// Work begun before the stop may end: a transaction takes milliseconds, one of 50,000 rules 3 seconds, and an nft that
/// hangs is abandoned, which leaves the policy as it was.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the syncer sends.
#[derive(Clone, Debug)]
pub enum Input {
    /// Everything that changed up to `revision`.
    Updates {
        /// The store's revision after them.
        revision: u64,
        /// Resources as they are now.
        updates: Vec<Update>,
    },
    /// Every resource of the store has been sent once.
    InSync {
        /// The revision the store was at.
        revision: u64,
    },
}

/// What the reconciler must be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's name, compared exactly with `spec.node`.
    pub node: String,
    /// The name of our table.
    pub table: String,
    /// The nft program: a path, or a name to be searched for.
    pub nft: PathBuf,
    /// Where the last enforced ruleset is kept; nowhere if none.
    pub state_dir: Option<PathBuf>,
    /// What policy can never close; followed while running, since members of a cluster come, go and move.
    pub protected: watch::Receiver<Protected>,
    /// The bits of the packet mark we may use.
    pub marks: Marks,
    /// How often the whole table is compared.
    pub audit_interval: Duration,
}

impl Options {
    /// The defaults for the node called `node`.
    pub fn new(node: &str) -> Options {
        let render = RenderOptions::default();
        Options {
            node: node.to_owned(),
            table: render.table,
            nft: PathBuf::from("nft"),
            state_dir: None,
            protected: watch::channel(render.protected).1,
            marks: render.marks,
            audit_interval: AUDIT_INTERVAL,
        }
    }
}

/// The loop.
pub struct Reconciler;

impl Reconciler {
    /// Enforces what `inputs` bring until `shutdown` or until their sender is gone, in the network namespace of the
    /// calling thread. Fails only before anything was changed; later failures are reported and retried.
    pub async fn run(
        options: Options,
        inputs: mpsc::Receiver<Input>,
        report: watch::Sender<Report>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), StartError> {
        let version = probe(&options.nft)?;
        info!("enforcing in table inet {} with nft {version}", options.table);
        let mut monitor = Monitor::open().map_err(StartError::Interfaces)?;
        let first = monitor.scan().map_err(StartError::Interfaces)?;
        let (links_sender, links) = watch::channel(Some(first));
        let kernel = Kernel::open(&options.nft, &options.table);
        let enforcing = Loop::new(options, kernel, report).run(inputs, links, shutdown);
        tokio::select! {
            () = enforcing => {}
            () = follow(monitor, links_sender) => {}
        }
        Ok(())
    }

    /// Keeps in force what was enforced last, as long as it is polled: puts back from disk what others change, and follows
    /// nothing. For a node that does not know yet who it is, or whose store is not open.
    pub async fn hold(options: Options) {
        let kernel = Kernel::open(&options.nft, &options.table);
        // Neither of these senders ever sends.
        let (_inputs, incoming) = mpsc::channel(1);
        let (_links, links) = watch::channel(None);
        let (report, _) = watch::channel(Report::default());
        Loop::new(options, kernel, report).run(incoming, links, std::future::pending()).await;
    }
}

/// Scans again whenever something changed. A scan that fails is repeated; until then the last one stands.
async fn follow(mut monitor: Monitor, links: watch::Sender<Option<Interfaces>>) {
    loop {
        let scanned = match monitor.changed().await {
            Ok(()) => monitor.scan(),
            Err(error) => Err(error),
        };
        match scanned {
            Ok(scan) => {
                links.send_if_modified(|known| {
                    let news = known.as_ref() != Some(&scan);
                    if news {
                        *known = Some(scan);
                    }
                    news
                });
            }
            Err(error) => {
                warn!("interfaces can not be listed by netlink: {error}");
                tokio::time::sleep(RETRY_FIRST).await;
            }
        }
    }
}

/// The closed list of what can wake the loop.
enum Wake {
    Input(Input),
    Links,
    Protected,
    Kernel(Vec<Event>),
    Generation,
    Audit,
    Retry,
    Save,
}

/// Whether what is wanted is in force.
enum State {
    /// Nothing is wanted yet: the store or the interfaces are not known.
    Waiting,
    /// It is in force.
    Settled,
    /// It could not be put in force `failures` times in a row; next try at `at`.
    Retrying { failures: u32, at: Instant },
}

/// What is to be in force.
struct Wanted {
    desired: Desired,
    /// The structure `ruleset` was rendered from, with the denied endpoints denied.
    rendered: Arc<Structure>,
    ruleset: Ruleset,
    /// Endpoints whose policy the kernel refused, and why.
    denied: BTreeMap<String, String>,
}

/// The loop over one nf_tables.
pub(crate) struct Loop<N> {
    calc: Calc,
    render: RenderOptions,
    protected: watch::Receiver<Protected>,
    enforcer: Enforcer<N>,
    reporter: Reporter,
    saved: Option<Saved>,
    audit_interval: Duration,
    /// The newest revision calc has taken in.
    revision: u64,
    wanted: Option<Wanted>,
    state: State,
    save_at: Option<Instant>,
    /// When to compare the table once more, because others were at it during our own change.
    look_at: Option<Instant>,
    intrusion: Intrusion,
    /// Whether what stood when this began was compared with what is on disk.
    looked: bool,
}

impl<N: Nft> Loop<N> {
    pub(crate) fn new(options: Options, nft: N, report: watch::Sender<Report>) -> Loop<N> {
        let protected = options.protected.borrow().clone();
        Loop {
            calc: Calc::new(&options.node),
            enforcer: Enforcer::new(nft, &options.table),
            render: RenderOptions { table: options.table, marks: options.marks, protected },
            protected: options.protected,
            reporter: Reporter::new(report),
            saved: options.state_dir.as_deref().map(Path::new).map(Saved::new),
            audit_interval: options.audit_interval,
            revision: 0,
            wanted: None,
            state: State::Waiting,
            save_at: None,
            look_at: None,
            intrusion: Intrusion::default(),
            looked: false,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut links: watch::Receiver<Option<Interfaces>>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let shutdown = shutdown.shared();
        let mut generation = every(GENERATION_INTERVAL);
        let mut audit = every(self.audit_interval);
        self.on_links(&mut links);
        self.hold().await;
        loop {
            let (retry_at, save_at, look_at) = (self.retry_at(), self.save_at, self.look_at);
            let wake = tokio::select! {
                () = shutdown.clone() => break,
                input = inputs.recv() => if let Some(input) = input { Wake::Input(input) } else { break },
                changed = links.changed() => if changed.is_ok() { Wake::Links } else { break },
                () = changed(&mut self.protected) => Wake::Protected,
                events = self.enforcer.events() => Wake::Kernel(events),
                () = at(retry_at) => Wake::Retry,
                () = at(save_at) => Wake::Save,
                () = at(look_at) => Wake::Audit,
                _ = generation.tick() => Wake::Generation,
                _ = audit.tick() => Wake::Audit,
            };
            tokio::select! {
                () = self.on_wake(wake, &mut inputs, &mut links) => {}
                () = late(shutdown.clone()) => {
                    warn!("stopped in the middle of a change; the policy stays in force");
                    return;
                }
            }
        }
        if self.save_at.is_some() {
            self.save().await;
        }
        info!("stopped; the policy stays in force");
    }

    async fn on_wake(
        &mut self,
        wake: Wake,
        inputs: &mut mpsc::Receiver<Input>,
        links: &mut watch::Receiver<Option<Interfaces>>,
    ) {
        match wake {
            Wake::Input(input) => {
                self.on_input(input);
                for _ in 0..COALESCE_MAX {
                    let Ok(input) = inputs.try_recv() else { break };
                    self.on_input(input);
                }
            }
            Wake::Links => self.on_links(links),
            Wake::Protected => self.on_protected().await,
            Wake::Kernel(events) => {
                let intruder = self.enforcer.intruder(&events);
                self.on_intruder(intruder).await;
            }
            Wake::Generation => {
                let intruder = self.enforcer.missed();
                self.on_intruder(intruder).await;
            }
            Wake::Audit => self.audit().await,
            Wake::Retry => self.program().await,
            Wake::Save => self.save().await,
        }
        self.settle().await;
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Updates { revision, updates } => {
                updates.into_iter().for_each(|update| self.calc.on_update(update));
                self.revision = self.revision.max(revision);
            }
            Input::InSync { revision } => {
                self.calc.on_in_sync();
                self.revision = self.revision.max(revision);
            }
        }
    }

    fn on_links(&mut self, links: &mut watch::Receiver<Option<Interfaces>>) {
        if let Some(interfaces) = &*links.borrow_and_update() {
            self.calc.on_interfaces(interfaces);
        }
    }

    /// Members of the cluster came, went or moved. The same policy, with other doors that it can not close.
    async fn on_protected(&mut self) {
        let protected = self.protected.borrow_and_update().clone();
        if protected == self.render.protected {
            return;
        }
        info!("policy closes neither ports {:?} nor the way to {:?}", protected.inbound, protected.outbound);
        self.render.protected = protected;
        let Some(wanted) = &mut self.wanted else { return };
        let desired = Desired { structure: Arc::clone(&wanted.rendered), ..wanted.desired.clone() };
        wanted.ruleset = render(&desired, &self.render);
        self.announce().await;
        self.program().await;
    }

    /// Brings everything that depends on calc up to date with it.
    async fn settle(&mut self) {
        if let Some(desired) = self.calc.flush() {
            desired.notices.iter().for_each(|notice| warn!("{notice}"));
            self.want(desired);
            self.announce().await;
            self.program().await;
        } else if matches!(self.state, State::Settled) && self.reporter.revision() != self.revision {
            // Revisions that change nothing here are enforced as well.
            self.report_enforcing();
        }
    }

    fn want(&mut self, desired: Desired) {
        let same_rules = |wanted: &Wanted| Arc::ptr_eq(&wanted.desired.structure, &desired.structure);
        match &mut self.wanted {
            Some(wanted) if same_rules(wanted) => {
                let rendered = Desired { structure: Arc::clone(&wanted.rendered), ..desired.clone() };
                refresh(&mut wanted.ruleset, &rendered);
                wanted.desired = desired;
            }
            // Another structure may have mended what the kernel refused, so everyone gets another chance.
            _ => {
                let ruleset = render(&desired, &self.render);
                let rendered = Arc::clone(&desired.structure);
                self.wanted = Some(Wanted { desired, rendered, ruleset, denied: BTreeMap::new() });
            }
        }
    }

    /// Puts what is wanted in force, if anything is.
    async fn program(&mut self) {
        let Some(wanted) = &mut self.wanted else { return };
        let shielded = self.intrusion.is_pending() && shield::worthwhile(&wanted.ruleset);
        let begin = if shielded { Begin::Shielded } else { Begin::Whole };
        let mut outcome = self.enforcer.program(&wanted.ruleset, begin).await;
        if let Err(NftError::Refused(reason)) = &outcome {
            warn!("the kernel refuses the ruleset, looking for the endpoint that is to blame: {reason}");
            let search = offenders::deny(&mut self.enforcer, &wanted.desired, &self.render);
            if let Some(found) = search.await {
                for (name, reason) in &found.denied {
                    error!("denying everything but failsafes on host endpoint {name}: {reason}");
                }
                *wanted = Wanted {
                    rendered: found.structure,
                    ruleset: found.ruleset,
                    denied: found.denied,
                    desired: wanted.desired.clone(),
                };
                outcome = self.enforcer.program(&wanted.ruleset, begin).await;
            }
        }
        let met = self.enforcer.met();
        if !met.is_empty() {
            let announced = self.enforcer.drain();
            if let Some(intruder) = self.enforcer.intruder(&announced) {
                // What they did after our last step is not repaired by it.
                self.look_at = Some(Instant::now() + RETRY_FIRST);
                self.intrusion.suspect(intruder);
            }
            self.intrusion.found(met);
        }
        match outcome {
            Ok(()) => self.on_programmed(),
            Err(error) => self.on_failed(&error),
        }
    }

    fn on_programmed(&mut self) {
        debug!("revision {} is in force", self.revision);
        self.state = State::Settled;
        let due = |(saved, wanted): (&Saved, &Wanted)| saved.is_due(&wanted.ruleset);
        if self.saved.as_ref().zip(self.wanted.as_ref()).is_some_and(due) && self.save_at.is_none() {
            self.save_at = Some(Instant::now() + SAVE_DELAY);
        }
        self.report_enforcing();
        if let Some(change) = self.intrusion.repaired() {
            info!("put back: {change}");
            self.reporter.repaired(now(), &change);
        }
    }

    fn on_failed(&mut self, error: &NftError) {
        let failures = match self.state {
            State::Retrying { failures, .. } => failures.saturating_add(1),
            State::Waiting | State::Settled => 1,
        };
        // Whoever keeps changing the table is met as in any fight; a host that can not enforce gets more rest.
        let longest = if matches!(error, NftError::Stale(_)) { FIGHT_MAX } else { RETRY_MAX };
        let wait = RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(longest);
        warn!("revision {} is not in force, next try in {wait:?}: {error}", self.revision);
        self.state = State::Retrying { failures, at: Instant::now() + wait };
        self.reporter.failed(error.to_string());
    }

    fn retry_at(&self) -> Option<Instant> {
        match self.state {
            State::Retrying { at, .. } => Some(at),
            State::Waiting | State::Settled => None,
        }
    }

    fn report_enforcing(&mut self) {
        if let Some(wanted) = &self.wanted {
            self.reporter.enforcing(self.revision, &wanted.desired.report, &wanted.denied);
        }
    }

    /// Someone touched our table, if anyone did.
    async fn on_intruder(&mut self, intruder: Option<Intruder>) {
        let Some(intruder) = intruder else { return };
        self.intrusion.suspect(intruder);
        tokio::time::sleep(self.intrusion.pause()).await;
        let meanwhile = self.enforcer.drain();
        if let Some(intruder) = self.enforcer.intruder(&meanwhile) {
            self.intrusion.suspect(intruder);
        }
        self.audit().await;
    }

    /// Before the kernel is changed: a start after a crash must be able to tell an older store from a newer one, and what
    /// others did to the table from what we did and had not saved.
    async fn announce(&mut self) {
        let Some(saved) = &mut self.saved else { return };
        if let Err(error) = saved.announce(self.revision).await {
            warn!("the revision to be enforced can not be written down: {error}");
        }
    }

    /// Compares the table with the shadow and puts right what differs.
    async fn audit(&mut self) {
        self.look_at = None;
        if self.wanted.is_none() {
            return self.hold().await;
        }
        match self.enforcer.audit().await {
            Ok(drift) => {
                let news = !drift.is_empty();
                if self.intrusion.found(drift) && news {
                    warn!("our table was changed, putting it back: {}", self.intrusion.words());
                    self.program().await;
                }
            }
            Err(error) => self.on_failed(&error),
        }
    }

    async fn save(&mut self) {
        self.save_at = None;
        let (Some(saved), Some(wanted)) = (&mut self.saved, &self.wanted) else { return };
        if matches!(self.state, State::Settled)
            && saved.is_due(&wanted.ruleset)
            && let Err(error) = saved.write(&wanted.ruleset).await
        {
            warn!("the last ruleset can not be kept for the next boot: {error}");
        }
    }
}

/// A timer whose first tick comes after one period, and which does not catch up on ticks it missed.
fn every(period: Duration) -> Interval {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer.reset();
    timer
}

/// Waits until the stop, and a while longer.
async fn late(stop: impl Future<Output = ()>) {
    stop.await;
    tokio::time::sleep(STOP_GRACE).await;
}

/// Waits for another value; for ever, once nobody is left to send one.
async fn changed<T>(values: &mut watch::Receiver<T>) {
    if values.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until `instant`; for ever, if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The time of day, for the report.
fn now() -> String {
    #[expect(clippy::disallowed_methods, reason = "the reconciler stamps its report")]
    let now = time::OffsetDateTime::now_utc();
    let whole_seconds = now.replace_nanosecond(0).unwrap_or(now);
    whole_seconds.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

mod holding;
#[cfg(test)]
mod tests;
