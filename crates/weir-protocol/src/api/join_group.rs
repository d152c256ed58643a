//! JoinGroup: a member of a classic group asks to take part in the next generation.

use bytes::Bytes;

use crate::types::Str;

messages! {
    api JoinGroup, versions 0..=9;

    request JoinGroupRequest {
        group_id: Str;
        session_timeout_ms: i32;
        rebalance_timeout_ms: i32 [versions 1..] = -1;
        member_id: Str;
        group_instance_id: Option<Str> [versions 5..] = None;
        protocol_type: Str;
        protocols: Vec<JoinGroupRequestProtocol>;
        reason: Option<Str> [versions 8..] = None;
    }

    struct JoinGroupRequestProtocol {
        name: Str;
        metadata: Bytes;
    }

    response JoinGroupResponse {
        throttle_time_ms: i32 [versions 2..];
        error_code: i16;
        generation_id: i32 = -1;
        protocol_type: Option<Str> [versions 7..] = None;
        protocol_name: Option<Str> [nullable 7..];
        leader: Str;
        skip_assignment: bool [versions 9..];
        member_id: Str;
        members: Vec<JoinGroupResponseMember>;
    }

    struct JoinGroupResponseMember {
        member_id: Str;
        group_instance_id: Option<Str> [versions 5..] = None;
        metadata: Bytes;
    }
}
