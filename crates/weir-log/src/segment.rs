//! [`Segment`]: one `.log` file with its indexes.
//!
//! Batches stand back to back in the file, as the producer made them. The last segment of a log is
//! *active*: it grows, and its file stays open. The others are *sealed*; their files are opened when
//! somebody reads.

mod rebuild;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use weir_protocol::{Offset, TimestampMs};

use crate::config::LogConfig;
use crate::disk::{DiskFile, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::header::{BatchHeader, HeaderWalk};
use crate::index::Place;
use crate::offset_index::{self, OffsetEntry, OffsetIndex};
use crate::time_index::{self, TimeEntry, TimeIndex};

pub(crate) use rebuild::{IndexRebuild, RebuiltIndexes};

/// An offset index cannot point further, so a segment is never larger.
pub(crate) const SEGMENT_BYTES_LIMIT: u64 = i32::MAX as u64;

#[derive(Debug)]
pub(crate) struct Segment {
    place: Place,
    pub(crate) base: Offset,
    /// Bytes of whole batches in the file.
    pub(crate) size_bytes: u64,
    /// Open while the segment is active and has been used.
    file: OnceLock<Arc<dyn DiskFile>>,
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
    bytes_since_index_entry: u64,
    /// The largest timestamp so far and where; `None` until something is known of it.
    latest: Option<TimeEntry>,
    /// The largest timestamp of the first batch, from which `segment.ms` counts.
    first_timestamp: OnceLock<TimestampMs>,
    /// When this process made or opened it.
    created: TimestampMs,
    /// An index entry pointed to something that is not its batch; the index is not used any more.
    index_is_bad: AtomicBool,
    /// It could not be built again, as the segment itself is damaged.
    is_beyond_repair: bool,
    /// It has a transaction index with something in it; most have none.
    pub(crate) has_aborts: bool,
}

/// A batch in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl Segment {
    /// Makes the three files of a new, empty segment.
    pub(crate) fn create(place: &Place, base: Offset, now: TimestampMs) -> Result<Self, LogError> {
        let mut segment = Self::existing(place, base, 0, now);
        let path = segment.path();
        let file = place.open(&path, OpenMode::Truncate)?;
        segment.file = OnceLock::from(file);
        segment.offsets.file().create()?;
        segment.times.file().create()?;
        Ok(segment)
    }

    /// A segment whose `.log` file has `size_bytes`, with empty indexes; see
    /// [`Segment::set_index_sizes`].
    pub(crate) fn existing(place: &Place, base: Offset, size_bytes: u64, now: TimestampMs) -> Self {
        Self {
            place: place.clone(),
            base,
            size_bytes,
            file: OnceLock::new(),
            offsets: OffsetIndex::new(place.clone(), base, 0),
            times: TimeIndex::new(place.clone(), base, 0),
            bytes_since_index_entry: 0,
            latest: None,
            first_timestamp: OnceLock::new(),
            created: now,
            index_is_bad: AtomicBool::new(false),
            is_beyond_repair: false,
            has_aborts: false,
        }
    }

    /// Takes the index files as they are. One that is missing, or whose size cannot be, makes the
    /// index bad.
    pub(crate) fn set_index_sizes(
        &mut self,
        offset_index_bytes: Option<u64>,
        time_index_bytes: Option<u64>,
    ) {
        let entries = |bytes: Option<u64>, entry_bytes: usize| {
            let bytes = usize::try_from(bytes?).ok()?;
            bytes.is_multiple_of(entry_bytes).then_some(bytes / entry_bytes)
        };
        let offsets = entries(offset_index_bytes, offset_index::ENTRY_BYTES);
        let times = entries(time_index_bytes, time_index::ENTRY_BYTES);
        let is_bad = offsets.is_none() || times.is_none();
        let (place, base) = (&self.place, self.base);
        self.offsets = OffsetIndex::new(place.clone(), base, offsets.unwrap_or(0));
        self.times = TimeIndex::new(place.clone(), base, times.unwrap_or(0));
        self.index_is_bad.store(is_bad, Ordering::Relaxed);
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.path(self.base, files::LOG)
    }

    /// The open file of an active segment.
    pub(crate) fn active_file(&self) -> Result<&Arc<dyn DiskFile>, LogError> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = self.place.open(&self.path(), OpenMode::Existing)?;
        Ok(self.file.get_or_init(|| file))
    }

    /// A handle to read from.
    pub(crate) fn reader(&self) -> Result<Arc<dyn DiskFile>, LogError> {
        match self.file.get() {
            Some(file) => Ok(Arc::clone(file)),
            None => self.place.open(&self.path(), OpenMode::Existing),
        }
    }

    /// The clock was set: this process has known the segment for as long as before.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        self.created = self.created.plus_ms(by_ms);
    }

    /// Closes the file; readers that have it keep it.
    pub(crate) fn close_file(&mut self) {
        self.file = OnceLock::new();
    }

    /// Whether a batch does not belong here any more; Kafka's `LogSegment.shouldRoll`.
    pub(crate) fn should_roll(
        &self,
        batch_bytes: u64,
        batch_timestamp: TimestampMs,
        last_offset: Offset,
        roll: &RollLimits<'_>,
    ) -> Result<bool, LogError> {
        if self.size_bytes == 0 {
            return Ok(false);
        }
        let size_max = roll.config.segment_bytes_max.min(SEGMENT_BYTES_LIMIT);
        let index_bytes_max = usize::try_from(roll.config.segment_index_bytes_max).unwrap_or(0);
        let offsets_max = index_bytes_max / offset_index::ENTRY_BYTES;
        // One entry is kept free for the last one, which is written when the segment is sealed.
        let times_max = (index_bytes_max / time_index::ENTRY_BYTES).saturating_sub(1);
        Ok(self.size_bytes > size_max.saturating_sub(batch_bytes)
            || self.offsets.len() >= offsets_max
            || self.times.len() >= times_max
            || last_offset.get() - self.base.get() > i64::from(i32::MAX)
            || self.waited_ms(batch_timestamp, roll.now)? > roll.segment_ms)
    }

    /// How much later a batch is than the first one of the segment.
    fn waited_ms(&self, batch: TimestampMs, now: TimestampMs) -> Result<i64, LogError> {
        let first = self.first_timestamp()?;
        Ok(if first >= TimestampMs(0) { batch.since(first) } else { now.since(self.created) })
    }

    /// The largest timestamp of the first batch; −1 if there is none.
    pub(crate) fn first_timestamp(&self) -> Result<TimestampMs, LogError> {
        if let Some(first) = self.first_timestamp.get() {
            return Ok(*first);
        }
        let found = match self.locate(self.base) {
            // Readers are told when they come to it; appends go on behind it.
            Err(LogError::Damaged { .. }) => None,
            found => found?,
        };
        let first = found.map_or(TimestampMs(-1), |found| found.header.max_timestamp);
        Ok(*self.first_timestamp.get_or_init(|| first))
    }

    /// Appends one batch whose offsets are assigned. On an error nothing was appended, unless the
    /// error says that the directory is offline.
    ///
    /// Cost: one positioned write; per `index.interval.bytes` one entry in memory in each index.
    pub(crate) fn append(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        index_interval_bytes: u64,
    ) -> Result<u64, LogError> {
        let position = self.size_bytes;
        debug_assert!(header.base_offset >= self.base, "a batch below its segment's base");
        let file = self.active_file()?;
        if let Err(error) = file.write_at(batch, position) {
            // Some of it may be in the file; a clean stop would take it for data.
            return Err(match file.set_len(position) {
                Ok(()) => LogError::io("write", self.path(), error),
                Err(undo) => LogError::Io { action: "truncate", path: self.path(), source: undo },
            });
        }
        self.note(header, position, index_interval_bytes)?;
        Ok(position)
    }

    /// Enters a batch that stands at `position` into indexes and sums.
    pub(crate) fn note(
        &mut self,
        header: &BatchHeader,
        position: u64,
        index_interval_bytes: u64,
    ) -> Result<(), LogError> {
        let last_offset = header.last_offset();
        let _ = self.first_timestamp.get_or_init(|| header.max_timestamp);
        let latest = self.load_latest()?;
        // A batch that compaction has emptied has no record with its time.
        if header.max_timestamp > latest.timestamp && header.record_count > 0 {
            self.latest = Some(TimeEntry { timestamp: header.max_timestamp, offset: last_offset });
        }
        if self.bytes_since_index_entry > index_interval_bytes {
            self.offsets.append(OffsetEntry { offset: last_offset, position });
            self.times.maybe_append(self.latest.unwrap_or(latest))?;
            self.bytes_since_index_entry = 0;
        }
        self.bytes_since_index_entry += header.size_bytes;
        self.size_bytes = position + header.size_bytes;
        Ok(())
    }

    fn load_latest(&mut self) -> Result<TimeEntry, LogError> {
        match self.latest {
            Some(latest) => Ok(latest),
            None => {
                let latest = self.latest()?;
                self.latest = Some(latest);
                Ok(latest)
            }
        }
    }

    /// The largest timestamp, and the last offset of the batch that has it.
    pub(crate) fn latest(&self) -> Result<TimeEntry, LogError> {
        let none = TimeEntry { timestamp: TimestampMs(-1), offset: self.base };
        match self.latest {
            Some(latest) => Ok(latest),
            None => Ok(self.times.last()?.unwrap_or(none)),
        }
    }

    /// How old its youngest record is. Without timestamps: how long this process knows it.
    pub(crate) fn age_ms(&self, now: TimestampMs) -> i64 {
        let latest = self.latest_or_later().timestamp;
        now.since(if latest >= TimestampMs(0) { latest } else { self.created })
    }

    /// As [`Segment::latest`]; without a readable time index, later than anything, so that the segment
    /// is looked into and not deleted.
    pub(crate) fn latest_or_later(&self) -> TimeEntry {
        self.latest().unwrap_or_else(|_| {
            self.index_is_bad.store(true, Ordering::Relaxed);
            TimeEntry { timestamp: TimestampMs(i64::MAX), offset: self.base }
        })
    }

    /// Makes the indexes complete on file, with the last entry of the time index. Not synced.
    pub(crate) fn seal(&mut self) -> Result<(), LogError> {
        let latest = self.load_latest()?;
        self.times.maybe_append(latest)?;
        self.offsets.file().flush()?;
        self.times.file().flush()
    }

    /// Cuts off what the index files hold beyond their entries, before a clean stop.
    pub(crate) fn trim_indexes(&mut self) -> Result<(), LogError> {
        self.offsets.file().trim()?;
        self.times.file().trim()
    }

    /// The first batch whose last offset is at least `offset`. `None` if all end before.
    pub(crate) fn locate(&self, offset: Offset) -> Result<Option<Located>, LogError> {
        let path = self.path();
        let file = self.reader()?;
        let mut from = 0;
        if let Some(entry) = self.lookup(|offsets| offsets.lookup(offset))? {
            if self.is_batch_of(&*file, &entry) {
                from = entry.position;
            }
        }
        let mut walk = HeaderWalk::new(&*file, &path, from, self.size_bytes);
        while let Some((position, header)) = walk.next()? {
            if header.last_offset() >= offset {
                return Ok(Some(Located { position, header }));
            }
        }
        Ok(None)
    }

    /// The last batch boundary that is after `from` and not after `limit`, with the offset that
    /// follows it. If the first batch reaches beyond `limit`, where that one ends.
    pub(crate) fn boundary(
        &self,
        from: u64,
        limit: u64,
        end: u64,
    ) -> Result<(u64, Offset), LogError> {
        let path = self.path();
        let file = self.reader()?;
        let mut start = from;
        if let Some(entry) = self.lookup(|offsets| offsets.lookup_position(limit))? {
            if entry.position > from && self.is_batch_of(&*file, &entry) {
                start = entry.position;
            }
        }
        let mut walk = HeaderWalk::new(&*file, &path, start, end);
        let mut found = None;
        while let Some((position, header)) = walk.next()? {
            let batch_end = position + header.size_bytes;
            if batch_end > limit {
                if position == from {
                    found = Some((batch_end, header.last_offset().next()));
                } else if found.is_none() {
                    found = Some((position, header.base_offset));
                }
                break;
            }
            found = Some((batch_end, header.last_offset().next()));
        }
        found.ok_or_else(|| LogError::Damaged {
            path: path.clone(),
            position: from,
            what: "there is no batch where one must be".to_owned(),
        })
    }

    /// Where a batch begins, about `bytes` before the one that holds `offset`, and how many bytes lie
    /// between. As exact as the index is: an entry for each `index.interval.bytes`.
    pub(crate) fn position_before(
        &self,
        offset: Offset,
        bytes: u64,
    ) -> Result<(u64, u64), LogError> {
        let file = self.reader()?;
        let Some(near) = self.lookup(|offsets| offsets.lookup(offset))? else { return Ok((0, 0)) };
        let wanted = near.position.saturating_sub(bytes);
        let entry = self.lookup(|offsets| offsets.lookup_position(wanted))?;
        let start = entry.filter(|entry| self.is_batch_of(&*file, entry));
        let start = start.map_or(0, |entry| entry.position);
        Ok((start, near.position.saturating_sub(start)))
    }

    /// Whether a batch begins at `position`, or could: the headers from the last index entry before it
    /// lead there.
    pub(crate) fn is_boundary(&self, position: u64) -> Result<bool, LogError> {
        let (path, file) = (self.path(), self.reader()?);
        let entry = self.lookup(|offsets| offsets.lookup_position(position))?;
        let entry = entry.filter(|entry| self.is_batch_of(&*file, entry));
        let from = entry.map_or(0, |entry| entry.position);
        let mut walk = HeaderWalk::new(&*file, &path, from, position);
        loop {
            match walk.next() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(true),
                Err(LogError::Damaged { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// From where on there may be a batch, not ending before `from`, with a timestamp of at least `timestamp`.
    pub(crate) fn time_position(
        &self,
        timestamp: TimestampMs,
        from: Offset,
    ) -> Result<Option<u64>, LogError> {
        // The entry says: up to that offset nothing is later than its time.
        let before = match self.times.lookup(timestamp.plus_ms(-1)) {
            Ok(entry) => entry.map_or(self.base, |entry| entry.offset),
            // A missing or short index costs time, not data.
            Err(LogError::Io { .. }) => self.base,
            Err(error) => return Err(error),
        };
        Ok(self.locate(before.max(from))?.map(|start| start.position))
    }

    /// Whether an index is missing, or was found to lie.
    pub(crate) fn index_is_bad(&self) -> bool {
        self.index_is_bad.load(Ordering::Relaxed)
    }

    fn lookup(
        &self,
        find: impl Fn(&OffsetIndex) -> Result<Option<OffsetEntry>, LogError>,
    ) -> Result<Option<OffsetEntry>, LogError> {
        if self.index_is_bad() {
            return Ok(None);
        }
        match find(&self.offsets) {
            // A missing or short index costs time, not data: the walk begins at the front.
            Err(LogError::Io { .. }) => {
                self.index_is_bad.store(true, Ordering::Relaxed);
                Ok(None)
            }
            found => found,
        }
    }

    /// Indexes have no checksum, so an entry is believed only if its batch is there.
    fn is_batch_of(&self, file: &dyn DiskFile, entry: &OffsetEntry) -> bool {
        let path = self.path();
        let mut walk = HeaderWalk::new(file, &path, entry.position, self.size_bytes);
        let is_there = matches!(
            walk.next(),
            Ok(Some((_, header))) if header.last_offset() == entry.offset
        );
        if !is_there {
            self.index_is_bad.store(true, Ordering::Relaxed);
        }
        is_there
    }

    /// Reads on from the last index entry to the end of the file: what a clean start needs to know
    /// of the active segment. Returns the offset after the last batch.
    pub(crate) fn load_tail(&mut self) -> Result<Offset, LogError> {
        self.offsets.file().load_last()?;
        let from = match self.offsets.last()? {
            Some(entry) => {
                let file = self.reader()?;
                if !self.is_batch_of(&*file, &entry) {
                    return Err(LogError::Damaged {
                        path: self.path(),
                        position: entry.position,
                        what: "the last index entry does not point to a batch".to_owned(),
                    });
                }
                entry.position
            }
            None => 0,
        };
        self.times.file().load_last()?;
        self.latest = None;
        self.walk_tail(from, self.size_bytes)
    }

    /// Takes the headers from the last index entry to `end` into the sums. Returns the offset after
    /// the last of them.
    fn walk_tail(&mut self, from: u64, end: u64) -> Result<Offset, LogError> {
        let mut next = self.base;
        let mut latest = self.load_latest()?;
        let path = self.path();
        if from < end {
            let file = self.reader()?;
            let mut walk = HeaderWalk::new(&*file, &path, from, end);
            while let Some((_, header)) = walk.next()? {
                next = header.last_offset().next();
                if header.max_timestamp > latest.timestamp && header.record_count > 0 {
                    latest = TimeEntry { timestamp: header.max_timestamp, offset: next.plus(-1) };
                }
            }
        }
        self.latest = Some(latest);
        self.bytes_since_index_entry = end - from;
        Ok(next)
    }

    /// Forgets index entries of what lies at or after `offset` and `position`, and any that cannot
    /// be.
    pub(crate) fn cut_indexes(&mut self, offset: Offset, position: u64) -> Result<(), LogError> {
        let count = self.offsets.valid_prefix(offset, position).unwrap_or(0);
        self.offsets.file().truncate(count)?;
        let count = self.times.valid_prefix(offset).unwrap_or(0);
        self.times.file().truncate(count)?;
        self.latest = None;
        // From here on an append needs no reads, so that nothing can fail between file and indexes.
        self.offsets.file().load_last()?;
        self.times.file().load_last()?;
        self.index_is_bad.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the segment end at `position`, where a batch ends: indexes and sums know what lies
    /// before, and nothing else. The file is not touched.
    pub(crate) fn end_at(&mut self, offset: Offset, position: u64) -> Result<(), LogError> {
        self.cut_indexes(offset, position)?;
        let from = self.offsets.last()?.map_or(0, |entry| entry.position);
        self.walk_tail(from, position)?;
        self.size_bytes = position;
        Ok(())
    }

    /// Cuts the file to `position`, which is the end of a batch, and the indexes with it.
    pub(crate) fn truncate(&mut self, offset: Offset, position: u64) -> Result<(), LogError> {
        let path = self.path();
        self.active_file()?
            .set_len(position)
            .map_err(|error| LogError::io("truncate", path, error))?;
        self.first_timestamp = OnceLock::new();
        self.end_at(offset, position)
    }

    /// Builds both indexes again from the headers of the batches, on file.
    pub(crate) fn rebuild_indexes(&mut self, index_interval_bytes: u64) -> Result<(), LogError> {
        let size_bytes = self.size_bytes;
        self.offsets.file().create()?;
        self.times.file().create()?;
        (self.latest, self.bytes_since_index_entry) = (None, 0);
        let path = self.path();
        let file = self.reader()?;
        let mut walk = HeaderWalk::new(&*file, &path, 0, size_bytes);
        while let Some((position, header)) = walk.next()? {
            self.note(&header, position, index_interval_bytes)?;
        }
        self.index_is_bad.store(false, Ordering::Relaxed);
        self.seal()?;
        // No checkpoint comes back to what is below its recovery point.
        self.sync_indexes()?;
        let dir = &*self.place.dir;
        self.place.disk.sync_dir(dir).map_err(|error| LogError::io("sync", dir, error))
    }

    /// A sealed segment has the time of its last record in its time index at least, unless that has none. One without an
    /// entry was emptied: it would be passed over when a time is looked for, and never grow old.
    pub(crate) fn distrust_emptied_times(&mut self) {
        if self.size_bytes > 0 && self.times.len() == 0 {
            self.index_is_bad.store(true, Ordering::Relaxed);
        }
    }
}

/// What decides when a segment is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RollLimits<'a> {
    pub(crate) config: &'a LogConfig,
    /// `segment.ms` less the jitter.
    pub(crate) segment_ms: i64,
    pub(crate) now: TimestampMs,
}
