//! The file system under the log in this crate's tests: the machine's own, unless a simulated [`Disk`] was mounted on
//! the directory. So the simulation runs the log's real code, raft-engine included, and still decides what a power cut
//! leaves of each write.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission, WriteExt};

use super::disk::Disk;

type RealHandle = <DefaultFileSystem as FileSystem>::Handle;
type RealFile = <DefaultFileSystem as FileSystem>::Reader;

/// Chooses between the two by the directory a path lies in.
pub(crate) struct TestFiles;

/// One file of either sort.
pub(crate) enum TestHandle {
    Real(Arc<RealHandle>),
    Simulated(SimulatedFile),
}

/// One place in one file of either sort.
pub(crate) enum TestFile {
    Real(RealFile),
    Simulated(SimulatedFile),
}

/// A file on a simulated disk, and a place in it.
#[derive(Clone)]
pub(crate) struct SimulatedFile {
    disk: Disk,
    name: String,
    at: usize,
}

/// The disk a path lies on, if that is a simulated one, and the file's name there.
fn simulated(path: &Path) -> Option<SimulatedFile> {
    let disk = Disk::mounted(path.parent()?)?;
    let name = path.file_name()?.to_str()?.to_owned();
    Some(SimulatedFile { disk, name, at: 0 })
}

impl FileSystem for TestFiles {
    type Handle = TestHandle;
    type Reader = TestFile;
    type Writer = TestFile;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<TestHandle> {
        match simulated(path.as_ref()) {
            Some(file) => {
                // raft-engine lists the directory itself, so the name must be there; the bytes are not.
                std::fs::write(path, b"")?;
                file.disk.create(&file.name);
                Ok(TestHandle::Simulated(file))
            }
            None => Ok(TestHandle::Real(DefaultFileSystem.create(path)?.into())),
        }
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<TestHandle> {
        match simulated(path.as_ref()) {
            Some(file) => Ok(TestHandle::Simulated(file)),
            None => Ok(TestHandle::Real(DefaultFileSystem.open(path, permission)?.into())),
        }
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        if let Some(file) = simulated(path.as_ref()) {
            file.disk.delete(&file.name);
        }
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        assert!(simulated(from.as_ref()).is_none(), "the log renames no file");
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<TestHandle>) -> io::Result<TestFile> {
        match &*handle {
            TestHandle::Real(handle) => Ok(TestFile::Real(DefaultFileSystem.new_reader(handle.clone())?)),
            TestHandle::Simulated(file) => Ok(TestFile::Simulated(file.clone())),
        }
    }

    fn new_writer(&self, handle: Arc<TestHandle>) -> io::Result<TestFile> {
        self.new_reader(handle)
    }
}

impl Handle for TestHandle {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        match self {
            TestHandle::Real(handle) => Handle::truncate(&**handle, offset),
            TestHandle::Simulated(file) => {
                file.disk.resize(&file.name, offset, true);
                Ok(())
            }
        }
    }

    fn file_size(&self) -> io::Result<usize> {
        match self {
            TestHandle::Real(handle) => handle.file_size(),
            TestHandle::Simulated(file) => Ok(file.disk.size(&file.name)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            TestHandle::Real(handle) => handle.sync(),
            TestHandle::Simulated(file) => {
                file.disk.sync(&file.name);
                Ok(())
            }
        }
    }
}

impl Read for TestFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            TestFile::Real(file) => file.read(buffer),
            TestFile::Simulated(file) => {
                let read = file.disk.read(&file.name, file.at, buffer);
                file.at += read;
                Ok(read)
            }
        }
    }
}

impl Write for TestFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            TestFile::Real(file) => file.write(bytes),
            TestFile::Simulated(file) => {
                file.disk.write(&file.name, file.at, bytes);
                file.at += bytes.len();
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for TestFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            TestFile::Real(file) => file.seek(to),
            TestFile::Simulated(file) => {
                let size = file.disk.size(&file.name) as i64;
                let at = match to {
                    SeekFrom::Start(at) => at as i64,
                    SeekFrom::Current(by) => file.at as i64 + by,
                    SeekFrom::End(by) => size + by,
                };
                file.at = usize::try_from(at).map_err(io::Error::other)?;
                Ok(file.at as u64)
            }
        }
    }
}

impl WriteExt for TestFile {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        match self {
            TestFile::Real(file) => WriteExt::truncate(file, offset),
            TestFile::Simulated(file) => {
                file.disk.resize(&file.name, offset, true);
                file.at = offset;
                Ok(())
            }
        }
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        match self {
            TestFile::Real(file) => file.allocate(offset, size),
            TestFile::Simulated(file) => {
                file.disk.resize(&file.name, offset + size, false);
                Ok(())
            }
        }
    }
}
