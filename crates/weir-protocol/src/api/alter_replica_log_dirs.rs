//! AlterReplicaLogDirs: moves replicas between the directories of a broker.

use crate::types::Str;

messages! {
    api AlterReplicaLogDirs, versions 1..=2;

    request AlterReplicaLogDirsRequest {
        dirs: Vec<AlterReplicaLogDir>;
    }

    struct AlterReplicaLogDir {
        path: Str;
        topics: Vec<AlterReplicaLogDirTopic>;
    }

    struct AlterReplicaLogDirTopic {
        name: Str;
        partitions: Vec<i32>;
    }

    response AlterReplicaLogDirsResponse {
        throttle_time_ms: i32;
        results: Vec<AlterReplicaLogDirTopicResult>;
    }

    struct AlterReplicaLogDirTopicResult {
        topic_name: Str;
        partitions: Vec<AlterReplicaLogDirPartitionResult>;
    }

    struct AlterReplicaLogDirPartitionResult {
        partition_index: i32;
        error_code: i16;
    }
}
