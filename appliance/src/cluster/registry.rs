//! Records: the cluster's own records through raft: read locally or linearizably, written in transactions.
//!
//! Every write carries a request id and is tried again with the same one while that can help ([`crate::proposal`]); the
//! store answers a repeated request instead of doing it twice. After that the caller hears whether nothing was done or
//! nobody can say. It refuses to interpret records, to write one without its compare, and to hide one that can not be
//! read.

use appliance_consensus::{ProposeError, Raft, ReadError};
use appliance_resources::Status;
use appliance_storage::{
    Author, Command, Compare, Fatal, Key, Op, Outcome, Reader, Record, Reply, RequestId, Revision,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::records::{self, RecordError};
use crate::api::respond::{Refusal, unavailable};
use crate::proposal::{self, WhenBusy};

/// How fresh a look must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Whatever this member has, quorum or not.
    Local,
    /// Everything that anybody was told of.
    Latest,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    /// Nothing was done; a later moment may do.
    #[error("the cluster has no quorum this member can reach; nothing was changed")]
    NoQuorum,
    /// Nothing was done; the queue was full all the time.
    #[error("too many writes wait already; nothing was changed")]
    Busy,
    /// The write may or may not take effect.
    #[error("no quorum confirmed the write in time; it may still take effect")]
    InDoubt,
    /// Nothing was done, and never will be here.
    #[error("this member was removed from its cluster; ask another one")]
    Removed,
    /// This member no longer takes part.
    #[error("this member was removed from its cluster, or has stopped; ask another one")]
    Stopped,
    /// The record under a key is not one.
    #[error("the record {key} {reason}")]
    Unreadable {
        /// Which.
        key: Key,
        /// Why.
        reason: RecordError,
    },
    /// The write breaks a rule of the store.
    #[error("the store refuses the write: {0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Fatal),
}

impl From<RecordsError> for Refusal {
    fn from(error: RecordsError) -> Refusal {
        let status = match &error {
            RecordsError::NoQuorum | RecordsError::Busy | RecordsError::Removed | RecordsError::Stopped => {
                unavailable(&error)
            }
            RecordsError::InDoubt => Status::timeout(&error),
            RecordsError::Unreadable { .. } | RecordsError::Refused(_) | RecordsError::Store(_) => {
                Status::internal(&error)
            }
        };
        status.into()
    }
}

impl From<ProposeError> for RecordsError {
    fn from(error: ProposeError) -> RecordsError {
        match error {
            ProposeError::NoLeader => RecordsError::NoQuorum,
            ProposeError::Busy => RecordsError::Busy,
            ProposeError::Uncertain => RecordsError::InDoubt,
            ProposeError::Removed => RecordsError::Removed,
            ProposeError::Stopped => RecordsError::Stopped,
            ProposeError::TooLarge { .. } | ProposeError::Invalid { .. } => {
                RecordsError::Refused(error.to_string())
            }
        }
    }
}

/// A record as it stands, with what a compare needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing<T> {
    /// What it says.
    pub(crate) value: T,
    /// Its key.
    pub(crate) key: Key,
    /// The revision that wrote it.
    pub(crate) revision: Revision,
}

impl<T> Standing<T> {
    /// That nobody has changed it since.
    pub(crate) fn unchanged(&self) -> Compare {
        Compare::ModRevision { key: self.key.clone(), equals: self.revision }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Committed {
    /// Every compare held: done, at this revision.
    Done(Revision),
    /// One did not: nothing was changed; look again.
    Conflict,
}

/// The cluster's records over the replicated store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Records {
    raft: Raft,
    reader: Reader,
}

impl Records {
    /// Records that are proposed to `raft` and read from what this member has applied.
    pub(crate) fn new(raft: Raft, reader: Reader) -> Records {
        Records { raft, reader }
    }

