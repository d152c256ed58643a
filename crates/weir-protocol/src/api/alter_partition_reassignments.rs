//! AlterPartitionReassignments: moves partitions between brokers (KIP-455).

use crate::types::Str;

messages! {
    api AlterPartitionReassignments, versions 0..=1;

    request AlterPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000;
        allow_replication_factor_change: bool [versions 1..] = true;
        topics: Vec<ReassignableTopic>;
    }

    struct ReassignableTopic {
        name: Str;
        partitions: Vec<ReassignablePartition>;
    }

    struct ReassignablePartition {
        partition_index: i32;
        replicas: Option<Vec<i32>> = None;
    }

    response AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32;
        allow_replication_factor_change: bool [versions 1..] = true;
        error_code: i16;
        error_message: Option<Str>;
        responses: Vec<ReassignableTopicResponse>;
    }

    struct ReassignableTopicResponse {
        name: Str;
        partitions: Vec<ReassignablePartitionResponse>;
    }

    struct ReassignablePartitionResponse {
        partition_index: i32;
        error_code: i16;
        error_message: Option<Str>;
    }
}
