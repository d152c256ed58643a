//! Heartbeat: a member of a classic group says that it lives.

use crate::types::Str;

messages! {
    api Heartbeat, versions 0..=4;

    request HeartbeatRequest {
        group_id: Str;
        generation_id: i32;
        member_id: Str;
        group_instance_id: Option<Str> [versions 3..] = None;
    }

    response HeartbeatResponse {
        throttle_time_ms: i32 [versions 1..];
        error_code: i16;
    }
}
