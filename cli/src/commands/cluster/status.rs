//! `cluster status`: what an operator looks at first.

use super::args::OutputFlag;
use super::{refused, render};
use crate::Verdict;
use crate::cluster::Status;
use crate::output::cluster;
use crate::world::{Failure, World};

pub(crate) async fn run(args: &OutputFlag, world: &mut World) -> Result<Verdict, Failure> {
    let answer = world.client()?.get("/cluster/status").await.map_err(refused)?;
    let status = Status::read(&answer)?;
    let now = world.now;
    world.console.out(&render(args.output, &answer, |wide| cluster::status(&status, now, wide)));
    // A script that only wants to know whether the cluster works asks for the exit status.
    Ok(if status.quorum { Verdict::Done } else { Verdict::Failed })
}
