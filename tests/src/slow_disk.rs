//! A disk that stands still: every sync of one process takes so much longer. The process and its disk are real, and only
//! its own syncs are held up, by `strace`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually::eventually;

/// Holds up a process's syncs until it is dropped.
pub struct SlowDisk(Child);

impl SlowDisk {
    /// Lets every sync of this process take so much longer, from the moment this returns.
    ///
    /// # Panics
    /// When `strace` cannot be run, or cannot get hold of the process.
    #[must_use]
    pub fn of(process: u32, longer: Duration) -> SlowDisk {
        let held_up = format!("inject=fsync,fdatasync:delay_enter={}", longer.as_micros());
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", &held_up]);
        strace.args(["-p", &process.to_string()]).stdin(Stdio::null());
        let disk = SlowDisk(strace.spawn().expect("strace"));
        let held = || is_held(process).expect("look at its threads");
        let _ = eventually("strace to hold every thread", held, |held| *held);
        disk
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // It lets go of the process first.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Whether every thread of a process has a tracer.
fn is_held(process: u32) -> io::Result<bool> {
    for thread in fs::read_dir(Path::new("/proc").join(process.to_string()).join("task"))? {
        // A thread may have ended since.
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line.split_whitespace().eq(["TracerPid:", "0"])) {
            return Ok(false);
        }
    }
    Ok(true)
}
