//! Reading: by offset, by time, and the aborted transactions in between.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use weir_protocol::{LeaderEpoch, Offset, TimestampMs};

use super::time_walk::TimeWalk;
use super::Log;
use crate::disk::DiskFile;
use crate::error::LogError;
use crate::header::HeaderWalk;
use crate::segment::{Located, Segment};
use crate::slice::FileSlice;
use crate::txn_index::{self, AbortedTxn};

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct ReadResult {
    /// Whole batches in the order of their offsets; none if there is nothing below the bound. The
    /// first may begin before the offset asked for, as a batch is not split.
    pub slices: Vec<FileSlice>,
    /// The sum of their lengths.
    pub size_bytes: usize,
    /// Where to go on: one past the last offset in `slices`, or the offset asked for.
    pub next_offset: Offset,
}

/// A batch found by time. The record asked for is inside; the caller looks for it.
#[derive(Debug, Clone)]
pub struct BatchAt {
    /// The one batch.
    pub slice: FileSlice,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its largest timestamp.
    pub max_timestamp: TimestampMs,
    /// The leader epoch it was written under.
    pub leader_epoch: LeaderEpoch,
}

/// Where recent reads ended, so that one that goes on there needs no index.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    entries: [Option<Hint>; HINTS],
    next: usize,
}

/// Sequential readers of one log that are served without a lookup.
const HINTS: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Hint {
    offset: Offset,
    base: Offset,
    position: u64,
}

impl Log {
    /// Whole batches from the one that holds `offset` on (or the next one, where compaction left a
    /// gap), at most `bytes_max`; the first is returned even if it is larger.
    ///
    /// `up_to` is exclusive: [`Log::synced_offset`], so that readers see only what a power cut
    /// cannot take back, or [`Log::last_stable_offset`]. A batch that reaches beyond is left out.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] below the log start or beyond the log end;
    /// [`LogError::Damaged`] if there is no batch where one must be.
    pub fn read(
        &self,
        offset: Offset,
        bytes_max: usize,
        up_to: Offset,
    ) -> Result<ReadResult, LogError> {
        if offset < self.log_start || offset > self.end.offset {
            return Err(self.out_of_range(offset));
        }
        let up_to = up_to.min(self.end.offset);
        let mut result = ReadResult { next_offset: offset, ..ReadResult::default() };
        let first = self.segments.partition_point(|segment| segment.base <= offset);
        for (at, segment) in self.segments.iter().enumerate().skip(first.saturating_sub(1)) {
            let left = bytes_max.saturating_sub(result.size_bytes);
            if result.next_offset >= up_to || (left == 0 && !result.slices.is_empty()) {
                break;
            }
            let end = self.end_in(at, segment, up_to)?;
            let wanted = Wanted { left, end, is_first: result.slices.is_empty() };
            if !Self::read_segment(self, segment, &wanted, &mut result)? {
                break;
            }
        }
        // Only compaction leaves the last offsets without a batch. Else one has rotted, and a reader would wait for ever.
        let has_no_gaps = !self.config.cleanup_compact && self.cleaned_to.is_none();
        if result.slices.is_empty() && offset < up_to && up_to == self.synced.offset && has_no_gaps
        {
            let segment = self.segments.get(first.saturating_sub(1)).unwrap_or(self.active());
            let what = format!("no batch has an offset from {offset} to {up_to}");
            return Err(LogError::Damaged { path: segment.path(), position: 0, what });
        }
        Ok(result)
    }

