//! `recover`: goes on as a cluster of one on a survivor, after the quorum is lost for good.
//!
//! It shows what each survivor holds and what is lost, refuses where another survivor holds more or so many answer that it
//! may only be an election, and asks for the cluster's id: nobody types that by accident. What then happens on the node is the node's; here is the waiting, and
//! what to do on the other hosts.

use std::time::Duration;

use serde_json::json;

use super::args::Recover;
use super::{cell, refused};
use crate::Verdict;
use crate::client::Client;
use crate::cluster::{Fullest, Status};
use crate::output::table::Table;
use crate::world::{Failure, World};

/// The node stops, rewrites its membership and starts again; a large store takes its time.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Between two looks.
const WAIT_PAUSE: Duration = Duration::from_millis(500);
/// Whoever runs the commands on the other hosts may have to travel.
const TOKEN_SECONDS: u64 = 24 * 60 * 60;

pub(crate) async fn run(args: &Recover, world: &mut World) -> Result<Verdict, Failure> {
    let client = world.client()?;
    let status = Status::read(&client.get("/cluster/status").await.map_err(refused)?)?;
    if status.quorum {
        return Err(
            "this cluster has a quorum: nothing needs recovering. To take out members that are gone, use \
                    `appliance ctl member remove`"
                .into(),
        );
    }
    let name = status.asked();
    if status.is_removed() {
        return Err(format!("{name} was removed from the cluster: recover on a member that was not").into());
    }
    world.console.err(&standing(&status, &name));
    check_time(args, &status)?;
    check_place(args, &status, &name)?;
    confirm(args, &status, world)?;
    // An older node does not know the word, and need not.
    let wanted = match args.force {
        true => json!({"cluster": status.cluster, "force": true}),
        false => json!({"cluster": status.cluster}),
    };
    client.create("/cluster/recover", &wanted).await.map_err(refused)?;
    world.console.err(&format!("{name} starts again as a cluster of one …\n"));
    let revision = until_recovered(&client, &status).await?;
    world.console.out(&format!("Recovered: {name} leads and takes writes, at revision {revision}.\n"));
    world.console.out(&others(&client, &status).await?);
    Ok(Verdict::Done)
}

/// What there is, and what there will not be any more.
fn standing(status: &Status, here: &str) -> String {
    let number = |number: Option<u64>| number.map_or_else(|| "?".to_string(), |number| number.to_string());
    let row = |member: &crate::cluster::Member| {
        let state = match (status.hears(member), member.diverged) {
            (_, true) => "DIVERGED",
            (true, _) if status.is_here(member) => "here",
            (true, _) => "reachable",
            (false, _) => "lost",
        };
        vec![
            member.name.clone(),
            member.role.clone(),
            state.to_string(),
            number(member.applied),
            number(member.last),
            number(member.last_term),
            number(member.revision),
        ]
    };
    let headings = ["NAME", "ROLE", "STATE", "APPLIED", "LAST", "OF TERM", "REVISION"];
    let table = Table {
        headings: headings.map(str::to_string).to_vec(),
        rows: status.members.iter().filter(|member| member.role != "removed").map(row).collect(),
    };
    let lost: Vec<&str> = status.missing().map(|member| member.name.as_str()).collect();
    let lost = if lost.is_empty() { "members that are not reached".to_string() } else { lost.join(", ") };
    // The other of two can not be given a copy by the one alone, however often it is started.
    let hopeless = match status.voters().count() {
        2 => format!("That is of no use if the log of {lost} says that its data is given up.\n"),
        _ => String::new(),
    };
    format!(
        "Cluster {}: {} of {} voters can be reached, {} are needed.\n\n{}\
         Try first: start {lost}. With a quorum nothing at all is lost.\n{hopeless}\
         Lost by recovering: every write that only {lost} had; nobody can say which. {here} goes on alone, with what it \
         holds and with a new set of members. Started again later, the others must not come back with their old data.\n",
        status.cluster,
        status.voters_heard(),
        status.voters().count(),
        status.needed(),
        table.render(),
    )
}

