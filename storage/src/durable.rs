//! Durable: the few ways a file is made to survive a power cut.
//!
//! A name is durable only when the directory that holds it is synced, so every new file syncs both.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Writes a file under a temporary name, makes it durable and gives it its name: whoever looks sees the whole file or
/// the one before.
pub(crate) fn write_atomically<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    write_checked(path, write, |_| Ok(()))
}

/// The same for a file that gets its name only once `check` has found it whole under its temporary one.
pub(crate) fn write_checked<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    check: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = path.with_extension("tmp");
    let file = File::create(&temporary)?;
    let mut out = io::BufWriter::with_capacity(64 * 1024, file);
    let written =
        write(&mut out).and_then(|()| Ok(out.flush()?)).and_then(|()| Ok(out.get_ref().sync_all()?));
    drop(out);
    if let Err(error) = written.and_then(|()| check(&temporary)) {
        // Whatever is left of it would only take space; a next attempt overwrites it in any case.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fs::rename(&temporary, path)?;
    Ok(sync_directory_of(path)?)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes every file of a directory and their names durable: what sled makes at its start and never syncs.
pub(crate) fn sync_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        File::open(entry.path())?.sync_all()?;
    }
    sync_directory(path)
}

/// Makes the name of a file or directory durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}
