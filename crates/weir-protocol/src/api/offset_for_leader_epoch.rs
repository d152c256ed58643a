//! OffsetForLeaderEpoch: where a leader epoch ended, to find out truncation (KIP-320).

use crate::types::Str;

messages! {
    api OffsetForLeaderEpoch, versions 2..=4;

    request OffsetForLeaderEpochRequest {
        replica_id: i32 [versions 3..] = -2;
        topics: Vec<OffsetForLeaderTopic>;
    }

    struct OffsetForLeaderTopic {
        topic: Str;
        partitions: Vec<OffsetForLeaderPartition>;
    }

    struct OffsetForLeaderPartition {
        partition: i32;
        current_leader_epoch: i32 = -1;
        leader_epoch: i32;
    }

    response OffsetForLeaderEpochResponse {
        throttle_time_ms: i32;
        topics: Vec<OffsetForLeaderTopicResult>;
    }

    struct OffsetForLeaderTopicResult {
        topic: Str;
        partitions: Vec<EpochEndOffset>;
    }

    struct EpochEndOffset {
        error_code: i16;
        partition: i32;
        leader_epoch: i32 = -1;
        end_offset: i64 = -1;
    }
}
