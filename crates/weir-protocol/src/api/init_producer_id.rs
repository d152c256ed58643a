//! InitProducerId: a producer id and epoch for an idempotent or transactional producer.

use crate::types::Str;

messages! {
    api InitProducerId, versions 0..=5;

    request InitProducerIdRequest {
        transactional_id: Option<Str>;
        transaction_timeout_ms: i32;
        producer_id: i64 [versions 3..] = -1;
        producer_epoch: i16 [versions 3..] = -1;
    }

    response InitProducerIdResponse {
        throttle_time_ms: i32;
        error_code: i16;
        producer_id: i64 = -1;
        producer_epoch: i16;
    }
}
