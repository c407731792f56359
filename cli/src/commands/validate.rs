//! `validate`: checks manifests with no node, no configuration and no version check.

use crate::Verdict;
use crate::args::Validate;
use crate::commands::write::check_offline;
use crate::input;
use crate::output::summary::{Effect, Handled, Verb, summarise};
use crate::world::{Failure, World};

pub(super) fn run(args: &Validate, world: &mut World) -> Result<Verdict, Failure> {
    let Some(manifests) = input::read(&args.input, &mut world.stdin)? else {
        world.console.out("No resources specified\n");
        return Ok(Verdict::Done);
    };
    let handled: Vec<Handled> = manifests
        .iter()
        .map(|manifest| Handled {
            kind: manifest.target.kind,
            result: check_offline(manifest).map(|()| Effect::Valid),
        })
        .collect();
    let summary = summarise(Verb::Validate, &handled, "");
    world.console.out(&summary.out);
    world.console.err(&summary.err);
    Ok(if summary.failed { Verdict::Failed } else { Verdict::Done })
}
