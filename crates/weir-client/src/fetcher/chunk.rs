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

#[derive(Debug)]
pub(super) enum Content {
    Raw {
        records: Bytes,
        from: Offset,
        aborted: Vec<AbortedTransaction>,
    },
    /// `damaged`: what ended the decoding. It is told when the records before it are out.
    Decoded {
        records: std::vec::IntoIter<ConsumedRecord>,
        next: Offset,
        epochs: Epochs,
        damaged: Option<ClientError>,
    },
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

    /// Takes up to `records_max` records out, decoding the chunk first if need be. Needs no lock.
    pub(crate) fn take(&mut self, records_max: usize, config: &ConsumerConfig) -> Taken {
        if let Content::Raw { records, from, aborted } = &mut self.content {
            let mut decoding =
                Decoding::new(&self.partition, config, *from, std::mem::take(aborted));
            let mut owned = Owned { partition: &self.partition, records: Vec::new() };
            let damaged = decoding.run(records, &mut owned).err();
            let (records, next) = (owned.records.into_iter(), decoding.next);
            self.content = Content::Decoded { records, next, epochs: decoding.epochs, damaged };
        }
        let Content::Decoded { records, next: end, epochs, damaged } = &mut self.content else {
            unreachable!("decoded above");
        };
        let taken: Vec<ConsumedRecord> = if records.len() <= records_max {
            std::mem::take(records).collect()
        } else {
            records.by_ref().take(records_max).collect()
        };
        let is_done = records.len() == 0;
        let next = match taken.last() {
            Some(last) if !is_done => last.offset.next(),
            _ => *end,
        };
        let damaged = if is_done { damaged.take() } else { None };
        Taken { records: taken, next, leader_epoch: epochs.before(next), is_done, damaged }
    }

    /// Shows every record of the chunk to `see`, without an object for any. Returns how many, and the
    /// position after them.
    pub(crate) fn show(
        &mut self,
        config: &ConsumerConfig,
        see: &mut impl FnMut(RecordRef<'_>),
    ) -> Shown {
        let mut shown = Shown { count: 0, next: Offset(0), leader_epoch: None, damaged: None };
        match &mut self.content {
            Content::Raw { records, from, aborted } => {
                let mut decoding =
                    Decoding::new(&self.partition, config, *from, std::mem::take(aborted));
                let mut views = Views { partition: &self.partition, count: 0, see };
                shown.damaged = decoding.run(records, &mut views).err();
                (shown.count, shown.next) = (views.count, decoding.next);
                shown.leader_epoch = decoding.epochs.before(shown.next);
            }
            Content::Decoded { records, next, epochs, damaged } => {
                for record in records {
                    see(record.as_ref());
                    shown.count += 1;
                }
                shown.next = *next;
                shown.leader_epoch = epochs.before(*next);
                shown.damaged = damaged.take();
            }
        }
        shown
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
}

struct Owned<'a> {
    partition: &'a TopicPartition,
    records: Vec<ConsumedRecord>,
}

impl Sink for Owned<'_> {
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

struct Decoding<'a> {
    partition: &'a TopicPartition,
    config: &'a ConsumerConfig,
    from: Offset,
    next: Offset,
    epochs: Epochs,
    /// Aborted transactions not begun yet, by first offset.
    aborted: VecDeque<AbortedTransaction>,
    /// Producers inside an aborted transaction.
    aborting: HashSet<ProducerId>,
}

impl<'a> Decoding<'a> {
    fn new(
        partition: &'a TopicPartition,
        config: &'a ConsumerConfig,
        from: Offset,
        mut aborted: Vec<AbortedTransaction>,
    ) -> Self {
        aborted.sort_by_key(|transaction| transaction.first_offset);
        let aborted = VecDeque::from(aborted);
        Decoding {
            partition,
            config,
            from,
            next: from,
            epochs: Epochs::default(),
            aborted,
            aborting: HashSet::new(),
        }
    }

    fn run(&mut self, bytes: &Bytes, sink: &mut impl Sink) -> Result<(), ClientError> {
        for view in batch::batches(bytes) {
            let view = match view {
                Ok(view) => view,
                // Brokers may cut the last batch of an answer; what is whole comes first.
                Err(error) if error.is_torn() && self.next > self.from => return Ok(()),
                Err(error) => return Err(self.corrupt(&error, None)),
            };
            let next = view.last_offset().next();
            self.batch(&view, sink).map_err(|error| self.corrupt(&error, Some(next)))?;
            self.epochs.note(view.base_offset(), view.partition_leader_epoch());
            self.next = self.next.max(view.last_offset().next());
        }
        Ok(())
    }

    fn batch(
        &mut self,
        view: &BatchView<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), batch::BatchError> {
        if view.last_offset() < self.from {
            return Ok(());
        }
        if self.config.check_crcs {
            view.verify_crc()?;
        }
        if self.is_hidden(view)? {
            return Ok(());
        }
        // A fetch inside a batch gets the whole batch.
        sink.take(self.from, view.records(self.config.inflate_bytes_max)?)
    }

    /// Control batches are never shown; with read committed neither are aborted records (KIP-98).
    fn is_hidden(&mut self, view: &BatchView<'_>) -> Result<bool, batch::BatchError> {
        while let Some(first) = self.aborted.front() {
            if first.first_offset > view.last_offset().get() {
                break;
            }
            self.aborting.insert(ProducerId(first.producer_id));
            self.aborted.pop_front();
        }
        if view.is_control() {
            if is_abort_marker(view, self.config.inflate_bytes_max)? {
                self.aborting.remove(&view.producer_id());
            }
            return Ok(true);
        }
        Ok(self.config.isolation == IsolationLevel::ReadCommitted
            && view.is_transactional()
            && self.aborting.contains(&view.producer_id()))
    }

    fn corrupt(&self, error: &batch::BatchError, next: Option<Offset>) -> ClientError {
        let TopicPartition { topic, partition } = self.partition;
        ClientError::CorruptBatch {
            topic: topic.to_string(),
            partition: *partition,
            offset: self.next,
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
