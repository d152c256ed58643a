//! Fetching and handing over: what is asked of which broker, and what becomes of the answers. Pure.

use std::collections::HashSet;

use weir_protocol::api::fetch::{FetchRequest, FetchResponse, PartitionData};
use weir_protocol::batch;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{LeaderEpoch, NodeId, Offset, Uuid};

use super::chunk::{Chunk, Content};
use super::session::Wanted;
use super::unfinished::Unfinished;
use super::{leader, FetchState, Partition, Start};
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

/// A plan, and whether there are positions to be found or checked that were not before.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) is_unresolved: bool,
}

#[derive(Debug, Default)]
struct Survey {
    wanted: Vec<TopicPartition>,
    /// Some are not fetched because what is fetched waits for `poll`.
    left_out: bool,
    wake_at: MonoMs,
    made_again: Vec<TopicPartition>,
    is_unresolved: bool,
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
    pub(crate) fn plan(&mut self, node: NodeId, view: &ClusterView, now: MonoMs) -> Planned {
        let mut survey = self.survey(node, view, now);
        if survey.wanted.is_empty() && survey.left_out && self.evict_held() {
            survey = self.survey(node, view, now);
        }
        let is_unresolved = survey.is_unresolved | self.start_over(&survey.made_again);
        let plan = match survey.wanted.len() {
            0 if survey.wake_at == MonoMs::MAX => Plan::Wait,
            0 => Plan::WaitUntil(survey.wake_at),
            _ => self.fetch(node, view, &survey),
        };
        Planned { plan, is_unresolved }
    }

    /// Which partitions of this node can be fetched now, and what keeps the others.
    fn survey(&mut self, node: NodeId, view: &ClusterView, now: MonoMs) -> Survey {
        let mut survey = Survey { wake_at: MonoMs::MAX, ..Survey::default() };
        let room_for_each = self.config.partition_fetch_bytes_max as usize;
        let is_full = self.buffered_bytes >= self.config.prefetch_bytes_max;
        for (partition, state) in &mut self.partitions {
            if state.fetch_at.is_none() || state.fetching || state.paused || state.is_ahead() {
                continue;
            }
            let Some(known) = view.topics.get(&partition.topic) else { continue };
            let Some(leader) = known.partition(partition.partition) else { continue };
            if leader.leader != Some(node) {
                continue;
            }
            if state.is_of_another(known.id) {
                survey.made_again.push(partition.clone());
            } else if state.has_to_be_checked(leader.leader_epoch) {
                survey.is_unresolved |= !std::mem::replace(&mut state.check_due, true);
            } else if is_full || state.buffered_bytes >= room_for_each {
                survey.left_out = true;
            } else if state.retry_at > now {
                survey.wake_at = survey.wake_at.min(state.retry_at);
            } else {
                survey.wanted.push(partition.clone());
            }
        }
        survey
    }

