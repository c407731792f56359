//! Opens a member after a fault and asks it for everything it ever acknowledged.

use std::{collections::BTreeMap, fs, path::Path, process::Command as Process};

use appliance_consensus::{Raft, StopReason};
use appliance_storage::{Reader, Revision};

use crate::{
    acks::{self, Ack},
    writer::{self, CLIENTS, keeps_third, keys, turn_of},
};

/// Opens the member over `data`, checks it against the acks, and closes it again. In a process of its own, as a member
/// would be: a damaged sled can leave threads and locks behind.
///
/// * Every acknowledged turn is there, at the revision that was acknowledged or a later one of the same client.
/// * At most one turn of a client is there that was not acknowledged: the one that was in flight.
/// * No half of any transaction: both records of a client have one turn and one revision, the third agrees.
/// * Revisions do not go backwards, and the chain of an old revision is what earlier looks noted in `seen`.
/// * The member serves a linearizable read and stops cleanly.
pub(crate) fn verify(data: &Path, acks: &Path, seen: &Path) -> Result<(), String> {
    let output = Process::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "verify::verify_process", "--nocapture", "--test-threads=1"])
        .env("VERIFY_DATA", data)
        .env("VERIFY_ACKS", acks)
        .env("VERIFY_SEEN", seen)
        .output()
        .expect("start the verifier");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Not a test of its own: the body of the process that `verify` starts.
#[test]
fn verify_process() {
    let [Some(data), Some(acks), Some(seen)] =
        ["DATA", "ACKS", "SEEN"].map(|name| std::env::var_os(format!("VERIFY_{name}")))
    else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let checked = runtime.block_on(open_and_check(Path::new(&data), Path::new(&acks), Path::new(&seen)));
    if let Err(error) = checked {
        panic!("{error}");
    }
}

async fn open_and_check(data: &Path, acks: &Path, seen: &Path) -> Result<(), String> {
    let wanted = acks::last_of_each(acks);
    let (raft, reader) = writer::open(data)?;
    let checked = check(&raft, &reader, &wanted, seen).await;
    raft.stop().await;
    checked?;
    match raft.stopped().await {
        StopReason::Requested => Ok(()),
        reason => Err(format!("stopping: {reason}")),
    }
}

async fn check(raft: &Raft, reader: &Reader, wanted: &BTreeMap<u64, Ack>, seen: &Path) -> Result<(), String> {
    raft.read_index().await.map_err(|error| error.to_string())?;
    for client in 0..CLIENTS {
        check_client(reader, client, wanted.get(&client))?;
    }
    check_chain(reader, wanted.values().map(|ack| ack.revision).max().unwrap_or(0), seen)
}

fn check_client(reader: &Reader, client: u64, ack: Option<&Ack>) -> Result<(), String> {
    let get = |at: usize| reader.get(&keys(client)[at]).map_err(|error| error.to_string());
    let (acked, acked_revision) = ack.map_or((0, 0), |ack| (ack.turn, ack.revision));
    let (Some(a), Some(b)) = (get(0)?, get(1)?) else {
        return if acked == 0 {
            Ok(())
        } else {
            Err(format!("client {client}: turn {acked} was acknowledged, nothing is there"))
        };
    };
    let turn = turn_of(&a.value);
    if a.value != b.value || a.mod_revision != b.mod_revision {
        return Err(format!(
            "client {client}: half of a transaction: turns {turn} and {}",
            turn_of(&b.value)
        ));
    }
    if turn != acked && turn != acked + 1 {
        return Err(format!("client {client}: turn {acked} was acknowledged, {turn} is there"));
    }
    let revision_fits =
        if turn == acked { a.mod_revision.0 == acked_revision } else { a.mod_revision.0 > acked_revision };
    if !revision_fits {
        return Err(format!(
            "client {client}: turn {turn} at {:?}, acknowledged at {acked_revision}",
            a.mod_revision
        ));
    }
    match get(2)? {
        Some(third)
            if keeps_third(turn) && turn_of(&third.value) == turn && third.mod_revision == a.mod_revision =>
        {
            Ok(())
        }
        None if !keeps_third(turn) => Ok(()),
        third => Err(format!("client {client}: at turn {turn} the third record is {third:?}")),
    }
}

fn check_chain(reader: &Reader, acked: u64, seen: &Path) -> Result<(), String> {
    let revision = reader.revision();
    if revision.0 < acked {
        return Err(format!("revision {acked} was acknowledged, the store is at {revision:?}"));
    }
    let chain_at = |revision: u64| {
        let head = reader.chain_at(Revision(revision)).map_err(|error| error.to_string())?;
        Ok::<_, String>(head.map(|head| format!("{:?}", head.hash)))
    };
    let mut chain = read_seen(seen);
    let compacted = reader.compacted().0;
    chain.retain(|old, _| *old > compacted);
    for (old, hash) in &chain {
        let now = chain_at(*old)?;
        if now.as_ref() != Some(hash) {
            return Err(format!("the chain at revision {old} was {hash}, now it is {now:?}"));
        }
    }
    if let Some(hash) = chain_at(acked)? {
        chain.insert(acked, hash);
    }
    let lines: String = chain.iter().map(|(revision, hash)| format!("{revision} {hash}\n")).collect();
    fs::write(seen, lines).map_err(|error| error.to_string())
}

/// The chain at revisions that earlier looks saw.
fn read_seen(seen: &Path) -> BTreeMap<u64, String> {
    let text = fs::read_to_string(seen).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(revision, hash)| (revision.parse().expect("a revision"), hash.to_owned())).collect()
}
