//! Defaults: what an omitted field means.

use crate::resource::AnyResource;

/// Fills in what was left out.
pub fn set_defaults(_resource: &mut AnyResource) {}
