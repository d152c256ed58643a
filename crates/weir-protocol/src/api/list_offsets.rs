//! ListOffsets: the offset of a time, or of the ends of a log.
//!
//! Timestamp −1 asks for the end, −2 for the start, −3 for the record with the largest timestamp.

use crate::types::Str;

messages! {
    api ListOffsets, versions 1..=10;

    request ListOffsetsRequest {
        replica_id: i32;
        isolation_level: i8 [versions 2..];
        topics: Vec<ListOffsetsTopic>;
        timeout_ms: i32 [versions 10..];
    }

    struct ListOffsetsTopic {
        name: Str;
        partitions: Vec<ListOffsetsPartition>;
    }

    struct ListOffsetsPartition {
        partition_index: i32;
        current_leader_epoch: i32 [versions 4..] = -1;
        timestamp: i64;
    }

    response ListOffsetsResponse {
        throttle_time_ms: i32 [versions 2..];
        topics: Vec<ListOffsetsTopicResponse>;
    }

    struct ListOffsetsTopicResponse {
        name: Str;
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32;
        error_code: i16;
        timestamp: i64 = -1;
        offset: i64 = -1;
        leader_epoch: i32 [versions 4..] = -1;
    }
}
