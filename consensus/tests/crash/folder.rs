//! Folder: where a test's member lives. It stays when the test fails, and its path is printed: such a failure may need
//! a hundred runs to come again.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use tempfile::TempDir;

/// A temporary directory, removed unless the thread that drops it panics.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(TempDir::new().expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.disable_cleanup(true);
            eprintln!("kept for whoever looks into it: {}", self.0.path().display());
        }
    }
}

/// How many damaged databases the store moved away and still has.
pub(crate) fn quarantined(store: &Path) -> usize {
    names(store).iter().filter(|path| name(path).starts_with("quarantine-")).count()
}

/// Reads every exported snapshot to its last byte: the log may have been cut in trust of it.
pub(crate) fn check_exports(store: &Path) -> Result<(), String> {
    for file in names(&store.join("snapshots")) {
        match file.extension().unwrap_or_default().to_str() {
            // What was being written when the process was killed.
            Some("tmp") => {}
            Some("snapshot") => {
                let checked = appliance_storage::inspect(&file);
                checked.map_err(|error| format!("{}: {error}", file.display()))?;
            }
            _ => return Err(format!("{} was refused", file.display())),
        }
    }
    Ok(())
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
