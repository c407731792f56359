//! Interfaces: the links of this network namespace with their addresses, kept current by rtnetlink.
//!
//! `Interfaces` is a plain value that `calc` reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Every link of the namespace, by name.
pub type Interfaces = BTreeMap<String, Interface>;

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index.
    pub index: u32,
    /// Whether it can carry packets: administratively up, and operational state up or unknown (as `lo` is).
    pub up: bool,
    /// Its addresses of both families, secondary ones included.
    pub addresses: BTreeSet<IpAddr>,
}
