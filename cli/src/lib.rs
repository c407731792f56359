//! `appliance ctl`: the administrator's command, and what it promises scripts.
//!
//! `ctl` is a client of the same API as anyone else; it has no way in of its own. An operator who knows calicoctl
//! finds the same verbs, tables, messages and exit codes, so that scripts written for calicoctl keep working.
//!
//! # What scripts may rely on
//!
//! * Exit status 0: everything asked for was done. 1: anything was not, in part or whole, and for every usage error.
//!   `diff` alone has three: 0 the same, 1 different, 2 it could not tell. Only [`run`] and its neighbours in this file
//!   choose them.
//! * Results go to standard output, the final error to standard error: one text, without a prefix. The `endpoint`
//!   commands are older than that rule and print everything to standard output, as the published page shows them.
//! * All manifests are read and parsed before anything is sent: one bad document anywhere, and nothing is changed.
//! * Counts are honest, and so is doubt: a write whose connection broke is reported as uncertain, unless another server
//!   could be asked with the same request id, which has one effect however often it arrives.
//! * A stale `resourceVersion` in a manifest is a conflict. Without one, the write is a compare-and-swap against what
//!   was just read, repeated a few times; labels, annotations and spec become the manifest's, all else stays the
//!   store's.
//! * Secrets are not printed, and control characters from a node do not reach the terminal in tables.
//!
//! # How a command runs
//!
//! ```text
//!  args ──► lib ──► config ◇ (flags, environment, files → Connection)
//!            │
//!            ▼
//!        commands::* ──► input (manifests) ──► client (HTTP) ──► a node
//!            │                 watch ◇ (Empty → Listed → Watching)
//!            ▼
//!        output::* ◇, error ◇ ──► console ──► exit status, chosen here
//! ```
//!
//! ◇ is pure. Objects travel as JSON, not as our types, so a field that a newer node serves is shown and written back
//! rather than dropped; our types judge manifests only.
//!
//! # Where it leaves calicoctl's path
//!
//! `-l` is the label selector (the log level is `--log-level`), versions are not compared (client and server are one
//! binary), an unchanged object is not written again, and `replace` counts what it replaced.
//!
//! # Questions for a reviewer
//!
//! * Is there a path on which a write is sent twice without the node having said that it did nothing?
//! * Is there an error that names neither what was asked nor what to try?
//! * Can any text of a node, a file or an argument make this panic?

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

mod args;
mod client;
mod cluster;
mod commands;
mod config;
mod console;
mod duration;
mod error;
mod field;
mod input;
mod logging;
mod object;
mod offline;
mod output;
mod target;
mod usage;
mod wait;
mod watch;
mod world;

#[cfg(test)]
mod cases;

pub use args::Args;
pub use offline::{Offline, RestoreArgs};

use args::Command;
use console::Console;
use world::{Failure, World};

/// The command line of `ctl` on its own: for its help, for completion, for tests.
#[derive(Debug, Parser)]
#[command(name = "calicoctl", about = args::ABOUT, long_about = None)]
pub(crate) struct Calicoctl {
    #[command(flatten)]
    pub(crate) args: Args,
}

/// How a command ended, when it could run at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything asked for was done.
    Done,
    /// `diff` found a difference.
    Differs,
    /// Something was not done; what and why has been printed.
    Failed,
}

/// Runs one command and says how the process should end; `commit` is what the binary was built from, for `version`, and
/// `offline` what it can do with files of the store. Starts its own runtime: call it outside of one.
pub fn run(args: Args, commit: &'static str, offline: Offline) -> ExitCode {
    let mut world = World::process(&args, commit, offline);
    let status = execute(args, &mut world);
    ExitCode::from(status)
}

/// Prints what clap has to say about the command line of `program`, and says how the process should end: help is a
/// success, a mistake is 1 (clap's own choice would be 2).
pub fn usage_error(program: &str, error: &clap::Error) -> ExitCode {
    let mut console = Console::process();
    match usage::describe(program, error) {
        usage::Usage::Help(text) => {
            console.out(&text);
            ExitCode::from(0)
        }
        usage::Usage::Mistake(line) => {
            console.err(&line);
            ExitCode::from(1)
        }
    }
}

/// The exit status of a command: the only place that chooses it.
fn execute(args: Args, world: &mut World) -> u8 {
    let is_diff = matches!(args.command, Some(Command::Diff(_)));
    let failed = if is_diff { 2 } else { 1 };
    let verdict = dispatch(args, world);
    world.console.warn();
    match verdict {
        Ok(Verdict::Done) => 0,
        Ok(Verdict::Differs) => 1,
        Ok(Verdict::Failed) => failed,
        Err(Failure(text)) => {
            world.console.err(&format!("{}\n", text.trim_end_matches('\n')));
            failed
        }
    }
}

fn dispatch(args: Args, world: &mut World) -> Result<Verdict, Failure> {
    logging::start(&args.general.log_level)?;
    let Some(command) = args.command else {
        let mut ctl = Calicoctl::command().name("appliance ctl").bin_name("appliance ctl");
        world.console.out(&ctl.render_help().to_string());
        return Ok(Verdict::Done);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure(format!("can not start: {error}")))?;
    runtime.block_on(commands::run(command, world))
}
