//! How many writes a second `Store::apply` takes, by the size of the batch. Run it in release:
//! `cargo run --release -p appliance-storage --example apply_throughput [directory]`.
//!
//! Each write replaces one of 10,000 records of 256 bytes, with a precondition and a request id, as the API's writes
//! do; history is compacted as the product compacts it, so purging is in the figure. Nothing is synced within a run:
//! durability is the log's, and a checkpoint's cost is printed beside.

use std::{path::Path, time::Instant};

use appliance_storage::{Author, Command, Compare, Key, Op, RequestId, Store, StoreOptions};

const RECORDS: u64 = 10_000;
const WRITES: u64 = 60_000;
const VALUE_BYTES: usize = 256;

fn main() {
    let root = std::env::args().nth(1).unwrap_or_else(|| "target".to_owned());
    println!(
        "{:>6} {:>12} {:>14} {:>14} {:>12}",
        "batch", "writes/s", "p50 batch µs", "p99 batch µs", "sync ms"
    );
    for batch in [1, 32, 128] {
        let dir = Path::new(&root).join(format!("apply_throughput-{}-{batch}", std::process::id()));
        run(&dir, batch);
        std::fs::remove_dir_all(&dir).expect("remove the store made for this run");
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
fn run(dir: &Path, batch: u64) {
    let mut store = Store::open(dir, StoreOptions::default()).expect("open a new store");
    let reader = store.reader();
    let mut index = 0;
    while index < RECORDS {
        apply(&mut store, &mut index, 100);
    }
    let (started, cpu) = (Instant::now(), cpu_micros());
    let mut latencies = Vec::new();
    while index < RECORDS + WRITES {
        let began = Instant::now();
        apply(&mut store, &mut index, batch);
        latencies.push(began.elapsed().as_micros());
        if let Some(before) = reader.compaction_due(u64::MAX).expect("ask what to compact") {
            index += 1;
            store.apply(&[(index, Some(Command::Compact { before }))]).expect("compact");
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = (cpu_micros() - cpu) / WRITES as f64;
    let began = Instant::now();
    store.checkpoint().expect("make it durable");
    let synced = began.elapsed().as_secs_f64() * 1_000.0;
    latencies.sort_unstable();
    let at = |share: usize| latencies[latencies.len() * share / 100];
    println!(
        "{batch:>6} {:>12.0} {cpu:>14.1} {:>12} {:>12} {synced:>12.1}",
        WRITES as f64 / elapsed,
        at(50),
        at(99)
    );
}

/// What this thread has used of the processor: unlike writes a second, it says something on a busy machine too.
fn cpu_micros() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn apply(store: &mut Store, index: &mut u64, batch: u64) {
    let commands: Vec<(u64, Option<Command>)> =
        (*index + 1..=*index + batch).map(|n| (n, Some(write(n)))).collect();
    *index += batch;
    store.apply(&commands).expect("apply");
}

fn write(n: u64) -> Command {
    // Spread over the records without a generator of random numbers.
    let key =
        Key::from(format!("/calico/resources/v3/projectcalico.org/profiles/{:05}", n * 7_919 % RECORDS));
    let mut value = n.to_string().into_bytes();
    value.resize(VALUE_BYTES, b'.');
    let request = Some(RequestId(u128::from(n).to_be_bytes()));
    let author =
        Author { name: "bench".into(), source: "unix:0".into(), reason: String::new(), time: n, request };
    let compare = match n <= RECORDS {
        true => Compare::Absent { key: key.clone() },
        false => Compare::Exists { key: key.clone() },
    };
    Command::Txn { author, compare: vec![compare], then: vec![Op::Put { key, value }], otherwise: vec![] }
}
