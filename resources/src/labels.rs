//! Labels: the string pairs that selectors read. A plain ordered map, so that the same labels always print the same.
//!
//! The names of the labels that mean something to policy are constants here; nothing else spells them out. What
//! characters a key may hold is `validate::name`'s business.

use std::collections::BTreeMap;

/// Labels or annotations: key to value, in key order.
pub type Labels = BTreeMap<String, String>;

/// On workload endpoints and network sets: the namespace they are in. Added on write, never by the user.
pub const NAMESPACE: &str = "projectcalico.org/namespace";
/// On workload endpoints: what started the workload. Added on write.
pub const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// On workload endpoints as policy sees them: the service account.
pub const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// On policies: the tier they are in. Added on write, equal to `spec.tier`.
pub const TIER: &str = "projectcalico.org/tier";
/// Labels of the namespace, as policy sees them, carry this prefix.
pub const NAMESPACE_PREFIX: &str = "pcns.";
/// Labels of the service account, as policy sees them, carry this prefix.
pub const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";
