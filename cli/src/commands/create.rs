//! `create`: makes objects that must not be there yet.

use crate::Verdict;
use crate::args::Create;
use crate::commands::batch;
use crate::commands::write::{check_create, check_offline};
use crate::input::Manifest;
use crate::output::summary::{Effect, Verb};
use crate::world::{Failure, World};

pub(super) async fn run(args: &Create, world: &mut World) -> Result<Verdict, Failure> {
    let offline = |manifest: &Manifest| {
        check_create(manifest).and_then(|()| check_offline(manifest)).map(|()| Effect::Valid)
    };
    batch::run(Verb::Create, &args.input, &args.write, world, offline, async |writer, manifest| {
        writer.create(manifest, args.skip_exists).await
    })
    .await
}
