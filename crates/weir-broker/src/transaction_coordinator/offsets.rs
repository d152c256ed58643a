//! Offsets that are committed in a transaction: TxnOffsetCommit, and what waits for its marker.
//!
//! Such offsets lie in `__consumer_offsets` like any others, in a transactional batch. They count from the marker on, and
//! a reader that asks for stable offsets is told to wait until then (KIP-447). Among several commits of one partition the
//! one with the highest place in the log counts, not the one whose marker came last; so what stands before a plain commit
//! or a tombstone can be forgotten at once.

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::api::offset_commit::OffsetCommitRequestPartition;
use weir_protocol::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use weir_protocol::{ErrorCode, Offset, ProducerEpoch, ProducerId, Str, TimestampMs, Uuid};

use super::write_error;
use crate::broker::{Broker, Step};
use crate::commit_queue::PendingOffset;
use crate::coordinator::GroupEntry;
use crate::effects::Ticket;
use crate::offset_records::{CommittedOffset, OffsetKey};
use crate::request::Response;
use crate::topics::OFFSETS_TOPIC;
use crate::transaction::{Producer, TxnVersion};

/// From this version of TxnOffsetCommit on the client follows version 2: its offsets are added.
const VERSION_V2: i16 = 5;

/// An offset that waits for a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TxnOffset {
    /// Where it stands in `__consumer_offsets`.
    pub(crate) position: Offset,
    /// The topic it was committed for.
    pub(crate) topic_id: Uuid,
    pub(crate) committed: CommittedOffset,
}

/// Offsets that wait, by producer, topic and partition.
pub(crate) type TxnOffsets = BTreeMap<ProducerId, BTreeMap<(Str, i32), TxnOffset>>;

/// Forgets what stands before the position of a later offset of the same partition.
///
/// Cost: a look at each offset that waits, however many are later.
pub(crate) fn supersede(waiting: &mut TxnOffsets, later: &BTreeMap<(Str, i32), Offset>) {
    waiting.retain(|_, offsets| {
        offsets.retain(|key, waiting| {
            later.get(key).is_none_or(|position| waiting.position >= *position)
        });
        !offsets.is_empty()
    });
}

impl GroupEntry {
    /// Partitions whose offsets wait for a marker.
    pub(crate) fn waiting_offsets(&self) -> impl Iterator<Item = (&str, i32)> {
        let keys = self.txn_offsets.values().flat_map(BTreeMap::keys);
        keys.map(|(topic, partition)| (&**topic, *partition))
    }

    /// The partitions of a topic that wait for a marker, which are forgotten.
    pub(crate) fn forget_txn_offsets(&mut self, topic: &str) -> BTreeSet<i32> {
        let mut partitions = BTreeSet::new();
        for offsets in self.txn_offsets.values_mut() {
            offsets.retain(|(of, partition), _| {
                let goes = **of == *topic;
                if goes {
                    partitions.insert(*partition);
                }
                !goes
            });
        }
        self.txn_offsets.retain(|_, offsets| !offsets.is_empty());
        partitions
    }
}