    /// Adds what is wanted of one segment. Returns whether the next one may follow.
    fn read_segment(
        &self,
        segment: &Segment,
        wanted: &Wanted,
        result: &mut ReadResult,
    ) -> Result<bool, LogError> {
        let offset = result.next_offset;
        let start = match self.hint(offset, segment.base) {
            Some(position) => position,
            None => match segment.locate(offset)? {
                Some(found) => found.position,
                None if self.must_hold(segment, offset) => {
                    let what = format!("no batch has offset {offset}");
                    return Err(LogError::Damaged { path: segment.path(), position: 0, what });
                }
                // Compaction took the end of this segment away.
                None => return Ok(true),
            },
        };
        if start >= wanted.end.0 {
            // Behind its last batch compaction may have left a gap; what follows is in the next one.
            return Ok(start >= segment.size_bytes);
        }
        let limit = start.saturating_add(wanted.left as u64);
        let (end, next_offset) = if wanted.end.0 <= limit {
            wanted.end
        } else {
            segment.boundary(start, limit, wanted.end.0)?
        };
        if end > limit && !wanted.is_first {
            return Ok(false);
        }
        if next_offset <= offset {
            // A base offset has rotted, which no CRC covers. A reader would ask for the same again, for ever.
            let what = format!("what holds offset {offset} says that {next_offset} follows");
            return Err(LogError::Damaged { path: segment.path(), position: start, what });
        }
        let len_bytes = usize::try_from(end - start).unwrap_or(usize::MAX);
        result.slices.push(FileSlice { file: segment.reader()?, position: start, len_bytes });
        result.size_bytes = result.size_bytes.saturating_add(len_bytes);
        result.next_offset = next_offset;
        self.keep_hint(Hint { offset: next_offset, base: segment.base, position: end });
        Ok(end == segment.size_bytes)
    }

    /// Whether an offset must be in a segment: nothing is taken out of the active one.
    fn must_hold(&self, segment: &Segment, offset: Offset) -> bool {
        segment.base == self.end.base
            && segment.size_bytes > 0
            && (segment.base..self.end.offset).contains(&offset)
    }

    /// Where in a segment a read up to `up_to` ends, and the offset that follows.
    fn end_in(
        &self,
        at: usize,
        segment: &Segment,
        up_to: Offset,
    ) -> Result<(u64, Offset), LogError> {
        for known in [self.synced, self.end] {
            if known.offset == up_to && known.base == segment.base {
                return Ok((known.position, up_to));
            }
        }
        let next_base = self.segments.get(at + 1).map(|next| next.base);
        match next_base {
            Some(base) if base <= up_to => Ok((segment.size_bytes, base)),
            _ => Ok(match segment.locate(up_to)? {
                Some(found) => (found.position, found.header.base_offset),
                None => (segment.size_bytes, up_to),
            }),
        }
    }

    fn hint(&self, offset: Offset, base: Offset) -> Option<u64> {
        let hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = hints.entries.iter().flatten();
        entries.find(|hint| hint.offset == offset && hint.base == base).map(|hint| hint.position)
    }

    fn keep_hint(&self, hint: Hint) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let next = hints.next;
        hints.entries[next] = Some(hint);
        hints.next = (next + 1) % HINTS;
    }

    pub(crate) fn clear_hints(&mut self) {
        *self.hints.get_mut().unwrap_or_else(PoisonError::into_inner) = Hints::default();
    }

    /// The batches that may have the largest timestamp of the records from the log start on. Finding
    /// out which does is left to [`MaxTimestamp::find`], which needs no lock on the log.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn max_timestamp(&self) -> Result<MaxTimestamp, LogError> {
        let mut max = MaxTimestamp::default();
        let mut best: Option<(TimestampMs, &Segment, Offset)> = None;
        for segment in self.segments.iter().filter(|segment| segment.size_bytes > 0) {
            let latest = segment.latest_or_later();
            let mut from = self.log_start;
            if segment.base < self.log_start {
                let Some(located) = segment.locate(self.log_start)? else { continue };
                let mut position = located.position;
                if located.header.base_offset < self.log_start {
                    max.first = Some(Self::batch_at(segment, &located)?);
                    from = located.header.last_offset().next();
                    position += located.header.size_bytes;
                }
                if latest.offset < from {
                    // The indexes tell of a record that is gone.
                    let (file, path) = (segment.reader()?, segment.path());
                    max.unread = Some(Unread { file, path, position, end: segment.size_bytes });
                    continue;
                }
            }
            if best.is_none_or(|(timestamp, ..)| latest.timestamp > timestamp) {
                best = Some((latest.timestamp, segment, from));
            }
        }
        if let Some((timestamp, segment, from)) = best {
            max.whole = Some(TimeWalk::within(segment, timestamp, from)?);
        }
        Ok(max)
    }

    fn batch_at(segment: &Segment, found: &Located) -> Result<BatchAt, LogError> {
        Ok(located_in(&segment.reader()?, found))
    }

    /// The aborted transactions that overlap `[from, up_to)`.
    ///
    /// Cost: a binary search in each transaction index that is looked at, and the records from there
    /// to the first that was written when all before `up_to` was decided. Segments in which nothing was
    /// aborted cost nothing.
    ///
    /// # Errors
    /// If a transaction index cannot be read.
    pub fn aborted_txns(&self, from: Offset, up_to: Offset) -> Result<Vec<AbortedTxn>, LogError> {
        let mut found = Vec::new();
        let first = self.segments.partition_point(|segment| segment.base <= from);
        let segments = self.segments.iter().skip(first.saturating_sub(1));
        for segment in segments.filter(|segment| segment.has_aborts) {
            let is_all =
                txn_index::overlapping(&self.place, segment.base, from, up_to, &mut found)?;
            if is_all {
                break;
            }
        }
        Ok(found)
    }
}

