//! Metadata: brokers, topics, partitions and their leaders.

use crate::types::{Str, Uuid};

messages! {
    api Metadata, versions 0..=13;

    request MetadataRequest {
        topics: Option<Vec<MetadataRequestTopic>> [nullable 1..];
        allow_auto_topic_creation: bool [versions 4..] = true;
        include_cluster_authorized_operations: bool [versions 8..=10];
        include_topic_authorized_operations: bool [versions 8..];
    }

    struct MetadataRequestTopic {
        topic_id: Uuid [versions 10..];
        name: Option<Str> [nullable 10..];
    }

    response MetadataResponse {
        throttle_time_ms: i32 [versions 3..];
        brokers: Vec<MetadataResponseBroker>;
        cluster_id: Option<Str> [versions 2..] = None;
        controller_id: i32 [versions 1..] = -1;
        topics: Vec<MetadataResponseTopic>;
        cluster_authorized_operations: i32 [versions 8..=10] = i32::MIN;
        error_code: i16 [versions 13..];
    }

    struct MetadataResponseBroker {
        node_id: i32;
        host: Str;
        port: i32;
        rack: Option<Str> [versions 1..] = None;
    }

    struct MetadataResponseTopic {
        error_code: i16;
        name: Option<Str> [nullable 12..];
        topic_id: Uuid [versions 10..];
        is_internal: bool [versions 1..];
        partitions: Vec<MetadataResponsePartition>;
        topic_authorized_operations: i32 [versions 8..] = i32::MIN;
    }

    struct MetadataResponsePartition {
        error_code: i16;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 [versions 7..] = -1;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        offline_replicas: Vec<i32> [versions 5..];
    }
}
