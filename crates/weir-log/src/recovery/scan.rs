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

/// Bytes whose CRC is computed while looking for batches behind a bad one, for each byte there is: values may be full of
/// what looks like batches, and a start must come to an end.
const SEARCH_FACTOR: u64 = 8;

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
    /// The search was given up: there may be more.
    pub(crate) is_cut_short: bool,
}

/// Looks at each byte for a valid batch that could follow `offset`.
///
/// A candidate must have magic 2, a length that fits, and an offset that a segment can hold; then its
/// CRC decides. Takes time in proportion to the region, whatever is in it.
pub(crate) fn survivors(region: Region<'_>, offset: Offset) -> Result<Survivors, LogError> {
    let mut found = Survivors::default();
    let mut window = Window::new(region);
    let mut position = region.from;
    let mut budget = SEARCH_FACTOR * (region.end - region.from).max(CHUNK_BYTES);
    while position + HEADER_BYTES as u64 <= region.end {
        if budget == 0 {
            found.is_cut_short = true;
            break;
        }
        match valid_batch(&mut window, position, offset, &mut budget)? {
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
    budget: &mut u64,
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
    *budget = budget.saturating_sub(header.size_bytes);
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

#[cfg(test)]
mod tests {
    use weir_protocol::batch::BatchBuilder;
    use weir_protocol::compression::Codec;
    use weir_protocol::TimestampMs;

    use super::*;
    use crate::disk::MemDisk;

    fn batch(value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs(1), None, Some(value), &[]);
        builder.build().to_vec()
    }

    fn search(bytes: &[u8]) -> Survivors {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let path = Path::new("/d/log");
        let file = disk.open(path, OpenMode::Create).unwrap();
        file.write_at(bytes, 0).unwrap();
        let end = bytes.len() as u64;
        survivors(Region { file: &*file, path, from: 0, end }, Offset(0)).unwrap()
    }

    #[test]
    fn batches_behind_a_bad_one_are_found() {
        let mut bytes = vec![7; 100];
        bytes.extend(batch(b"one"));
        bytes.extend(vec![7; 3]);
        bytes.extend(batch(b"two"));
        assert_eq!(search(&bytes), Survivors { batches: 2, records: 2, is_cut_short: false });
    }

    #[test]
    fn what_looks_like_batches_everywhere_does_not_hold_a_start_up() {
        // Heads of batches that would each reach to the end.
        let mut bytes = Vec::new();
        let whole = 4 << 20;
        while bytes.len() + 2 * HEADER_BYTES < whole {
            let mut head = batch(b"")[..HEADER_BYTES].to_vec();
            let length = i32::try_from(whole - bytes.len() - 12).unwrap();
            head[8..12].copy_from_slice(&length.to_be_bytes());
            bytes.extend(head);
        }
        bytes.resize(whole, 0);
        let found = search(&bytes);
        assert!(found.is_cut_short, "{found:?}");
    }
}