impl Broker {
    pub(crate) fn txn_offset_commit(
        &mut self,
        ticket: Ticket,
        request: &TxnOffsetCommitRequest,
        version: i16,
        now: TimestampMs,
    ) -> Step {
        let mut offsets = Vec::new();
        let checked = self.check_txn_commit(request, now);
        let mut results: Vec<ErrorCode> = Vec::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                let offset =
                    checked.and_then(|()| self.pending_offset(&topic.name, &plain(partition), now));
                results.push(offset.as_ref().err().copied().unwrap_or(ErrorCode::None));
                offsets.extend(offset);
            }
        }
        if !offsets.is_empty() {
            if let Err(error) = self.write_txn_offsets(request, offsets, version, now) {
                results.iter_mut().filter(|result| result.is_none()).for_each(|r| *r = error);
            }
        }
        let response = Response::TxnOffsetCommit(commit_response(request, &results));
        match results.iter().any(|result| result.is_none()) {
            true => self.commit_queue.answer_when_synced(ticket, response),
            false => Step::Answer(response),
        }
    }

    /// Whether the group takes these offsets (KIP-447).
    fn check_txn_commit(
        &mut self,
        request: &TxnOffsetCommitRequest,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        if count > self.config.request_partitions_max || request.transactional_id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let generation = request.generation_id;
        if self.coordinator.get(&request.group_id).is_none() {
            if generation >= 0 {
                return Err(ErrorCode::IllegalGeneration);
            }
            if self.coordinator.len() >= self.config.groups_max {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
        }
        let limits = self.group_limits();
        let entry = self.coordinator.get_or_make(&request.group_id, limits, now);
        let instance = request.group_instance_id.as_ref();
        entry.group.check_txn_commit(&request.member_id, instance, generation)
    }

    fn write_txn_offsets(
        &mut self,
        request: &TxnOffsetCommitRequest,
        offsets: Vec<PendingOffset>,
        version: i16,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let group = Str::copy_from(&request.group_id);
        let producer = Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
        };
        let id = &request.transactional_id;
        let topic = Str::from_static(OFFSETS_TOPIC);
        let partition = self.offsets_partition(&group);
        let allowed = match version {
            VERSION_V2.. => {
                let mut added = [(&topic, partition)].into_iter();
                self.add_to_transaction(id, producer, &mut added, TxnVersion::V2, now)
            }
            _ => self.verify(id, producer, &topic, partition),
        };
        allowed.map_err(|error| match write_error(error, version, VERSION_V2) {
            ErrorCode::NotEnoughReplicas => ErrorCode::CoordinatorNotAvailable,
            error => error,
        })?;
        let records: Vec<(OffsetKey, Option<Vec<u8>>)> = offsets
            .iter()
            .map(|offset| {
                let key = OffsetKey::Commit {
                    group: group.clone(),
                    topic: offset.topic.clone(),
                    partition: offset.partition,
                };
                (key, Some(offset.committed.encode()))
            })
            .collect();
        let base = self.append_offset_records(&group, &records, Some(producer), now)?;
        self.commit_queue.appended(true);
        for (place, offset) in (0..).zip(offsets) {
            let waiting = TxnOffset {
                position: base.plus(place),
                topic_id: offset.topic_id,
                committed: offset.committed,
            };
            self.await_marker(&group, producer.id, (offset.topic, offset.partition), waiting);
        }
        Ok(())
    }

    /// Keeps an offset until the marker of its producer comes.
    pub(super) fn await_marker(
        &mut self,
        group: &Str,
        producer: ProducerId,
        key: (Str, i32),
        offset: TxnOffset,
    ) {
        let Some(entry) = self.coordinator.get_mut(group) else { return };
        entry.txn_offsets.entry(producer).or_default().insert(key, offset);
        self.transactions.groups.entry(producer).or_default().insert(group.clone());
    }

    /// The marker of a producer is on disk: its offsets count, or they do not. In these partitions of
    /// `__consumer_offsets`, or in all.
    pub(super) fn settle_offsets(
        &mut self,
        producer: ProducerId,
        commit: bool,
        partitions: Option<&BTreeSet<i32>>,
    ) {
        let Some(groups) = self.transactions.groups.remove(&producer) else { return };
        let mut left = BTreeSet::new();
        for group in groups {
            let is_meant = partitions.is_none_or(|of| of.contains(&self.offsets_partition(&group)));
            if !is_meant {
                left.insert(group);
                continue;
            }
            let Some(entry) = self.coordinator.get_mut(&group) else { continue };
            let offsets = entry.txn_offsets.remove(&producer).unwrap_or_default();
            if commit {
                let later = offsets.iter().map(|(key, offset)| (key.clone(), offset.position));
                supersede(&mut entry.txn_offsets, &later.collect());
            }
            for (key, offset) in offsets.into_iter().filter(|_| commit) {
                let (name, partition) = key;
                if self.topics.get(&name).is_some_and(|topic| topic.id() == offset.topic_id) {
                    entry.offsets.entry(name).or_default().insert(partition, offset.committed);
                }
            }
        }
        if !left.is_empty() {
            self.transactions.groups.insert(producer, left);
        }
    }
}

fn plain(partition: &TxnOffsetCommitRequestPartition) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        committed_metadata: partition.committed_metadata.clone(),
    }
}

fn commit_response(
    request: &TxnOffsetCommitRequest,
    results: &[ErrorCode],
) -> TxnOffsetCommitResponse {
    let mut results = results.iter();
    let topics = request
        .topics
        .iter()
        .map(|topic| TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: results.next().map_or(0, |result| result.code()),
                })
                .collect(),
        })
        .collect();
    TxnOffsetCommitResponse { throttle_time_ms: 0, topics }
}
