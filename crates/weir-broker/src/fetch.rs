//! Fetch: what there is up to the high watermark, or a wait for it.
//!
//! The high watermark of a partition is its synced offset, so nobody reads what a power cut can take back. The core
//! decides which bytes of which files are sent; reading them is left to the shell, outside the lock: little at once
//! ([`FetchAnswer::read`]), much a chunk at a time while the frame is being sent ([`FetchAnswer::encode_around`]).
//!
//! Fetch sessions (KIP-227) are not kept: every answer says session 0, so every request names its partitions.

use std::collections::BTreeSet;
use std::io;

use bytes::{Bytes, BytesMut};
use weir_log::{FileSlice, LogId};
use weir_protocol::api::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use weir_protocol::{
    frame, ApiKey, EncodeError, ErrorCode, LeaderEpoch, Offset, PartitionId, Str, TimestampMs, Uuid,
};

use crate::broker::{Broker, Step};
use crate::effects::{ConnId, Ticket};
use crate::purgatory::ParkedFetch;
use crate::request::Response;

/// Isolation level of a request: only what is committed.
pub(crate) const READ_COMMITTED: i8 = 1;

/// What a fetch asks for.
#[derive(Debug)]
pub struct FetchPlan {
    read_committed: bool,
    by_id: bool,
    min_bytes: usize,
    bytes_max: usize,
    topics: Vec<PlanTopic>,
    /// The logs it waits for, while it is parked.
    logs: Vec<LogId>,
}

#[derive(Debug)]
struct PlanTopic {
    name: Str,
    topic_id: Uuid,
    partitions: Vec<PlanPartition>,
}

#[derive(Debug)]
struct PlanPartition {
    index: i32,
    offset: Offset,
    bytes_max: usize,
    current_leader_epoch: LeaderEpoch,
}

/// An answer whose record bytes are still in their files.
#[derive(Debug)]
pub struct FetchAnswer {
    /// The answer, without record bytes until [`FetchAnswer::read`].
    pub response: FetchResponse,
    slices: Vec<PartitionSlices>,
    bytes: usize,
    failed: bool,
}

/// A piece of an answer's frame.
#[derive(Debug)]
pub enum Piece {
    /// Here it is.
    Bytes(Bytes),
    /// Records that are still in their file.
    Records(FileSlice),
}

/// What stands for records that are left out while the rest is encoded; known by its address.
static STAND_IN: [u8; 1] = [0];

#[derive(Debug)]
struct PartitionSlices {
    topic: usize,
    partition: usize,
    slices: Vec<FileSlice>,
}

impl FetchPlan {
    fn new(request: FetchRequest, version: i16, fetch_bytes_max: usize) -> Self {
        let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        Self {
            read_committed: request.isolation_level == READ_COMMITTED,
            by_id: version >= 13,
            // More than may be sent would never come.
            min_bytes: size(request.min_bytes).min(size(request.max_bytes)).min(fetch_bytes_max),
            bytes_max: size(request.max_bytes).min(fetch_bytes_max),
            topics: request
                .topics
                .into_iter()
                .map(|topic| PlanTopic {
                    name: Str::copy_from(&topic.topic),
                    topic_id: topic.topic_id,
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition| PlanPartition {
                            index: partition.partition,
                            offset: Offset(partition.fetch_offset),
                            bytes_max: size(partition.partition_max_bytes),
                            current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                        })
                        .collect(),
                })
                .collect(),
            logs: Vec::new(),
        }
    }

    /// The logs it waits for.
    pub fn logs(&self) -> impl Iterator<Item = LogId> + '_ {
        self.logs.iter().copied()
    }

    fn partition_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions.len()).sum()
    }
}

impl FetchAnswer {
    /// Reads the files into the answer. `buffer` is kept for the next one: once its pieces are sent, its memory is used
    /// again.
    ///
    /// # Errors
    /// If a file cannot be read. The connection is then to be closed: the client asks again.
    pub fn read(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        buffer.clear();
        buffer.reserve(self.bytes);
        for part in std::mem::take(&mut self.slices) {
            let len: usize = part.slices.iter().map(|slice| slice.len_bytes()).sum();
            buffer.resize(len, 0);
            let mut bytes = buffer.split();
            let mut at = 0;
            for slice in &part.slices {
                let Some(room) = bytes.get_mut(at..at + slice.len_bytes()) else { continue };
                slice.read_into(room)?;
                at += slice.len_bytes();
            }
            let topic = self.response.responses.get_mut(part.topic);
            if let Some(partition) =
                topic.and_then(|topic| topic.partitions.get_mut(part.partition))
            {
                partition.records = Some(bytes.freeze());
            }
        }
        Ok(())
    }

