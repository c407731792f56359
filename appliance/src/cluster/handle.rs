//! Handle: what the rest of the node may ask its cluster for. Cheap to clone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use appliance_consensus::transport::Links;

use super::alarms::Alarms;
use super::issuer::Issuer;
use super::join::Reception;
use super::keyring::Keyring;
use super::records::MemberId;
use super::registry::Records;
use crate::restart::Restart;

/// This node's part of the cluster.
#[derive(Clone)]
pub(crate) struct ClusterHandle {
    /// The cluster's own records.
    pub(crate) records: Records,
    /// This node's keys.
    pub(crate) keyring: Arc<Keyring>,
    /// What an operator should look at.
    pub(crate) alarms: Alarms,
    /// The connections to the other members.
    pub(crate) links: Links,
    /// The cluster's id, as its digits write it.
    pub(crate) cluster_id: String,
    /// This member.
    pub(crate) member: MemberId,
    /// Its node name.
    pub(crate) node_name: String,
    /// Lets nodes in.
    pub(crate) reception: Arc<Reception>,
    /// Begins this node again.
    pub(crate) restart: Restart,
    /// How this member runs.
    pub(crate) settings: Settings,
}

/// What does not change while a member runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The length of one of raft's ticks.
    pub(crate) tick: Duration,
    /// How long a voter may be silent before it is replaced.
    pub(crate) replace_after: Option<Duration>,
    /// The cluster has removed this member.
    pub(crate) removed: bool,
    /// Where its data is.
    pub(crate) data_dir: PathBuf,
}

impl ClusterHandle {
    /// Issues certificates of the cluster's authority.
    pub(crate) fn issuer(&self) -> Issuer {
        Issuer::new(self.records.clone(), self.keyring.clone())
    }
}
