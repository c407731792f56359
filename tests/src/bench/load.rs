//! Closed-loop load: each client sends its next request when the last is answered, until time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What one round measured.
#[derive(Clone, Debug)]
pub struct Round {
    /// Answered requests a second.
    pub rate: f64,
    /// The median latency.
    pub p50: Duration,
    /// The latency that one request in a hundred exceeds.
    pub p99: Duration,
    /// Requests that failed.
    pub failed: u64,
}

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Write a new record durably.
    Write,
    /// Read one of the first [`READ`] records, linearizably.
    Read,
}

/// So many records are read in turn; they must have been written.
pub const READ: u64 = 256;

/// Something that can be asked to write one record durably, and to read it.
pub trait Target: Send + Sync + 'static {
    /// Writes record `number`; whether it was acknowledged.
    fn write(&self, client: usize, number: u64) -> impl Future<Output = bool> + Send;

    /// Reads record `number` linearizably; whether it came.
    fn read(&self, client: usize, number: u64) -> impl Future<Output = bool> + Send;
}

/// Runs `clients` for `time`. `numbers` goes on between rounds, so that no record is written twice.
///
/// # Panics
/// When a client's task does.
pub async fn run<T: Target>(
    target: Arc<T>,
    work: Work,
    clients: usize,
    time: Duration,
    numbers: Arc<AtomicU64>,
) -> Round {
    let started = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            tokio::spawn(one_client(Arc::clone(&target), work, client, started + time, Arc::clone(&numbers)))
        })
        .collect();
    let (mut latencies, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (of_one, failures) = task.await.expect("a client");
        latencies.extend(of_one);
        failed += failures;
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    Round {
        rate: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50: percentile(&latencies, 50),
        p99: percentile(&latencies, 99),
        failed,
    }
}

async fn one_client<T: Target>(
    target: Arc<T>,
    work: Work,
    client: usize,
    until: Instant,
    numbers: Arc<AtomicU64>,
) -> (Vec<Duration>, u64) {
    let (mut latencies, mut failed) = (Vec::new(), 0);
    while Instant::now() < until {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let answered = match work {
            Work::Write => target.write(client, number).await,
            Work::Read => target.read(client, number % READ).await,
        };
        if answered {
            latencies.push(asked.elapsed());
        } else {
            failed += 1;
        }
    }
    (latencies, failed)
}

/// The round with the median rate.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    rounds.swap_remove(rounds.len() / 2)
}

/// The latency that so many in a hundred do not exceed.
#[must_use]
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}