    fn fetch(&mut self, node: NodeId, view: &ClusterView, survey: &Survey) -> Plan {
        let millis = |ms: u32| i32::try_from(ms).unwrap_or(i32::MAX);
        let mut wanted = Vec::with_capacity(survey.wanted.len());
        let mut partitions = Vec::with_capacity(survey.wanted.len());
        for partition in &survey.wanted {
            let Some(state) = self.partitions.get_mut(partition) else { continue };
            let Some(from) = state.fetch_at else { continue };
            let known = view.topics.get(&partition.topic);
            let topic_id = known.map_or(Uuid::ZERO, |topic| topic.id);
            let leader = known.and_then(|topic| topic.partition(partition.partition));
            let leader_epoch = leader.map_or(-1, |partition| partition.leader_epoch.get());
            state.fetching = true;
            state.topic_id = topic_id;
            let bytes_max = millis(self.config.partition_fetch_bytes_max);
            wanted.push((partition, Wanted { topic_id, from, leader_epoch, bytes_max }));
            let (partition, epoch) = (partition.clone(), state.epoch);
            partitions.push(Fetching { partition, topic_id, epoch, from });
        }
        // Whoever came first last time comes last now, so that none starves when answers are full.
        let turn = usize::try_from(self.next_epoch).unwrap_or(0) % wanted.len().max(1);
        wanted.rotate_left(turn);
        self.next_epoch += 1;
        let ids_known = partitions.iter().all(|fetching| fetching.topic_id != Uuid::ZERO);
        let max_wait_ms = millis(self.config.fetch_wait_ms_max);
        let room = self.config.prefetch_bytes_max.saturating_sub(self.buffered_bytes);
        let room = i32::try_from(room).unwrap_or(i32::MAX).max(1);
        let mut request = FetchRequest {
            max_wait_ms: if survey.left_out {
                max_wait_ms.min(HURRIED_WAIT_MS)
            } else {
                max_wait_ms
            },
            min_bytes: millis(self.config.fetch_bytes_min),
            max_bytes: millis(self.config.fetch_bytes_max).min(room),
            isolation_level: i8::from(self.config.isolation == IsolationLevel::ReadCommitted),
            ..FetchRequest::default()
        };
        let session = self.sessions.entry(node).or_default();
        session.fill(&mut request, &wanted, ids_known);
        Plan::Fetch { request, ids_known, partitions }
    }

    /// Frees what the fullest partition has in store of those that `poll` returns nothing of (paused, or with
    /// too much under work), if what others wait for is held up by such alone: it is fetched again when its turn comes. Returns whether there was any.
    fn evict_held(&mut self) -> bool {
        let unfinished_max = self.config.unfinished_records_max;
        let is_held = |state: &Partition| state.paused || state.unfinished.len() >= unfinished_max;
        let is_stuck =
            self.partitions.values().all(|state| is_held(state) || state.buffered_bytes == 0);
        let held = self.partitions.iter().filter(|(_, state)| is_held(state));
        let fullest = held.max_by_key(|(_, state)| state.buffered_bytes);
        let Some((partition, state)) = fullest.filter(|_| is_stuck) else { return false };
        if state.buffered_bytes == 0 {
            return false;
        }
        let partition = partition.clone();
        self.refetch(&partition)
    }

    /// Drops what is fetched of a partition and begins at its position again.
    pub(super) fn refetch(&mut self, partition: &TopicPartition) -> bool {
        let placed_epoch = self.partitions.get(partition).map(|state| state.placed_epoch);
        self.restart(partition, |state| {
            state.placed_epoch = placed_epoch.unwrap_or(state.epoch);
            state.fetch_at = state.position.map(|place| place.offset);
            state.fetched_epoch = state.position.and_then(|place| place.leader_epoch);
        })
    }

    /// Their topics were deleted and made again: nothing in them was there when we began, so they are
    /// read from their beginning; `auto_offset_reset` none tells instead.
    fn start_over(&mut self, partitions: &[TopicPartition]) -> bool {
        for partition in partitions {
            tracing::warn!(%partition, "the topic was made again: reading from its beginning");
            let mut position = None;
            if let Some(state) = self.partitions.get_mut(partition) {
                position = state.position;
                state.unfinished = Unfinished::default();
            }
            if self.config.auto_offset_reset != AutoOffsetReset::None {
                self.seek_by(partition, Start::Reset(AutoOffsetReset::Earliest));
                continue;
            }
            self.restart(partition, |state| {
                state.failed = true;
                state.fetch_at = None;
                state.topic_id = Uuid::ZERO;
            });
            let error = ClientError::OffsetOutOfRange {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                offset: position.map_or(Offset(0), |place| place.offset),
            };
            self.tell(partition, error);
        }
        !partitions.is_empty()
    }

    /// The fetch got no answer. Returns whether there is something to tell: what does not pass by itself.
    pub(crate) fn on_lost(
        &mut self,
        node: NodeId,
        partitions: &[Fetching],
        error: ClientError,
        now: MonoMs,
    ) -> bool {
        self.sessions.entry(node).or_default().on_lost();
        self.rest(partitions, error, now)
    }

