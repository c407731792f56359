//! From a write to its watchers: how long after it was sent every one of them has heard of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use super::load::percentile;
use super::side::Clients;

/// What records are called on both sides, followed by [`DIGITS`] digits.
const NAME: &[u8] = b"set-";

const DIGITS: usize = 9;

/// Between two writes: slow enough that none waits for another.
const PACE: Duration = Duration::from_millis(10);

/// The last event may take so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one round measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// The median over writes and watchers.
    pub p50: Duration,
    /// What one in a hundred exceeds.
    pub p99: Duration,
    /// Events that did not come.
    pub missed: usize,
}

/// Writes `writes` records from `first` on, one at a time, with so many watchers.
///
/// # Panics
/// When no watch can be begun.
pub async fn round<C: Clients>(clients: &Arc<C>, watchers: usize, first: u64, writes: u64) -> Heard {
    let mark = clients.mark(first).await.expect("a write to watch from");
    let last = first + writes;
    let mut listening = Vec::new();
    for watcher in 0..watchers {
        let answer = clients.watch(watcher, mark).await.expect("a watch");
        listening.push(tokio::spawn(listen(answer, last)));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut sent = BTreeMap::new();
    for number in first + 1..=last {
        sent.insert(number, Instant::now());
        assert!(clients.write(0, number).await, "write {number}");
        tokio::time::sleep(PACE).await;
    }
    collect(listening, &sent).await
}

async fn collect(listening: Vec<JoinHandle<Vec<(u64, Instant)>>>, sent: &BTreeMap<u64, Instant>) -> Heard {
    let mut missed = listening.len() * sent.len();
    let mut latencies = Vec::new();
    for watcher in listening {
        for (number, heard) in watcher.await.unwrap_or_default() {
            if let Some(sent) = sent.get(&number) {
                missed = missed.saturating_sub(1);
                latencies.push(heard - *sent);
            }
        }
    }
    latencies.sort_unstable();
    Heard { p50: percentile(&latencies, 50), p99: percentile(&latencies, 99), missed }
}

/// When each record's name first came, until the last one's did or nothing comes any more.
async fn listen(answer: Response<Incoming>, last: u64) -> Vec<(u64, Instant)> {
    let (mut body, mut heard, mut rest) = (answer.into_body(), Vec::new(), Vec::new());
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(PATIENCE, body.frame()).await {
        let now = Instant::now();
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        for number in numbers(&mut rest) {
            if heard.last().is_none_or(|(before, _)| *before < number) {
                heard.push((number, now));
            }
            if number == last {
                return heard;
            }
        }
    }
    heard
}

/// Every record's number in the bytes; keeps what may be the beginning of one.
fn numbers(bytes: &mut Vec<u8>) -> Vec<u64> {
    let whole = NAME.len() + DIGITS;
    let found = bytes.windows(whole).filter_map(|window| {
        let digits = std::str::from_utf8(window.strip_prefix(NAME)?).ok()?;
        digits.parse().ok()
    });
    let found = found.collect();
    let keep = bytes.len().min(whole - 1);
    bytes.drain(..bytes.len() - keep);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_once_also_across_frames() {
        let mut bytes = b"\"name\":\"set-000000007\",\"set-x\",\"set-0000".to_vec();
        assert_eq!(numbers(&mut bytes), [7]);
        bytes.extend(b"00012\"}");
        assert_eq!(numbers(&mut bytes), [12]);
        bytes.extend(b"\n");
        assert_eq!(numbers(&mut bytes), [0; 0]);
    }
}
