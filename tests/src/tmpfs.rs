//! Small file systems of their own, to be filled: a full disk that is nobody else's.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::ctl::run;

/// A mounted tmpfs, taken down on drop.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of this size, on a directory that is made for it.
    ///
    /// # Panics
    /// When it cannot be mounted: the tests need root.
    #[must_use]
    pub fn mount(at: PathBuf, megabytes: u32) -> Tmpfs {
        fs::create_dir_all(&at).expect("a directory to mount on");
        let options = format!("size={megabytes}m");
        let printed = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at), "");
        let _ = printed.success();
        Tmpfs(at)
    }

    /// Mounts it anew, `ro` or `rw`.
    ///
    /// # Panics
    /// When it cannot be: somebody writes to it.
    pub fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let _ = run(Command::new("mount").args(["-o", &options]).arg(&self.0), "").success();
    }

    /// Fills it but for a few KiB, and returns the file to remove to free the space.
    ///
    /// # Panics
    /// When no file can be made.
    #[must_use]
    pub fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        for size in [1 << 20, 64 << 10] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        let length = file.metadata().expect("its length").len();
        file.set_len(length.saturating_sub(48 << 10)).expect("leave a little");
        filler
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
