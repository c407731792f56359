//! `kubeconfig`: a file that lets somebody in, for a role and a time.

use std::io::Write;

use serde_json::{Value, json};

use super::args::{Kubeconfig, Role};
use super::refused;
use super::save::Draft;
use crate::Verdict;
use crate::config::kubeconfig_text;
use crate::duration;
use crate::world::{Failure, World};

pub(crate) async fn run(args: &Kubeconfig, world: &mut World) -> Result<Verdict, Failure> {
    let role = match args.role {
        Role::Admin => "admin",
        Role::Operator => "operator",
        Role::Viewer => "viewer",
    };
    let user = args.user.as_deref().unwrap_or(role);
    let ttl = duration::whole_seconds("--ttl", &args.ttl)?;
    // Before a credential exists that nobody will receive.
    let draft = args.file.as_deref().map(|file| Draft::create(file, args.force)).transpose()?;
    let kind = if args.token { "token" } else { "certificate" };
    let wanted = json!({"user": user, "role": role, "ttlSeconds": ttl, "kind": kind, "csr": null});
    let answer = world.client()?.create("/cluster/credentials", &wanted).await.map_err(refused)?;
    let text = kubeconfig_text(user, &answer)?;
    match draft {
        None => world.console.out(&text),
        Some(mut draft) => {
            let path = args.file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
            draft.write_all(text.as_bytes()).map_err(|error| format!("{path}: {error}"))?;
            draft.publish()?;
            let expires = answer.get("expires").and_then(Value::as_str).unwrap_or("an unknown time");
            world.console.out(&format!("Wrote {path}: {user}, {role}, until {expires}.\n"));
        }
    }
    Ok(Verdict::Done)
}
