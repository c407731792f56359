//! `token`: what lets hosts join.

use serde_json::json;

use super::args::{Token, TokenCreate};
use super::{cell, list, path_of, refused, render, tell};
use crate::Verdict;
use crate::duration;
use crate::world::{Failure, World};

pub(crate) async fn run(verb: Token, world: &mut World) -> Result<Verdict, Failure> {
    match verb {
        Token::Create(args) => create(&args, world).await,
        Token::List(format) => {
            let answer = world.client()?.get("/cluster/tokens").await.map_err(refused)?;
            let text = render(format.output, &answer, |_| {
                list(
                    &answer,
                    &[
                        ("ID", |token| cell(token, "id")),
                        ("EXPIRES", |token| cell(token, "expires")),
                        ("USES LEFT", |token| match token["usesLeft"].as_u64() {
                            Some(left) => left.to_string(),
                            None => "any".to_string(),
                        }),
                        ("USED BY", |token| cell(token, "usedBy")),
                        ("CREATED BY", |token| cell(token, "createdBy")),
                        ("DESCRIPTION", |token| cell(token, "description")),
                    ],
                )
            });
            world.console.out(&text);
            Ok(Verdict::Done)
        }
        Token::Revoke(args) => {
            let client = world.client()?;
            let answer =
                client.delete(&path_of("tokens", &args.id, ""), &json!({})).await.map_err(refused)?;
            tell(
                world,
                &answer,
                &format!("Token {} is revoked: no host can join with it any more.", args.id),
            );
            Ok(Verdict::Done)
        }
    }
}

async fn create(args: &TokenCreate, world: &mut World) -> Result<Verdict, Failure> {
    let ttl = duration::whole_seconds("--ttl", &args.ttl)?;
    let wanted = json!({
        "ttlSeconds": ttl,
        "uses": args.uses,
        "role": "node",
        "description": args.description.as_deref().unwrap_or_default(),
    });
    let answer = world.client()?.create("/cluster/tokens", &wanted).await.map_err(refused)?;
    let text = render(args.format.output, &answer, |_| {
        let uses = match args.uses {
            None => "any number of hosts".to_string(),
            Some(1) => "one host".to_string(),
            Some(uses) => format!("{uses} hosts"),
        };
        format!(
            "# Good for {uses} until {}. Run this on a host that is to join:\n{}\n",
            cell(&answer, "expires"),
            cell(&answer, "join")
        )
    });
    world.console.out(&text);
    Ok(Verdict::Done)
}
