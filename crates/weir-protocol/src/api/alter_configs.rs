//! AlterConfigs: replaces all settings of a resource. Old; see
//! [`super::incremental_alter_configs`].

use crate::types::Str;

messages! {
    api AlterConfigs, versions 0..=2;

    request AlterConfigsRequest {
        resources: Vec<AlterConfigsResource>;
        validate_only: bool;
    }

    struct AlterConfigsResource {
        resource_type: i8;
        resource_name: Str;
        configs: Vec<AlterableConfig>;
    }

    struct AlterableConfig {
        name: Str;
        value: Option<Str>;
    }

    response AlterConfigsResponse {
        throttle_time_ms: i32;
        responses: Vec<AlterConfigsResourceResponse>;
    }

    struct AlterConfigsResourceResponse {
        error_code: i16;
        error_message: Option<Str>;
        resource_type: i8;
        resource_name: Str;
    }
}
