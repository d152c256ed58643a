//! The consumer's core: positions, what is being fetched, what has been. Pure.
//!
//! # What holds
//! - `position` is the next offset `poll` returns; it moves only when records are handed over, so a
//!   dropped `poll` loses nothing.
//! - Each assignment or seek of a partition gets a new epoch; what was fetched under an older one is
//!   dropped.
//! - Bytes fetched and not handed over stay under `prefetch_bytes_max` plus one answer.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use weir_protocol::api::fetch::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use weir_protocol::batch::{self, BatchView, RecordIter};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{NodeId, Offset, PartitionId, ProducerId, Str, TimestampMs, Uuid};

use crate::accumulator::MonoMs;
use crate::config::{AutoOffsetReset, ConsumerConfig, IsolationLevel};
use crate::consumer::TopicPartition;
use crate::error::ClientError;
use crate::metadata::ClusterView;
use crate::record::{ConsumedRecord, RecordRef};

/// How long a partition rests after an error.
const RETRY_MS: u64 = 50;

/// How long a partition rests after an error that only a person can mend.
const REFUSED_RETRY_MS: u64 = 1_000;

/// How long the broker may hold a fetch while other partitions are left out because their data waits
/// for `poll`: they must not be left out long.
const HURRIED_WAIT_MS: i32 = 10;

/// Where a partition without a position starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the group's committed offset, else by `auto_offset_reset`.
    Committed,
    /// By `auto_offset_reset`.
    Reset(AutoOffsetReset),
    /// At the first record of this time or later, else at the end.
    Time(TimestampMs),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct FetchState {
    config: ConsumerConfig,
    partitions: BTreeMap<TopicPartition, Partition>,
    next_epoch: u64,
    chunks: VecDeque<Chunk>,
    buffered_bytes: usize,
    /// What `poll` has to tell, the newest per partition.
    errors: VecDeque<(TopicPartition, ClientError)>,
}

#[derive(Debug)]
struct Partition {
    epoch: u64,
    position: Option<Offset>,
    /// What `poll` had returned when it was called last: that much has been dealt with.
    consumed: Option<Offset>,
    fetch_at: Option<Offset>,
    start: Start,
    /// Its start could not be found, or what comes next is damaged; told once, then it waits for a
    /// seek.
    failed: bool,
    paused: bool,
    fetching: bool,
    buffered_bytes: usize,
    end: Option<Offset>,
    retry_at: MonoMs,
}

/// Fetched bytes of one partition, or what is left of them.
#[derive(Debug)]
pub(crate) struct Chunk {
    partition: TopicPartition,
    epoch: u64,
    bytes_held: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Raw {
        records: Bytes,
        from: Offset,
        aborted: Vec<AbortedTransaction>,
    },
    /// `damaged`: what ended the decoding. It is told when the records before it are out.
    Decoded {
        records: std::vec::IntoIter<ConsumedRecord>,
        next: Offset,
        damaged: Option<ClientError>,
    },
}

/// A partition in a fetch under way.
#[derive(Debug, Clone)]
pub(crate) struct Fetching {
    partition: TopicPartition,
    topic_id: Uuid,
    epoch: u64,
    from: Offset,
}

/// What a fetch loop does now.
#[derive(Debug)]
pub(crate) enum Plan {
    Fetch {
        request: FetchRequest,
        ids_known: bool,
        partitions: Vec<Fetching>,
    },
    /// Nothing before this time, or before something changes.
    WaitUntil(MonoMs),
    Wait,
}

/// What follows from an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FetchEffects {
    pub(crate) refresh_metadata: bool,
    /// Something for `poll`: records or an error.
    pub(crate) arrived: bool,
    /// A position is to be found again.
    pub(crate) unresolved: bool,
}

impl FetchState {
    pub(crate) fn new(config: ConsumerConfig) -> Self {
        FetchState {
            config,
            partitions: BTreeMap::new(),
            next_epoch: 1,
            chunks: VecDeque::new(),
            buffered_bytes: 0,
            errors: VecDeque::new(),
        }
    }

    /// Replaces the assignment. Partitions in both keep their place.
    pub(crate) fn assign(&mut self, partitions: &[TopicPartition], start: Start) {
        let wanted: HashSet<&TopicPartition> = partitions.iter().collect();
        self.partitions.retain(|partition, _| wanted.contains(partition));
        self.errors.retain(|(partition, _)| wanted.contains(partition));
        for partition in partitions {
            if !self.partitions.contains_key(partition) {
                let epoch = self.new_epoch();
                self.partitions.insert(partition.clone(), Partition::new(epoch, start));
            }
        }
        self.drop_stale();
    }

