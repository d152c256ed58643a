//! [`TimeWalk`]: the batches that may have a record of a time, by their headers.
//!
//! The time index says from where on a record can be as late as that, not where it is: behind one record that is dated ahead
//! there is no entry until time has caught up, and that may be a whole segment. So the log only says where to begin, and the
//! walk needs no lock on it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use weir_protocol::{Offset, TimestampMs};

use super::read::{located_in, BatchAt};
use super::Log;
use crate::disk::DiskFile;
use crate::error::LogError;
use crate::header::HeaderWalk;
use crate::segment::{Located, Segment};

/// Segments that a walk has open. One is enough, but where compaction or a log start inside it took the record away.
const SEGMENTS_MAX: usize = 2;

/// A search by time that is still to be done.
#[derive(Debug, Clone, Default)]
pub struct TimeWalk {
    timestamp: TimestampMs,
    /// What ends before is not looked at.
    from: Offset,
    parts: VecDeque<Part>,
    beyond: Option<Offset>,
}

/// What is left of one segment.
#[derive(Debug, Clone)]
struct Part {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    position: u64,
    end: u64,
}

impl TimeWalk {
    /// Through one segment.
    pub(super) fn within(
        segment: &Segment,
        timestamp: TimestampMs,
        from: Offset,
    ) -> Result<Self, LogError> {
        let mut walk = Self { timestamp, from, ..Self::default() };
        walk.add(segment)?;
        Ok(walk)
    }

    fn add(&mut self, segment: &Segment) -> Result<(), LogError> {
        if let Some(position) = segment.time_position(self.timestamp, self.from)? {
            let (file, path) = (segment.reader()?, segment.path());
            self.parts.push_back(Part { file, path, position, end: segment.size_bytes });
        }
        Ok(())
    }

    /// The next batch that by its header has a record at or after the time. `None` if none is left, but see
    /// [`TimeWalk::beyond`].
    ///
    /// Cost: the headers up to it, of a whole segment at worst.
    ///
    /// # Errors
    /// If a file cannot be read; [`LogError::Damaged`] if there is no batch where one must be.
    pub fn next_batch(&mut self) -> Result<Option<BatchAt>, LogError> {
        while let Some(part) = self.parts.front_mut() {
            let mut walk = HeaderWalk::new(&*part.file, &part.path, part.position, part.end);
            while let Some((position, header)) = walk.next()? {
                let is_late = header.max_timestamp >= self.timestamp && header.record_count > 0;
                if is_late && header.last_offset() >= self.from {
                    part.position = position + header.size_bytes;
                    return Ok(Some(located_in(&part.file, &Located { position, header })));
                }
            }
            self.parts.pop_front();
        }
        Ok(None)
    }

    /// Where the next segment begins that may have such a record, if the walk does not come to it.
    #[must_use]
    pub const fn beyond(&self) -> Option<Offset> {
        self.beyond
    }
}

impl Log {
    /// Where to look for the first record at or after `timestamp`, from `from` or the log start on, whichever is later.
    ///
    /// Not bounded by the synced offset: compare [`BatchAt::base_offset`].
    ///
    /// Cost: the end of the time index of each segment up to the first that may have it, and two lookups there.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn time_walk(&self, timestamp: TimestampMs, from: Offset) -> Result<TimeWalk, LogError> {
        let from = from.max(self.log_start);
        let mut walk = TimeWalk { timestamp, from, ..TimeWalk::default() };
        let first = self.segments.partition_point(|segment| segment.base <= from);
        for segment in self.segments.iter().skip(first.saturating_sub(1)) {
            if segment.latest_or_later().timestamp < timestamp {
                continue;
            }
            if walk.parts.len() == SEGMENTS_MAX {
                walk.beyond = Some(segment.base);
                break;
            }
            walk.add(segment)?;
        }
        Ok(walk)
    }

    /// The first batch with a record at or after `timestamp`. `None` if all are older.
    ///
    /// Not bounded by the synced offset: compare [`BatchAt::base_offset`]. It walks as long as it takes; who has a lock
    /// takes [`Log::time_walk`].
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn offset_for_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<BatchAt>, LogError> {
        let mut from = self.log_start;
        loop {
            let mut walk = self.time_walk(timestamp, from)?;
            match (walk.next_batch()?, walk.beyond()) {
                (None, Some(beyond)) => from = beyond,
                (found, _) => return Ok(found),
            }
        }
    }
}
