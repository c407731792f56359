//! Failover: how long after its leader was killed a cluster acknowledges the next write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::load::Target;
use super::side::Side;

/// Clients that try, at each survivor.
const CLIENTS: usize = 4;

/// A client gives an attempt up after this long and makes another; so whoever waits does not miss the moment.
const ATTEMPT: Duration = Duration::from_millis(250);

/// A cluster that has not come back by then is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills the leader, measures, and starts it again.
///
/// # Panics
/// When no write is acknowledged for long.
pub async fn once<S: Side>(side: &mut S, numbers: &Arc<AtomicU64>) -> Duration {
    let leader = side.leader();
    let survivors: Vec<usize> = (0..side.size()).filter(|number| *number != leader).collect();
    let clients = side.clients(&survivors, survivors.len(), super::disk::RECORD).await;
    // A write before, so that what is measured is the leader's death and not a first request.
    assert!(clients.write(0, numbers.fetch_add(1, Ordering::Relaxed)).await, "a write while all is well");
    side.kill(leader);
    let killed = Instant::now();
    let (found, mut acknowledged) = tokio::sync::mpsc::channel(1);
    let trying: Vec<_> = (0..CLIENTS * survivors.len())
        .map(|client| {
            let (clients, numbers, found) = (Arc::clone(&clients), Arc::clone(numbers), found.clone());
            tokio::spawn(async move {
                // Not all at the same moment.
                tokio::time::sleep(ATTEMPT / 16 * client as u32).await;
                loop {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    let attempt = tokio::time::timeout(ATTEMPT, clients.write(client, number)).await;
                    if attempt == Ok(true) {
                        let _ = found.try_send(Instant::now());
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    let first = tokio::time::timeout(PATIENCE, acknowledged.recv()).await.ok().flatten();
    trying.iter().for_each(tokio::task::JoinHandle::abort);
    side.start(leader);
    first.expect("a write after the leader's death") - killed
}
