//! CreateAcls: adds access rules.

use crate::types::Str;

messages! {
    api CreateAcls, versions 1..=3;

    request CreateAclsRequest {
        creations: Vec<AclCreation>;
    }

    struct AclCreation {
        resource_type: i8;
        resource_name: Str;
        resource_pattern_type: i8 = 3;
        principal: Str;
        host: Str;
        operation: i8;
        permission_type: i8;
    }

    response CreateAclsResponse {
        throttle_time_ms: i32;
        results: Vec<AclCreationResult>;
    }

    struct AclCreationResult {
        error_code: i16;
        error_message: Option<Str>;
    }
}
