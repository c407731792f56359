//! Saved: the last enforced rulesets on disk, as scripts that `nft -f` loads at boot before the network is up, and the
//! revision beyond which this host never went.
//!
//! A script is written atomically and only when it changed. The one before it is kept, and each proves that it is whole
//! (`whole`): a disk that rots in one of them costs a change of policy, not the policy. We read them for
//! one purpose: to put the last ruleset back as long as we know no other. A start that finds no table of ours in the
//! kernel does, or one that somebody emptied, before anything that needs the network or a disk that can be written; and
//! the reconciler does when others change the table before the store is known, or did before it began.
//!
//! The revision is written before the kernel is changed, so that a start can tell whether the store, which may have lost
//! its last entries, is at least as new as what is in the kernel. That survives whatever the kernel's table survives; on
//! the way to the script it is made durable too. Beside it stands whether the script is of what is in the kernel, or the
//! kernel was changed since: only then may the kernel differ from it by our own doing. A file that says nothing readable
//! means that nobody knows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{error, warn};

use crate::nft::command::{CommandError, NftCommand};
use crate::nft::{Ruleset, script};
use crate::standing;
use crate::whole;

/// The script's name in the state directory.
pub const FILE: &str = "ruleset.nft";

/// The name of the one before it.
pub const BEFORE: &str = "ruleset.previous.nft";

/// The file beside them with the revision.
const REVISION: &str = "revision";

/// In that file: the newest script is of what is in the kernel.
const SAVED: &str = "saved";

/// In that file: it may be of something older.
const UNSAVED: &str = "unsaved";

/// The disk may hang; the kernel must not wait for it longer than this.
const REVISION_WAIT: Duration = Duration::from_millis(200);

/// What a start found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBack {
    /// The kernel has a table of ours, which stands until the store is known.
    Stands,
    /// It had none, and the last enforced ruleset is in force again.
    Done,
    /// It had one that polices nobody any more, or was switched off, and the last enforced ruleset is in force again.
    Refilled,
    /// It has none, and none was ever enforced here.
    NothingSaved,
}

/// Why the last enforced ruleset could not be put back.
#[derive(Debug, thiserror::Error)]
pub enum PutBackError {
    /// What is there can not be read.
    #[error("{}: can not be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no ruleset any more.
    #[error("{}: neither {FILE} nor {BEFORE} is a whole ruleset any more; restore one of them from a backup", directory.display())]
    Damaged {
        /// Where.
        directory: PathBuf,
    },
    /// nft would not.
    #[error(transparent)]
    Nft(#[from] CommandError),
}

/// Loads the last enforced ruleset if the kernel has no table of ours, or one that polices nobody where that ruleset
/// does: the host is not open while its node waits for the network, for its cluster, or for a store that heals. Only
/// reads, so that a disk that can not be written keeps no host open.
pub async fn put_back(nft: &Path, directory: &Path, table: &str) -> Result<PutBack, PutBackError> {
    let generations = read(directory)?;
    let Some(best) = generations.first() else { return Ok(PutBack::NothingSaved) };
    let nft = NftCommand::new(nft);
    let found = match nft.terse(table).await? {
        None => PutBack::Done,
        Some(listing)
            if standing::policed(&best.script).is_empty() || !standing::policed(&listing).is_empty() =>
        {
            return Ok(PutBack::Stands);
        }
        Some(_) => PutBack::Refilled,
    };
    let mut refused = PutBackError::Damaged { directory: directory.to_owned() };
    for generation in generations {
        generation.tell();
        match nft.load(generation.script).await {
            Ok(()) => return Ok(found),
            // Damaged; for any other failure an older one would not be the answer.
            Err(reason @ CommandError::Refused { .. }) => {
                error!("{}: {reason}", generation.path.display());
                refused = reason.into();
            }
            Err(failed) => return Err(failed.into()),
        }
    }
    Err(refused)
}

/// The revision this host was to enforce last; none if it never did, or if that is not known.
pub fn revision(directory: &Path) -> Option<u64> {
    announced(directory).map(|announced| announced.revision)
}

/// A script on disk.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    path: PathBuf,
    /// What nft is to load.
    pub(crate) script: String,
    /// Whether it is proven to be what was written.
    pub(crate) proven: bool,
    newest: bool,
}

impl Generation {
    /// Says what is wrong with it, if anything is.
    pub(crate) fn tell(&self) {
        if !self.proven {
            let path = self.path.display();
            error!(
                "{path}: does not prove that it is whole, and there is none that does; loaded for want of a better"
            );
        } else if !self.newest {
            error!("the policy before the last is put back in force, from {}", self.path.display());
        }
    }
}

