//! DescribeTopicPartitions: topics and partitions page by page (KIP-966).

use crate::types::{Str, Uuid};

messages! {
    api DescribeTopicPartitions, versions 0..=0;

    request DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest>;
        response_partition_limit: i32 = 2_000;
        cursor: Option<Cursor> = None;
    }

    struct TopicRequest {
        name: Str;
    }

    struct Cursor {
        topic_name: Str;
        partition_index: i32;
    }

    response DescribeTopicPartitionsResponse {
        throttle_time_ms: i32;
        topics: Vec<DescribeTopicPartitionsResponseTopic>;
        next_cursor: Option<Cursor> = None;
    }

    struct DescribeTopicPartitionsResponseTopic {
        error_code: i16;
        name: Option<Str>;
        topic_id: Uuid;
        is_internal: bool;
        partitions: Vec<DescribeTopicPartitionsResponsePartition>;
        topic_authorized_operations: i32 = i32::MIN;
    }

    struct DescribeTopicPartitionsResponsePartition {
        error_code: i16;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 = -1;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        eligible_leader_replicas: Option<Vec<i32>> = None;
        last_known_elr: Option<Vec<i32>> = None;
        offline_replicas: Vec<i32>;
    }
}
