//! The plan of one schedule: everything about it that is drawn once, from the seed alone. And the bugs that a test may
//! plant, to see whether the oracles find them.

use std::path::Path;

use raft::eraftpb::HardState;

use super::{
    decoy::forget_last_block,
    dice::Dice,
    disk::{Disk, Image},
    network::Weather,
};
use crate::wal::{Slot, Wal};

/// A bug on purpose. Each sits at the border of the members, where the simulation hears and feeds them, so that the
/// code under test needs none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A sync answers before the disk has anything: every promise of a member comes too early.
    LazyDisk,
    /// A member does not remember across a crash whom it voted for.
    VoteForgotten,
    /// A read is served from what the member happens to have.
    StaleRead,
    /// A write whose fate is unknown is answered as done.
    UncertainIsDone,
    /// A write whose fate is unknown is answered as refused.
    UncertainIsRefused,
    /// One member applies commands a little differently.
    Forked,
    /// Clients are dropped instead of answered when leadership moves.
    Forgetful,
    /// The network hands a forwarded command to the leader twice.
    SentTwice,
    /// A member that lost its disk comes back empty under the same id.
    Amnesia,
}

/// One schedule's settings.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) plant: Option<Plant>,
    pub(crate) voters: u64,
    /// Members that begin with nothing and may be added.
    pub(crate) joiners: u64,
    /// Milliseconds after which nothing breaks any more.
    pub(crate) faults_end: u64,
    /// Milliseconds between two faults, and between two questions, on average.
    pub(crate) fault_pause: u64,
    pub(crate) client_pause: u64,
    /// Percent of faults that are an operator's wish for other members or another leader.
    pub(crate) churn: u64,
    pub(crate) weather: Weather,
    pub(crate) sync_time: u64,
    pub(crate) down_time: u64,
    /// Percent of starts during which power fails again.
    pub(crate) cut_at_start: u64,
    pub(crate) election_ticks: usize,
    pub(crate) checkpoint_entries: u64,
    pub(crate) retained_entries: u64,
    pub(crate) lag_entries: u64,
    pub(crate) wal_file_bytes: u64,
    /// Up to how many voters the leader promotes by itself, and when it replaces one.
    pub(crate) voters_max: usize,
    pub(crate) replace_after_ticks: Option<u32>,
}

impl Plan {
    pub(crate) fn draw(seed: u64, plant: Option<Plant>) -> Plan {
        let mut dice = Dice::new(seed ^ 0x00c0_ffee);
        let voters = dice.pick(&[1, 2, 3, 3, 3, 3, 3, 5, 5, 5]).unwrap_or(3);
        Plan {
            seed,
            plant,
            voters,
            joiners: dice.below(3),
            faults_end: dice.between(4_000, 12_000),
            fault_pause: dice.pick(&[100, 300, 800]).unwrap_or(300),
            client_pause: dice.pick(&[10, 30, 100]).unwrap_or(30),
            churn: dice.pick(&[0, 10, 50]).unwrap_or(10),
            weather: Weather::draw(&mut dice),
            sync_time: dice.pick(&[0, 0, 1, 5, 30]).unwrap_or(0),
            down_time: dice.pick(&[50, 500, 3_000]).unwrap_or(500),
            cut_at_start: dice.pick(&[0, 10, 40]).unwrap_or(0),
            election_ticks: dice.pick(&[5, 10]).unwrap_or(10),
            checkpoint_entries: dice.pick(&[5, 20, 60, 100_000]).unwrap_or(20),
            retained_entries: dice.pick(&[0, 0, 5, 50]).unwrap_or(0),
            lag_entries: dice.pick(&[0, 20, 20_000]).unwrap_or(0),
            voters_max: dice.between(3, 5) as usize,
            replace_after_ticks: dice.pick(&[None, Some(15), Some(40)]).flatten(),
            wal_file_bytes: dice.pick(&[2_048, 8_192, 65_536]).unwrap_or(16_384),
        }
    }

    /// From which revision on a member's state machine is wrong.
    pub(crate) fn wrong_from(&self, member: u64) -> Option<u64> {
        (self.plant == Some(Plant::Forked) && member == self.voters).then_some(5)
    }
}

/// What a log would hold if the vote in its hard state had never been written.
pub(crate) fn forget_vote(image: &mut Image, dir: &Path) {
    forget_last_block();
    let disk = Disk::mount(dir, image, Dice::new(0), false);
    let mut wal = Wal::open(dir, 16_384).expect("open the log once more");
    if let Some(mut hard_state) = wal.get::<HardState>(Slot::HardState).expect("read the hard state") {
        hard_state.vote = 0;
        wal.stage(Slot::HardState, &hard_state).expect("stage a hard state");
        wal.commit().expect("write a hard state");
    }
    disk.cut();
    image.files = disk.left().unwrap_or_default().files;
    drop(wal);
    Disk::unmount(dir);
    let _ = std::fs::remove_dir_all(dir);
}
