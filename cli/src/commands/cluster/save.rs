//! Draft: a file that stands beside its place until it is whole, then moves there. Readable by its owner alone.
//!
//! Whoever looks at the place finds the old file or the new one, never half of one; a draft that is dropped unpublished
//! leaves nothing behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file being written.
pub(super) struct Draft {
    file: File,
    part: PathBuf,
    place: PathBuf,
    published: bool,
    replace: bool,
}

impl Draft {
    /// Begins beside `place`. A file that is there already is refused now, before anything is fetched, unless it is to
    /// be replaced.
    pub(super) fn create(place: &Path, replace: bool) -> Result<Draft, String> {
        let name = place.file_name().ok_or_else(|| format!("{}: not the name of a file", place.display()))?;
        if !replace && place.symlink_metadata().is_ok() {
            return Err(there_already(place));
        }
        let part = place.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = opened.map_err(|error| format!("{}: {error}", part.display()))?;
        Ok(Draft { file, part, place: place.to_path_buf(), published: false, replace })
    }

    /// Moves the file to its place, durably.
    pub(super) fn publish(mut self) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.place.display());
        self.file.sync_all().map_err(failed)?;
        if self.replace {
            std::fs::rename(&self.part, &self.place).map_err(failed)?;
            self.published = true;
        } else {
            // A link never replaces, so whoever was faster keeps their file; the part goes when this is dropped.
            std::fs::hard_link(&self.part, &self.place).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => there_already(&self.place),
                _ => failed(error),
            })?;
        }
        let folder = self.place.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

fn there_already(place: &Path) -> String {
    format!("{}: there is a file already; it was left as it is, --force replaces it", place.display())
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: a part that stays is overwritten by the next process of this number, and never mistaken.
            std::fs::remove_file(&self.part).ok();
        }
    }
}
