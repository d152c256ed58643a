//! DescribeConfigs: the settings of topics, brokers and groups.

use crate::types::Str;

messages! {
    api DescribeConfigs, versions 1..=4;

    request DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>;
        include_synonyms: bool;
        include_documentation: bool [versions 3..];
    }

    struct DescribeConfigsResource {
        resource_type: i8;
        resource_name: Str;
        configuration_keys: Option<Vec<Str>>;
    }

    response DescribeConfigsResponse {
        throttle_time_ms: i32;
        results: Vec<DescribeConfigsResult>;
    }

    struct DescribeConfigsResult {
        error_code: i16;
        error_message: Option<Str>;
        resource_type: i8;
        resource_name: Str;
        configs: Vec<DescribeConfigsResourceResult>;
    }

    struct DescribeConfigsResourceResult {
        name: Str;
        value: Option<Str>;
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
        synonyms: Vec<DescribeConfigsSynonym>;
        config_type: i8 [versions 3..];
        documentation: Option<Str> [versions 3..];
    }

    struct DescribeConfigsSynonym {
        name: Str;
        value: Option<Str>;
        source: i8;
    }
}
