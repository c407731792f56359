//! `apply`: creates objects, or replaces those that are there.

use crate::Verdict;
use crate::args::{Apply, DryRun};
use crate::commands::batch::Batch;
use crate::commands::write::{WriteError, Writer, Written, check_offline};
use crate::input;
use crate::output::summary::{Effect, Verb};
use crate::world::{Failure, World};

pub(super) async fn run(args: &Apply, world: &mut World) -> Result<Verdict, Failure> {
    let Some(manifests) = input::read(&args.input, &mut world.stdin)? else {
        world.console.out("No resources specified\n");
        return Ok(Verdict::Done);
    };
    let mut batch = Batch::new(Verb::Apply, &args.write);
    if args.write.dry_run == Some(DryRun::Client) {
        for manifest in &manifests {
            // Without a node nobody knows whether the object is there, so "valid" is all there is to say.
            let result = check_offline(manifest).map(|()| Written { effect: Effect::Valid, revision: 0 });
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
        let result = writer.apply(manifest).await;
        batch.add(world, &manifest.target, Some(&manifest.source), result)?;
    }
    batch.finish(world, Some(&client)).await
}
