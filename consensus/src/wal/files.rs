//! The files under raft-engine: its own plain ones, with one question asked in between.
//!
//! raft-engine truncates the last file at the first group it cannot read. Before it may, [`super::tail`] must agree
//! that this is a torn tail. Called only by [`super::Wal`].

use std::{
    io::{Error, ErrorKind, Read as _, Result},
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(not(test))]
use raft_engine::env::DefaultFileSystem as Plain;
use raft_engine::env::{FileSystem, Handle, Permission};

use super::tail;
#[cfg(test)]
use crate::sim::TestFiles as Plain;

type PlainHandle = <Plain as FileSystem>::Handle;

/// raft-engine's file system, behind our check.
#[derive(Default)]
pub(crate) struct WalFiles {
    #[cfg(test)]
    pub(crate) faults: Faults,
}

/// What a test makes go wrong.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Faults {
    pub(crate) sync_fails: Arc<std::sync::atomic::AtomicBool>,
}

/// One file of the log.
pub(crate) struct WalFile {
    plain: Arc<PlainHandle>,
    path: PathBuf,
    #[cfg(test)]
    faults: Faults,
}

impl WalFiles {
    fn file(&self, plain: PlainHandle, path: &Path) -> WalFile {
        WalFile {
            plain: Arc::new(plain),
            path: path.to_owned(),
            #[cfg(test)]
            faults: self.faults.clone(),
        }
    }
}

impl FileSystem for WalFiles {
    type Handle = WalFile;
    type Reader = <Plain as FileSystem>::Reader;
    type Writer = <Plain as FileSystem>::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<WalFile> {
        Ok(self.file(Plain.create(&path)?, path.as_ref()))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<WalFile> {
        Ok(self.file(Plain.open(&path, permission)?, path.as_ref()))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        Plain.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> {
        Plain.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<WalFile>) -> Result<Self::Reader> {
        Plain.new_reader(handle.plain.clone())
    }

    fn new_writer(&self, handle: Arc<WalFile>) -> Result<Self::Writer> {
        Plain.new_writer(handle.plain.clone())
    }
}

impl Handle for WalFile {
    /// Recovery's cut, and only recovery's: the writer truncates its file through its own descriptor.
    fn truncate(&self, offset: usize) -> Result<()> {
        let mut bytes = Vec::new();
        Plain.new_reader(self.plain.clone())?.read_to_end(&mut bytes)?;
        if let Some(intact) = tail::intact_group_after(&bytes, offset) {
            let path = self.path.display();
            return Err(Error::new(
                ErrorKind::InvalidData,
                format!(
                    "{path} is damaged at byte {offset}, and entries follow at byte {intact}, so this is no torn \
                     tail; put the file back as it was, or restore the data directory from a backup"
                ),
            ));
        }
        self.plain.truncate(offset)
    }

    fn file_size(&self) -> Result<usize> {
        self.plain.file_size()
    }

    fn sync(&self) -> Result<()> {
        #[cfg(test)]
        if self.faults.sync_fails.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Error::other("injected: input/output error"));
        }
        self.plain.sync()
    }
}
