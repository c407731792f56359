//! `make bench`: what the appliance costs, as ratios against a peer or a limit measured in the same run.
//!
//! Durable writes against etcd and against the disk's own `fdatasync`; one element into a large set against `nft`;
//! memory, size, and the time from start to the first policed packet.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use appliance_tests::bench::disk;
use appliance_tests::bench::etcd_members::Etcd;
use appliance_tests::bench::load::{self, Round, Work};
use appliance_tests::bench::ours::ApiClients;
use appliance_tests::bench::process::rss;
use appliance_tests::netns::{Host, Lan};
use appliance_tests::node::Node;
use appliance_tests::packets::{self, Listeners};
use appliance_tests::prerequisites;

/// Rounds of each side; the median counts.
const ROUNDS: usize = 3;

/// How long one round lasts.
const ROUND: Duration = Duration::from_secs(4);

/// Connections that clients share, on both sides.
const CONNECTIONS: usize = 8;

/// How many policies are stored when start-up is timed.
const POLICIES: usize = 1_000;

fn main() {
    prerequisites::check();
    let lan = Lan::new();
    let host = lan.host(2);
    size_and_memory(&host);
    writes(&host);
    one_element(&host);
    first_policed_packet(&lan, &host);
}

fn size_and_memory(host: &Host) {
    let binary = prerequisites::appliance();
    let size = fs::metadata(&binary).expect("the binary").len();
    println!("binary {:.1} MB (aim: under 25)", megabytes(size));
    let node = Node::start(host, "h1");
    std::thread::sleep(Duration::from_secs(3));
    println!("idle RSS {:.1} MB (aim: under 40)", megabytes(rss(node.pid().expect("a running node"))));
}

fn writes(host: &Host) {
    let directory = tempfile::Builder::new().prefix("bench-").tempdir().expect("a directory");
    let place = (Arc::clone(&host.namespace), Ipv4Addr::LOCALHOST);
    let etcd = Etcd::start(&tool("etcd"), &[place], directory.path(), &[]);
    let node = Node::start_with(host, "h1", &["--no-enforce"]);
    println!(
        "\ndurable writes of {} bytes, TLS and authorisation on both sides, medians of {ROUNDS} rounds",
        disk::RECORD
    );
    println!(
        "clients   ours/s   etcd/s   ratio   ours p50/p99 ms   etcd p50/p99 ms   p99 ratio   of fdatasync/s"
    );
    host.namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        for clients in [1, 16, 64] {
            runtime.block_on(compare(clients, &node, &etcd, directory.path()));
        }
    });
    println!(
        "RSS after that: ours {:.1} MB, etcd {:.1} MB",
        node.pid().map_or(0.0, |pid| megabytes(rss(pid))),
        etcd.pid(0).map_or(0.0, |pid| megabytes(rss(pid)))
    );
}

async fn compare(clients: usize, node: &Node, etcd: &Etcd, directory: &Path) {
    let ours = Arc::new(ApiClients::open(node, CONNECTIONS.min(clients)).await);
    let theirs = Arc::new(etcd.connect(&[0], CONNECTIONS.min(clients), disk::RECORD).await);
    let numbers = Arc::new(AtomicU64::new(clients as u64 * 10_000_000));
    let (mut of_ours, mut of_etcd, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        syncs.push(disk::syncs_per_second(directory, Duration::from_secs(1)));
        of_ours.push(load::run(Arc::clone(&ours), Work::Write, clients, ROUND, Arc::clone(&numbers)).await);
        of_etcd.push(load::run(Arc::clone(&theirs), Work::Write, clients, ROUND, Arc::clone(&numbers)).await);
    }
    syncs.sort_by(f64::total_cmp);
    let (ours, etcd, syncs) = (load::median(of_ours), load::median(of_etcd), syncs[ROUNDS / 2]);
    println!(
        "{clients:7} {:8.0} {:8.0} {:7.2} {:>17} {:>17} {:11.2} {:16.2}",
        ours.rate,
        etcd.rate,
        ours.rate / etcd.rate,
        latencies(&ours),
        latencies(&etcd),
        ours.p99.as_secs_f64() / etcd.p99.as_secs_f64(),
        ours.rate / syncs,
    );
    if ours.failed + etcd.failed > 0 {
        println!("        failed: ours {}, etcd {}", ours.failed, etcd.failed);
    }
}

fn latencies(round: &Round) -> String {
    format!("{:.2}/{:.2}", round.p50.as_secs_f64() * 1e3, round.p99.as_secs_f64() * 1e3)
}

fn one_element(host: &Host) {
    println!(
        "\none element into a set of 100,000, from the calculation to the kernel, against `nft add element`"
    );
    let example = prerequisites::appliance().with_file_name("examples").join("one_element");
    let status = host.namespace.inside(|| Command::new(&example).status());
    assert!(status.is_ok_and(|status| status.success()), "{} failed", example.display());
}

fn first_policed_packet(lan: &Lan, host: &Host) {
    let client = lan.host(9);
    let _listeners = Listeners::new(&host.namespace, &[8055]);
    let mut node = Node::start(host, "h1");
    let policies: String = (0..POLICIES).map(policy).collect();
    let _ = node.ctl_with(&["apply", "-f", "-"], &policies).success();
    node.apply(
        "{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h1-eth0, labels: {ep: h1}}, \
         spec: {node: h1, interfaceName: eth0}}",
    );
    node.stop();
    assert_eq!(host.namespace.shell("nft flush ruleset"), "");
    let started = Instant::now();
    node.spawn();
    while packets::udp(&client.namespace, IpAddr::V4(host.ipv4), 8055) {}
    // The attempt that found the door closed waited for an answer in vain; that wait is not part of the start.
    let until_closed = started.elapsed().saturating_sub(packets::ATTEMPT);
    println!(
        "\nstart to first policed packet with {POLICIES} policies stored: {} ms (aim: under 500)",
        until_closed.as_millis()
    );
}

fn policy(number: usize) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{number}}}\n\
         spec: {{selector: \"ep == 'h1'\", order: {number}, ingress: [{{action: Allow, protocol: TCP, \
         source: {{nets: [10.{}.{}.0/24]}}, destination: {{ports: [{}]}}}}]}}\n",
        number / 250,
        number % 250,
        9000 + number
    )
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/usr/bin").join(name);
    assert!(path.is_file(), "{} is not there: run `make setup-bench`", path.display());
    path
}
