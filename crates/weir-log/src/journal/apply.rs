//! Bringing segments up to what the journal holds.
//!
//! What is written is only what a commit had made durable, into files whose names are durable, and only
//! where it belongs. So an append is passed over if
//!
//! - its log is gone, or another one has its name (topic ids are never used twice);
//! - its segment is gone: retention or a truncation removed it;
//! - its segment ends before it: a truncation cut it;
//! - a valid batch stands in its place that is another: a truncation cut it, or Kafka ran on the
//!   directory since. It and what follows in that log is left out, and that is reported.
//!
//! Another program that ran after a crash of weir, rewrote a segment (compaction) and was killed as
//! well is not noticed where its batches do not begin at the same places: see the ADR.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_protocol::batch::BatchView;
use weir_protocol::{Offset, Uuid};

use super::format::{self, Append};
use crate::checkpoint;
use crate::disk::{read_exact_at, Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::header::BatchHeader;

/// Where in a batch its CRC stands, which covers what follows it.
const CRC_AT: usize = 17;

/// As recovery has it: a batch that says it is larger is none.
const BATCH_BYTES_MAX: u64 = 128 << 20;

/// Applies the appends of records, in the order of their sequence numbers.
#[derive(Debug)]
pub(crate) struct Applier<'a> {
    disk: &'a dyn Disk,
    root: &'a Path,
    /// The topic id that each log has; `None` if there is no such log.
    topic_ids: HashMap<String, Option<Uuid>>,
    /// Files that appends belong to; `None` if there is no such segment.
    segments: BTreeMap<(String, Offset), Option<Arc<dyn DiskFile>>>,
    /// Logs in which another batch was found.
    conflicts: HashSet<String>,
    pub(crate) bytes_written: u64,
    pub(crate) problems: Vec<String>,
}

impl<'a> Applier<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, root: &'a Path) -> Self {
        Self {
            disk,
            root,
            topic_ids: HashMap::new(),
            segments: BTreeMap::new(),
            conflicts: HashSet::new(),
            bytes_written: 0,
            problems: Vec::new(),
        }
    }

    /// Applies one record.
    pub(crate) fn record(&mut self, record: &[u8]) -> Result<(), LogError> {
        match format::appends(record) {
            Ok(appends) => appends.iter().try_for_each(|append| self.append(append)),
            Err(what) => {
                self.problems.push(format!("a record of the commit journal is not used: {what}"));
                Ok(())
            }
        }
    }

    fn append(&mut self, append: &Append<'_>) -> Result<(), LogError> {
        // The name comes from a file: it must not lead elsewhere.
        if files::parse_partition_dir(append.dir).is_none() || self.conflicts.contains(append.dir) {
            return Ok(());
        }
        if self.topic_id(append.dir)? != Some(append.topic_id) {
            return Ok(());
        }
        let Some(file) = self.segment(append.dir, append.base)? else { return Ok(()) };
        let path = files::at_offset(&self.root.join(append.dir), append.base, files::LOG);
        let failed = |action| {
            let path = path.clone();
            move |error| LogError::io(action, path, error)
        };
        let len_bytes = file.len_bytes().map_err(failed("read"))?;
        if append.position > len_bytes {
            return Ok(());
        }
        match conflict(&*file, len_bytes, append).map_err(failed("read"))? {
            // Also if it is there: after a sync that failed the page cache has what the disk has not
            // (Rebello et al., ATC 2020).
            None => {
                file.write_at(append.bytes, append.position).map_err(failed("write"))?;
                self.bytes_written += append.bytes.len() as u64;
            }
            Some(position) => {
                self.problems.push(format!(
                    "{} holds another batch at {position} than the commit journal; the journal was \
                     not applied to it",
                    path.display()
                ));
                self.conflicts.insert(append.dir.to_owned());
            }
        }
        Ok(())
    }

    fn topic_id(&mut self, dir: &str) -> Result<Option<Uuid>, LogError> {
        if let Some(known) = self.topic_ids.get(dir) {
            return Ok(*known);
        }
        let found = match checkpoint::read_partition_metadata(self.disk, &self.root.join(dir)) {
            Ok(found) => found,
            // Opening the log reports it.
            Err(LogError::BadFile { .. }) => None,
            Err(error) => return Err(error),
        };
        self.topic_ids.insert(dir.to_owned(), found);
        Ok(found)
    }

    fn segment(&mut self, dir: &str, base: Offset) -> Result<Option<Arc<dyn DiskFile>>, LogError> {
        let key = (dir.to_owned(), base);
        if let Some(known) = self.segments.get(&key) {
            return Ok(known.clone());
        }
        let path = files::at_offset(&self.root.join(dir), base, files::LOG);
        let file = match self.disk.open(&path, OpenMode::Existing) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(LogError::io("open", path, error)),
        };
        self.segments.insert(key, file.clone());
        Ok(file)
    }

    /// Makes everything durable that the journal was needed for; also what a killed process had written
    /// to a segment, and no more.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let files: Vec<_> = self.segments.values().flatten().cloned().collect();
        if files.is_empty() {
            return Ok(());
        }
        self.disk.sync_many(&files, &[])
    }
}

/// Where in the segment a valid batch stands that is another than the one to be written.
fn conflict(file: &dyn DiskFile, len_bytes: u64, append: &Append<'_>) -> io::Result<Option<u64>> {
    let wanted = append.bytes;
    let left = usize::try_from(len_bytes - append.position).unwrap_or(usize::MAX);
    let mut found = vec![0; left.min(wanted.len())];
    read_exact_at(file, &mut found, append.position)?;
    // The first batch that differs.
    let mut at = 0;
    while let Some(size) = batch_size(wanted, at) {
        if found.get(at..at + size) != wanted.get(at..at + size) {
            break;
        }
        at += size;
    }
    if at == wanted.len() {
        return Ok(None);
    }
    let position = append.position + at as u64;
    let Some(other) = valid_batch(file, len_bytes, position)? else { return Ok(None) };
    // The first bytes lie outside the CRC: where they are torn the rest may be there and valid.
    let same = wanted.get(at..).and_then(|wanted| wanted.get(..other.len()));
    let is_same = same.is_some_and(|same| same.get(CRC_AT..) == other.get(CRC_AT..));
    Ok((!is_same).then_some(position))
}

fn batch_size(bytes: &[u8], at: usize) -> Option<usize> {
    let header = BatchHeader::decode(bytes.get(at..)?).ok()?;
    let size = usize::try_from(header.size_bytes).ok()?;
    (at + size <= bytes.len()).then_some(size)
}

/// The whole, valid batch that stands at `position`, if one does.
fn valid_batch(file: &dyn DiskFile, len_bytes: u64, position: u64) -> io::Result<Option<Vec<u8>>> {
    let left = len_bytes - position;
    let mut head = [0; crate::header::HEADER_BYTES];
    if left < head.len() as u64 {
        return Ok(None);
    }
    read_exact_at(file, &mut head, position)?;
    let Ok(header) = BatchHeader::decode(&head) else { return Ok(None) };
    // As large as the file at most: so much memory it may take.
    if header.size_bytes > left.min(BATCH_BYTES_MAX) {
        return Ok(None);
    }
    let mut batch = vec![0; usize::try_from(header.size_bytes).unwrap_or(0)];
    read_exact_at(file, &mut batch, position)?;
    let is_valid = BatchView::parse(&batch).is_ok_and(|batch| batch.verify_crc().is_ok());
    Ok(is_valid.then_some(batch))
}
