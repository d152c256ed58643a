//! Bringing segments up to what the journal holds.
//!
//! What is written is only what a commit had made durable, into files whose names are durable, and only
//! where it belongs. So an append is passed over if
//!
//! - its log is gone, or another one has its name (topic ids are never used twice);
//! - its segment is gone: retention or a truncation removed it;
//! - its segment ends before it: a truncation cut it, and that is told;
//! - no batch begins in its place, nor does the file end there: Kafka ran on the directory since, and
//!   rewrote the segment (compaction), or what stands before is damaged;
//! - a valid batch stands in its place that is another.
//!
//! In the last two cases it and what follows in that log is left out, kept in a file beside the segment,
//! and reported.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_protocol::batch::BatchView;
use weir_protocol::{Offset, TimestampMs, Uuid};

use super::format::{self, Append};
use crate::checkpoint;
use crate::disk::{read_exact_at, Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::header::BatchHeader;
use crate::index::Place;
use crate::offset_index;
use crate::recovery::unused_name;
use crate::segment::Segment;

/// Where in a batch its CRC stands, which covers what follows it.
const CRC_AT: usize = 17;

/// As recovery has it: a batch that says it is larger is none.
const BATCH_BYTES_MAX: u64 = 128 << 20;

/// Applies the appends of records, in the order of their sequence numbers.
#[derive(Debug)]
pub(crate) struct Applier<'a> {
    disk: &'a Arc<dyn Disk>,
    root: &'a Path,
    /// The topic id that each log has; `None` if there is no such log.
    topic_ids: HashMap<String, Option<Uuid>>,
    /// What appends belong to; `None` if there is no such segment.
    segments: BTreeMap<(String, Offset), Option<Target>>,
    /// Logs that hold something else than the journal says.
    conflicts: HashSet<String>,
    /// Where appends are kept that were left out.
    kept: BTreeMap<(String, Offset), Kept>,
    pub(crate) bytes_written: u64,
    pub(crate) problems: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// A segment that appends belong to.
#[derive(Debug, Clone)]
struct Target {
    file: Arc<dyn DiskFile>,
    /// The end of the last append: a batch begins there, or nothing does.
    applied_to: Option<u64>,
}

#[derive(Debug)]
struct Kept {
    file: Arc<dyn DiskFile>,
    len_bytes: u64,
}

impl<'a> Applier<'a> {
    pub(crate) fn new(disk: &'a Arc<dyn Disk>, root: &'a Path) -> Self {
        Self {
            disk,
            root,
            topic_ids: HashMap::new(),
            segments: BTreeMap::new(),
            conflicts: HashSet::new(),
            kept: BTreeMap::new(),
            bytes_written: 0,
            problems: Vec::new(),
            warnings: Vec::new(),
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
        if files::parse_partition_dir(append.dir).is_none() {
            return Ok(());
        }
        if self.topic_id(append.dir)? != Some(append.topic_id) {
            return Ok(());
        }
        let Some(target) = self.segment(append.dir, append.base)? else { return Ok(()) };
        if self.conflicts.contains(append.dir) {
            return self.keep(append);
        }
        let path = files::at_offset(&self.root.join(append.dir), append.base, files::LOG);
        let failed = |action| {
            let path = path.clone();
            move |error| LogError::io(action, path, error)
        };
        let len_bytes = target.file.len_bytes().map_err(failed("read"))?;
        if append.position > len_bytes {
            self.warnings.push(format!(
                "{} ends at {len_bytes}, before {} where the commit journal goes on; the journal was \
                 not applied there",
                path.display(),
                append.position
            ));
            return Ok(());
        }
        let found = if self.is_boundary(append, &target, len_bytes)? {
            conflict(&*target.file, len_bytes, append).map_err(failed("read"))?
        } else {
            Some(append.position)
        };
        let Some(position) = found else {
            // Also if it is there: after a sync that failed the page cache has what the disk has not
            // (Rebello et al., ATC 2020).
            target.file.write_at(append.bytes, append.position).map_err(failed("write"))?;
            self.bytes_written += append.bytes.len() as u64;
            let applied_to = Some(append.position + append.bytes.len() as u64);
            let key = (append.dir.to_owned(), append.base);
            self.segments.insert(key, Some(Target { applied_to, ..target }));
            return Ok(());
        };
        self.problems.push(format!(
            "{} holds another batch at {position} than the commit journal; the journal was not applied \
             to it",
            path.display()
        ));
        self.conflicts.insert(append.dir.to_owned());
        self.keep(append)
    }

    /// Whether a batch begins where `append` is to be written, or the file ends there.
    ///
    /// All before it is on disk, or was applied before it; so this can only fail where somebody else
    /// wrote, or the disk lies.
    ///
    /// Cost: nothing for appends that follow each other, else about `index.interval.bytes` of headers.
    fn is_boundary(
        &self,
        append: &Append<'_>,
        target: &Target,
        len_bytes: u64,
    ) -> Result<bool, LogError> {
        if target.applied_to == Some(append.position) {
            return Ok(true);
        }
        let dir = self.root.join(append.dir);
        let index = files::at_offset(&dir, append.base, files::OFFSET_INDEX);
        let index_bytes = match self.disk.open(&index, OpenMode::Existing) {
            Ok(file) => Some(file.len_bytes().map_err(|error| LogError::io("read", index, error))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(LogError::io("open", index, error)),
        };
        // Of an index that a power cut has torn, what is whole is believed where its batch is there.
        let entry_bytes = offset_index::ENTRY_BYTES as u64;
        let index_bytes = index_bytes.map(|bytes| bytes / entry_bytes * entry_bytes);
        let place = Place::new(Arc::clone(self.disk), dir.into());
        let mut segment = Segment::existing(&place, append.base, len_bytes, TimestampMs(0));
        segment.set_index_sizes(index_bytes, Some(0));
        segment.is_boundary(append.position)
    }

    /// Keeps what is not applied in a file beside the segment.
    fn keep(&mut self, append: &Append<'_>) -> Result<(), LogError> {
        let key = (append.dir.to_owned(), append.base);
        if !self.kept.contains_key(&key) {
            let path = files::at_offset(&self.root.join(append.dir), append.base, files::LOG);
            let path = unused_name(&**self.disk, &path, append.position);
            let opened = self.disk.open(&path, OpenMode::Truncate);
            let file = opened.map_err(|error| LogError::io("open", &path, error))?;
            self.problems.push(format!(
                "what the commit journal has for {} is kept in {}",
                append.dir,
                path.display()
            ));
            self.kept.insert(key.clone(), Kept { file, len_bytes: 0 });
        }
        let Some(kept) = self.kept.get_mut(&key) else { return Ok(()) };
        kept.file
            .write_at(append.bytes, kept.len_bytes)
            .map_err(|error| LogError::io("write", self.root.join(append.dir), error))?;
        kept.len_bytes += append.bytes.len() as u64;
        Ok(())
    }

    fn topic_id(&mut self, dir: &str) -> Result<Option<Uuid>, LogError> {
        if let Some(known) = self.topic_ids.get(dir) {
            return Ok(*known);
        }
        let found = match checkpoint::read_partition_metadata(&**self.disk, &self.root.join(dir)) {
            Ok(found) => found,
            // Opening the log reports it.
            Err(LogError::BadFile { .. }) => None,
            Err(error) => return Err(error),
        };
        self.topic_ids.insert(dir.to_owned(), found);
        Ok(found)
    }

    fn segment(&mut self, dir: &str, base: Offset) -> Result<Option<Target>, LogError> {
        let key = (dir.to_owned(), base);
        if let Some(known) = self.segments.get(&key) {
            return Ok(known.clone());
        }
        let path = files::at_offset(&self.root.join(dir), base, files::LOG);
        let file = match self.disk.open(&path, OpenMode::Existing) {
            Ok(file) => Some(Target { file, applied_to: None }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(LogError::io("open", path, error)),
        };
        self.segments.insert(key, file.clone());
        Ok(file)
    }

    /// Makes everything durable that the journal was needed for; also what a killed process had written
    /// to a segment, and no more.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let segments = self.segments.values().flatten().map(|target| &target.file);
        let kept = self.kept.values().map(|kept| &kept.file);
        let files: Vec<_> = segments.chain(kept).cloned().collect();
        if files.is_empty() {
            return Ok(());
        }
        let mut dirs: Vec<_> = self.kept.keys().map(|(dir, _)| self.root.join(dir)).collect();
        dirs.dedup();
        self.disk.sync_many(&files, &dirs)
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
