//! Fetch: reads record batches, waiting for them up to a time. Versions from 7 have sessions
//! (KIP-227).

use bytes::Bytes;

use crate::types::{Str, Uuid};

messages! {
    api Fetch, versions 4..=18;

    request FetchRequest {
        cluster_id: Option<Str> [versions 12..] [tag 0] = None;
        replica_id: i32 [versions ..=14] = -1;
        replica_state: ReplicaState [versions 15..] [tag 1];
        max_wait_ms: i32;
        min_bytes: i32;
        max_bytes: i32 = i32::MAX;
        isolation_level: i8;
        session_id: i32 [versions 7..];
        session_epoch: i32 [versions 7..] = -1;
        topics: Vec<FetchTopic>;
        forgotten_topics_data: Vec<ForgottenTopic> [versions 7..];
        rack_id: Str [versions 11..];
    }

    struct ReplicaState {
        replica_id: i32 = -1;
        replica_epoch: i64 = -1;
    }

    struct FetchTopic {
        topic: Str [versions ..=12];
        topic_id: Uuid [versions 13..];
        partitions: Vec<FetchPartition>;
    }

    struct FetchPartition {
        partition: i32;
        current_leader_epoch: i32 [versions 9..] = -1;
        fetch_offset: i64;
        last_fetched_epoch: i32 [versions 12..] = -1;
        log_start_offset: i64 [versions 5..] = -1;
        partition_max_bytes: i32;
        replica_directory_id: Uuid [versions 17..] [tag 0];
        high_watermark: i64 [versions 18..] [tag 1] = i64::MAX;
    }

    struct ForgottenTopic {
        topic: Str [versions ..=12];
        topic_id: Uuid [versions 13..];
        partitions: Vec<i32>;
    }

    response FetchResponse {
        throttle_time_ms: i32;
        error_code: i16 [versions 7..];
        session_id: i32 [versions 7..];
        responses: Vec<FetchableTopicResponse>;
        node_endpoints: Vec<NodeEndpoint> [versions 16..] [tag 0];
    }

    struct FetchableTopicResponse {
        topic: Str [versions ..=12];
        topic_id: Uuid [versions 13..];
        partitions: Vec<PartitionData>;
    }

    struct PartitionData {
        partition_index: i32;
        error_code: i16;
        high_watermark: i64;
        last_stable_offset: i64 = -1;
        log_start_offset: i64 [versions 5..] = -1;
        diverging_epoch: EpochEndOffset [versions 12..] [tag 0];
        current_leader: LeaderIdAndEpoch [versions 12..] [tag 1];
        snapshot_id: SnapshotId [versions 12..] [tag 2];
        aborted_transactions: Option<Vec<AbortedTransaction>>;
        preferred_read_replica: i32 [versions 11..] = -1;
        records: Option<Bytes> = None;
    }

    struct EpochEndOffset {
        epoch: i32 = -1;
        end_offset: i64 = -1;
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 = -1;
        leader_epoch: i32 = -1;
    }

    struct SnapshotId {
        end_offset: i64 = -1;
        epoch: i32 = -1;
    }

    struct AbortedTransaction {
        producer_id: i64;
        first_offset: i64;
    }

    struct NodeEndpoint {
        node_id: i32;
        host: Str;
        port: i32;
        rack: Option<Str> = None;
    }
}
