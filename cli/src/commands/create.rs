//! `create`: makes objects that must not be there yet.

use crate::Verdict;
use crate::args::{Create, DryRun};
use crate::commands::batch::Batch;
use crate::commands::write::{WriteError, Writer, Written, check_create, check_offline};
use crate::input::{self, Manifest};
use crate::output::summary::{Effect, Verb};
use crate::world::{Failure, World};

pub(super) async fn run(args: &Create, world: &mut World) -> Result<Verdict, Failure> {
    let Some(manifests) = input::read(&args.input, &mut world.stdin)? else {
        world.console.out("No resources specified\n");
        return Ok(Verdict::Done);
    };
    let mut batch = Batch::new(Verb::Create, &args.write);
    if args.write.dry_run == Some(DryRun::Client) {
        for manifest in &manifests {
            let checked = check_create(manifest).and_then(|()| check_offline(manifest));
            let result = checked.map(|()| Written { effect: Effect::Created, revision: 0 });
            batch.add(
                world,
                &manifest.target,
                Some(&manifest.source),
                result.map_err(WriteError::Refused),
            )?;
        }
        return batch.finish(world, None).await;
    }
    let client = world.client()?;
    let writer = Writer::new(&client, args.write.dry_run);
    for manifest in &manifests {
        let result = create(&writer, manifest, args.skip_exists).await;
        batch.add(world, &manifest.target, Some(&manifest.source), result)?;
    }
    batch.finish(world, Some(&client)).await
}

async fn create(writer: &Writer<'_>, manifest: &Manifest, skip_exists: bool) -> Result<Written, WriteError> {
    if skip_exists && writer.exists(&manifest.target).await? {
        return Ok(Written { effect: Effect::Skipped, revision: 0 });
    }
    writer.create(manifest).await
}
