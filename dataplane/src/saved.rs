//! Saved: the last enforced ruleset on disk, as a script that `nft -f` loads at boot before the network is up.
//!
//! Written atomically and only when it changed; a reader finds the old one or the new one. Read by us for one purpose:
//! a start that finds no table of ours in the kernel puts the last one back, before anything that needs the network. A
//! restart takes over what is in the kernel.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::nft::command::{CommandError, NftCommand};
use crate::nft::{Ruleset, script};

/// The file's name in the state directory.
pub const FILE: &str = "ruleset.nft";

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

    /// Writes `enforced`, on a thread that may wait for the disk.
    pub(crate) async fn write(&mut self, enforced: &Ruleset) -> io::Result<()> {
        let (directory, ruleset) = (self.directory.clone(), enforced.clone());
        let written = tokio::task::spawn_blocking(move || replace(&directory, &script::boot(&ruleset)));
        written.await.map_err(io::Error::other)??;
        self.last = Some(enforced.clone());
        Ok(())
    }
}

/// Puts a file in place as a whole: written beside, made durable, renamed, and the renaming made durable.
fn replace(directory: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
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
    }
}
