//! WriteTxnMarkers: a coordinator has commit and abort markers written.

use crate::types::Str;

messages! {
    api WriteTxnMarkers, versions 1..=1;

    request WriteTxnMarkersRequest {
        markers: Vec<WritableTxnMarker>;
    }

    struct WritableTxnMarker {
        producer_id: i64;
        producer_epoch: i16;
        transaction_result: bool;
        topics: Vec<WritableTxnMarkerTopic>;
        coordinator_epoch: i32;
    }

    struct WritableTxnMarkerTopic {
        name: Str;
        partition_indexes: Vec<i32>;
    }

    response WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarkerResult>;
    }

    struct WritableTxnMarkerResult {
        producer_id: i64;
        topics: Vec<WritableTxnMarkerTopicResult>;
    }

    struct WritableTxnMarkerTopicResult {
        name: Str;
        partitions: Vec<WritableTxnMarkerPartitionResult>;
    }

    struct WritableTxnMarkerPartitionResult {
        partition_index: i32;
        error_code: i16;
    }
}
