//! `member`: who belongs to the cluster.

use serde_json::{Value, json};

use super::args::{Member, MemberNamed, MemberRemove};
use super::{confirm, path_of, refused, render, tell};
use crate::Verdict;
use crate::cluster::Status;
use crate::output::cluster;
use crate::world::{Failure, World};

pub(crate) async fn run(verb: Member, world: &mut World) -> Result<Verdict, Failure> {
    match verb {
        Member::List(format) => {
            let answer = world.client()?.get("/cluster/status").await.map_err(refused)?;
            let members = json!({"items": answer["members"]});
            let (status, now) = (Status::read(&answer)?, world.now);
            let text = render(format.output, &members, |wide| cluster::members(&status, now, wide).render());
            world.console.out(&text);
            Ok(Verdict::Done)
        }
        Member::Promote(args) => change(&args, "promote", "votes", world).await,
        Member::Demote(args) => change(&args, "demote", "is a learner", world).await,
        Member::Remove(args) => remove(&args, world).await,
    }
}

async fn change(
    args: &MemberNamed,
    verb: &str,
    becomes: &str,
    world: &mut World,
) -> Result<Verdict, Failure> {
    let path = path_of("members", &args.member, verb);
    let answer = world.client()?.create(&path, &json!({})).await.map_err(refused)?;
    tell(world, &answer, &format!("{} {becomes}.", args.member));
    Ok(Verdict::Done)
}

async fn remove(args: &MemberRemove, world: &mut World) -> Result<Verdict, Failure> {
    let client = world.client()?;
    let answer = client.get("/cluster/status").await.map_err(refused)?;
    let status = Status::read(&answer)?;
    let Some(member) = status.member(&args.member) else {
        let names: Vec<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
        return Err(format!("no member '{}'; there are {}", args.member, names.join(", ")).into());
    };
    let question = format!(
        "{} ({}) will leave the cluster for good; its host keeps enforcing the last policy it knew.",
        member.name, member.id
    );
    confirm(world, args.yes, &question)?;
    let path = path_of("members", &member.id, "");
    let answer: Value = client.delete(&path, &json!({})).await.map_err(refused)?;
    tell(world, &answer, &format!("{} ({}) is removed.", member.name, member.id));
    Ok(Verdict::Done)
}
