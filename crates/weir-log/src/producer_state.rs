//! [`ProducerStates`]: what each idempotent producer wrote last, and which transactions are open.
//!
//! Follows Kafka's `ProducerStateManager`, `ProducerAppendInfo` and `ProducerStateEntry`:
//!
//! - The last five batches of a producer are remembered; a repeat is answered with the original
//!   offsets. Five, as a producer has at most five requests in flight.
//! - Sequences count records, without gaps; 0 follows 2^31−1. A producer that is not known may begin
//!   anywhere, as its state may have been deleted with its records; a new epoch begins at 0.
//! - A lower epoch is refused: the producer has been fenced.
//!
//! One difference: a producer is forgotten when it has been silent for
//! `producer.id.expiration.ms` by the broker's clock, not by the timestamps of its records. Else
//! records dated 1970 would lose their protection against duplicates at once.

mod listing;
pub(crate) mod remembered;
mod room;
mod snapshot;

use std::collections::{BTreeMap, HashMap};

use weir_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use crate::cleaner::LastBatch;
use crate::error::AppendError;
use crate::header::BatchHeader;
use crate::log::AppendOrigin;

pub(crate) use listing::list;
pub use listing::SnapshotEntry;
pub(crate) use room::ProducerRoom;
pub(crate) use snapshot::{decode, encode, encode_unfinished, finish, is_size as is_snapshot_size};

/// Batches that are remembered per producer (Kafka's `NUM_BATCHES_TO_RETAIN`).
const BATCHES_MAX: usize = 5;

/// All producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerStates {
    entries: HashMap<ProducerId, ProducerEntry>,
    /// Open transactions: producer by first offset.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Transactions whose marker is written but not synced: marker by first offset. They hold the
    /// last stable offset back, as a power cut could make them undecided again.
    unsynced: BTreeMap<Offset, Offset>,
}

/// What one producer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_seen: TimestampMs,
    txn_first_offset: Option<Offset>,
    /// Oldest first.
    batches: [WrittenBatch; BATCHES_MAX],
    batch_count: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct WrittenBatch {
    last_sequence: Sequence,
    last_offset: Offset,
    offset_delta: i32,
}

/// A producer as a partition remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Its id.
    pub id: ProducerId,
    /// The epoch of its last batch or marker.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record under that epoch; [`Sequence::NONE`] if there is none.
    pub last_sequence: Sequence,
    /// The offset of that record.
    pub last_offset: Option<Offset>,
    /// When it last wrote, by the broker's clock.
    pub last_seen: TimestampMs,
    /// Of the last marker; −1 if there was none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins.
    pub txn_first_offset: Option<Offset>,
}

/// What the checks say of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be appended.
    Append,
    /// It was, at these offsets.
    Duplicate { base_offset: Offset, last_offset: Offset },
}

/// A marker that ends a transaction, as its control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndMarker {
    pub(crate) commit: bool,
    pub(crate) coordinator_epoch: i32,
}

impl WrittenBatch {
    fn first_sequence(&self) -> Sequence {
        // Backwards over the wrap: 2^31 numbers in the ring.
        let ring = i64::from(i32::MAX) + 1;
        let first =
            (i64::from(self.last_sequence.get()) - i64::from(self.offset_delta)).rem_euclid(ring);
        Sequence(i32::try_from(first).unwrap_or(0))
    }
}

impl ProducerEntry {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_seen: TimestampMs(-1),
            txn_first_offset: None,
            batches: [WrittenBatch::default(); BATCHES_MAX],
            batch_count: 0,
        }
    }

    fn batches(&self) -> &[WrittenBatch] {
        &self.batches[..self.batch_count]
    }

    fn last(&self) -> Option<&WrittenBatch> {
        self.batches().last()
    }

    fn info(&self, id: ProducerId) -> ProducerInfo {
        ProducerInfo {
            id,
            epoch: self.epoch,
            last_sequence: self.last().map_or(Sequence::NONE, |last| last.last_sequence),
            last_offset: self.last().map(|last| last.last_offset),
            last_seen: self.last_seen,
            coordinator_epoch: self.coordinator_epoch,
            txn_first_offset: self.txn_first_offset,
        }
    }

    /// Whether both are about the same epoch and the same last batch.
    fn ends_like(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.last().is_some() && self.last() == other.last()
    }

    /// Whether these are all the batches that may be remembered.
    fn is_complete(&self) -> bool {
        self.batch_count == BATCHES_MAX
            || self.batches().first().is_some_and(|first| first.first_sequence() == Sequence(0))
    }

    fn raise_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batch_count = 0;
        }
    }

    fn add_batch(&mut self, batch: WrittenBatch) {
        if self.batch_count == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.batch_count -= 1;
        }
        self.batches[self.batch_count] = batch;
        self.batch_count += 1;
    }
}

