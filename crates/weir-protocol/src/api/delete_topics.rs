//! DeleteTopics. From version 6 on by name or by id.

use crate::types::{Str, Uuid};

messages! {
    api DeleteTopics, versions 1..=6;

    request DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [versions 6..];
        topic_names: Vec<Str> [versions ..=5];
        timeout_ms: i32;
    }

    struct DeleteTopicState {
        name: Option<Str> = None;
        topic_id: Uuid;
    }

    response DeleteTopicsResponse {
        throttle_time_ms: i32;
        responses: Vec<DeletableTopicResult>;
    }

    struct DeletableTopicResult {
        name: Option<Str> [nullable 6..];
        topic_id: Uuid [versions 6..];
        error_code: i16;
        error_message: Option<Str> [versions 5..] = None;
    }
}
