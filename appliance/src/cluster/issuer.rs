//! Issuer: certificates for those who ask: nodes that join, people and programs that are given credentials.
//!
//! The authority is unsealed from the store for each certificate and forgotten after it: issuing is rare, and a key
//! that is in memory for milliseconds is not in a core dump. Any member issues. It refuses to decide who may have a
//! certificate: the handlers below `/cluster/` do, before they come here.

use std::sync::Arc;

use appliance_resources::Status;
use appliance_storage::Compare;
use time::{Duration, OffsetDateTime};

use super::ca::{Authorities, CaError};
use super::certificate::Certificate;
use super::keyring::Keyring;
use super::keys::{NODE_LIFETIME, Who};
use super::records::{self, CaRecord};
use super::registry::{Look, Records, RecordsError, Standing};
use crate::api::caller::Role;
use crate::api::respond::{Refusal, unavailable};
use crate::authority::{IssueError, Profile};

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerError {
    /// This member has no copy of the authority yet.
    #[error("this member does not have the cluster's authority yet; ask again, or another member")]
    NoAuthority,
    /// The authority can not be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The store.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

impl From<IssuerError> for Refusal {
    fn from(error: IssuerError) -> Refusal {
        match error {
            IssuerError::NoAuthority => unavailable(error).into(),
            IssuerError::Issue(IssueError::Request { .. }) => Status::bad_request(error.to_string()).into(),
            IssuerError::Ca(_) | IssuerError::Issue(_) => Status::internal(error).into(),
            IssuerError::Records(error) => error.into(),
        }
    }
}

/// A node's certificate, and what its transaction must compare.
#[derive(Debug)]
pub(crate) struct IssuedNode {
    /// PEM.
    pub(crate) certificate: String,
    /// Every authority the node must trust, in PEM.
    pub(crate) bundle: String,
    /// What it says, for the member's record.
    pub(crate) read: Certificate,
    /// That the authority is still the one that issued it: a join that overlaps a step of a rotation is done again, so
    /// that nobody joins with less trust than the others wait for.
    pub(crate) compare: Compare,
}

/// A client's certificate.
pub(crate) struct IssuedClient {
    /// PEM.
    pub(crate) certificate: String,
    /// PEM, unless the client brought a certificate request.
    pub(crate) key: Option<String>,
    /// Every authority the client should trust, in PEM.
    pub(crate) bundle: String,
    /// When it ends.
    pub(crate) expires: OffsetDateTime,
}

/// Issues certificates.
#[derive(Clone)]
pub(crate) struct Issuer {
    records: Records,
    keyring: Arc<Keyring>,
}

impl Issuer {
    /// An issuer over this member's copy of the records.
    pub(crate) fn new(records: Records, keyring: Arc<Keyring>) -> Issuer {
        Issuer { records, keyring }
    }

    /// A certificate for a node that joins, made for the key of its certificate request.
    pub(crate) async fn issue_node(
        &self,
        request: &str,
        who: &Who,
        now: OffsetDateTime,
    ) -> Result<IssuedNode, IssuerError> {
        let authorities = self.authorities().await?;
        let certificate =
            authorities.current.issue_for_request(&who.profile(), request, NODE_LIFETIME, now)?;
        let read = Certificate::from_pem(&certificate).map_err(CaError::from)?;
        let compare = Compare::ModRevision { key: records::ca_key(), equals: authorities.revision };
        Ok(IssuedNode { certificate, bundle: authorities.bundle.concat(), read, compare })
    }

    /// A certificate for a client; with a key of ours if it brings no request.
    pub(crate) async fn issue_client(
        &self,
        user: &str,
        role: &Role,
        lifetime: Duration,
        request: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<IssuedClient, IssuerError> {
        let authorities = self.authorities().await?;
        let profile = Profile::Client { user, group: role.group(), of: None };
        let (certificate, key) = match request {
            Some(request) => (authorities.current.issue_for_request(&profile, request, lifetime, now)?, None),
            None => {
                let pem = authorities.current.issue(&profile, lifetime, now)?;
                (pem.certificate, Some(pem.key))
            }
        };
        let expires = Certificate::from_pem(&certificate).map_err(CaError::from)?.not_after;
        Ok(IssuedClient { certificate, key, bundle: authorities.bundle.concat(), expires })
    }

    /// The latest authorities; without a quorum, the ones this member has: an administrator must be able to get
    /// credentials when the cluster is at its worst.
    async fn authorities(&self) -> Result<Authorities, IssuerError> {
        let key = records::ca_key();
        let record: Option<Standing<CaRecord>> = match self.records.get(&key, Look::Latest).await {
            Err(RecordsError::NoQuorum | RecordsError::Busy) => self.records.get(&key, Look::Local).await?,
            found => found?,
        };
        let record = record.ok_or(IssuerError::NoAuthority)?;
        Ok(Authorities::open(&record.value, record.revision, self.keyring.seal())?)
    }
}
