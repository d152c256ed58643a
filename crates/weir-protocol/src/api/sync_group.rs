//! SyncGroup: the leader of a classic group hands out assignments, the others take theirs.

use bytes::Bytes;

use crate::types::Str;

messages! {
    api SyncGroup, versions 0..=5;

    request SyncGroupRequest {
        group_id: Str;
        generation_id: i32;
        member_id: Str;
        group_instance_id: Option<Str> [versions 3..] = None;
        protocol_type: Option<Str> [versions 5..] = None;
        protocol_name: Option<Str> [versions 5..] = None;
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    struct SyncGroupRequestAssignment {
        member_id: Str;
        assignment: Bytes;
    }

    response SyncGroupResponse {
        throttle_time_ms: i32 [versions 1..];
        error_code: i16;
        protocol_type: Option<Str> [versions 5..] = None;
        protocol_name: Option<Str> [versions 5..] = None;
        assignment: Bytes;
    }
}
