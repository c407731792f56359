//! The whole reconciler against the kernel: enforce, notice, put back, restart, follow the interfaces.

#![expect(
    clippy::disallowed_methods,
    reason = "the promise that a foreign flush is undone within a second needs a clock"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use appliance_dataplane::nft::{Expr, Kernel, Nft, Operation, Rule, Transaction};
use appliance_dataplane::{Input, Options, Reconciler, Report, Update};
use appliance_resources::{EndpointState, EnforcementState, manifest, set_defaults};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::listing::{listing, listing_without_handles};
use crate::netns::{NFT, Namespace, eventually, inside};
use crate::rulesets::TABLE;

/// Two endpoints and a policy, as an operator would write them.
pub(crate) const POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: named, labels: {role: web}}
spec: {node: here, interfaceName: veth0}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: by-address}
spec: {node: here, expectedIPs: [10.77.0.1]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: clients, labels: {who: client}}
spec: {nets: [192.0.2.0/24, 198.51.100.7/32, '2001:db8::/32']}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  selector: role == 'web'
  order: 10
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: who == 'client'}, destination: {ports: [80, 443]}}
  egress:
  - {action: Allow}
";

pub(crate) fn updates(yaml: &str) -> Vec<Update> {
    let documents = manifest::read(yaml, "test").expect("a manifest");
    let defaulted = documents.into_iter().map(|document| {
        let mut resource = document.resource;
        set_defaults(&mut resource);
        Update::Set(Box::new(resource))
    });
    defaulted.collect()
}

/// A reconciler at work.
pub(crate) struct Running {
    inputs: mpsc::Sender<Input>,
    pub(crate) report: watch::Receiver<Report>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(state: Option<&Path>) -> Running {
        Running::with(Options { state_dir: state.map(Path::to_owned), ..Options::new("here") })
    }

    pub(crate) fn with(options: Options) -> Running {
        let (inputs, receiver) = mpsc::channel(16);
        let (sender, report) = watch::channel(Report::default());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(async move {
            Reconciler::run(options, receiver, sender, shutdown).await.expect("start");
        });
        Running { inputs, report, stop, task }
    }

    pub(crate) async fn send(&self, revision: u64, yaml: &str) {
        self.inputs.send(Input::Updates { revision, updates: updates(yaml) }).await.expect("running");
    }

    /// Everything of `yaml`, and that it is everything.
    pub(crate) async fn enforcing(yaml: &str, state: Option<&Path>) -> Running {
        let mut running = Running::start(state);
        running.begin(yaml).await;
        running
    }

    pub(crate) async fn begin(&mut self, yaml: &str) {
        self.send(1, yaml).await;
        self.inputs.send(Input::InSync { revision: 1 }).await.expect("running");
        self.reported(|report| report.state == EnforcementState::Enforcing && report.revision == 1).await;
    }

    pub(crate) async fn reported(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        let report = self.report.clone();
        eventually(async || {
            let report = report.borrow().clone();
            if wanted(&report) { Ok(()) } else { Err(report) }
        })
        .await;
        self.report.borrow_and_update().clone()
    }

    fn state_of(report: &Report, name: &str) -> Option<(EndpointState, Vec<String>)> {
        let endpoint = report.endpoints.iter().find(|endpoint| endpoint.name == name)?;
        Some((endpoint.state, endpoint.interfaces.clone()))
    }

    pub(crate) async fn stopped(self) {
        self.stop.send(()).expect("running");
        self.task.await.expect("it ends by itself");
    }

    /// As SIGKILL would: nothing of it runs any more.
    pub(crate) async fn killed(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) fn veth(namespace: &Namespace) {
    namespace.run("ip link add veth0 type veth peer name veth1");
    namespace.run("ip link set veth0 up");
    namespace.run("ip link set veth1 up");
}

pub(crate) fn block_on(runtime: &tokio::runtime::Runtime, test: impl Future<Output = ()>) {
    runtime.block_on(test);
}

#[test]
fn a_policy_is_enforced_reported_and_survives_the_end() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let state = tempfile::tempdir().unwrap();
            let mut running = Running::enforcing(POLICY, Some(state.path())).await;
            let report = running.reported(|_| true).await;
            assert_eq!(
                Running::state_of(&report, "named"),
                Some((EndpointState::Up, vec!["veth0".to_owned()]))
            );
            assert_eq!(Running::state_of(&report, "by-address"), Some((EndpointState::Error, vec![])));
            let before = listing(namespace);
            assert!(before.contains("192.0.2.0/24") && before.contains("goto"), "{before}");
            running.stopped().await;
            assert_eq!(listing(namespace), before, "stopping leaves the policy in force");

