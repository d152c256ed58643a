//! ConsumerGroupDescribe: state, members and assignments of consumer groups (KIP-848).

use crate::types::{Str, Uuid};

messages! {
    api ConsumerGroupDescribe, versions 0..=1;

    request ConsumerGroupDescribeRequest {
        group_ids: Vec<Str>;
        include_authorized_operations: bool;
    }

    response ConsumerGroupDescribeResponse {
        throttle_time_ms: i32;
        groups: Vec<DescribedGroup>;
    }

    struct DescribedGroup {
        error_code: i16;
        error_message: Option<Str> = None;
        group_id: Str;
        group_state: Str;
        group_epoch: i32;
        assignment_epoch: i32;
        assignor_name: Str;
        members: Vec<Member>;
        authorized_operations: i32 = i32::MIN;
    }

    struct Member {
        member_id: Str;
        instance_id: Option<Str> = None;
        rack_id: Option<Str> = None;
        member_epoch: i32;
        client_id: Str;
        client_host: Str;
        subscribed_topic_names: Vec<Str>;
        subscribed_topic_regex: Option<Str> = None;
        assignment: Assignment;
        target_assignment: Assignment;
        member_type: i8 [versions 1..] = -1;
    }

    struct Assignment {
        topic_partitions: Vec<TopicPartitions>;
    }

    struct TopicPartitions {
        topic_id: Uuid;
        topic_name: Str;
        partitions: Vec<i32>;
    }
}
