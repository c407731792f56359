//! One address into a set of 100,000: from the policy calculation to the kernel, against `nft add element`.
//!
//! For `make bench`; needs root. Works in a network namespace of its own, which goes with the process. Prints both
//! medians and their ratio.

#![expect(clippy::disallowed_methods, reason = "a benchmark looks at the clock and plays the operator")]

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use appliance_dataplane::Update;
use appliance_dataplane::calc::Calc;
use appliance_dataplane::interfaces::{Interface, Interfaces};
use appliance_dataplane::nft::plan::{Begin, plan};
use appliance_dataplane::nft::{Actual, Kernel, Nft, Ruleset};
use appliance_dataplane::render::{RenderOptions, refresh, render};
use appliance_resources::{AnyResource, manifest, set_defaults};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const MEMBERS: u32 = 100_000;
/// The set is made of this many GlobalNetworkSets and one more that grows, as operators divide theirs.
const SETS: u32 = 100;
const ROUNDS: usize = 11;

fn main() {
    let name = format!("bench-{}", std::process::id());
    run("ip", &["netns", "add", &name]);
    let outcome = std::thread::scope(|scope| {
        let bench = || {
            let namespace = File::open(format!("/run/netns/{name}")).expect("open the namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter it");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(bench());
        };
        scope.spawn(bench).join()
    });
    run("ip", &["netns", "del", &name]);
    outcome.expect("the benchmark");
}

async fn bench() {
    let mut node = Node::start().await;
    let mut ours = Vec::new();
    let mut nft = Vec::new();
    for round in 0..ROUNDS {
        let nets: Vec<String> = (0..=round).map(|at| format!("203.0.{at}.0/24")).collect();
        let update = network_set("growing", &nets);
        let begin = Instant::now();
        node.update(update).await;
        ours.push(begin.elapsed());
        let set = node.interval_set();
        let begin = Instant::now();
        run("nft", &["add", "element", "inet", "appliance", &set, &format!("{{ 198.18.{round}.0/24 }}")]);
        nft.push(begin.elapsed());
        // Out again, so that the next round starts from what we know.
        run("nft", &["delete", "element", "inet", "appliance", &set, &format!("{{ 198.18.{round}.0/24 }}")]);
    }
    let (ours, nft) = (median(ours), median(nft));
    println!("one element into {MEMBERS} CIDRs, from the calculation to the kernel: {ours:?}");
    println!("nft add element into the same set:                                 {nft:?}");
    println!("ratio: {:.0} times faster", nft.as_secs_f64() / ours.as_secs_f64());
}

/// The path an update takes, without the loop around it.
struct Node {
    calc: Calc,
    kernel: Kernel,
    shadow: Actual,
    ruleset: Ruleset,
}

impl Node {
    async fn start() -> Node {
        let mut calc = Calc::new("here");
        let mut interfaces = Interfaces::new();
        interfaces.insert("lo".to_owned(), Interface { index: 1, up: true, ..Interface::default() });
        calc.on_interfaces(&interfaces);
        for update in updates(POLICY) {
            calc.on_update(update);
        }
        for set in 0..SETS {
            let each = MEMBERS / SETS;
            let net = |at: u32| std::net::Ipv4Addr::from(0x0a00_0000 + ((set * each + at) << 8));
            let nets: Vec<String> = (0..each).map(|at| format!("{}/25", net(at))).collect();
            calc.on_update(network_set(&format!("set-{set}"), &nets));
        }
        calc.on_in_sync();
        let desired = calc.flush().expect("in sync");
        let ruleset = render(&desired, &RenderOptions::default());
        let kernel = Kernel::open("nft".as_ref(), "appliance");
        let mut node = Node { calc, kernel, shadow: Actual::default(), ruleset };
        node.program().await;
        node
    }

    async fn update(&mut self, update: Update) {
        self.calc.on_update(update);
        let desired = self.calc.flush().expect("a change");
        refresh(&mut self.ruleset, &desired);
        self.program().await;
    }

    async fn program(&mut self) {
        for transaction in plan(&self.shadow, &self.ruleset, Begin::Whole) {
            self.kernel.run(&transaction).await.expect("the kernel takes it");
            self.shadow.replay(&transaction);
        }
        self.shadow.share(&self.ruleset);
    }

    fn interval_set(&self) -> String {
        let large = self.ruleset.sets.iter().max_by_key(|(_, set)| set.elements.len());
        large.expect("a set").0.clone()
    }
}

const POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: here, labels: {role: web}}
spec: {node: here, interfaceName: lo}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: clients}
spec:
  selector: role == 'web'
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: who == 'client'}, destination: {ports: [80]}}
";

fn network_set(name: &str, nets: &[String]) -> Update {
    let yaml = format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\n\
         metadata: {{name: {name}, labels: {{who: client}}}}\nspec: {{nets: [{}]}}\n",
        nets.join(", ")
    );
    updates(&yaml).remove(0)
}

fn updates(yaml: &str) -> Vec<Update> {
    let documents = manifest::read(yaml, "bench").expect("a manifest");
    let defaulted = |mut resource: AnyResource| {
        set_defaults(&mut resource);
        Update::Set(Box::new(resource))
    };
    documents.into_iter().map(|document| defaulted(document.resource)).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect(program);
    assert!(status.success(), "{program} {arguments:?}");
}
