//! OffsetDelete: forgets committed offsets of a group.

use crate::types::Str;

messages! {
    api OffsetDelete, versions 0..=0;

    request OffsetDeleteRequest {
        group_id: Str;
        topics: Vec<OffsetDeleteRequestTopic>;
    }

    struct OffsetDeleteRequestTopic {
        name: Str;
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    struct OffsetDeleteRequestPartition {
        partition_index: i32;
    }

    response OffsetDeleteResponse {
        error_code: i16;
        throttle_time_ms: i32;
        topics: Vec<OffsetDeleteResponseTopic>;
    }

    struct OffsetDeleteResponseTopic {
        name: Str;
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    struct OffsetDeleteResponsePartition {
        partition_index: i32;
        error_code: i16;
    }
}
