//! `credential`: the bearer tokens that were given out.

use serde_json::json;

use super::args::Credential;
use super::{cell, list, path_of, refused, render, tell};
use crate::Verdict;
use crate::world::{Failure, World};

pub(crate) async fn run(verb: Credential, world: &mut World) -> Result<Verdict, Failure> {
    match verb {
        Credential::List(format) => {
            let answer = world.client()?.get("/cluster/credentials").await.map_err(refused)?;
            let text = render(format.output, &answer, |_| {
                list(
                    &answer,
                    &[
                        ("ID", |credential| cell(credential, "id")),
                        ("USER", |credential| cell(credential, "user")),
                        ("ROLE", |credential| cell(credential, "role")),
                        ("CREATED", |credential| cell(credential, "created")),
                        ("EXPIRES", |credential| cell(credential, "expires")),
                        ("CREATED BY", |credential| cell(credential, "createdBy")),
                    ],
                )
            });
            world.console.out(&text);
        }
        Credential::Revoke(args) => {
            let path = path_of("credentials", &args.id, "");
            let answer = world.client()?.delete(&path, &json!({})).await.map_err(refused)?;
            tell(world, &answer, &format!("Credential {} is revoked.", args.id));
        }
    }
    Ok(Verdict::Done)
}
