//! [`BatchFilter`]: a batch with some of its records taken out, as log compaction does it.
//!
//! What stays, stays as it is: offsets, sequences and the identity of the batch do not change, and a
//! record that is kept is copied byte for byte. Only where a delete horizon is written (KIP-534) the
//! records' timestamps are encoded anew, as the horizon takes the place of what they are relative to.
//! Follows Kafka's `MemoryRecords.filterTo`.

use std::ops::Range;

use super::builder::put_varint;
use super::edit::{put, renew_crc};
use super::record::{Cursor, RecordView, Walk};
use super::{
    BatchError, BatchView, RecordError, BASE_TIMESTAMP_AT, CODEC_BITS, CRC_FROM,
    DELETE_HORIZON_BIT, HEADER_BYTES, LENGTH_END, MAX_TIMESTAMP_AT, RECORD_COUNT_AT,
};
use crate::compression::{Codec, CompressionError, Compressor};
use crate::types::TimestampMs;

/// Takes records out of one batch after another; keeps its buffers and compressors.
#[derive(Debug)]
pub struct BatchFilter {
    inflate_bytes_max: usize,
    compressor: Compressor,
    /// Records that stay, in the (inflated) batch.
    kept: Vec<Range<usize>>,
    /// Their bytes, before compression.
    records: Vec<u8>,
}

/// When a batch is given a delete horizon, if it has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Horizon {
    /// In no case.
    Never,
    /// This one, if a record that stays is a tombstone.
    IfTombstone(TimestampMs),
    /// This one.
    Always(TimestampMs),
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filtered {
    /// Records that stay.
    pub kept: usize,
    /// Records that do not.
    pub dropped: usize,
    /// All stays as it is, and nothing was written: take the batch's own bytes.
    pub unchanged: bool,
}

impl BatchFilter {
    /// A filter that refuses batches that inflate to more than `inflate_bytes_max`.
    #[must_use]
    pub fn new(inflate_bytes_max: usize) -> Self {
        Self {
            inflate_bytes_max,
            compressor: Compressor::default(),
            kept: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Appends `batch` to `output` with those of its records for which `keep` is true, under the same
    /// codec. Nothing is appended if none is left ([`write_empty`]), or if nothing changes.
    ///
    /// # Errors
    /// If the records cannot be read, inflate to more than they may, or the codec fails. `output` is
    /// then as it was.
    pub fn filter(
        &mut self,
        batch: &BatchView<'_>,
        horizon: Horizon,
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
        output: &mut Vec<u8>,
    ) -> Result<Filtered, BatchError> {
        let inflated = batch.inflated(self.inflate_bytes_max)?;
        self.kept.clear();
        let mut walk = Walk::new(batch);
        let (mut dropped, mut has_tombstone) = (0, false);
        let mut max_timestamp = TimestampMs(-1);
        let mut from = 0;
        while let Some(record) = walk.next(&inflated) {
            let record = record?;
            if keep(&record) {
                self.kept.push(from..walk.position());
                has_tombstone |= record.value.is_none();
                max_timestamp = max_timestamp.max(record.timestamp);
            } else {
                dropped += 1;
            }
            from = walk.position();
        }
        let horizon = match horizon {
            _ if batch.delete_horizon().is_some() => None,
            Horizon::Always(at) => Some(at),
            Horizon::IfTombstone(at) if has_tombstone => Some(at),
            Horizon::IfTombstone(_) | Horizon::Never => None,
        };
        let unchanged = dropped == 0 && horizon.is_none();
        let outcome = Filtered { kept: self.kept.len(), dropped, unchanged };
        if self.kept.is_empty() || unchanged {
            return Ok(outcome);
        }
        self.collect(&inflated, batch.base_timestamp(), horizon)?;
        self.write(batch, horizon, max_timestamp, output)?;
        Ok(outcome)
    }

    /// The records that stay, one behind the other.
    fn collect(
        &mut self,
        inflated: &[u8],
        base: TimestampMs,
        horizon: Option<TimestampMs>,
    ) -> Result<(), BatchError> {
        self.records.clear();
        for (index, range) in self.kept.iter().enumerate() {
            let record = inflated.get(range.clone()).unwrap_or_default();
            match horizon {
                None => self.records.extend_from_slice(record),
                Some(horizon) => {
                    let index = i32::try_from(index).unwrap_or(i32::MAX);
                    redate(record, base, horizon, &mut self.records)
                        .map_err(|cause| BatchError::Record { index, cause })?;
                }
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        batch: &BatchView<'_>,
        horizon: Option<TimestampMs>,
        max_timestamp: TimestampMs,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        let codec = batch.codec()?;
        let start = output.len();
        output.extend_from_slice(batch.bytes().get(..HEADER_BYTES).unwrap_or_default());
        if let Err(error) = self.compressor.compress(codec, &self.records, output) {
            output.truncate(start);
            return Err(error.into());
        }
        let whole = output.get_mut(start..).unwrap_or_default();
        let Ok(length) = i32::try_from(whole.len() - LENGTH_END) else {
            output.truncate(start);
            let reason = "the batch grows beyond 2 GiB".to_owned();
            return Err(CompressionError::Compress { codec, reason }.into());
        };
        put(whole, LENGTH_END - 4, length.to_be_bytes());
        if let Some(horizon) = horizon {
            put(whole, CRC_FROM, (batch.attributes() | DELETE_HORIZON_BIT).to_be_bytes());
            put(whole, BASE_TIMESTAMP_AT, horizon.get().to_be_bytes());
        }
        put(whole, MAX_TIMESTAMP_AT, max_timestamp.get().to_be_bytes());
        // It held at least as many before.
        let count = i32::try_from(self.kept.len()).unwrap_or(i32::MAX);
        put(whole, RECORD_COUNT_AT, count.to_be_bytes());
        let size_bytes = whole.len();
        renew_crc(whole, size_bytes);
        Ok(())
    }
}

/// Appends `batch` to `output` without its records: what keeps a producer's sequence or epoch when
/// compaction has taken all it wrote (Kafka's `DefaultRecordBatch.writeEmptyHeader`).
pub fn write_empty(batch: &BatchView<'_>, output: &mut Vec<u8>) {
    let start = output.len();
    output.extend_from_slice(batch.bytes().get(..HEADER_BYTES).unwrap_or_default());
    let header = output.get_mut(start..).unwrap_or_default();
    let length = (HEADER_BYTES - LENGTH_END) as i32;
    let attributes =
        batch.attributes() & !(CODEC_BITS | DELETE_HORIZON_BIT) | i16::from(Codec::None.id());
    put(header, LENGTH_END - 4, length.to_be_bytes());
    put(header, CRC_FROM, attributes.to_be_bytes());
    put(header, BASE_TIMESTAMP_AT, (-1_i64).to_be_bytes());
    put(header, RECORD_COUNT_AT, 0_i32.to_be_bytes());
    renew_crc(header, HEADER_BYTES);
}

/// Appends `record` with its timestamp relative to `horizon` instead of `base`.
fn redate(
    record: &[u8],
    base: TimestampMs,
    horizon: TimestampMs,
    output: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let mut body = Cursor { rest: Cursor { rest: record }.sized()? };
    let attributes = body.byte()?;
    // Wraps, as the reader's addition does.
    let own = base.get().wrapping_add(body.varlong()?);
    let delta = own.wrapping_sub(horizon.get());
    let mut head = vec![attributes];
    put_varint(&mut head, delta);
    put_varint(output, (head.len() + body.rest.len()) as i64);
    output.extend_from_slice(&head);
    output.extend_from_slice(body.rest);
    Ok(())
}

#[cfg(test)]
mod tests;
