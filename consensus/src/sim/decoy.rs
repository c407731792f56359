//! raft-engine keeps the block it read last in a cache of the thread, by its place in a file and not by whose file that
//! is. One thread that holds many logs would read one member's entries for another's. A process has one log, so this
//! is the simulation's problem alone; it reads a block of a log of its own before it lets another member run.

use raft::eraftpb::Entry;
use tempfile::TempDir;

use crate::wal::Wal;

/// Bytes before the decoy's block, so that it stands where no member's block does.
const FILLER: usize = 2_000_000;

struct Decoy {
    wal: Wal,
    _folder: TempDir,
}

thread_local! {
    static DECOY: Decoy = Decoy::new();
}

impl Decoy {
    fn new() -> Decoy {
        let folder = super::folder();
        let mut wal = Wal::open(folder.path(), 2 * FILLER as u64).expect("open a log of its own");
        for (index, bytes) in [(1, FILLER), (2, 8)] {
            let entry = Entry { index, term: 1, data: vec![0; bytes].into(), ..Entry::default() };
            wal.stage_entries(&[entry]).expect("stage an entry");
            wal.commit().expect("write an entry");
        }
        Decoy { wal, _folder: folder }
    }
}

/// Makes the thread forget what it read last.
pub(crate) fn forget_last_block() {
    DECOY.with(|decoy| drop(decoy.wal.entries(2, 3, None).expect("read the decoy")));
}