/// Refuses while as many voters answer as a quorum takes: the cluster may only be between two leaders.
fn check_time(args: &Recover, status: &Status) -> Result<(), Failure> {
    let (heard, needed) = (status.voters_heard(), status.needed());
    if args.force || heard < needed {
        return Ok(());
    }
    Err(format!(
        "nothing was done: {heard} voters answer and {needed} are needed, so an election may be under way. Look again in a few \
         seconds with `appliance ctl cluster status`; if it stays so, the members do not reach each other: check the peer \
         port (2380) between the hosts, both ways. Only if that can not be mended: --force"
    )
    .into())
}

/// Refuses where another survivor holds more.
fn check_place(args: &Recover, status: &Status, here: &str) -> Result<(), Failure> {
    if args.force {
        return Ok(());
    }
    let command = "run `appliance ctl recover` there, or lose that with --force here";
    match status.fullest() {
        Some(Fullest::One(name)) if name != here => {
            Err(format!("{name} holds more than {here}: {command}").into())
        }
        Some(Fullest::Unclear { longest, furthest }) => Err(format!(
            "no survivor holds everything: {furthest} has applied most, {longest} has the better log. What {furthest} \
             applied is certain to have been acknowledged, so {furthest} is the safer one: run `appliance ctl recover \
             --force` there"
        )
        .into()),
        _ => Ok(()),
    }
}

/// The cluster's id, typed or given: a plain yes is said too easily.
fn confirm(args: &Recover, status: &Status, world: &mut World) -> Result<(), Failure> {
    let typed = match &args.cluster {
        Some(cluster) => cluster.clone(),
        None if args.yes || !world.person => {
            let why = if args.yes { "--yes alone is not enough" } else { "nobody can be asked here" };
            return Err(format!(
                "nothing was done: {why}; to recover, say --yes --cluster {}",
                status.cluster
            )
            .into());
        }
        None => {
            world.console.err("Type the id of the cluster to go on: ");
            world.line()?
        }
    };
    if typed != status.cluster {
        return Err(format!("nothing was done: '{typed}' is not the id of this cluster").into());
    }
    if args.cluster.is_some() && !args.yes {
        return super::confirm(world, false, "The members that are lost will be gone for good.");
    }
    Ok(())
}

/// Waits until the node answers as a working cluster; says at which revision.
async fn until_recovered(client: &Client, before: &Status) -> Result<String, Failure> {
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    let mut last = String::new();
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(WAIT_PAUSE).await;
        match client.get("/cluster/status").await {
            Ok(answer) => match Status::read(&answer) {
                Ok(status) if status.quorum => return Ok(cell(&answer, "revision")),
                Ok(_) => last = "it has no quorum yet".to_string(),
                Err(error) => last = error,
            },
            // It is on its way down or up.
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!(
        "the node has not come back within {} s ({last}): look at its log with `journalctl -u appliance`, then at \
         `appliance ctl cluster status`; cluster {} is not changed any further",
        WAIT_MAX.as_secs(),
        before.cluster
    )
    .into())
}

/// The commands for every other host: its old data moved aside, then a join. What it enforced last stays where the next
/// boot looks for it.
async fn others(client: &Client, before: &Status) -> Result<String, Failure> {
    let others: Vec<&str> = before
        .members
        .iter()
        .filter(|member| !before.is_here(member) && member.role != "removed")
        .map(|member| member.name.as_str())
        .collect();
    if others.is_empty() {
        return Ok(String::new());
    }
    let wanted =
        json!({"ttlSeconds": TOKEN_SECONDS, "uses": null, "role": "node", "description": "after recovery"});
    let token = client.create("/cluster/tokens", &wanted).await.map_err(refused)?;
    let names = others.join(", ");
    let join = cell(&token, "join");
    Ok(format!(
        "\nOn each other host that is to belong again ({names}):\n  \
         systemctl stop appliance\n  \
         mkdir /var/lib/appliance.before-recovery\n  \
         find /var/lib/appliance -mindepth 1 -maxdepth 1 ! -name dataplane -exec mv -t /var/lib/appliance.before-recovery {{}} +\n  \
         {join}\n\
         The token is good for 24 h. Each host keeps enforcing its last policy meanwhile, also if it reboots: dataplane/ has \
         it.\n"
    ))
}