    /// Gives everything up.
    pub(crate) fn clear(&mut self) {
        self.assign(&[], Start::Committed);
    }

    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// Reads from here next; `false` if the partition is not assigned.
    pub(crate) fn seek(&mut self, partition: &TopicPartition, to: Offset) -> bool {
        self.restart(partition, |state| {
            state.position = Some(to);
            state.consumed = Some(to);
            state.fetch_at = Some(to);
        })
    }

    /// Finds the place again by `start`; `false` if the partition is not assigned.
    pub(crate) fn seek_by(&mut self, partition: &TopicPartition, start: Start) -> bool {
        self.restart(partition, |state| {
            state.position = None;
            state.consumed = None;
            state.fetch_at = None;
            state.start = start;
        })
    }

    fn restart(&mut self, partition: &TopicPartition, edit: impl FnOnce(&mut Partition)) -> bool {
        let epoch = self.new_epoch();
        let Some(state) = self.partitions.get_mut(partition) else { return false };
        state.epoch = epoch;
        state.failed = false;
        // A fetch under way is of the old epoch; its answer will be dropped.
        state.fetching = false;
        state.retry_at = MonoMs::default();
        edit(state);
        self.errors.retain(|(of, _)| of != partition);
        self.drop_stale();
        true
    }

    fn new_epoch(&mut self) -> u64 {
        self.next_epoch += 1;
        self.next_epoch
    }

    fn drop_stale(&mut self) {
        let partitions = &mut self.partitions;
        let mut freed = 0;
        self.chunks.retain(|chunk| {
            let state = partitions.get_mut(&chunk.partition);
            let is_current = state.as_ref().is_some_and(|state| state.epoch == chunk.epoch);
            if !is_current {
                freed += chunk.bytes_held;
                if let Some(state) = state {
                    state.buffered_bytes -= chunk.bytes_held;
                }
            }
            is_current
        });
        self.buffered_bytes -= freed;
    }

    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition)?.position
    }

    /// Positions of all partitions that have one.
    pub(crate) fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            Some((partition.clone(), state.position?))
        };
        self.partitions.iter().filter_map(of).collect()
    }

    /// Notes that everything returned so far has been dealt with.
    pub(crate) fn note_consumed(&mut self) {
        for state in self.partitions.values_mut() {
            state.consumed = state.position;
        }
    }

    /// What has been dealt with, as offsets to commit.
    pub(crate) fn consumed(&self) -> Vec<(TopicPartition, Offset)> {
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            Some((partition.clone(), state.consumed?))
        };
        self.partitions.iter().filter_map(of).collect()
    }

    /// Records between position and end, per partition where both are known.
    pub(crate) fn lag(&self) -> Vec<(TopicPartition, i64)> {
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            let lag = state.end?.get() - state.position?.get();
            Some((partition.clone(), lag.max(0)))
        };
        self.partitions.iter().filter_map(of).collect()
    }

    pub(crate) fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.paused = paused;
            }
        }
    }

    pub(crate) fn take_error(&mut self) -> Option<ClientError> {
        self.errors.pop_front().map(|(_, error)| error)
    }

    /// Leaves the error for `poll`. One per partition: who polls seldom must not find a heap of them.
    fn tell(&mut self, partition: &TopicPartition, error: ClientError) {
        match self.errors.iter_mut().find(|(of, _)| of == partition) {
            Some((_, pending)) => *pending = error,
            None => self.errors.push_back((partition.clone(), error)),
        }
    }
}

impl Partition {
    fn new(epoch: u64, start: Start) -> Self {
        Partition {
            epoch,
            position: None,
            consumed: None,
            fetch_at: None,
            start,
            failed: false,
            paused: false,
            fetching: false,
            buffered_bytes: 0,
            end: None,
            retry_at: MonoMs::default(),
        }
    }
}

