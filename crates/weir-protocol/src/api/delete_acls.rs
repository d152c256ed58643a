//! DeleteAcls: removes the access rules that match filters.

use crate::types::Str;

messages! {
    api DeleteAcls, versions 1..=3;

    request DeleteAclsRequest {
        filters: Vec<DeleteAclsFilter>;
    }

    struct DeleteAclsFilter {
        resource_type_filter: i8;
        resource_name_filter: Option<Str>;
        pattern_type_filter: i8 = 3;
        principal_filter: Option<Str>;
        host_filter: Option<Str>;
        operation: i8;
        permission_type: i8;
    }

    response DeleteAclsResponse {
        throttle_time_ms: i32;
        filter_results: Vec<DeleteAclsFilterResult>;
    }

    struct DeleteAclsFilterResult {
        error_code: i16;
        error_message: Option<Str>;
        matching_acls: Vec<DeleteAclsMatchingAcl>;
    }

    struct DeleteAclsMatchingAcl {
        error_code: i16;
        error_message: Option<Str>;
        resource_type: i8;
        resource_name: Str;
        pattern_type: i8 = 3;
        principal: Str;
        host: Str;
        operation: i8;
        permission_type: i8;
    }
}
