//! Produce: batches pass through as they came.
//!
//! What needs no log is checked outside the core's lock ([`Produce::prepare`]): one batch of format 2 per partition,
//! header, CRC, counts. Under the lock a batch gets its offset in place, in the very bytes that came from the socket, and
//! goes to its log. With acks=all the answer waits for the commit that covers it.
//!
//! # Limits
//! Single records are looked at for compacted topics alone, and then outside the lock as well: the core says
//! [`Step::CheckKeys`], and the request comes again when that is done. Elsewhere a batch whose records are broken inside, under a CRC that fits, is taken as it is: Kafka would refuse it, here its readers do
//! (`docs/adr/2026-11-21-records-inside-batches-are-opaque.md`).

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use weir_log::AppendOrigin;
use weir_protocol::api::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use weir_protocol::batch::{validate_for_produce, BatchError, BatchView};
use weir_protocol::compression::Codec;
use weir_protocol::{ErrorCode, PartitionId, Str, TimestampMs, Uuid};

use crate::broker::{Broker, Step};
use crate::config::Durability;
use crate::effects::Ticket;
use crate::logs::Taken;
use crate::request::Response;
use crate::topics::Topic;
use crate::transaction::Producer;
use crate::transaction_coordinator::{TransactionalBatch, TransactionalWrite};

/// A Produce request whose batches are checked. They lie in its frame, of which it is the only owner.
#[derive(Debug)]
pub struct Produce {
    acks: i16,
    version: i16,
    transactional_id: Option<Str>,
    topics: Vec<ProduceTopic>,
    frame: BytesMut,
}

#[derive(Debug)]
struct ProduceTopic {
    name: Str,
    topic_id: Uuid,
    partitions: Vec<ProducePartition>,
}

#[derive(Debug)]
struct ProducePartition {
    index: i32,
    /// Where its batch lies in the frame, or what is wrong with it.
    batch: Result<Range<usize>, Refusal>,
    keys: Keys,
}

/// Whether each record of a batch has a key.
#[derive(Debug, Clone)]
enum Keys {
    /// Nobody wants to know.
    Unread,
    /// Its topic is compacted.
    Wanted,
    /// The answer.
    Read(Result<(), Refusal>),
}

/// Why a batch is not taken.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) error: ErrorCode,
    pub(crate) message: Option<Str>,
    /// Indexes of the records it is about, if single ones are.
    pub(crate) records: Vec<i32>,
}

impl Refusal {
    pub(crate) fn new(error: ErrorCode, message: &'static str) -> Self {
        Self { error, message: Some(Str::from_static(message)), records: Vec::new() }
    }

    fn batch(error: &BatchError) -> Self {
        let records = match error {
            BatchError::Record { index, .. } => vec![*index],
            _ => Vec::new(),
        };
        Self { error: error.error_code(), message: Some(Str::from(error.to_string())), records }
    }

    pub(crate) fn bare(error: ErrorCode) -> Self {
        Self { error, message: None, records: Vec::new() }
    }
}

impl Produce {
    /// Checks what can be checked without a log, and takes the frame apart.
    #[must_use]
    pub fn prepare(frame: Bytes, body: ProduceRequest, version: i16) -> Self {
        let start = frame.as_ptr() as usize;
        let prepared = Self {
            acks: body.acks,
            version,
            transactional_id: body.transactional_id.as_deref().map(Str::copy_from),
            topics: body
                .topic_data
                .into_iter()
                .map(|topic| ProduceTopic {
                    name: Str::copy_from(&topic.name),
                    topic_id: topic.topic_id,
                    partitions: topic
                        .partition_data
                        .into_iter()
                        .map(|partition| ProducePartition {
                            index: partition.index,
                            batch: check_batch(partition.records.as_ref(), version).map(|len| {
                                // The decoder slices, it never copies: the batch lies in the frame.
                                let at = partition
                                    .records
                                    .as_ref()
                                    .map_or(start, |r| r.as_ptr() as usize)
                                    - start;
                                at..at + len
                            }),
                            keys: Keys::Unread,
                        })
                        .collect(),
                })
                .collect(),
            frame: BytesMut::new(),
        };
        // All slices of it are dropped by now, so this does not copy.
        let frame = frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        Self { frame, ..prepared }
    }

    /// The memory of the frame, to be used again.
    #[must_use]
    pub fn into_frame(self) -> BytesMut {
        self.frame
    }

