//! Power cuts: the writer is frozen, the device it writes to is copied as it is, and the copy is mounted and opened.
//! Whatever only the page cache knew is not on the copy.

use std::{fs, path::Path, thread, time::Duration};

use crate::{
    acks,
    dice::Dice,
    folder::Folder,
    loop_device::{Mounted, available, make_image, run, text},
    verify::verify,
    writer::{self, Writer},
};
use rustix::process::{Signal, kill_process};

/// Cuts of one running writer.
const CUTS: usize = 36;

/// Every so many cuts the copy is cut again while it recovers, before it is looked at.
const AGAIN_EVERY: usize = 4;

/// The longest time between two cuts.
const PAUSE_MS: u64 = 400;

const IMAGE_BYTES: u64 = 384 * 1_024 * 1_024;

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if !available("power cut") {
        return;
    }
    let mut dice = Dice::new("power cut");
    let folder = Folder::new();
    let [image, copy, again] = ["image", "copy", "again"].map(|name| folder.path().join(name));
    let (mount, looked) = (folder.path().join("mount"), folder.path().join("looked"));
    let acks = folder.path().join("acks");
    make_image(&image, IMAGE_BYTES);
    let disk = Mounted::new(&image, &mount);
    let mut writer = writer::spawn(&disk.path().join("data"), &acks);
    let seen = folder.path().join("seen");
    for cut in 1..=CUTS {
        thread::sleep(Duration::from_millis(20 + dice.below(PAUSE_MS)));
        writer.must_run(&acks);
        freeze(&writer);
        // Noted while the writer is frozen: whatever it was told before is here, and it is told nothing meanwhile.
        let told = folder.path().join("told");
        fs::copy(&acks, &told).map_or_else(|_| fs::write(&told, ""), |_| Ok(())).expect("copy the acks");
        clone(&image, &copy);
        if cut % AGAIN_EVERY == 0 {
            cut_while_recovering(&copy, &again, &looked, &mut dice);
        }
        let opened = Mounted::new(&copy, &looked);
        verify(&opened.path().join("data"), &told, &seen)
            .unwrap_or_else(|error| panic!("after cut {cut}: {error}"));
        // Not before: how much it writes would follow from how long looking takes here, and the disk has an end.
        kill_process(writer.pid(), Signal::CONT).expect("wake the writer");
    }
    writer.kill();
    let written = acks::count(&acks);
    eprintln!("power cut: {CUTS} cuts, {written} acknowledged transactions, all there");
    assert!(written > 500, "only {written} transactions were acknowledged: the writer hardly ran");
}

/// Opens a copy of the copy with a writer of its own, cuts the power a moment later, and leaves the result as the copy.
fn cut_while_recovering(copy: &Path, again: &Path, mount: &Path, dice: &mut Dice) {
    let nobody = mount.with_extension("nobody");
    clone(copy, again);
    {
        let opened = Mounted::new(again, mount);
        let writer = writer::spawn(&opened.path().join("data"), &nobody);
        thread::sleep(Duration::from_millis(dice.below(80)));
        freeze(&writer);
        // One that has recovered already goes on to turns of its own, which nobody checks: then the first cut must do.
        if acks::count(&nobody) == 0 {
            clone(again, copy);
        }
    }
    let _ = fs::remove_file(nobody);
}

fn clone(from: &Path, to: &Path) {
    let copied = run("cp", &["--sparse=always", &text(from), &text(to)]);
    copied.unwrap_or_else(|error| panic!("{error}"));
}

/// SIGSTOP, and until it took effect in every thread: one may be in the middle of a system call that must end first.
fn freeze(writer: &Writer) {
    let pid = writer.pid();
    kill_process(pid, Signal::STOP).expect("freeze the writer");
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    for _ in 0..10_000 {
        let threads = fs::read_dir(&tasks).expect("the writer's threads");
        if threads.map(|thread| thread.expect("a thread").path()).all(|thread| is_stopped(&thread)) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("the writer does not stop");
}

/// Whether a thread is stopped, or has ended.
fn is_stopped(thread: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(thread.join("stat")) else { return true };
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()) == Some('T')
}
