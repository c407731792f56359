//! Version: what this binary is, and what it found on this host. Printed by `appliance version`, logged at start.

use std::path::Path;

use crate::host;

/// The product's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, or `unknown`.
pub(crate) const COMMIT: &str = env!("APPLIANCE_BUILD_COMMIT");

/// The target it was built for.
pub(crate) const TARGET: &str = env!("APPLIANCE_BUILD_TARGET");

/// The four lines of `appliance version`.
pub(crate) fn report(nft: &Path) -> String {
    let nft = match appliance_dataplane::probe(nft) {
        Ok(version) => version.to_string(),
        Err(error) => format!("not usable ({error})"),
    };
    format!(
        "appliance {VERSION}\ncommit    {COMMIT}\ntarget    {TARGET}\nkernel    {}\nnft       {nft}",
        host::kernel()
    )
}
