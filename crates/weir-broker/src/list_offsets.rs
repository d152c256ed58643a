//! ListOffsets and OffsetForLeaderEpoch: where a reader may begin, and where an epoch ended.

use std::collections::HashSet;

use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use weir_protocol::api::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use weir_protocol::{ErrorCode, LeaderEpoch, Offset, PartitionId, TimestampMs};

use crate::broker::{Broker, Step};
use crate::fetch::READ_COMMITTED;
use crate::logs::TimedOffset;
use crate::request::Response;

/// The high watermark, or the last stable offset for a reader of what is committed.
const LATEST: i64 = -1;
/// The log start offset.
const EARLIEST: i64 = -2;
/// The record with the largest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The first offset on this node (KIP-405): here all are.
const EARLIEST_LOCAL: i64 = -4;
/// The last offset in tiered storage (KIP-1005): there is none.
const LATEST_TIERED: i64 = -5;

impl Broker {
    pub(crate) fn list_offsets(&self, request: &ListOffsetsRequest) -> Step {
        let read_committed = request.isolation_level == READ_COMMITTED;
        let repeated = repeated_partitions(request);
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let too_many = count > self.config.request_partitions_max;
        let list = |topic: &str, wanted: &ListOffsetsPartition| {
            let found = match too_many || repeated.contains(&(topic, wanted.partition_index)) {
                true => Err(ErrorCode::InvalidRequest),
                false => self.find_offset(topic, wanted, read_committed),
            };
            listed(wanted, found)
        };
        let topics = request
            .topics
            .iter()
            .map(|topic| ListOffsetsTopicResponse {
                name: topic.name.clone(),
                partitions: topic.partitions.iter().map(|p| list(&topic.name, p)).collect(),
            })
            .collect();
        Step::Answer(Response::ListOffsets(ListOffsetsResponse { throttle_time_ms: 0, topics }))
    }

    fn find_offset(
        &self,
        topic: &str,
        wanted: &ListOffsetsPartition,
        read_committed: bool,
    ) -> Result<Option<TimedOffset>, ErrorCode> {
        let topic = self.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let log = topic.existing_log(PartitionId(wanted.partition_index))?;
        let bounds = self.logs.bounds_or_empty(log);
        bounds.check_epoch(LeaderEpoch(wanted.current_leader_epoch))?;
        let bound = if read_committed { bounds.last_stable } else { bounds.high_watermark };
        let none = TimestampMs(-1);
        let at = |offset: Offset| {
            let leader_epoch =
                log.map_or(bounds.leader_epoch, |log| self.logs.epoch_of(log, offset));
            TimedOffset { offset, timestamp: none, leader_epoch }
        };
        match wanted.timestamp {
            LATEST => Ok(Some(TimedOffset {
                offset: bound,
                timestamp: none,
                leader_epoch: bounds.leader_epoch,
            })),
            EARLIEST | EARLIEST_LOCAL => Ok(Some(at(bounds.start))),
            LATEST_TIERED => Ok(None),
            MAX_TIMESTAMP => log.map_or(Ok(None), |log| self.logs.max_timestamp(log, bound)),
            time if time < 0 => Err(ErrorCode::UnsupportedVersion),
            time => log.map_or(Ok(None), |log| {
                self.logs.offset_for_timestamp(log, TimestampMs(time), bound)
            }),
        }
    }

    pub(crate) fn offset_for_leader_epoch(&self, request: &OffsetForLeaderEpochRequest) -> Step {
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let too_many = count > self.config.request_partitions_max;
        let refused = |wanted: &OffsetForLeaderPartition| EpochEndOffset {
            partition: wanted.partition,
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        };
        let end = |topic: &str, wanted: &OffsetForLeaderPartition| match too_many {
            true => refused(wanted),
            false => self.epoch_end(topic, wanted),
        };
        let topics = request
            .topics
            .iter()
            .map(|topic| OffsetForLeaderTopicResult {
                topic: topic.topic.clone(),
                partitions: topic.partitions.iter().map(|p| end(&topic.topic, p)).collect(),
            })
            .collect();
        Step::Answer(Response::OffsetForLeaderEpoch(OffsetForLeaderEpochResponse {
            throttle_time_ms: 0,
            topics,
        }))
    }

    fn epoch_end(&self, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
        let mut response = EpochEndOffset { partition: wanted.partition, ..Default::default() };
        let found = || {
            let topic = self.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            let log = topic.existing_log(PartitionId(wanted.partition))?;
            self.logs.bounds_or_empty(log).check_epoch(LeaderEpoch(wanted.current_leader_epoch))?;
            Ok(log.and_then(|log| self.logs.epoch_end(log, LeaderEpoch(wanted.leader_epoch))))
        };
        match found() {
            Ok(Some((epoch, end))) => {
                response.leader_epoch = epoch.get();
                response.end_offset = end.get();
            }
            Ok(None) => {}
            Err(error) => {
                let error: ErrorCode = error;
                response.error_code = error.code();
            }
        }
        response
    }
}

/// Partitions that a request names more than once. Kafka refuses them too: each may cost a batch to inflate.
fn repeated_partitions(request: &ListOffsetsRequest) -> HashSet<(&str, i32)> {
    let mut seen = HashSet::new();
    let mut repeated = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let named = (&*topic.name, partition.partition_index);
            if !seen.insert(named) {
                repeated.insert(named);
            }
        }
    }
    repeated
}

fn listed(
    wanted: &ListOffsetsPartition,
    found: Result<Option<TimedOffset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        ..Default::default()
    };
    match found {
        Ok(Some(found)) => {
            response.timestamp = found.timestamp.get();
            response.offset = found.offset.get();
            response.leader_epoch = found.leader_epoch.get();
        }
        Ok(None) => {}
        Err(error) => response.error_code = error.code(),
    }
    response
}
