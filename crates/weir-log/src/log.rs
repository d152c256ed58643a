//! [`Log`]: one partition, from its directory to its offsets.
//!
//! ```text
//! log start        synced (high watermark)        log end
//!    |  segment 0  |  segment 1  |   segment 2 (active)  |
//!    +-------------+-------------+-----------+-----------+
//!    what readers see                        | not on disk yet
//! ```
//!
//! Batches are opaque: the log reads their headers, assigns base offset and leader epoch in place,
//! which lie outside the CRC, and stores and serves the bytes as they came.

mod read;
mod time_walk;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use weir_protocol::batch::{self, BatchView};
use weir_protocol::{LeaderEpoch, Offset, PartitionId, ProducerId, TimestampMs, Uuid};

use crate::config::{LogConfig, TimestampType};
use crate::disk::{DiskFile, OpenMode};
use crate::error::{AppendError, LogError};
use crate::files;
use crate::header::BatchHeader;
use crate::index::{PendingWrite, Place};
use crate::journal;
use crate::leader_epochs::LeaderEpochs;
use crate::log_dir::LogId;
use crate::producer_state::{self, EndMarker, ProducerStates, Verdict};
use crate::recovery;
use crate::segment::{RollLimits, Segment};
use crate::shared::Shared;
use crate::txn_index;

pub use crate::producer_state::ProducerInfo;
pub use crate::txn_index::AbortedTxn;
pub use read::{BatchAt, MaxTimestamp, ReadResult};
pub use time_walk::TimeWalk;

/// One partition on disk: segments, indexes, producer state, leader epochs.
#[derive(Debug)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: LogId,
    pub(crate) place: Place,
    pub(crate) topic: Box<str>,
    pub(crate) partition: PartitionId,
    pub(crate) topic_id: Uuid,
    pub(crate) config: LogConfig,
    /// By base offset; the last one is active. Never empty.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) log_start: Offset,
    pub(crate) end: LogPosition,
    pub(crate) synced: LogPosition,
    /// All below is found by recovery without looking at it.
    pub(crate) recovery_point: Offset,
    /// The recovery point as the next start would find it. Only what lies below is cleaned.
    pub(crate) recovery_point_on_file: Offset,
    /// Below it the cleaner has seen every key; `None` if it was never here.
    pub(crate) cleaned_to: Option<Offset>,
    /// Up to here compaction may have left gaps, for recovery: beyond, a gap is a hole.
    pub(crate) gaps_to: Offset,
    pub(crate) epochs: LeaderEpochs,
    /// The file of the leader epochs is behind.
    pub(crate) epochs_changed: bool,
    /// The leader epoch was raised by the start and has not been written under. It may be lost in a
    /// crash, as the next start raises it to the same number again; so that an idle log costs nothing.
    pub(crate) epoch_is_unused: bool,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) producers: ProducerStates,
    /// Snapshots on file, rising.
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) commit: CommitState,
    /// Files that were renamed, and when they may go.
    pub(crate) graveyard: Vec<(TimestampMs, PathBuf)>,
    pub(crate) hints: Mutex<read::Hints>,
    /// When it was opened: recovery dates what it finds by that.
    pub(crate) opened: TimestampMs,
}

/// A place between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// The offset of the batch that follows.
    pub(crate) offset: Offset,
    /// The segment.
    pub(crate) base: Offset,
    /// Bytes before it in the segment.
    pub(crate) position: u64,
}

/// What the next commit, and the next checkpoint, must do for this log.
#[derive(Debug, Default)]
pub(crate) struct CommitState {
    /// It stands in the list of dirty logs.
    pub(crate) listed: bool,
    /// The active segment has unsynced bytes.
    active_dirty: bool,
    /// Sealed segments that have some.
    sealed: Vec<Arc<dyn DiskFile>>,
    /// Bytes appended since the last commit began.
    unsynced_bytes: u64,
    /// Where the last commit began: what lies before is durable, or will be with it. `None` if that is
    /// not so simple; the next one then goes to the segments.
    pub(crate) taken: Option<LogPosition>,
    /// Counts truncations; a commit that was begun before one says nothing about the log after it.
    pub(crate) generation: u64,
    /// Indexes and snapshots that are written, but not synced by a checkpoint yet.
    sealed_files: Vec<PathBuf>,
    /// Snapshots of segments that were rolled, which the next commit writes. At most [`ROLLED_MAX`].
    rolled: Vec<RolledSnapshot>,
}

