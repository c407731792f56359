//! Readings: the node's numbers, asked for when somebody reads `/metrics`. Knows where each number lives and what it is
//! called; keeps none.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use appliance_consensus::{PeerStatus, Raft, Status};
use appliance_resources::{EndpointState, EnforcementState, NodeReportStatus};
use appliance_storage::Reader;
use tokio::sync::watch;

use crate::api::load::Load;
use crate::metrics::{Reading, ReadingKind, Readings};

/// Everything that can be asked of a node.
pub(crate) fn of_node(
    raft: Raft,
    reader: Reader,
    report: watch::Receiver<NodeReportStatus>,
    load: Arc<Load>,
    tick: Duration,
) -> Readings {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    Box::new(move || {
        let mut readings = consensus(&raft);
        readings.extend(members(&raft.status(), tick));
        readings.extend(store(&reader));
        readings.extend(enforcement(&report.borrow()));
        readings.push(gauge("api_requests_under_way", "Requests not yet answered", number(load.requests())));
        readings.push(gauge("api_watches", "Watches whose clients still listen", number(load.watches())));
        readings.extend(process());
        readings.push(gauge(
            "process_start_time_seconds",
            "When the process began, since the epoch",
            started,
        ));
        readings
    })
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Reading {
    Reading { name, peer: None, help, kind: ReadingKind::Gauge, value }
}

/// Prometheus's numbers are floats; ours stay exact below 2^53, which no counter of ours reaches.
#[allow(clippy::cast_precision_loss, reason = "said above")]
fn number(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn consensus(raft: &Raft) -> Vec<Reading> {
    let status = raft.status();
    vec![
        gauge("raft_term", "Raft's term", number(status.term)),
        gauge("raft_is_leader", "1 on the member that orders the log", flag(status.is_leader())),
        gauge("raft_has_leader", "1 while a leader is known", flag(status.leader.is_some())),
        gauge("raft_commit_index", "The last entry known to be committed", number(status.commit)),
        gauge("raft_applied_index", "The last entry in the store", number(status.applied)),
        gauge("raft_log_first_index", "The first entry still in the log", number(status.first)),
        gauge("raft_log_last_index", "The last entry in the log", number(status.last)),
    ]
}

/// The cluster as this member sees it. Of a member that was never heard of, nothing is said.
fn members(status: &Status, tick: Duration) -> Vec<Reading> {
    let count = |list: &[u64]| number(list.len() as u64);
    let mut readings = vec![
        gauge(
            "raft_has_quorum",
            "1 while the cluster can write, as far as is known here",
            flag(status.has_quorum()),
        ),
        gauge("raft_members", "Members that vote or follow", count(&status.voters) + count(&status.learners)),
        gauge("raft_voters", "Members that vote", count(&status.voters)),
        gauge("raft_removed", "1 once the cluster has removed this member", flag(status.removed)),
        gauge("raft_diverged", "1 when this member's data differs from the others'", flag(status.diverged)),
    ];
    let mut each = |name, help, value: &dyn Fn(&PeerStatus) -> Option<f64>| {
        let of = |(id, peer): (&u64, &PeerStatus)| {
            Some(Reading { peer: Some(format!("{id:016x}")), ..gauge(name, help, value(peer)?) })
        };
        readings.extend(status.peers.iter().filter_map(of));
    };
    each("raft_peer_last_contact_seconds", "Since anything came from this member", &|peer| {
        (peer.heard_ticks != u32::MAX).then(|| (tick * peer.heard_ticks).as_secs_f64())
    });
    each("raft_peer_lag_entries", "Entries this member has yet to apply", &|peer| {
        peer.beat.map(|beat| number(status.commit.saturating_sub(beat.applied)))
    });
    each("raft_peer_snapshotting", "1 while this member is sent a snapshot", &|peer| {
        Some(flag(peer.snapshotting))
    });
    readings
}

fn store(reader: &Reader) -> Vec<Reading> {
    vec![
        gauge("store_revision", "The store's newest revision", number(reader.revision().0)),
        gauge(
            "store_compacted_revision",
            "History before this revision is given up",
            number(reader.compacted().0),
        ),
    ]
}

fn enforcement(report: &NodeReportStatus) -> Vec<Reading> {
    let in_state = |state| report.endpoints.iter().filter(|endpoint| endpoint.state == state).count() as u64;
    vec![
        gauge(
            "enforcing",
            "1 while the kernel enforces what was last asked of it",
            flag(report.state == EnforcementState::Enforcing),
        ),
        gauge("enforced_revision", "The store's revision that the kernel enforces", number(report.revision)),
        gauge("endpoints_up", "Endpoints of this node in state up", number(in_state(EndpointState::Up))),
        gauge(
            "endpoints_down",
            "Endpoints of this node in state down",
            number(in_state(EndpointState::Down)),
        ),
        gauge(
            "endpoints_error",
            "Endpoints of this node in state error",
            number(in_state(EndpointState::Error)),
        ),
        gauge(
            "refusals",
            "Objects that the dataplane could not enforce",
            number(report.refusals.len() as u64),
        ),
        Reading {
            name: "drift_repairs",
            peer: None,
            help: "Foreign changes to our table that were put back",
            kind: ReadingKind::Counter,
            value: number(report.drift.repairs),
        },
    ]
}

/// Memory and open files, as the kernel counts them.
fn process() -> Vec<Reading> {
    let mut readings = Vec::new();
    if let Some(bytes) = resident_bytes() {
        readings.push(gauge("process_resident_memory_bytes", "Memory in use", number(bytes)));
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        readings.push(gauge("process_open_files", "Open file descriptors", number(files.count() as u64)));
    }
    readings
}

/// From a line such as `VmRSS:     23456 kB`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_was_never_heard_of_has_no_last_contact() {
        let heard = PeerStatus { heard_ticks: 5, ..PeerStatus::default() };
        let never = PeerStatus { heard_ticks: u32::MAX, ..PeerStatus::default() };
        let status =
            Status { voters: vec![1, 2, 3], peers: [(2, heard), (3, never)].into(), ..Status::default() };
        let readings = members(&status, Duration::from_millis(100));
        let contacts: Vec<_> = readings
            .iter()
            .filter(|reading| reading.name == "raft_peer_last_contact_seconds")
            .map(|reading| (reading.peer.as_deref(), reading.value))
            .collect();
        assert_eq!(contacts, [(Some("0000000000000002"), 0.5)]);
    }

    #[test]
    fn a_process_knows_its_size() {
        let resident = resident_bytes().expect("the kernel says");
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
    }
}