    /// Looks for records without a key where the core wants to know. A record without one can never be compacted away
    /// (Kafka's `LogValidator.validateKey`).
    ///
    /// Cost: the batches' records, inflated to at most `inflate_bytes_max` one after the other.
    pub fn check_keys(&mut self, inflate_bytes_max: usize) {
        let frame = &self.frame;
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let (Keys::Wanted, Ok(range)) = (&partition.keys, &partition.batch) else { continue };
            let bytes = frame.get(range.clone()).unwrap_or_default();
            partition.keys = Keys::Read(refuse_records_without_key(bytes, inflate_bytes_max));
        }
    }

    /// Whether [`Produce::check_keys`] would inflate something.
    #[must_use]
    pub fn keys_are_compressed(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        let mut wanted = partitions.filter(|partition| matches!(partition.keys, Keys::Wanted));
        wanted.any(|partition| {
            let bytes = partition.batch.clone().ok().and_then(|range| self.frame.get(range));
            let view = bytes.and_then(|bytes| BatchView::parse(bytes).ok());
            view.is_some_and(|view| !matches!(view.codec(), Ok(Codec::None)))
        })
    }

    /// How many partitions it writes to.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions.len()).sum()
    }
}

fn refuse_records_without_key(bytes: &[u8], inflate_bytes_max: usize) -> Result<(), Refusal> {
    let view = BatchView::parse(bytes).map_err(|error| Refusal::batch(&error))?;
    let summary = view.check_records(inflate_bytes_max).map_err(|error| Refusal::batch(&error))?;
    match summary.keyless_index {
        None => Ok(()),
        Some(index) => Err(Refusal {
            error: ErrorCode::InvalidRecord,
            message: Some(Str::from_static("a compacted topic takes no record without a key")),
            records: vec![index],
        }),
    }
}

/// The length of the one batch in `records`.
fn check_batch(records: Option<&Bytes>, version: i16) -> Result<usize, Refusal> {
    let records = records.map(|records| &records[..]).unwrap_or_default();
    let view = validate_for_produce(records, version).map_err(|error| Refusal::batch(&error))?;
    Ok(view.size_bytes())
}

impl Broker {
    pub(crate) fn produce(
        &mut self,
        ticket: Ticket,
        produce: &mut Produce,
        now: TimestampMs,
    ) -> Step {
        let too_many = produce.partition_count() > self.config.request_partitions_max;
        if !too_many && self.wants_keys(produce) {
            return Step::CheckKeys;
        }
        let batches = match too_many {
            true => Vec::new(),
            false => self.transactional_batches(produce),
        };
        let id = produce.transactional_id.as_ref();
        let write = self.begin_transactional_write(id, produce.version, &batches, now);
        let Produce { acks, topics, frame, .. } = produce;
        let mut failed = false;
        let mut responses = Vec::with_capacity(topics.len());
        for topic in topics {
            let mut partition_responses = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let taken = match too_many {
                    true => Err(Refusal::bare(ErrorCode::InvalidRequest)),
                    false => self.produce_partition(topic, partition, *acks, &write, frame, now),
                };
                failed |= taken.is_err();
                partition_responses.push(partition_response(partition.index, taken));
            }
            responses.push(TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses,
            });
        }
        let response = ProduceResponse { responses, ..ProduceResponse::default() };
        match *acks {
            0 if failed => Step::Close,
            0 => Step::Silent,
            -1 if self.waits_for_sync(*acks) => {
                self.commit_queue.answer_when_synced(ticket, Response::Produce(response))
            }
            _ => Step::Answer(Response::Produce(response)),
        }
    }

    /// Whether the answer comes after the sync.
    fn waits_for_sync(&self, acks: i16) -> bool {
        acks == -1 && self.config.durability == Durability::Strict
    }

    fn produce_partition(
        &mut self,
        request: &ProduceTopic,
        partition: &ProducePartition,
        acks: i16,
        write: &TransactionalWrite,
        frame: &mut BytesMut,
        now: TimestampMs,
    ) -> Result<Taken, Refusal> {
        if !(-1..=1).contains(&acks) {
            return Err(Refusal::bare(ErrorCode::InvalidRequiredAcks));
        }
        let (range, keys) = (partition.batch.clone()?, partition.keys.clone());
        let bytes = frame.get_mut(range).ok_or(Refusal::bare(ErrorCode::UnknownServerError))?;
        let topic = self.produced_topic(request)?;
        let partition = PartitionId(partition.index);
        let limits = topic.limits;
        let existing = topic.existing_log(partition).map_err(Refusal::bare)?;
        if acks == -1 && limits.min_insync_replicas > 1 {
            let words = "min.insync.replicas of the topic is more than this one node";
            return Err(Refusal::new(ErrorCode::NotEnoughReplicas, words));
        }
        let view = check_limits(bytes, limits, now)?;
        if view.is_transactional() {
            let batch = TransactionalBatch {
                producer: producer_of(&view),
                base_sequence: view.base_sequence(),
                topic: topic.name(),
                partition,
                log: existing,
            };
            self.check_transactional_write(write, batch).map_err(Refusal::bare)?;
        }
        if limits.compacted {
            // It was looked at: see `wants_keys`.
            let Keys::Read(checked) = keys else {
                return Err(Refusal::bare(ErrorCode::UnknownServerError));
            };
            checked?;
        }
        let log = match existing {
            Some(log) => log,
            None => {
                let name = topic.name().clone();
                self.log_for_append(&name, partition, now).map_err(Refusal::bare)?
            }
        };
        let taken = self.logs.append(log, bytes, AppendOrigin::Client, now)?;
        if !taken.duplicate {
            self.commit_queue.appended(self.waits_for_sync(acks));
        }
        Ok(taken)
    }

    /// Whether batches are for compacted topics and nobody has looked at their keys. Nothing of the request is taken before.
    fn wants_keys(&self, produce: &mut Produce) -> bool {
        let mut wants = false;
        for request in &mut produce.topics {
            let compacted = |topic: &Topic| topic.limits.compacted;
            if !self.produced_topic(request).is_ok_and(compacted) {
                continue;
            }
            for partition in &mut request.partitions {
                if partition.batch.is_ok() && !matches!(partition.keys, Keys::Read(_)) {
                    partition.keys = Keys::Wanted;
                    wants = true;
                }
            }
        }
        wants
    }

    /// The transactional batches of a request, to partitions that there are.
    fn transactional_batches(&self, produce: &Produce) -> Vec<(Producer, Str, i32)> {
        if produce.transactional_id.is_none() {
            return Vec::new();
        }
        let mut batches = Vec::new();
        for request in &produce.topics {
            let Ok(topic) = self.produced_topic(request) else { continue };
            for partition in &request.partitions {
                let exists = topic.existing_log(PartitionId(partition.index)).is_ok();
                let Ok(range) = partition.batch.clone() else { continue };
                let Some(bytes) = produce.frame.get(range).filter(|_| exists) else { continue };
                let Ok(view) = BatchView::parse(bytes) else { continue };
                if view.is_transactional() {
                    batches.push((producer_of(&view), topic.name().clone(), partition.index));
                }
            }
        }
        batches
    }

    fn produced_topic(&self, request: &ProduceTopic) -> Result<&Topic, Refusal> {
        let topic = if request.topic_id.is_zero() {
            self.topics
                .get(&request.name)
                .ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?
        } else {
            self.topics
                .get_by_id(request.topic_id)
                .ok_or(Refusal::bare(ErrorCode::UnknownTopicId))?
        };
        match topic.is_internal() {
            true => Err(Refusal::new(
                ErrorCode::InvalidTopicException,
                "internal topics are written by the broker alone",
            )),
            false => Ok(topic),
        }
    }
}

