//! Making a log readable around what is damaged.
//!
//! Order, so that a crash at any point leaves either the old or the new bytes, and the old ones in any
//! case: copy the segment beside itself and sync it, write the new one to a temporary file and sync it,
//! rename, sync the directory, build the indexes again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_protocol::batch::HEADER_BYTES;
use weir_protocol::{LeaderEpoch, Offset};

use super::plan::{Action, Change, PartitionPlan, SegmentPlan};
use super::{judge_all, Finding, Progress, VerifyOptions, VerifyReport};
use crate::checkpoint;
use crate::disk::{read_exact_at, replace_files, Disk, LockFailure, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::index::Place;
use crate::inspect;
use crate::journal;
use crate::recovery::scan::{keep_aside, unused_name, Region};
use crate::segment::Segment;
use crate::txn_index;

/// Bytes that are copied at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// `index.interval.bytes` of indexes that are built again: Kafka's default, as a topic's own is not
/// known here. A denser or sparser index is as right.
const INDEX_INTERVAL_BYTES: u64 = 4096;
/// An empty batch: a header and no record.
const EMPTY_BATCH_BYTES: usize = HEADER_BYTES;

/// What a repair found, did and left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairReport {
    /// As it was.
    pub before: VerifyReport,
    /// What was done, in the order it was done.
    pub actions: Vec<RepairAction>,
    /// As it is now.
    pub after: VerifyReport,
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairAction {
    /// The partition, unless it was done to the directory.
    pub partition: Option<(String, i32)>,
    /// The file.
    pub file: PathBuf,
    /// What was done to it.
    pub what: String,
    /// The first offset that is lost, if any is.
    pub lost_from: Option<Offset>,
    /// One past the last.
    pub lost_to: Option<Offset>,
    /// Where the old bytes are.
    pub kept_in: Option<PathBuf>,
}

/// Verifies a log directory that nobody uses, repairs it, and verifies it again.
///
/// Damaged batches whose records are intact get their header back; others, and holes, give way to an
/// empty batch with the same offsets, as the cleaner leaves one: offsets stay what they were, readers go
/// on behind it. Indexes and the leader epoch checkpoint are written anew from the log; snapshots and
/// checkpoints that cannot be read are set aside.
///
/// # Errors
/// [`LogError::Locked`] if somebody uses the directory, [`LogError::Unrecovered`] if it must be started
/// once before, or what the disk says.
pub fn repair(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &VerifyOptions<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<RepairReport, LogError> {
    let _lock = disk.lock(&dir.join(files::LOCK)).map_err(|failure| match failure {
        LockFailure::Held { pid } => LogError::Locked {
            path: dir.to_owned(),
            pid: if pid.is_empty() { "unknown".to_owned() } else { pid },
        },
        LockFailure::Io(error) => LogError::io("lock", dir, error),
    })?;
    if !inspect::has_clean_mark(&**disk, dir)? && journal::is_needed(&**disk, dir)? {
        // Its entries name positions in the segments as they are.
        return Err(LogError::Unrecovered { path: dir.to_owned() });
    }
    let (before, plan) = judge_all(&**disk, dir, options, progress)?;
    let mut repair = Repair { disk, options, actions: Vec::new() };
    for path in &plan.bad_files {
        repair.set_aside(None, path)?;
    }
    for partition in &plan.partitions {
        repair.partition(partition)?;
    }
    let actions = repair.actions;
    let (after, _) = match actions.is_empty() {
        true => (before.clone(), super::plan::Plan::default()),
        false => judge_all(&**disk, dir, options, progress)?,
    };
    Ok(RepairReport { before, actions, after })
}

struct Repair<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a VerifyOptions<'a>,
    actions: Vec<RepairAction>,
}

impl Repair<'_> {
    fn partition(&mut self, plan: &PartitionPlan) -> Result<(), LogError> {
        for (base, segment) in &plan.segments {
            self.segment(plan, *base, segment)?;
        }
        let name = Some((plan.topic.clone(), plan.partition));
        for path in &plan.bad_files {
            self.set_aside(name.clone(), path)?;
        }
        if let Some(epochs) = &plan.epochs {
            let path = plan.dir.join(files::LEADER_EPOCHS);
            let kept_in = self.keep_small(&path)?;
            self.replace(&path, checkpoint::encode_epochs(epochs))?;
            let what = "written anew from the batches".to_owned();
            self.note(&name, path, what, kept_in);
        }
        Ok(())
    }

    fn note(
        &mut self,
        partition: &Option<(String, i32)>,
        file: PathBuf,
        what: String,
        kept_in: Option<PathBuf>,
    ) {
        let partition = partition.clone();
        let (lost_from, lost_to) = (None, None);
        self.actions.push(RepairAction { partition, file, what, lost_from, lost_to, kept_in });
    }

    fn set_aside(&mut self, partition: Option<(String, i32)>, path: &Path) -> Result<(), LogError> {
        let to = unused_name(&**self.disk, path, 0);
        let rename = || {
            self.disk.rename(path, &to)?;
            path.parent().map_or(Ok(()), |dir| self.disk.sync_dir(dir))
        };
        rename().map_err(|error| LogError::io("rename", path, error))?;
        self.note(&partition, path.to_owned(), "set aside".to_owned(), Some(to));
        Ok(())
    }

    /// A copy of a small file, if there is one.
    fn keep_small(&self, path: &Path) -> Result<Option<PathBuf>, LogError> {
        let Ok(file) = self.disk.open(path, OpenMode::Existing) else { return Ok(None) };
        let end = file.len_bytes().map_err(|error| LogError::io("read", path, error))?;
        keep_aside(&**self.disk, Region { file: &*file, path, from: 0, end }).map(Some)
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> Result<(), LogError> {
        replace_files(&**self.disk, &[(path.to_owned(), bytes)])
            .map_err(|error| LogError::io("write", path, error))
    }

    fn segment(
        &mut self,
        plan: &PartitionPlan,
        base: Offset,
        segment: &SegmentPlan,
    ) -> Result<(), LogError> {
        let name = Some((plan.topic.clone(), plan.partition));
        let path = files::at_offset(&plan.dir, base, files::LOG);
        if !segment.changes.is_empty() {
            self.rewrite(&name, &path, segment)?;
        } else if let Some(cut_at) = segment.cut_at {
            self.cut(&name, &path, cut_at)?;
        }
        if segment.rebuild_indexes || !segment.changes.is_empty() || segment.cut_at.is_some() {
            self.rebuild_indexes(&plan.dir, base)?;
            if segment.rebuild_indexes {
                let index = files::at_offset(&plan.dir, base, files::OFFSET_INDEX);
                let what = "built again from the log, with its time index".to_owned();
                self.note(&name, index, what, None);
            }
        }
        if let Some(txns) = &segment.txns {
            let path = files::at_offset(&plan.dir, base, files::TXN_INDEX);
            let kept_in = self.keep_small(&path)?;
            self.replace(&path, txn_index::encode_all(txns))?;
            let what = format!("written anew from the markers, {} aborts", txns.len());
            self.note(&name, path, what, kept_in);
        }
        Ok(())
    }

    fn cut(
        &mut self,
        name: &Option<(String, i32)>,
        path: &Path,
        cut_at: u64,
    ) -> Result<(), LogError> {
        let cut = || {
            let file = self.disk.open(path, OpenMode::Existing)?;
            let bytes = file.len_bytes()?.saturating_sub(cut_at);
            file.set_len(cut_at)?;
            file.sync_data()?;
            Ok(bytes)
        };
        let bytes = cut().map_err(|error| LogError::io("truncate", path, error))?;
        let what = format!("cut at byte {cut_at}: a torn tail of {bytes} bytes");
        self.note(name, path.to_owned(), what, None);
        Ok(())
    }

    /// Writes a segment anew, with the changes, beside a copy of the old one.
    fn rewrite(
        &mut self,
        name: &Option<(String, i32)>,
        path: &Path,
        segment: &SegmentPlan,
    ) -> Result<(), LogError> {
        let old = self
            .disk
            .open(path, OpenMode::Existing)
            .map_err(|error| LogError::io("open", path, error))?;
        let size = old.len_bytes().map_err(|error| LogError::io("read", path, error))?;
        let end = segment.cut_at.unwrap_or(size);
        let kept_in = keep_aside(&**self.disk, Region { file: &*old, path, from: 0, end: size })?;
        let mut to = path.as_os_str().to_owned();
        to.push(".tmp");
        let to = PathBuf::from(to);
        let write = || {
            let new = self.disk.open(&to, OpenMode::Truncate)?;
            let mut out = Copy { old: &*old, new: &*new, position: 0 };
            let mut changes: Vec<&Change> = segment.changes.iter().collect();
            changes.sort_by_key(|change| (change.from, change.to));
            let mut from = 0;
            for change in changes {
                out.copy(from, change.from)?;
                match &change.action {
                    Action::Mend { header, .. } => {
                        out.write(header)?;
                        out.copy(change.from + HEADER_BYTES as u64, change.to)?;
                    }
                    Action::Fill { from, to, epoch } => {
                        out.write(&empty_batch(*from, *to, *epoch))?;
                    }
                    Action::Drop => {}
                }
                from = change.to;
            }
            out.copy(from, end)?;
            self.disk.sync_many(&[Arc::clone(&new)], &[])?;
            self.disk.rename(&to, path)?;
            path.parent().map_or(Ok(()), |dir| self.disk.sync_dir(dir))
        };
        write().map_err(|error| LogError::io("write", &to, error))?;
        for change in &segment.changes {
            self.actions.push(action(name, path, &kept_in, change));
        }
        if let Some(cut_at) = segment.cut_at {
            let what = format!("cut at byte {cut_at}: a torn tail of {} bytes", size - cut_at);
            self.note(name, path.to_owned(), what, None);
        }
        Ok(())
    }

    fn rebuild_indexes(&self, dir: &Path, base: Offset) -> Result<(), LogError> {
        let place = Place::new(Arc::clone(self.disk), dir.into());
        let path = place.path(base, files::LOG);
        let file = place.open(&path, OpenMode::Existing)?;
        let size = file.len_bytes().map_err(|error| LogError::io("read", &path, error))?;
        let mut segment = Segment::existing(&place, base, size, self.options.now);
        segment.rebuild_indexes(INDEX_INTERVAL_BYTES)?;
        segment.trim_indexes()?;
        let suffixes = [files::OFFSET_INDEX, files::TIME_INDEX];
        let opened: Result<Vec<_>, LogError> = suffixes
            .iter()
            .map(|suffix| place.open(&place.path(base, suffix), OpenMode::Existing))
            .collect();
        self.disk
            .sync_many(&opened?, &[dir.to_owned()])
            .map_err(|error| LogError::io("sync", dir, error))
    }
}

fn action(
    name: &Option<(String, i32)>,
    path: &Path,
    kept_in: &Path,
    change: &Change,
) -> RepairAction {
    let (bytes, at) = (change.to - change.from, change.from);
    let (what, lost_from, lost_to) = match &change.action {
        Action::Mend { fields, offset, last_offset, .. } => {
            let what = format!(
                "byte {at}: {fields} set right in the header of the batch {offset} to {last_offset}; \
                 no record is lost"
            );
            (what, None, None)
        }
        Action::Fill { from, to, .. } => {
            let what = format!(
                "byte {at}: {bytes} bytes gave way to an empty batch for offsets {from} to {}",
                to.plus(-1)
            );
            (what, Some(*from), Some(*to))
        }
        Action::Drop => (
            format!("byte {at}: {bytes} bytes that hold no offset of this log taken out"),
            None,
            None,
        ),
    };
    RepairAction {
        partition: name.clone(),
        file: path.to_owned(),
        what,
        lost_from,
        lost_to,
        kept_in: Some(kept_in.to_owned()),
    }
}

struct Copy<'a> {
    old: &'a dyn crate::disk::DiskFile,
    new: &'a dyn crate::disk::DiskFile,
    position: u64,
}

