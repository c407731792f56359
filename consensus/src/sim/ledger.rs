//! Ledger: the state machine of the simulation. Commands carry a number that no other has; the ledger chains a hash
//! over all of them and reports each to the [`Journal`], where all members' histories meet.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::disk::Disk;
use crate::{
    message::SnapshotBody,
    state_machine::{Export, StateMachine},
};

/// Keys that commands write to.
const KEYS: u64 = 8;

/// The state: small, so that a copy of it at every entry costs little.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) applied: u64,
    pub(crate) revision: u64,
    pub(crate) chain: u64,
    values: BTreeMap<u64, u64>,
}

impl Records {
    fn apply(&mut self, index: u64, command: &[u8]) {
        self.applied = index;
        if let Some(number) = number(command) {
            self.revision += 1;
            self.chain = (self.chain ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
            self.values.insert(number % KEYS, number);
        }
    }

    fn write(&self) -> Vec<u8> {
        let values = self.values.iter().flat_map(|(key, value)| [*key, *value]);
        [self.applied, self.revision, self.chain]
            .into_iter()
            .chain(values)
            .flat_map(u64::to_be_bytes)
            .collect()
    }

    fn read(bytes: &[u8]) -> Option<Records> {
        let words: Vec<u64> =
            bytes.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_be_bytes).collect();
        let [applied, revision, chain, values @ ..] = &words[..] else { return None };
        let values = values.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        Some(Records { applied: *applied, revision: *revision, chain: *chain, values })
    }
}

/// A command that writes `number`.
pub(crate) fn command(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn number(command: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(command.try_into().ok()?))
}

/// What was applied at each index, by whoever came there first; and whoever applied something else.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    /// By index: the command and the state's hash behind it.
    applied: BTreeMap<u64, (Option<u64>, u64)>,
    written: BTreeMap<u64, u64>,
    violations: Vec<String>,
    restores: u64,
}

impl Journal {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, member: u64, index: u64, command: Option<u64>, chain: u64) {
        let mut pages = self.pages();
        let first = *pages.applied.entry(index).or_insert((command, chain));
        if first != (command, chain) {
            pages.violations.push(format!(
                "member {member} applied {command:?} at entry {index} (state {chain:x}), another {:?} (state {:x})",
                first.0, first.1
            ));
        }
        if let Some(number) = command {
            let before = *pages.written.entry(number).or_insert(index);
            if before != index {
                pages
                    .violations
                    .push(format!("command {number} was applied at entries {before} and {index}"));
            }
        }
    }

    /// Where a command was applied.
    pub(crate) fn index_of(&self, number: u64) -> Option<u64> {
        self.pages().written.get(&number).copied()
    }

    /// The hash of the state behind an entry.
    pub(crate) fn chain(&self, index: u64) -> Option<u64> {
        self.pages().applied.get(&index).map(|(_, chain)| *chain)
    }

    /// How often a member took another's state.
    pub(crate) fn restores(&self) -> u64 {
        self.pages().restores
    }

    /// What should never have happened.
    pub(crate) fn violation(&self) -> Option<String> {
        self.pages().violations.first().cloned()
    }
}

/// One member's state machine.
pub(crate) struct Ledger {
    member: u64,
    records: Records,
    /// By revision, as far back as this life goes.
    chains: BTreeMap<u64, u64>,
    disk: Disk,
    journal: Journal,
    /// Planted: every command from this one on is applied a little wrong.
    pub(crate) wrong_from: Option<u64>,
}

impl Ledger {
    /// What the disk holds.
    pub(crate) fn open(member: u64, disk: Disk, journal: Journal) -> Ledger {
        let records = disk.machine().durable;
        let chains = BTreeMap::from([(records.revision, records.chain)]);
        Ledger { member, records, chains, disk, journal, wrong_from: None }
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }
}

impl StateMachine for Ledger {
    fn check(command: &[u8]) -> Result<(), String> {
        number(command).map(|_| ()).ok_or_else(|| "not a number".to_owned())
    }

    fn applied_index(&self) -> u64 {
        self.records.applied
    }

    fn apply(&mut self, batch: &[(u64, &[u8])]) -> Vec<Vec<u8>> {
        let mut records = self.records.clone();
        for (index, command) in batch {
            assert!(
                records.applied == 0 || *index == records.applied + 1,
                "entry {index} after {}",
                records.applied
            );
            records.apply(*index, command);
            if self.wrong_from.is_some_and(|from| records.revision >= from) {
                records.chain ^= 1;
            }
            self.chains.insert(records.revision, records.chain);
            if !self.disk.is_dead() {
                self.journal.note(self.member, *index, number(command), records.chain);
            }
        }
        self.disk.with_machine(|files| files.since.push(records.clone()));
        self.records = records;
        self.disk.step();
        batch.iter().map(|(index, _)| index.to_be_bytes().to_vec()).collect()
    }

    fn checkpoint(&mut self) {
        self.disk.with_machine(|files| {
            files.durable = self.records.clone();
            files.since.clear();
        });
    }

    fn export(&self) -> Export {
        let (disk, records) = (self.disk.clone(), self.records.clone());
        Box::new(move || {
            let bytes = records.write().len() as u64;
            // One that began before a restore ends after it; the newest file is the one that heals.
            disk.with_machine(|files| {
                if files.exported.applied <= records.applied {
                    files.exported = records;
                }
            });
            Ok(bytes)
        })
    }

    fn log_may_be_cut_to(&self) -> u64 {
        let files = self.disk.machine();
        files.durable.applied.min(files.exported.applied)
    }

    fn housekeep(&mut self) -> bool {
        false
    }

    fn snapshot(&self) -> SnapshotBody {
        let bytes = self.records.write();
        Arc::new(move |out| out.write_all(&bytes).map_err(|error| error.to_string()))
    }

    fn restore(&mut self, file: &Path) {
        self.journal.pages().restores += 1;
        self.records = read(file).expect("a snapshot that was checked");
        self.chains = BTreeMap::from([(self.records.revision, self.records.chain)]);
        let records = self.records.clone();
        self.disk.with_machine(|files| {
            (files.exported, files.durable) = (records.clone(), records);
            files.since.clear();
        });
        self.disk.step();
    }

    fn check_snapshot(file: &Path) -> Result<u64, String> {
        read(file).map(|records| records.applied)
    }

    fn chain(&self) -> (u64, [u8; 32]) {
        (self.records.revision, wide(self.records.chain))
    }

    fn chain_at(&self, revision: u64) -> Option<[u8; 32]> {
        self.chains.get(&revision).copied().map(wide)
    }
}

fn read(file: &Path) -> Result<Records, String> {
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    Records::read(&bytes).ok_or_else(|| "not a snapshot".to_owned())
}

fn wide(chain: u64) -> [u8; 32] {
    let mut wide = [0; 32];
    wide[..8].copy_from_slice(&chain.to_be_bytes());
    wide
}
