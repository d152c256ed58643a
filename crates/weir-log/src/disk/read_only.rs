//! [`ReadOnlyDisk`]: files of the operating system that nothing can be done to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DirEntry, Disk, DiskFile, DiskLock, FileDisk, LockFailure, OpenMode, VolumeBytes};

/// The operating system's files, opened for reading: what looks at a directory that somebody else may
/// be using, or may not write to, is given this. Whatever would change something is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOnlyDisk;

#[derive(Debug)]
struct ReadOnlyFile {
    file: File,
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is opened for reading only"))
}

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        match mode {
            OpenMode::Existing => Ok(Arc::new(ReadOnlyFile { file: File::open(path)? })),
            OpenMode::Create | OpenMode::Truncate | OpenMode::TruncatePrivate => refused(),
        }
    }

    fn open_direct(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        refused()
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        FileDisk.list(dir)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_many(&self, _: &[Arc<dyn DiskFile>], _: &[PathBuf]) -> io::Result<()> {
        refused()
    }

    fn volume_bytes(&self, path: &Path) -> io::Result<VolumeBytes> {
        FileDisk.volume_bytes(path)
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn DiskLock>, LockFailure> {
        refused().map_err(LockFailure::Io)
    }
}

impl DiskFile for ReadOnlyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buf.len() {
            let Some(rest) = buf.get_mut(read..) else { break };
            match self.file.read_at(rest, position + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        refused()
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

/// The process that holds the lock file of a log directory, without taking it: weir's or Kafka's, as
/// both take a POSIX lock. `None` if nobody does, or there is no such file.
///
/// Not for a process that has the directory open itself: closing any handle of a file gives up the
/// POSIX locks that its process has on it.
///
/// # Errors
/// What the system says.
pub fn lock_holder(lock_file: &Path) -> io::Result<Option<u32>> {
    use rustix::process::{fcntl_getlk, Flock, FlockType};
    let file = match File::open(lock_file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))?;
    // A holder in another process namespace has no id here.
    Ok(found.map(|lock| {
        lock.pid.map_or(0, |pid| u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_lock_has_no_holder_and_nothing_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        assert_eq!(lock_holder(&path).unwrap(), None);
        std::fs::write(&path, "4711\n").unwrap();
        assert_eq!(lock_holder(&path).unwrap(), None, "a number in the file is no lock");
        let file = ReadOnlyDisk.open(&path, OpenMode::Existing).unwrap();
        assert!(file.write_at(b"x", 0).is_err() && file.set_len(0).is_err());
        assert!(ReadOnlyDisk.remove(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"4711\n");
    }
}
