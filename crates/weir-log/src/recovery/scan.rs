//! Reading batches from a segment of which nothing is known.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_protocol::batch::BatchView;
use weir_protocol::Offset;

use crate::disk::{read_exact_at, Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::header::{BatchHeader, HEADER_BYTES};

/// Bytes that are read at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// A batch that says it is larger is taken for damage, so that a wrong length does not cost its worth
/// of memory. Requests are at most 100 MiB, as in Kafka.
pub(crate) const BATCH_BYTES_MAX: u64 = 128 << 20;

/// Where a scan came to, and why it ended before the end of the file.
#[derive(Debug)]
pub(crate) struct ScanEnd {
    pub(crate) position: u64,
    pub(crate) problem: Option<String>,
}

/// A part of a segment file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region<'a> {
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) path: &'a Path,
    pub(crate) from: u64,
    pub(crate) end: u64,
}

/// Reads on demand, in chunks, and keeps what it read.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    region: Region<'a>,
    bytes: Vec<u8>,
    at: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(region: Region<'a>) -> Self {
        Self { region, bytes: Vec::new(), at: region.from }
    }

    /// The bytes `position..position + len`; fewer only at the end of the region.
    pub(crate) fn get(&mut self, position: u64, len: u64) -> Result<&[u8], LogError> {
        let len = len.min(self.region.end.saturating_sub(position));
        let held_to = self.at + self.bytes.len() as u64;
        if position < self.at || position + len > held_to {
            let wanted = len.max(CHUNK_BYTES).min(self.region.end - position);
            self.bytes.resize(usize::try_from(wanted).unwrap_or(0), 0);
            read_exact_at(self.region.file, &mut self.bytes, position)
                .map_err(|error| LogError::io("read", self.region.path, error))?;
            self.at = position;
        }
        let from = usize::try_from(position - self.at).unwrap_or(0);
        let to = from + usize::try_from(len).unwrap_or(0);
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }
}

/// Checks batch after batch, CRC included, and hands each to `visit`, which may refuse it in words.
pub(crate) fn scan(
    region: Region<'_>,
    mut visit: impl FnMut(u64, &BatchHeader, &BatchView<'_>) -> Result<Option<String>, LogError>,
) -> Result<ScanEnd, LogError> {
    let mut window = Window::new(region);
    let mut position = region.from;
    while position < region.end {
        let stop = |what: String| Ok(ScanEnd { position, problem: Some(what) });
        let header = match BatchHeader::decode(window.get(position, HEADER_BYTES as u64)?) {
            Ok(header) => header,
            Err(what) => return stop(what),
        };
        let left = region.end - position;
        if header.size_bytes > left.min(BATCH_BYTES_MAX) {
            return stop(format!("the batch takes {} bytes, {left} are left", header.size_bytes));
        }
        let batch = match BatchView::parse(window.get(position, header.size_bytes)?) {
            Ok(batch) => batch,
            Err(error) => return stop(error.to_string()),
        };
        if let Err(error) = batch.verify_crc() {
            return stop(error.to_string());
        }
        if let Some(what) = visit(position, &header, &batch)? {
            return stop(what);
        }
        position += header.size_bytes;
    }
    Ok(ScanEnd { position, problem: None })
}

/// What valid batches are in a region whose beginning is not valid.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Survivors {
    pub(crate) batches: u64,
    pub(crate) records: u64,
}

/// Looks at each byte for a valid batch that could follow `offset`.
///
/// A candidate must have magic 2, a length that fits, and an offset that a segment can hold; then its
/// CRC decides.
pub(crate) fn survivors(region: Region<'_>, offset: Offset) -> Result<Survivors, LogError> {
    let mut found = Survivors::default();
    let mut window = Window::new(region);
    let mut position = region.from;
    while position + HEADER_BYTES as u64 <= region.end {
        match valid_batch(&mut window, position, offset)? {
            Some(header) => {
                found.batches += 1;
                found.records += u64::try_from(header.record_count).unwrap_or(0);
                position += header.size_bytes;
            }
            None => position += 1,
        }
    }
    Ok(found)
}

fn valid_batch(
    window: &mut Window<'_>,
    position: u64,
    offset: Offset,
) -> Result<Option<BatchHeader>, LogError> {
    let end = window.region.end;
    let bytes = window.get(position, HEADER_BYTES as u64)?;
    // The magic first: it tells almost all positions apart without decoding.
    if bytes.get(16) != Some(&2) {
        return Ok(None);
    }
    let Ok(header) = BatchHeader::decode(bytes) else { return Ok(None) };
    let fits = header.size_bytes <= (end - position).min(BATCH_BYTES_MAX)
        && header.base_offset >= offset
        && header.base_offset.get() - offset.get() <= i64::from(i32::MAX);
    if !fits {
        return Ok(None);
    }
    let batch = BatchView::parse(window.get(position, header.size_bytes)?);
    let valid = batch.is_ok_and(|batch| batch.verify_crc().is_ok());
    Ok(valid.then_some(header))
}

/// Copies the region to a file beside the segment, synced, and returns its path.
pub(crate) fn keep_aside(disk: &dyn Disk, region: Region<'_>) -> Result<PathBuf, LogError> {
    let path = unused_name(disk, region.path, region.from);
    let copy = || {
        let to = disk.open(&path, OpenMode::Truncate)?;
        let mut chunk = Vec::new();
        let mut position = region.from;
        while position < region.end {
            let len = CHUNK_BYTES.min(region.end - position);
            chunk.resize(usize::try_from(len).unwrap_or(0), 0);
            read_exact_at(region.file, &mut chunk, position)?;
            to.write_at(&chunk, position - region.from)?;
            position += len;
        }
        disk.sync_many(&[Arc::clone(&to)], &[])?;
        path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
    };
    copy().map_err(|error| LogError::io("write", &path, error))?;
    Ok(path)
}

/// `<segment>.log.damaged-<position>`, with a number behind it if that is taken.
pub(crate) fn unused_name(disk: &dyn Disk, segment: &Path, position: u64) -> PathBuf {
    let name = |number: u32| {
        let mut name = segment.as_os_str().to_owned();
        name.push(format!(".damaged-{position}"));
        if number > 1 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    let mut number = 1;
    while number < 1000 && disk.open(&name(number), OpenMode::Existing).is_ok() {
        number += 1;
    }
    name(number)
}
