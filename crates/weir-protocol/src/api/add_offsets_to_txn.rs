//! AddOffsetsToTxn: tells the coordinator that a transaction commits offsets of a group.

use crate::types::Str;

messages! {
    api AddOffsetsToTxn, versions 0..=4;

    request AddOffsetsToTxnRequest {
        transactional_id: Str;
        producer_id: i64;
        producer_epoch: i16;
        group_id: Str;
    }

    response AddOffsetsToTxnResponse {
        throttle_time_ms: i32;
        error_code: i16;
    }
}
