//! Produce: batches pass through as they came.
//!
//! What needs no log is checked outside the core's lock ([`Produce::prepare`]): one batch of format 2 per partition,
//! header, CRC, counts. Under the lock a batch gets its offset in place, in the very bytes that came from the socket, and
//! goes to its log. With acks=all the answer waits for the commit that covers it.
//!
//! # Limits
//! Single records are looked at where the topic asks for something that they alone can tell, or that changes them: keys in
//! compacted topics, a codec of its own (`compression.type`), a bound on the age of records. That is done outside the lock
//! as well: the core says [`Step::LookInside`], and the request comes again when it is done. Elsewhere a batch whose records
//! are broken inside, under a CRC that fits, is taken as it is: Kafka would refuse it, here its readers do
//! (`docs/adr/2026-11-21-records-inside-batches-are-opaque.md`).

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use weir_log::AppendOrigin;
use weir_protocol::api::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use weir_protocol::batch::{validate_for_produce, BatchError, BatchView, Recoding, RecordsSummary};
use weir_protocol::compression::{Codec, Compressor};
use weir_protocol::{ErrorCode, PartitionId, Str, TimestampMs, Uuid};

use crate::broker::{Broker, Step};
use crate::config::Durability;
use crate::effects::Ticket;
use crate::logs::Taken;
use crate::request::Response;
use crate::topics::{Topic, TopicLimits};
use crate::transaction::Producer;
use crate::transaction_coordinator::{TransactionalBatch, TransactionalWrite};

/// From this version on topics are named by their ids alone (KIP-516).
const TOPICS_BY_ID: i16 = 13;

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
    inside: Inside,
}

/// What is known of the records of a batch.
#[derive(Debug)]
enum Inside {
    /// Nobody wants to know.
    Unread,
    /// Its topic does.
    Wanted(Wish),
    /// What was found.
    Read(Wish, Result<Findings, Refusal>),
}

/// What a topic asks of the records of a batch, beside that they can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    /// Each has a key.
    keys: bool,
    /// They are compressed so, and the batch then takes so many bytes at most.
    recoding: Option<(Recoding, usize)>,
}

/// What was found inside a batch.
#[derive(Debug)]
struct Findings {
    summary: RecordsSummary,
    /// The batch as it goes to the log, if that is another than came.
    recoded: Option<Vec<u8>>,
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
                            inside: Inside::Unread,
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

    /// Looks inside the batches where the core wants to know, and compresses anew what its topic has under another codec
    /// (Kafka's `LogValidator`).
    ///
    /// Cost: the batches' records, inflated to at most `inflate_bytes_max` one after the other. What was compressed anew
    /// takes so much at most, all together.
    pub fn look_inside(&mut self, inflate_bytes_max: usize) {
        let frame = &self.frame;
        let mut compressor = Compressor::default();
        let mut left_bytes = inflate_bytes_max;
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let (Inside::Wanted(wish), Ok(range)) = (&partition.inside, &partition.batch) else {
                continue;
            };
            let (wish, bytes) = (*wish, frame.get(range.clone()).unwrap_or_default());
            let found = wish.look(bytes, &mut compressor, inflate_bytes_max, left_bytes);
            if let Ok(Findings { recoded: Some(recoded), .. }) = &found {
                left_bytes = left_bytes.saturating_sub(recoded.len());
            }
            partition.inside = Inside::Read(wish, found);
        }
    }

    /// Whether [`Produce::look_inside`] would inflate or compress something.
    #[must_use]
    pub fn is_dear_to_look_inside(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.into_iter().any(|partition| match partition.inside {
            Inside::Wanted(Wish { recoding: Some(_), .. }) => true,
            Inside::Wanted(_) => {
                let bytes = partition.batch.clone().ok().and_then(|range| self.frame.get(range));
                let view = bytes.and_then(|bytes| BatchView::parse(bytes).ok());
                view.is_some_and(|view| !matches!(view.codec(), Ok(Codec::None)))
            }
            Inside::Unread | Inside::Read(..) => false,
        })
    }

    /// How many partitions it writes to.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions.len()).sum()
    }
}

