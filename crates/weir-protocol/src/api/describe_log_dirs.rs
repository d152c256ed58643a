//! DescribeLogDirs: the size of each log on each directory.

use crate::types::Str;

messages! {
    api DescribeLogDirs, versions 1..=4;

    request DescribeLogDirsRequest {
        topics: Option<Vec<DescribableLogDirTopic>>;
    }

    struct DescribableLogDirTopic {
        topic: Str;
        partitions: Vec<i32>;
    }

    response DescribeLogDirsResponse {
        throttle_time_ms: i32;
        error_code: i16 [versions 3..];
        results: Vec<DescribeLogDirsResult>;
    }

    struct DescribeLogDirsResult {
        error_code: i16;
        log_dir: Str;
        topics: Vec<DescribeLogDirsTopic>;
        total_bytes: i64 [versions 4..] = -1;
        usable_bytes: i64 [versions 4..] = -1;
    }

    struct DescribeLogDirsTopic {
        name: Str;
        partitions: Vec<DescribeLogDirsPartition>;
    }

    struct DescribeLogDirsPartition {
        partition_index: i32;
        partition_size: i64;
        offset_lag: i64;
        is_future_key: bool;
    }
}
