//! The cluster's own room: who its members are, how a node becomes one, and what the cluster knows about itself.
//!
//! What it keeps lies in the replicated store under [`records::PREFIX`], beside the resources and never shown by their
//! API; what it does is asked for under `/cluster/…`. [`records`] says how each record looks, [`registry`] is the one
//! way to read and write them, [`peers`] where the other members are.

pub(crate) mod alarms;
pub(crate) mod ca;
pub(crate) mod certificate;
pub(crate) mod entry;
pub(crate) mod handle;
pub(crate) mod issuer;
pub(crate) mod join;
pub(crate) mod join_client;
mod join_protocol;
mod join_refusal;
mod join_request;
mod join_trust;
pub(crate) mod key_files;
pub(crate) mod keyring;
#[cfg(test)]
mod keyring_tests;
pub(crate) mod keys;
mod living;
mod look_ups;
pub(crate) mod member;
mod member_client;
pub(crate) mod membership;
mod own_record;
pub(crate) mod peers;
mod reached;
pub(crate) mod records;
pub(crate) mod recover;
pub(crate) mod refounding;
pub(crate) mod registry;
pub(crate) mod renewal;
pub(crate) mod reseed;
pub(crate) mod restore;
pub(crate) mod seal;
pub(crate) mod staging;
pub(crate) mod status;
pub(crate) mod token;
