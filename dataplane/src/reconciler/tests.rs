//! The loop against a kernel in memory: what it does when the kernel refuses, fails, or is changed by others.

use std::sync::{Arc, Mutex, PoisonError};

use appliance_resources::{EndpointState, EnforcementState, manifest, set_defaults};
use tokio::sync::oneshot;

use super::*;
use crate::interfaces::Interface;
use crate::nft::actual::Actual;
use crate::nft::{Committed, FakeNft, Operation, Transaction};

/// The fake, shared with the test that plays the others.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<FakeNft>>);

impl Shared {
    fn with<T>(&self, ask: impl FnOnce(&mut FakeNft) -> T) -> T {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A future of the fake is ready at once, or never will be.
    fn now<T>(&self, ask: impl AsyncFnOnce(&mut FakeNft) -> T) -> T {
        use futures_util::FutureExt;
        self.with(|fake| ask(fake).now_or_never().expect("the fake does not wait"))
    }

    fn transactions(&self) -> usize {
        self.with(|fake| fake.log.len())
    }
}

impl Nft for Shared {
    async fn dormant(&mut self) -> Result<bool, NftError> {
        self.now(async |fake| fake.dormant().await)
    }

    async fn list(&mut self) -> Result<Actual, NftError> {
        self.now(async |fake| fake.list().await)
    }

    async fn run(&mut self, transaction: &Transaction) -> Result<Committed, NftError> {
        self.now(async |fake| fake.run(transaction).await)
    }

    async fn load(&mut self, script: String) -> Result<Committed, NftError> {
        self.now(async |fake| fake.load(script).await)
    }

    async fn check(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        self.now(async |fake| fake.check(transaction).await)
    }

    fn generation(&mut self) -> Result<Option<u32>, NftError> {
        self.with(FakeNft::generation)
    }

    fn handles(&mut self) -> Result<Option<BTreeMap<String, Vec<u64>>>, NftError> {
        self.with(FakeNft::handles)
    }

