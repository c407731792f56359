//! Processes as they are measured: their memory, their files, their end.

use std::fs;
use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal};

/// Resident memory of a process in bytes.
#[must_use]
pub fn rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes that the files under a directory occupy.
#[must_use]
pub fn disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Kills a process and what it runs, the innermost first: a program under a wrapper outlives it otherwise.
pub fn kill_tree(process: &mut Child) {
    kill_children(process.id());
    let _ = process.kill();
    let _ = process.wait();
}

fn kill_children(pid: u32) {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()) {
        kill_children(child);
        if let Some(child) = i32::try_from(child).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
    }
}
