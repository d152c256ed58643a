//! DescribeQuorum: the voters of the metadata log (KIP-595).

use crate::types::{Str, Uuid};

messages! {
    api DescribeQuorum, versions 0..=2;

    request DescribeQuorumRequest {
        topics: Vec<TopicData>;
    }

    struct TopicData {
        topic_name: Str;
        partitions: Vec<PartitionData>;
    }

    struct PartitionData {
        partition_index: i32;
    }

    response DescribeQuorumResponse {
        error_code: i16;
        error_message: Option<Str> [versions 2..];
        topics: Vec<TopicDataResponse>;
        nodes: Vec<Node> [versions 2..];
    }

    struct TopicDataResponse {
        topic_name: Str;
        partitions: Vec<PartitionDataResponse>;
    }

    struct PartitionDataResponse {
        partition_index: i32;
        error_code: i16;
        error_message: Option<Str> [versions 2..];
        leader_id: i32;
        leader_epoch: i32;
        high_watermark: i64;
        current_voters: Vec<ReplicaState>;
        observers: Vec<ReplicaState>;
    }

    struct ReplicaState {
        replica_id: i32;
        replica_directory_id: Uuid [versions 2..];
        log_end_offset: i64;
        last_fetch_timestamp: i64 [versions 1..] = -1;
        last_caught_up_timestamp: i64 [versions 1..] = -1;
    }

    struct Node {
        node_id: i32;
        listeners: Vec<Listener>;
    }

    struct Listener {
        name: Str;
        host: Str;
        port: u16;
    }
}
