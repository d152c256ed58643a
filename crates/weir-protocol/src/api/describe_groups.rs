//! DescribeGroups: state, members and assignments of classic groups.

use bytes::Bytes;

use crate::types::Str;

messages! {
    api DescribeGroups, versions 0..=6;

    request DescribeGroupsRequest {
        groups: Vec<Str>;
        include_authorized_operations: bool [versions 3..];
    }

    response DescribeGroupsResponse {
        throttle_time_ms: i32 [versions 1..];
        groups: Vec<DescribedGroup>;
    }

    struct DescribedGroup {
        error_code: i16;
        error_message: Option<Str> [versions 6..] = None;
        group_id: Str;
        group_state: Str;
        protocol_type: Str;
        protocol_data: Str;
        members: Vec<DescribedGroupMember>;
        authorized_operations: i32 [versions 3..] = i32::MIN;
    }

    struct DescribedGroupMember {
        member_id: Str;
        group_instance_id: Option<Str> [versions 4..] = None;
        client_id: Str;
        client_host: Str;
        member_metadata: Bytes;
        member_assignment: Bytes;
    }
}
