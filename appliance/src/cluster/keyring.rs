//! Keyring: the node's keys, kept on disk and handed to whoever speaks TLS, new ones without a restart.
//!
//! # How a cluster gets its authority, whatever crashes in between
//!
//! 1. The sealing key is made durable.
//! 2. The authority is made, in memory, and the node's certificates by it, in memory.
//! 3. The authority is committed to the store, sealed, on the condition that there is none.
//! 4. What the store now says is followed: certificates are written to disk, listeners open.
//!
//! A crash before 3 leaves nothing that anybody has seen, and the next start begins anew; a crash after 3 finds the
//! record and follows it. Once the node is formed, a store without the record is a loss and no second authority is
//! made. An authority that an earlier version kept in the clear goes the same way instead of a new one, and its file
//! is removed after 3.
//!
//! [`Keyring::open`] is called by `server` between opening the store and starting raft, [`Keyring::establish`] once
//! raft runs, and [`Keyring::follow`] by [`super::renewal`] for as long as the node lives.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use appliance_consensus::transport::PeerTls;
use appliance_storage::{Author, Compare, Reader, Revision};
use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::ca::{self, Authorities, CaError};
use super::certificate::Certificate;
use super::key_files::{KeyFiles, KeyFilesError};
use super::keys::{Keys, Reason, Who};
use super::records::{self, CaRecord, RecordError};
use super::registry::{self, Committed, Look, Records, RecordsError, Standing};
use super::seal::{SealError, SealKey};
use crate::authority::{Authority, IssueError};
use crate::data_dir;
use crate::kubeconfig;
use crate::tls::{self, TlsError};

/// The administrator's kubeconfig, in the data directory.
const KUBECONFIG: &str = "admin.kubeconfig";

