//! OffsetFetch: how far groups have read. From version 8 on for several groups at once.

use crate::types::Str;

messages! {
    api OffsetFetch, versions 1..=9;

    request OffsetFetchRequest {
        group_id: Str [versions ..=7];
        topics: Option<Vec<OffsetFetchRequestTopic>> [versions ..=7] [nullable 2..=7];
        groups: Vec<OffsetFetchRequestGroup> [versions 8..];
        require_stable: bool [versions 7..];
    }

    struct OffsetFetchRequestTopic {
        name: Str;
        partition_indexes: Vec<i32>;
    }

    struct OffsetFetchRequestGroup {
        group_id: Str;
        member_id: Option<Str> [versions 9..] = None;
        member_epoch: i32 [versions 9..] = -1;
        topics: Option<Vec<OffsetFetchRequestTopics>>;
    }

    struct OffsetFetchRequestTopics {
        name: Str;
        partition_indexes: Vec<i32>;
    }

    response OffsetFetchResponse {
        throttle_time_ms: i32 [versions 3..];
        topics: Vec<OffsetFetchResponseTopic> [versions ..=7];
        error_code: i16 [versions 2..=7];
        groups: Vec<OffsetFetchResponseGroup> [versions 8..];
    }

    struct OffsetFetchResponseTopic {
        name: Str;
        partitions: Vec<OffsetFetchResponsePartition>;
    }

    struct OffsetFetchResponsePartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 [versions 5..] = -1;
        metadata: Option<Str>;
        error_code: i16;
    }

    struct OffsetFetchResponseGroup {
        group_id: Str;
        topics: Vec<OffsetFetchResponseTopics>;
        error_code: i16;
    }

    struct OffsetFetchResponseTopics {
        name: Str;
        partitions: Vec<OffsetFetchResponsePartitions>;
    }

    struct OffsetFetchResponsePartitions {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1;
        metadata: Option<Str>;
        error_code: i16;
    }
}
