//! [`Log`]: one partition, from its directory to its offsets.
use weir_protocol::{LeaderEpoch, Offset, PartitionId, ProducerId, TimestampMs, Uuid};

use crate::config::LogConfig;
use crate::error::{AppendError, LogError};
use crate::slice::FileSlice;

/// One partition on disk: segments, indexes, producer state, leader epochs.
#[derive(Debug)]
pub struct Log {}

/// Who appends. It decides which checks apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A client's Produce request: control batches are refused, sequences and producer epochs checked.
    Client,
    /// The broker itself (internal topics, transaction markers): control batches are allowed.
    Coordinator,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// Offset of its last record. The answer to the producer may leave once
    /// `synced_offset() > last_offset`, if acks=all.
    pub last_offset: Offset,
    /// When `message.timestamp.type` is LogAppendTime: the time that was written into the batch.
    pub log_append_time: Option<TimestampMs>,
    /// The batch had been appended before; the offsets are the original ones and nothing was written.
    pub duplicate: bool,
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct ReadResult {
    /// Whole batches in offset order; empty when there is nothing below the bound. The first batch may begin before the offset
    /// asked for, as a batch is never split.
    pub slices: Vec<FileSlice>,
    /// Sum of the slices' lengths.
    pub size_bytes: usize,
    /// One past the last offset in `slices`; the offset asked for if there are none.
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

/// A transaction that was aborted, for `read_committed` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    /// The producer.
    pub producer_id: ProducerId,
    /// The transaction's first offset.
    pub first_offset: Offset,
    /// The offset of its abort marker.
    pub last_offset: Offset,
    /// The last stable offset when it was aborted.
    pub last_stable_offset: Offset,
}

impl Log {
    /// Appends one record batch, whose base offset and leader epoch are assigned in place.
    ///
    /// The caller has verified the CRC-32C (offset and epoch lie outside it). On return the bytes are in the file (the
    /// page cache): they survive the process, but a power cut only after the next commit.
    /// With `message.timestamp.type=LogAppendTime`, `now` is written into the batch.
    pub fn append(&mut self, batch: &mut [u8], origin: AppendOrigin, now: TimestampMs) -> Result<Appended, AppendError> { let _ = (batch, origin, now); unimplemented!() }

    /// Whole batches from the one that holds `offset` (or the next one, where compaction left a gap), below `up_to`, at most `bytes_max`; the first batch is returned even if larger.
    ///
    /// `up_to` is usually [`Log::synced_offset`] (readers see only what a power cut cannot take back) or [`Log::last_stable_offset`].
    /// It must be a batch boundary; a batch that reaches beyond is left out.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] below the log start or beyond the log end.
    pub fn read(&self, offset: Offset, bytes_max: usize, up_to: Offset) -> Result<ReadResult, LogError> { let _ = (offset, bytes_max, up_to); unimplemented!() }

    /// The first batch with a record at or after `timestamp`. `None` if all are older. Not bounded by the synced offset: compare `base_offset`.
    pub fn offset_for_timestamp(&self, timestamp: TimestampMs) -> Result<Option<BatchAt>, LogError> { let _ = timestamp; unimplemented!() }
    /// The batch that holds the largest timestamp. `None` in an empty log.
    pub fn max_timestamp(&self) -> Result<Option<BatchAt>, LogError> { unimplemented!() }

    /// Aborted transactions that overlap `[from, up_to)`.
    pub fn aborted_txns(&self, from: Offset, up_to: Offset) -> Result<Vec<AbortedTxn>, LogError> { let _ = (from, up_to); unimplemented!() }

    /// Makes `before` the log start offset (DeleteRecords). Returns the new log start offset. Durable with the next commit.
    pub fn delete_records(&mut self, before: Offset, now: TimestampMs) -> Result<Offset, LogError> { let _ = (before, now); unimplemented!() }
    /// Cuts everything from `offset` on.
    pub fn truncate(&mut self, offset: Offset) -> Result<(), LogError> { let _ = offset; unimplemented!() }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str { unimplemented!() }
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId { unimplemented!() }
    /// The id of the topic; ZERO when the directory has no `partition.metadata`.
    #[must_use]
    pub fn topic_id(&self) -> Uuid { unimplemented!() }
    /// The first offset that is kept.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset { unimplemented!() }
    /// One past the last offset.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset { unimplemented!() }
    /// One past the last offset that is on disk: the high watermark of a single node.
    #[must_use]
    pub fn synced_offset(&self) -> Offset { unimplemented!() }
    /// The first offset that is not decided or not synced: what `read_committed` may read up to.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset { unimplemented!() }
    /// The epoch given to new batches.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch { unimplemented!() }
    /// The epoch `offset` was written under.
    #[must_use]
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> { let _ = offset; unimplemented!() }
    /// OffsetForLeaderEpoch: the largest epoch <= `epoch` and where it ends. `None` = undefined (-1, -1).
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> { let _ = epoch; unimplemented!() }
    /// Bytes in all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 { unimplemented!() }
    /// Number of segments.
    #[must_use]
    pub fn segment_count(&self) -> usize { unimplemented!() }
    /// The settings.
    #[must_use]
    pub fn config(&self) -> &LogConfig { unimplemented!() }
    /// Changes the settings; they hold from the next append, roll and retention check on.
    pub fn set_config(&mut self, config: LogConfig) { let _ = config; unimplemented!() }
}
