//! What a node that wants to join and a member that lets it say to each other. Pure.
//!
//! One question and one answer, JSON over the API's TLS. Reading tolerates fields that a newer version added; what both
//! must know (the protocol) is read first, so that versions that do not understand each other can say so.

use serde::{Deserialize, Serialize};

use super::peers::Peer;
use super::records::MemberId;

/// Where a joiner asks.
pub(crate) const PATH: &str = "/cluster/join";

/// Clocks may differ by this much; more would make certificates and expiries meaningless.
pub(crate) const CLOCK_TOLERANCE_MS: u64 = 10 * 60 * 1_000;

/// Addresses a joiner may have; the settings allow no more either.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// What is read before anything else.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope {
    /// The protocol between members that the joiner speaks.
    #[serde(default)]
    pub(crate) protocol: u32,
    /// The version it runs.
    #[serde(default)]
    pub(crate) version: String,
}

/// A node asks to become a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinRequest {
    /// The join token; none when a member's certificate speaks for the node.
    #[serde(default)]
    pub(crate) token: Option<String>,
    /// The id it drew.
    pub(crate) member: MemberId,
    /// Its node name.
    pub(crate) name: String,
    /// The certificate request for its key, PEM.
    pub(crate) csr: String,
    /// `host:port` it will be reached on by its peers.
    pub(crate) peer: Vec<String>,
    /// `host:port` of its API.
    pub(crate) api: Vec<String>,
    /// The version it runs.
    pub(crate) version: String,
    /// The protocol it speaks.
    pub(crate) protocol: u32,
    /// Its clock, in milliseconds since the epoch.
    pub(crate) now_ms: u64,
    /// The member it was until its data was lost.
    #[serde(default)]
    pub(crate) replaces: Option<MemberId>,
    /// The cluster that its data is of: it will not be a member, and tells whoever waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) belongs_to: Option<String>,
}

/// It is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinAnswer {
    /// The cluster's id.
    pub(crate) cluster: String,
    /// Every authority to trust, PEM.
    pub(crate) ca_bundle: String,
    /// Its certificate, PEM.
    pub(crate) certificate: String,
    /// What opens the authority's key in the store, base64.
    pub(crate) seal_key: String,
    /// Every member, itself among them.
    pub(crate) members: Vec<Peer>,
}
