//! AddPartitionsToTxn: tells the coordinator what a transaction writes to. Versions from 4 on are
//! for brokers.

use crate::types::Str;

messages! {
    api AddPartitionsToTxn, versions 0..=5;

    request AddPartitionsToTxnRequest {
        transactions: Vec<AddPartitionsToTxnTransaction> [versions 4..];
        v3_and_below_transactional_id: Str [versions ..=3];
        v3_and_below_producer_id: i64 [versions ..=3];
        v3_and_below_producer_epoch: i16 [versions ..=3];
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [versions ..=3];
    }

    struct AddPartitionsToTxnTransaction {
        transactional_id: Str;
        producer_id: i64;
        producer_epoch: i16;
        verify_only: bool;
        topics: Vec<AddPartitionsToTxnTopic>;
    }

    struct AddPartitionsToTxnTopic {
        name: Str;
        partitions: Vec<i32>;
    }

    response AddPartitionsToTxnResponse {
        throttle_time_ms: i32;
        error_code: i16 [versions 4..];
        results_by_transaction: Vec<AddPartitionsToTxnResult> [versions 4..];
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [versions ..=3];
    }

    struct AddPartitionsToTxnResult {
        transactional_id: Str;
        topic_results: Vec<AddPartitionsToTxnTopicResult>;
    }

    struct AddPartitionsToTxnTopicResult {
        name: Str;
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>;
    }

    struct AddPartitionsToTxnPartitionResult {
        partition_index: i32;
        partition_error_code: i16;
    }
}
