//! Staging: what a data directory is about to become, built beside what it is, and put in its place.
//!
//! ```text
//! restoring/            what is being built: store, wal, identity.json
//! restoring/ready.json  all of that is whole and durable: from here on the change only goes forward
//! quarantine-<time>/    what was there before; nothing of it is deleted
//! ```
//!
//! A crash before `ready.json` leaves the old node, and rubble that the next start removes. A crash after it leaves a
//! change half done, which the next start, or the next command, finishes before it looks at anything else
//! ([`finish`]). The identity moves last: until then the new store belongs to another cluster than the directory says,
//! and would be refused. Callers hold the directory's lock.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

use super::join_client::FILE as JOINING;
use super::recover::{ACTED, ASKED};
use super::reseed::MARKER as RESEED;
use crate::data_dir;

/// Where it is built.
const STAGING: &str = "restoring";

/// Says that it is whole.
const READY: &str = "ready.json";

/// What the directories begin with that hold what was there before.
pub(crate) const QUARANTINE: &str = "quarantine-";

/// What is moved into place, in this order, the identity last.
const ARRIVING: [&str; 4] = ["store", "wal", ACTED, "identity.json"];

/// What the node before knew of its cluster, was asked to do or was about to become, and the new one must not.
const LEAVING: [&str; 5] = ["peers.json", "incoming", ASKED, RESEED, JOINING];

/// What also goes when the new cluster has other keys.
const KEYS: [&str; 2] = ["pki", "admin.kubeconfig"];

/// Attempts to find a name for the quarantine that nothing has.
const NAMES_TRIED: u32 = 100;

/// Why a directory could not be changed; the change is finished by repeating the command or starting the node.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: can not be {attempt}: {source}; nothing was deleted, repeat the command once that is mended"
)]
pub(crate) struct StagingError {
    path: PathBuf,
    attempt: &'static str,
    source: io::Error,
}

/// What `ready.json` says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    /// The name of the directory for what was there before.
    quarantine: String,
    /// Whether the keys go there too.
    new_keys: bool,
}

/// A change being built.
#[derive(Debug)]
pub(crate) struct Staging {
    data_dir: PathBuf,
    path: PathBuf,
}

impl Staging {
    /// Begins anew; rubble of an attempt before is removed.
    pub(crate) fn begin(data_dir: &Path) -> Result<Staging, StagingError> {
        let path = data_dir.join(STAGING);
        remove_all(&path)?;
        make_private(&path)?;
        Ok(Staging { data_dir: data_dir.to_owned(), path })
    }

    /// Where to build.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts what was built in place. Answers where the things before are, if there were any.
    pub(crate) fn commit(self, new_keys: bool, now: OffsetDateTime) -> Result<Option<PathBuf>, StagingError> {
        for part in ARRIVING.map(|part| self.path.join(part)) {
            if exists(&part)? {
                sync(&part)?;
            }
        }
        sync(&self.path)?;
        let ready = Ready { quarantine: unused_name(&self.data_dir, now), new_keys };
        // Two plain fields always serialise.
        let text = serde_json::to_vec(&ready).unwrap_or_default();
        let path = self.path.join(READY);
        data_dir::write_private(&path, &text).map_err(failed(&path, "written"))?;
        finish(&self.data_dir)
    }
}

/// Finishes a change that was ready, or clears away one that was not. Answers where the things before are, if it did.
pub(crate) fn finish(data_dir: &Path) -> Result<Option<PathBuf>, StagingError> {
    let staging = data_dir.join(STAGING);
    let path = staging.join(READY);
    let text = data_dir::read_small(&path).map_err(failed(&path, "read"))?;
    let Some(text) = text else {
        remove_all(&staging)?;
        return Ok(None);
    };
    let ready: Ready =
        serde_json::from_str(&text).map_err(|error| failed(&path, "read")(io::Error::other(error)))?;
    let quarantine = data_dir.join(&ready.quarantine);
    let leaving = LEAVING.iter().chain(KEYS.iter().filter(|_| ready.new_keys));
    for name in leaving {
        set_aside(data_dir, &quarantine, name)?;
    }
    for name in ARRIVING {
        let arriving = staging.join(name);
        // What has arrived already is not set aside again.
        if exists(&arriving)? {
            set_aside(data_dir, &quarantine, name)?;
            let place = data_dir.join(name);
            fs::rename(&arriving, &place).map_err(failed(&place, "put in place"))?;
            sync(data_dir)?;
        }
    }
    remove_all(&staging)?;
    Ok(exists(&quarantine)?.then_some(quarantine))
}

/// Moves what is there into the quarantine, durably.
fn set_aside(data_dir: &Path, quarantine: &Path, name: &str) -> Result<(), StagingError> {
    let from = data_dir.join(name);
    if !exists(&from)? {
        return Ok(());
    }
    make_private(quarantine)?;
    fs::rename(&from, quarantine.join(name)).map_err(failed(&from, "moved to the quarantine"))?;
    sync(quarantine)?;
    sync(data_dir)
}