impl Wish {
    fn look(
        self,
        bytes: &[u8],
        compressor: &mut Compressor,
        inflate_bytes_max: usize,
        left_bytes: usize,
    ) -> Result<Findings, Refusal> {
        let view = BatchView::parse(bytes).map_err(|error| Refusal::batch(&error))?;
        let found = match self.recoding {
            None => view.check_records(inflate_bytes_max).map(|summary| (summary, None)),
            Some((recoding, bytes_max)) => {
                let bytes_max = bytes_max.min(left_bytes);
                let recoded = view.recode(recoding, compressor, inflate_bytes_max, bytes_max);
                recoded.map(|(batch, summary)| (summary, Some(batch)))
            }
        };
        let (summary, recoded) = found.map_err(|error| Refusal::batch(&error))?;
        match summary.keyless_index.filter(|_| self.keys) {
            None => Ok(Findings { summary, recoded }),
            Some(index) => Err(Refusal {
                error: ErrorCode::InvalidRecord,
                message: Some(Str::from_static("a compacted topic takes no record without a key")),
                records: vec![index],
            }),
        }
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
        if !too_many && self.wants_a_look_inside(produce) {
            return Step::LookInside;
        }
        let batches = match too_many {
            true => Vec::new(),
            false => self.transactional_batches(produce),
        };
        let id = produce.transactional_id.as_ref();
        let write = self.begin_transactional_write(id, produce.version, &batches, now);
        let Produce { acks, version, topics, frame, .. } = produce;
        let mut failed = false;
        let mut responses = Vec::with_capacity(topics.len());
        for topic in topics {
            let ProduceTopic { name, topic_id, partitions } = topic;
            let mut partition_responses = Vec::with_capacity(partitions.len());
            for partition in partitions {
                let index = partition.index;
                let taken = match too_many {
                    true => Err(Refusal::bare(ErrorCode::InvalidRequest)),
                    false => {
                        let named = (&*name, *topic_id);
                        let how = (*acks, *version);
                        self.produce_partition(named, partition, how, &write, frame, now)
                    }
                };
                failed |= taken.is_err();
                partition_responses.push(partition_response(index, taken));
            }
            let (name, topic_id) = (name.clone(), *topic_id);
            responses.push(TopicProduceResponse { name, topic_id, partition_responses });
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
        named: (&Str, Uuid),
        partition: &mut ProducePartition,
        (acks, version): (i16, i16),
        write: &TransactionalWrite,
        frame: &mut BytesMut,
        now: TimestampMs,
    ) -> Result<Taken, Refusal> {
        if !(-1..=1).contains(&acks) {
            return Err(Refusal::bare(ErrorCode::InvalidRequiredAcks));
        }
        let bytes = frame.get_mut(partition.batch.clone()?);
        let bytes = bytes.ok_or(Refusal::bare(ErrorCode::UnknownServerError))?;
        let inside = std::mem::replace(&mut partition.inside, Inside::Unread);
        let topic = self.produced_topic(named, version)?;
        let partition = PartitionId(partition.index);
        let limits = topic.limits;
        let existing = topic.existing_log(partition).map_err(Refusal::bare)?;
        let mut recoded = what_was_found(inside, &limits, bytes, now)?;
        let bytes = recoded.as_deref_mut().unwrap_or(bytes);
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

    /// Whether topics of a request ask for something that takes a look inside its batches, and nobody has had one. Nothing of
    /// the request is taken before.
    fn wants_a_look_inside(&self, produce: &mut Produce) -> bool {
        let mut wants = false;
        for request in &mut produce.topics {
            let Ok(topic) = self.produced_topic((&request.name, request.topic_id), produce.version)
            else {
                continue;
            };
            let limits = topic.limits;
            if !limits.looks_inside() {
                continue;
            }
            for partition in &mut request.partitions {
                let bytes = partition.batch.clone().ok().and_then(|range| produce.frame.get(range));
                let Some(wish) = bytes.and_then(|bytes| wish_of(&limits, bytes)) else { continue };
                let is_read = matches!(&partition.inside, Inside::Read(read, _) if *read == wish);
                if !is_read {
                    partition.inside = Inside::Wanted(wish);
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
            let Ok(topic) = self.produced_topic((&request.name, request.topic_id), produce.version)
            else {
                continue;
            };
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

    fn produced_topic(&self, (name, id): (&Str, Uuid), version: i16) -> Result<&Topic, Refusal> {
        let topic = if version < TOPICS_BY_ID {
            let topic = self.topics.get(name);
            topic.ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?
        } else {
            self.topics.get_by_id(id).ok_or(Refusal::bare(ErrorCode::UnknownTopicId))?
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

/// What a topic asks of the records of a batch; `None`: nothing. One that is larger than it may be before it is compressed
/// anew is refused by its log, as by Kafka, and not looked into.
fn wish_of(limits: &TopicLimits, bytes: &[u8]) -> Option<Wish> {
    let view = BatchView::parse(bytes).ok().filter(|_| bytes.len() <= limits.batch_bytes_max)?;
    let recoding = limits.recoding.filter(|recoding| view.codec() != Ok(recoding.codec));
    let recoding = recoding.map(|recoding| (recoding, limits.batch_bytes_max));
    let wants = limits.compacted || recoding.is_some() || limits.has_oldest();
    wants.then_some(Wish { keys: limits.compacted, recoding })
}

/// Whether what was found inside a batch is fine. Returns the batch as it goes to the log, if that is another than came.
fn what_was_found(
    inside: Inside,
    limits: &TopicLimits,
    bytes: &[u8],
    now: TimestampMs,
) -> Result<Option<Vec<u8>>, Refusal> {
    if wish_of(limits, bytes).is_none() {
        return Ok(None);
    }
    // It was looked into: see `wants_a_look_inside`.
    let Inside::Read(_, found) = inside else {
        return Err(Refusal::bare(ErrorCode::UnknownServerError));
    };
    let Findings { summary, recoded } = found?;
    if let Some((oldest, index)) = summary.oldest.filter(|_| limits.has_oldest()) {
        if now.since(oldest) > limits.timestamp_before_max_ms {
            return Err(Refusal { records: vec![index], ..out_of_range() });
        }
    }
    Ok(recoded)
}

fn check_limits(
    bytes: &[u8],
    limits: TopicLimits,
    now: TimestampMs,
) -> Result<BatchView<'_>, Refusal> {
    let view = BatchView::parse(bytes).map_err(|_| Refusal::bare(ErrorCode::CorruptMessage))?;
    let ahead_ms = view.max_timestamp().since(now);
    match !limits.log_append_time && ahead_ms > limits.timestamp_after_max_ms {
        true => Err(out_of_range()),
        false => Ok(view),
    }
}

fn out_of_range() -> Refusal {
    let words = "the timestamp of a record is out of the topic's range";
    Refusal::new(ErrorCode::InvalidTimestamp, words)
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
            record_errors: refusal
                .records
                .into_iter()
                .map(|batch_index| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: refusal.message.clone(),
                })
                .collect(),
            error_message: refusal.message,
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
