//! [`IndexFile`]: sorted entries of a fixed size, the common part of offset and time index.
//!
//! Entries go to a tail in memory and from there to the end of the file, in blocks. The file never
//! holds more than valid entries: it grows by appending, and is not preallocated, as after a crash
//! the zeros would be read as entries. Looking up reads the file, as the page cache is cache enough:
//! an index costs no memory but its tail, and no open file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_protocol::Offset;

use crate::disk::{read_exact_at, Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::files;

/// Entries that wait in memory, and entries that are read at once when searching.
const BLOCK_ENTRIES: usize = 512;

/// Where the files of a log are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: Arc<Path>,
    /// What stands behind the names of files that are not the log's yet.
    stage: &'static str,
}

impl Place {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: Arc<Path>) -> Self {
        Self { disk, dir, stage: "" }
    }

    /// The same directory, with names that a start does not take for the log's own:
    /// [`files::CLEANED`] or [`files::SWAP`].
    pub(crate) fn staged(&self, stage: &'static str) -> Self {
        Self { stage, ..self.clone() }
    }

    pub(crate) fn path(&self, base: Offset, suffix: &str) -> PathBuf {
        let path = files::at_offset(&self.dir, base, suffix);
        if self.stage.is_empty() {
            return path;
        }
        let mut name = path.into_os_string();
        name.push(".");
        name.push(self.stage);
        PathBuf::from(name)
    }

    pub(crate) fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, LogError> {
        self.disk.open(path, mode).map_err(|error| LogError::io("open", path, error))
    }
}

/// Sorted entries of `N` bytes.
#[derive(Debug)]
pub(crate) struct IndexFile<const N: usize> {
    place: Place,
    base: Offset,
    suffix: &'static str,
    /// Entries in the file.
    written: usize,
    /// Entries after those.
    tail: Vec<[u8; N]>,
    /// The last entry, if it has been looked at: most questions are about it.
    last: Option<[u8; N]>,
}

/// Bytes to be written into an open file, outside any lock.
#[derive(Debug)]
pub(crate) struct PendingWrite {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) position: u64,
    pub(crate) bytes: Vec<u8>,
    /// What is still to be done to the bytes, by whoever writes them.
    pub(crate) finish: Option<fn(&mut [u8])>,
}

impl PendingWrite {
    /// Finishes the bytes and writes them.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        if let Some(finish) = self.finish.take() {
            finish(&mut self.bytes);
        }
        match self.bytes.is_empty() {
            true => Ok(()),
            false => self.file.write_at(&self.bytes, self.position),
        }
    }
}

impl<const N: usize> IndexFile<N> {
    /// An index over a file that holds `written` entries.
    pub(crate) fn new(place: Place, base: Offset, suffix: &'static str, written: usize) -> Self {
        Self { place, base, suffix, written, tail: Vec::new(), last: None }
    }

    /// Makes the file, empty.
    pub(crate) fn create(&mut self) -> Result<(), LogError> {
        self.place.open(&self.path(), OpenMode::Truncate)?;
        (self.written, self.last) = (0, None);
        self.tail.clear();
        Ok(())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.path(self.base, self.suffix)
    }

    /// The file has another name now.
    pub(crate) fn set_place(&mut self, place: Place) {
        self.place = place;
    }

    pub(crate) fn len(&self) -> usize {
        self.written + self.tail.len()
    }

    /// Appends an entry, which the caller knows to be greater than all others.
    pub(crate) fn push(&mut self, entry: [u8; N]) {
        self.tail.push(entry);
        self.last = Some(entry);
        if self.tail.len().is_multiple_of(BLOCK_ENTRIES) {
            // A full disk must not stop an append that has found room: the tail just stays in
            // memory. The next flush that matters reports it.
            let _ = self.flush();
        }
    }

