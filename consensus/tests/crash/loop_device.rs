//! A file system on a loop device, mounted while this value lives. Needs root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Whether loop devices can be had. Without them a test is skipped, except where `CI=true` says that it must run.
pub(crate) fn available(test: &str) -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if run("losetup", &["-f"]).is_err() {
        "needs a free loop device (losetup -f)"
    } else {
        return true;
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: {reason}, and CI=true says it must run");
    eprintln!("{test}: SKIPPED, {reason}");
    false
}

/// A mounted image.
pub(crate) struct Mounted {
    device: String,
    mount: PathBuf,
}

/// Makes an image with an empty ext4 on it.
pub(crate) fn make_image(image: &Path, bytes: u64) {
    fs::File::create(image).and_then(|file| file.set_len(bytes)).expect("make the image");
    run("mkfs.ext4", &["-q", "-F", &text(image)]).unwrap_or_else(|error| panic!("{error}"));
}

impl Mounted {
    /// Mounts an image under `mount`; the kernel replays its journal, as after a power cut.
    pub(crate) fn new(image: &Path, mount: &Path) -> Mounted {
        let device =
            run("losetup", &["-f", "--show", &text(image)]).unwrap_or_else(|error| panic!("{error}"));
        let device = device.trim().to_owned();
        fs::create_dir_all(mount).expect("make the mount point");
        if let Err(error) = run("mount", &[&device, &text(mount)]) {
            let _ = run("losetup", &["-d", &device]);
            panic!("{error}");
        }
        Mounted { device, mount: mount.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for (program, arguments) in [("umount", text(&self.mount)), ("losetup -d", self.device.clone())] {
            let (program, flag) = program.split_once(' ').unwrap_or((program, "--"));
            if let Err(error) = run(program, &[flag, &arguments]) {
                eprintln!("clean up: {error}");
            }
        }
    }
}

/// Runs a program to its end; what it printed, or what went wrong.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
