//! Opens a member after a fault and asks it for everything it ever acknowledged.

use std::{collections::BTreeMap, path::Path};

use appliance_consensus::StopReason;
use appliance_storage::{ChainHead, Reader, Revision};

use crate::{
    acks,
    writer::{self, CLIENTS, keeps_third, keys, turn_of},
};

/// What earlier looks at the same member saw: the chain of a revision never changes once it was acknowledged.
#[derive(Default)]
pub(crate) struct Seen {
    chain: BTreeMap<u64, ChainHead>,
}

/// Opens the member over `data`, checks it against the acks, and closes it again.
///
/// * Every acknowledged turn is there, at the revision that was acknowledged or a later one of the same client.
/// * At most one turn of a client is there that was not acknowledged: the one that was in flight.
/// * No half of any transaction: both records of a client have one turn and one revision, the third agrees.
/// * Revisions do not go backwards, and the chain of an old revision is what it was.
/// * The member goes on serving.
pub(crate) fn verify(data: &Path, acks: &Path, seen: &mut Seen) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let wanted = acks::last_of_each(acks);
    let (raft, reader) = writer::open(data)?;
    runtime.block_on(async {
        raft.read_index().await.map_err(|error| error.to_string())?;
        for client in 0..CLIENTS {
            check_client(&reader, client, wanted.get(&client))?;
        }
        check_chain(&reader, wanted.values().map(|ack| ack.revision).max().unwrap_or(0), seen)?;
        raft.stop().await;
        match raft.stopped().await {
            StopReason::Requested => Ok(()),
            StopReason::Failed(reason) => Err(format!("stopping: {reason}")),
        }
    })
}

fn check_client(reader: &Reader, client: u64, ack: Option<&acks::Ack>) -> Result<(), String> {
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

fn check_chain(reader: &Reader, acked: u64, seen: &mut Seen) -> Result<(), String> {
    let revision = reader.revision();
    if revision.0 < acked {
        return Err(format!("revision {acked} was acknowledged, the store is at {revision:?}"));
    }
    let compacted = reader.compacted().0;
    seen.chain.retain(|old, _| *old > compacted);
    for (old, head) in &seen.chain {
        let now = reader.chain_at(Revision(*old)).map_err(|error| error.to_string())?;
        if now.as_ref() != Some(head) {
            return Err(format!("the chain at revision {old} was {head:?}, now it is {now:?}"));
        }
    }
    if let Some(head) = reader.chain_at(Revision(acked)).map_err(|error| error.to_string())? {
        seen.chain.insert(acked, head);
    }
    Ok(())
}