/// Where the largest timestamp of a log may be.
#[derive(Debug, Default)]
pub struct MaxTimestamp {
    /// The batch in which the log starts, if it begins before. Its header also tells of records that
    /// are gone.
    first: Option<BatchAt>,
    /// Where the first batch with the largest timestamp is, of those whose indexes could be asked.
    whole: Option<TimeWalk>,
    /// Batches before it whose headers must be read.
    unread: Option<Unread>,
}

/// The end of the segment in which the log starts.
#[derive(Debug)]
struct Unread {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    position: u64,
    end: u64,
}

impl MaxTimestamp {
    /// The batch in which the log starts, if it begins before, and the first with the largest
    /// timestamp of all after it.
    ///
    /// Cost: usually a few headers; of a whole segment after [`Log::delete_records`], or behind a record that is dated ahead.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn find(&self) -> Result<[Option<BatchAt>; 2], LogError> {
        let whole = self.whole.clone().map(|mut walk| walk.next_batch()).transpose()?.flatten();
        let Some(unread) = &self.unread else {
            return Ok([self.first.clone(), whole]);
        };
        let mut best: Option<Located> = None;
        let mut walk = HeaderWalk::new(&*unread.file, &unread.path, unread.position, unread.end);
        while let Some((position, header)) = walk.next()? {
            let is_later = |best: &Located| header.max_timestamp > best.header.max_timestamp;
            if header.record_count > 0 && best.as_ref().is_none_or(is_later) {
                best = Some(Located { position, header });
            }
        }
        let best = best.map(|found| located_in(&unread.file, &found));
        let whole = match (best, whole) {
            (Some(best), Some(whole)) if best.max_timestamp < whole.max_timestamp => Some(whole),
            (best, whole) => best.or(whole),
        };
        Ok([self.first.clone(), whole])
    }
}

pub(super) fn located_in(file: &Arc<dyn DiskFile>, found: &Located) -> BatchAt {
    let header = &found.header;
    BatchAt {
        slice: FileSlice {
            file: Arc::clone(file),
            position: found.position,
            len_bytes: usize::try_from(header.size_bytes).unwrap_or(usize::MAX),
        },
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        max_timestamp: header.max_timestamp,
        leader_epoch: header.leader_epoch,
    }
}

/// What of a segment is wanted.
#[derive(Debug)]
struct Wanted {
    /// Bytes that may still be taken.
    left: usize,
    /// Where the bound lies in this segment, and the offset there.
    end: (u64, Offset),
    /// Nothing was taken yet, so the first batch is taken whatever its size.
    is_first: bool,
}