    /// The member behind it.
    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    /// This member's own state.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Waits until this member's state is as fresh as was asked.
    pub(crate) async fn settle(&self, look: Look) -> Result<(), RecordsError> {
        if look == Look::Local {
            return Ok(());
        }
        let index = self.raft.read_index().await.map_err(|error| match error {
            ReadError::NoLeader => RecordsError::NoQuorum,
            ReadError::Busy => RecordsError::Busy,
            ReadError::Removed => RecordsError::Removed,
            ReadError::Stopped => RecordsError::Stopped,
        })?;
        self.reader.wait_applied(index).await.map_err(|_stopped| RecordsError::Stopped)
    }

    /// One record.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        key: &Key,
        look: Look,
    ) -> Result<Option<Standing<T>>, RecordsError> {
        self.settle(look).await?;
        self.reader.get(key)?.map(standing).transpose()
    }

    /// Every record below a prefix, in key order.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
        look: Look,
    ) -> Result<Vec<Standing<T>>, RecordsError> {
        self.settle(look).await?;
        self.local_list(prefix)
    }

    /// Every record below a prefix, as this member has it.
    pub(crate) fn local_list<T: DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<Standing<T>>, RecordsError> {
        let (_, found) = self.reader.list(&Key::from(prefix))?;
        found.into_iter().map(standing).collect()
    }

    /// Does all of `then` if every compare holds, else nothing. An author without a request id is given one.
    pub(crate) async fn txn(
        &self,
        author: Author,
        compare: Vec<Compare>,
        then: Vec<Op>,
    ) -> Result<Committed, RecordsError> {
        let request = author.request.unwrap_or_else(fresh_request);
        let author = Author { request: Some(request), ..author };
        let command = Command::Txn { author, compare, then, otherwise: Vec::new() };
        let outcome = proposal::propose(&self.raft, command.encode(), WhenBusy::Wait).await?;
        match Outcome::decode(&outcome).map_err(|error| RecordsError::Refused(error.to_string()))? {
            Outcome::Succeeded { revision, replies } => Ok(Committed::Done(newest(revision, &replies))),
            Outcome::Failed { .. } => Ok(Committed::Conflict),
            Outcome::Refused { reason } => Err(RecordsError::Refused(reason)),
            Outcome::Forgotten => Err(RecordsError::InDoubt),
        }
    }
}

/// A put that changed nothing stands at an older revision than the store.
fn newest(revision: Revision, replies: &[Reply]) -> Revision {
    let written = replies.iter().filter_map(|reply| match reply {
        Reply::Put { record, .. } => Some(record.mod_revision),
        Reply::Delete { .. } | Reply::Get { .. } => None,
    });
    written.max().unwrap_or(revision)
}

fn standing<T: DeserializeOwned>(record: Record) -> Result<Standing<T>, RecordsError> {
    let Record { key, value, mod_revision, .. } = record;
    match records::decode(&value) {
        Ok(value) => Ok(Standing { value, key, revision: mod_revision }),
        Err(reason) => Err(RecordsError::Unreadable { key, reason }),
    }
}

/// Writes a record under its key.
pub(crate) fn put<T: Serialize>(key: Key, record: &T) -> Result<Op, RecordsError> {
    match records::encode(record) {
        Ok(value) => Ok(Op::Put { key, value }),
        Err(reason) => Err(RecordsError::Unreadable { key, reason }),
    }
}

/// 128 bits nobody else has drawn.
pub(crate) fn fresh_request() -> RequestId {
    RequestId(*uuid::Uuid::new_v4().as_bytes())
}

#[cfg(test)]
mod tests {
    use appliance_resources::Reason;

    use super::*;

    #[test]
    fn only_what_did_nothing_may_be_tried_again() {
        let reason = |error: RecordsError| Refusal::from(error).status().reason;
        assert_eq!(reason(ProposeError::NoLeader.into()), Some(Reason::ServiceUnavailable));
        assert_eq!(reason(ProposeError::Busy.into()), Some(Reason::ServiceUnavailable));
        assert_eq!(reason(ProposeError::Removed.into()), Some(Reason::ServiceUnavailable));
        assert_eq!(reason(ProposeError::Uncertain.into()), Some(Reason::Timeout));
    }
}
