//! Who the node is when it writes in its own name, and the clock its writes carry. The time is read here, before
//! anything is proposed: replicas only copy it.

use appliance_storage::Author;
use time::OffsetDateTime;

/// The node itself, at this moment. Named as its certificate would name it.
pub(crate) fn node(name: &str, reason: &str) -> Author {
    Author {
        name: format!("system:node:{name}"),
        source: "local".to_owned(),
        reason: reason.to_owned(),
        time: now_ms(),
        request: None,
    }
}

/// Milliseconds since the epoch; a clock before it counts as the epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}
