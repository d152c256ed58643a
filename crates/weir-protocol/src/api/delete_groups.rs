//! DeleteGroups: forgets empty groups.

use crate::types::Str;

messages! {
    api DeleteGroups, versions 0..=2;

    request DeleteGroupsRequest {
        groups_names: Vec<Str>;
    }

    response DeleteGroupsResponse {
        throttle_time_ms: i32;
        results: Vec<DeletableGroupResult>;
    }

    struct DeletableGroupResult {
        group_id: Str;
        error_code: i16;
    }
}
