//! Committed offsets: OffsetCommit, OffsetFetch, their expiry, and the log they live in.
//!
//! `__consumer_offsets` is a topic like any other, in Kafka's record formats ([`crate::offset_records`]). A group's records
//! lie in partition `abs(hash(group)) % 50`; each partition gets its directory with its first record. At the start the
//! log is read from the front and the last record of a key counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use weir_log::{AppendOrigin, LogId};
use weir_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use weir_protocol::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use weir_protocol::batch::{BatchBuilder, ControlMarker, Record};
use weir_protocol::compression::Codec;
use weir_protocol::{ErrorCode, Offset, PartitionId, ProducerId, Sequence, Str, TimestampMs};

use crate::broker::{Broker, Step};
use crate::commit_queue::{Due, PendingOffset};
use crate::config::OFFSETS_PARTITIONS;
use crate::consumer_group::{Change, ConsumerGroup, ConsumerGroupLimits};
use crate::coordinator::GroupEntry;
use crate::effects::Ticket;
use crate::error::BrokerError;
use crate::group::Group;
use crate::group_kind::GroupKind;
use crate::offset_records::{partition_of, CommittedOffset, GroupMetadataValue, OffsetKey};
use crate::request::{distinct, Response};
use crate::topics::{Topic, OFFSETS_TOPIC};
use crate::transaction::Producer;
use crate::transaction_coordinator::{supersede, TxnOffset};

/// From this version on an unknown group is an error of OffsetCommit by name.
const GROUP_ID_NOT_FOUND_VERSION_MIN: i16 = 9;
/// Bytes read at once while the log is replayed.
const REPLAY_BYTES: usize = 4 << 20;

impl Broker {
    pub(crate) fn offset_commit(
        &mut self,
        ticket: Ticket,
        request: &OffsetCommitRequest,
        version: i16,
        now: TimestampMs,
    ) -> Step {
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let checked = match count > self.config.request_partitions_max {
            true => Err(ErrorCode::InvalidRequest),
            false => self.check_committer(request, version, now),
        };
        if let Err(error) = checked {
            return Step::Answer(Response::OffsetCommit(commit_response(request, |_, _| error)));
        }
        let group = Str::copy_from(&request.group_id);
        let mut offsets = Vec::new();
        let mut response = commit_response(request, |topic, partition| {
            match self.pending_offset(topic, partition, now) {
                Ok(offset) => {
                    offsets.push(offset);
                    ErrorCode::None
                }
                Err(error) => error,
            }
        });
        if offsets.is_empty() {
            return Step::Answer(Response::OffsetCommit(response));
        }
        let records: Vec<(OffsetKey, Option<Vec<u8>>)> = offsets
            .iter()
            .map(|offset| (commit_key(&group, offset), Some(offset.committed.encode())))
            .collect();
        if let Err(error) = self.write_offset_records(&group, &records, now) {
            fail_commit(&mut response, error);
            return Step::Answer(Response::OffsetCommit(response));
        }
        self.commit_queue.appended(true);
        if let Some(entry) = self.coordinator.get_mut(&group) {
            if !entry.txn_offsets.is_empty() {
                let keys = offsets.iter().map(|offset| (offset.topic.clone(), offset.partition));
                let later = keys.map(|key| (key, Offset(i64::MAX))).collect();
                supersede(&mut entry.txn_offsets, &later);
            }
            for offset in &offsets {
                let key = (offset.topic.clone(), offset.partition);
                entry.pending_offsets.entry(key).or_default().push(ticket);
            }
        }
        let response = Response::OffsetCommit(response);
        self.commit_queue.push(Due::Offsets { ticket, response, group, offsets });
        Step::Parked
    }

