//! Whether the indexes of a segment fit it, batch by batch.

use std::path::Path;

use weir_protocol::batch::BatchView;
use weir_protocol::{Offset, TimestampMs};

use crate::disk::Disk;
use crate::error::LogError;
use crate::files;
use crate::inspect::{OffsetIndexReader, SegmentFiles, TimeIndexReader};
use crate::{offset_index, time_index};

/// A sealed segment of this size has index entries, whatever `index.interval.bytes` is in practice.
const INDEXED_BYTES_MIN: u64 = 16 << 20;

/// What is known of a segment when its indexes are judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentState {
    /// Nothing is appended to it any more, or the directory was stopped cleanly: indexes are complete.
    pub(super) is_final: bool,
    /// Offsets may be missing, as the cleaner has been there.
    pub(super) is_cleaned: bool,
    /// Something in it is damaged.
    pub(super) has_damage: bool,
    /// Where its batches end.
    pub(super) end: u64,
}

/// Follows an offset index beside a walk over its segment.
#[derive(Debug)]
pub(super) struct OffsetIndexCheck {
    reader: OffsetIndexReader,
    base: Offset,
    current: Option<(Offset, u64)>,
    before: Option<(Offset, u64)>,
    entries: u64,
    is_padded: bool,
    problem: Option<String>,
}

impl OffsetIndexCheck {
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        segment: &SegmentFiles,
    ) -> Result<Self, LogError> {
        let mut check = Self {
            reader: OffsetIndexReader::open(disk, dir, segment.base)?,
            base: segment.base,
            current: None,
            before: None,
            entries: 0,
            is_padded: false,
            problem: size_problem(segment.offset_index_bytes, offset_index::ENTRY_BYTES),
        };
        check.advance(dir)?;
        Ok(check)
    }

    fn advance(&mut self, dir: &Path) -> Result<(), LogError> {
        self.before = self.current.or(self.before);
        self.current = self.reader.next_entry().map_err(|error| {
            LogError::io("read", files::at_offset(dir, self.base, files::OFFSET_INDEX), error)
        })?;
        let Some((offset, position)) = self.current else { return Ok(()) };
        if (offset, position) == (self.base, 0) {
            (self.is_padded, self.current) = (true, None);
            return Ok(());
        }
        self.entries += 1;
        let rises = self.before.is_none_or(|(o, p)| offset > o && position > p);
        if !rises {
            let n = self.entries;
            self.note(format!("entry {n} (offset {offset}, byte {position}) does not rise"));
            self.current = None;
        }
        Ok(())
    }

    fn note(&mut self, what: String) {
        self.problem.get_or_insert(what);
    }

    pub(super) fn batch(
        &mut self,
        dir: &Path,
        at: u64,
        batch: &BatchView<'_>,
    ) -> Result<(), LogError> {
        while let Some((offset, position)) = self.current.filter(|(_, position)| *position <= at) {
            let (n, last) = (self.entries, batch.last_offset());
            if position < at {
                self.note(format!("entry {n} points to byte {position}, where no batch begins"));
            } else if offset != last {
                self.note(format!(
                    "entry {n} has offset {offset} for byte {position}, the batch there ends with {last}"
                ));
            }
            self.advance(dir)?;
        }
        Ok(())
    }

    /// Passes over entries of bytes that are no batch.
    pub(super) fn skip(&mut self, dir: &Path, to: u64) -> Result<(), LogError> {
        while self.current.is_some_and(|(_, position)| position < to) {
            self.advance(dir)?;
        }
        Ok(())
    }

    /// What is wrong with the index, now that the segment has ended.
    pub(super) fn finish(self, state: SegmentState) -> Option<String> {
        if self.problem.is_some() {
            return self.problem;
        }
        if !state.is_final {
            return None;
        }
        if let Some((offset, position)) = self.current {
            let end = state.end;
            return Some(format!(
                "an entry (offset {offset}, byte {position}) points beyond the end at {end}"
            ));
        }
        if self.is_padded {
            return Some("it ends with entries of zeros".to_owned());
        }
        let is_empty = self.entries == 0 && state.end >= INDEXED_BYTES_MIN && !state.has_damage;
        is_empty.then(|| format!("it is empty, for {} bytes of log", state.end))
    }
}

