//! The verbs, one file each, and what several of them share: reading kinds and names from the command line.
//!
//! A command asks the client, words its result with `output`, prints to the console and says how it went. It never
//! chooses an exit status; `lib.rs` does.

mod apply;
mod batch;
mod cluster;
mod completion;
mod create;
mod delete;
mod diff;
mod endpoint;
mod follow;
mod get;
mod label;
mod patch;
mod replace;
mod validate;
mod version;
mod write;

use appliance_resources::Kind;

use crate::Verdict;
use crate::args::Command;
use crate::world::{Failure, World};

/// Runs one command.
pub(crate) async fn run(command: Command, world: &mut World) -> Result<Verdict, Failure> {
    match command {
        Command::Create(args) => create::run(&args, world).await,
        Command::Apply(args) => apply::run(&args, world).await,
        Command::Replace(args) => replace::run(&args, world).await,
        Command::Delete(args) => delete::run(&args, world).await,
        Command::Get(args) => get::run(&args, world).await,
        Command::Patch(args) => patch::run(&args, world).await,
        Command::Label(args) => label::run(&args, world).await,
        Command::Validate(args) => validate::run(&args, world),
        Command::Diff(args) => diff::run(&args, world).await,
        Command::Endpoint(args) => endpoint::run(&args, world).await,
        Command::Cluster(cluster::args::Cluster::Status(args)) => cluster::status::run(&args, world).await,
        Command::Member(verb) => cluster::member::run(verb, world).await,
        Command::Leader(verb) => cluster::leader::run(verb, world).await,
        Command::Token(verb) => cluster::token::run(verb, world).await,
        Command::Snapshot(verb) => cluster::snapshot::run(verb, world).await,
        Command::Recover(args) => cluster::recover::run(&args, world).await,
        Command::Node(verb) => cluster::reseed::run(verb, world).await,
        Command::Ca(verb) => cluster::ca::run(verb, world).await,
        Command::Kubeconfig(args) => cluster::kubeconfig::run(&args, world).await,
        Command::Credential(verb) => cluster::credential::run(verb, world).await,
        Command::Version(args) => version::run(&args, world).await,
        Command::Completion(args) => completion::run(&args, world),
    }
}

/// The kind an operator typed, by any of its aliases in any case.
fn kind(word: &str) -> Result<Kind, String> {
    Kind::from_alias(word).ok_or_else(|| format!("resource type '{word}' is not supported"))
}

/// A kind and the names after it; calicoctl crashes without either kind or file, we say what is missing.
fn kind_and_names(words: &[String]) -> Result<(&str, &[String]), Failure> {
    match words {
        [] => Err("must specify a resource kind or --filename".into()),
        [kind, names @ ..] => Ok((kind, names)),
    }
}