    fn check_committer(
        &mut self,
        request: &OffsetCommitRequest,
        version: i16,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        // The group without a name is one like others, for clients from before KIP-289.
        let generation = request.generation_id_or_member_epoch;
        if self.coordinator.get(&request.group_id).is_none() {
            if generation >= 0 {
                return Err(if version >= GROUP_ID_NOT_FOUND_VERSION_MIN {
                    ErrorCode::GroupIdNotFound
                } else {
                    ErrorCode::IllegalGeneration
                });
            }
            let is_full = self.coordinator.bytes() >= self.config.groups_metadata_bytes_max;
            if is_full || self.coordinator.len() >= self.config.groups_max {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
        }
        let limits = self.group_limits();
        let entry = self.coordinator.get_or_make(&request.group_id, limits, now);
        let instance = request.group_instance_id.as_ref();
        entry.group.check_commit(&request.member_id, instance, generation, version, now)
    }

    pub(crate) fn pending_offset(
        &self,
        topic: &str,
        partition: &OffsetCommitRequestPartition,
        now: TimestampMs,
    ) -> Result<PendingOffset, ErrorCode> {
        let topic = self.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        topic.existing_log(PartitionId(partition.partition_index))?;
        let metadata = partition.committed_metadata.as_deref().unwrap_or("");
        if metadata.len() > self.config.offset_metadata_bytes_max {
            return Err(ErrorCode::OffsetMetadataTooLarge);
        }
        Ok(PendingOffset {
            topic: topic.name().clone(),
            topic_id: topic.id(),
            partition: partition.partition_index,
            committed: CommittedOffset {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: Str::copy_from(metadata),
                commit_timestamp_ms: now.get(),
            },
        })
    }

    /// The commit of these offsets has ended. If it went well they are seen from now on, but for those that were forgotten
    /// since, with their group or their topic: the log has their tombstones behind them.
    pub(crate) fn offsets_stored(
        &mut self,
        ticket: Ticket,
        group: &str,
        offsets: Vec<PendingOffset>,
        synced: bool,
    ) {
        let Some(entry) = self.coordinator.get_mut(group) else { return };
        for offset in offsets {
            let kept = entry.settle(&offset.topic, offset.partition, ticket);
            if !(kept && synced) {
                continue;
            }
            if self.topics.get(&offset.topic).is_some_and(|topic| topic.id() == offset.topic_id) {
                entry
                    .offsets
                    .entry(offset.topic)
                    .or_default()
                    .insert(offset.partition, offset.committed);
            }
        }
    }

    pub(crate) fn offset_fetch(&self, request: &OffsetFetchRequest, version: i16) -> Step {
        let mut response = OffsetFetchResponse::default();
        let stable = request.require_stable;
        if version >= 8 {
            let mut left = self.config.request_partitions_max;
            response.groups = distinct(&request.groups, |group| &group.group_id)
                .into_iter()
                .map(|group| {
                    let wanted = group.topics.as_ref().map(|topics| {
                        topics
                            .iter()
                            .map(|topic| (&topic.name, topic.partition_indexes.as_slice()))
                            .collect()
                    });
                    let (id, epoch) = (group.member_id.as_ref(), group.member_epoch);
                    let entry = self.coordinator.get(&group.group_id);
                    let checked = entry.map_or(Ok(()), |entry| entry.group.check_fetch(id, epoch));
                    let (topics, error) = split(checked.and_then(|()| {
                        self.fetch_offsets(&group.group_id, wanted, stable, &mut left)
                    }));
                    let group_id = group.group_id.clone();
                    OffsetFetchResponseGroup { group_id, topics, error_code: error.code() }
                })
                .collect();
            return Step::Answer(Response::OffsetFetch(response));
        }
        let wanted = request.topics.as_ref().map(|topics| {
            topics.iter().map(|topic| (&topic.name, topic.partition_indexes.as_slice())).collect()
        });
        let mut left = self.config.request_partitions_max;
        let (topics, error) =
            split(self.fetch_offsets(&request.group_id, wanted, stable, &mut left));
        response.topics = topics.into_iter().map(as_old_topic).collect();
        response.error_code = error.code();
        Step::Answer(Response::OffsetFetch(response))
    }

    /// The offsets of a group, of `left` partitions at most, which are taken off it. What was never committed, also by a
    /// group never seen, is −1 without an error. With `stable`, so is one that a transaction may still change, with an error
    /// (KIP-447).
    fn fetch_offsets(
        &self,
        group: &str,
        wanted: Option<Vec<(&Str, &[i32])>>,
        stable: bool,
        left: &mut usize,
    ) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
        let none = BTreeMap::new();
        let entry = self.coordinator.get(group);
        let offsets = entry.map_or(&none, |entry| &entry.offsets);
        let waiting = entry.filter(|_| stable).into_iter().flat_map(GroupEntry::waiting_offsets);
        let waiting: HashSet<(&str, i32)> = waiting.collect();
        let fetched = |name: &Str, index: i32, offset: Option<&CommittedOffset>| match waiting
            .contains(&(&**name, index))
        {
            true => OffsetFetchResponsePartitions {
                error_code: ErrorCode::UnstableOffsetCommit.code(),
                ..fetched(index, None)
            },
            false => fetched(index, offset),
        };
        let count: usize = match &wanted {
            None => offsets.values().map(BTreeMap::len).sum(),
            Some(wanted) => wanted.iter().map(|(_, indexes)| indexes.len()).sum(),
        };
        *left = left.checked_sub(count).ok_or(ErrorCode::InvalidRequest)?;
        let Some(wanted) = wanted else {
            let all = offsets.iter().map(|(name, partitions)| OffsetFetchResponseTopics {
                name: name.clone(),
                partitions: partitions
                    .iter()
                    .map(|(index, offset)| fetched(name, *index, Some(offset)))
                    .collect(),
            });
            return Ok(all.collect());
        };
        let topics = wanted
            .into_iter()
            .map(|(name, indexes)| {
                let partitions = offsets.get(&**name);
                let offset =
                    |index: &i32| fetched(name, *index, partitions.and_then(|of| of.get(index)));
                OffsetFetchResponseTopics {
                    name: name.clone(),
                    partitions: indexes.iter().map(offset).collect(),
                }
            })
            .collect();
        Ok(topics)
    }

