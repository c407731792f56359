//! A disk in memory that loses what was not synced. It counts its steps, so that power can be cut at any of them: from
//! then on the member that runs on it still runs, but nothing it writes, sends or answers reaches anybody, which is
//! what a power cut is to everyone else.
//!
//! Of every write since the last sync a cut leaves all, nothing, or some sectors; a file that was never synced may be
//! gone with its name, and a deleted one may be back.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use super::{dice::Dice, ledger::Records};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Which directories are not real ones.
static MOUNTED: LazyLock<Mutex<HashMap<PathBuf, Disk>>> = LazyLock::new(Mutex::default);

/// One member's disk during one life.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

struct State {
    files: BTreeMap<String, File>,
    /// Deleted, but the directory was not synced since.
    ghosts: BTreeMap<String, Vec<u8>>,
    machine: MachineFiles,
    steps: u64,
    cut_at: Option<u64>,
    left: Option<Image>,
    dice: Dice,
    syncs: u64,
    /// Planted: a sync answers before it has done anything, and what it should have written waits for the next one.
    lazy: bool,
    at_death: Option<Box<dyn FnOnce() + Send>>,
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
    /// Planted: what the last sync claimed to have written.
    claimed: Vec<Write>,
    synced: bool,
}

#[derive(Clone)]
enum Write {
    At(usize, Vec<u8>),
    Resize(usize, bool),
}

/// The state machine's files: what a file export holds, what was made durable, and what might have become durable
/// since, for a database may write out any prefix of its transactions whenever it likes.
#[derive(Clone, Default)]
pub(crate) struct MachineFiles {
    pub(crate) exported: Records,
    pub(crate) durable: Records,
    pub(crate) since: Vec<Records>,
}

/// What is left of a disk.
#[derive(Clone, Default)]
pub(crate) struct Image {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) machine: MachineFiles,
}

impl Disk {
    /// Mounts what an earlier life left on `dir`.
    pub(crate) fn mount(dir: &Path, image: &Image, dice: Dice, lazy: bool) -> Disk {
        let file = |bytes: &Vec<u8>| File {
            bytes: bytes.clone(),
            durable: bytes.clone(),
            synced: true,
            ..File::default()
        };
        let disk = Disk(Arc::new(Mutex::new(State {
            files: image.files.iter().map(|(name, bytes)| (name.clone(), file(bytes))).collect(),
            ghosts: BTreeMap::new(),
            machine: image.machine.clone(),
            steps: 0,
            cut_at: None,
            left: None,
            dice,
            syncs: 0,
            lazy,
            at_death: None,
        })));
        std::fs::create_dir_all(dir).expect("make the directory of a simulated disk");
        for name in image.files.keys() {
            std::fs::write(dir.join(name), b"").expect("name a file of a simulated disk");
        }
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned(), disk.clone());
        disk
    }

    /// The disk mounted on a directory.
    pub(crate) fn mounted(dir: &Path) -> Option<Disk> {
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).get(dir).cloned()
    }

    pub(crate) fn unmount(dir: &Path) {
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).remove(dir);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is done in the very moment of a power cut.
    pub(crate) fn at_death(&self, done: impl FnOnce() + Send + 'static) {
        self.state().at_death = Some(Box::new(done));
    }

    /// Cuts the power before the step that comes after `steps` others.
    pub(crate) fn cut_in(&self, steps: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.steps + steps);
    }

    /// Takes an armed power cut back.
    pub(crate) fn spare(&self) {
        self.state().cut_at = None;
    }

    /// Cuts the power now.
    pub(crate) fn cut(&self) {
        self.state().cut();
    }

    /// What the power cut left, if there was one.
    pub(crate) fn left(&self) -> Option<Image> {
        self.state().left.clone()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().left.is_some()
    }

    /// Syncs so far; they take time.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Something a power cut can fall before: a write, a sync, a message on its way, an applied transaction.
    pub(crate) fn step(&self) {
        self.state().step();
    }

    /// A step that changes the state machine's files.
    pub(crate) fn with_machine<T>(&self, change: impl FnOnce(&mut MachineFiles) -> T) -> T {
        let mut state = self.state();
        state.step();
        change(&mut state.machine)
    }

    /// The state machine's files as they are.
    pub(crate) fn machine(&self) -> MachineFiles {
        self.state().machine.clone()
    }

    pub(crate) fn create(&self, name: &str) {
        let mut state = self.state();
        state.step();
        // raft-engine syncs the directory with every new file, which settles all deletions before it.
        state.ghosts.clear();
        state.files.entry(name.to_owned()).or_default();
    }

    pub(crate) fn delete(&self, name: &str) {
        let mut state = self.state();
        state.step();
        if let Some(file) = state.files.remove(name) {
            state.ghosts.insert(name.to_owned(), file.durable);
        }
    }

    pub(crate) fn size(&self, name: &str) -> usize {
        self.state().files.get(name).map_or(0, |file| file.bytes.len())
    }

    pub(crate) fn read(&self, name: &str, at: usize, buffer: &mut [u8]) -> usize {
        let state = self.state();
        let bytes = state.files.get(name).and_then(|file| file.bytes.get(at..)).unwrap_or_default();
        let read = bytes.len().min(buffer.len());
        buffer[..read].copy_from_slice(&bytes[..read]);
        read
    }

    pub(crate) fn write(&self, name: &str, at: usize, bytes: &[u8]) {
        self.state().change(name, Write::At(at, bytes.to_vec()));
    }

    pub(crate) fn resize(&self, name: &str, size: usize, shrink: bool) {
        self.state().change(name, Write::Resize(size, shrink));
    }

    pub(crate) fn sync(&self, name: &str) {
        let mut state = self.state();
        state.step();
        state.syncs += 1;
        let lazy = state.lazy;
        let Some(file) = state.files.get_mut(name) else { return };
        file.synced = true;
        let now = std::mem::take(&mut file.pending);
        let settled = if lazy { std::mem::replace(&mut file.claimed, now) } else { now };
        settled.iter().for_each(|write| write.to(&mut file.durable));
    }
}

