//! [`FileSlice`]: record batches that lie in a segment file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{read_exact_at, DiskFile};

/// A run of whole record batches in an open segment file.
///
/// Reading it needs no lock on the log, and works even if the segment is deleted meanwhile, as the
/// file stays open. The bytes of a slice never change: a log only grows at its end.
#[derive(Debug, Clone)]
pub struct FileSlice {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) position: u64,
    pub(crate) len_bytes: usize,
}

impl FileSlice {
    /// Bytes in the slice. Never 0, unless all was split off.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Takes the first `len_bytes` off, or all there is; not whole batches any more.
    #[must_use]
    pub fn split_to(&mut self, len_bytes: usize) -> Self {
        let len_bytes = len_bytes.min(self.len_bytes);
        let front = Self { file: Arc::clone(&self.file), position: self.position, len_bytes };
        self.position += len_bytes as u64;
        self.len_bytes -= len_bytes;
        front
    }

    /// Where it begins in the file, for sendfile.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The system's file, for sendfile. `None` on a disk in memory.
    #[must_use]
    pub fn as_file(&self) -> Option<&File> {
        self.file.as_file()
    }

    /// Fills `buf`, which must be as long as the slice.
    ///
    /// # Errors
    /// If the file cannot be read, or is shorter than it was.
    ///
    /// # Panics
    /// If `buf` has another length.
    pub fn read_into(&self, buf: &mut [u8]) -> io::Result<()> {
        assert_eq!(buf.len(), self.len_bytes, "a slice is read whole");
        read_exact_at(&*self.file, buf, self.position)
    }

    /// The bytes.
    ///
    /// # Errors
    /// If the file cannot be read, or is shorter than it was.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut buf = vec![0; self.len_bytes];
        self.read_into(&mut buf)?;
        Ok(Bytes::from(buf))
    }
}
