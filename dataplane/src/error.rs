//! Errors of the dataplane as a whole. Those of its parts stand with the parts.

use std::io;

use crate::nft::ProbeError;

/// Why enforcement did not start. Nothing was changed: what the kernel enforced before, it still does.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This host can not enforce.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The interfaces can not be followed, so no policy by address or interface could be right.
    #[error("interfaces can not be listed by netlink: {0}")]
    Interfaces(#[source] io::Error),
}