impl State {
    fn step(&mut self) {
        if self.cut_at == Some(self.steps) {
            self.cut();
        }
        self.steps += 1;
    }

    fn change(&mut self, name: &str, write: Write) {
        self.step();
        if let Some(file) = self.files.get_mut(name) {
            write.to(&mut file.bytes);
            file.pending.push(write);
        }
    }

    fn cut(&mut self) {
        if self.left.is_some() {
            return;
        }
        let dice = &mut self.dice;
        let mut left = Image { files: BTreeMap::new(), machine: self.machine.after_a_cut(dice) };
        for (name, file) in &self.files {
            if file.synced || dice.percent(50) {
                left.files.insert(name.clone(), file.after_a_cut(dice));
            }
        }
        for (name, bytes) in &self.ghosts {
            if dice.percent(50) {
                left.files.insert(name.clone(), bytes.clone());
            }
        }
        self.left = Some(left);
        if let Some(done) = self.at_death.take() {
            done();
        }
    }
}

impl File {
    fn after_a_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let pending = self.claimed.iter().chain(&self.pending);
        match dice.below(4) {
            0 => {}
            1 => pending.for_each(|write| write.to(&mut bytes)),
            _ => pending.for_each(|write| write.in_part_to(&mut bytes, dice)),
        }
        bytes
    }
}

impl Write {
    fn to(&self, bytes: &mut Vec<u8>) {
        match self {
            Write::At(at, written) => {
                bytes.resize(bytes.len().max(at + written.len()), 0);
                bytes[*at..at + written.len()].copy_from_slice(written);
            }
            Write::Resize(size, true) => bytes.resize(*size, 0),
            Write::Resize(size, false) => bytes.resize(bytes.len().max(*size), 0),
        }
    }

    fn in_part_to(&self, bytes: &mut Vec<u8>, dice: &mut Dice) {
        let Write::At(at, written) = self else {
            if dice.percent(50) {
                self.to(bytes);
            }
            return;
        };
        let mut from = 0;
        while from < written.len() {
            let to = written.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
            if dice.percent(50) {
                Write::At(at + from, written[from..to].to_vec()).to(bytes);
            }
            from = to;
        }
    }
}

impl MachineFiles {
    fn after_a_cut(&self, dice: &mut Dice) -> MachineFiles {
        // One time in eight the database is damaged, and the store opens the last export instead.
        let durable = match dice.below(8) {
            0 => &self.exported,
            _ => match dice.below(self.since.len() as u64 + 1) as usize {
                0 => &self.durable,
                at => &self.since[at - 1],
            },
        };
        MachineFiles { exported: self.exported.clone(), durable: durable.clone(), since: Vec::new() }
    }
}
