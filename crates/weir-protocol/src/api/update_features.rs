//! UpdateFeatures: raises or lowers finalized features (KIP-584).

use crate::types::Str;

messages! {
    api UpdateFeatures, versions 0..=2;

    request UpdateFeaturesRequest {
        timeout_ms: i32 = 60_000;
        feature_updates: Vec<FeatureUpdateKey>;
        validate_only: bool [versions 1..];
    }

    struct FeatureUpdateKey {
        feature: Str;
        max_version_level: i16;
        allow_downgrade: bool [versions ..=0];
        upgrade_type: i8 [versions 1..] = 1;
    }

    response UpdateFeaturesResponse {
        throttle_time_ms: i32;
        error_code: i16;
        error_message: Option<Str>;
        results: Vec<UpdatableFeatureResult> [versions ..=1];
    }

    struct UpdatableFeatureResult {
        feature: Str;
        error_code: i16;
        error_message: Option<Str>;
    }
}