impl RolledSnapshot {
    /// What is said of it if it cannot be written.
    pub(crate) fn unwritten(&self, generation: u64) -> UnwrittenSnapshot {
        UnwrittenSnapshot { offset: self.offset, generation }
    }
}

impl CommitState {
    /// All before `end` is durable, or will be with the next commit.
    pub(crate) fn at(end: LogPosition) -> Self {
        Self { taken: Some(end), ..Self::default() }
    }
}

/// Who appends. It decides which checks apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A client's Produce request: control batches are refused, producer epochs and sequences are
    /// checked.
    Client,
    /// The broker itself, for internal topics and transaction markers: control batches are allowed,
    /// sequences are not checked.
    Coordinator,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// Offset of its last record. At acks=all the answer may leave once
    /// [`Log::synced_offset`] is greater.
    pub last_offset: Offset,
    /// With `message.timestamp.type=LogAppendTime`: what was written into the batch.
    pub log_append_time: Option<TimestampMs>,
    /// The batch had been appended before. The offsets are the original ones, nothing was written.
    pub duplicate: bool,
}

/// A snapshot of more producers than this is ordered and written by the next commit, not by the append that rolls the segment.
/// Measured (`examples/roll_probe`, on a busy machine) of 100,000 producers: 31 ms under the lock when all of it was done
/// there, 15 ms since the entries are only copied.
const SNAPSHOT_AT_ONCE_MAX: usize = 1_000;
/// So many such snapshots wait for a commit: each takes memory.
const ROLLED_MAX: usize = 2;

/// A producer snapshot on its way to its file.
#[derive(Debug)]
pub(crate) struct RolledSnapshot {
    offset: Offset,
    pub(crate) write: PendingWrite,
}

/// A producer snapshot that found no room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnwrittenSnapshot {
    offset: Offset,
    generation: u64,
}

/// What a commit takes of one log.
#[derive(Debug)]
pub(crate) struct CommitWork {
    pub(crate) snapshots: Vec<RolledSnapshot>,
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    pub(crate) end: LogPosition,
    pub(crate) generation: u64,
    pub(crate) bytes: u64,
    /// All that is new, if the journal can hold it: appends to one segment that is durable by name.
    pub(crate) appended: Option<journal::Appended>,
}

/// What a checkpoint takes of one log: it makes everything below `end` findable without a scan.
#[derive(Debug)]
pub(crate) struct CheckpointWork {
    pub(crate) dir: Arc<Path>,
    /// Index tails, the snapshot, and the leader epochs under a temporary name.
    pub(crate) writes: Vec<PendingWrite>,
    /// Files to sync that are written already.
    pub(crate) files: Vec<PathBuf>,
    /// The temporary name and the right one.
    pub(crate) rename: Option<(PathBuf, PathBuf)>,
    /// The snapshot among `writes`, if there is one.
    snapshot: Option<Offset>,
    /// Earlier snapshots that are of no more use afterwards.
    pub(crate) remove: Vec<PathBuf>,
    pub(crate) done: CheckpointDone,
}

/// What of a checkpoint is told to the log once it is on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckpointDone {
    pub(crate) end: LogPosition,
    pub(crate) generation: u64,
    pub(crate) base: Offset,
    pub(crate) offsets_written: usize,
    pub(crate) times_written: usize,
}

