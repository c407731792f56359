//! What a hundred thousand records of a kilobyte cost: memory while they are written, disk, and the next start.
//!
//! `cargo run --release -p appliance-storage --example footprint`

use std::{fs, path::Path, time::Instant};

use appliance_storage::{Author, Command, Key, Op, Store, StoreOptions};

const RECORDS: u64 = 100_000;
const BATCH: u64 = 64;
const VALUE_BYTES: usize = 1_024;

#[expect(clippy::disallowed_methods, reason = "a benchmark is about time")]
fn main() {
    let folder = tempfile::tempdir().expect("a directory");
    if let Some(child) = std::env::args().nth(1) {
        return open(Path::new(&child));
    }
    let mut store = Store::open(folder.path(), StoreOptions::default()).expect("open");
    let mut value = vec![b'x'; VALUE_BYTES];
    for first in (1..=RECORDS).step_by(BATCH as usize) {
        let batch: Vec<(u64, Option<Command>)> = (first..(first + BATCH).min(RECORDS + 1))
            .map(|index| {
                value[..8].copy_from_slice(&index.to_be_bytes());
                let key = Key::from(format!(
                    "/calico/resources/v3/projectcalico.org/globalnetworksets/set-{index:09}"
                ));
                let author =
                    Author { name: "admin".into(), source: "10.0.0.1:40000".into(), ..Author::default() };
                let then = vec![Op::Put { key, value: value.clone() }];
                (index, Some(Command::Txn { author, compare: vec![], then, otherwise: vec![] }))
            })
            .collect();
        store.apply(&batch).expect("apply");
    }
    store.checkpoint().expect("checkpoint");
    println!("written: RSS {} MB", rss() / 1_000);
    let begun = Instant::now();
    let file = store.export().expect("export");
    println!(
        "exported in {:?}: {} MB, RSS {} MB",
        begun.elapsed(),
        fs::metadata(&file).map_or(0, |f| f.len()) / 1_000_000,
        rss() / 1_000
    );
    drop(store);
    reopen_in_another_process(folder.path());
}

/// What this one has in memory would count.
#[expect(clippy::disallowed_methods, reason = "a process of its own tells what a start costs")]
fn reopen_in_another_process(path: &Path) {
    let program = std::env::current_exe().expect("this program");
    let child = std::process::Command::new(program).arg(path).status();
    assert!(child.is_ok_and(|status| status.success()), "the other process failed");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about time")]
fn open(path: &Path) {
    let begun = Instant::now();
    let store = Store::open(path, StoreOptions::default()).expect("open");
    println!(
        "opened in {:?}: {} records, RSS {} MB",
        begun.elapsed(),
        store.reader().records(),
        rss() / 1_000
    );
    let begun = Instant::now();
    let (_, records) = store.reader().list(&Key::all()).expect("list");
    println!("listed {} in {:?}: RSS {} MB", records.len(), begun.elapsed(), rss() / 1_000);
    drop(records);
    println!("forgotten: RSS {} MB", rss() / 1_000);
}

/// In kilobytes.
fn rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
