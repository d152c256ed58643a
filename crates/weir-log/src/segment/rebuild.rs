//! Building the indexes of a segment again, beside the bad ones and without a lock.
//!
//! The new files have names of their own ([`files::REBUILT`]) until they are whole and synced; then
//! they take the place of the old ones, which is two renames. A segment that grew meanwhile only needs
//! the headers of what is new.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use weir_protocol::{Offset, TimestampMs};

use super::Segment;
use crate::disk::{DiskFile, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::header::HeaderWalk;
use crate::index::Place;

/// Indexes that are to be built.
#[derive(Debug)]
pub(crate) struct IndexRebuild {
    place: Place,
    pub(crate) base: Offset,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    pub(crate) size_bytes: u64,
    index_interval_bytes: u64,
    now: TimestampMs,
}

/// Indexes that were built and synced, under other names than the segment's.
#[derive(Debug)]
pub(crate) struct RebuiltIndexes {
    /// A segment of the same bytes that has them.
    twin: Segment,
}

impl IndexRebuild {
    /// Reads the headers of the segment. Blocks.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if the segment itself is; what the disk says else. What was made is left
    /// to [`IndexRebuild::leftovers`].
    pub(crate) fn run(&self) -> Result<RebuiltIndexes, LogError> {
        let staged = self.place.staged(files::REBUILT);
        let mut twin = Segment::existing(&staged, self.base, 0, self.now);
        twin.offsets.file().create()?;
        twin.times.file().create()?;
        let mut walk = HeaderWalk::new(&*self.file, &self.path, 0, self.size_bytes);
        while let Some((position, header)) = walk.next()? {
            twin.note(&header, position, self.index_interval_bytes)?;
        }
        twin.seal()?;
        twin.sync_indexes()?;
        Ok(RebuiltIndexes { twin })
    }

    /// The files it makes, for whoever does not want them any more.
    pub(crate) fn leftovers(&self) -> [PathBuf; 2] {
        let staged = self.place.staged(files::REBUILT);
        [staged.path(self.base, files::OFFSET_INDEX), staged.path(self.base, files::TIME_INDEX)]
    }
}

impl Segment {
    /// What is to be done about its indexes; `None` if nothing is, or nothing can be.
    pub(crate) fn index_rebuild(
        &self,
        index_interval_bytes: u64,
        now: TimestampMs,
    ) -> Result<Option<IndexRebuild>, LogError> {
        if self.is_beyond_repair || !self.index_is_bad() {
            return Ok(None);
        }
        Ok(Some(IndexRebuild {
            place: self.place.clone(),
            base: self.base,
            file: self.reader()?,
            path: self.path(),
            size_bytes: self.size_bytes,
            index_interval_bytes,
            now,
        }))
    }

    /// Readers are told of the damage when they come to it; trying each second would not help them.
    pub(crate) fn give_up_indexes(&mut self) {
        self.is_beyond_repair = true;
    }

    /// Puts indexes in the place of the bad ones. The segment may have grown since they were begun,
    /// but not been cut.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn adopt_indexes(
        &mut self,
        rebuilt: RebuiltIndexes,
        index_interval_bytes: u64,
    ) -> Result<(), LogError> {
        let RebuiltIndexes { mut twin } = rebuilt;
        debug_assert!(twin.base == self.base && twin.size_bytes <= self.size_bytes);
        let staged = [twin.offsets.file().path(), twin.times.file().path()];
        let own = [self.offsets.file().path(), self.times.file().path()];
        for (from, to) in staged.iter().zip(&own) {
            let renamed = self.place.disk.rename(from, to);
            renamed.map_err(|error| LogError::io("rename", from, error))?;
        }
        twin.set_place(&self.place);
        let (from, end) = (twin.size_bytes, self.size_bytes);
        (self.offsets, self.times) = (twin.offsets, twin.times);
        (self.latest, self.bytes_since_index_entry) = (twin.latest, twin.bytes_since_index_entry);
        let path = self.path();
        let file = self.reader()?;
        let mut walk = HeaderWalk::new(&*file, &path, from, end);
        while let Some((position, header)) = walk.next()? {
            self.note(&header, position, index_interval_bytes)?;
        }
        self.index_is_bad.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Its files have the names of `place` now.
    pub(crate) fn set_place(&mut self, place: &Place) {
        self.place = place.clone();
        self.offsets.file().set_place(place.clone());
        self.times.file().set_place(place.clone());
    }

    /// Syncs both index files.
    pub(crate) fn sync_indexes(&mut self) -> Result<(), LogError> {
        for path in [self.offsets.file().path(), self.times.file().path()] {
            let file = self.place.open(&path, OpenMode::Existing)?;
            file.sync_data().map_err(|error| LogError::io("sync", path, error))?;
        }
        Ok(())
    }
}
