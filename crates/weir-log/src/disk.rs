//! [`Disk`]: the one seam between the log and storage.
//!
//! It speaks bytes, paths and syncs, and knows nothing of batches. [`FileDisk`] is the real one,
//! [`MemDisk`] its twin for tests: it can lose power, tear writes, and fail on request.
//!
//! # What an implementation must hold
//! - Nothing written is durable before [`DiskFile::sync_data`] or [`Disk::sync_many`] returned, but
//!   for what goes through [`Disk::open_direct`].
//! - No name created, renamed or removed is durable before [`Disk::sync_dir`] of its directory.
//! - A file stays readable through its open handle after it was removed or renamed.
//! - After a failed sync the handle may report success without the data; callers never retry.

mod file;
mod mem;
mod read_only;

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use file::FileDisk;
pub use mem::{Fault, FaultKind, MemDisk};
pub use read_only::{lock_holder, ReadOnlyDisk};

/// What direct I/O is done in: a page, which is also the largest sector disks have today.
pub const BLOCK_BYTES: usize = 4096;

/// A place that holds directories and files.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` unless `mode` creates; what the system says else.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file whose writes are durable when they return, as [`DiskFile::write_at`] of
    /// what is given back alone: for the commit journal.
    ///
    /// It is written in whole blocks of [`BLOCK_BYTES`], at multiples of them, from memory that begins
    /// at such a multiple, and is not read. A power cut in the middle of a write leaves each sector old
    /// or new. Where the system has no direct I/O, each write is synced instead.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a directory and its parents. Existing ones are fine.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Removes a file, or a directory with all that is in it.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Renames a file or directory. An existing file at `to` is replaced in one step.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// What is in a directory, in no order.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Makes creations, renames and removals in `dir` durable.
    ///
    /// # Errors
    /// After one, the state of the directory on disk is not known.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the data of `files` and the entries of `dirs` durable, the cheapest way there is.
    /// A directory that is gone meanwhile (its log was deleted) is passed over.
    ///
    /// # Errors
    /// After one, nothing is known of any of them.
    fn sync_many(&self, files: &[Arc<dyn DiskFile>], dirs: &[PathBuf]) -> io::Result<()>;

    /// How large the volume is that has `path`, and how much of it is free. May wait for the volume.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn volume_bytes(&self, path: &Path) -> io::Result<VolumeBytes>;

    /// Takes the lock file at `path` for this process, until the guard is dropped.
    ///
    /// # Errors
    /// [`LockFailure::Held`] with the process id that the file names.
    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockFailure>;
}

/// An open file. All positions are absolute, so that readers and the writer share one handle.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes from `position`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `position`.
    ///
    /// # Errors
    /// Some of it may have been written.
    fn write_at(&self, buf: &[u8], position: u64) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// What the system says.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Makes data and length durable, but not the file's name ([`Disk::sync_dir`]).
    ///
    /// # Errors
    /// After one, nothing is known of what was written since the last good sync.
    fn sync_data(&self) -> io::Result<()>;

    /// The system's file, if there is one: for sendfile and syncfs.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// It is created if it does not exist.
    Create,
    /// It is created, and emptied if it exists.
    Truncate,
    /// As [`OpenMode::Truncate`], and only its owner may read or write it.
    TruncatePrivate,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes in the file; 0 for a directory.
    pub len_bytes: u64,
}

/// The room of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeBytes {
    /// All of it, used or not.
    pub total: u64,
    /// What a process without privileges may still write.
    pub usable: u64,
}

/// A lock that is held as long as this lives.
pub trait DiskLock: Send + Sync + Debug {}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockFailure {
    /// Another process has it.
    Held {
        /// Its process id as the lock file says; empty if it says nothing.
        pid: String,
    },
    /// The lock file cannot be opened or locked at all.
    Io(io::Error),
}

/// Reads a whole small file.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Existing)?;
    let len = usize::try_from(file.len_bytes()?).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills `buf` from `position`, or fails with `UnexpectedEof`.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buf: &mut [u8], position: u64) -> io::Result<()> {
    if file.read_at(buf, position)? == buf.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Replaces files so that a crash leaves of each the old or the new contents, never a mix:
/// temporary file, sync, rename, directory sync (ALICE, OSDI 2014; Kafka's `CheckpointFile`).
pub(crate) fn replace_files(disk: &dyn Disk, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
    let written = write_replacements(disk, files)?;
    place_replacements(disk, files, &written)
}

/// The first half of replacing files: the new contents lie beside the old ones, under `<path>.tmp`,
/// synced. Gives their handles for the second half.
///
/// # Errors
/// The files are what they were. [`is_passing`](crate::is_passing) says whether it may go well later.
pub fn write_replacements(
    disk: &dyn Disk,
    files: &[(PathBuf, Vec<u8>)],
) -> io::Result<Vec<Arc<dyn DiskFile>>> {
    write_beside(disk, files, OpenMode::Truncate)
}

/// As [`write_replacements`], for files that only their owner may read.
///
/// # Errors
/// As there.
pub fn write_private_replacements(
    disk: &dyn Disk,
    files: &[(PathBuf, Vec<u8>)],
) -> io::Result<Vec<Arc<dyn DiskFile>>> {
    write_beside(disk, files, OpenMode::TruncatePrivate)
}

fn write_beside(
    disk: &dyn Disk,
    files: &[(PathBuf, Vec<u8>)],
    mode: OpenMode,
) -> io::Result<Vec<Arc<dyn DiskFile>>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let mut written = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        let file = disk.open(&temporary(path), mode)?;
        file.write_at(bytes, 0)?;
        written.push(file);
    }
    disk.sync_many(&written, &[])?;
    Ok(written)
}

/// The second half: the new contents take the place of the old ones, for good. With `written` it needs
/// no further handle: for want of one the names could not be synced, and nobody would know which of the
/// contents survive.
///
/// # Errors
/// Of each file it is not known whether the old or the new contents survive a power cut.
pub fn place_replacements(
    disk: &dyn Disk,
    files: &[(PathBuf, Vec<u8>)],
    written: &[Arc<dyn DiskFile>],
) -> io::Result<()> {
    let mut dirs = Vec::new();
    for (path, _) in files {
        disk.rename(&temporary(path), path)?;
        dirs.extend(path.parent().map(Path::to_owned));
    }
    dirs.sort_unstable();
    dirs.dedup();
    disk.sync_many(written, &dirs)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
