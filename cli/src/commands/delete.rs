//! `delete`: by file, by name, by label, or all of a kind.
//!
//! A kind alone is never a wildcard. What `--all` and `-l` match is listed first and goes only with `--yes`.

use appliance_resources::Kind;
use serde_json::Value;

use crate::Verdict;
use crate::args::{Delete, DryRun};
use crate::client::Client;
use crate::commands::batch::Batch;
use crate::commands::write::{WriteError, Writer, Written};
use crate::commands::{kind, kind_and_names};
use crate::input;
use crate::object::{self, Scope};
use crate::output::summary::{Effect, Verb};
use crate::target::{Target, collection_path, with_query};
use crate::wait;
use crate::world::{Failure, World};

/// One object to go, and the version it must have.
struct Doomed {
    target: Target,
    version: Option<String>,
}

pub(super) async fn run(args: &Delete, world: &mut World) -> Result<Verdict, Failure> {
    let selects = args.all || args.selector.is_some();
    let doomed = match (&args.input.filename, selects) {
        (Some(_), true) => return Err("--all and -l can not be combined with --filename".into()),
        (Some(_), false) => match from_file(args, world)? {
            Some(doomed) => doomed,
            None => return Ok(Verdict::Done),
        },
        (None, true) => return selected(args, world).await,
        (None, false) => named(args)?,
    };
    if args.write.dry_run == Some(DryRun::Client) {
        return delete_all(args, &doomed, world, None).await;
    }
    let client = world.client()?;
    delete_all(args, &doomed, world, Some(&client)).await
}

fn from_file(args: &Delete, world: &mut World) -> Result<Option<Vec<Doomed>>, Failure> {
    if !args.words.is_empty() {
        return Err("a kind and names can not be combined with --filename".into());
    }
    let Some(manifests) = input::read(&args.input, &mut world.stdin)? else {
        world.console.out("No resources specified\n");
        return Ok(None);
    };
    let doomed = manifests.into_iter().map(|manifest| {
        let version = Some(object::version(&manifest.object)).filter(|version| !version.is_empty());
        Doomed { version: version.map(str::to_string), target: manifest.target }
    });
    Ok(Some(doomed.collect()))
}

fn named(args: &Delete) -> Result<Vec<Doomed>, Failure> {
    let (word, names) = kind_and_names(&args.words)?;
    let kind = kind(word)?;
    if names.is_empty() {
        return Err(format!("which {} is to be deleted? give names, -l LABELS or --all", kind.name()).into());
    }
    let scope = Scope { namespace: args.input.namespace.as_deref(), all_namespaces: false };
    let doomed = names.iter().map(|name| Ok(Doomed { target: scope.of_name(kind, name)?, version: None }));
    doomed.collect::<Result<_, String>>().map_err(Failure)
}

/// Deletes what `--all` or `-l` matches: as listed, so an object that changed in between stays.
async fn selected(args: &Delete, world: &mut World) -> Result<Verdict, Failure> {
    let (word, names) = kind_and_names(&args.words)?;
    let kind = kind(word)?;
    if !names.is_empty() {
        return Err("names can not be combined with --all or -l".into());
    }
    let scope = Scope { namespace: args.input.namespace.as_deref(), all_namespaces: false };
    let namespace = scope.of_list(kind)?;
    let client = world.client()?;
    let path = collection_path(kind, namespace.as_deref());
    let list = client.get(&with_query(&path, &[("labelSelector", args.selector.as_deref())])).await?;
    let doomed: Vec<Doomed> = object::items(&list).iter().map(|item| listed(kind, item)).collect();
    for one in &doomed {
        world.console.out(&format!("{}\n", one.target));
    }
    if doomed.is_empty() {
        world.console.out("No resources specified\n");
        return Ok(Verdict::Done);
    }
    if !args.yes && args.write.dry_run.is_none() {
        let (count, kind) = (doomed.len(), kind.name());
        return Err(format!(
            "the {count} '{kind}' resource(s) above were not deleted: add --yes to delete them"
        )
        .into());
    }
    delete_all(args, &doomed, world, Some(&client)).await
}

fn listed(kind: Kind, item: &Value) -> Doomed {
    let namespace = item.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_string);
    let target = Target { kind, namespace, name: object::name(item).to_string() };
    Doomed { target, version: Some(object::version(item).to_string()) }
}

async fn delete_all(
    args: &Delete,
    doomed: &[Doomed],
    world: &mut World,
    client: Option<&Client>,
) -> Result<Verdict, Failure> {
    let mut batch = Batch::new(Verb::Delete, &args.write);
    let waits = args.write.wait && args.write.dry_run.is_none();
    for one in doomed {
        let result = match client.filter(|_| args.write.dry_run != Some(DryRun::Client)) {
            None => Ok(Written { effect: Effect::Deleted, revision: 0 }),
            Some(client) if waits => delete_and_date(args, client, one).await,
            Some(client) => {
                let writer = Writer::new(client, args.write.dry_run);
                writer.delete(&one.target, one.version.as_deref(), args.skip_not_exists).await
            }
        };
        batch.add(world, &one.target, None, result)?;
    }
    batch.finish(world, client).await
}

/// Deletes, and finds out in which revision, so that there is something to wait for.
async fn delete_and_date(args: &Delete, client: &Client, one: &Doomed) -> Result<Written, WriteError> {
    let before = wait::version_of(client, &one.target.collection()).await.map_err(WriteError::Unreachable)?;
    let mut written =
        Writer::new(client, None).delete(&one.target, one.version.as_deref(), args.skip_not_exists).await?;
    if written.effect == Effect::Deleted && written.revision == 0 {
        let revision = wait::deletion_of(client, &one.target, &before).await;
        written.revision = revision.map_err(WriteError::Unreachable)?;
    }
    Ok(written)
}