    async fn events(&mut self) -> Vec<Event> {
        loop {
            let events = self.drain();
            if !events.is_empty() {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn drain(&mut self) -> Vec<Event> {
        self.with(FakeNft::drain)
    }
}

const ENDPOINTS: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: good, labels: {role: good}}
spec: {node: here, interfaceName: eth0}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: bad, labels: {role: bad}}
spec: {node: here, interfaceName: eth1}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: fine}
spec: {selector: role == 'good', ingress: [{action: Allow}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: poisonous}
spec: {selector: role == 'bad', ingress: [{action: Allow}]}
";

fn updates(yaml: &str) -> Input {
    let documents = manifest::read(yaml, "test").unwrap();
    let defaulted = documents.into_iter().map(|document| {
        let mut resource = document.resource;
        set_defaults(&mut resource);
        Update::Set(Box::new(resource))
    });
    Input::Updates { revision: 1, updates: defaulted.collect() }
}

fn interfaces(names: &[&str]) -> Option<Interfaces> {
    Some(
        names
            .iter()
            .map(|name| ((*name).to_owned(), Interface { up: true, ..Interface::default() }))
            .collect(),
    )
}

struct Running {
    fake: Shared,
    inputs: mpsc::Sender<Input>,
    links: watch::Sender<Option<Interfaces>>,
    report: watch::Receiver<Report>,
    protected: watch::Sender<Protected>,
    _stop: oneshot::Sender<()>,
}

impl Running {
    fn start(fake: Shared) -> Running {
        Running::start_in(fake, None)
    }

    fn start_in(fake: Shared, state_dir: Option<&Path>) -> Running {
        let (inputs, receiver) = mpsc::channel(16);
        let (links, links_receiver) = watch::channel(None);
        let (sender, report) = watch::channel(Report::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let (protected, protected_receiver) = watch::channel(Protected::default());
        let state_dir = state_dir.map(Path::to_owned);
        let options = Options { protected: protected_receiver, state_dir, ..Options::new("here") };
        let enforcing = Loop::new(options, fake.clone(), sender);
        tokio::spawn(enforcing.run(receiver, links_receiver, shutdown));
        Running { fake, inputs, links, report, protected, _stop: stop }
    }

    async fn enforcing(fake: Shared) -> Running {
        Running::enforcing_in(fake, None).await
    }

    async fn enforcing_in(fake: Shared, state_dir: Option<&Path>) -> Running {
        let mut running = Running::start_in(fake, state_dir);
        running.inputs.send(updates(ENDPOINTS)).await.unwrap();
        running.inputs.send(Input::InSync { revision: 1 }).await.unwrap();
        running.links.send_replace(interfaces(&["eth0", "eth1"]));
        running.until(|report| report.state == EnforcementState::Enforcing).await;
        running
    }

    async fn until(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        // Time is paused and jumps when nothing else can happen, so this is no wait in real time.
        let waited = tokio::time::timeout(Duration::from_secs(600), self.report.wait_for(wanted)).await;
        let found = waited.map(|found| found.expect("the loop runs").clone());
        found.unwrap_or_else(|_| panic!("still: {:#?}", *self.report.borrow()))
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_before_store_and_interfaces_are_known() {
    let mut running = Running::start(Shared::default());
    running.inputs.send(updates(ENDPOINTS)).await.unwrap();
    running.inputs.send(Input::InSync { revision: 5 }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(running.fake.transactions(), 0, "audits included");
    assert_eq!(running.report.borrow().state, EnforcementState::WaitingForSync);
    running.links.send_replace(interfaces(&["eth0"]));
    let report = running.until(|report| report.state == EnforcementState::Enforcing).await;
    assert_eq!(report.revision, 5);
    assert_eq!(running.fake.transactions(), 1, "no new interval set, so everything is one transaction");
}

/// What [`Running::enforcing`] puts in force.
fn enforced() -> Ruleset {
    let Input::Updates { updates, .. } = updates(ENDPOINTS) else { unreachable!("they are updates") };
    let mut calc = Calc::new("here");
    updates.into_iter().for_each(|update| calc.on_update(update));
    calc.on_in_sync();
    calc.on_interfaces(&interfaces(&["eth0", "eth1"]).unwrap());
    render(&calc.flush().unwrap(), &RenderOptions::default())
}

#[tokio::test(start_paused = true)]
async fn what_was_enforced_last_is_put_back_while_the_store_is_not_known() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Shared::default());
    let running = Running::enforcing_in(fake.clone(), Some(state.path())).await;
    tokio::time::sleep(2 * SAVE_DELAY).await;
    assert_eq!(crate::saved::revision(state.path()), Some(1));
    drop(running);
    fake.with(|fake| fake.scripts.push(enforced()));
    let (yesterday, before) = (fake.with(|fake| fake.actual().clone()), fake.transactions());

    let mut running = Running::start_in(fake.clone(), Some(state.path()));
    running.links.send_replace(interfaces(&["eth0"]));
    running
        .inputs
        .send(updates("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t}}"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(fake.transactions(), before, "what stands is taken over as it is");
    for (round, operation) in
        (1..).zip([Operation::DeleteTable, Operation::FlushChain { name: "input".to_owned() }])
    {
        let mut foreign = Transaction::new("appliance");
        foreign.operations.push(operation);
        fake.with(|fake| fake.foreign(&foreign, "nft (pid 7)", "touched the table"));
        let report = running.until(|report| report.drift.repairs == round).await;
        assert_eq!((report.state, report.revision), (EnforcementState::WaitingForSync, 0));
        assert!(report.drift.last_change.ends_with("(by nft (pid 7): touched the table)"), "{report:?}");
        let restored = fake.with(|fake| fake.actual().clone());
        assert_eq!(yesterday.drift(&restored), []);
    }
    let repaired = fake.transactions();
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(fake.transactions(), repaired, "our own repair is no intrusion");

    running.inputs.send(Input::InSync { revision: 9 }).await.unwrap();
    running.until(|report| report.state == EnforcementState::Enforcing && report.revision == 9).await;
    assert_ne!(yesterday.drift(&fake.with(|fake| fake.actual().clone())), [], "now the store's word counts");
}

#[tokio::test(start_paused = true)]
async fn a_repair_from_disk_that_fails_is_tried_again() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Shared::default());
    std::fs::write(state.path().join(crate::saved::FILE), crate::nft::script::boot(&enforced())).unwrap();
    // The table was gone already when this began, and the script is refused at first.
    let mut running = Running::start_in(fake.clone(), Some(state.path()));
    tokio::time::sleep(3 * RETRY_MAX).await;
    assert_eq!(fake.transactions(), 0);
    fake.with(|fake| fake.scripts.push(enforced()));
    let report = running.until(|report| report.drift.repairs == 1).await;
    assert_eq!(report.drift.last_change, "our table was missing");
    assert!(fake.with(|fake| fake.actual().table));
}

/// A kernel and a disk as a reconciler left them, the disk having what is in the kernel.
async fn left_behind() -> (tempfile::TempDir, Shared) {
    let (state, fake) = (tempfile::tempdir().unwrap(), Shared::default());
    let running = Running::enforcing_in(fake.clone(), Some(state.path())).await;
    tokio::time::sleep(2 * SAVE_DELAY).await;
    drop(running);
    // It ends when it is next awake.
    tokio::time::sleep(STOP_GRACE).await;
    fake.with(|fake| fake.scripts.push(enforced()));
    (state, fake)
}

/// Somebody does this while nobody looks.
fn meanwhile(fake: &Shared, operations: Vec<Operation>) {
    let foreign = Transaction { table: "appliance".to_owned(), operations };
    fake.with(|fake| {
        fake.foreign(&foreign, "nft (pid 7)", "touched the table");
        fake.drain();
    });
}

#[tokio::test(start_paused = true)]
async fn what_others_did_to_the_table_before_the_start_is_undone_from_disk() {
    let flush_all = |fake: &Shared| {
        let chains: Vec<String> = fake.with(|fake| fake.actual().chains.keys().cloned().collect());
        chains.into_iter().map(|name| Operation::FlushChain { name }).collect::<Vec<_>>()
    };
    let one_rule = Operation::FlushChain { name: "ep_good_in".to_owned() };
    for emptied in [true, false] {
        let (state, fake) = left_behind().await;
        let yesterday = fake.with(|fake| fake.actual().clone());
        let operations = if emptied { flush_all(&fake) } else { vec![one_rule.clone()] };
        meanwhile(&fake, operations);
        let mut running = Running::start_in(fake.clone(), Some(state.path()));
        let report = running.until(|report| report.drift.repairs == 1).await;
        assert!(report.drift.last_change.contains("chain ep_good_in was changed"), "{report:?}");
        assert_eq!(yesterday.drift(&fake.with(|fake| fake.actual().clone())), []);
        let repaired = fake.transactions();
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert_eq!(fake.transactions(), repaired, "and once is enough");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_is_ahead_of_the_disk_is_taken_back_only_if_it_was_emptied() {
    for (operation, repairs) in [
        (Operation::FlushChain { name: "ep_good_in".to_owned() }, 0),
        (Operation::DeleteMapElement { map: "ep_in".to_owned(), interface: "eth0".to_owned() }, 0),
    ] {
        let (state, fake) = left_behind().await;
        let mut saved = Saved::new(state.path());
        saved.announce(2).await.unwrap();
        meanwhile(&fake, vec![operation]);
        let running = Running::start_in(fake.clone(), Some(state.path()));
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert_eq!(running.report.borrow().drift.repairs, repairs, "our own doing, as far as anybody knows");
    }
    let (state, fake) = left_behind().await;
    Saved::new(state.path()).announce(2).await.unwrap();
    let elements = fake.with(|fake| fake.actual().maps.clone());
    let delete = |(map, elements): (String, Option<BTreeMap<String, _>>)| {
        let interfaces = elements.unwrap_or_default().into_keys().collect::<Vec<_>>();
        interfaces
            .into_iter()
            .map(move |interface| Operation::DeleteMapElement { map: map.clone(), interface })
    };
    meanwhile(&fake, elements.into_iter().flat_map(delete).collect());
    let mut running = Running::start_in(fake.clone(), Some(state.path()));
    running.until(|report| report.drift.repairs == 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_do_between_the_load_and_the_look_is_not_adopted() {
    let (state, fake) = left_behind().await;
    let yesterday = fake.with(|fake| fake.actual().clone());
    meanwhile(&fake, vec![Operation::DeleteTable]);
    let mut quick = Transaction::new("appliance");
    quick.operations.push(Operation::FlushChain { name: "ep_good_in".to_owned() });
    fake.with(|fake| fake.after_load = Some(quick));
    let mut running = Running::start_in(fake.clone(), Some(state.path()));
    let report = running.until(|report| report.drift.repairs == 1).await;
    assert!(report.drift.last_change.contains("chain ep_good_in was changed"), "{report:?}");
    assert_eq!(yesterday.drift(&fake.with(|fake| fake.actual().clone())), []);
}

#[tokio::test(start_paused = true)]
async fn a_last_ruleset_that_is_refused_leaves_the_one_before() {
    let (state, fake) = left_behind().await;
    let newer = Ruleset { sets: BTreeMap::new(), ..Ruleset::new("appliance") };
    Saved::new(state.path()).write(&newer).await.unwrap();
    meanwhile(&fake, vec![Operation::DeleteTable]);
    let mut running = Running::start_in(fake.clone(), Some(state.path()));
    running.until(|report| report.drift.repairs == 1).await;
    assert!(fake.with(|fake| fake.actual().chains.contains_key("ep_good_in")));
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_here_is_enforced_without_a_transaction() {
    let mut running = Running::enforcing(Shared::default()).await;
    let before = running.fake.transactions();
    running.inputs.send(Input::Updates { revision: 99, updates: Vec::new() }).await.unwrap();
    running.until(|report| report.revision == 99).await;
    assert_eq!(running.fake.transactions(), before);
}

#[tokio::test(start_paused = true)]
async fn the_doors_of_a_new_member_are_opened_whatever_policy_says() {
    let running = Running::enforcing(Shared::default()).await;
    let before = running.fake.transactions();
    let members = Protected { outbound: ["10.0.0.2:2380".parse().unwrap()].into(), ..Protected::default() };
    running.protected.send_replace(members.clone());
    let opened = async {
        while running.fake.transactions() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), opened).await.expect("programmed");
    let after = running.fake.transactions();
    running.protected.send_replace(members);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(running.fake.transactions(), after, "the same doors again are no change");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_and_tried_again() {
    let fake = Shared::default();
    fake.with(|fake| fake.unavailable = 4);
    let mut running = Running::start(fake);
    running.links.send_replace(interfaces(&["eth0"]));
    running.inputs.send(updates(ENDPOINTS)).await.unwrap();
    running.inputs.send(Input::InSync { revision: 1 }).await.unwrap();
    let report = running.until(|report| report.message.contains("can not be run")).await;
    assert_ne!(report.state, EnforcementState::Enforcing);
    let report = running.until(|report| report.state == EnforcementState::Enforcing).await;
    assert_eq!(report.message, "");
    running.fake.with(|fake| fake.unavailable = 1);
    running
        .inputs
        .send(updates(&ENDPOINTS.replace("interfaceName: eth1", "interfaceName: eth2")))
        .await
        .unwrap();
    running.until(|report| report.state == EnforcementState::Failed).await;
    running.until(|report| report.state == EnforcementState::Enforcing).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_policy_denies_its_endpoint_and_no_other() {
    let fake = Shared::default();
    fake.with(|fake| fake.poison = Some("poisonous".to_owned()));
    let mut running = Running::enforcing(fake).await;
    let report = running.until(|report| !report.refusals.is_empty()).await;
    let state = |name: &str| report.endpoints.iter().find(|endpoint| endpoint.name == name).unwrap().state;
    assert_eq!((state("good"), state("bad")), (EndpointState::Up, EndpointState::Error));
    let refused: Vec<_> =
        report.refusals.iter().map(|refusal| (&refusal.name[..], &refusal.reason[..])).collect();
    assert!(
        matches!(refused[..], [("bad", reason)] if reason.contains("Operation not supported")),
        "{refused:?}"
    );
    let policed =
        |fake: &mut FakeNft| fake.actual().maps["ep_in"].clone().unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(running.fake.with(policed), ["eth0", "eth1"], "denied is policed too");

    running.fake.with(|fake| fake.poison = None);
    running.inputs.send(updates(&ENDPOINTS.replace("[{action: Allow}]", "[{action: Deny}]"))).await.unwrap();
    running.until(|report| report.refusals.is_empty() && report.state == EnforcementState::Enforcing).await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_change_is_put_back_and_reported() {
    let mut running = Running::enforcing(Shared::default()).await;
    let wanted = running.fake.with(|fake| fake.actual().clone());
    let mut foreign = Transaction::new("appliance");
    foreign.operations.push(Operation::DeleteTable);
    running.fake.with(|fake| fake.foreign(&foreign, "nft (pid 7)", "deleted the table"));
    let report = running.until(|report| report.drift.repairs == 1).await;
    assert_eq!(report.drift.last_change, "the table was deleted (by nft (pid 7): deleted the table)");
    let restored = running.fake.with(|fake| fake.actual().clone());
    assert_eq!(wanted.drift(&restored), []);
}

#[tokio::test(start_paused = true)]
async fn a_change_nobody_announced_is_found_by_its_generation() {
    let mut running = Running::enforcing(Shared::default()).await;
    let mut foreign = Transaction::new("appliance");
    foreign.operations.push(Operation::FlushChain { name: "input".to_owned() });
    running.fake.with(|fake| {
        fake.foreign(&foreign, "nft (pid 7)", "deleted rule from chain input");
        fake.drain();
    });
    let report = running.until(|report| report.drift.repairs == 1).await;
    assert_eq!(report.drift.last_change, "chain input was changed");
}

#[tokio::test(start_paused = true)]
async fn a_table_switched_off_is_woken_by_itself() {
    let mut running = Running::enforcing(Shared::default()).await;
    let before = running.fake.transactions();
    running.fake.with(|fake| {
        fake.dormant = true;
        fake.foreign(&Transaction::new("appliance"), "nft (pid 7)", "switched the table off");
    });
    let report = running.until(|report| report.drift.repairs == 1).await;
    let words = "the table was switched off (flags dormant) (by nft (pid 7): switched the table off)";
    assert_eq!(report.drift.last_change, words);
    let taken = running.fake.with(|fake| fake.log.split_off(before + 1));
    assert_eq!(
        taken.into_iter().flat_map(|taken| taken.operations).collect::<Vec<_>>(),
        [Operation::AddTable]
    );
}

#[tokio::test(start_paused = true)]
async fn changes_to_other_tables_cost_nothing() {
    let running = Running::enforcing(Shared::default()).await;
    let before = running.fake.transactions();
    running.fake.with(|fake| fake.foreign(&Transaction::new("other"), "nft (pid 7)", ""));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(running.fake.transactions(), before + 1, "theirs");
    assert_eq!(running.report.borrow().drift.repairs, 0);
}

#[tokio::test(start_paused = true)]
async fn a_fight_is_fought_with_pauses() {
    let mut running = Running::enforcing(Shared::default()).await;
    let begin = Instant::now();
    for round in 1..=20 {
        let mut foreign = Transaction::new("appliance");
        foreign.operations.push(Operation::DeleteTable);
        running.fake.with(|fake| fake.foreign(&foreign, "other (pid 8)", "deleted the table"));
        running.until(|report| report.drift.repairs == round).await;
    }
    let virtual_time = begin.elapsed();
    assert!(
        virtual_time > Duration::from_secs(5) && virtual_time < Duration::from_secs(20),
        "{virtual_time:?}"
    );
}
