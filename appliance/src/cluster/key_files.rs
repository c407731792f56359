//! Key files: the node's keys and certificates on disk, under `<data-dir>/pki`, every file 0600.
//!
//! | file | what |
//! |---|---|
//! | `ca.crt` | every authority that is trusted, one after the other |
//! | `node.crt`, `node.key` | what the node shows, and the key of it |
//! | `api.crt` | while a rotation is not finished: what clients are shown, for the same key |
//! | `admin.crt`, `admin.key` | what `admin.kubeconfig` holds |
//! | `seal.key` | opens the authority's key in the store |
//! | `ca.key`, `server.*` | left by versions before the cluster; read once, then removed |
//!
//! It decides nothing: [`super::keyring`] does. A pair that a crash cut in two is a pair that does not belong
//! together, which its reader notices.

use std::io;
use std::path::{Path, PathBuf};

use super::certificate::split_bundle;
use super::keys::Keys;
use super::seal::{SealError, SealKey};
use crate::authority::Pem;
use crate::data_dir;

/// Below the data directory.
const DIRECTORY: &str = "pki";

/// Left by versions that kept the authority's key in the clear; the key goes first, for the rest is harmless.
const LEFT_OVERS: [&str; 3] = ["ca.key", "server.key", "server.crt"];

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFilesError {
    /// The disk.
    #[error("{path}: {attempt}: {source}; the node needs its keys, restore the file or its rights")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        attempt: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// The sealing key is damaged.
    #[error("{path}: {source}; copy it from another member of the cluster")]
    Seal {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: SealError,
    },
}

/// The directory of the files.
#[derive(Clone, Debug)]
pub(crate) struct KeyFiles {
    directory: PathBuf,
}

impl KeyFiles {
    /// Makes the directory where it is missing.
    pub(crate) fn open(data_dir: &Path) -> Result<KeyFiles, KeyFilesError> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = data_dir.join(DIRECTORY);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|source| KeyFilesError::Io {
            path: directory.clone(),
            attempt: "can not be made",
            source,
        })?;
        Ok(KeyFiles { directory })
    }

    /// Where a file is, for messages.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The node's keys, or nothing when one of the files that make a node is missing.
    pub(crate) fn load(&self) -> Result<Option<Keys>, KeyFilesError> {
        let bundle = split_bundle(&self.read("ca.crt")?.unwrap_or_default());
        let Some(node) = self.pair("node")? else { return Ok(None) };
        if bundle.is_empty() {
            return Ok(None);
        }
        Ok(Some(Keys { bundle, node, api: self.read("api.crt")?, admin: self.pair("admin")? }))
    }

    /// Makes the keys durable. Trust comes first: whoever shows a certificate must be ready to see one like it.
    pub(crate) fn save(&self, keys: &Keys) -> Result<(), KeyFilesError> {
        self.write("ca.crt", &keys.bundle.concat())?;
        match &keys.api {
            Some(certificate) => self.write("api.crt", certificate)?,
            None => self.remove("api.crt")?,
        }
        self.write("node.key", &keys.node.key)?;
        self.write("node.crt", &keys.node.certificate)?;
        if let Some(admin) = &keys.admin {
            self.write("admin.key", &admin.key)?;
            self.write("admin.crt", &admin.certificate)?;
        }
        Ok(())
    }

    /// The sealing key.
    pub(crate) fn seal(&self) -> Result<Option<SealKey>, KeyFilesError> {
        let text = self.read("seal.key")?;
        let read = text.map(|text| SealKey::from_base64(&text)).transpose();
        read.map_err(|source| KeyFilesError::Seal { path: self.path("seal.key"), source })
    }

    /// Makes the sealing key durable.
    pub(crate) fn save_seal(&self, seal: &SealKey) -> Result<(), KeyFilesError> {
        self.write("seal.key", &format!("{}\n", seal.to_base64()))
    }

    /// The authority that an earlier version kept in the clear.
    pub(crate) fn clear_authority(&self) -> Result<Option<Pem>, KeyFilesError> {
        self.pair("ca")
    }

    /// Removes what earlier versions left. A disk may keep what was on it for as long as it likes; whoever fears that
    /// rotates the authority.
    pub(crate) fn remove_left_overs(&self) -> Result<bool, KeyFilesError> {
        let mut removed = false;
        for name in LEFT_OVERS {
            removed |= self.path(name).exists();
            self.remove(name)?;
        }
        Ok(removed)
    }

    /// Certificate and key, or nothing when either is missing: a crash may have come between the two.
    fn pair(&self, name: &str) -> Result<Option<Pem>, KeyFilesError> {
        let both = (self.read(&format!("{name}.crt"))?, self.read(&format!("{name}.key"))?);
        let (Some(certificate), Some(key)) = both else { return Ok(None) };
        Ok(Some(Pem { certificate, key }))
    }

    /// Bytes that are no text are damage like any other, which whoever reads the text finds, and heals.
    fn read(&self, name: &str) -> Result<Option<String>, KeyFilesError> {
        let path = self.path(name);
        let bytes = data_dir::read_small_bytes(&path).map_err(|source| KeyFilesError::Io {
            path,
            attempt: "can not be read",
            source,
        })?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes nothing where nothing would change: most looks change nothing.
    fn write(&self, name: &str, text: &str) -> Result<(), KeyFilesError> {
        if self.read(name).is_ok_and(|standing| standing.as_deref() == Some(text)) {
            return Ok(());
        }
        let path = self.path(name);
        data_dir::write_private(&path, text.as_bytes()).map_err(|source| KeyFilesError::Io {
            path,
            attempt: "can not be written",
            source,
        })
    }

    fn remove(&self, name: &str) -> Result<(), KeyFilesError> {
        let path = self.path(name);
        let removed = match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed,
        };
        removed
            .and_then(|()| std::fs::File::open(&self.directory)?.sync_all())
            .map_err(|source| KeyFilesError::Io { path, attempt: "can not be removed", source })
    }
}