    /// Appends records about `group` to its partition, as one batch.
    pub(crate) fn write_offset_records(
        &mut self,
        group: &str,
        records: &[(OffsetKey, Option<Vec<u8>>)],
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        self.append_offset_records(group, records, None, now).map(|_| ())
    }

    /// Appends records about `group` to its partition, as one batch, which belongs to the transaction of a producer if one
    /// is given. Returns the place of the first.
    pub(crate) fn append_offset_records(
        &mut self,
        group: &str,
        records: &[(OffsetKey, Option<Vec<u8>>)],
        producer: Option<Producer>,
        now: TimestampMs,
    ) -> Result<Offset, ErrorCode> {
        let log = self.offsets_log(group, now)?;
        let mut builder = BatchBuilder::new(Codec::None);
        for (key, value) in records {
            builder.append(now, Some(&key.encode()), value.as_deref(), &[]);
        }
        if let Some(producer) = producer {
            builder.set_producer(producer.id, producer.epoch, Sequence::NONE);
            builder.set_transactional(true);
        }
        let mut batch = Vec::from(builder.build());
        let appended = self.logs.append(log, &mut batch, AppendOrigin::Coordinator, now);
        appended.map(|taken| taken.base_offset).map_err(|refusal| {
            if refusal.error == ErrorCode::InvalidProducerEpoch {
                return refusal.error;
            }
            // Whoever asked for the group is to look for its coordinator again.
            tracing::warn!(group, error = %refusal.error, "append to the log of committed offsets failed");
            ErrorCode::CoordinatorNotAvailable
        })
    }

    fn offsets_log(&mut self, group: &str, now: TimestampMs) -> Result<LogId, ErrorCode> {
        // 50, unless the directory came from a Kafka that was told otherwise.
        let count = self.offsets_topic()?.partition_count();
        let partitions =
            i32::try_from(count).ok().filter(|count| *count > 0).unwrap_or(OFFSETS_PARTITIONS);
        let partition = PartitionId(partition_of(group, partitions));
        self.log_for_append(OFFSETS_TOPIC, partition, now)
    }

