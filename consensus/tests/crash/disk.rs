//! The disk fills up, or fails: the member stops, nothing acknowledged is lost, and it opens again when the disk is well.

use std::{fs, path::Path};

use crate::{
    acks,
    folder::Folder,
    loop_device::{Mounted, available, make_image, run, text},
    verify::verify,
    writer::{self, MEMBER_STOPPED},
};

const MIB: u64 = 1_024 * 1_024;

#[test]
fn a_full_disk_stops_the_member_and_loses_nothing() {
    if !available("full disk") {
        return;
    }
    let folder = Folder::new();
    let (image, acks) = (folder.path().join("image"), folder.path().join("acks"));
    make_image(&image, 160 * MIB);
    let disk = Mounted::new(&image, &folder.path().join("mount"));
    let (data, filler) = (disk.path().join("data"), disk.path().join("filler"));
    let mut writer = writer::spawn(&data, &acks);
    writer.wait_for_acks(&acks, 200);
    // Somebody else's file takes all but nothing of what is left.
    let _ = run("dd", &["if=/dev/zero", &format!("of={}", text(&filler)), "bs=64k"]);

    let status = writer.wait();

    assert_eq!(status.code(), Some(MEMBER_STOPPED), "the member noticed and the process ended");
    fs::remove_file(&filler).expect("free the disk");
    verify(&data, &acks, &folder.path().join("seen"))
        .unwrap_or_else(|error| panic!("after the disk was freed: {error}"));
}

/// The device's backing store runs out of room: the file system accepts writes, and `fdatasync` answers EIO.
#[test]
fn a_failed_fsync_stops_the_member_and_loses_nothing() {
    if !available("failed fsync") {
        return;
    }
    let folder = Folder::new();
    let backing = folder.path().join("backing");
    fs::create_dir(&backing).expect("make the mount point");
    let small = Tmpfs::new(&backing, 24 * MIB);
    let (image, acks) = (backing.join("image"), folder.path().join("acks"));
    make_image(&image, 160 * MIB);
    {
        let disk = Mounted::new(&image, &folder.path().join("mount"));
        let mut writer = writer::spawn(&disk.path().join("data"), &acks);
        let status = writer.wait();
        assert_eq!(status.code(), Some(MEMBER_STOPPED), "the member noticed and the process ended");
    }
    small.grow(400 * MIB);
    // What the file system lost in its own structures is its own business to mend, as after any failed disk.
    let _ = run("e2fsck", &["-f", "-y", &text(&image)]);
    let disk = Mounted::new(&image, &folder.path().join("mount"));
    assert!(acks::count(&acks) > 0, "nothing was acknowledged");
    let data = disk.path().join("data");
    verify(&data, &acks, &folder.path().join("seen"))
        .unwrap_or_else(|error| panic!("after the disk was mended: {error}"));
}

/// A file system in memory of a given size.
struct Tmpfs<'a>(&'a Path);

impl Tmpfs<'_> {
    fn new(path: &Path, bytes: u64) -> Tmpfs<'_> {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", &text(path)])
            .unwrap_or_else(|error| panic!("{error}"));
        Tmpfs(path)
    }

    fn grow(&self, bytes: u64) {
        run("mount", &["-o", &format!("remount,size={bytes}"), &text(self.0)])
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["--", &text(self.0)]) {
            eprintln!("clean up: {error}");
        }
    }
}
