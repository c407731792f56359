//! Restore: what a snapshot file holds, and a data directory for a new cluster of one node made from it.
//!
//! Works without a node. It refuses a directory that a node is using, and one with anything in it that is not a stopped
//! node's own; a stopped node's store and log are moved aside, never deleted. A crash leaves the old directory or a
//! change that the next start finishes ([`super::staging`]). Called by `appliance ctl snapshot status|restore`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use appliance_storage::{Revision, SnapshotError, inspect as inspect_snapshot};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::ca::{Authorities, bundle};
use super::certificate::{Certificate, split_bundle};
use super::reached;
use super::records::{CaRecord, MemberId};
use super::refounding::{self, Inheritance, Made, Plan, RefoundingError};
use super::seal::SealKey;
use super::staging::{self, Staging, StagingError};
use crate::config::parse_node_name;
use crate::data_dir::{DataDir, DataDirError, read_small};
use crate::enforcer::STATE_DIRECTORY;
use crate::identity::{self, IdentityError, NodeIdentity};

/// What may be in a directory that no node has been in.
const EXPECTED: [&str; 5] = ["lock", "lost+found", "pki", "snapshots", STATE_DIRECTORY];

/// What an operator puts into an empty directory to keep the authority.
const SEAL_KEY: &str = "pki/seal.key";

/// The authorities that the node there trusted last.
const TRUSTED: &str = "pki/ca.crt";

/// A shorter leap may end within what was written after the snapshot and is nowhere to be seen.
const REVISION_JUMP_MIN: u64 = 1_000_000;

/// What is to be restored, and where.
#[derive(Debug)]
pub(crate) struct Restore {
    /// The snapshot.
    pub(crate) file: PathBuf,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// The node's name; without one the directory's own, else the host's.
    pub(crate) node_name: Option<String>,
    /// How far revisions leap.
    pub(crate) revision_jump: u64,
    /// What the host calls itself.
    pub(crate) host_name: String,
}

/// Why nothing was restored. The directory is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("{file}: {source}", file = .file.display())]
    Snapshot { file: PathBuf, source: SnapshotError },
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(
        "data directory {path}: holds {example} and no identity, so it is no stopped node's; name an empty directory",
        path = .path.display()
    )]
    NotEmpty { path: PathBuf, example: String },
    #[error("\"{0}\" can not name a node: {1}; give one with --node-name")]
    NodeName(String, String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error(transparent)]
    Refounding(#[from] RefoundingError),
    #[error("data directory {path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "--revision-jump {0} is too little: revisions that clients have seen would come again on other data; give at least \
         {REVISION_JUMP_MIN}, or leave it out"
    )]
    Jump(u64),
    #[error("the host gives no randomness")]
    NoRandomness,
}

/// What a snapshot file holds; all of it is checked.
pub(crate) fn inspect(file: &Path) -> Result<Value, RestoreError> {
    let info =
        inspect_snapshot(file).map_err(|source| RestoreError::Snapshot { file: file.to_owned(), source })?;
    Ok(json!({
        "cluster": info.cluster.map(|cluster| cluster.to_string()),
        "revision": info.revision.0,
        "compacted": info.compacted.0,
        "applied": info.applied,
        "records": info.records,
        "bytes": info.bytes,
        "chain": info.chain.to_string(),
    }))
}

/// Makes the data directory of a new one-node cluster.
pub(crate) fn restore(wanted: &Restore) -> Result<Value, RestoreError> {
    // Before anything is touched.
    if wanted.revision_jump < REVISION_JUMP_MIN {
        return Err(RestoreError::Jump(wanted.revision_jump));
    }
    inspect(&wanted.file)?;
    greet_seal_key(&wanted.data_dir)?;
    let dir = DataDir::open(&wanted.data_dir)?;
    staging::finish(dir.path())?;
    let stored = identity::load(dir.path())?;
    if stored.is_none() {
        refuse_unknown(dir.path())?;
    }
    let node_name = node_name(wanted, stored.as_ref())?;
    let identity = match stored {
        Some(stored) => stored.refounded(new_cluster(), new_member()?, node_name),
        None => NodeIdentity::founder(new_cluster(), new_member()?, node_name),
    };
    let now = OffsetDateTime::now_utc();
    let plan = Plan {
        identity: &identity,
        above: reached::in_directory(dir.path()).max(reached::by_clock(now)),
        revision_jump: wanted.revision_jump,
        with_tokens: false,
        inherits: &|record| inherits(dir.path(), record),
    };
    let staging = Staging::begin(dir.path())?;
    let made = refounding::make(&wanted.file, staging.path(), &plan)?;
    let quarantine = staging.commit(made.authority != Inheritance::Kept, now)?;
    Ok(answer(dir.path(), &identity, &made, quarantine.as_deref()))
}

/// What was made, as an operator is told.
pub(crate) fn answer(
    data_dir: &Path,
    identity: &NodeIdentity,
    made: &Made,
    quarantine: Option<&Path>,
) -> Value {
    let authority = match made.authority {
        Inheritance::Kept => "kept; kubeconfigs with certificates made before still serve",
        Inheritance::Sealed => {
            "new; every kubeconfig made before must be made anew, see admin.kubeconfig after the start"
        }
        Inheritance::RotatedOut => {
            "new; this host no longer trusted the one in the snapshot, which was rotated out, and it does not come back: every \
             kubeconfig made before must be made anew, see admin.kubeconfig after the start"
        }
    };
    let tokens = match made.tokens_kept {
        true => "kept",
        false => "none; make kubeconfigs with tokens anew, those of a backup may have been revoked since",
    };
    json!({
        "cluster": identity.cluster_id,
        "member": identity.member_id,
        "node": identity.node_name,
        "revision": made.info.revision.0,
        "records": made.info.records,
        "authority": authority,
        "tokens": tokens,
        "dataDir": data_dir.display().to_string(),
        "quarantine": quarantine.map(|path| path.display().to_string()),
    })
}

