//! DescribeCluster: the brokers and the controller, without topics.

use crate::types::Str;

messages! {
    api DescribeCluster, versions 0..=2;

    request DescribeClusterRequest {
        include_cluster_authorized_operations: bool;
        endpoint_type: i8 [versions 1..] = 1;
        include_fenced_brokers: bool [versions 2..];
    }

    response DescribeClusterResponse {
        throttle_time_ms: i32;
        error_code: i16;
        error_message: Option<Str> = None;
        endpoint_type: i8 [versions 1..] = 1;
        cluster_id: Str;
        controller_id: i32 = -1;
        brokers: Vec<DescribeClusterBroker>;
        cluster_authorized_operations: i32 = i32::MIN;
    }

    struct DescribeClusterBroker {
        broker_id: i32;
        host: Str;
        port: i32;
        rack: Option<Str> = None;
        is_fenced: bool [versions 2..];
    }
}