impl ProducerStates {
    /// How many producers are known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// One producer.
    pub(crate) fn get(&self, id: ProducerId) -> Option<ProducerInfo> {
        self.entries.get(&id).map(|entry| entry.info(id))
    }

    /// All producers, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ProducerInfo> + '_ {
        self.entries.iter().map(|(id, entry)| entry.info(*id))
    }

    /// Producers with an open transaction, by where it begins.
    pub(crate) fn open(&self) -> impl Iterator<Item = ProducerInfo> + '_ {
        self.ongoing.values().filter_map(|id| self.get(*id))
    }

    /// The largest id below `end`.
    pub(crate) fn id_max(&self, end: ProducerId) -> Option<ProducerId> {
        self.entries.keys().filter(|id| **id < end).max().copied()
    }

    /// Checks a batch of records before it is appended.
    pub(crate) fn check(
        &self,
        batch: &BatchHeader,
        origin: AppendOrigin,
    ) -> Result<Verdict, AppendError> {
        let producer_id = batch.producer_id;
        if producer_id < ProducerId(0) {
            return Ok(Verdict::Append);
        }
        let Some(entry) = self.entries.get(&producer_id) else { return Ok(Verdict::Append) };
        if let Some(written) = find_duplicate(entry, batch) {
            return Ok(Verdict::Duplicate {
                base_offset: written.last_offset.plus(-i64::from(written.offset_delta)),
                last_offset: written.last_offset,
            });
        }
        check_epoch(entry, batch)?;
        if origin == AppendOrigin::Client {
            check_sequence(entry, batch)?;
        }
        if entry.txn_first_offset.is_some() && !batch.is_transactional {
            return Err(AppendError::InvalidTxnState {
                producer_id,
                what: "a transaction is open, and the batch does not belong to it",
            });
        }
        Ok(Verdict::Append)
    }

    /// Checks a marker before it is appended.
    pub(crate) fn check_marker(
        &self,
        batch: &BatchHeader,
        marker: EndMarker,
    ) -> Result<(), AppendError> {
        let Some(entry) = self.entries.get(&batch.producer_id) else { return Ok(()) };
        check_epoch(entry, batch)?;
        if entry.coordinator_epoch > marker.coordinator_epoch {
            return Err(AppendError::CoordinatorFenced {
                current: entry.coordinator_epoch,
                found: marker.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Notes a batch of records that is in the log.
    pub(crate) fn add(&mut self, batch: &BatchHeader, now: TimestampMs) {
        if batch.producer_id < ProducerId(0) {
            return;
        }
        let entry = self
            .entries
            .entry(batch.producer_id)
            .or_insert_with(|| ProducerEntry::new(batch.producer_epoch));
        entry.raise_epoch(batch.producer_epoch);
        entry.last_seen = now;
        entry.add_batch(WrittenBatch {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta,
        });
        if batch.is_transactional && entry.txn_first_offset.is_none() {
            entry.txn_first_offset = Some(batch.base_offset);
            self.ongoing.insert(batch.base_offset, batch.producer_id);
        }
    }

    /// Notes a marker that is in the log.
    pub(crate) fn add_marker(&mut self, batch: &BatchHeader, marker: EndMarker, now: TimestampMs) {
        let entry = self
            .entries
            .entry(batch.producer_id)
            .or_insert_with(|| ProducerEntry::new(batch.producer_epoch));
        entry.raise_epoch(batch.producer_epoch);
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_seen = now;
        if let Some(first_offset) = entry.txn_first_offset.take() {
            self.ongoing.remove(&first_offset);
            self.unsynced.insert(first_offset, batch.last_offset());
        }
    }

    /// The first offset of the transaction that a marker of this producer ends, and the last stable
    /// offset afterwards: that of the next open transaction, or `next` if there is none.
    pub(crate) fn ended_by(
        &self,
        producer_id: ProducerId,
        next: Offset,
    ) -> Option<(Offset, Offset)> {
        let first_offset = self.entries.get(&producer_id)?.txn_first_offset?;
        let still_open = self.ongoing.keys().find(|first| **first != first_offset);
        Some((first_offset, still_open.copied().unwrap_or(next)))
    }

    /// Notes that all below `synced` is on disk.
    pub(crate) fn set_synced(&mut self, synced: Offset) {
        if !self.unsynced.is_empty() {
            self.unsynced.retain(|_, marker| *marker >= synced);
        }
    }

    /// The first offset of the earliest transaction that is open, or decided but not synced.
    pub(crate) fn first_unstable(&self) -> Option<Offset> {
        let open = self.ongoing.keys().next();
        let unsynced = self.unsynced.keys().next();
        [open, unsynced].into_iter().flatten().min().copied()
    }

    /// Whether [`ProducerStates::complete_from`] gives each producer that wrote in what was `seen` all
    /// the batches that may be remembered.
    pub(crate) fn is_completed_by(&self, seen: &Self) -> bool {
        let is_whole = |(id, seen): (&ProducerId, &ProducerEntry)| {
            let Some(entry) = self.entries.get(id).filter(|entry| entry.ends_like(seen)) else {
                return true;
            };
            seen.is_complete() || entry.batch_count == BATCHES_MAX
        };
        seen.entries.iter().all(is_whole)
    }

    /// Takes over the batches of producers whose last one is the same in `seen`, as far back as their
    /// sequences are without a gap.
    pub(crate) fn complete_from(&mut self, seen: &Self) {
        for (id, entry) in &mut self.entries {
            let Some(seen) = seen.entries.get(id).filter(|seen| entry.ends_like(seen)) else {
                continue;
            };
            let batches = seen.batches();
            let follows = |pair: &[WrittenBatch]| match pair {
                [before, after] => before.last_sequence.plus(1) == after.first_sequence(),
                _ => true,
            };
            let gap = batches.windows(2).rposition(|pair| !follows(pair));
            let run = batches.get(gap.map_or(0, |at| at + 1)..).unwrap_or_default();
            if run.len() <= entry.batch_count {
                continue;
            }
            entry.batch_count = 0;
            run.iter().for_each(|batch| entry.add_batch(*batch));
        }
    }

    /// Producers last seen at `since` or later of which more batches may be remembered than are, the
    /// latest first: each with the offset of its last record.
    pub(crate) fn incomplete(&self, since: TimestampMs) -> Vec<(ProducerId, Offset)> {
        let recent = self.entries.iter().filter(|(_, entry)| entry.last_seen >= since);
        let mut found: Vec<(ProducerId, Offset)> = recent
            .filter(|(_, entry)| !entry.is_complete())
            .filter_map(|(id, entry)| Some((*id, entry.last()?.last_offset)))
            .collect();
        found.sort_unstable_by_key(|(_, last_offset)| std::cmp::Reverse(*last_offset));
        found
    }

    /// Whether no more batches of a producer are to be remembered.
    pub(crate) fn is_complete(&self, id: ProducerId) -> bool {
        self.entries.get(&id).is_none_or(ProducerEntry::is_complete)
    }

    /// The last batch of each producer.
    pub(crate) fn last_batches(&self) -> HashMap<ProducerId, LastBatch> {
        let last = |entry: &ProducerEntry| LastBatch {
            last_offset: entry.last().map(|written| written.last_offset),
            epoch: entry.epoch,
        };
        self.entries.iter().map(|(producer, entry)| (*producer, last(entry))).collect()
    }

    /// Forgets producers without an open transaction that were last seen before `then`.
    ///
    /// One that was seen after `now`, by a clock that was wrong, is taken to be seen now: else it would
    /// stay for as long as the clock was ahead.
    pub(crate) fn expire(&mut self, then: TimestampMs, now: TimestampMs) {
        self.entries.retain(|_, entry| {
            entry.last_seen = entry.last_seen.min(now);
            entry.txn_first_offset.is_some() || entry.last_seen > then
        });
    }

    /// The clock was set: each producer has been silent for as long as before.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        let entries = self.entries.values_mut();
        entries.for_each(|entry| entry.last_seen = entry.last_seen.plus_ms(by_ms));
    }
}

fn find_duplicate<'a>(entry: &'a ProducerEntry, batch: &BatchHeader) -> Option<&'a WrittenBatch> {
    if batch.producer_epoch != entry.epoch || batch.base_sequence < Sequence(0) {
        return None;
    }
    entry.batches().iter().find(|written| {
        written.first_sequence() == batch.base_sequence
            && written.last_sequence == batch.last_sequence()
    })
}

fn check_epoch(entry: &ProducerEntry, batch: &BatchHeader) -> Result<(), AppendError> {
    if batch.producer_epoch < entry.epoch {
        return Err(AppendError::InvalidProducerEpoch {
            producer_id: batch.producer_id,
            current: entry.epoch,
            found: batch.producer_epoch,
        });
    }
    Ok(())
}

fn check_sequence(entry: &ProducerEntry, batch: &BatchHeader) -> Result<(), AppendError> {
    let expected = match entry.last() {
        // A new epoch, or an epoch of which only markers are known: it begins at 0.
        _ if batch.producer_epoch != entry.epoch => Sequence(0),
        None => Sequence(0),
        Some(last) if last.last_sequence < Sequence(0) => Sequence(0),
        Some(last) => last.last_sequence.plus(1),
    };
    if batch.base_sequence == expected {
        return Ok(());
    }
    Err(AppendError::OutOfOrderSequence {
        producer_id: batch.producer_id,
        expected,
        found: batch.base_sequence,
    })
}

#[cfg(test)]
mod tests;
