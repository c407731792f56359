//! `endpoint`: the commands of the first calicoctl, over HostEndpoints and WorkloadEndpoints.
//!
//! The published page of those commands is the contract: tables, messages, and that everything goes to standard
//! output. Parsing is `grammar`, what an endpoint is here is `listing`, the tables are `show`, the profile commands are
//! `profile`.

mod grammar;
mod listing;
mod profile;
mod show;

use crate::Verdict;
use crate::args::Endpoint;
use crate::world::{Failure, World};

use grammar::Action;

/// A mistake in the words: the usage block, as the old command printed it.
const USAGE: &str = "\
Usage:
  calicoctl endpoint show [--host=<HOSTNAME>] [--orchestrator=<ORCHESTRATOR_ID>]
    [--workload=<WORKLOAD_ID>] [--endpoint=<ENDPOINT_ID>] [--detailed]
  calicoctl endpoint <ENDPOINT_ID> profile (append|remove|set) [--host=<HOSTNAME>]
    [--orchestrator=<ORCHESTRATOR_ID>] [--workload=<WORKLOAD_ID>]  [<PROFILES>...]
  calicoctl endpoint <ENDPOINT_ID> profile show [--host=<HOSTNAME>]
    [--orchestrator=<ORCHESTRATOR_ID>] [--workload=<WORKLOAD_ID>]";

pub(super) async fn run(args: &Endpoint, world: &mut World) -> Result<Verdict, Failure> {
    let Some(action) = grammar::parse(args) else { return Err(USAGE.into()) };
    match action {
        Action::Show { filter, detailed } => {
            let client = world.client()?;
            let endpoints = listing::list(&client, &filter).await?;
            let table = if detailed { show::detailed(&endpoints) } else { show::per_host(&endpoints) };
            world.console.out(&format!("{}\n", table.render()));
            Ok(Verdict::Done)
        }
        Action::Profile { filter, change, profiles } => profile::run(&filter, change, &profiles, world).await,
        Action::ShowProfiles { filter } => profile::show(&filter, world).await,
    }
}
