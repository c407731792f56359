//! Options: what the transport is told when it is made, and what it is told while it runs.
//!
//! Plain values. Whoever makes certificates and keeps the members' records writes into the watches; the transport
//! only reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

/// Who this member is, and how it speaks to others.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member's id.
    pub member: u64,
    /// The cluster it belongs to; a peer of another one is refused.
    pub cluster: u128,
    /// Different at every start of the process, so that peers can tell a restart from a second copy of this member.
    pub incarnation: u64,
    /// Where others reach this member's peer port, as `host:port`; told to every peer in the hello.
    pub advertise: Vec<String>,
    /// Where snapshots are written while they are received. Emptied of what an earlier life left there.
    pub incoming_dir: PathBuf,
    /// The TLS settings; new connections use the newest.
    pub tls: watch::Receiver<PeerTls>,
}

/// Both ends of mutual TLS. Each must demand a certificate of the cluster's authority from the other side; that the
/// certificate belongs to the member it should is checked by the transport (see [`super::member_uri`]).
#[derive(Clone)]
pub struct PeerTls {
    /// For connections that are accepted.
    pub server: Arc<ServerConfig>,
    /// For connections that are dialled; the name asked for is [`super::SERVER_NAME`].
    pub client: Arc<ClientConfig>,
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings hold the private key.
        formatter.write_str("PeerTls")
    }
}

/// Every other member and where it is reached, each as `host:port`.
pub type Addresses = BTreeMap<u64, Vec<String>>;

/// Members that were removed. Such a member is told so when it comes, and refused.
pub type Removed = BTreeSet<u64>;