/// The scripts on disk in the order in which they are to be tried: those that prove to be whole first, then by age. One
/// that proves nothing is of use only as far as it reaches to its end: the beginning of it would load as an empty table.
fn read(directory: &Path) -> Result<Vec<Generation>, PutBackError> {
    let (mut generations, mut trouble) = (Vec::new(), None);
    for name in [FILE, BEFORE] {
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                let whole::Opened { text, proven } = whole::open(&bytes);
                if proven || reaches_its_end(&text) {
                    generations.push(Generation { path, script: text, proven, newest: name == FILE });
                } else {
                    error!("{}: is damaged", path.display());
                    trouble = Some(PutBackError::Damaged { directory: directory.to_owned() });
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => {
                error!("{}: can not be read: {source}", path.display());
                trouble = Some(PutBackError::Read { path, source });
            }
        }
    }
    generations.sort_by_key(|generation| !generation.proven);
    match trouble.filter(|_| generations.is_empty()) {
        Some(trouble) => Err(trouble),
        None => Ok(generations),
    }
}

/// Whether a script ends where ours do, with the brace of its table.
fn reaches_its_end(script: &str) -> bool {
    script.lines().rfind(|line| !line.starts_with('#')) == Some("}")
}

/// What is said of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announced {
    /// The revision that was to be enforced last.
    revision: u64,
    /// Whether the newest script is of what is in the kernel.
    saved: bool,
}

fn announced(directory: &Path) -> Option<Announced> {
    let text = fs::read_to_string(directory.join(REVISION)).ok()?;
    if let Some(words) = whole::open_line(&text) {
        let (revision, saved) = words.split_once(' ')?;
        return Some(Announced { revision: revision.parse().ok()?, saved: saved == SAVED });
    }
    // As versions before wrote it.
    let revision = text.strip_suffix('\n')?.parse().ok()?;
    Some(Announced { revision, saved: false })
}

/// Where the last enforced ruleset goes.
pub(crate) struct Saved {
    directory: PathBuf,
    last: Option<Ruleset>,
    /// Of what is in the kernel or on its way there, if that is not on disk.
    unsaved: Option<u64>,
}

impl Saved {
    pub(crate) fn new(directory: &Path) -> Saved {
        Saved { directory: directory.to_owned(), last: None, unsaved: None }
    }

    /// Whether `enforced` is not known to be the one on disk.
    pub(crate) fn is_due(&self, enforced: &Ruleset) -> bool {
        self.unsaved.is_some() || self.last.as_ref() != Some(enforced)
    }

    /// The scripts on disk, best first; none if nothing was ever enforced here.
    pub(crate) async fn generations(&self) -> io::Result<Vec<Generation>> {
        let directory = self.directory.clone();
        let read = tokio::task::spawn_blocking(move || read(&directory)).await;
        read.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    /// What the kernel must have, if nobody but us was at it: the newest script, unless the kernel was changed since.
    pub(crate) fn must_stand(&self, best: &Generation) -> bool {
        best.proven && best.newest && announced(&self.directory).is_some_and(|announced| announced.saved)
    }

    /// Says that what comes into force next is of `revision`, and is not saved. Not made durable here: a host that loses
    /// power loses the kernel's table as well.
    pub(crate) async fn announce(&mut self, revision: u64) -> io::Result<()> {
        self.unsaved = Some(revision);
        let directory = self.directory.clone();
        let coming = Announced { revision, saved: false };
        let written = tokio::task::spawn_blocking(move || announce(&directory, coming));
        match tokio::time::timeout(REVISION_WAIT, written).await {
            Ok(written) => written.map_err(io::Error::other)?,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }

    /// Writes `enforced`, on a thread that may wait for the disk.
    pub(crate) async fn write(&mut self, enforced: &Ruleset) -> io::Result<()> {
        let directory = self.directory.clone();
        let news = (self.last.as_ref() != Some(enforced)).then(|| enforced.clone());
        let saved = self.unsaved.map(|revision| Announced { revision, saved: true });
        let written = tokio::task::spawn_blocking(move || {
            news.map_or(Ok(()), |ruleset| replace(&directory, &script::boot(&ruleset)))?;
            saved.map_or(Ok(()), |saved| announce(&directory, saved))
        });
        written.await.map_err(io::Error::other)??;
        (self.last, self.unsaved) = (Some(enforced.clone()), None);
        Ok(())
    }
}

/// An older revision must not stay where a newer one could not be written.
fn announce(directory: &Path, Announced { revision, saved }: Announced) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(REVISION);
    let line = whole::close_line(&format!("{revision} {}", if saved { SAVED } else { UNSAVED }));
    fs::write(&path, line).inspect_err(|_| drop(fs::remove_file(&path)))
}

/// Puts a script in place as a whole: written beside, made durable, renamed, and the renaming made durable. What was
/// there becomes the one before, unless it can not be proven whole: then the one before is worth more. A crash between
/// the two renamings leaves that one alone.
fn replace(directory: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if let Ok(revision) = File::open(directory.join(REVISION)) {
        revision.sync_all()?;
    }
    let path = directory.join(FILE);
    let unfinished = directory.join(format!("{FILE}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(whole::close(text).as_bytes())?;
    file.sync_all()?;
    match fs::read(&path) {
        Ok(bytes) if whole::open(&bytes).proven => fs::rename(&path, directory.join(BEFORE))?,
        Ok(_) => warn!("{}: is not proven whole, and is not kept", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warn!("{}: can not be read, and is not kept: {error}", path.display()),
    }
    fs::rename(&unfinished, &path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