    /// Writes the tail to the file.
    pub(crate) fn flush(&mut self) -> Result<(), LogError> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let path = self.path();
        let file = self.place.open(&path, OpenMode::Create)?;
        file.write_at(self.tail.as_flattened(), (self.written * N) as u64)
            .map_err(|error| LogError::io("write", path, error))?;
        self.written += self.tail.len();
        self.tail.clear();
        Ok(())
    }

    /// The tail, to be written by somebody else; [`IndexFile::set_written`] tells when it is.
    pub(crate) fn pending(&self) -> Result<PendingWrite, LogError> {
        Ok(PendingWrite {
            file: self.place.open(&self.path(), OpenMode::Create)?,
            position: (self.written * N) as u64,
            bytes: self.tail.as_flattened().to_vec(),
            finish: None,
        })
    }

    /// Notes that the first `written` entries are in the file.
    pub(crate) fn set_written(&mut self, written: usize) {
        if let Some(more) = written.checked_sub(self.written) {
            self.tail.drain(..more.min(self.tail.len()));
            self.written = written;
        }
    }

    /// Cuts off what the file holds beyond its entries, which a foreign preallocation may be.
    pub(crate) fn trim(&mut self) -> Result<(), LogError> {
        let path = self.path();
        let file = self.place.open(&path, OpenMode::Create)?;
        let wanted = (self.written * N) as u64;
        let trim = || match file.len_bytes()? {
            len_bytes if len_bytes > wanted => file.set_len(wanted),
            _ => Ok(()),
        };
        trim().map_err(|error| LogError::io("truncate", path, error))
    }

    /// Keeps the first `count` entries.
    pub(crate) fn truncate(&mut self, count: usize) -> Result<(), LogError> {
        self.last = None;
        if count < self.written {
            self.tail.clear();
            self.written = count;
            self.trim()
        } else {
            self.tail.truncate(count - self.written);
            Ok(())
        }
    }

    /// Reads all entries into memory: for recovery, which wants to see each.
    pub(crate) fn read_all(&self) -> Result<Vec<[u8; N]>, LogError> {
        let mut entries = vec![[0; N]; self.written];
        if self.written > 0 {
            let path = self.path();
            let file = self.place.open(&path, OpenMode::Existing)?;
            read_exact_at(&*file, entries.as_flattened_mut(), 0)
                .map_err(|error| LogError::io("read", path, error))?;
        }
        entries.extend_from_slice(&self.tail);
        Ok(entries)
    }

    /// The entry at `at`. `None` beyond the end.
    pub(crate) fn get(&self, at: usize) -> Result<Option<[u8; N]>, LogError> {
        if at + 1 == self.len() && self.last.is_some() {
            return Ok(self.last);
        }
        if at >= self.written {
            return Ok(self.tail.get(at - self.written).copied());
        }
        let read = || {
            let file = self.place.disk.open(&self.path(), OpenMode::Existing)?;
            read_entry(&*file, at)
        };
        read().map(Some).map_err(|error| LogError::io("read", self.path(), error))
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Result<Option<[u8; N]>, LogError> {
        match self.len().checked_sub(1) {
            Some(at) => self.get(at),
            None => Ok(None),
        }
    }

    /// As [`IndexFile::last`], and keeps it in memory.
    pub(crate) fn load_last(&mut self) -> Result<Option<[u8; N]>, LogError> {
        self.last = self.last()?;
        Ok(self.last)
    }

    /// The last of the leading entries for which `holds` is true; it must be true for a prefix.
    pub(crate) fn last_where(
        &self,
        holds: impl Fn(&[u8; N]) -> bool,
    ) -> Result<Option<[u8; N]>, LogError> {
        if self.last.as_ref().is_some_and(&holds) {
            return Ok(self.last);
        }
        if self.tail.first().is_some_and(&holds) {
            let count = self.tail.partition_point(&holds);
            return Ok(self.tail.get(count - 1).copied());
        }
        if self.written == 0 {
            return Ok(None);
        }
        let path = self.path();
        let search = || {
            let file = self.place.disk.open(&path, OpenMode::Existing)?;
            search_file(&*file, self.written, &holds)
        };
        search().map_err(|error| LogError::io("read", &path, error))
    }
}

fn read_entry<const N: usize>(file: &dyn DiskFile, at: usize) -> io::Result<[u8; N]> {
    let mut entry = [0; N];
    read_exact_at(file, &mut entry, (at * N) as u64)?;
    Ok(entry)
}

/// Halves the range by single reads until it is a block, then reads that.
fn search_file<const N: usize>(
    file: &dyn DiskFile,
    count: usize,
    holds: &impl Fn(&[u8; N]) -> bool,
) -> io::Result<Option<[u8; N]>> {
    let (mut low, mut high) = (0, count);
    while high - low > BLOCK_ENTRIES {
        let middle = low + (high - low) / 2;
        if holds(&read_entry(file, middle)?) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut block = vec![[0; N]; high - low];
    read_exact_at(file, block.as_flattened_mut(), (low * N) as u64)?;
    let holding = block.partition_point(holds);
    Ok(holding.checked_sub(1).and_then(|at| block.get(at)).copied())
}
