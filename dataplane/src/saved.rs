//! Saved: the last enforced ruleset on disk, as a script that `nft -f` loads at boot before the network is up, and the
//! revision beyond which this host never went.
//!
//! The script is written atomically and only when it changed; a reader finds the old one or the new one. We read it for
//! one purpose: to put the last ruleset back as long as we know no other. A start that finds no table of ours in the
//! kernel does, before anything that needs the network, and the reconciler does when others change the table before the
//! store is known. A restart takes over what is in the kernel.
//!
//! The revision is written before the kernel is changed, so that a start can tell whether the store, which may have lost
//! its last entries, is at least as new as what is in the kernel. That survives whatever the kernel's table survives; on
//! the way to the script it is made durable too. A file that says nothing readable means that nobody knows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::nft::command::{CommandError, NftCommand};
use crate::nft::{Ruleset, script};

/// The file's name in the state directory.
pub const FILE: &str = "ruleset.nft";

/// The file beside it with the revision.
const REVISION: &str = "revision";

/// The disk may hang; the kernel must not wait for it longer than this.
const REVISION_WAIT: Duration = Duration::from_millis(200);

/// What a start found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBack {
    /// The kernel has a table of ours, which stands until the store is known.
    Stands,
    /// It had none, and the last enforced ruleset is in force again.
    Done,
    /// It has none, and none was ever enforced here.
    NothingSaved,
}

/// Why the last enforced ruleset could not be put back.
#[derive(Debug, thiserror::Error)]
pub enum PutBackError {
    /// The file is there and can not be read.
    #[error("{}: can not be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// nft would not.
    #[error(transparent)]
    Nft(#[from] CommandError),
}

/// Loads the last enforced ruleset if the kernel has no table of ours: the host is not open while its node waits for
/// the network, for its cluster, or for a store that heals.
pub async fn put_back(nft: &Path, directory: &Path, table: &str) -> Result<PutBack, PutBackError> {
    let path = directory.join(FILE);
    let script = match fs::read_to_string(&path) {
        Ok(script) => script,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PutBack::NothingSaved),
        Err(source) => return Err(PutBackError::Read { path, source }),
    };
    let nft = NftCommand::new(nft);
    if nft.exists(table).await? {
        return Ok(PutBack::Stands);
    }
    nft.load(script).await?;
    Ok(PutBack::Done)
}

/// The revision this host was to enforce last; none if it never did, or if that is not known.
pub fn revision(directory: &Path) -> Option<u64> {
    fs::read_to_string(directory.join(REVISION)).ok()?.strip_suffix('\n')?.parse().ok()
}

/// Where the last enforced ruleset goes.
pub(crate) struct Saved {
    directory: PathBuf,
    last: Option<Ruleset>,
}

impl Saved {
    pub(crate) fn new(directory: &Path) -> Saved {
        Saved { directory: directory.to_owned(), last: None }
    }

    /// Whether `enforced` is not the one on disk.
    pub(crate) fn is_due(&self, enforced: &Ruleset) -> bool {
        self.last.as_ref() != Some(enforced)
    }

    /// The script on disk; none if nothing was ever enforced here.
    pub(crate) async fn script(&self) -> io::Result<Option<String>> {
        let path = self.directory.join(FILE);
        let read = tokio::task::spawn_blocking(move || fs::read_to_string(path));
        match read.await.map_err(io::Error::other)? {
            Ok(script) => Ok(Some(script)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says that what comes into force next is of `revision`. Not made durable here: a host that loses power loses the
    /// kernel's table as well.
    pub(crate) async fn announce(&self, revision: u64) -> io::Result<()> {
        let directory = self.directory.clone();
        let written = tokio::task::spawn_blocking(move || announce(&directory, revision));
        match tokio::time::timeout(REVISION_WAIT, written).await {
            Ok(written) => written.map_err(io::Error::other)?,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }

    /// Writes `enforced`, on a thread that may wait for the disk.
    pub(crate) async fn write(&mut self, enforced: &Ruleset) -> io::Result<()> {
        let (directory, ruleset) = (self.directory.clone(), enforced.clone());
        let written = tokio::task::spawn_blocking(move || replace(&directory, &script::boot(&ruleset)));
        written.await.map_err(io::Error::other)??;
        self.last = Some(enforced.clone());
        Ok(())
    }
}

/// An older revision must not stay where a newer one could not be written.
fn announce(directory: &Path, revision: u64) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(REVISION);
    fs::write(&path, format!("{revision}\n")).inspect_err(|_| drop(fs::remove_file(&path)))
}

/// Puts a file in place as a whole: written beside, made durable, renamed, and the renaming made durable.
fn replace(directory: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if let Ok(revision) = File::open(directory.join(REVISION)) {
        revision.sync_all()?;
    }
    let path = directory.join(FILE);
    let unfinished = directory.join(format!("{FILE}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_on_disk_is_the_last_whole_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut saved = Saved::new(&directory.path().join("state"));
        let ruleset = Ruleset::new("t");
        assert!(saved.is_due(&ruleset));
        saved.write(&ruleset).await.unwrap();
        assert!(!saved.is_due(&ruleset));
        let text = fs::read_to_string(directory.path().join("state").join(FILE)).unwrap();
        assert_eq!(text, script::boot(&ruleset));
        assert_eq!(fs::read_dir(directory.path().join("state")).unwrap().count(), 1);
        assert_eq!(saved.script().await.unwrap(), Some(text));
    }

    #[tokio::test]
    async fn the_revision_is_the_last_one_announced_or_nobody_knows() {
        let directory = tempfile::tempdir().unwrap();
        let saved = Saved::new(directory.path());
        assert_eq!((revision(directory.path()), saved.script().await.unwrap()), (None, None));
        for announced in [7, 1_000_000_042, 8] {
            saved.announce(announced).await.unwrap();
            assert_eq!(revision(directory.path()), Some(announced));
        }
        for torn in ["", "10", "x\n"] {
            fs::write(directory.path().join(REVISION), torn).unwrap();
            assert_eq!(revision(directory.path()), None, "{torn:?}");
        }
    }
}
