//! How many durable commands one member takes, against what its disk can do.
//!
//! `cargo run --release --example throughput [DIRECTORY [SECONDS]]`: for 1, 16 and 64 clients, each proposing the next
//! put of 256 bytes as soon as the last is answered, prints proposals a second, their p50 and p99, and the rate of bare
//! `fdatasync`s on the same disk, measured just before. Real store, real log, real fsync, no network.

use std::{
    error::Error,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use appliance_consensus::{Config, Origin, Raft, start};
use appliance_storage::{Author, Command, Key, Op, Store, StoreOptions};

/// Keys in use: each is overwritten again and again, as policies are.
const KEYS: u64 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
    let folder = tempfile::tempdir_in(parent)?;
    let length = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let store = Store::open(&folder.path().join("store"), StoreOptions::default())?;
    let raft = start(Config::new(1, folder.path()), store, Origin::Founder, Box::new(drop))?;
    println!("clients  proposals/s    p50 us    p99 us    max us  fdatasync/s  p50 us");
    for clients in [1, 16, 64] {
        let (syncs, sync_p50) = fdatasyncs(&folder.path().join("raw"), length / 5)?;
        let mut latencies = runtime.block_on(load(&raft, clients, length));
        latencies.sort_unstable();
        println!(
            "{clients:>7}  {:>11.0}  {:>8}  {:>8}  {:>8}  {syncs:>11.0}  {:>6}",
            latencies.len() as f64 / length.as_secs_f64(),
            percentile(&latencies, 50).as_micros(),
            percentile(&latencies, 99).as_micros(),
            percentile(&latencies, 100).as_micros(),
            sync_p50.as_micros(),
        );
    }
    runtime.block_on(raft.stop());
    Ok(())
}

async fn load(raft: &Raft, clients: u64, length: Duration) -> Vec<Duration> {
    let end = Instant::now() + length;
    let tasks: Vec<_> = (0..clients).map(|client| tokio::spawn(propose(raft.clone(), client, end))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await.expect("a client"));
    }
    latencies
}

async fn propose(raft: Raft, client: u64, end: Instant) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut turn: u64 = client;
    while Instant::now() < end {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let before = Instant::now();
        raft.propose(put(turn >> 33)).await.expect("proposed");
        latencies.push(before.elapsed());
    }
    latencies
}

fn put(turn: u64) -> Vec<u8> {
    let author = Author { name: "bench".to_owned(), source: "local".to_owned(), ..Author::default() };
    let mut value = vec![b'v'; 256];
    value[..8].copy_from_slice(&turn.to_be_bytes());
    let then = vec![Op::Put { key: Key::from(format!("/bench/{}", turn % KEYS).as_str()), value }];
    Command::Txn { author, compare: Vec::new(), then, otherwise: Vec::new() }.encode()
}

/// What the disk can do: one append and one fdatasync at a time.
fn fdatasyncs(path: &Path, length: Duration) -> Result<(f64, Duration), Box<dyn Error>> {
    let mut file = File::create(path)?;
    file.set_len(16 * 1_024 * 1_024)?;
    let (begin, mut latencies) = (Instant::now(), Vec::new());
    while begin.elapsed() < length {
        let before = Instant::now();
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        latencies.push(before.elapsed());
    }
    latencies.sort_unstable();
    Ok((latencies.len() as f64 / length.as_secs_f64(), percentile(&latencies, 50)))
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}
