//! DescribeTopicPartitions: topics in the order of their names, so many partitions an answer, and where to go on.

use std::collections::BTreeSet;

use weir_log::check_topic_name;
use weir_protocol::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use weir_protocol::{ErrorCode, Str};

use crate::broker::{Broker, Step, NODE_ID};
use crate::metadata::TOPIC_OPERATIONS;
use crate::request::Response;
use crate::topics::{is_internal, Topic};

/// `max.request.partition.size.limit`: partitions in one answer, whatever is asked for.
const PARTITIONS_MAX: usize = 2_000;

impl Broker {
    pub(crate) fn describe_topic_partitions(
        &self,
        request: &DescribeTopicPartitionsRequest,
    ) -> Step {
        let mut response = DescribeTopicPartitionsResponse::default();
        let Some(names) = self.names_from_cursor(request) else {
            let refused = request.topics.iter().take(self.config.request_names_max);
            response.topics = refused
                .map(|topic| failed_topic(&topic.name, ErrorCode::InvalidRequest, i32::MIN))
                .collect();
            return Step::Answer(Response::DescribeTopicPartitions(response));
        };
        let wanted = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let mut left =
            wanted.clamp(1, PARTITIONS_MAX.min(self.config.request_partitions_max.max(1)));
        for name in names {
            let cursor =
                |partition_index| Some(Cursor { topic_name: name.clone(), partition_index });
            if left == 0 {
                response.next_cursor = cursor(0);
                break;
            }
            let Some(topic) = self.topics.get(name) else {
                let (error, operations) = match check_topic_name(name) {
                    Ok(()) => (ErrorCode::UnknownTopicOrPartition, TOPIC_OPERATIONS),
                    Err(_) => (ErrorCode::InvalidTopicException, i32::MIN),
                };
                response.topics.push(failed_topic(name, error, operations));
                // Names that are unknown must not make an answer without bound either.
                left -= 1;
                continue;
            };
            let from = match &request.cursor {
                Some(cursor) if cursor.topic_name == *name => cursor.partition_index,
                _ => 0,
            };
            let from = usize::try_from(from).unwrap_or(0);
            let described = self.described_topic(topic, from, left);
            let next = from + described.partitions.len();
            left -= described.partitions.len();
            response.topics.push(described);
            if next < topic.partition_count() {
                response.next_cursor = cursor(i32::try_from(next).unwrap_or(i32::MAX));
                break;
            }
        }
        Step::Answer(Response::DescribeTopicPartitions(response))
    }

    /// The topics that are asked for, or all, from the one of the cursor on. `None` if the cursor is none of them.
    fn names_from_cursor<'a>(
        &'a self,
        request: &'a DescribeTopicPartitionsRequest,
    ) -> Option<BTreeSet<&'a Str>> {
        let named = request.topics.iter().map(|topic| &topic.name);
        let cursor = request.cursor.as_ref();
        let is_later = |name: &&Str| cursor.is_none_or(|cursor| **name >= cursor.topic_name);
        if cursor.is_some_and(|cursor| cursor.partition_index < 0) {
            return None;
        }
        if request.topics.is_empty() {
            return Some(self.topics.iter().map(Topic::name).filter(is_later).collect());
        }
        let names: BTreeSet<&Str> = named.filter(is_later).collect();
        cursor.is_none_or(|cursor| names.contains(&cursor.topic_name)).then_some(names)
    }

    fn described_topic(
        &self,
        topic: &Topic,
        from: usize,
        partitions_max: usize,
    ) -> DescribeTopicPartitionsResponseTopic {
        let partitions = topic.partitions().skip(from).take(partitions_max);
        let partitions =
            partitions.map(|(partition, log)| DescribeTopicPartitionsResponsePartition {
                error_code: 0,
                partition_index: partition.get(),
                leader_id: NODE_ID,
                leader_epoch: self.logs.bounds_or_empty(log).leader_epoch.get(),
                replica_nodes: vec![NODE_ID],
                isr_nodes: vec![NODE_ID],
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                offline_replicas: Vec::new(),
            });
        DescribeTopicPartitionsResponseTopic {
            error_code: 0,
            name: Some(topic.name().clone()),
            topic_id: topic.id(),
            is_internal: topic.is_internal(),
            partitions: partitions.collect(),
            topic_authorized_operations: TOPIC_OPERATIONS,
        }
    }
}

fn failed_topic(
    name: &Str,
    error: ErrorCode,
    topic_authorized_operations: i32,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name.clone()),
        is_internal: is_internal(name),
        topic_authorized_operations,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}
