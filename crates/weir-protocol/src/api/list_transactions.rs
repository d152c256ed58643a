//! ListTransactions: the transactions that a broker coordinates (KIP-664).

use crate::types::Str;

messages! {
    api ListTransactions, versions 0..=2;

    request ListTransactionsRequest {
        state_filters: Vec<Str>;
        producer_id_filters: Vec<i64>;
        duration_filter: i64 [versions 1..] = -1;
        transactional_id_pattern: Option<Str> [versions 2..] = None;
    }

    response ListTransactionsResponse {
        throttle_time_ms: i32;
        error_code: i16;
        unknown_state_filters: Vec<Str>;
        transaction_states: Vec<TransactionState>;
    }

    struct TransactionState {
        transactional_id: Str;
        producer_id: i64;
        transaction_state: Str;
    }
}