    /// The frame of this answer in pieces, with the records left in their files: its length is known from theirs.
    ///
    /// # Errors
    /// If it cannot be written in this version.
    pub fn encode_around(
        mut self,
        key: ApiKey,
        version: i16,
        correlation_id: i32,
    ) -> Result<Vec<Piece>, EncodeError> {
        // The frame has them in the order of the partitions; they were read in another.
        self.slices.sort_unstable_by_key(|part| (part.topic, part.partition));
        let stand_in = Bytes::from_static(&STAND_IN);
        let mut lens = Vec::with_capacity(self.slices.len());
        for part in &self.slices {
            let topic = self.response.responses.get_mut(part.topic);
            let partition = topic.and_then(|topic| topic.partitions.get_mut(part.partition));
            if let Some(partition) = partition {
                partition.records = Some(stand_in.clone());
                lens.push(part.slices.iter().map(|slice| slice.len_bytes()).sum());
            }
        }
        debug_assert_eq!(lens.len(), self.slices.len(), "each slice has its place");
        let encoded = frame::encode_response_around(
            key,
            version,
            correlation_id,
            &self.response,
            stand_in,
            lens,
        )?;
        let mut slices = self.slices.into_iter();
        let mut pieces = Vec::with_capacity(encoded.len());
        for piece in encoded {
            match piece.is_empty() {
                false => pieces.push(Piece::Bytes(piece)),
                true => {
                    let part = slices.next().into_iter().flat_map(|part| part.slices);
                    pieces.extend(part.map(Piece::Records));
                }
            }
        }
        Ok(pieces)
    }

    /// Bytes of records it will have.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.bytes
    }

    fn error(error: ErrorCode) -> Self {
        let response = FetchResponse { error_code: error.code(), ..FetchResponse::default() };
        Self { response, slices: Vec::new(), bytes: 0, failed: true }
    }
}