/// Finding positions.
impl FetchState {
    /// Partitions whose position is to be found.
    pub(crate) fn unresolved(&self) -> Vec<(TopicPartition, u64, Start)> {
        let needs =
            |(_, state): &(&TopicPartition, &Partition)| state.position.is_none() && !state.failed;
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            (partition.clone(), state.epoch, state.start)
        };
        self.partitions.iter().filter(needs).map(of).collect()
    }

    /// A position was found.
    pub(crate) fn resolve(&mut self, partition: &TopicPartition, epoch: u64, at: Offset) {
        if let Some(state) = self.current(partition, epoch) {
            state.position = Some(at);
            state.consumed = Some(at);
            state.fetch_at = Some(at);
        }
    }

    /// There is no committed offset: go on with `auto_offset_reset`.
    pub(crate) fn no_committed(&mut self, partition: &TopicPartition, epoch: u64) {
        let reset = self.config.auto_offset_reset;
        let Some(state) = self.current(partition, epoch) else { return };
        state.start = Start::Reset(reset);
        if reset == AutoOffsetReset::None {
            state.failed = true;
            let error = ClientError::NoOffset {
                topic: partition.topic.to_string(),
                partition: partition.partition,
            };
            self.tell(partition, error);
        }
    }

    /// The position cannot be found for a reason that does not pass.
    pub(crate) fn unresolvable(
        &mut self,
        partition: &TopicPartition,
        epoch: u64,
        error: &ClientError,
    ) {
        if let Some(state) = self.current(partition, epoch) {
            state.failed = true;
            self.tell(partition, error.clone());
        }
    }

    fn current(&mut self, partition: &TopicPartition, epoch: u64) -> Option<&mut Partition> {
        self.partitions.get_mut(partition).filter(|state| state.epoch == epoch)
    }
}

/// Fetching.
impl FetchState {
    /// Leaders of the assigned partitions.
    pub(crate) fn leaders(&self, view: &ClusterView) -> HashSet<NodeId> {
        self.partitions.keys().filter_map(|partition| leader(view, partition)).collect()
    }

    /// The next fetch from this node.
    pub(crate) fn plan(&mut self, node: NodeId, view: &ClusterView, now: MonoMs) -> Plan {
        let mut partitions = Vec::new();
        let mut left_out = false;
        let mut wake_at = MonoMs::MAX;
        let room_for_each = self.config.partition_fetch_bytes_max as usize;
        let is_full = self.buffered_bytes >= self.config.prefetch_bytes_max;
        for (partition, state) in &mut self.partitions {
            let Some(from) = state.fetch_at else { continue };
            if state.fetching || state.paused || leader(view, partition) != Some(node) {
                continue;
            }
            if is_full || state.buffered_bytes >= room_for_each {
                left_out = true;
                continue;
            }
            if state.retry_at > now {
                wake_at = wake_at.min(state.retry_at);
                continue;
            }
            state.fetching = true;
            partitions.push(Fetching {
                partition: partition.clone(),
                topic_id: view.topics.get(&partition.topic).map_or(Uuid::ZERO, |topic| topic.id),
                epoch: state.epoch,
                from,
            });
        }
        if partitions.is_empty() {
            return if wake_at == MonoMs::MAX { Plan::Wait } else { Plan::WaitUntil(wake_at) };
        }
        // Whoever came first last time comes last now, so that none starves when answers are full.
        let turn = usize::try_from(self.next_epoch).unwrap_or(0) % partitions.len();
        partitions.rotate_left(turn);
        self.next_epoch += 1;
        let ids_known = partitions.iter().all(|fetching| fetching.topic_id != Uuid::ZERO);
        let request = self.request(&partitions, view, left_out);
        Plan::Fetch { request, ids_known, partitions }
    }

    fn request(
        &self,
        partitions: &[Fetching],
        view: &ClusterView,
        in_a_hurry: bool,
    ) -> FetchRequest {
        let millis = |ms: u32| i32::try_from(ms).unwrap_or(i32::MAX);
        let max_wait_ms = millis(self.config.fetch_wait_ms_max);
        let mut topics: Vec<FetchTopic> = Vec::new();
        for fetching in partitions {
            let TopicPartition { topic, partition } = &fetching.partition;
            let epoch = view.topics.get(topic).and_then(|topic| topic.partition(*partition));
            let data = FetchPartition {
                partition: partition.get(),
                current_leader_epoch: epoch.map_or(-1, |partition| partition.leader_epoch.get()),
                fetch_offset: fetching.from.get(),
                partition_max_bytes: millis(self.config.partition_fetch_bytes_max),
                ..FetchPartition::default()
            };
            match topics.iter_mut().find(|known| known.topic == *topic) {
                Some(known) => known.partitions.push(data),
                None => topics.push(FetchTopic {
                    topic: topic.clone(),
                    topic_id: fetching.topic_id,
                    partitions: vec![data],
                }),
            }
        }
        FetchRequest {
            max_wait_ms: if in_a_hurry { max_wait_ms.min(HURRIED_WAIT_MS) } else { max_wait_ms },
            min_bytes: millis(self.config.fetch_bytes_min),
            max_bytes: millis(self.config.fetch_bytes_max),
            isolation_level: i8::from(self.config.isolation == IsolationLevel::ReadCommitted),
            topics,
            ..FetchRequest::default()
        }
    }

