//! ListGroups: the groups that a broker coordinates.

use crate::types::Str;

messages! {
    api ListGroups, versions 0..=5;

    request ListGroupsRequest {
        states_filter: Vec<Str> [versions 4..];
        types_filter: Vec<Str> [versions 5..];
    }

    response ListGroupsResponse {
        throttle_time_ms: i32 [versions 1..];
        error_code: i16;
        groups: Vec<ListedGroup>;
    }

    struct ListedGroup {
        group_id: Str;
        protocol_type: Str;
        group_state: Str [versions 4..];
        group_type: Str [versions 5..];
    }
}
