//! `snapshot`: saves the state of the cluster, and what can be done with a saved one without a node.

use std::path::Path;

use serde_json::Value;

use super::args::{Snapshot, SnapshotRestore, SnapshotSave, SnapshotStatus};
use super::save::Draft;
use super::{cell, refused, render};
use crate::Verdict;
use crate::offline::RestoreArgs;
use crate::target::with_query;
use crate::world::{Failure, World};

pub(crate) async fn run(verb: Snapshot, world: &mut World) -> Result<Verdict, Failure> {
    match verb {
        Snapshot::Save(args) => save(&args, world).await,
        Snapshot::Status(args) => status(&args, world),
        Snapshot::Restore(args) => restore(args, world),
    }
}

async fn save(args: &SnapshotSave, world: &mut World) -> Result<Verdict, Failure> {
    let path = with_query("/cluster/snapshot", &[("resourceVersion", args.stale.then_some("0"))]);
    let client = world.client()?;
    if args.file == Path::new("-") {
        let saved = client.download(&path, &mut std::io::stdout().lock()).await.map_err(refused)?;
        // Standard output is the snapshot.
        world.console.err(&format!("revision {}, {} bytes, checked\n", saved.revision, saved.bytes));
        return Ok(Verdict::Done);
    }
    let mut draft = Draft::create(&args.file, args.force)?;
    let saved = client.download(&path, &mut draft).await.map_err(refused)?;
    draft.publish()?;
    let (file, revision, bytes) = (args.file.display(), saved.revision, saved.bytes);
    world.console.out(&format!("Saved {file}: revision {revision}, {bytes} bytes, checked.\n"));
    Ok(Verdict::Done)
}

fn status(args: &SnapshotStatus, world: &mut World) -> Result<Verdict, Failure> {
    let info = (world.offline.inspect)(&args.file)?;
    world.console.out(&render(args.format.output, &info, |_| fields(&info)));
    Ok(Verdict::Done)
}

fn restore(args: SnapshotRestore, world: &mut World) -> Result<Verdict, Failure> {
    let output = args.format.output;
    let directory = args.data_dir.display().to_string();
    let SnapshotRestore { file, data_dir, node_name, revision_jump, format: _ } = args;
    let made = (world.offline.restore)(RestoreArgs { file, data_dir, node_name, revision_jump })?;
    world.console.out(&render(output, &made, |_| {
        format!(
            "{}\nStart this host with --data-dir {directory}, then join the others, each with nothing in its data directory \
             but dataplane/:\n  \
             appliance ctl token create\n",
            fields(&made).trim_end()
        )
    }));
    Ok(Verdict::Done)
}

/// Each field of an object on a line of its own; those that say nothing are left out.
fn fields(object: &Value) -> String {
    let says = |name: &&String| !cell(object, name).is_empty();
    let names = object.as_object().map(|fields| fields.keys().filter(says).collect());
    let names: Vec<&String> = names.unwrap_or_default();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0) + 2;
    names.iter().map(|name| format!("{:<width$}{}\n", format!("{name}:"), cell(object, name))).collect()
}
