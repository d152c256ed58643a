//! Produce: appends record batches.
//!
//! Version 3 is the oldest with record batches of format 2. A broker advertises 0 all the same
//! (KAFKA-18659).

use bytes::Bytes;

use crate::types::{Str, Uuid};

messages! {
    api Produce, versions 3..=13;

    request ProduceRequest {
        transactional_id: Option<Str> = None;
        acks: i16;
        timeout_ms: i32;
        topic_data: Vec<TopicProduceData>;
    }

    struct TopicProduceData {
        name: Str [versions ..=12];
        topic_id: Uuid [versions 13..];
        partition_data: Vec<PartitionProduceData>;
    }

    struct PartitionProduceData {
        index: i32;
        records: Option<Bytes> = None;
    }

    response ProduceResponse {
        responses: Vec<TopicProduceResponse>;
        throttle_time_ms: i32;
        node_endpoints: Vec<NodeEndpoint> [versions 10..] [tag 0];
    }

    struct TopicProduceResponse {
        name: Str [versions ..=12];
        topic_id: Uuid [versions 13..];
        partition_responses: Vec<PartitionProduceResponse>;
    }

    struct PartitionProduceResponse {
        index: i32;
        error_code: i16;
        base_offset: i64;
        log_append_time_ms: i64 = -1;
        log_start_offset: i64 [versions 5..] = -1;
        record_errors: Vec<BatchIndexAndErrorMessage> [versions 8..];
        error_message: Option<Str> [versions 8..] = None;
        current_leader: LeaderIdAndEpoch [versions 10..] [tag 0];
    }

    struct BatchIndexAndErrorMessage {
        batch_index: i32;
        batch_index_error_message: Option<Str> = None;
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 = -1;
        leader_epoch: i32 = -1;
    }

    struct NodeEndpoint {
        node_id: i32;
        host: Str;
        port: i32;
        rack: Option<Str> = None;
    }
}
