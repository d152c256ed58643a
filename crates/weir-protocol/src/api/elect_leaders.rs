//! ElectLeaders: has the preferred, or any, replica lead.

use crate::types::Str;

messages! {
    api ElectLeaders, versions 0..=2;

    request ElectLeadersRequest {
        election_type: i8 [versions 1..];
        topic_partitions: Option<Vec<TopicPartitions>>;
        timeout_ms: i32 = 60_000;
    }

    struct TopicPartitions {
        topic: Str;
        partitions: Vec<i32>;
    }

    response ElectLeadersResponse {
        throttle_time_ms: i32;
        error_code: i16 [versions 1..];
        replica_election_results: Vec<ReplicaElectionResult>;
    }

    struct ReplicaElectionResult {
        topic: Str;
        partition_result: Vec<PartitionResult>;
    }

    struct PartitionResult {
        partition_id: i32;
        error_code: i16;
        error_message: Option<Str>;
    }
}