/// Follows a time index beside a walk over its segment.
#[derive(Debug)]
pub(super) struct TimeIndexCheck {
    reader: TimeIndexReader,
    base: Offset,
    current: Option<(TimestampMs, Offset)>,
    before: Option<(TimestampMs, Offset)>,
    entries: u64,
    latest: TimestampMs,
    is_padded: bool,
    problem: Option<String>,
}

impl TimeIndexCheck {
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        segment: &SegmentFiles,
    ) -> Result<Self, LogError> {
        let mut check = Self {
            reader: TimeIndexReader::open(disk, dir, segment.base)?,
            base: segment.base,
            current: None,
            before: None,
            entries: 0,
            latest: TimestampMs(-1),
            is_padded: false,
            problem: size_problem(segment.time_index_bytes, time_index::ENTRY_BYTES),
        };
        check.advance(dir)?;
        Ok(check)
    }

    fn advance(&mut self, dir: &Path) -> Result<(), LogError> {
        self.before = self.current.or(self.before);
        self.current = self.reader.next_entry().map_err(|error| {
            LogError::io("read", files::at_offset(dir, self.base, files::TIME_INDEX), error)
        })?;
        let Some((timestamp, offset)) = self.current else { return Ok(()) };
        if (timestamp, offset) == (TimestampMs(0), self.base) {
            (self.is_padded, self.current) = (true, None);
            return Ok(());
        }
        self.entries += 1;
        let rises = self.before.is_none_or(|(t, o)| timestamp > t && offset >= o);
        if !rises || offset < self.base {
            let n = self.entries;
            self.note(format!("entry {n} (time {timestamp}, offset {offset}) does not rise"));
            self.current = None;
        }
        Ok(())
    }

    fn note(&mut self, what: String) {
        self.problem.get_or_insert(what);
    }

    pub(super) fn batch(
        &mut self,
        dir: &Path,
        batch: &BatchView<'_>,
        may_be_gone: bool,
    ) -> Result<(), LogError> {
        self.latest = self.latest.max(batch.max_timestamp());
        let (base, last) = (batch.base_offset(), batch.last_offset());
        while let Some((timestamp, offset)) = self.current.filter(|(_, offset)| *offset <= last) {
            let n = self.entries;
            if may_be_gone {
                // The cleaner may have taken the record that had it.
            } else if offset < base {
                self.note(format!("entry {n} has offset {offset}, which no batch has"));
            } else if timestamp != self.latest {
                let latest = self.latest;
                self.note(format!(
                    "entry {n} has time {timestamp} for offset {offset}, the latest up to there is {latest}"
                ));
            }
            self.advance(dir)?;
        }
        Ok(())
    }

    /// Passes over entries of offsets that cannot be read. What their times were is not known, so the
    /// entries behind are not judged.
    pub(super) fn skip_all(&mut self) {
        self.current = None;
    }

    /// What is wrong with the index, now that the segment has ended.
    pub(super) fn finish(self, state: SegmentState) -> Option<String> {
        if self.problem.is_some() || !state.is_final || state.has_damage {
            return self.problem;
        }
        if let Some((timestamp, offset)) = self.current {
            return Some(format!("an entry (time {timestamp}, offset {offset}) is beyond the end"));
        }
        let may_be_an_entry = self.before.is_none() && self.latest == TimestampMs(0);
        if self.is_padded {
            return (!may_be_an_entry).then(|| "it ends with entries of zeros".to_owned());
        }
        let last = self.before.map_or(TimestampMs(-1), |(timestamp, _)| timestamp);
        let lacks = last < self.latest && !state.is_cleaned;
        lacks.then(|| format!("its last time is {last}, the latest in the segment {}", self.latest))
    }
}

fn size_problem(bytes: Option<u64>, entry_bytes: usize) -> Option<String> {
    match bytes {
        None => Some("it is missing".to_owned()),
        Some(bytes) if bytes % entry_bytes as u64 != 0 => {
            Some(format!("its {bytes} bytes are no multiple of {entry_bytes}"))
        }
        Some(_) => None,
    }
}
