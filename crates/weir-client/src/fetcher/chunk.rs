//! What was fetched of one partition, and its decoding. Needs no lock.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use weir_protocol::api::fetch::AbortedTransaction;
use weir_protocol::batch::{self, BatchView, RecordIter};
use weir_protocol::types::{LeaderEpoch, Offset, ProducerId, TimestampMs};

use crate::config::{ConsumerConfig, IsolationLevel};
use crate::consumer::TopicPartition;
use crate::error::ClientError;
use crate::record::{ConsumedRecord, RecordRef};

/// Fetched bytes of one partition, or what is left of them.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(super) partition: TopicPartition,
    pub(super) epoch: u64,
    pub(super) bytes_held: usize,
    /// The base timestamp of its first batch, if it can be read.
    pub(super) first_timestamp: Option<TimestampMs>,
    pub(super) content: Content,
}

/// What is left of it: decoded records first, then batches. These are decoded as they are taken, so that
/// what is inflated is little more than what `poll` returns at once.
#[derive(Debug)]
pub(super) struct Content {
    decoded: std::vec::IntoIter<ConsumedRecord>,
    batches: Bytes,
    progress: Progress,
    /// What ended the decoding. It is told when the records before it are out.
    damaged: Option<ClientError>,
}

impl Content {
    /// Of the bytes of an answer, fetched `from` here.
    pub(super) fn new(batches: Bytes, from: Offset, mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|transaction| transaction.first_offset);
        let progress = Progress {
            from,
            next: from,
            epochs: Epochs::default(),
            aborted: VecDeque::from(aborted),
            aborting: HashSet::new(),
        };
        Content { decoded: Vec::new().into_iter(), batches, progress, damaged: None }
    }
}

/// Leader epochs of decoded batches, each with the offset from which on it holds. Mostly one.
#[derive(Debug, Default)]
pub(super) struct Epochs(Vec<(Offset, LeaderEpoch)>);

impl Epochs {
    fn note(&mut self, from: Offset, epoch: LeaderEpoch) {
        if self.0.last().is_none_or(|(_, last)| *last != epoch) {
            self.0.push((from, epoch));
        }
    }

    /// That of the batch before this offset; none where the broker wrote none.
    fn before(&self, next: Offset) -> Option<LeaderEpoch> {
        let (_, epoch) = self.0.iter().rev().find(|(from, _)| *from < next)?;
        (epoch.get() >= 0).then_some(*epoch)
    }
}

/// What a chunk gave.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) records: Vec<ConsumedRecord>,
    /// The position after these records.
    pub(crate) next: Offset,
    /// The leader epoch of the last batch before it.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) is_done: bool,
    pub(crate) damaged: Option<ClientError>,
}

impl Chunk {
    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes up to `records_max` records out, decoding as many batches as that needs. Needs no lock.
    pub(crate) fn take(&mut self, records_max: usize, config: &ConsumerConfig) -> Taken {
        let Content { decoded, batches, progress, damaged } = &mut self.content;
        if decoded.len() == 0 && !batches.is_empty() {
            let mut owned = Owned { partition: &self.partition, records: Vec::new() };
            let mut decoding = Decoding { partition: &self.partition, config, progress };
            *damaged = decoding.run(batches, records_max, &mut owned).err();
            *decoded = owned.records.into_iter();
        }
        let records: Vec<ConsumedRecord> = if decoded.len() <= records_max {
            std::mem::take(decoded).collect()
        } else {
            decoded.by_ref().take(records_max).collect()
        };
        let next = match records.last() {
            Some(last) if decoded.len() > 0 => last.offset.next(),
            _ => progress.next,
        };
        let is_done = decoded.len() == 0 && batches.is_empty();
        let damaged = if is_done { damaged.take() } else { None };
        Taken { records, next, leader_epoch: progress.epochs.before(next), is_done, damaged }
    }

    /// Shows every record of the chunk to `see`, without an object for any. Returns how many, and the
    /// position after them.
    pub(crate) fn show(
        &mut self,
        config: &ConsumerConfig,
        see: &mut impl FnMut(RecordRef<'_>),
    ) -> Shown {
        let Content { decoded, batches, progress, damaged } = &mut self.content;
        let mut count = 0;
        for record in decoded {
            see(record.as_ref());
            count += 1;
        }
        if !batches.is_empty() {
            let mut views = Views { partition: &self.partition, count, see };
            let mut decoding = Decoding { partition: &self.partition, config, progress };
            *damaged = decoding.run(batches, usize::MAX, &mut views).err();
            count = views.count;
        }
        let leader_epoch = progress.epochs.before(progress.next);
        Shown { count, next: progress.next, leader_epoch, damaged: damaged.take() }
    }
}

/// What [`Chunk::show`] did.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) count: usize,
    pub(crate) next: Offset,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) damaged: Option<ClientError>,
}

/// Where decoded records go, a batch at a time.
trait Sink {
    /// Takes the records from `from` on.
    fn take(&mut self, from: Offset, records: RecordIter) -> Result<(), batch::BatchError>;