/// A leader that is being elected is worth waiting for at a first start; a broken store is not.
const ATTEMPTS: u32 = 100;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the node has no usable keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyringError {
    /// The files.
    #[error(transparent)]
    Files(#[from] KeyFilesError),
    /// The kubeconfig.
    #[error("{path}: can not be written: {source}")]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// What came of it.
        source: std::io::Error,
    },
    /// The authority of a formed cluster is nowhere.
    #[error(
        "{directory}: this node's certificate is missing or damaged and its store does not hold the cluster's \
         authority; restore the directory from a backup, or take this host out on another member (\"appliance ctl member \
         remove\") and let it join again with an empty one"
    )]
    Lost {
        /// Where the keys should be.
        directory: PathBuf,
    },
    /// The sealing key of a formed cluster is gone.
    #[error(
        "{path}: missing, and nothing else opens the authority's key; copy it from another member or a backup"
    )]
    SealLost {
        /// Which file.
        path: PathBuf,
    },
    /// The authority an earlier version left.
    #[error(
        "{path}: {reason}; clients trust this authority, so it is not replaced: restore it from a backup"
    )]
    ClearAuthority {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A sealing key could not be made.
    #[error("the sealing key could not be made: {0}")]
    Seal(#[from] SealError),
    /// The authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The keys do for no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The record in the store.
    #[error("the authority's record in the store {0}")]
    Record(#[from] RecordError),
    /// The store.
    #[error("the cluster's authority could not be stored: {0}")]
    Records(#[from] RecordsError),
}

/// What a keyring is opened with.
pub(crate) struct Opening<'a> {
    /// The node's data directory.
    pub(crate) data_dir: &'a Path,
    /// The cluster's id, as its digits write it.
    pub(crate) cluster_id: &'a str,
    /// Who the node is.
    pub(crate) who: Who,
    /// Whether the cluster's first objects are in the store already.
    pub(crate) formed: bool,
    /// Whether this node joined a cluster that had its authority.
    pub(crate) joined: bool,
    /// What `admin.kubeconfig` names: `https://host:port` of this node.
    pub(crate) server: String,
}

/// The node's keys.
pub(crate) struct Keyring {
    files: KeyFiles,
    seal: SealKey,
    who: Who,
    server: String,
    kubeconfig: PathBuf,
    /// An authority that is not in the store yet; a formed node never has one.
    pending: Mutex<Option<Authority>>,
    keys: watch::Sender<Arc<Keys>>,
    api_tls: watch::Sender<Arc<ServerConfig>>,
    peer_tls: watch::Sender<PeerTls>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("files", &self.files).field("who", &self.who).finish_non_exhaustive()
    }
}

/// The authority's record as a store has it.
pub(crate) fn ca_record(reader: &Reader) -> Result<Option<Standing<CaRecord>>, KeyringError> {
    let key = records::ca_key();
    let Some(record) = reader.get(&key).map_err(RecordsError::from)? else { return Ok(None) };
    Ok(Some(Standing { value: records::decode(&record.value)?, key, revision: record.mod_revision }))
}

impl Keyring {
    /// Loads what is there and makes what is missing or does not fit. `record` is what the store holds, which a
    /// joiner's and a re-seeded member's does not until they have been sent a copy.
    pub(crate) fn open(
        opening: Opening<'_>,
        record: Option<&Standing<CaRecord>>,
        now: OffsetDateTime,
    ) -> Result<Keyring, KeyringError> {
        let files = KeyFiles::open(opening.data_dir)?;
        let standing = files.load()?;
        let clear = if record.is_none() { clear_authority(&files)? } else { None };
        let seal = match (files.seal()?, &clear) {
            (Some(seal), _) => seal,
            // A store without a record has nothing sealed in it, and a cluster that is yet to form nothing to lose.
            (None, Some(_)) => new_seal(&files)?,
            (None, None) if !opening.formed && !opening.joined => new_seal(&files)?,
            (None, _) => return Err(KeyringError::SealLost { path: files.path("seal.key") }),
        };
        let opened =
            record.map(|record| Authorities::open(&record.value, record.revision, &seal)).transpose();
        let (keys, pending) = match (opened, standing, clear) {
            (Ok(Some(authorities)), standing, _) => (renew(standing, &authorities, &opening.who, now)?, None),
            (Err(error), ..) if opening.formed => return Err(error.into()),
            (Ok(None), standing, Some(authority)) => provisional(standing, authority, &opening.who, now)?,
            // A joiner, or a member whose copy is on its way.
            (Ok(None), Some(standing), None) if opening.joined || opening.formed => (standing, None),
            (Ok(None), None, None) if opening.joined || opening.formed => {
                return Err(KeyringError::Lost { directory: files.path("") });
            }
            (_, standing, _) => {
                let authority = Authority::create(opening.cluster_id, 1, now)?;
                provisional(standing, authority, &opening.who, now)?
            }
        };
        let keyring = Keyring {
            api_tls: watch::Sender::new(tls::api_config(&keys)?),
            peer_tls: watch::Sender::new(tls::peer_tls(&keys)?),
            keys: watch::Sender::new(Arc::new(keys)),
            pending: Mutex::new(pending),
            kubeconfig: opening.data_dir.join(KUBECONFIG),
            server: opening.server,
            who: opening.who,
            files,
            seal,
        };
        if let Some(record) = record.filter(|_| !keyring.is_pending()) {
            keyring.keep()?;
            keyring.forget_clear_authority(&record.value)?;
        }
        Ok(keyring)
    }

    /// The keys, and every later version of them.
    pub(crate) fn keys(&self) -> watch::Receiver<Arc<Keys>> {
        self.keys.subscribe()
    }

    /// The API's side of TLS, and every later version of it.
    pub(crate) fn api_tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.api_tls.subscribe()
    }

    /// Both sides of TLS between members, and every later version of them.
    pub(crate) fn peer_tls(&self) -> watch::Receiver<PeerTls> {
        self.peer_tls.subscribe()
    }

    /// What opens the authority's key; a joiner is given it.
    pub(crate) fn seal(&self) -> &SealKey {
        &self.seal
    }

    /// Where the administrator's kubeconfig is.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    fn is_pending(&self) -> bool {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Puts an authority that is not in the store there, sealed; then follows what the store says. Does nothing for a
    /// node whose cluster has its authority.
    pub(crate) async fn establish(
        &self,
        records: &Records,
        author: impl Fn() -> Author,
    ) -> Result<(), KeyringError> {
        let mut attempt = 0;
        while self.is_pending() {
            match self.establish_once(records, author()).await {
                Err(KeyringError::Records(
                    RecordsError::NoQuorum | RecordsError::Busy | RecordsError::InDoubt,
                )) if attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
        Ok(())
    }

    async fn establish_once(&self, records: &Records, author: Author) -> Result<(), KeyringError> {
        let key = records::ca_key();
        let standing = records.get::<CaRecord>(&key, Look::Latest).await?;
        let compare = match &standing {
            Some(standing) if self.opens(standing) => return self.adopt(standing),
            // Nobody has been told of it: it was sealed by a store this cluster began as a copy of.
            Some(standing) => {
                tracing::warn!(
                    "the authority in the store can not be opened with this node's sealing key; making a new one"
                );
                standing.unchanged()
            }
            None => Compare::Absent { key: key.clone() },
        };
        let record = {
            let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(authority) = pending.as_ref() else { return Ok(()) };
            ca::first(authority, &self.seal)?
        };
        match records.txn(author, vec![compare], vec![registry::put(key.clone(), &record)?]).await? {
            Committed::Done(revision) => {
                tracing::info!("the cluster's certificate authority is in the store, its key sealed");
                self.adopt(&Standing { value: record, key, revision })
            }
            // Somebody was faster, or an attempt in doubt was done after all; the next look tells.
            Committed::Conflict => Err(RecordsError::Busy.into()),
        }
    }

    fn opens(&self, standing: &Standing<CaRecord>) -> bool {
        Authorities::open(&standing.value, standing.revision, &self.seal).is_ok()
    }

    fn adopt(&self, standing: &Standing<CaRecord>) -> Result<(), KeyringError> {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.follow(standing, OffsetDateTime::now_utc())?;
        self.keep()?;
        self.forget_clear_authority(&standing.value)
    }

    /// Makes the keys what the record and the time say they should be: on disk first, then for new connections.
    /// Answers why anything changed. May wait for the disk.
    pub(crate) fn follow(
        &self,
        record: &Standing<CaRecord>,
        now: OffsetDateTime,
    ) -> Result<Vec<Reason>, KeyringError> {
        let authorities = Authorities::open(&record.value, record.revision, &self.seal)?;
        let standing = self.keys.borrow().clone();
        let renewal = Keys::renewed(Some(&standing), &authorities, &self.who, now)?;
        if !renewal.reasons.is_empty() {
            let (api, peers) = (tls::api_config(&renewal.keys)?, tls::peer_tls(&renewal.keys)?);
            self.files.save(&renewal.keys)?;
            self.keys.send_replace(Arc::new(renewal.keys));
            self.api_tls.send_replace(api);
            self.peer_tls.send_replace(peers);
            self.write_kubeconfig()?;
        }
        Ok(renewal.reasons)
    }

    /// What is in memory, on disk; for keys that were made before the disk was to know of them.
    fn keep(&self) -> Result<(), KeyringError> {
        let keys = self.keys.borrow().clone();
        self.files.save(&keys)?;
        self.write_kubeconfig()
    }

    fn write_kubeconfig(&self) -> Result<(), KeyringError> {
        let keys = self.keys.borrow().clone();
        let Some(admin) = &keys.admin else { return Ok(()) };
        let text = kubeconfig::render(&self.server, &keys.bundle.concat(), "admin", admin);
        if matches!(data_dir::read_small(&self.kubeconfig), Ok(Some(standing)) if standing == text) {
            return Ok(());
        }
        data_dir::write_private(&self.kubeconfig, text.as_bytes())
            .map_err(|source| KeyringError::Kubeconfig { path: self.kubeconfig.clone(), source })
    }

    /// Removes the key an earlier version kept in the clear, now that the store has it. The key of another authority
    /// is somebody else's to look at.
    fn forget_clear_authority(&self, record: &CaRecord) -> Result<(), KeyringError> {
        let Some(clear) = self.files.clear_authority()? else {
            self.files.remove_left_overs()?;
            return Ok(());
        };
        let clear = rcgen::KeyPair::from_pem(&clear.key).ok().map(|key| key.public_key_raw().to_vec());
        let known = ca::bundle(record)
            .iter()
            .any(|pem| Certificate::from_pem(pem).is_ok_and(|read| Some(&read.public_key) == clear.as_ref()));
        match known {
            true if self.files.remove_left_overs()? => {
                tracing::info!(
                    "the authority's key is sealed in the store now; its file in the clear is removed"
                );
            }
            true => {}
            false => tracing::warn!(
                "{}: holds the key of an authority that is not this cluster's, in the clear; it is not used",
                self.files.path("ca.key").display()
            ),
        }
        Ok(())
    }
}

fn new_seal(files: &KeyFiles) -> Result<SealKey, KeyringError> {
    let seal = SealKey::generate()?;
    files.save_seal(&seal)?;
    Ok(seal)
}

/// The authority of an earlier version. Its certificate alone is no sign of one: `ca.crt` is ours to keep.
fn clear_authority(files: &KeyFiles) -> Result<Option<Authority>, KeyringError> {
    let Some(pem) = files.clear_authority()? else { return Ok(None) };
    let read = Authority::from_pem(pem);
    read.map(Some).map_err(|reason| KeyringError::ClearAuthority { path: files.path("ca.crt"), reason })
}

/// What stands, made to fit.
fn renew(
    standing: Option<Keys>,
    authorities: &Authorities,
    who: &Who,
    now: OffsetDateTime,
) -> Result<Keys, KeyringError> {
    let renewal = Keys::renewed(standing.as_ref(), authorities, who, now)?;
    for reason in &renewal.reasons {
        tracing::info!("made anew at the start: {reason}");
    }
    Ok(renewal.keys)
}

/// Keys of an authority that the store does not hold yet, which nobody sees before it does.
fn provisional(
    standing: Option<Keys>,
    authority: Authority,
    who: &Who,
    now: OffsetDateTime,
) -> Result<(Keys, Option<Authority>), KeyringError> {
    let again = Authority::from_pem(authority.pem().clone()).map_err(CaError::Damaged)?;
    let bundle = vec![authority.pem().certificate.clone()];
    let authorities = Authorities { revision: Revision::ZERO, current: authority, previous: None, bundle };
    Ok((renew(standing, &authorities, who, now)?, Some(again)))
}