    /// The offsets of deleted topics are gone with them.
    ///
    /// Cost: one look at each group, however many topics.
    pub(crate) fn forget_offsets_of(&mut self, topics: &HashSet<Str>, now: TimestampMs) {
        if topics.is_empty() {
            return;
        }
        let of_group: Vec<(Str, BTreeSet<Str>)> = self
            .coordinator
            .iter()
            .map(|(group, entry)| (group, entry.topics_among(topics)))
            .filter(|(_, among)| !among.is_empty())
            .map(|(group, among)| (group.clone(), among))
            .collect();
        for (group, among) in of_group {
            let Some(entry) = self.coordinator.get_mut(&group) else { continue };
            let mut records = Vec::new();
            for topic in &among {
                let partitions = entry.forget_topic(topic);
                let keys = partitions.iter().map(|partition| (&**topic, *partition));
                records.extend(tombstones(&group, keys));
            }
            if let Err(error) = self.write_offset_records(&group, &records, now) {
                let topics = among.len();
                tracing::warn!(group = %group, topics, %error, "offsets of deleted topics stay in the log");
            }
            self.commit_queue.appended(true);
        }
    }

    /// Forgets offsets of groups that have been empty for the retention time, and groups with nothing left
    /// (`offsets.retention.minutes`, KIP-211).
    pub(crate) fn expire_offsets(&mut self, now: TimestampMs) {
        let retention_ms = self.config.offsets_retention_minutes.saturating_mul(60_000);
        let names: Vec<Str> = self
            .coordinator
            .iter()
            .filter(|(_, entry)| entry.group.is_empty())
            // The tombstone of an offset would come behind the newer one that is on its way.
            .filter(|(_, entry)| entry.pending_offsets.is_empty() && entry.txn_offsets.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(entry) = self.coordinator.get_mut(&name) else { continue };
            // A group that had members counts from when it became empty, another one from each commit.
            let since = entry.group.empty_since();
            let mut expired = Vec::new();
            for (topic, partitions) in &mut entry.offsets {
                partitions.retain(|partition, offset| {
                    let committed = TimestampMs(offset.commit_timestamp_ms);
                    let base = since.map_or(committed, |since| since.max(committed));
                    let keep = now.since(base) < retention_ms;
                    if !keep {
                        expired.push((topic.clone(), *partition));
                    }
                    keep
                });
            }
            entry.offsets.retain(|_, partitions| !partitions.is_empty());
            let over = entry.offsets.is_empty() && entry.group.is_idle();
            self.write_expiry(&name, &expired, over, now);
        }
    }

    fn write_expiry(&mut self, group: &Str, expired: &[(Str, i32)], over: bool, now: TimestampMs) {
        let mut records =
            tombstones(group, expired.iter().map(|(topic, partition)| (&**topic, *partition)));
        if over {
            if let Some(entry) = self.coordinator.remove(group) {
                records.extend(entry.group_tombstones(group));
            }
        }
        if records.is_empty() {
            return;
        }
        match self.write_offset_records(group, &records, now) {
            Ok(()) => self.commit_queue.appended(false),
            Err(error) => {
                tracing::warn!(group = %group, %error, "expiry of offsets was not written")
            }
        }
    }

    /// Reads what the log has.
    pub(crate) fn replay_offsets(&mut self, now: TimestampMs) -> Result<(), BrokerError> {
        let Some(topic) = self.topics.get(OFFSETS_TOPIC) else { return Ok(()) };
        let logs: Vec<(PartitionId, LogId)> = topic.logs().collect();
        // Each group gets its own once it is read.
        let limits = self.consumer_group_limits("");
        for (partition, log) in logs {
            let mut replay = Replay::default();
            self.logs.for_each_batch(log, REPLAY_BYTES, |batch, records| {
                let producer = batch.is_transactional().then(|| batch.producer_id());
                for record in records {
                    let replayed = match batch.is_control() {
                        true => replay.marker(batch.producer_id(), record.key.as_deref()),
                        false => replay.record(record, producer, &limits, now),
                    };
                    if let Err(error) = replayed {
                        tracing::warn!(%partition, %error, "a record of __consumer_offsets is not understood");
                    }
                }
            })?;
            self.take_over(replay, now);
        }
        Ok(())
    }

