//! The data directory: made private, held by one process at a time.
//!
//! Everything a node is lives in it: identity, keys, log, store, last enforced ruleset. `DataDir` holds the lock for as
//! long as it lives, so two processes can never write one store. A directory that holds something else is refused
//! untouched: narrowing the mode of `/` or of somebody's home would be worse than not starting.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::enforcer::STATE_DIRECTORY;

/// Held locked by the process the directory belongs to; its content is that process's id, for the error message.
const LOCK_FILE: &str = "lock";

/// Keys are inside: nobody but the owner even lists it.
const DIRECTORY_MODE: u32 = 0o700;

/// Keys, identity and kubeconfig: the owner reads and writes.
const FILE_MODE: u32 = 0o600;

/// What a directory may hold that no node was in: what a fresh file system comes with, and the last policy of this host,
/// which stays when the rest of a node is moved out.
const HARMLESS: [&str; 2] = ["lost+found", STATE_DIRECTORY];

/// No file read whole from the data directory is larger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why the data directory can not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error("data directory {path}: is not a directory; name another with --data-dir")]
    NotADirectory { path: PathBuf },
    #[error(
        "data directory {path}: holds files that are not of appliance (such as {example}); name an empty one with \
         --data-dir"
    )]
    Foreign { path: PathBuf, example: String },
    #[error(
        "data directory {path}: in use by another appliance (process {process}); stop it first, or name another with --data-dir"
    )]
    Locked { path: PathBuf, process: String },
    #[error(
        "data directory {path}: can not {attempt}: {source}; make it writable or name another with --data-dir"
    )]
    Io { path: PathBuf, attempt: &'static str, source: io::Error },
}

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory where missing, makes it private and locks it.
    pub(crate) fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let failed = |attempt| move |source| DataDirError::Io { path: path.to_owned(), attempt, source };
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(|source| match source
            .kind()
        {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                DataDirError::NotADirectory { path: path.to_owned() }
            }
            _ => failed("create it")(source),
        })?;
        let path = path.canonicalize().map_err(failed("resolve it"))?;
        refuse_foreign(&path)?;
        let lock = lock(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(DIRECTORY_MODE))
            .map_err(failed("set its mode to 0700"))?;
        Ok(DataDir { path, _lock: lock })
    }

    /// The directory's absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file or directory inside.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

/// A directory is ours when it is empty or was locked by us before.
fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    if path.join(LOCK_FILE).exists() {
        return Ok(());
    }
    let failed = |source| DataDirError::Io { path: path.to_owned(), attempt: "list it", source };
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            let example = name.to_string_lossy().into_owned();
            return Err(DataDirError::Foreign { path: path.to_owned(), example });
        }
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, DataDirError> {
    let failed = |attempt| move |source| DataDirError::Io { path: directory.to_owned(), attempt, source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(directory.join(LOCK_FILE))
        .map_err(failed("write in it"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            // Only for the message; the lock itself has spoken.
            let _ = file.take(32).read_to_string(&mut process);
            let process = Some(process.trim().to_owned()).filter(|id| !id.is_empty());
            let process = process.unwrap_or_else(|| "unknown".to_owned());
            return Err(DataDirError::Locked { path: directory.to_owned(), process });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock it")(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed("write in it"))?;
    Ok(file)
}

/// Puts a private file in place whole or not at all, durable when this returns.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // A left-over of a crash may carry any mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a whole small file of text; `None` when there is none.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<String>> {
    let text = read_small_bytes(path)?.map(String::from_utf8).transpose();
    text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The same of any file.
pub(crate) fn read_small_bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn a_missing_directory_is_made_private() {
        let parent = tempfile::tempdir().expect("tempdir");
        let data = DataDir::open(&parent.path().join("a/b")).expect("opens");
        assert_eq!(mode(data.path()), 0o700);
    }

    #[test]
    fn a_directory_of_ours_with_a_wide_mode_is_narrowed() {
        let parent = tempfile::tempdir().expect("tempdir");
        let path = parent.path().join("d");
        drop(DataDir::open(&path).expect("opens"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let data = DataDir::open(&path).expect("opens again");
        assert_eq!(mode(data.path()), 0o700);
    }

    #[test]
    fn the_second_to_open_is_told_who_was_first() {
        let parent = tempfile::tempdir().expect("tempdir");
        let first = DataDir::open(parent.path()).expect("opens");
        let refusal = DataDir::open(parent.path()).expect_err("locked").to_string();
        assert!(refusal.contains(&format!("(process {})", std::process::id())), "{refusal}");

        drop(first);
        DataDir::open(parent.path()).expect("free again");
    }

    #[test]
    fn somebody_elses_directory_is_refused_untouched() {
        let parent = tempfile::tempdir().expect("tempdir");
        fs::write(parent.path().join("thesis.tex"), "x").expect("write");
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).expect("chmod");

        let refusal = DataDir::open(parent.path()).expect_err("foreign").to_string();

        assert!(refusal.contains("thesis.tex"), "{refusal}");
        assert_eq!(mode(parent.path()), 0o755);
        assert!(!parent.path().join(LOCK_FILE).exists());
    }

    #[test]
    fn a_directory_that_was_left_with_the_last_policy_is_new() {
        let parent = tempfile::tempdir().expect("tempdir");
        fs::create_dir(parent.path().join(STATE_DIRECTORY)).expect("made");
        DataDir::open(parent.path()).expect("opens");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let parent = tempfile::tempdir().expect("tempdir");
        let path = parent.path().join("file");
        fs::write(&path, "x").expect("write");
        for path in [path.clone(), path.join("below")] {
            let refusal = DataDir::open(&path).expect_err("refused").to_string();
            assert!(refusal.contains("is not a directory"), "{refusal}");
        }
    }

    #[test]
    fn a_private_file_replaces_the_old_one_and_stays_private() {
        let parent = tempfile::tempdir().expect("tempdir");
        let path = parent.path().join("key.pem");
        fs::write(parent.path().join("key.new"), "left over").expect("write");
        for content in ["one", "two"] {
            write_private(&path, content.as_bytes()).expect("written");
            assert_eq!(read_small(&path).expect("read").as_deref(), Some(content));
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!(read_small(&parent.path().join("absent")).expect("read"), None);
    }
}
