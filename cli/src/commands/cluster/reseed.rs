//! `node reseed`: a node drops its copy of the state and fetches a fresh one from its peers.

use serde_json::json;

use super::args::Node;
use super::{cell, confirm, refused, tell};
use crate::Verdict;
use crate::world::{Failure, World};

pub(crate) async fn run(verb: Node, world: &mut World) -> Result<Verdict, Failure> {
    let Node::Reseed(args) = verb;
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
