//! Refusal: why a node is not let in, and what that is answered with. Pure.
//!
//! The text is what both ends say: the member logs it, the node that asked ends with it. So it names the way out.

use appliance_consensus::ChangeError;
use appliance_resources::Reason;

use super::issuer::IssuerError;
use super::records::{MemberId, PROTOCOL};
use super::registry::RecordsError;
use super::token::TokenRefusal;
use crate::api::respond::Refusal;
use crate::authority::IssueError;

/// Why a node was not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinRefusal {
    #[error("the request can not be understood: {0}")]
    Malformed(String),
    #[error(
        "it speaks protocol {theirs} (version {version}), this cluster speaks {PROTOCOL}; install the version that the \
         members run"
    )]
    Protocol { theirs: u32, version: String },
    #[error("its clock is {by} {than} this member's; set it, by NTP for example, and try again")]
    Clock { by: String, than: &'static str },
    #[error(
        "its data directory belongs to a member of cluster {cluster}; start it without --join, or name another --data-dir \
         there to join as a new node"
    )]
    OtherCluster { cluster: String },
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    #[error("neither a join token nor the certificate of member {old} speaks for it")]
    NotThatMember { old: MemberId },
    #[error(
        "member {old} was removed from this cluster, or is being removed; only a join token lets its host in again: empty \
         its data directory and join with one"
    )]
    Removed { old: MemberId },
    #[error(
        "the node name {name} belongs to member {member} already; give this host another with --node-name, or, if that \
         member is gone for good, remove it first: appliance ctl member remove {member}"
    )]
    NameTaken { name: String, member: MemberId },
    #[error(
        "address {address} belongs to member {member} ({name}) already; advertise this host's own with \
         --advertise-address, or, if that member is gone for good, remove it first: appliance ctl member remove {member}"
    )]
    AddressTaken { address: String, name: String, member: MemberId },
    #[error("member id {0} was used by a member that was removed; remove join.json from its data directory")]
    IdRemoved(MemberId),
    #[error("member id {0} belongs to another key; remove join.json from its data directory")]
    IdTaken(MemberId),
    #[error("too many nodes join at this moment")]
    Crowded,
    #[error("others keep changing what this join depends on")]
    Contended,
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("{0}")]
    Change(#[from] ChangeError),
    #[error("its certificate can not be issued: {0}")]
    Issue(#[from] IssuerError),
}

impl From<JoinRefusal> for Refusal {
    fn from(refusal: JoinRefusal) -> Refusal {
        let (code, reason) = match &refusal {
            JoinRefusal::Malformed(_)
            | JoinRefusal::Issue(IssuerError::Issue(IssueError::Request { .. })) => (400, Reason::BadRequest),
            JoinRefusal::Protocol { .. } => (426, Reason::BadRequest),
            JoinRefusal::Clock { .. } => (412, Reason::BadRequest),
            JoinRefusal::Token(TokenRefusal::UsedUp { .. })
            | JoinRefusal::NotThatMember { .. }
            | JoinRefusal::Removed { .. } => (403, Reason::Forbidden),
            JoinRefusal::Token(_) => (401, Reason::Unauthorized),
            JoinRefusal::OtherCluster { .. }
            | JoinRefusal::NameTaken { .. }
            | JoinRefusal::AddressTaken { .. }
            | JoinRefusal::IdRemoved(_)
            | JoinRefusal::IdTaken(_) => (409, Reason::Conflict),
            JoinRefusal::Change(ChangeError::Refused { .. }) => (409, Reason::Conflict),
            JoinRefusal::Crowded | JoinRefusal::Contended | JoinRefusal::Issue(IssuerError::NoAuthority) => {
                (503, Reason::ServiceUnavailable)
            }
            JoinRefusal::Change(_) => (503, Reason::ServiceUnavailable),
            JoinRefusal::Records(error) | JoinRefusal::Issue(IssuerError::Records(error))
                if matches!(
                    error,
                    RecordsError::NoQuorum
                        | RecordsError::Busy
                        | RecordsError::InDoubt
                        | RecordsError::Removed
                ) =>
            {
                // In doubt or not: the same request sent again, here or to another member, completes it.
                (503, Reason::ServiceUnavailable)
            }
            JoinRefusal::Records(_) | JoinRefusal::Issue(_) => (500, Reason::InternalError),
        };
        crate::api::cluster::refusal(code, Some(reason), refusal.to_string())
    }
}
