//! [`OffsetIndex`]: from an offset to a position in the segment.
//!
//! An entry is 8 bytes: int32 offset minus the segment's base offset, int32 position. The offset is
//! the *last* of a batch and the position where that batch begins (Kafka's `LogSegment.append`).
//! One entry per `index.interval.bytes` of log, so a lookup ends with a walk over a few headers.

use weir_protocol::Offset;

use crate::error::LogError;
use crate::files;
use crate::index::{IndexFile, PendingWrite, Place};

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 8;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// The last offset of a batch.
    pub(crate) offset: Offset,
    /// Where that batch begins.
    pub(crate) position: u64,
}

/// The offset index of one segment.
#[derive(Debug)]
pub(crate) struct OffsetIndex {
    base: Offset,
    entries: IndexFile<ENTRY_BYTES>,
}

impl OffsetIndex {
    pub(crate) fn new(place: Place, base: Offset, written: usize) -> Self {
        Self { base, entries: IndexFile::new(place, base, files::OFFSET_INDEX, written) }
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

    /// The caller sees to it that the offset is at most `i32::MAX` above the base, and the position
    /// at most `i32::MAX`.
    pub(crate) fn append(&mut self, entry: OffsetEntry) {
        let relative = i32::try_from(entry.offset.get() - self.base.get()).unwrap_or(i32::MAX);
        let position = i32::try_from(entry.position).unwrap_or(i32::MAX);
        debug_assert!(relative < i32::MAX || position < i32::MAX, "{entry:?} does not fit");
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&relative.to_be_bytes());
        bytes[4..].copy_from_slice(&position.to_be_bytes());
        self.entries.push(bytes);
    }

    pub(crate) fn last(&self) -> Result<Option<OffsetEntry>, LogError> {
        Ok(self.entries.last()?.map(|entry| decode(self.base, &entry)))
    }

    /// The last entry at or below `offset`.
    pub(crate) fn lookup(&self, offset: Offset) -> Result<Option<OffsetEntry>, LogError> {
        let found = self.entries.last_where(|entry| decode(self.base, entry).offset <= offset)?;
        Ok(found.map(|entry| decode(self.base, &entry)))
    }

    /// The last entry whose batch begins at or before `position`.
    pub(crate) fn lookup_position(&self, position: u64) -> Result<Option<OffsetEntry>, LogError> {
        let found =
            self.entries.last_where(|entry| decode(self.base, entry).position <= position)?;
        Ok(found.map(|entry| decode(self.base, &entry)))
    }

    /// How many leading entries rise strictly, lie below `offset`, and begin below `position`.
    pub(crate) fn valid_prefix(&self, offset: Offset, position: u64) -> Result<usize, LogError> {
        let mut last = OffsetEntry { offset: Offset(self.base.get() - 1), position: 0 };
        let entries = self.entries.read_all()?;
        let rises = |entry: &[u8; ENTRY_BYTES]| {
            let entry = decode(self.base, entry);
            let valid = entry.offset > last.offset
                && entry.position > last.position
                && entry.offset < offset
                && entry.position < position;
            last = entry;
            valid
        };
        Ok(entries.iter().map(rises).take_while(|valid| *valid).count())
    }
}

pub(crate) fn decode(base: Offset, entry: &[u8; ENTRY_BYTES]) -> OffsetEntry {
    let [a, b, c, d, e, f, g, h] = *entry;
    OffsetEntry {
        offset: base.plus(i64::from(i32::from_be_bytes([a, b, c, d]))),
        // A negative position is damage; far beyond the end it is found to be.
        position: u64::from(u32::from_be_bytes([e, f, g, h])),
    }
}