/// A name that says when, and that nothing has.
fn unused_name(data_dir: &Path, now: OffsetDateTime) -> String {
    let form = format_description!("[year][month][day]T[hour][minute][second]Z");
    let base = format!("{QUARANTINE}{}", now.format(&form).unwrap_or_default());
    let names = std::iter::once(base.clone()).chain((2..NAMES_TRIED).map(|n| format!("{base}-{n}")));
    names.into_iter().find(|name| !data_dir.join(name).exists()).unwrap_or(base)
}

fn exists(path: &Path) -> Result<bool, StagingError> {
    path.try_exists().map_err(failed(path, "looked at"))
}

fn make_private(path: &Path) -> Result<(), StagingError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path, "made"))
}

fn remove_all(path: &Path) -> Result<(), StagingError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, "removed")(error)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), StagingError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed(path, "made durable"))
}

fn failed(path: &Path, attempt: &'static str) -> impl FnOnce(io::Error) -> StagingError {
    let path = path.to_owned();
    move |source| StagingError { path, attempt, source }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-20 16:45:10 UTC);

    fn write(directory: &Path, content: &str) {
        fs::create_dir_all(directory.join("store")).expect("store");
        fs::create_dir_all(directory.join("wal")).expect("wal");
        for file in ["store/data", "wal/data", "identity.json"] {
            fs::write(directory.join(file), content).expect("file");
        }
    }

    fn read(directory: &Path) -> Vec<String> {
        let files = ["store/data", "wal/data", "identity.json"];
        files.map(|file| fs::read_to_string(directory.join(file)).unwrap_or_default()).to_vec()
    }

    /// A node with everything, and another built beside it.
    fn world() -> (tempfile::TempDir, Staging) {
        let folder = tempfile::tempdir().expect("tempdir");
        write(folder.path(), "old");
        for file in ["peers.json", "reseed", "join.json"] {
            fs::write(folder.path().join(file), "old").expect("file");
        }
        fs::create_dir(folder.path().join("pki")).expect("pki");
        fs::write(folder.path().join("ruleset.nft"), "policy").expect("ruleset");
        let staging = Staging::begin(folder.path()).expect("begun");
        write(staging.path(), "new");
        (folder, staging)
    }

    #[test]
    fn the_new_is_in_place_and_the_old_in_quarantine() {
        for new_keys in [false, true] {
            let (folder, staging) = world();
            let quarantine = staging.commit(new_keys, NOW).expect("committed").expect("something was there");

            assert_eq!(quarantine, folder.path().join("quarantine-20261120T164510Z"));
            assert_eq!(
                (read(folder.path()), read(&quarantine)),
                (vec!["new".into(); 3], vec!["old".into(); 3])
            );
            for gone in ["peers.json", "reseed", "join.json"] {
                assert!(quarantine.join(gone).exists() && !folder.path().join(gone).exists(), "{gone}");
            }
            assert_eq!(folder.path().join("pki").exists(), !new_keys);
            assert!(folder.path().join("ruleset.nft").exists(), "the policy stays");
            assert!(!folder.path().join(STAGING).exists());
            assert_eq!(finish(folder.path()).expect("nothing to do"), None);
        }
    }

    #[test]
    fn a_crash_before_it_is_ready_leaves_the_old() {
        let (folder, staging) = world();
        drop(staging);
        assert_eq!(finish(folder.path()).expect("cleared"), None);
        assert_eq!(read(folder.path()), vec!["old"; 3]);
        assert!(!folder.path().join(STAGING).exists());
    }

    #[test]
    fn a_crash_at_any_move_is_finished_by_the_next_start() {
        // The moves in order; a crash comes after the first `done` of them.
        let moves: [(&str, &str); 7] = [
            ("peers.json", "quarantine/peers.json"),
            ("store", "quarantine/store"),
            ("restoring/store", "store"),
            ("wal", "quarantine/wal"),
            ("restoring/wal", "wal"),
            ("identity.json", "quarantine/identity.json"),
            ("restoring/identity.json", "identity.json"),
        ];
        for done in 0..=moves.len() {
            let (folder, staging) = world();
            let ready = Ready { quarantine: "quarantine".to_owned(), new_keys: false };
            fs::write(staging.path().join(READY), serde_json::to_vec(&ready).expect("json")).expect("ready");
            fs::create_dir(folder.path().join("quarantine")).expect("quarantine");
            for (from, to) in &moves[..done] {
                fs::rename(folder.path().join(from), folder.path().join(to)).expect("moved");
            }
            let quarantine = finish(folder.path()).expect("finished").expect("there");
            assert_eq!(
                (read(folder.path()), read(&quarantine)),
                (vec!["new".into(); 3], vec!["old".into(); 3])
            );
            assert!(!folder.path().join(STAGING).exists(), "after {done} moves");
        }
    }

    #[test]
    fn two_in_a_second_have_two_quarantines() {
        let (folder, staging) = world();
        staging.commit(false, NOW).expect("committed");
        let again = Staging::begin(folder.path()).expect("begun");
        write(again.path(), "newer");
        let second = again.commit(false, NOW).expect("committed").expect("something was there");
        assert!(second.ends_with("quarantine-20261120T164510Z-2"), "{}", second.display());
        assert_eq!(read(&second), vec!["new"; 3]);
    }
}
