//! `node reseed`: a node drops its copy of the state and fetches a fresh one from its peers.

use std::path::Path;

use serde_json::json;

use super::args::Node;
use super::{cell, confirm, refused, tell};
use crate::Verdict;
use crate::world::{Failure, World};

pub(crate) async fn run(verb: Node, world: &mut World) -> Result<Verdict, Failure> {
    let Node::Reseed(args) = verb;
    if let Some(data_dir) = &args.data_dir {
        return of_a_stopped_node(data_dir, args.yes, world);
    }
    let client = world.client()?;
    let status = client.get("/cluster/status").await.map_err(refused)?;
    let node = cell(&status, "node");
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = members.iter().find(|member| cell(member, "id") == node).map(|member| cell(member, "name"));
    let name = name.unwrap_or(node);
    let question = format!(
        "{name} will drop its copy of the state and fetch a fresh one from its peers. It keeps enforcing its last \
         policy meanwhile."
    );
    confirm(world, args.yes, &question)?;
    let answer = client.create("/cluster/reseed", &json!({})).await.map_err(refused)?;
    let done = format!("{name} fetches a fresh copy; `appliance ctl cluster status` shows how far it is.");
    tell(world, &answer, &done);
    Ok(Verdict::Done)
}

/// The node that can not be asked, because it does not come up with what it has.
fn of_a_stopped_node(data_dir: &Path, yes: bool, world: &mut World) -> Result<Verdict, Failure> {
    let question = format!(
        "At its next start the node of {} will set its copy of the state aside and fetch a fresh one from its peers.",
        data_dir.display()
    );
    confirm(world, yes, &question)?;
    let answer = (world.offline.reseed)(data_dir)?;
    tell(world, &answer, "The node fetches a fresh copy when it is started.");
    Ok(Verdict::Done)
}