    /// The fetch got no answer.
    pub(crate) fn on_lost(&mut self, partitions: &[Fetching], now: MonoMs) {
        for fetching in partitions {
            if let Some(state) = self.current(&fetching.partition, fetching.epoch) {
                state.fetching = false;
                state.retry_at = now.plus_ms(RETRY_MS);
            }
        }
    }

    /// Takes an answer.
    pub(crate) fn on_fetched(
        &mut self,
        fetched: &[Fetching],
        response: FetchResponse,
        now: MonoMs,
    ) -> FetchEffects {
        let mut effects = FetchEffects::default();
        let code = ErrorCode::from_code(response.error_code);
        if !code.is_none() {
            self.on_lost(fetched, now);
            effects.refresh_metadata = true;
            return effects;
        }
        for topic in response.responses {
            for data in topic.partitions {
                let is_meant = |fetching: &&Fetching| {
                    let by_id = topic.topic_id != Uuid::ZERO && fetching.topic_id == topic.topic_id;
                    fetching.partition.partition.get() == data.partition_index
                        && (by_id || fetching.partition.topic == topic.topic)
                };
                if let Some(fetching) = fetched.iter().find(is_meant) {
                    self.on_partition(fetching, data, now, &mut effects);
                }
            }
        }
        // Without a session every partition is answered; one that is not is asked again.
        for fetching in fetched {
            if let Some(state) = self.current(&fetching.partition, fetching.epoch) {
                state.fetching = false;
            }
        }
        effects
    }

    fn on_partition(
        &mut self,
        fetching: &Fetching,
        data: PartitionData,
        now: MonoMs,
        effects: &mut FetchEffects,
    ) {
        let isolation = self.config.isolation;
        let Some(state) = self.current(&fetching.partition, fetching.epoch) else { return };
        state.fetching = false;
        match ErrorCode::from_code(data.error_code) {
            ErrorCode::None => {}
            code => return self.on_partition_error(fetching, code, now, effects),
        }
        let end = match isolation {
            IsolationLevel::ReadCommitted => data.last_stable_offset,
            IsolationLevel::ReadUncommitted => data.high_watermark,
        };
        state.end = (end >= 0).then_some(Offset(end));
        let records = data.records.unwrap_or_default();
        if records.is_empty() {
            return;
        }
        // Headers tell where to go on; a damaged batch is met again when `poll` decodes it.
        let last = batch::batches(&records).map_while(Result::ok).map(|b| b.last_offset()).last();
        if let Some(last) = last {
            state.fetch_at = Some(last.next().max(fetching.from));
        }
        state.buffered_bytes += records.len();
        self.buffered_bytes += records.len();
        effects.arrived = true;
        self.chunks.push_back(Chunk {
            partition: fetching.partition.clone(),
            epoch: fetching.epoch,
            bytes_held: records.len(),
            content: Content::Raw {
                records,
                from: fetching.from,
                aborted: data.aborted_transactions.unwrap_or_default(),
            },
        });
    }