/// Whether this host can go on with the authority of a backup, and may. Every rotation seals with the same key, so that it
/// opens says nothing of when it was; but the certificates that this host trusted last are still there, and a backup must
/// not bring one back that is not among them. A directory without any tells nothing, and the key in it was put there.
fn inherits(data_dir: &Path, record: Option<&CaRecord>) -> Inheritance {
    let trusted =
        read_small(&data_dir.join(TRUSTED)).ok().flatten().map(|text| fingerprints(&split_bundle(&text)));
    match (trusted, record) {
        (Some(trusted), Some(record))
            if !trusted.is_empty() && !trusted.is_superset(&fingerprints(&bundle(record))) =>
        {
            Inheritance::RotatedOut
        }
        (_, record) => opens(data_dir, record),
    }
}

/// Whether this host can go on with the cluster's authority: its sealing key opens the record, or, where the snapshot
/// is of a version that kept it in a file, the file is there.
pub(crate) fn opens(data_dir: &Path, record: Option<&CaRecord>) -> Inheritance {
    let opened = match record {
        Some(record) => {
            let text = read_small(&data_dir.join(SEAL_KEY)).ok().flatten();
            let seal = text.and_then(|text| SealKey::from_base64(&text).ok());
            seal.is_some_and(|seal| Authorities::open(record, Revision::ZERO, &seal).is_ok())
        }
        None => data_dir.join("pki/ca.key").is_file() && data_dir.join(TRUSTED).is_file(),
    };
    if opened { Inheritance::Kept } else { Inheritance::Sealed }
}

/// What cannot be read is no certificate that anybody trusts.
fn fingerprints(bundle: &[String]) -> BTreeSet<String> {
    bundle.iter().filter_map(|pem| Certificate::from_pem(pem).ok()).map(|read| read.fingerprint).collect()
}

pub(crate) fn new_cluster() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

pub(crate) fn new_member() -> Result<MemberId, RestoreError> {
    // Zero names nobody, and comes up once in all that time; then the next draw is another.
    let mut draws = (0..2).map(|_| getrandom::u64());
    let drawn = draws.find(|id| *id != Ok(0)).and_then(Result::ok);
    drawn.map(MemberId).ok_or(RestoreError::NoRandomness)
}

fn node_name(wanted: &Restore, stored: Option<&NodeIdentity>) -> Result<String, RestoreError> {
    let name = wanted.node_name.clone().or_else(|| stored.map(|stored| stored.node_name.clone()));
    let name = name.unwrap_or_else(|| wanted.host_name.to_lowercase());
    parse_node_name(&name).map_err(|reason| RestoreError::NodeName(name.clone(), reason.to_string()))?;
    Ok(name)
}

/// A directory with nothing in it but the sealing key is ours; the lock, made here, is how the next look knows.
fn greet_seal_key(data_dir: &Path) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::Io { path: data_dir.to_owned(), source };
    if !data_dir.join(SEAL_KEY).is_file() || data_dir.join("lock").exists() {
        return Ok(());
    }
    match unexpected(data_dir).map_err(failed)? {
        None => fs::File::create_new(data_dir.join("lock")).map(|_| ()).map_err(failed),
        Some(_) => Ok(()),
    }
}

fn refuse_unknown(data_dir: &Path) -> Result<(), RestoreError> {
    let path = data_dir.to_owned();
    match unexpected(data_dir) {
        Ok(None) => Ok(()),
        Ok(Some(example)) => Err(RestoreError::NotEmpty { path, example }),
        Err(source) => Err(RestoreError::Io { path, source }),
    }
}

/// Something in a directory that does not belong into one where no node has been.
fn unexpected(data_dir: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(data_dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !EXPECTED.contains(&name.as_str()) && !name.starts_with(staging::QUARANTINE) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use crate::cluster::ca;

    #[test]
    fn an_authority_comes_back_only_where_it_is_trusted_still_and_its_key_opens() {
        let folder = tempfile::tempdir().expect("tempdir");
        fs::create_dir(folder.path().join("pki")).expect("made");
        let seal = SealKey::generate().expect("a key");
        let now = OffsetDateTime::now_utc();
        let [old, new] =
            [1, 2].map(|generation| Authority::create("c", generation, now).expect("an authority"));
        let record = ca::first(&old, &seal).expect("a record");
        let newer = ca::first(&new, &seal).expect("a record");
        let rotating = CaRecord { previous: vec![record.current.clone()], ..newer.clone() };
        let trusts = |certificates: &[&Authority]| {
            let text: String = certificates.iter().map(|one| one.pem().certificate.clone()).collect();
            fs::write(folder.path().join(TRUSTED), text).expect("written");
        };
        let look = |record| inherits(folder.path(), Some(record));

        assert_eq!(look(&record), Inheritance::Sealed, "no key");
        fs::write(folder.path().join(SEAL_KEY), seal.to_base64()).expect("written");
        assert_eq!(look(&record), Inheritance::Kept, "a key that was put there");
        trusts(&[&old]);
        assert_eq!(look(&record), Inheritance::Kept);
        trusts(&[&new, &old]);
        assert_eq!([look(&record), look(&newer), look(&rotating)], [Inheritance::Kept; 3], "not finished");
        trusts(&[&new]);
        assert_eq!(look(&record), Inheritance::RotatedOut);
        assert_eq!(look(&rotating), Inheritance::RotatedOut, "it would be trusted again");
        assert_eq!(look(&newer), Inheritance::Kept);
    }
}
