//! ConsumerGroupHeartbeat: all that a member of a consumer group says and hears (KIP-848).

use crate::types::{Str, Uuid};

messages! {
    api ConsumerGroupHeartbeat, versions 0..=1;

    request ConsumerGroupHeartbeatRequest {
        group_id: Str;
        member_id: Str;
        member_epoch: i32;
        instance_id: Option<Str> = None;
        rack_id: Option<Str> = None;
        rebalance_timeout_ms: i32 = -1;
        subscribed_topic_names: Option<Vec<Str>> = None;
        subscribed_topic_regex: Option<Str> [versions 1..] = None;
        server_assignor: Option<Str> = None;
        topic_partitions: Option<Vec<TopicPartitions>> = None;
    }

    struct TopicPartitions {
        topic_id: Uuid;
        partitions: Vec<i32>;
    }

    response ConsumerGroupHeartbeatResponse {
        throttle_time_ms: i32;
        error_code: i16;
        error_message: Option<Str> = None;
        member_id: Option<Str> = None;
        member_epoch: i32;
        heartbeat_interval_ms: i32;
        assignment: Option<Assignment> = None;
    }

    struct Assignment {
        topic_partitions: Vec<TopicPartitions>;
    }
}
