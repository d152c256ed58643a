//! Retention: which segments go, and how.
//!
//! Only whole segments are deleted, oldest first, and only below the synced offset. Their files are
//! renamed `.deleted` at once, so that a restart does not find them, and removed after
//! `file.delete.delay.ms`; readers that have one open keep it. Follows Kafka's
//! `UnifiedLog.deleteOldSegments`.

use std::io;
use std::path::PathBuf;

use weir_protocol::{Offset, TimestampMs};

use crate::error::LogError;
use crate::files;
use crate::log::Log;

impl Log {
    /// Deletes segments over `retention.ms` or `retention.bytes`, or wholly below the log start.
    /// Returns how many.
    pub(crate) fn enforce_retention(&mut self, now: TimestampMs) -> Result<usize, LogError> {
        let mut deleted = 0;
        if self.config.cleanup_delete {
            let expired = self.expired_segments(now);
            deleted += self.delete_oldest(expired, now)?;
            let surplus = self.surplus_segments();
            deleted += self.delete_oldest(surplus, now)?;
        }
        Ok(deleted + self.delete_segments_below_start(now)?)
    }

    /// How many of the oldest segments hold only records older than `retention.ms`.
    fn expired_segments(&self, now: TimestampMs) -> usize {
        let Some(retention_ms) = self.config.retention_ms else { return 0 };
        let deletable = self.segments.iter().take(self.deletable_segments());
        deletable.take_while(|segment| segment.age_ms(now) > retention_ms).count()
    }

    /// How many of the oldest segments are more than `retention.bytes` needs.
    fn surplus_segments(&self) -> usize {
        let Some(bytes_max) = self.config.retention_bytes_max else { return 0 };
        let mut surplus = self.size_bytes().saturating_sub(bytes_max);
        let mut count = 0;
        for segment in self.segments.iter().take(self.deletable_segments()) {
            match surplus.checked_sub(segment.size_bytes) {
                Some(left) => surplus = left,
                None => break,
            }
            count += 1;
        }
        count
    }

    /// How many of the oldest segments are wholly below the synced offset; not the active one if it is
    /// empty.
    fn deletable_segments(&self) -> usize {
        let next_bases = self.segments.iter().skip(1).map(|segment| segment.base);
        let ends = next_bases.chain([self.end.offset]);
        let mut pairs = self.segments.iter().zip(ends);
        pairs
            .position(|(segment, end)| segment.base == end || end > self.synced.offset)
            .unwrap_or(self.segments.len())
    }

    pub(crate) fn delete_segments_below_start(
        &mut self,
        now: TimestampMs,
    ) -> Result<usize, LogError> {
        let below =
            self.segments.iter().skip(1).take_while(|next| next.base <= self.log_start).count();
        self.delete_oldest(below.min(self.deletable_segments()), now)
    }

    fn delete_oldest(&mut self, count: usize, now: TimestampMs) -> Result<usize, LogError> {
        let mut count = count;
        if count > 0 && count == self.segments.len() {
            // A log keeps an active segment, and its name keeps the log end.
            match self.roll(now) {
                // The others make room.
                Err(LogError::DiskFull { .. }) => count -= 1,
                outcome => outcome?,
            }
        }
        if count == 0 {
            return Ok(0);
        }
        for _ in 0..count {
            let Some(base) = self.segments.front().map(|segment| segment.base) else { break };
            self.bury_log(base, now)?;
            // From here on it cannot be read, whatever becomes of its other files.
            self.segments.pop_front();
            let start = self.segments.front().map_or(self.end.offset, |segment| segment.base);
            if start > self.log_start {
                self.move_log_start(start);
            }
            self.bury_rest(base, now)?;
        }
        self.clear_hints();
        let start = self.segments.front().map_or(self.end.offset, |segment| segment.base);
        let snapshots = std::mem::take(&mut self.snapshots);
        let (old, kept): (Vec<Offset>, Vec<Offset>) =
            snapshots.into_iter().partition(|offset| *offset < start);
        self.snapshots = kept;
        for offset in old {
            self.bury_file(self.place.path(offset, files::SNAPSHOT), now)?;
        }
        Ok(count)
    }

    /// Renames the files of a segment, the log first: without it the others mean nothing.
    pub(crate) fn bury(&mut self, base: Offset, now: TimestampMs) -> Result<(), LogError> {
        self.bury_log(base, now)?;
        self.bury_rest(base, now)
    }

    fn bury_log(&mut self, base: Offset, now: TimestampMs) -> Result<(), LogError> {
        self.bury_file(self.place.path(base, files::LOG), now)?;
        self.note_dir();
        Ok(())
    }

    fn bury_rest(&mut self, base: Offset, now: TimestampMs) -> Result<(), LogError> {
        let suffixes = [files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX];
        suffixes
            .into_iter()
            .try_for_each(|suffix| self.bury_file(self.place.path(base, suffix), now))
    }

    fn bury_file(&mut self, path: PathBuf, now: TimestampMs) -> Result<(), LogError> {
        let mut to = path.clone().into_os_string();
        to.push(".");
        to.push(files::DELETED);
        let to = PathBuf::from(to);
        match self.place.disk.rename(&path, &to) {
            Ok(()) => {
                self.graveyard.push((now.plus_ms(self.config.file_delete_delay_ms), to));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.shared.judge(LogError::io("rename", path, error))),
        }
    }
}
