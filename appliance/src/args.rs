//! The command line: `run`, `ctl …`, `version`. Says what may be typed; `config` says what it means.
//!
//! The flags of `run` are not listed here: they are made from the table in `settings`, which also names their
//! environment variables and keys, so a setting can not exist in one place and be missing in another.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, FromArgMatches, Parser, Subcommand};

use crate::settings::{self, SETTINGS, Setting};

/// The name under which the binary behaves as `appliance ctl`.
const CTL_ALIAS: &str = "calicoctl";

/// The word for the administrator's command.
const CTL: &str = "ctl";

/// Network policy for bare-metal hosts: a replicated store, its API and the enforcer, in one binary.
#[derive(Debug, Parser)]
#[command(name = "appliance", version, max_term_width = 110)]
pub(crate) struct Args {
    /// Which of the three words.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The three words.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node: store, API and enforcer, in the foreground
    Run(Box<RunArgs>),
    /// Administer a node or its cluster, in the words of calicoctl
    Ctl(Box<appliance_cli::Args>),
    /// Print version, commit, target, and the kernel and nft found
    Version,
}

/// What was given to `run`: setting name → text.
#[derive(Debug)]
pub(crate) struct RunArgs {
    /// The configuration file named on the command line.
    pub(crate) config: Option<String>,
    /// Every flag that was given.
    pub(crate) flags: BTreeMap<&'static str, String>,
}

impl Args {
    /// Parses the process's arguments. What `ctl` was told wrong is `ctl`'s to answer, in its words and with its exit
    /// code; for the rest clap prints usage errors and help by itself and exits.
    pub(crate) fn from_command_line() -> Result<Args, ExitCode> {
        let line = as_ctl(std::env::args_os().collect());
        let is_ctl = line.get(1).is_some_and(|word| word == CTL);
        Args::try_parse_from(line).map_err(|error| {
            if is_ctl { appliance_cli::usage_error(CTL_ALIAS, &error) } else { error.exit() }
        })
    }
}

/// A link named `calicoctl` to the binary is `appliance ctl`.
fn as_ctl(mut line: Vec<OsString>) -> Vec<OsString> {
    let called_as = line.first().and_then(|name| Path::new(name).file_name());
    if called_as == Some(CTL_ALIAS.as_ref()) {
        line.splice(0..1, ["appliance".into(), CTL.into()]);
    }
    line
}

impl clap::Args for RunArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("PATH")
            .env("APPLIANCE_CONFIG")
            .hide_env_values(true)
            .help(format!("Configuration file [default: {}]", settings::CONFIG_FILE));
        command.arg(config).args(SETTINGS.iter().map(flag)).after_help(
            "Every flag is also an environment variable (--data-dir: APPLIANCE_DATA_DIR) and a key of the \
             configuration file (data-dir); the flag wins over the variable, the variable over the file.",
        )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RunArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<RunArgs, clap::Error> {
        let given = |setting: &Setting| {
            matches.get_one::<String>(setting.name).map(|value| (setting.name, value.clone()))
        };
        Ok(RunArgs {
            config: matches.get_one::<String>("config").cloned(),
            flags: SETTINGS.iter().filter_map(given).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = RunArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(setting: &Setting) -> Arg {
    let help = match setting.default.filter(|_| setting.placeholder.is_some()) {
        Some(default) => format!("{} [default: {default}]", setting.help),
        None => setting.help.to_owned(),
    };
    let arg = Arg::new(setting.name).long(setting.name).help(help).hide(setting.hidden);
    match setting.placeholder {
        Some(placeholder) => arg.value_name(placeholder),
        // `--no-enforce=false` is how the command line overrides a file that says true.
        None => {
            arg.value_name("true|false").num_args(0..=1).require_equals(true).default_missing_value("true")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &[&str]) -> RunArgs {
        let line = ["appliance", "run"].iter().chain(line).map(OsString::from);
        match Args::try_parse_from(line).expect("valid").command {
            Command::Run(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clap_finds_no_fault_in_the_definitions() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn what_can_not_be_understood_ends_with_the_code_for_usage() {
        let error = Args::try_parse_from(["appliance", "run", "--bogus"]).expect_err("refused");
        assert_eq!(error.exit_code(), i32::from(crate::exit::USAGE));
    }

    #[test]
    fn only_what_was_typed_is_a_flag() {
        assert!(run(&[]).flags.is_empty());
        let args = run(&["--no-enforce", "--data-dir", "/d", "--config", "/c"]);
        assert_eq!(args.flags["no-enforce"], "true");
        assert_eq!(args.flags["data-dir"], "/d");
        assert_eq!(args.flags.len(), 2);
        assert_eq!(run(&["--no-enforce=false"]).flags["no-enforce"], "false");
        assert_eq!(args.config.as_deref(), Some("/c"));
    }

    #[test]
    fn a_link_named_calicoctl_is_appliance_ctl() {
        let line = |words: &[&str]| as_ctl(words.iter().map(OsString::from).collect());
        assert_eq!(line(&["/usr/bin/calicoctl", "get", "nodes"]), ["appliance", "ctl", "get", "nodes"]);
        assert_eq!(line(&["/usr/bin/appliance", "run"]), ["/usr/bin/appliance", "run"]);
    }
}