impl Copy<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.new.write_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn copy(&mut self, from: u64, to: u64) -> std::io::Result<()> {
        let mut chunk = Vec::new();
        let mut at = from;
        while at < to {
            let len = CHUNK_BYTES.min(to - at);
            chunk.resize(usize::try_from(len).unwrap_or(0), 0);
            read_exact_at(self.old, &mut chunk, at)?;
            self.write(&chunk)?;
            at += len;
        }
        Ok(())
    }
}

/// A batch without records that takes up the offsets `[from, to)`, as Kafka's cleaner leaves one
/// (`MemoryRecords.filterTo` and `DefaultRecordBatch.writeEmptyHeader`). Clients pass over it.
fn empty_batch(from: Offset, to: Offset, epoch: LeaderEpoch) -> [u8; EMPTY_BATCH_BYTES] {
    let delta = i32::try_from(to.get() - from.get() - 1).unwrap_or(i32::MAX);
    let mut batch = [0; EMPTY_BATCH_BYTES];
    batch[..8].copy_from_slice(&from.get().to_be_bytes());
    batch[8..12].copy_from_slice(&(EMPTY_BATCH_BYTES as i32 - 12).to_be_bytes());
    batch[12..16].copy_from_slice(&epoch.get().to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&delta.to_be_bytes());
    // No timestamps, no producer: −1 each. Codec, count and the other bits are 0.
    batch[27..57].fill(0xff);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

impl Finding {
    /// The topic and partition as one word, or the directory.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.partition {
            Some((topic, partition)) => format!("{topic}-{partition}"),
            None => "the directory".to_owned(),
        }
    }
}
