//! A batch that the broker finds too large, in halves.
//!
//! The halves keep the sequences of the whole, so that no record gets the sequence of another. They are
//! built when they are sent, outside the core's lock.

use bytes::Bytes;
use weir_protocol::batch::{BatchBuilder, BatchView, Header};
use weir_protocol::types::Sequence;

use super::{Accumulator, Partition, SentBatch, Slot, Waiting, BATCH_HEADER_BYTES};
use crate::delivery::Completion;
use crate::transaction::Transactions;

/// Batches that were full and not too large, after which they are about twice as large.
const WIDEN_BATCHES: usize = 256;

/// Some records of a batch, to be built as one of its own.
#[derive(Debug)]
pub struct Part {
    pub(super) whole: Bytes,
    pub(super) first: i32,
    pub(super) count: i32,
    pub(super) builder: BatchBuilder,
}

impl Part {
    /// A builder with the records; the whole, if that cannot be read again.
    pub(crate) fn fill(mut self) -> Result<BatchBuilder, Bytes> {
        match copy(&self.whole, self.first, self.count, &mut self.builder) {
            Some(()) => Ok(self.builder),
            None => Err(self.whole),
        }
    }
}

fn copy(whole: &Bytes, first: i32, count: i32, into: &mut BatchBuilder) -> Option<()> {
    let view = BatchView::parse_shared(whole).ok()?;
    // Its size is that of a batch built here, which was bounded when its records were taken.
    let mut records = view.records(usize::MAX).ok()?;
    for _ in 0..first {
        records.next_view()?.ok()?;
    }
    for _ in 0..count {
        let record = records.next_view()?.ok()?;
        let header = |(key, value)| Some(Header { key: std::str::from_utf8(key).ok()?, value });
        let headers: Vec<Header<'_>> = record.headers.iter().map(header).collect::<Option<_>>()?;
        into.append(record.timestamp, record.key, record.value, &headers);
    }
    Some(())
}

impl Accumulator {
    /// Puts a batch that is too large back in two, to go at once. `false`: it has one record only, or its
    /// time is over.
    pub(super) fn split(&mut self, slot: Slot, index: usize, bytes: Bytes) -> bool {
        let may_retry = self.transactions.as_ref().is_none_or(Transactions::may_retry);
        let partition = &mut self.partitions[slot.0];
        let whole = &partition.in_flight[index];
        if whole.count < 2 || whole.timed_out || !may_retry {
            return false;
        }
        let Some(whole) = partition.in_flight.remove(index) else { return false };
        if !whole.completion.is_part() {
            // Parts teach nothing: there may be one record in them that is too large for itself.
            let half = (whole.bytes / 2).max(BATCH_HEADER_BYTES);
            partition.batch_bytes_max = partition.batch_bytes_max.min(half);
        }
        let (topic, generation) = (partition.topic, whole.generation);
        let halves = whole.halves(&bytes, self.next_batch);
        self.next_batch += halves.len() as u64;
        partition.recovering = true;
        partition.batches_sent += 1;
        for later in partition.in_flight.range_mut(index..) {
            later.ordinal += 1;
        }
        for (place, half) in halves.into_iter().enumerate() {
            partition.in_flight.insert(index + place, half);
        }
        self.topics[topic].generations.split(generation);
        self.counters.splits += 1;
        true
    }
}

impl Partition {
    /// A batch of so many bytes was not too large.
    pub(super) fn widen_batches(&mut self, bytes: usize, bytes_max: usize) {
        if self.batch_bytes_max < bytes_max && bytes >= self.batch_bytes_max / 2 {
            let step = self.batch_bytes_max / WIDEN_BATCHES + 1;
            self.batch_bytes_max = (self.batch_bytes_max + step).min(bytes_max);
        }
    }
}

impl SentBatch {
    /// Its records in two batches, in order, with the numbers from `batch` on. Together they are booked
    /// with its bytes.
    fn halves(self, bytes: &Bytes, batch: u64) -> [SentBatch; 2] {
        let (first_count, first_bytes) = (self.count / 2, self.bytes / 2);
        let after_first = match self.base_sequence {
            Sequence::NONE => Sequence::NONE,
            base => base.plus(first_count),
        };
        let [first, second] = Completion::split(self.completion, first_count as u32);
        let waiting = |first| Some(Waiting::Part { whole: bytes.clone(), first });
        let part_in_doubt = self.part_in_doubt || self.in_doubt;
        let first = SentBatch {
            batch,
            completion: first,
            bytes: first_bytes,
            count: first_count,
            attempts: 0,
            waiting: waiting(0),
            last_error: String::new(),
            part_in_doubt,
            ..self
        };
        let second = SentBatch {
            batch: batch + 1,
            ordinal: self.ordinal + 1,
            completion: second,
            bytes: self.bytes - first_bytes,
            count: self.count - first_count,
            attempts: 0,
            base_sequence: after_first,
            waiting: waiting(first_count),
            last_error: String::new(),
            part_in_doubt,
            ..self
        };
        [first, second]
    }
}

#[cfg(test)]
mod tests;
