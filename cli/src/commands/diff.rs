//! `diff`: what applying manifests would change, worked out by the node in a dry run.

use appliance_resources::manifest::Source;
use serde_json::Value;

use crate::Verdict;
use crate::args::Diff;
use crate::client::Client;
use crate::error::{ClientError, cause};
use crate::input::{self, Manifest};
use crate::object;
use crate::output::{unified, yaml};
use crate::target::with_query;
use crate::world::{Failure, World};

pub(super) async fn run(args: &Diff, world: &mut World) -> Result<Verdict, Failure> {
    let Some(manifests) = input::read(&args.input, &mut world.stdin)? else {
        world.console.out("No resources specified\n");
        return Ok(Verdict::Done);
    };
    let client = world.client()?;
    let mut verdict = Verdict::Done;
    for manifest in &manifests {
        match difference(&client, manifest).await {
            Ok(None) => {}
            Ok(Some(text)) => {
                world.console.out(&text);
                if verdict == Verdict::Done {
                    verdict = Verdict::Differs;
                }
            }
            Err(error) if error.is_connection() => return Err(error.into()),
            Err(error) => {
                let Source { file, document, .. } = &manifest.source;
                let cause = cause("apply", &manifest.target, &error);
                world.console.err(&format!("{file}, document {document}: {}: {cause}\n", manifest.target));
                verdict = Verdict::Failed;
            }
        }
    }
    Ok(verdict)
}

/// Live against what the node says it would become.
async fn difference(client: &Client, manifest: &Manifest) -> Result<Option<String>, ClientError> {
    let target = &manifest.target;
    let dry_run =
        |path: &str| with_query(path, &[("fieldValidation", Some("Strict")), ("dryRun", Some("All"))]);
    let mut wanted = manifest.object.clone();
    let required = object::take_version(&mut wanted);
    let (live, after) = match client.get(&target.path()).await {
        Ok(live) => {
            let mut object = object::updated(&live, &wanted);
            object::set_version(&mut object, required.as_deref().unwrap_or(object::version(&live)));
            let after = client.replace(&dry_run(&target.path()), &object).await?;
            (Some(live), after)
        }
        Err(error) if error.is_absent(target) => {
            (None, client.create(&dry_run(&target.collection()), &wanted).await?)
        }
        Err(error) => return Err(error),
    };
    let text = |object: Value| yaml::render(&object::comparable(object));
    let before = live.map(text).unwrap_or_default();
    Ok(unified::render(&format!("live/{target}"), &format!("applied/{target}"), &before, &text(after)))
}