            // What is on disk loads on a fresh host, and a start after that finds nothing to do.
            let saved = state.path().join(appliance_dataplane::saved::FILE);
            namespace.nft(&format!("delete table inet {TABLE}"));
            namespace.run(&format!("nft -f {}", saved.display()));
            let loaded = listing(namespace);
            Running::enforcing(POLICY, None).await.killed().await;
            assert_eq!(listing(namespace), loaded, "the same rules by handle");
        });
    });
}

#[test]
fn a_restart_adopts_what_is_in_the_kernel() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            Running::enforcing(POLICY, None).await.killed().await;
            let before = listing(namespace);
            let again = Running::enforcing(POLICY, None).await;
            assert_eq!(listing(namespace), before, "no rule has another handle");
            again.killed().await;
        });
    });
}

#[test]
fn nothing_reaches_the_kernel_before_in_sync() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            Running::enforcing(POLICY, None).await.killed().await;
            let yesterday = listing(namespace);
            let mut running = Running::start(None);
            running
                .send(
                    7,
                    "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t}, spec: {order: 1}}",
                )
                .await;
            // The answer to a further input shows that the first was taken in.
            let report = running.reported(|report| !report.message.is_empty()).await;
            assert_eq!(report.state, EnforcementState::WaitingForSync);
            assert_eq!(listing(namespace), yesterday);
            running.inputs.send(Input::InSync { revision: 7 }).await.unwrap();
            running.reported(|report| report.revision == 7).await;
            assert_ne!(
                listing(namespace),
                yesterday,
                "now the store's word counts: there is no endpoint any more"
            );
            running.killed().await;
        });
    });
}

#[test]
fn a_foreign_flush_is_undone_within_a_second() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let mut running = Running::enforcing(POLICY, None).await;
            let wanted = listing_without_handles(namespace);
            for round in 1..=3 {
                let flushed = Instant::now();
                namespace.nft("flush ruleset");
                let report = running.reported(|report| report.drift.repairs == round).await;
                let elapsed = flushed.elapsed();
                // A promise to operators, so the one place where a test looks at the clock.
                assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
                assert_eq!(listing_without_handles(namespace), wanted);
                let change = &report.drift.last_change;
                assert!(change.contains("the table was deleted") && change.contains("nft (pid"), "{change}");
                assert!(report.drift.last_repair.is_some());
            }
            running.killed().await;
        });
    });
}

/// Enough members that the shield goes first.
#[test]
fn a_large_ruleset_is_shielded_and_restored() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let many: Vec<String> =
                (0..20_000u32).map(|at| format!("10.{}.{}.0/25", at / 256, at % 256)).collect();
            let policy = POLICY.replace("192.0.2.0/24,", &format!("{},", many.join(", ")));
            let mut running = Running::enforcing(&policy, None).await;
            // The shield makes some objects before others, and nft lists them in the order they were made.
            let sorted = || {
                let mut lines: Vec<String> =
                    listing_without_handles(namespace).lines().map(str::to_owned).collect();
                lines.sort_unstable();
                lines
            };
            let wanted = sorted();
            let flushed = Instant::now();
            namespace.nft("flush ruleset");
            // Until the shield stands there is a gap; afterwards, and until the set is back, its traffic is denied.
            eventually(async || {
                let chains = namespace.nft("list chains");
                if chains.contains("hook input") { Ok(()) } else { Err(chains) }
            })
            .await;
            assert!(flushed.elapsed() < Duration::from_secs(1), "{:?}", flushed.elapsed());
            running.reported(|report| report.drift.repairs == 1).await;
            assert!(sorted() == wanted, "{}", listing_without_handles(namespace));
            running.killed().await;
        });
    });
}

