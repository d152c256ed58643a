//! TxnOffsetCommit: commits offsets of a group within a transaction.

use crate::types::Str;

messages! {
    api TxnOffsetCommit, versions 0..=5;

    request TxnOffsetCommitRequest {
        transactional_id: Str;
        group_id: Str;
        producer_id: i64;
        producer_epoch: i16;
        generation_id: i32 [versions 3..] = -1;
        member_id: Str [versions 3..];
        group_instance_id: Option<Str> [versions 3..] = None;
        topics: Vec<TxnOffsetCommitRequestTopic>;
    }

    struct TxnOffsetCommitRequestTopic {
        name: Str;
        partitions: Vec<TxnOffsetCommitRequestPartition>;
    }

    struct TxnOffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 [versions 2..] = -1;
        committed_metadata: Option<Str>;
    }

    response TxnOffsetCommitResponse {
        throttle_time_ms: i32;
        topics: Vec<TxnOffsetCommitResponseTopic>;
    }

    struct TxnOffsetCommitResponseTopic {
        name: Str;
        partitions: Vec<TxnOffsetCommitResponsePartition>;
    }

    struct TxnOffsetCommitResponsePartition {
        partition_index: i32;
        error_code: i16;
    }
}
