//! Handle: what the rest of the node may ask its cluster for. Cheap to clone.

use std::sync::Arc;

use super::alarms::Alarms;
use super::issuer::Issuer;
use super::keyring::Keyring;
use super::records::MemberId;
use super::registry::Records;

/// This node's part of the cluster.
#[derive(Clone)]
pub(crate) struct ClusterHandle {
    /// The cluster's own records.
    pub(crate) records: Records,
    /// This node's keys.
    pub(crate) keyring: Arc<Keyring>,
    /// What an operator should look at.
    pub(crate) alarms: Alarms,
    /// The cluster's id, as its digits write it.
    pub(crate) cluster_id: String,
    /// This member.
    pub(crate) member: MemberId,
    /// Its node name.
    pub(crate) node_name: String,
}

impl ClusterHandle {
    /// Issues certificates of the cluster's authority.
    pub(crate) fn issuer(&self) -> Issuer {
        Issuer::new(self.records.clone(), self.keyring.clone())
    }
}