    fn take_over(&mut self, replay: Replay, now: TimestampMs) {
        let limits = self.group_limits();
        for (name, record) in replay.groups {
            let entry = self.coordinator.get_or_make(&name, limits, now);
            entry.group = GroupKind::Classic(Box::new(Group::restore(limits, record, now)));
            self.coordinator.recount(&name);
            self.coordinator.reschedule(&name);
        }
        for (name, mut group) in replay.consumer_groups {
            // Of one that is gone, tombstones may be left.
            if group.epoch() > 0 || group.member_count() > 0 {
                group.set_limits(self.consumer_group_limits(&name));
                group.restored(now);
                self.coordinator.insert(&name, GroupKind::Consumer(Box::new(group)));
            }
        }
        let mut dropped: BTreeMap<Str, Vec<(Str, i32)>> = BTreeMap::new();
        for ((group, topic, partition), offset) in replay.offsets {
            if self.topics.get(&topic).is_some() {
                let entry = self.coordinator.get_or_make(&group, limits, now);
                entry.offsets.entry(topic).or_default().insert(partition, offset);
            } else {
                dropped.entry(group).or_default().push((topic, partition));
            }
        }
        for ((group, producer), offsets) in replay.waiting {
            self.coordinator.get_or_make(&group, limits, now);
            for ((topic, partition), (position, committed)) in offsets {
                let Some(topic_id) = self.topics.get(&topic).map(Topic::id) else {
                    dropped.entry(group.clone()).or_default().push((topic, partition));
                    continue;
                };
                let offset = TxnOffset { position, topic_id, committed };
                self.replay_txn_offset(&group, producer, (topic, partition), offset);
            }
        }
        // The tombstones of a deleted topic have missed the last commit before a crash. Without them its offsets would be
        // those of the next topic of its name.
        let names: BTreeSet<Str> =
            dropped.values().flatten().map(|(topic, _)| topic.clone()).collect();
        for (group, keys) in dropped {
            let keys = keys.iter().map(|(topic, partition)| (&**topic, *partition));
            let records = tombstones(&group, keys);
            match self.write_offset_records(&group, &records, now) {
                Ok(()) => self.commit_queue.appended(false),
                Err(error) => {
                    tracing::warn!(group = %group, %error, "offsets of a deleted topic stay in the log")
                }
            }
        }
        let mark = self.commit_queue.mark();
        names.into_iter().for_each(|name| self.staged.settle(name, None, mark));
    }
}

/// Offsets of one transaction, with their places, by topic and partition.
type Waiting = BTreeMap<(Str, i32), (Offset, CommittedOffset)>;

/// The last record of each key.
#[derive(Debug, Default)]
struct Replay {
    groups: BTreeMap<Str, GroupMetadataValue>,
    consumer_groups: BTreeMap<Str, ConsumerGroup>,
    offsets: BTreeMap<(Str, Str, i32), CommittedOffset>,
    /// Offsets whose transaction has no marker so far, with their places, by group and producer.
    waiting: BTreeMap<(Str, ProducerId), Waiting>,
}

impl Replay {
    fn record(
        &mut self,
        record: Record,
        producer: Option<ProducerId>,
        limits: &ConsumerGroupLimits,
        now: TimestampMs,
    ) -> Result<(), weir_protocol::DecodeError> {
        let Some(key) = record.key else { return Ok(()) };
        let position = record.offset;
        match (OffsetKey::decode(key)?, record.value, producer) {
            (OffsetKey::Commit { group, topic, partition }, Some(value), Some(producer)) => {
                let offset = (position, CommittedOffset::decode(value)?);
                let waiting = self.waiting.entry((group, producer)).or_default();
                waiting.insert((topic, partition), offset);
                return Ok(());
            }
            (OffsetKey::Commit { group, topic, partition }, value, _) => {
                let key = (topic, partition);
                self.supersede(&group, &key, position);
                let key = (group, key.0, partition);
                match value {
                    Some(value) => self.offsets.insert(key, CommittedOffset::decode(value)?),
                    None => self.offsets.remove(&key),
                };
                return Ok(());
            }
            (OffsetKey::Group { group }, value, _) => match value {
                Some(value) => drop(self.groups.insert(group, GroupMetadataValue::decode(value)?)),
                None => drop(self.groups.remove(&group)),
            },
            (OffsetKey::Consumer { group, key }, value, _) => {
                let Some(change) = Change::decode(key, value)? else { return Ok(()) };
                if change == Change::Group(None) {
                    self.consumer_groups.remove(&group);
                    return Ok(());
                }
                let made = || ConsumerGroup::new(limits.clone(), now);
                let found = self.consumer_groups.entry(group).or_insert_with(made);
                found.apply(change, record.timestamp);
            }
            (OffsetKey::Other(_), ..) => {}
        }
        Ok(())
    }

