//! ApiVersions: which APIs and versions a broker speaks. The first request on a connection
//! (KIP-511).

use crate::types::Str;

messages! {
    api ApiVersions, versions 0..=4;

    request ApiVersionsRequest {
        client_software_name: Str [versions 3..];
        client_software_version: Str [versions 3..];
    }

    response ApiVersionsResponse {
        error_code: i16;
        api_keys: Vec<ApiVersion>;
        throttle_time_ms: i32 [versions 1..];
        supported_features: Vec<SupportedFeatureKey> [versions 3..] [tag 0];
        finalized_features_epoch: i64 [versions 3..] [tag 1] = -1;
        finalized_features: Vec<FinalizedFeatureKey> [versions 3..] [tag 2];
        zk_migration_ready: bool [versions 3..] [tag 3];
    }

    struct ApiVersion {
        api_key: i16;
        min_version: i16;
        max_version: i16;
    }

    struct SupportedFeatureKey {
        name: Str;
        min_version: i16;
        max_version: i16;
    }

    struct FinalizedFeatureKey {
        name: Str;
        max_version_level: i16;
        min_version_level: i16;
    }
}