#[test]
fn whatever_others_change_is_put_back() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let mut running = Running::enforcing(POLICY, None).await;
            let shape = || listing_without_handles(namespace);
            let wanted = shape();
            let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
            let known = kernel.list().await.unwrap();
            let chain = known.chains.iter().find(|(_, chain)| !chain.rules.is_empty()).unwrap().0.clone();
            let set =
                known.sets.keys().find(|name| wanted.contains(&format!("set {name} {{"))).unwrap().clone();
            let changes = [
                format!("add rule inet {TABLE} {chain} accept"),
                format!("insert rule inet {TABLE} {chain} accept"),
                format!("flush chain inet {TABLE} {chain}"),
                format!("flush set inet {TABLE} {set}"),
                format!(
                    "add chain inet {TABLE} stranger {{ type filter hook input priority 5; policy drop; }}"
                ),
                format!("add set inet {TABLE} stranger {{ type mark; }}"),
                format!("add counter inet {TABLE} stranger"),
                format!("delete table inet {TABLE}"),
            ];
            for (round, change) in (1..).zip(changes) {
                namespace.nft(&change);
                let report = running.reported(|report| report.drift.repairs == round).await;
                assert_eq!(shape(), wanted, "after {change}: {}", report.drift.last_change);
            }
            // A table put back from an edited dump: every comment is ours, and the rules are not.
            let dump = shape().replacen("drop", "accept", 1);
            assert_ne!(dump, wanted);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), format!("flush ruleset\n{dump}")).unwrap();
            namespace.run(&format!("nft -f {}", file.path().display()));
            eventually(async || if shape() == wanted { Ok(()) } else { Err(shape()) }).await;
            // Other tables are other people's.
            namespace.nft("add table ip other");
            assert!(namespace.nft("list tables").contains("other"));
            running.killed().await;
        });
    });
}

#[test]
fn endpoints_follow_interfaces_and_addresses() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            let mut running = Running::enforcing(POLICY, None).await;
            let mut state =
                async |name: &'static str, wanted: EndpointState, interfaces: &'static [&'static str]| {
                    let is = |report: &Report| {
                        Running::state_of(report, name)
                            .is_some_and(|(state, on)| state == wanted && on == interfaces)
                    };
                    running.reported(is).await;
                };
            state("named", EndpointState::Error, &[]).await;
            veth(namespace);
            state("named", EndpointState::Up, &["veth0"]).await;
            namespace.run("ip link set veth1 down");
            state("named", EndpointState::Down, &["veth0"]).await;
            namespace.run("ip addr add 10.77.0.1/24 dev veth1");
            state("by-address", EndpointState::Down, &["veth1"]).await;
            assert!(listing(namespace).contains("\"veth1\" :"), "policed by address");
            namespace.run("ip addr del 10.77.0.1/24 dev veth1");
            namespace.run("ip link add d0 type veth peer name d1");
            namespace.run("ip link set d1 up");
            namespace.run("ip link set d0 up");
            namespace.run("ip addr add 10.77.0.1/24 dev d0");
            state("by-address", EndpointState::Up, &["d0"]).await;
            let moved = listing(namespace);
            assert!(moved.contains("\"d0\" :") && !moved.contains("\"veth1\" :"), "{moved}");
            namespace.run("ip link del veth0");
            state("named", EndpointState::Error, &[]).await;
            running.killed().await;
        });
    });
}

#[test]
fn one_member_is_one_element() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let mut running = Running::enforcing(POLICY, None).await;
            let handles = listing(namespace);
            let more = POLICY.replace("192.0.2.0/24,", "192.0.2.0/24, 203.0.113.0/24,");
            running.send(2, &more).await;
            running.reported(|report| report.revision == 2).await;
            let after = listing(namespace);
            assert!(after.contains("203.0.113.0/24"));
            let rules = |text: &str| {
                text.lines().filter(|line| line.contains("comment")).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(rules(&after), rules(&handles), "no rule was touched");
            running.killed().await;
        });
    });
}

#[test]
fn a_table_of_another_make_under_our_name_is_replaced() {
    inside(|namespace, runtime| {
        block_on(runtime, async {
            veth(namespace);
            let mut kernel = Kernel::open(NFT.as_ref(), TABLE);
            let mut transaction = Transaction::new(TABLE);
            transaction.operations.push(Operation::AddTable);
            transaction.operations.push(Operation::AddChain { name: "input".into(), hook: None });
            let rule = Rule::new("", vec![Expr::drop()]);
            transaction.operations.push(Operation::AddRule { chain: "input".into(), rule });
            kernel.run(&transaction).await.unwrap();
            namespace.nft(&format!("add map inet {TABLE} leftovers {{ type ipv4_addr : mark; }}"));
            let running = Running::enforcing(POLICY, None).await;
            assert!(!listing(namespace).contains("leftovers"));
            running.killed().await;
        });
    });
}
