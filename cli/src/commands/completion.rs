//! `completion`: a script for the operator's shell that completes `appliance ctl` and `calicoctl`.

use clap::{Args as _, CommandFactory};

use crate::args::{Args, Completion};
use crate::world::{Failure, World};
use crate::{Calicoctl, Verdict};

pub(super) fn run(args: &Completion, world: &mut World) -> Result<Verdict, Failure> {
    let mut script = Vec::new();
    let ctl = Args::augment_args(clap::Command::new("ctl"));
    let mut appliance = clap::Command::new("appliance").subcommand(ctl);
    clap_complete::generate(args.shell, &mut appliance, "appliance", &mut script);
    clap_complete::generate(args.shell, &mut Calicoctl::command(), "calicoctl", &mut script);
    world.console.out(&String::from_utf8_lossy(&script));
    Ok(Verdict::Done)
}
