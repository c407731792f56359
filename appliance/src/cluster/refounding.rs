//! Refounding: a one-node cluster made of a snapshot, in a directory of its own.
//!
//! The records are the snapshot's; everything that names the old cluster's members stays behind. A new cluster id keeps
//! what is left of the old one away, the revision leaps so that no client mistakes one for the other, and the log
//! begins empty behind the state. The authority comes along if this host's sealing key opens it and, where a backup is
//! restored, this host had not stopped trusting it. Called by
//! [`super::restore`] and [`super::recover`]; nothing here touches the directory of a node.

use std::fs;
use std::path::Path;

use appliance_consensus::{Config as RaftConfig, StartError, offline};
use appliance_resources::{Kind, ResourceKey};
use appliance_storage::{
    Author, Command, Fatal, Key, Op, OpenError, Refound, Revision, SnapshotError, SnapshotInfo, Store,
    StoreOptions, inspect, refound,
};

use super::records::{self, CaRecord};
use crate::author;
use crate::identity::{IdentityError, NodeIdentity, save};

/// The store, in a data directory.
pub(crate) const STORE: &str = "store";

/// The snapshot the new cluster begins with, while it is being made.
const BEGINNING: &str = "beginning.snapshot";

/// Why no cluster was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefoundingError {
    #[error("the snapshot: {0}")]
    Snapshot(#[from] SnapshotError),
    #[error("the new store: {0}")]
    Open(#[from] OpenError),
    #[error("the new store: {0}")]
    Store(#[from] Fatal),
    #[error("the new log: {0}")]
    Log(#[from] StartError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the new store: {0}")]
    Io(#[from] std::io::Error),
}

/// What is to be made.
pub(crate) struct Plan<'a> {
    /// Who the node will be; its cluster is the new one.
    pub(crate) identity: &'a NodeIdentity,
    /// What may have been reached elsewhere; the leap begins there, or at the snapshot's revision if that is later.
    pub(crate) above: Revision,
    /// How far revisions leap.
    pub(crate) revision_jump: u64,
    /// Whether tokens and credentials come along: those of a backup may have been revoked since.
    pub(crate) with_tokens: bool,
    /// Whether this host can and may go on with the authority; without a record of one, whether it has one elsewhere.
    pub(crate) inherits: &'a dyn Fn(Option<&CaRecord>) -> Inheritance,
}

/// What becomes of the authority in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inheritance {
    /// It goes on: certificates of the old cluster still serve.
    Kept,
    /// Nothing here opens its key: a new one begins.
    Sealed,
    /// This host has stopped trusting it, or one it was being exchanged for or with: a new one begins. Somebody may have
    /// had a reason.
    RotatedOut,
}

/// What was made.
pub(crate) struct Made {
    pub(crate) info: SnapshotInfo,
    /// Whether certificates of the old cluster still serve.
    pub(crate) authority: Inheritance,
    /// Whether its tokens do.
    pub(crate) tokens_kept: bool,
}

/// Makes store, log and identity in `directory`, which is empty, of the snapshot `file`.
pub(crate) fn make(file: &Path, directory: &Path, plan: &Plan<'_>) -> Result<Made, RefoundingError> {
    let old = inspect(file)?;
    let beginning = directory.join(BEGINNING);
    let to = Refound {
        cluster: plan.identity.store_cluster(),
        applied: old.applied.max(1),
        above: plan.above,
        revision_jump: plan.revision_jump,
        without: left_behind(plan.with_tokens),
    };
    let info = refound(file, &beginning, &to)?;
    let options = StoreOptions { cluster: Some(to.cluster), ballast_bytes: 0, ..StoreOptions::default() };
    let mut store = Store::open(&directory.join(STORE), options)?;
    store.restore_from(&beginning)?;
    fs::remove_file(&beginning)?;
    let authority = settle_authority(&mut store, plan)?;
    store.checkpoint()?;
    let applied = store.applied_index();
    drop(store);
    let number = plan.identity.log_number();
    let config = RaftConfig { cluster: number, ..RaftConfig::new(plan.identity.member_id.0, directory) };
    offline::begin(&config, applied)?;
    // Without the authority the node begins as the founder of a new one, and is formed once that is in the store.
    let identity = plan.identity.clone();
    save(
        directory,
        &if authority == Inheritance::Kept { identity.into_formed() } else { identity.into_founder() },
    )?;
    Ok(Made { info, authority, tokens_kept: plan.with_tokens })
}

/// What names members or belongs to them. The cluster's own name is written anew at the next start, and so is what a
/// node reports. Who was put out stays so: where the authority comes along, what their hosts hold would serve again.
fn left_behind(with_tokens: bool) -> Vec<Key> {
    let own = [records::MEMBERS, records::NAMES].into_iter();
    let tokens = [records::TOKENS, records::CREDENTIALS].into_iter().filter(|_| !with_tokens);
    let written_anew =
        [ResourceKey::prefix(Kind::NodeReport, None), ResourceKey::prefix(Kind::ClusterInformation, None)];
    own.chain(tokens).map(Key::from).chain(written_anew.map(Key::from)).collect()
}

/// An authority that nobody can use would be in the way of the one the node makes.
fn settle_authority(store: &mut Store, plan: &Plan<'_>) -> Result<Inheritance, RefoundingError> {
    let key = records::ca_key();
    let Some(record) = store.reader().get(&key)? else { return Ok((plan.inherits)(None)) };
    let readable = records::decode::<CaRecord>(&record.value).ok();
    let inheritance = readable.map_or(Inheritance::Sealed, |record| (plan.inherits)(Some(&record)));
    let reason = match inheritance {
        Inheritance::Kept => return Ok(inheritance),
        Inheritance::Sealed => "restored where nothing opens the authority's key",
        Inheritance::RotatedOut => "restored where the authority had been rotated out",
    };
    let author = Author {
        name: plan.identity.node_name.clone(),
        source: "offline".to_owned(),
        reason: reason.to_owned(),
        time: author::now_ms(),
        request: None,
    };
    let then = vec![Op::Delete { key }];
    let command = Command::Txn { author, compare: Vec::new(), then, otherwise: Vec::new() };
    store.apply(&[(store.applied_index() + 1, Some(command))])?;
    // The file it would heal from must not end before the log begins.
    store.export()?;
    Ok(inheritance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::records::{MemberId, NAMES, REMOVED};

    #[test]
    fn who_was_put_out_stays_so_in_the_cluster_that_is_made_of_a_snapshot() {
        let directory = tempfile::tempdir().expect("tempdir");
        let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
        let mut store = Store::open(&directory.path().join("old"), options).expect("opens");
        let put = |key: Key| Op::Put { key, value: b"{}".to_vec() };
        let keys = [
            records::removed_key(MemberId(7)),
            records::member_key(MemberId(8)),
            records::name_key("n2"),
            records::credential_key("c"),
        ];
        let command = Command::Txn {
            author: author::node("n1", "test"),
            compare: Vec::new(),
            then: keys.map(put).to_vec(),
            otherwise: Vec::new(),
        };
        store.apply(&[(1, Some(command))]).expect("applied");
        let file = directory.path().join("old.snapshot");
        store.snapshot().expect("taken").save(&file).expect("saved");

        let made = directory.path().join("new");
        fs::create_dir(&made).expect("made");
        let identity =
            NodeIdentity::founder("c0ffee".repeat(6)[..32].to_owned(), MemberId(9), "n1".to_owned());
        let plan = Plan {
            identity: &identity,
            above: Revision::ZERO,
            revision_jump: 1_000,
            with_tokens: false,
            inherits: &|_| Inheritance::Sealed,
        };
        make(&file, &made, &plan).expect("made");
        let options = StoreOptions {
            cluster: Some(identity.store_cluster()),
            ballast_bytes: 0,
            ..StoreOptions::default()
        };
        let store = Store::open(&made.join(STORE), options).expect("opens");
        let count = |prefix: &str| store.reader().list(&Key::from(prefix)).expect("read").1.len();
        let own = [REMOVED, records::MEMBERS, NAMES, records::CREDENTIALS].map(count);
        assert_eq!(own, [1, 0, 0, 0]);
    }
}
