//! DescribeClientQuotas: limits of clients and users (KIP-546).

use crate::types::Str;

messages! {
    api DescribeClientQuotas, versions 0..=1;

    request DescribeClientQuotasRequest {
        components: Vec<ComponentData>;
        strict: bool;
    }

    struct ComponentData {
        entity_type: Str;
        match_type: i8;
        r#match: Option<Str>;
    }

    response DescribeClientQuotasResponse {
        throttle_time_ms: i32;
        error_code: i16;
        error_message: Option<Str>;
        entries: Option<Vec<EntryData>>;
    }

    struct EntryData {
        entity: Vec<EntityData>;
        values: Vec<ValueData>;
    }

    struct EntityData {
        entity_type: Str;
        entity_name: Option<Str>;
    }

    struct ValueData {
        key: Str;
        value: f64;
    }
}
