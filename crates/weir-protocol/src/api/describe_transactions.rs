//! DescribeTransactions: the state of transactions (KIP-664).

use crate::types::Str;

messages! {
    api DescribeTransactions, versions 0..=0;

    request DescribeTransactionsRequest {
        transactional_ids: Vec<Str>;
    }

    response DescribeTransactionsResponse {
        throttle_time_ms: i32;
        transaction_states: Vec<TransactionState>;
    }

    struct TransactionState {
        error_code: i16;
        transactional_id: Str;
        transaction_state: Str;
        transaction_timeout_ms: i32;
        transaction_start_time_ms: i64;
        producer_id: i64;
        producer_epoch: i16;
        topics: Vec<TopicData>;
    }

    struct TopicData {
        topic: Str;
        partitions: Vec<i32>;
    }
}