    fn on_partition_error(
        &mut self,
        fetching: &Fetching,
        code: ErrorCode,
        now: MonoMs,
        effects: &mut FetchEffects,
    ) {
        let reset = self.config.auto_offset_reset;
        let Some(state) = self.current(&fetching.partition, fetching.epoch) else { return };
        let TopicPartition { topic, partition } = &fetching.partition;
        match code {
            ErrorCode::OffsetOutOfRange if reset == AutoOffsetReset::None => {
                state.failed = true;
                state.fetch_at = None;
                effects.arrived = true;
                let error = ClientError::OffsetOutOfRange {
                    topic: topic.to_string(),
                    partition: *partition,
                    offset: fetching.from,
                };
                self.tell(&fetching.partition, error);
            }
            ErrorCode::OffsetOutOfRange => {
                tracing::info!(%topic, %partition, offset = %fetching.from, ?reset, "offset is gone");
                effects.unresolved = true;
                let partition = fetching.partition.clone();
                self.seek_by(&partition, Start::Reset(reset));
            }
            code if code.is_retriable() => {
                state.retry_at = now.plus_ms(RETRY_MS);
                effects.refresh_metadata = true;
            }
            code => {
                state.retry_at = now.plus_ms(REFUSED_RETRY_MS);
                effects.arrived = true;
                let message = Some(format!("{topic}-{partition}"));
                let error = ClientError::Broker { api: "Fetch", code, message };
                self.tell(&fetching.partition, error);
            }
        }
    }
}

fn leader(view: &ClusterView, partition: &TopicPartition) -> Option<NodeId> {
    view.topics.get(&partition.topic)?.partition(partition.partition)?.leader
}

/// Handing over.
impl FetchState {
    /// The oldest chunk of a partition that is not paused.
    pub(crate) fn take_chunk(&mut self) -> Option<Chunk> {
        let partitions = &self.partitions;
        let is_paused =
            |chunk: &Chunk| partitions.get(&chunk.partition).is_some_and(|state| state.paused);
        let index = self.chunks.iter().position(|chunk| !is_paused(chunk))?;
        self.chunks.remove(index)
    }

    /// Moves the position on after `count` records of this chunk were taken out; `false` if the chunk
    /// is stale and its records must not be returned. What is left of it stays first in line.
    pub(crate) fn hand_over(&mut self, chunk: Chunk, next: Offset, is_done: bool) -> bool {
        // While it was out it counted as buffered still.
        let bytes_held = chunk.bytes_held;
        let Some(state) = self.current(&chunk.partition, chunk.epoch) else {
            self.buffered_bytes -= bytes_held;
            if let Some(state) = self.partitions.get_mut(&chunk.partition) {
                state.buffered_bytes -= bytes_held;
            }
            return false;
        };
        state.position = state.position.map(|position| position.max(next));
        if is_done {
            state.buffered_bytes -= bytes_held;
            self.buffered_bytes -= bytes_held;
        } else {
            self.chunks.push_front(chunk);
        }
        true
    }

    /// A batch is damaged: the partition stays before it until a seek, and `poll` tells. Fetched again
    /// it would be as damaged.
    pub(crate) fn damaged(&mut self, partition: &TopicPartition, epoch: u64, error: ClientError) {
        if self.current(partition, epoch).is_none() {
            return;
        }
        // The new epoch drops later chunks of the partition: they must not jump over it.
        self.restart(partition, |state| {
            state.failed = true;
            state.fetch_at = None;
        });
        self.tell(partition, error);
    }
}

/// What a chunk gave.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) records: Vec<ConsumedRecord>,
    /// The position after these records.
    pub(crate) next: Offset,
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
            self.content = Content::Decoded { records, next, damaged };
        }
        let Content::Decoded { records, next: end, damaged } = &mut self.content else {
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
        Taken { records: taken, next, is_done, damaged }
    }

    /// Shows every record of the chunk to `see`, without an object for any. Returns how many, and the
    /// position after them.
    pub(crate) fn show(
        &mut self,
        config: &ConsumerConfig,
        see: &mut impl FnMut(RecordRef<'_>),
    ) -> Shown {
        let mut shown = Shown { count: 0, next: Offset(0), damaged: None };
        match &mut self.content {
            Content::Raw { records, from, aborted } => {
                let mut decoding =
                    Decoding::new(&self.partition, config, *from, std::mem::take(aborted));
                let mut views = Views { partition: &self.partition, count: 0, see };
                shown.damaged = decoding.run(records, &mut views).err();
                (shown.count, shown.next) = (views.count, decoding.next);
            }
            Content::Decoded { records, next, damaged } => {
                for record in records {
                    see(record.as_ref());
                    shown.count += 1;
                }
                shown.next = *next;
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
        Decoding { partition, config, from, next: from, aborted, aborting: HashSet::new() }
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

/// For tests and the shell: a partition by parts.
pub(crate) fn topic_partition(topic: &Str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition: PartitionId(partition) }
}

#[cfg(test)]
mod tests;
