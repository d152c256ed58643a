//! What a broker checks before it appends a client's batch (Kafka's `LogValidator`).

use super::record::Walk;
use super::{BatchError, BatchView, RecordError, TimestampType};
use crate::compression::Codec;
use crate::types::{ProducerId, TimestampMs};

/// Of a record that has no time.
const NO_TIMESTAMP: TimestampMs = TimestampMs(-1);

/// Before this version of Produce a client cannot read what another sends in zstd (KIP-110).
const ZSTD_PRODUCE_VERSION_MIN: i16 = 7;

/// The one batch that a produce request may carry per partition, checked as far as its header goes.
///
/// Exactly one batch, magic 2, CRC, known codec, as many records as its offsets say, no control
/// batch, a sequence if there is a producer id, timestamps that a client can mean. The records are
/// not read; see [`BatchView::check_records`].
///
/// # Errors
/// [`BatchError::error_code`] is what to answer.
pub fn validate_for_produce(
    records: &[u8],
    produce_version: i16,
) -> Result<BatchView<'_>, BatchError> {
    if records.is_empty() {
        return Err(BatchError::Empty);
    }
    let view = BatchView::parse(records)?;
    let left_bytes = records.len() - view.size_bytes();
    if left_bytes > 0 {
        return Err(BatchError::NotOneBatch { left_bytes });
    }
    view.verify_crc()?;
    if view.codec()? == Codec::Zstd && produce_version < ZSTD_PRODUCE_VERSION_MIN {
        return Err(BatchError::CodecTooNew { codec: Codec::Zstd, produce_version });
    }
    let announced = view.record_count();
    let held = i64::from(view.last_offset_delta()) + 1;
    if announced < 1 || i64::from(announced) != held {
        return Err(BatchError::Count { announced, held });
    }
    if view.is_control() {
        return Err(BatchError::Control);
    }
    if view.producer_id() != ProducerId::NONE && view.base_sequence().get() < 0 {
        return Err(BatchError::Sequence { base_sequence: view.base_sequence().get() });
    }
    check_timestamps(&view)?;
    Ok(view)
}

/// A max timestamp of −1 is "none", which clients may send; Kafka takes it.
fn check_timestamps(view: &BatchView<'_>) -> Result<(), BatchError> {
    let log_append_time = view.timestamp_type() == TimestampType::LogAppendTime;
    let (base_timestamp, max_timestamp) = (view.base_timestamp(), view.max_timestamp());
    let none = max_timestamp == NO_TIMESTAMP;
    if log_append_time || (max_timestamp < base_timestamp && !none) {
        return Err(BatchError::Timestamps { base_timestamp, max_timestamp, log_append_time });
    }
    Ok(())
}

/// What the records of a batch have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsSummary {
    /// The latest timestamp found; `None` in an empty batch.
    pub max_timestamp: Option<TimestampMs>,
    /// The earliest timestamp found and its record, but for records that have none (-1).
    pub oldest: Option<(TimestampMs, i32)>,
    /// The first record without a key, which a compacted topic refuses.
    pub keyless_index: Option<i32>,
}

impl BatchView<'_> {
    /// Reads every record, to find a batch that would stop each of its readers. Kafka's brokers do this
    /// for each produce request; a caller that does not takes the producer's word. Copies nothing of an
    /// uncompressed batch.
    ///
    /// # Errors
    /// What the record iterator would say, and [`RecordError::OffsetDelta`] where offsets leave
    /// gaps.
    pub fn check_records(&self, inflate_bytes_max: usize) -> Result<RecordsSummary, BatchError> {
        let bytes = self.inflated(inflate_bytes_max)?;
        self.check_inflated(&bytes)
    }

    /// As [`BatchView::check_records`], of records that are inflated already.
    pub(super) fn check_inflated(&self, bytes: &[u8]) -> Result<RecordsSummary, BatchError> {
        let mut walk = Walk::new(self);
        let mut summary = RecordsSummary { max_timestamp: None, oldest: None, keyless_index: None };
        let mut index = 0;
        while let Some(record) = walk.next(bytes) {
            let record = record?;
            let offset_delta = record.offset_delta;
            if offset_delta != index {
                let cause = RecordError::OffsetDelta { offset_delta };
                return Err(BatchError::Record { index, cause });
            }
            summary.max_timestamp = summary.max_timestamp.max(Some(record.timestamp));
            let is_older = summary.oldest.is_none_or(|(oldest, _)| record.timestamp < oldest);
            if is_older && record.timestamp != NO_TIMESTAMP {
                summary.oldest = Some((record.timestamp, index));
            }
            if record.key.is_none() && summary.keyless_index.is_none() {
                summary.keyless_index = Some(index);
            }
            index += 1;
        }
        Ok(summary)
    }
}