    /// How many it has taken.
    fn count(&self) -> usize;
}

struct Owned<'a> {
    partition: &'a TopicPartition,
    records: Vec<ConsumedRecord>,
}

impl Sink for Owned<'_> {
    fn count(&self) -> usize {
        self.records.len()
    }

    fn take(&mut self, from: Offset, records: RecordIter) -> Result<(), batch::BatchError> {
        let TopicPartition { topic, partition } = self.partition;
        for record in records {
            let record = record?;
            if record.offset >= from {
                self.records.push(ConsumedRecord {
                    topic: topic.clone(),
                    partition: *partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                });
            }
        }
        Ok(())
    }
}

struct Views<'a, F> {
    partition: &'a TopicPartition,
    count: usize,
    see: &'a mut F,
}

impl<F: FnMut(RecordRef<'_>)> Sink for Views<'_, F> {
    fn count(&self) -> usize {
        self.count
    }

    fn take(&mut self, from: Offset, mut records: RecordIter) -> Result<(), batch::BatchError> {
        let TopicPartition { topic, partition } = self.partition;
        while let Some(record) = records.next_view() {
            let record = record?;
            if record.offset >= from {
                self.count += 1;
                (self.see)(RecordRef {
                    topic,
                    partition: *partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                });
            }
        }
        Ok(())
    }
}

/// How far the batches of a chunk are decoded.
#[derive(Debug)]
struct Progress {
    from: Offset,
    next: Offset,
    epochs: Epochs,
    /// Aborted transactions not begun yet, by first offset.
    aborted: VecDeque<AbortedTransaction>,
    /// Producers inside an aborted transaction.
    aborting: HashSet<ProducerId>,
}

struct Decoding<'a> {
    partition: &'a TopicPartition,
    config: &'a ConsumerConfig,
    progress: &'a mut Progress,
}

impl Decoding<'_> {
    /// Decodes batches until the sink has so many records, and cuts them off; after an error none is left.
    fn run(
        &mut self,
        batches: &mut Bytes,
        records_max: usize,
        sink: &mut impl Sink,
    ) -> Result<(), ClientError> {
        let bytes = std::mem::take(batches);
        let mut decoded_bytes = 0;
        for view in batch::batches(&bytes) {
            if sink.count() >= records_max {
                *batches = bytes.slice(decoded_bytes..);
                return Ok(());
            }
            let view = match view {
                Ok(view) => view,
                // Brokers may cut the last batch of an answer; what is whole comes first.
                Err(error) if error.is_torn() && self.progress.next > self.progress.from => {
                    return Ok(());
                }
                Err(error) => return Err(self.corrupt(&error, None)),
            };
            let next = view.last_offset().next();
            self.batch(&view, sink).map_err(|error| self.corrupt(&error, Some(next)))?;
            self.progress.epochs.note(view.base_offset(), view.partition_leader_epoch());
            self.progress.next = self.progress.next.max(view.last_offset().next());
            decoded_bytes += view.size_bytes();
        }
        Ok(())
    }

    fn batch(
        &mut self,
        view: &BatchView<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), batch::BatchError> {
        if view.last_offset() < self.progress.from {
            return Ok(());
        }
        if self.config.check_crcs {
            view.verify_crc()?;
        }
        if self.is_hidden(view)? {
            return Ok(());
        }
        // A fetch inside a batch gets the whole batch.
        sink.take(self.progress.from, view.records(self.config.inflate_bytes_max)?)
    }

    /// Control batches are never shown; with read committed neither are aborted records (KIP-98).
    fn is_hidden(&mut self, view: &BatchView<'_>) -> Result<bool, batch::BatchError> {
        while let Some(first) = self.progress.aborted.front() {
            if first.first_offset > view.last_offset().get() {
                break;
            }
            self.progress.aborting.insert(ProducerId(first.producer_id));
            self.progress.aborted.pop_front();
        }
        if view.is_control() {
            if is_abort_marker(view, self.config.inflate_bytes_max)? {
                self.progress.aborting.remove(&view.producer_id());
            }
            return Ok(true);
        }
        Ok(self.config.isolation == IsolationLevel::ReadCommitted
            && view.is_transactional()
            && self.progress.aborting.contains(&view.producer_id()))
    }

    fn corrupt(&self, error: &batch::BatchError, next: Option<Offset>) -> ClientError {
        let TopicPartition { topic, partition } = self.partition;
        ClientError::CorruptBatch {
            topic: topic.to_string(),
            partition: *partition,
            offset: self.progress.next,
            next,
            reason: error.to_string(),
        }
    }
}

/// The marker's key is {version i16, type i16}; type 0 aborts.
fn is_abort_marker(
    view: &BatchView<'_>,
    inflate_bytes_max: usize,
) -> Result<bool, batch::BatchError> {
    let first = view.records(inflate_bytes_max)?.next().transpose()?;
    let key = first.and_then(|record| record.key).unwrap_or_default();
    Ok(key.get(2..4) == Some(&[0, 0]))
}
