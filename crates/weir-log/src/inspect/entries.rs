//! Entries of index files, read in blocks.

use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_protocol::{Offset, TimestampMs};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::{offset_index, time_index};

/// Entries that are read at once.
const BLOCK_ENTRIES: usize = 4096;

/// Entries of `N` bytes, one after the other.
#[derive(Debug)]
struct EntryReader<const N: usize> {
    file: Option<Arc<dyn DiskFile>>,
    block: Vec<[u8; N]>,
    at: usize,
    position: u64,
}

impl<const N: usize> EntryReader<N> {
    fn open(disk: &dyn Disk, path: &Path) -> Result<Self, LogError> {
        let file = match disk.open(path, OpenMode::Existing) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(LogError::io("open", path, error)),
        };
        Ok(Self { file, block: Vec::new(), at: 0, position: 0 })
    }

    fn next(&mut self) -> io::Result<Option<[u8; N]>> {
        if self.at >= self.block.len() {
            let Some(file) = &self.file else { return Ok(None) };
            self.block.resize(BLOCK_ENTRIES, [0; N]);
            let read = file.read_at(self.block.as_flattened_mut(), self.position)?;
            self.block.truncate(read / N);
            self.position += (read - read % N) as u64;
            self.at = 0;
        }
        let entry = self.block.get(self.at).copied();
        self.at += 1;
        Ok(entry)
    }
}

/// Reads an offset index: the last offset of a batch, and where that batch begins.
#[derive(Debug)]
pub struct OffsetIndexReader {
    base: Offset,
    entries: EntryReader<{ offset_index::ENTRY_BYTES }>,
}

impl OffsetIndexReader {
    /// Opens the index of the segment at `base`. A missing one has no entries.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<Self, LogError> {
        let path = files::at_offset(dir, base, files::OFFSET_INDEX);
        Ok(Self { base, entries: EntryReader::open(disk, &path)? })
    }

    /// The next entry. An entry of zeros may be one, or room that was not used.
    ///
    /// # Errors
    /// What the disk says.
    pub fn next_entry(&mut self) -> io::Result<Option<(Offset, u64)>> {
        let entry = self.entries.next()?;
        Ok(entry.map(|entry| {
            let entry = offset_index::decode(self.base, &entry);
            (entry.offset, entry.position)
        }))
    }
}

/// Reads a time index: the largest timestamp so far, and the last offset of the batch that has it.
#[derive(Debug)]
pub struct TimeIndexReader {
    base: Offset,
    entries: EntryReader<{ time_index::ENTRY_BYTES }>,
}

impl TimeIndexReader {
    /// Opens the index of the segment at `base`. A missing one has no entries.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<Self, LogError> {
        let path = files::at_offset(dir, base, files::TIME_INDEX);
        Ok(Self { base, entries: EntryReader::open(disk, &path)? })
    }

    /// The next entry. An entry of zeros may be one, or room that was not used.
    ///
    /// # Errors
    /// What the disk says.
    pub fn next_entry(&mut self) -> io::Result<Option<(TimestampMs, Offset)>> {
        let entry = self.entries.next()?;
        Ok(entry.map(|entry| {
            let entry = time_index::decode(self.base, &entry);
            (entry.timestamp, entry.offset)
        }))
    }
}
