//! Batch: carries a verb through every resource of the input, tells each (`-v`), sums up, and waits if asked.
//!
//! All resources are attempted even after a failure, as calicoctl does; only a node that can not be reached ends the
//! batch. What is done to one resource is the verb's own business.

use crate::Verdict;
use crate::args::{DryRun, Input, WriteFlags};
use crate::client::Client;
use crate::commands::write::{WriteError, Writer, Written};
use crate::input::{self, Manifest};
use crate::output::summary::{Effect, Handled, Verb, summarise};
use crate::target::Target;
use crate::wait;
use crate::world::{Failure, World};

/// Reads the input and carries a verb through it: `offline` is what the client's own dry run checks, `write` is what is
/// done to each resource otherwise.
pub(crate) async fn run(
    verb: Verb,
    input: &Input,
    flags: &WriteFlags,
    world: &mut World,
    offline: fn(&Manifest) -> Result<Effect, String>,
    write: impl AsyncFn(&Writer<'_>, &Manifest) -> Result<Written, WriteError>,
) -> Result<Verdict, Failure> {
    let Some(manifests) = input::read(input, &mut world.stdin)? else {
        world.console.out("No resources specified\n");
        return Ok(Verdict::Done);
    };
    let mut batch = Batch::new(verb, flags);
    if flags.dry_run == Some(DryRun::Client) {
        for manifest in &manifests {
            let result = offline(manifest).map(|effect| Written { effect, revision: 0 });
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
    let writer = Writer::new(&client, flags.dry_run);
    for manifest in &manifests {
        let result = write(&writer, manifest).await;
        batch.add(world, &manifest.target, Some(&manifest.source), result)?;
    }
    batch.finish(world, Some(&client)).await
}

/// The results so far.
pub(crate) struct Batch<'a> {
    verb: Verb,
    flags: &'a WriteFlags,
    handled: Vec<Handled>,
    revision: u64,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(verb: Verb, flags: &'a WriteFlags) -> Batch<'a> {
        Batch { verb, flags, handled: Vec::new(), revision: 0 }
    }

    /// Takes one result. `place` says where the object was written down, for `-v`.
    pub(crate) fn add(
        &mut self,
        world: &mut World,
        target: &Target,
        place: Option<&dyn std::fmt::Display>,
        result: Result<Written, WriteError>,
    ) -> Result<(), Failure> {
        let result = match result {
            Ok(written) => {
                self.revision = self.revision.max(written.revision);
                Ok(written.effect)
            }
            Err(WriteError::Refused(cause)) => Err(cause),
            Err(WriteError::Unreachable(error)) => return Err(error.into()),
        };
        if self.flags.verbose {
            self.tell(world, target, place, &result);
        }
        self.handled.push(Handled { kind: target.kind, result });
        Ok(())
    }

    fn tell(
        &self,
        world: &mut World,
        target: &Target,
        place: Option<&dyn std::fmt::Display>,
        result: &Result<Effect, String>,
    ) {
        match result {
            Ok(effect) => {
                world.console.out(&format!("{target} {}{}\n", effect.word(), suffix(self.flags.dry_run)))
            }
            Err(cause) => {
                let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
                world.console.err(&format!("{place}{target} failed: {cause}\n"));
            }
        }
    }

    /// The closing words; then, if asked, until every node enforces the last write.
    pub(crate) async fn finish(self, world: &mut World, client: Option<&Client>) -> Result<Verdict, Failure> {
        let summary = summarise(self.verb, &self.handled, suffix(self.flags.dry_run));
        world.console.out(&summary.out);
        world.console.err(&summary.err);
        if let Some(client) = client.filter(|_| self.flags.wait && self.revision > 0) {
            wait::until_enforced(client, self.revision, self.flags.timeout).await?;
        }
        Ok(if summary.failed { Verdict::Failed } else { Verdict::Done })
    }
}

/// What marks a message about something that was not really done.
pub(crate) fn suffix(dry_run: Option<DryRun>) -> &'static str {
    match dry_run {
        None => "",
        Some(DryRun::Client) => " (client dry run)",
        Some(DryRun::Server) => " (server dry run)",
    }
}
