//! ListPartitionReassignments: partitions on the move (KIP-455).

use crate::types::Str;

messages! {
    api ListPartitionReassignments, versions 0..=0;

    request ListPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000;
        topics: Option<Vec<ListPartitionReassignmentsTopics>> = None;
    }

    struct ListPartitionReassignmentsTopics {
        name: Str;
        partition_indexes: Vec<i32>;
    }

    response ListPartitionReassignmentsResponse {
        throttle_time_ms: i32;
        error_code: i16;
        error_message: Option<Str>;
        topics: Vec<OngoingTopicReassignment>;
    }

    struct OngoingTopicReassignment {
        name: Str;
        partitions: Vec<OngoingPartitionReassignment>;
    }

    struct OngoingPartitionReassignment {
        partition_index: i32;
        replicas: Vec<i32>;
        adding_replicas: Vec<i32>;
        removing_replicas: Vec<i32>;
    }
}
