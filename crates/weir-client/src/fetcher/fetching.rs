//! Fetching and handing over: what is asked of which broker, and what becomes of the answers. Pure.

use std::collections::HashSet;

use weir_protocol::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use weir_protocol::batch;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{LeaderEpoch, NodeId, Offset, Uuid};

use super::chunk::{Chunk, Content};
use super::{leader, FetchState, Place, Start};
use crate::accumulator::MonoMs;
use crate::config::{AutoOffsetReset, IsolationLevel};
use crate::consumer::TopicPartition;
use crate::error::ClientError;
use crate::metadata::ClusterView;

/// How long a partition rests after an error.
pub(super) const RETRY_MS: u64 = 50;

/// How long a partition rests after an error that only a person can mend.
const REFUSED_RETRY_MS: u64 = 1_000;

/// How long the broker may hold a fetch while other partitions are left out because their data waits
/// for `poll`: they must not be left out long.
pub(super) const HURRIED_WAIT_MS: i32 = 10;

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
    pub(crate) fn hand_over(
        &mut self,
        chunk: Chunk,
        next: Offset,
        leader_epoch: Option<LeaderEpoch>,
        is_done: bool,
    ) -> bool {
        // While it was out it counted as buffered still.
        let bytes_held = chunk.bytes_held;
        let Some(state) = self.current(&chunk.partition, chunk.epoch) else {
            self.buffered_bytes -= bytes_held;
            if let Some(state) = self.partitions.get_mut(&chunk.partition) {
                state.buffered_bytes -= bytes_held;
            }
            return false;
        };
        if let Some(position) = state.position.as_mut().filter(|place| place.offset < next) {
            *position =
                Place { offset: next, leader_epoch: leader_epoch.or(position.leader_epoch) };
        }
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
