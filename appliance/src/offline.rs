//! What `appliance ctl` does with the files of a store, without a node. Called by `main`.

use std::path::Path;

use appliance_cli::{Offline, RestoreArgs};

/// Lent to the administrator's command.
pub(crate) const FUNCTIONS: Offline = Offline { inspect, restore };

fn inspect(file: &Path) -> Result<serde_json::Value, String> {
    Err(format!("{}: this build can not read snapshots yet", file.display()))
}

fn restore(args: RestoreArgs) -> Result<serde_json::Value, String> {
    Err(format!("{}: this build can not restore snapshots yet", args.file.display()))
}
