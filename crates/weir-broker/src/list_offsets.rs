//! ListOffsets and OffsetForLeaderEpoch: where a reader may begin, and where an epoch ended.
//!
//! The core finds a batch by its time; which record of it is meant is left to the shell, outside the lock
//! ([`ListOffsetsAnswer::search_next`]).

use std::collections::HashSet;

use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use weir_protocol::api::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use weir_protocol::{ErrorCode, LeaderEpoch, PartitionId, TimestampMs};

use crate::broker::{Broker, Step};
use crate::fetch::READ_COMMITTED;
use crate::logs::TimedOffset;
use crate::request::{distinct, Response};
use crate::time_search::TimeSearch;

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

/// The first version that knows a timestamp with a meaning of its own.
const fn first_version_of(timestamp: i64) -> i16 {
    match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => 0,
    }
}

/// An answer that may have searches to do yet.
#[derive(Debug)]
pub struct ListOffsetsAnswer {
    /// The answer, without what is searched until [`ListOffsetsAnswer::search`].
    pub response: ListOffsetsResponse,
    searches: Vec<PartitionSearch>,
}

#[derive(Debug)]
struct PartitionSearch {
    topic: usize,
    partition: usize,
    search: TimeSearch,
}

impl ListOffsetsAnswer {
    /// Whether [`ListOffsetsAnswer::search_next`] has something to do.
    #[must_use]
    pub fn is_searching(&self) -> bool {
        !self.searches.is_empty()
    }

    /// Searches one partition: reads and inflates some batches.
    pub fn search_next(&mut self) {
        let Some(PartitionSearch { topic, partition, search }) = self.searches.pop() else {
            return;
        };
        let topic = self.response.topics.get_mut(topic);
        if let Some(answer) = topic.and_then(|topic| topic.partitions.get_mut(partition)) {
            *answer = listed(answer.partition_index, search.run());
        }
    }
}

/// Where an offset is.
enum Found {
    Here(Option<TimedOffset>),
    Inside(TimeSearch),
}

impl Broker {
    pub(crate) fn list_offsets(&self, request: &ListOffsetsRequest, version: i16) -> Step {
        let read_committed = request.isolation_level == READ_COMMITTED;
        let repeated = repeated_partitions(request);
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let too_many = count > self.config.request_partitions_max;
        let mut searches = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for (topic, wanted_topic) in request.topics.iter().enumerate() {
            let name = &wanted_topic.name;
            let mut partitions = Vec::with_capacity(wanted_topic.partitions.len());
            // A partition that comes twice is answered once.
            let asked = distinct(&wanted_topic.partitions, |wanted| &wanted.partition_index);
            for (partition, wanted) in asked.into_iter().enumerate() {
                let index = wanted.partition_index;
                let found = match too_many || repeated.contains(&(&**name, index)) {
                    true => Err(ErrorCode::InvalidRequest),
                    false => self.find_offset(name, wanted, version, read_committed),
                };
                let found = found.map(|found| match found {
                    Found::Here(offset) => offset,
                    Found::Inside(search) => {
                        searches.push(PartitionSearch { topic, partition, search });
                        None
                    }
                });
                partitions.push(listed(index, found));
            }
            topics.push(ListOffsetsTopicResponse { name: name.clone(), partitions });
        }
        let response = ListOffsetsResponse { throttle_time_ms: 0, topics };
        Step::Answer(Response::ListOffsets(ListOffsetsAnswer { response, searches }))
    }

    fn find_offset(
        &self,
        topic: &str,
        wanted: &ListOffsetsPartition,
        version: i16,
        read_committed: bool,
    ) -> Result<Found, ErrorCode> {
        let topic = self.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let log = topic.existing_log(PartitionId(wanted.partition_index))?;
        let bounds = self.logs.bounds_or_empty(log);
        bounds.check_epoch(LeaderEpoch(wanted.current_leader_epoch))?;
        let bound = if read_committed { bounds.last_stable } else { bounds.high_watermark };
        let timestamp = TimestampMs(-1);
        if version < first_version_of(wanted.timestamp) {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let here = match wanted.timestamp {
            LATEST => {
                let leader_epoch = bounds.leader_epoch;
                Some(TimedOffset { offset: bound, timestamp, leader_epoch })
            }
            EARLIEST | EARLIEST_LOCAL => {
                let offset = bounds.start;
                let leader_epoch =
                    log.map_or(bounds.leader_epoch, |log| self.logs.epoch_of(log, offset));
                Some(TimedOffset { offset, timestamp, leader_epoch })
            }
            LATEST_TIERED => None,
            MAX_TIMESTAMP => match log {
                None => None,
                Some(log) => return self.logs.search_latest(log, bound).map(Found::Inside),
            },
            time if time < 0 => return Err(ErrorCode::UnsupportedVersion),
            time => match log {
                None => None,
                Some(log) => {
                    let search = self.logs.search_time(log, TimestampMs(time), bound);
                    return search.map(Found::Inside);
                }
            },
        };
        Ok(Found::Here(here))
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
            Ok(self.logs.epoch_end(log, LeaderEpoch(wanted.leader_epoch)))
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
    partition_index: i32,
    found: Result<Option<TimedOffset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse { partition_index, ..Default::default() };
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
