//! ListConfigResources: which resources have settings (KIP-1142).

use crate::types::Str;

messages! {
    api ListConfigResources, versions 0..=1;

    request ListConfigResourcesRequest {
        resource_types: Vec<i8> [versions 1..];
    }

    response ListConfigResourcesResponse {
        throttle_time_ms: i32;
        error_code: i16;
        config_resources: Vec<ConfigResource>;
    }

    struct ConfigResource {
        resource_name: Str;
        resource_type: i8 [versions 1..] = 16;
    }
}