    /// Forgets what waits for a marker, where the same partition got a later offset.
    fn supersede(&mut self, group: &Str, key: &(Str, i32), position: Offset) {
        let from = (group.clone(), ProducerId(i64::MIN));
        for ((of, _), offsets) in self.waiting.range_mut(from..) {
            if of != group {
                break;
            }
            if offsets.get(key).is_some_and(|(waiting, _)| *waiting < position) {
                offsets.remove(key);
            }
        }
    }

    /// A transaction ends.
    fn marker(
        &mut self,
        producer: ProducerId,
        key: Option<&[u8]>,
    ) -> Result<(), weir_protocol::DecodeError> {
        let Some(marker) = key.and_then(ControlMarker::from_key) else { return Ok(()) };
        let groups: Vec<Str> = self
            .waiting
            .keys()
            .filter(|(_, of)| *of == producer)
            .map(|(group, _)| group.clone())
            .collect();
        for group in groups {
            let offsets = self.waiting.remove(&(group.clone(), producer)).unwrap_or_default();
            if marker == ControlMarker::Abort {
                continue;
            }
            for (key, (position, offset)) in offsets {
                self.supersede(&group, &key, position);
                self.offsets.insert((group.clone(), key.0, key.1), offset);
            }
        }
        Ok(())
    }
}
fn commit_key(group: &Str, offset: &PendingOffset) -> OffsetKey {
    OffsetKey::Commit {
        group: group.clone(),
        topic: offset.topic.clone(),
        partition: offset.partition,
    }
}

/// Records that say that `group` has no offsets of these partitions any more.
pub(crate) fn tombstones<'a>(
    group: &Str,
    offsets: impl Iterator<Item = (&'a str, i32)>,
) -> Vec<(OffsetKey, Option<Vec<u8>>)> {
    offsets
        .map(|(topic, partition)| {
            (
                OffsetKey::Commit { group: group.clone(), topic: Str::copy_from(topic), partition },
                None,
            )
        })
        .collect()
}

fn commit_response(
    request: &OffsetCommitRequest,
    mut result: impl FnMut(&str, &OffsetCommitRequestPartition) -> ErrorCode,
) -> OffsetCommitResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: result(&topic.name, partition).code(),
                })
                .collect(),
        })
        .collect();
    OffsetCommitResponse { throttle_time_ms: 0, topics }
}

fn split(
    found: Result<Vec<OffsetFetchResponseTopics>, ErrorCode>,
) -> (Vec<OffsetFetchResponseTopics>, ErrorCode) {
    match found {
        Ok(topics) => (topics, ErrorCode::None),
        Err(error) => (Vec::new(), error),
    }
}

/// Turns what had gone well into `error`.
pub(crate) fn fail_commit(response: &mut OffsetCommitResponse, error: ErrorCode) {
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if partition.error_code == ErrorCode::None.code() {
            partition.error_code = error.code();
        }
    }
}

fn fetched(index: i32, offset: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: offset.map_or(-1, |offset| offset.offset),
        committed_leader_epoch: offset.map_or(-1, |offset| offset.leader_epoch),
        metadata: Some(offset.map(|offset| offset.metadata.clone()).unwrap_or_default()),
        error_code: 0,
    }
}

fn as_old_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
            })
            .collect(),
    }
}
