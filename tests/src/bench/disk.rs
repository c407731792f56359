//! The limit: how often this disk makes a small record durable.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// The size of a record, that of the values both stores are given.
pub const RECORD: usize = 256;

/// `fdatasync`s a second, each after appending [`RECORD`] bytes, in `directory`.
///
/// # Panics
/// When the disk refuses.
#[must_use]
pub fn syncs_per_second(directory: &Path, time: Duration) -> f64 {
    let path = directory.join("fdatasync-probe");
    let mut file = File::create(&path).expect("create a file");
    let started = Instant::now();
    let mut syncs = 0_u32;
    while started.elapsed() < time {
        file.write_all(&[7; RECORD]).expect("append");
        file.sync_data().expect("fdatasync");
        syncs += 1;
    }
    let rate = f64::from(syncs) / started.elapsed().as_secs_f64();
    std::fs::remove_file(path).expect("remove the file");
    rate
}
