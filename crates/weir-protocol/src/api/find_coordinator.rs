//! FindCoordinator: which broker keeps a group or a transactional id.

use crate::types::Str;

messages! {
    api FindCoordinator, versions 0..=6;

    request FindCoordinatorRequest {
        key: Str [versions ..=3];
        key_type: i8 [versions 1..];
        coordinator_keys: Vec<Str> [versions 4..];
    }

    response FindCoordinatorResponse {
        throttle_time_ms: i32 [versions 1..];
        error_code: i16 [versions ..=3];
        error_message: Option<Str> [versions 1..=3] [nullable 1..=3];
        node_id: i32 [versions ..=3];
        host: Str [versions ..=3];
        port: i32 [versions ..=3];
        coordinators: Vec<Coordinator> [versions 4..];
    }

    struct Coordinator {
        key: Str;
        node_id: i32;
        host: Str;
        port: i32;
        error_code: i16;
        error_message: Option<Str>;
    }
}
