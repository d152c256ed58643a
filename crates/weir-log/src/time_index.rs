//! [`TimeIndex`]: from a time to an offset in the segment.
//!
//! An entry is 12 bytes: int64 timestamp, int32 offset minus the segment's base offset. It says: up
//! to this offset no batch has a later timestamp. Timestamps rise strictly. When a segment is sealed
//! or the log is closed, a last entry holds the segment's largest timestamp.

use weir_protocol::{Offset, TimestampMs};

use crate::error::LogError;
use crate::files;
use crate::index::{IndexFile, PendingWrite, Place};

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 12;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// The largest timestamp so far.
    pub(crate) timestamp: TimestampMs,
    /// The last offset of the batch that has it.
    pub(crate) offset: Offset,
}

/// The time index of one segment.
#[derive(Debug)]
pub(crate) struct TimeIndex {
    base: Offset,
    entries: IndexFile<ENTRY_BYTES>,
}

impl TimeIndex {
    pub(crate) fn new(place: Place, base: Offset, written: usize) -> Self {
        Self { base, entries: IndexFile::new(place, base, files::TIME_INDEX, written) }
    }

    pub(crate) fn file(&mut self) -> &mut IndexFile<ENTRY_BYTES> {
        &mut self.entries
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn pending(&self) -> Result<PendingWrite, LogError> {
        self.entries.pending()
    }

    /// Appends, unless the time is not later than the last: Kafka's `maybeAppend`.
    pub(crate) fn maybe_append(&mut self, entry: TimeEntry) -> Result<(), LogError> {
        // −1 is "none", as in a batch without timestamps.
        let last = self.last()?.map_or(TimestampMs(-1), |last| last.timestamp);
        if entry.timestamp > last {
            let relative = i32::try_from(entry.offset.get() - self.base.get()).unwrap_or(i32::MAX);
            let mut bytes = [0; ENTRY_BYTES];
            bytes[..8].copy_from_slice(&entry.timestamp.get().to_be_bytes());
            bytes[8..].copy_from_slice(&relative.to_be_bytes());
            self.entries.push(bytes);
        }
        Ok(())
    }

    pub(crate) fn last(&self) -> Result<Option<TimeEntry>, LogError> {
        Ok(self.entries.last()?.map(|entry| decode(self.base, &entry)))
    }

    /// The last entry at or before `timestamp`.
    pub(crate) fn lookup(&self, timestamp: TimestampMs) -> Result<Option<TimeEntry>, LogError> {
        let found =
            self.entries.last_where(|entry| decode(self.base, entry).timestamp <= timestamp)?;
        Ok(found.map(|entry| decode(self.base, &entry)))
    }

    /// How many leading entries rise strictly and lie below `offset`.
    pub(crate) fn valid_prefix(&self, offset: Offset) -> Result<usize, LogError> {
        let mut last =
            TimeEntry { timestamp: TimestampMs(-1), offset: Offset(self.base.get() - 1) };
        let entries = self.entries.read_all()?;
        let rises = |entry: &[u8; ENTRY_BYTES]| {
            let entry = decode(self.base, entry);
            let valid = entry.timestamp > last.timestamp
                && entry.offset > last.offset
                && entry.offset < offset;
            last = entry;
            valid
        };
        Ok(entries.iter().map(rises).take_while(|valid| *valid).count())
    }
}

pub(crate) fn decode(base: Offset, entry: &[u8; ENTRY_BYTES]) -> TimeEntry {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
    TimeEntry {
        timestamp: TimestampMs(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        offset: base.plus(i64::from(i32::from_be_bytes([i, j, k, l]))),
    }
}