    fn rest(&mut self, partitions: &[Fetching], error: ClientError, now: MonoMs) -> bool {
        let passes = error.is_retriable();
        let rest_ms = if passes { RETRY_MS } else { REFUSED_RETRY_MS };
        let mut first = None;
        for fetching in partitions {
            if let Some(state) = self.current(&fetching.partition, fetching.epoch) {
                state.fetching = false;
                state.retry_at = now.plus_ms(rest_ms);
                first = first.or(Some(&fetching.partition));
            }
        }
        // Once, not of each partition: it is of the broker.
        let told = first.filter(|_| !passes);
        if let Some(partition) = told {
            self.tell(partition, error);
        }
        told.is_some()
    }

    /// Takes an answer.
    pub(crate) fn on_fetched(
        &mut self,
        node: NodeId,
        fetched: &[Fetching],
        response: FetchResponse,
        now: MonoMs,
    ) -> FetchEffects {
        let mut effects = FetchEffects::default();
        let code = ErrorCode::from_code(response.error_code);
        let session = self.sessions.entry(node).or_default();
        if !session.on_answer(code, response.session_id) {
            let error = ClientError::Broker { api: "Fetch", code, message: None };
            effects.arrived = self.rest(fetched, error, now);
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
        // Within a session those without news are not answered.
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
        let mut first_timestamp = None;
        for view in batch::batches(&records).map_while(Result::ok) {
            first_timestamp = first_timestamp.or(Some(view.base_timestamp()));
            state.fetch_at = Some(view.last_offset().next().max(fetching.from));
            let epoch = view.partition_leader_epoch();
            state.fetched_epoch = (epoch.get() >= 0).then_some(epoch);
        }
        state.buffered_bytes += records.len();
        self.buffered_bytes += records.len();
        effects.arrived = true;
        self.chunks.push_back(Chunk {
            partition: fetching.partition.clone(),
            epoch: fetching.epoch,
            bytes_held: records.len(),
            first_timestamp,
            content: Content::new(
                records,
                fetching.from,
                data.aborted_transactions.unwrap_or_default(),
            ),
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
            // What was fetched before it is good, and comes first.
            ErrorCode::OffsetOutOfRange
                if state.position.is_some_and(|place| place.offset < fetching.from) =>
            {
                state.gone_from = Some(fetching.from);
            }
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
    /// The oldest chunk of a partition that is not paused and has few enough records under work.
    pub(crate) fn take_chunk(&mut self) -> Option<Chunk> {
        let partitions = &self.partitions;
        let unfinished_max = self.config.unfinished_records_max;
        let is_held = |chunk: &Chunk| {
            let state = partitions.get(&chunk.partition);
            state.is_some_and(|state| state.paused || state.unfinished.len() >= unfinished_max)
        };
        let index = self.chunks.iter().position(|chunk| !is_held(chunk))?;
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
        state.move_on(next, leader_epoch);
        if is_done {
            state.buffered_bytes -= bytes_held;
            self.buffered_bytes -= bytes_held;
        } else {
            self.chunks.push_front(chunk);
        }
        true
    }

    /// As [`FetchState::hand_over`], for records that the program has seen already: the position moves past
    /// them also where the partition is being fetched again by now.
    pub(crate) fn shown(&mut self, chunk: Chunk, next: Offset, leader_epoch: Option<LeaderEpoch>) {
        let (partition, epoch) = (chunk.partition.clone(), chunk.epoch);
        if self.hand_over(chunk, next, leader_epoch, true) {
            return;
        }
        if let Some(state) = self.at_same_place(&partition, epoch) {
            state.move_on(next, leader_epoch);
            // What has been fetched again, or is on its way, begins before them.
            self.refetch(&partition);
        }
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
