//! `leader transfer`: hands leadership over before a host is taken down.

use serde_json::json;

use super::args::Leader;
use super::{cell, refused};
use crate::Verdict;
use crate::world::{Failure, World};

pub(crate) async fn run(verb: Leader, world: &mut World) -> Result<Verdict, Failure> {
    let Leader::Transfer(args) = verb;
    let answer =
        world.client()?.create("/cluster/leader", &json!({"to": args.member})).await.map_err(refused)?;
    let leader = &answer["leader"];
    world.console.out(&format!("{} ({}) leads.\n", cell(leader, "name"), cell(leader, "id")));
    Ok(Verdict::Done)
}
