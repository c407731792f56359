//! Reseed: a member whose data is of no use any more begins again, with a fresh copy and as a new member.
//!
//! Its log may have promised votes that it no longer remembers, so it can not come back as who it was: its id is removed
//! and a new one takes its place, in one change. The wish is a file in the data directory, so that it survives whatever
//! happens on the way; the process that finds it at its start carries it out before it opens anything. The old data is
//! not deleted but set aside, for whoever wants to know what happened to it. Policy stays in force all the while.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::entry;
use super::join_client::{self, JoinError, Joiner};
use super::key_files::KeyFiles;
use crate::author;
use crate::data_dir::{self, DataDir, DataDirError};
use crate::identity::{self, IdentityError, NodeIdentity};

/// The wish.
pub(super) const MARKER: &str = "reseed";

/// What is set aside: everything that the log and the store keep.
const DATA: [&str; 3] = ["store", "wal", "incoming"];

/// Where, in the data directory; followed by a time.
pub(crate) const ASIDE: &str = "set-aside-";

/// Between two rounds of asking every member: one of them may have a quorum by then.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a member could not begin again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReseedError {
    #[error("a fresh copy can not be asked for: {0}")]
    Join(#[from] JoinError),
    #[error("{path}: {attempt}: {source}")]
    File { path: PathBuf, attempt: &'static str, source: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Leaves the wish, durably. `reason` is for people.
pub(crate) fn request(data_dir: &Path, reason: &str) -> io::Result<()> {
    data_dir::write_private(&data_dir.join(MARKER), format!("{reason}\n").as_bytes())
}

/// Why the wish was not left in the directory of a node that does not run. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfflineError {
    #[error("data directory {path}: no node is in it; name the one that the node is started with")]
    NoNode { path: PathBuf },
    #[error(
        "data directory {path}: a node runs with it (process {process}); without --data-dir this command asks that node. If \
         it only starts and ends again, stop it first: systemctl stop appliance"
    )]
    Running { path: PathBuf, process: String },
    #[error(transparent)]
    DataDir(DataDirError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("this node was removed from the cluster; empty its data directory and join again")]
    Removed,
    #[error(
        "data directory {path}: {lacks}, so this node can not ask another for a copy. If there are others: on one of them \
         \"appliance ctl member remove {name}\" and \"appliance ctl token create\"; here move the directory away and run \
         what that prints. If there are none: appliance ctl snapshot restore"
    )]
    Alone { path: PathBuf, name: String, lacks: &'static str },
    #[error(transparent)]
    File(#[from] ReseedError),
}

impl From<DataDirError> for OfflineError {
    fn from(error: DataDirError) -> OfflineError {
        match error {
            DataDirError::Locked { path, process } => OfflineError::Running { path, process },
            error => OfflineError::DataDir(error),
        }
    }
}

/// Leaves the wish in the directory of a node that does not run, because it can not: its next start carries it out.
pub(crate) fn request_offline(path: &Path) -> Result<Value, OfflineError> {
    let no_node = || OfflineError::NoNode { path: path.to_owned() };
    // To open a directory makes it, which nobody means who names one by mistake.
    if !path.is_dir() {
        return Err(no_node());
    }
    let data_dir = DataDir::open(path)?;
    let identity = identity::load(data_dir.path())?.ok_or_else(no_node)?;
    if identity.removed {
        return Err(OfflineError::Removed);
    }
    let alone = |lacks| OfflineError::Alone {
        path: data_dir.path().to_owned(),
        name: identity.node_name.clone(),
        lacks,
    };
    if !entry::has_peers(&data_dir, &identity) {
        return Err(alone("it names no other member"));
    }
    let keys = KeyFiles::open(data_dir.path()).and_then(|files| files.load());
    if !matches!(keys, Ok(Some(_))) {
        return Err(alone("its certificate is missing or can not be read"));
    }
    request(data_dir.path(), "asked for while the node did not run").map_err(|source| ReseedError::File {
        path: data_dir.join(MARKER),
        attempt: "can not be written",
        source,
    })?;
    let name = &identity.node_name;
    let message = format!(
        "{name} fetches a fresh copy when it is started (systemctl start appliance), and sets what it has aside once it is \
         given one; removing {} takes this back",
        data_dir.join(MARKER).display()
    );
    Ok(json!({"node": name, "message": message}))
}

/// The reason, if a member is to begin again.
pub(crate) fn wanted(data_dir: &Path) -> Option<String> {
    let text = data_dir::read_small(&data_dir.join(MARKER)).ok()??;
    Some(text.trim().to_owned())
}

/// Carries the wish out: asks for as long as nobody can answer, then sets the old data aside.
pub(crate) async fn carry_out(
    joiner: &Joiner<'_>,
    was: &NodeIdentity,
    reason: &str,
) -> Result<NodeIdentity, ReseedError> {
    tracing::error!("this member's data is given up: {reason}; policy stays in force");
    let identity = loop {
        match joiner.replace(was).await {
            Ok(identity) => break identity,
            Err(error) if error.passes() => {
                tracing::warn!(
                    "no member can give this one a fresh copy yet: {error}; if the others have no quorum without it, as \
                     the other of two voters, none ever can: then \"appliance ctl recover\" there, and let this host join \
                     anew with an empty data directory"
                );
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    set_aside(joiner.data_dir)?;
    identity::save(joiner.data_dir, &identity)?;
    join_client::forget(joiner.data_dir);
    let path = joiner.data_dir.join(MARKER);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ReseedError::File { path, attempt: "can not be removed", source })
        }
        _ => Ok(identity),
    }
}

/// Moves what there is out of the way. One copy is kept, the newest: a disk is not an archive.
fn set_aside(data_dir: &Path) -> Result<(), ReseedError> {
    let failed = |path: &Path, attempt| {
        let path = path.to_owned();
        move |source| ReseedError::File { path, attempt, source }
    };
    let standing: Vec<&str> = DATA.into_iter().filter(|name| data_dir.join(name).exists()).collect();
    if standing.is_empty() {
        return Ok(());
    }
    for old in earlier(data_dir).map_err(failed(data_dir, "can not be listed"))? {
        fs::remove_dir_all(&old).map_err(failed(&old, "can not be removed"))?;
    }
    let aside = data_dir.join(format!("{ASIDE}{}", author::now_ms()));
    fs::create_dir_all(&aside).map_err(failed(&aside, "can not be made"))?;
    for name in standing {
        let path = data_dir.join(name);
        fs::rename(&path, aside.join(name)).map_err(failed(&path, "can not be set aside"))?;
    }
    tracing::warn!("the old data of this member is kept in {}", aside.display());
    fs::File::open(data_dir)
        .and_then(|directory| directory.sync_all())
        .map_err(failed(data_dir, "can not be made durable"))
}

fn earlier(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(ASIDE) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::authority::Authority;
    use crate::cluster::peers::{self, Peer, Peers};
    use crate::cluster::records::MemberId;

    #[test]
    fn a_wish_is_kept_with_its_reason() {
        let directory = tempfile::tempdir().expect("tempdir");
        assert_eq!(wanted(directory.path()), None);
        request(directory.path(), "the log is gone").expect("left");
        assert_eq!(wanted(directory.path()).as_deref(), Some("the log is gone"));
    }

    fn write(directory: &Path, name: &str, text: &str) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// What is left of a member that has lost its store: who it is, what it shows, and who else there is.
    fn remains(directory: &Path) -> NodeIdentity {
        let identity = NodeIdentity::founder("0".repeat(31) + "1", MemberId(1), "n1".to_owned());
        drop(DataDir::open(directory).expect("ours"));
        identity::save(directory, &identity).expect("saved");
        let peer = |id: u64| Peer {
            id: MemberId(id),
            name: format!("n{id}"),
            peer: vec![format!("10.0.0.{id}:2380")],
            api: vec![format!("10.0.0.{id}:6443")],
        };
        let peers = Peers { members: vec![peer(1), peer(2)], ..Peers::default() };
        peers::save(directory, &identity.cluster_id, &peers).expect("saved");
        let now = OffsetDateTime::now_utc();
        let authority = Authority::create(&identity.cluster_id, 1, now).expect("created").pem().clone();
        write(directory, "pki/ca.crt", &authority.certificate);
        write(directory, "pki/node.crt", &authority.certificate);
        write(directory, "pki/node.key", &authority.key);
        identity
    }

    fn refusal(directory: &Path) -> String {
        let refusal = request_offline(directory).expect_err("refused").to_string();
        assert_eq!(wanted(directory), None, "{refusal}");
        refusal
    }

    #[test]
    fn a_node_that_does_not_start_is_given_the_wish_by_its_directory() {
        let directory = tempfile::tempdir().expect("tempdir");
        remains(directory.path());
        let running = DataDir::open(directory.path()).expect("locked");
        let said = refusal(directory.path());
        assert!(said.contains("a node runs with it") && said.contains("without --data-dir"), "{said}");
        drop(running);
        let answer = request_offline(directory.path()).expect("left");
        assert_eq!(answer["node"], "n1");
        assert_eq!(wanted(directory.path()).as_deref(), Some("asked for while the node did not run"));
    }

    #[test]
    fn a_directory_that_can_not_begin_again_is_told_what_to_do_instead() {
        let directory = tempfile::tempdir().expect("tempdir");
        let absent = directory.path().join("absent");
        assert!(refusal(&absent).contains("no node is in it"));
        assert!(!absent.exists());
        assert!(refusal(directory.path()).contains("no node is in it"), "an empty one");

        let identity = remains(directory.path());
        write(directory.path(), "identity.json", "{");
        let said = refusal(directory.path());
        assert!(said.contains("identity.json") && said.contains("appliance ctl member remove"), "{said}");
        identity::save(directory.path(), &identity.clone().into_removed()).expect("saved");
        assert!(refusal(directory.path()).contains("was removed from the cluster"));
        identity::save(directory.path(), &identity).expect("saved");
        fs::remove_file(directory.path().join("pki/node.key")).expect("removed");
        let said = refusal(directory.path());
        assert!(said.contains("its certificate is missing") && said.contains("member remove n1"), "{said}");
        fs::remove_file(directory.path().join("peers.json")).expect("removed");
        assert!(refusal(directory.path()).contains("it names no other member"));
    }

    #[test]
    fn old_data_is_set_aside_and_only_the_newest_is_kept() {
        let directory = tempfile::tempdir().expect("tempdir");
        let stale = directory.path().join(format!("{ASIDE}1"));
        fs::create_dir_all(stale.join("store")).expect("made");
        fs::create_dir_all(directory.path().join("wal")).expect("made");
        fs::write(directory.path().join("wal/one"), "x").expect("written");
        set_aside(directory.path()).expect("set aside");
        assert!(!directory.path().join("wal").exists() && !stale.exists());
        let kept = earlier(directory.path()).expect("listed");
        assert_eq!(kept.len(), 1);
        assert!(kept[0].join("wal/one").exists());
        set_aside(directory.path()).expect("nothing more to do");
        assert_eq!(
            earlier(directory.path()).expect("listed"),
            kept,
            "what is gone already stays where it is"
        );
    }
}
