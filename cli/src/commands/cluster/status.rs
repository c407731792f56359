//! `cluster status`: what an operator looks at first.
//!
//! Where several servers are known, one that sees a quorum is preferred: a member that is cut off, or was removed,
//! knows least. Who saw none is said.

use serde_json::Value;

use super::args::OutputFlag;
use super::{refused, render};
use crate::Verdict;
use crate::client::Client;
use crate::cluster::Status;
use crate::error::ClientError;
use crate::output::cluster;
use crate::world::{Failure, World};

pub(crate) async fn run(args: &OutputFlag, world: &mut World) -> Result<Verdict, Failure> {
    let client = world.client()?;
    let (answer, status, blind) = ask(&client).await?;
    if !blind.is_empty() {
        world.console.err(&format!(
            "{} sees no quorum; this is what {} sees.\n",
            blind.join(", "),
            status.asked()
        ));
    }
    let now = world.now;
    world.console.out(&render(args.output, &answer, |wide| cluster::status(&status, now, wide)));
    // A script that only wants to know whether the cluster works asks for the exit status.
    Ok(if status.quorum { Verdict::Done } else { Verdict::Failed })
}

/// The answer of the first server that sees a quorum, and who saw none; or of the first that answers at all.
async fn ask(client: &Client) -> Result<(Value, Status, Vec<String>), Failure> {
    let mut blind: Vec<(Value, Status)> = Vec::new();
    for _ in 0..client.servers() {
        let answer = match client.get_now("/cluster/status").await {
            Ok(answer) => answer,
            // The node's own words: what says what is missing is this very command.
            Err(ClientError::Api(api)) if blind.is_empty() && api.code == 503 => {
                return Err(format!("the node can not tell: {}", api.message).into());
            }
            Err(error) if blind.is_empty() => return Err(refused(error)),
            Err(_) => break,
        };
        let status = Status::read(&answer)?;
        if status.quorum {
            let names = blind.iter().map(|(_, status)| status.asked()).collect();
            return Ok((answer, status, names));
        }
        if blind.iter().all(|(_, other)| other.node != status.node) {
            blind.push((answer, status));
        }
        client.turn_away().await;
    }
    // Of those without quorum the one that reaches most others knows most.
    let most =
        blind.into_iter().rev().max_by_key(|(_, status)| (!status.is_removed(), status.voters_heard()));
    most.map(|(answer, status)| (answer, status, Vec::new())).ok_or_else(|| "no server answered".into())
}
