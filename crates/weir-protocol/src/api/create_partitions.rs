//! CreatePartitions: more partitions for topics.

use crate::types::Str;

messages! {
    api CreatePartitions, versions 0..=3;

    request CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>;
        timeout_ms: i32;
        validate_only: bool;
    }

    struct CreatePartitionsTopic {
        name: Str;
        count: i32;
        assignments: Option<Vec<CreatePartitionsAssignment>>;
    }

    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>;
    }

    response CreatePartitionsResponse {
        throttle_time_ms: i32;
        results: Vec<CreatePartitionsTopicResult>;
    }

    struct CreatePartitionsTopicResult {
        name: Str;
        error_code: i16;
        error_message: Option<Str> = None;
    }
}
