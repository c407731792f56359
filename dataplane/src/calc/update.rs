//! Update: one resource as it is now, or gone.
//!
//! The syncer translates every event of the store into one of these. There is no third case: what can not be decoded
//! is gone, what was never there is gone.

use appliance_resources::{AnyResource, ResourceKey};

/// The current state of one resource. Applying the same update twice, or a newer one without the older, ends in the
/// same state.
#[derive(Clone, Debug)]
pub enum Update {
    /// It exists and looks like this. Boxed: the kinds differ much in size.
    Set(Box<AnyResource>),
    /// It does not exist, or nobody could read it.
    Gone(ResourceKey),
}
