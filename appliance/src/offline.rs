//! What `appliance ctl` does with the files of a store, without a node. Called by `main`.

use std::path::Path;

use appliance_cli::{Offline, RestoreArgs};

use crate::cluster::reseed;
use crate::cluster::restore::{self, Restore};
use crate::host;

/// Lent to the administrator's command.
pub(crate) const FUNCTIONS: Offline = Offline { inspect, restore, reseed };

fn inspect(file: &Path) -> Result<serde_json::Value, String> {
    restore::inspect(file).map_err(|error| error.to_string())
}

fn restore(args: RestoreArgs) -> Result<serde_json::Value, String> {
    let RestoreArgs { file, data_dir, node_name, revision_jump } = args;
    let wanted = Restore { file, data_dir, node_name, revision_jump, host_name: host::name() };
    restore::restore(&wanted).map_err(|error| error.to_string())
}

fn reseed(data_dir: &Path) -> Result<serde_json::Value, String> {
    reseed::request_offline(data_dir).map_err(|error| error.to_string())
}
