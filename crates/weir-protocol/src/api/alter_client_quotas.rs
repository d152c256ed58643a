//! AlterClientQuotas: sets limits of clients and users (KIP-546).

use crate::types::Str;

messages! {
    api AlterClientQuotas, versions 0..=1;

    request AlterClientQuotasRequest {
        entries: Vec<EntryData>;
        validate_only: bool;
    }

    struct EntryData {
        entity: Vec<EntityData>;
        ops: Vec<OpData>;
    }

    struct EntityData {
        entity_type: Str;
        entity_name: Option<Str>;
    }

    struct OpData {
        key: Str;
        value: f64;
        remove: bool;
    }

    response AlterClientQuotasResponse {
        throttle_time_ms: i32;
        entries: Vec<EntryDataResponse>;
    }

    struct EntryDataResponse {
        error_code: i16;
        error_message: Option<Str>;
        entity: Vec<EntityData>;
    }
}
