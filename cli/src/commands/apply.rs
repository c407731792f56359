//! `apply`: creates objects, or replaces those that are there.

use crate::Verdict;
use crate::args::Apply;
use crate::commands::batch;
use crate::commands::write::check_offline;
use crate::input::Manifest;
use crate::output::summary::{Effect, Verb};
use crate::world::{Failure, World};

pub(super) async fn run(args: &Apply, world: &mut World) -> Result<Verdict, Failure> {
    // Without a node nobody knows whether the object is there, so "valid" is all there is to say.
    let offline = |manifest: &Manifest| check_offline(manifest).map(|()| Effect::Valid);
    batch::run(Verb::Apply, &args.input, &args.write, world, offline, async |writer, manifest| {
        writer.apply(manifest).await
    })
    .await
}