impl Broker {
    pub(crate) fn fetch(
        &mut self,
        conn: ConnId,
        ticket: Ticket,
        request: FetchRequest,
        version: i16,
        now: TimestampMs,
    ) -> Step {
        if request.session_id != 0 && request.session_epoch > 0 {
            return Step::Answer(Response::Fetch(FetchAnswer::error(
                ErrorCode::FetchSessionIdNotFound,
            )));
        }
        if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
            // Replicas read beyond the high watermark, and there are none (CVE-2018-1288).
            return Step::Answer(Response::Fetch(FetchAnswer::error(ErrorCode::InvalidRequest)));
        }
        let wait_ms = request.max_wait_ms.clamp(0, self.config.fetch_wait_ms_max);
        let mut plan = FetchPlan::new(request, version, self.config.fetch_bytes_max);
        if plan.partition_count() > self.config.request_partitions_max {
            return Step::Answer(Response::Fetch(FetchAnswer::error(ErrorCode::InvalidRequest)));
        }
        self.fetch_turn = self.fetch_turn.wrapping_add(1);
        let answer = self.evaluate(&plan);
        if answer.failed
            || answer.bytes >= plan.min_bytes
            || wait_ms == 0
            || plan.partition_count() == 0
        {
            return Step::Answer(Response::Fetch(answer));
        }
        plan.logs = self.logs_of(&plan);
        let deadline = now.plus_ms(i64::from(wait_ms));
        self.purgatory.park(ticket, ParkedFetch { conn, plan, deadline });
        Step::Parked
    }

    fn logs_of(&self, plan: &FetchPlan) -> Vec<LogId> {
        let partitions =
            plan.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
        let mut logs: Vec<LogId> = partitions
            .filter_map(|(topic, partition)| {
                self.fetched_topic(plan, topic).ok()?.log(PartitionId(partition.index))
            })
            .collect();
        logs.sort_unstable();
        logs.dedup();
        logs
    }

    /// Answers those who wait for one of `logs` and now have enough. Each is looked at once, however many of its logs
    /// have grown.
    pub(crate) fn wake_fetches(
        &mut self,
        logs: impl Iterator<Item = LogId>,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let tickets: BTreeSet<Ticket> =
            logs.flat_map(|log| self.purgatory.waiting_for(log)).collect();
        for ticket in tickets {
            self.wake_fetch_if_ready(ticket, woken);
        }
    }

    /// Looks at all that wait: a topic was made or deleted.
    pub(crate) fn wake_all_fetches(&mut self, woken: &mut Vec<(Ticket, Response)>) {
        for ticket in self.purgatory.tickets() {
            self.wake_fetch_if_ready(ticket, woken);
        }
    }

    fn wake_fetch_if_ready(&mut self, ticket: Ticket, woken: &mut Vec<(Ticket, Response)>) {
        let Some(parked) = self.purgatory.get(ticket) else { return };
        let answer = self.evaluate(&parked.plan);
        if answer.failed || answer.bytes >= parked.plan.min_bytes {
            self.purgatory.take(ticket);
            woken.push((ticket, Response::Fetch(answer)));
        }
    }

    /// Answers those whose time is up with what there is.
    pub(crate) fn expire_fetches(&mut self, now: TimestampMs, woken: &mut Vec<(Ticket, Response)>) {
        while let Some((ticket, parked)) = self.purgatory.take_due(now) {
            let answer = self.evaluate(&parked.plan);
            woken.push((ticket, Response::Fetch(answer)));
        }
    }

    /// What there is now for `plan`.
    ///
    /// Partitions are answered in the order of the request, but each fetch begins to read at another one: whoever comes
    /// last under `max_bytes` is not always the same.
    fn evaluate(&self, plan: &FetchPlan) -> FetchAnswer {
        let mut answer = FetchAnswer {
            response: FetchResponse::default(),
            slices: Vec::new(),
            bytes: 0,
            failed: false,
        };
        answer.response.responses = plan
            .topics
            .iter()
            .map(|topic| FetchableTopicResponse {
                topic: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: topic.partitions.iter().map(|_| PartitionData::default()).collect(),
            })
            .collect();
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(plan.partition_count());
        for (topic, wanted) in plan.topics.iter().enumerate() {
            places.extend((0..wanted.partitions.len()).map(|partition| (topic, partition)));
        }
        if !places.is_empty() {
            let turn = self.fetch_turn % places.len();
            places.rotate_left(turn);
        }
        for (topic, partition) in places {
            self.evaluate_partition(plan, topic, partition, &mut answer);
        }
        answer
    }

    fn evaluate_partition(
        &self,
        plan: &FetchPlan,
        topic: usize,
        partition: usize,
        answer: &mut FetchAnswer,
    ) {
        let Some(wanted_topic) = plan.topics.get(topic) else { return };
        let Some(wanted) = wanted_topic.partitions.get(partition) else { return };
        let left_bytes = plan.bytes_max.saturating_sub(answer.bytes);
        let (data, slices) =
            match self.read_partition(plan, wanted_topic, wanted, left_bytes, answer.bytes == 0) {
                Ok(read) => read,
                Err(error) => {
                    answer.failed = true;
                    let data = PartitionData {
                        partition_index: wanted.index,
                        error_code: error.code(),
                        high_watermark: -1,
                        aborted_transactions: None,
                        records: Some(bytes::Bytes::new()),
                        ..PartitionData::default()
                    };
                    (data, Vec::new())
                }
            };
        if let Some(place) =
            answer.response.responses.get_mut(topic).and_then(|t| t.partitions.get_mut(partition))
        {
            *place = data;
        }
        if !slices.is_empty() {
            answer.bytes += slices.iter().map(|slice| slice.len_bytes()).sum::<usize>();
            answer.slices.push(PartitionSlices { topic, partition, slices });
        }
    }

    fn fetched_topic(
        &self,
        plan: &FetchPlan,
        topic: &PlanTopic,
    ) -> Result<&crate::topics::Topic, ErrorCode> {
        if plan.by_id {
            return self.topics.get_by_id(topic.topic_id).ok_or(ErrorCode::UnknownTopicId);
        }
        self.topics.get(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    fn read_partition(
        &self,
        plan: &FetchPlan,
        topic: &PlanTopic,
        wanted: &PlanPartition,
        left_bytes: usize,
        first: bool,
    ) -> Result<(PartitionData, Vec<FileSlice>), ErrorCode> {
        let topic = self.fetched_topic(plan, topic)?;
        let log = topic.existing_log(PartitionId(wanted.index))?;
        let bounds = self.logs.bounds_or_empty(log);
        bounds.check_epoch(wanted.current_leader_epoch)?;
        if wanted.offset < bounds.start || wanted.offset > bounds.end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let bound = if plan.read_committed { bounds.last_stable } else { bounds.high_watermark };
        let mut data = PartitionData {
            partition_index: wanted.index,
            high_watermark: bounds.high_watermark.get(),
            last_stable_offset: bounds.last_stable.get(),
            log_start_offset: bounds.start.get(),
            aborted_transactions: plan.read_committed.then(Vec::new),
            // No records is zero bytes, not null.
            records: Some(bytes::Bytes::new()),
            ..PartitionData::default()
        };
        let room_bytes = left_bytes.min(wanted.bytes_max);
        let Some(log) = log.filter(|_| wanted.offset < bound && (first || room_bytes > 0)) else {
            return Ok((data, Vec::new()));
        };
        let (slices, next_offset) = self.logs.read(log, wanted.offset, room_bytes, bound)?;
        // A log gives its first batch whatever its size, or a reader would never get past it. That holds for the first
        // partition with data only; the others wait for their turn.
        let bytes: usize = slices.iter().map(|slice| slice.len_bytes()).sum();
        if !first && bytes > room_bytes {
            return Ok((data, Vec::new()));
        }
        if plan.read_committed && !slices.is_empty() {
            data.aborted_transactions = Some(self.logs.aborted(log, wanted.offset, next_offset)?);
        }
        Ok((data, slices))
    }
}
