//! CreateTopics.

use crate::types::{Str, Uuid};

messages! {
    api CreateTopics, versions 2..=7;

    request CreateTopicsRequest {
        topics: Vec<CreatableTopic>;
        timeout_ms: i32 = 60_000;
        validate_only: bool;
    }

    struct CreatableTopic {
        name: Str;
        num_partitions: i32;
        replication_factor: i16;
        assignments: Vec<CreatableReplicaAssignment>;
        configs: Vec<CreatableTopicConfig>;
    }

    struct CreatableReplicaAssignment {
        partition_index: i32;
        broker_ids: Vec<i32>;
    }

    struct CreatableTopicConfig {
        name: Str;
        value: Option<Str>;
    }

    response CreateTopicsResponse {
        throttle_time_ms: i32;
        topics: Vec<CreatableTopicResult>;
    }

    struct CreatableTopicResult {
        name: Str;
        topic_id: Uuid [versions 7..];
        error_code: i16;
        error_message: Option<Str>;
        topic_config_error_code: i16 [versions 5..] [tag 0];
        num_partitions: i32 [versions 5..] = -1;
        replication_factor: i16 [versions 5..] = -1;
        configs: Option<Vec<CreatableTopicConfigs>> [versions 5..];
    }

    struct CreatableTopicConfigs {
        name: Str;
        value: Option<Str>;
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
    }
}
