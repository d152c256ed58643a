//! LeaveGroup: members leave a classic group. From version 3 on several at once.

use crate::types::Str;

messages! {
    api LeaveGroup, versions 0..=5;

    request LeaveGroupRequest {
        group_id: Str;
        member_id: Str [versions ..=2];
        members: Vec<MemberIdentity> [versions 3..];
    }

    struct MemberIdentity {
        member_id: Str;
        group_instance_id: Option<Str> = None;
        reason: Option<Str> [versions 5..] = None;
    }

    response LeaveGroupResponse {
        throttle_time_ms: i32 [versions 1..];
        error_code: i16;
        members: Vec<MemberResponse> [versions 3..];
    }

    struct MemberResponse {
        member_id: Str;
        group_instance_id: Option<Str>;
        error_code: i16;
    }
}
