//! EndTxn: commits or aborts a transaction. From version 5 on each end gives a new epoch (KIP-890).

use crate::types::Str;

messages! {
    api EndTxn, versions 0..=5;

    request EndTxnRequest {
        transactional_id: Str;
        producer_id: i64;
        producer_epoch: i16;
        committed: bool;
    }

    response EndTxnResponse {
        throttle_time_ms: i32;
        error_code: i16;
        producer_id: i64 [versions 5..] = -1;
        producer_epoch: i16 [versions 5..] = -1;
    }
}
