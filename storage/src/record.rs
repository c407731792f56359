//! Record: a key with its value and etcd's three counters. Pure.

use std::sync::Arc;

use crate::{key::Key, revision::Revision};

/// What the store holds under one key.
///
/// * `create_revision <= mod_revision`.
/// * `version` is 1 at the creation and grows by one with each change; a deletion ends the count.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Record {
    /// The name.
    pub key: Key,
    /// The bytes, shared by everyone who reads them.
    pub value: Arc<[u8]>,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// The revision that wrote this value.
    pub mod_revision: Revision,
    /// How many times the key was written since it was created.
    pub version: u64,
}
