//! The map that prints itself: the state machine of the golden scripts and of this crate's unit tests. It keeps what it
//! has made durable in a file, so that a restart finds exactly that.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    message::SnapshotBody,
    state_machine::{Export, StateMachine},
};

/// Commands are `key=value`; the outcome is what the key held before.
#[derive(Clone)]
pub(crate) struct Map {
    applied: u64,
    exported: u64,
    values: BTreeMap<String, String>,
    /// By the index of a command, what stands for everything up to it.
    chains: BTreeMap<u64, [u8; 32]>,
    file: PathBuf,
    fail_at: Option<u64>,
}

impl Map {
    /// What was last made durable in `dir`, or an empty map.
    pub(crate) fn open(dir: &Path) -> Map {
        let file = dir.join("map");
        let (values, chains) = (BTreeMap::new(), BTreeMap::new());
        let mut map = Map { applied: 0, exported: 0, values, chains, file, fail_at: None };
        if let Ok(text) = fs::read_to_string(&map.file) {
            map.read(&text);
            map.exported = map.applied;
        }
        map
    }

    /// Lets the disk fail when this entry is applied.
    pub(crate) fn failing_at(mut self, index: u64) -> Map {
        self.fail_at = Some(index);
        self
    }

    /// Lets the state differ from everybody else's, as a bit that flipped would.
    pub(crate) fn corrupt(&mut self) {
        let (revision, chain) = self.chain();
        self.chains.insert(revision, chain.map(|byte| byte ^ 1));
    }

    fn extend_chain(&mut self, index: u64, command: &[u8]) {
        let mut chain = self.chain().1;
        for (at, byte) in command.iter().enumerate() {
            chain[at % 32] = chain[at % 32].rotate_left(3) ^ byte;
        }
        self.chains.insert(index, chain);
    }

    fn read(&mut self, text: &str) {
        let mut lines = text.lines();
        self.applied = lines.next().and_then(|line| line.parse().ok()).expect("the map's applied index");
        let (revision, chain) = lines.next().and_then(|line| line.split_once(' ')).expect("the map's chain");
        let bytes = (0..32).map(|at| u8::from_str_radix(&chain[2 * at..2 * at + 2], 16).expect("a chain"));
        let chain = bytes.collect::<Vec<u8>>().try_into().expect("a chain");
        self.chains = BTreeMap::from([(revision.parse().expect("a revision"), chain)]);
        self.values =
            lines.filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    }

    fn write(&self) -> String {
        let values: String = self.values.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        let (revision, chain) = self.chain();
        let chain: String = chain.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}\n{revision} {chain}\n{values}", self.applied)
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        write!(f, "@{} {{{}}}", self.applied, values.join(" "))
    }
}

impl StateMachine for Map {
    fn check(command: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(command).map_err(|error| error.to_string())?;
        text.split_once('=').map(|_| ()).ok_or_else(|| format!("{text:?} is not key=value"))
    }

    fn applied_index(&self) -> u64 {
        self.applied
    }

    fn apply(&mut self, batch: &[(u64, &[u8])]) -> Vec<Vec<u8>> {
        batch
            .iter()
            .map(|(index, command)| {
                assert!(self.fail_at != Some(*index), "injected: the state's disk failed at entry {index}");
                assert!(
                    self.applied == 0 || *index == self.applied + 1,
                    "entry {index} after {}",
                    self.applied
                );
                self.applied = *index;
                let text = std::str::from_utf8(command).expect("a checked command");
                let Some((key, value)) = text.split_once('=') else { return Vec::new() };
                self.extend_chain(*index, command);
                self.values.insert(key.to_owned(), value.to_owned()).unwrap_or_default().into_bytes()
            })
            .collect()
    }

    fn checkpoint(&mut self) {
        fs::write(&self.file, self.write()).expect("write the map");
        self.exported = self.applied;
    }

    fn export(&self) -> Export {
        let size = self.write().len() as u64;
        Box::new(move || Ok(size))
    }

    fn log_may_be_cut_to(&self) -> u64 {
        self.exported
    }

    fn housekeep(&mut self) -> bool {
        false
    }

    fn snapshot(&self) -> SnapshotBody {
        let text = self.write();
        Arc::new(move |out| out.write_all(text.as_bytes()).map_err(|error| error.to_string()))
    }

    fn restore(&mut self, file: &Path) {
        self.read(&fs::read_to_string(file).expect("a snapshot is text"));
        self.checkpoint();
    }

    fn check_snapshot(file: &Path) -> Result<u64, String> {
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        text.lines().next().and_then(|line| line.parse().ok()).ok_or_else(|| "no applied index".to_owned())
    }

    fn chain(&self) -> (u64, [u8; 32]) {
        self.chains.last_key_value().map_or_else(Default::default, |(revision, chain)| (*revision, *chain))
    }

    fn chain_at(&self, revision: u64) -> Option<[u8; 32]> {
        self.chains.get(&revision).copied()
    }
}