fn producer_of(view: &BatchView<'_>) -> Producer {
    Producer { id: view.producer_id(), epoch: view.producer_epoch() }
}

fn check_limits(
    bytes: &[u8],
    limits: crate::topics::TopicLimits,
    now: TimestampMs,
) -> Result<BatchView<'_>, Refusal> {
    let view = BatchView::parse(bytes).map_err(|_| Refusal::bare(ErrorCode::CorruptMessage))?;
    if !limits.log_append_time {
        let ahead_ms = view.max_timestamp().since(now);
        let behind_ms = now.since(view.max_timestamp());
        if ahead_ms > limits.timestamp_after_max_ms || behind_ms > limits.timestamp_before_max_ms {
            return Err(Refusal::new(
                ErrorCode::InvalidTimestamp,
                "the timestamp of a record is out of the topic's range",
            ));
        }
    }
    Ok(view)
}

fn partition_response(index: i32, taken: Result<Taken, Refusal>) -> PartitionProduceResponse {
    match taken {
        Ok(taken) => PartitionProduceResponse {
            index,
            base_offset: taken.base_offset.get(),
            log_append_time_ms: taken.append_time.map_or(-1, TimestampMs::get),
            log_start_offset: taken.log_start_offset.get(),
            ..PartitionProduceResponse::default()
        },
        Err(refusal) => PartitionProduceResponse {
            index,
            error_code: refusal.error.code(),
            base_offset: -1,
            error_message: refusal.message,
            record_errors: refusal
                .records
                .into_iter()
                .map(|batch_index| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: None,
                })
                .collect(),
            ..PartitionProduceResponse::default()
        },
    }
}

/// The answer to a produce whose commit failed: nothing of it may be taken for safe.
pub(crate) fn storage_failed(mut response: ProduceResponse) -> ProduceResponse {
    for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses)
    {
        if partition.error_code == ErrorCode::None.code() {
            partition.error_code = ErrorCode::KafkaStorageError.code();
            partition.base_offset = -1;
            partition.error_message =
                Some(Str::from_static("the log directory is offline after a failed sync"));
        }
    }
    response
}
