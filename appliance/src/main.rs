//! `appliance`: network policy for bare-metal hosts, in one binary.
//!
//! Parses the command line and chooses: the node (`server`), the administrator's command (`appliance_cli`), or a few
//! lines about itself. Whatever goes wrong on the way to a running node ends here, as one line and an exit code.

mod anteroom;
mod api;
mod args;
mod author;
mod authority;
mod bootstrap;
mod cluster;
mod compactor;
mod config;
mod connection;
mod data_dir;
#[cfg(debug_assertions)]
mod diverging;
mod enforcer;
mod exit;
mod gather;
mod host;
mod identity;
mod kubeconfig;
mod listener;
mod logging;
mod loudness;
mod metrics;
mod offline;
mod planted;
mod proposal;
mod readings;
mod restart;
mod server;
mod settings;
mod shutdown;
mod snapshots;
mod status_writer;
mod syncer;
mod systemd;
mod tls;
mod version;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use args::{Args, Command};
use server::Ending;

fn main() -> ExitCode {
    let args = match Args::from_command_line() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match args.command {
        Command::Run(run) => match gather::config(*run).map_err(Into::into).and_then(server::run) {
            Ok(Ending::Stop) => ExitCode::SUCCESS,
            Ok(Ending::Again) => match restart::exec() {
                Ok(never) => match never {},
                Err(error) => fail(&error),
            },
            Err(error) => fail(error.as_ref()),
        },
        Command::Ctl(ctl) => appliance_cli::run(*ctl, version::COMMIT, offline::FUNCTIONS),
        // A reader that has gone away has read enough.
        Command::Version => match writeln!(stdout(), "{}", version::report("nft".as_ref())) {
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        },
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    // Not through the log: its level is a setting, and this line is the answer to the command.
    let _ = writeln!(stderr(), "appliance: {error}");
    ExitCode::from(exit::GENERAL)
}
