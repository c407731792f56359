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

use super::join_client::{self, JoinError, Joiner};
use crate::author;
use crate::data_dir;
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
    use super::*;

    #[test]
    fn a_wish_is_kept_with_its_reason() {
        let directory = tempfile::tempdir().expect("tempdir");
        assert_eq!(wanted(directory.path()), None);
        request(directory.path(), "the log is gone").expect("left");
        assert_eq!(wanted(directory.path()).as_deref(), Some("the log is gone"));
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