impl Log {
    /// Appends one record batch. Its base offset and leader epoch are assigned in place.
    ///
    /// The caller has verified the CRC-32C. On return the bytes are in the file (the page cache):
    /// they survive the process, and a power cut only after the next commit. With
    /// `message.timestamp.type=LogAppendTime`, `now` is written into the batch.
    ///
    /// Cost: one positioned write; no allocation, no look at the records.
    ///
    /// # Errors
    /// The batch breaks a rule, the disk is full (it may be tried again), or the directory is
    /// offline. Nothing was appended.
    pub fn append(
        &mut self,
        batch: &mut [u8],
        origin: AppendOrigin,
        now: TimestampMs,
    ) -> Result<Appended, AppendError> {
        self.shared.check()?;
        let (mut header, marker) = self.validate(batch, origin)?;
        if let Verdict::Duplicate { base_offset, last_offset } =
            self.check_producer(&header, marker, origin)?
        {
            return Ok(Appended {
                base_offset,
                last_offset,
                log_append_time: None,
                duplicate: true,
            });
        }
        let log_append_time = match self.config.timestamp_type {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => {
                batch::set_append_time(batch, now)?;
                header.max_timestamp = now;
                Some(now)
            }
        };
        header.base_offset = self.end.offset;
        header.leader_epoch = self.leader_epoch;
        batch::assign(batch, header.base_offset, header.leader_epoch)?;
        self.roll_for(&header, now)?;
        self.write(batch, &header, marker, now)?;
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time,
            duplicate: false,
        })
    }

    /// What the header alone shows, and what a control batch says.
    fn validate(
        &self,
        batch: &[u8],
        origin: AppendOrigin,
    ) -> Result<(BatchHeader, Option<EndMarker>), AppendError> {
        let view = BatchView::parse(batch)?;
        let invalid = |what| Err(AppendError::InvalidBatch { what });
        if view.size_bytes() != batch.len() {
            return invalid("more than one batch in an append");
        }
        // The base offset is the client's business; it is assigned below.
        let mut header = match BatchHeader::decode(batch) {
            Ok(header) => header,
            Err(_) => return invalid("offsets that cannot be"),
        };
        header.base_offset = Offset(0);
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return invalid("the record count does not fit the last offset");
        }
        if header.is_control && origin == AppendOrigin::Client {
            return invalid("clients do not write control batches");
        }
        if batch.len() > self.config.batch_bytes_max && origin == AppendOrigin::Client {
            return Err(AppendError::TooLarge {
                batch_bytes: batch.len(),
                batch_bytes_max: self.config.batch_bytes_max,
            });
        }
        if batch.len() as u64 > self.config.segment_bytes_max {
            return Err(AppendError::LargerThanSegment {
                batch_bytes: batch.len(),
                segment_bytes_max: self.config.segment_bytes_max,
            });
        }
        let marker = if header.is_control { recovery::end_marker(&view) } else { None };
        Ok((header, marker))
    }

    fn check_producer(
        &self,
        header: &BatchHeader,
        marker: Option<EndMarker>,
        origin: AppendOrigin,
    ) -> Result<Verdict, AppendError> {
        match marker {
            Some(marker) => {
                self.producers.check_marker(header, marker)?;
                Ok(Verdict::Append)
            }
            None if header.is_control => Ok(Verdict::Append),
            None => self.producers.check(header, origin),
        }
    }

    fn roll_for(&mut self, header: &BatchHeader, now: TimestampMs) -> Result<(), LogError> {
        let limits = RollLimits {
            config: &self.config,
            segment_ms: self.config.segment_ms_of(u64::from(self.id.0)),
            now,
        };
        let last_offset = header.last_offset();
        let should_roll = self.active().should_roll(
            header.size_bytes,
            header.max_timestamp,
            last_offset,
            &limits,
        )?;
        if should_roll {
            self.roll(now)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        marker: Option<EndMarker>,
        now: TimestampMs,
    ) -> Result<(), LogError> {
        self.index_abort(header, marker)?;
        let interval_bytes = self.config.index_interval_bytes;
        let shared = Arc::clone(&self.shared);
        if let Err(error) = self.active_mut().append(batch, header, interval_bytes) {
            if marker.is_some() {
                // Else the index names an abort that was not written. Recovery would see to it too.
                let _ = txn_index::truncate(&self.place, self.end.base, header.base_offset);
            }
            return Err(shared.judge(error));
        }
        self.end.offset = header.last_offset().next();
        self.end.position += header.size_bytes;
        self.epochs_changed |= std::mem::take(&mut self.epoch_is_unused);
        self.note_producer(header, marker, now);
        self.commit.active_dirty = true;
        self.commit.unsynced_bytes += header.size_bytes;
        self.shared.add_appended(header.size_bytes);
        self.list_dirty();
        Ok(())
    }

    /// Enters an abort into the transaction index, before its marker is in the log: what can fail
    /// comes first.
    pub(crate) fn index_abort(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndMarker>,
    ) -> Result<(), LogError> {
        if marker.is_none_or(|marker| marker.commit) {
            return Ok(());
        }
        let marker_offset = header.last_offset();
        let next = marker_offset.next();
        let Some((first_offset, stable)) = self.producers.ended_by(header.producer_id, next) else {
            return Ok(());
        };
        let aborted = AbortedTxn {
            producer_id: header.producer_id,
            first_offset,
            last_offset: marker_offset,
            last_stable_offset: stable,
        };
        let count = self.segments.partition_point(|segment| segment.base <= marker_offset);
        let segment = self.segments.get_mut(count.saturating_sub(1));
        let base = segment.map_or(self.end.base, |segment| {
            segment.has_aborts = true;
            segment.base
        });
        txn_index::append(&self.place, base, &aborted)?;
        self.commit.sealed_files.push(self.place.path(base, files::TXN_INDEX));
        let dir = self.place.dir.to_path_buf();
        self.shared.note(|dirty| {
            dirty.dirs.insert(dir);
        });
        Ok(())
    }

    /// Enters an appended batch into the producer state.
    pub(crate) fn note_producer(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndMarker>,
        now: TimestampMs,
    ) {
        let before = self.producers.len();
        match marker {
            Some(marker) => self.producers.add_marker(header, marker, now),
            None if header.is_control => {}
            None => self.producers.add(header, now),
        }
        self.shared.producers.bound(&mut self.producers, before);
    }

    fn list_dirty(&mut self) {
        if !self.commit.listed {
            self.commit.listed = true;
            let id = self.id;
            self.shared.note(|dirty| dirty.logs.push(id));
        }
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments.back().unwrap_or_else(|| unreachable!("a log has an active segment"))
    }

    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        self.segments.back_mut().unwrap_or_else(|| unreachable!("a log has an active segment"))
    }

    /// Seals the active segment and begins a new one at the log end.
    ///
    /// On an error the old segment goes on, and what was made of the new one is removed: the old one
    /// grows beyond `base`, where a start would take an empty segment for the end of the log.
    pub(crate) fn roll(&mut self, now: TimestampMs) -> Result<(), LogError> {
        let base = self.end.offset;
        debug_assert!(self.active().base < base, "an empty segment is not rolled");
        let shared = Arc::clone(&self.shared);
        let file = Arc::clone(self.active().active_file()?);
        let next = match self.prepare_roll(base, now) {
            Ok(next) => next,
            Err(error) => {
                self.note_dir();
                if let Err(left) = self.remove_segment_files(base) {
                    shared.fail(&left.to_string());
                }
                return Err(shared.judge(error));
            }
        };
        let sealed = self.active_mut();
        sealed.close_file();
        let indexes = [sealed.offsets.file().path(), sealed.times.file().path()];
        if std::mem::take(&mut self.commit.active_dirty) {
            self.commit.sealed.push(file);
        }
        self.commit.sealed_files.extend(indexes);
        self.segments.push_back(next);
        self.end = LogPosition { offset: base, base, position: 0 };
        self.note_dir();
        self.list_dirty();
        Ok(())
    }

    /// Files of the log have taken the place of others: the next checkpoint syncs them.
    pub(crate) fn note_new_files(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        self.commit.sealed_files.extend(paths);
        self.note_dir();
    }

    /// Files were made or removed: the next commit syncs the directory.
    pub(crate) fn note_dir(&self) {
        let dir = self.place.dir.to_path_buf();
        self.shared.note(|dirty| {
            dirty.dirs.insert(dir);
        });
    }

    fn prepare_roll(&mut self, base: Offset, now: TimestampMs) -> Result<Segment, LogError> {
        self.active_mut().seal()?;
        let is_large = self.producers.len() > SNAPSHOT_AT_ONCE_MAX;
        match is_large && self.commit.rolled.len() < ROLLED_MAX {
            true => self.begin_snapshot(base)?,
            false => self.write_snapshot(base)?,
        }
        Segment::create(&self.place, base, now)
    }

    /// As [`Log::write_snapshot`], but that the next commit orders the bytes and writes them: here they are copied.
    fn begin_snapshot(&mut self, offset: Offset) -> Result<(), LogError> {
        if self.snapshots.last() == Some(&offset) {
            return Ok(());
        }
        let write = self.snapshot_write(offset)?;
        self.commit.rolled.push(RolledSnapshot { offset, write });
        self.commit.sealed_files.push(self.place.path(offset, files::SNAPSHOT));
        self.note_snapshot(offset);
        Ok(())
    }

    /// A snapshot that was to be written with a commit found no room: recovery does without it.
    pub(crate) fn forget_snapshot(&mut self, unwritten: UnwrittenSnapshot) {
        let UnwrittenSnapshot { offset, generation } = unwritten;
        if generation == self.commit.generation {
            self.snapshots.retain(|known| *known != offset);
            self.remove_torn_snapshot(offset);
        }
    }

    /// Writes the producer state, which is that at `offset`, to its snapshot file. Not synced.
    pub(crate) fn write_snapshot(&mut self, offset: Offset) -> Result<(), LogError> {
        if self.snapshots.last() == Some(&offset) {
            // A checkpoint wrote it. To write it again would put at risk what is on disk already.
            return Ok(());
        }
        let path = self.place.path(offset, files::SNAPSHOT);
        let file = self.place.open(&path, OpenMode::Truncate)?;
        if let Err(error) = file.write_at(&producer_state::encode(&self.producers), 0) {
            self.remove_torn_snapshot(offset);
            return Err(LogError::io("write", &path, error));
        }
        self.commit.sealed_files.push(path);
        self.note_snapshot(offset);
        Ok(())
    }

    fn snapshot_write(&self, offset: Offset) -> Result<PendingWrite, LogError> {
        let path = self.place.path(offset, files::SNAPSHOT);
        let file = self.place.open(&path, OpenMode::Truncate)?;
        let bytes = producer_state::encode_unfinished(&self.producers);
        Ok(PendingWrite { file, position: 0, bytes, finish: Some(producer_state::finish) })
    }

    /// Removes what is left of a snapshot that found no room. If that fails too, a start does it.
    fn remove_torn_snapshot(&self, offset: Offset) {
        let _ = self.place.disk.remove(&self.place.path(offset, files::SNAPSHOT));
    }

    fn note_snapshot(&mut self, offset: Offset) {
        if self.snapshots.last() != Some(&offset) {
            self.snapshots.push(offset);
        }
    }

    /// Deletes all records below `before` (DeleteRecords). Returns the log start offset.
    ///
    /// Readers see it at once. It is durable with the next commit.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] beyond the synced offset.
    pub fn delete_records(&mut self, before: Offset, now: TimestampMs) -> Result<Offset, LogError> {
        self.shared.check()?;
        if before > self.synced.offset || before < Offset(0) {
            return Err(self.out_of_range(before));
        }
        if before > self.log_start {
            self.move_log_start(before);
            self.delete_segments_below_start(now)?;
        }
        Ok(self.log_start)
    }

    pub(crate) fn move_log_start(&mut self, start: Offset) {
        debug_assert!(start >= self.log_start && start <= self.end.offset, "log start moves on");
        self.log_start = start;
        self.epochs.truncate_from_start(start);
        self.epochs_changed = true;
        self.shared.note(|dirty| dirty.offsets = true);
    }

    /// Cuts everything from `offset` on. A batch that holds `offset` goes as a whole.
    ///
    /// Durable with the next commit; append nothing before that, as until then the recovery point on
    /// file may lie beyond the cut. What a commit says that was begun earlier is not taken in.
    ///
    /// # Errors
    /// If files cannot be cut; the directory is then offline.
    pub fn truncate(&mut self, offset: Offset) -> Result<(), LogError> {
        self.shared.check()?;
        if offset >= self.end.offset {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.cut_from(offset.max(self.log_start)).inspect_err(|error| {
            shared.fail(&error.to_string());
        })
    }

    fn cut_from(&mut self, offset: Offset) -> Result<(), LogError> {
        while self.segments.len() > 1 && self.active().base >= offset {
            if let Some(segment) = self.segments.pop_back() {
                self.remove_segment_files(segment.base)?;
            }
        }
        let segment = self.active_mut();
        let cut = segment.locate(offset)?.map(|found| (found.header.base_offset, found.position));
        let (base, size_bytes) = (segment.base, segment.size_bytes);
        let (next, position) = cut.unwrap_or((offset, size_bytes));
        segment.truncate(next, position)?;
        self.end = LogPosition { offset: next, base, position };
        let cut = txn_index::truncate(&self.place, base, next)?;
        self.commit.sealed_files.extend(cut);
        self.epochs.truncate_from_end(next);
        self.epochs.assign(self.leader_epoch, next);
        self.epochs_changed = true;
        if self.synced.offset > next {
            self.synced = self.end;
        }
        // The checkpoints on file may say that what comes here now needs no look.
        self.recovery_point = self.recovery_point.min(next);
        self.recovery_point_on_file = self.recovery_point_on_file.min(next);
        self.cleaned_to = self.cleaned_to.map(|cleaned_to| cleaned_to.min(next));
        // The batch in which the log began may be gone as a whole.
        self.log_start = self.log_start.min(next);
        let dir = self.place.dir.to_path_buf();
        self.shared.note(|dirty| {
            dirty.offsets = true;
            dirty.dirs.insert(dir);
        });
        self.commit.generation += 1;
        self.commit.active_dirty = true;
        self.clear_hints();
        self.list_dirty();
        recovery::reload_producers(self, None)
    }

    fn remove_segment_files(&mut self, base: Offset) -> Result<(), LogError> {
        let suffixes = [files::LOG, files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX];
        for suffix in suffixes {
            let path = self.place.path(base, suffix);
            match self.place.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LogError::io("remove", path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts the segments from `first` on as not synced, with all their files.
    pub(crate) fn mark_unsynced(&mut self, first: usize) -> Result<(), LogError> {
        let last = self.segments.len() - 1;
        for (at, segment) in self.segments.iter_mut().enumerate().skip(first) {
            if at < last {
                segment.close_file();
                self.commit.sealed.push(segment.reader()?);
                let indexes = [segment.offsets.file().path(), segment.times.file().path()];
                self.commit.sealed_files.extend(indexes);
            }
            self.commit.sealed_files.push(self.place.path(segment.base, files::TXN_INDEX));
        }
        self.commit.active_dirty = true;
        self.list_dirty();
        Ok(())
    }

    /// What a commit that begins now must sync.
    pub(crate) fn take_commit_work(&mut self) -> Result<CommitWork, LogError> {
        self.commit.listed = false;
        let mut files = std::mem::take(&mut self.commit.sealed);
        let mut appended = None;
        let from = self.commit.taken.replace(self.end);
        if std::mem::take(&mut self.commit.active_dirty) {
            let file = Arc::clone(self.active().active_file()?);
            let is_append = |from: &LogPosition| {
                from.base == self.end.base && from.position <= self.end.position
            };
            // Without a topic id a replay could not tell the log from a later one of its name.
            let can_tell = files.is_empty() && self.topic_id != Uuid::ZERO;
            appended = from.filter(is_append).filter(|_| can_tell).map(|from| journal::Appended {
                id: self.id,
                dir: Arc::clone(&self.place.dir),
                topic_id: self.topic_id,
                base: self.end.base,
                from: from.position,
                to: self.end.position,
                file: Arc::clone(&file),
            });
            files.push(file);
        }
        Ok(CommitWork {
            snapshots: std::mem::take(&mut self.commit.rolled),
            appended,
            files,
            end: self.end,
            generation: self.commit.generation,
            bytes: std::mem::take(&mut self.commit.unsynced_bytes),
        })
    }

    /// Notes that all below `end` is on disk. Returns whether the synced offset moved.
    pub(crate) fn set_synced(&mut self, end: LogPosition, generation: u64) -> bool {
        if generation != self.commit.generation || end.offset <= self.synced.offset {
            return false;
        }
        debug_assert!(end.offset <= self.end.offset, "synced beyond the log end");
        self.synced = end;
        self.producers.set_synced(end.offset);
        true
    }

    /// Whether a checkpoint would shorten recovery.
    pub(crate) fn needs_checkpoint(&self) -> bool {
        self.recovery_point < self.end.offset
    }

    /// Makes the indexes complete, before a clean stop.
    pub(crate) fn prepare_close(&mut self) -> Result<(), LogError> {
        self.epochs_changed |= std::mem::take(&mut self.epoch_is_unused);
        let active = self.active_mut();
        active.seal()?;
        active.trim_indexes()
    }

    /// Whether a clean stop must write something.
    pub(crate) fn needs_last_checkpoint(&self) -> bool {
        self.needs_checkpoint() || self.epochs_changed
    }

    /// What a checkpoint that begins now must write and sync, beside the commit of this log.
    ///
    /// All files are opened here, under the lock: by the time they are written another log may have
    /// this one's name.
    pub(crate) fn take_checkpoint_work(&mut self) -> Result<CheckpointWork, LogError> {
        let active = self.active();
        let done = CheckpointDone {
            end: self.end,
            generation: self.commit.generation,
            base: active.base,
            offsets_written: active.offsets.len(),
            times_written: active.times.len(),
        };
        let mut writes = Vec::new();
        if self.recovery_point < self.end.offset {
            writes = vec![active.offsets.pending()?, active.times.pending()?];
        }
        let (epochs_path, epochs) = self.epochs_file();
        let mut rename = None;
        if self.epochs_changed {
            let temporary = epochs_path.with_extension("tmp");
            let file = self.place.open(&temporary, OpenMode::Truncate)?;
            writes.push(PendingWrite { file, position: 0, bytes: epochs, finish: None });
            rename = Some((temporary, epochs_path));
        }
        let (mut snapshot, mut remove) = (None, Vec::new());
        if self.snapshots.last() != Some(&self.end.offset) {
            writes.push(self.snapshot_write(self.end.offset)?);
            snapshot = Some(self.end.offset);
            remove = self.stray_snapshots();
            self.note_snapshot(self.end.offset);
        }
        self.epochs_changed = false;
        let files = std::mem::take(&mut self.commit.sealed_files);
        let dir = Arc::clone(&self.place.dir);
        Ok(CheckpointWork { dir, writes, files, rename, snapshot, remove, done })
    }

    /// Takes a checkpoint back that found no room, so that the next one does it.
    pub(crate) fn restore_checkpoint(&mut self, work: CheckpointWork) {
        self.commit.sealed_files.extend(work.files);
        self.epochs_changed |= work.rename.is_some();
        let Some(snapshot) = work.snapshot else { return };
        if work.done.generation == self.commit.generation {
            self.snapshots.retain(|offset| *offset != snapshot);
            self.remove_torn_snapshot(snapshot);
        }
    }

    /// Takes out of the list the snapshots that stand at no segment's base, as Kafka does.
    fn stray_snapshots(&mut self) -> Vec<PathBuf> {
        let segments = &self.segments;
        let at_base =
            |offset: &Offset| segments.binary_search_by_key(offset, |segment| segment.base).is_ok();
        let (kept, stray): (Vec<Offset>, Vec<Offset>) =
            std::mem::take(&mut self.snapshots).into_iter().partition(at_base);
        self.snapshots = kept;
        stray.into_iter().map(|offset| self.place.path(offset, files::SNAPSHOT)).collect()
    }

    pub(crate) fn epochs_file(&self) -> (PathBuf, Vec<u8>) {
        let path = self.place.dir.join(files::LEADER_EPOCHS);
        (path, crate::checkpoint::encode_epochs(self.epochs.entries()))
    }

    /// Notes that a checkpoint is on disk.
    pub(crate) fn set_checkpoint(&mut self, done: &CheckpointDone) {
        if done.generation != self.commit.generation {
            return;
        }
        self.recovery_point = self.recovery_point.max(done.end.offset);
        let active = self.active_mut();
        if active.base == done.base {
            active.offsets.file().set_written(done.offsets_written);
            active.times.file().set_written(done.times_written);
        }
    }

    pub(crate) fn out_of_range(&self, offset: Offset) -> LogError {
        LogError::OffsetOutOfRange {
            offset,
            log_start_offset: self.log_start,
            log_end_offset: self.end.offset,
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The id of the topic; zero if the directory has no `partition.metadata`.
    #[must_use]
    pub const fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The first offset that is kept.
    #[must_use]
    pub const fn log_start_offset(&self) -> Offset {
        self.log_start
    }

    /// One past the last offset.
    #[must_use]
    pub const fn log_end_offset(&self) -> Offset {
        self.end.offset
    }

    /// One past the last offset that is on disk: the high watermark of a single node.
    #[must_use]
    pub const fn synced_offset(&self) -> Offset {
        self.synced.offset
    }

    /// The first offset that is not decided or not on disk: what `read_committed` reads up to.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        let unstable = self.producers.first_unstable().unwrap_or(self.synced.offset);
        unstable.min(self.synced.offset).max(self.log_start)
    }

    /// Up to where compaction has looked at each key; `None` if it was never here.
    #[must_use]
    pub const fn cleaned_to(&self) -> Option<Offset> {
        self.cleaned_to
    }

    /// The epoch given to new batches. It rises with each unclean start.
    #[must_use]
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The epoch an offset was, or would be, written under.
    #[must_use]
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.epoch_of(offset)
    }

    /// The largest epoch up to `epoch`, and the offset where it ends (OffsetForLeaderEpoch). `None`
    /// if `epoch` is later than any that is known; Kafka answers −1 and −1.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_of(epoch, self.end.offset)
    }

    /// Bytes in all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size_bytes).sum()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// How many idempotent producers are remembered.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// An idempotent producer, if it is remembered.
    #[must_use]
    pub fn producer(&self, id: ProducerId) -> Option<ProducerInfo> {
        self.producers.get(id)
    }

    /// The idempotent producers that are remembered, in no order.
    pub fn producers(&self) -> impl Iterator<Item = ProducerInfo> + '_ {
        self.producers.iter()
    }

    /// The producers with an open transaction, by where it begins.
    pub fn open_transactions(&self) -> impl Iterator<Item = ProducerInfo> + '_ {
        self.producers.open()
    }

    /// The largest id below `end` of the idempotent producers that are remembered.
    #[must_use]
    pub fn producer_id_max(&self, end: ProducerId) -> Option<ProducerId> {
        self.producers.id_max(end)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings. They hold from the next append, roll and retention check on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }
}
