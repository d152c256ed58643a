//! OffsetCommit: a group writes down how far it has read.

use crate::types::Str;

messages! {
    api OffsetCommit, versions 2..=9;

    request OffsetCommitRequest {
        group_id: Str;
        generation_id_or_member_epoch: i32 = -1;
        member_id: Str;
        group_instance_id: Option<Str> [versions 7..] = None;
        retention_time_ms: i64 [versions ..=4] = -1;
        topics: Vec<OffsetCommitRequestTopic>;
    }

    struct OffsetCommitRequestTopic {
        name: Str;
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    struct OffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 [versions 6..] = -1;
        committed_metadata: Option<Str>;
    }

    response OffsetCommitResponse {
        throttle_time_ms: i32 [versions 3..];
        topics: Vec<OffsetCommitResponseTopic>;
    }

    struct OffsetCommitResponseTopic {
        name: Str;
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    struct OffsetCommitResponsePartition {
        partition_index: i32;
        error_code: i16;
    }
}
