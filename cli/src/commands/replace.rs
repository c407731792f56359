//! `replace`: replaces objects that must be there.

use crate::Verdict;
use crate::args::Replace;
use crate::commands::batch;
use crate::commands::write::check_offline;
use crate::input::Manifest;
use crate::output::summary::{Effect, Verb};
use crate::world::{Failure, World};

pub(super) async fn run(args: &Replace, world: &mut World) -> Result<Verdict, Failure> {
    let offline = |manifest: &Manifest| check_offline(manifest).map(|()| Effect::Valid);
    batch::run(Verb::Replace, &args.input, &args.write, world, offline, async |writer, manifest| {
        writer.replace(manifest).await
    })
    .await
}
