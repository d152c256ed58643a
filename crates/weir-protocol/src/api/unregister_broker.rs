//! UnregisterBroker: removes a broker from the cluster.

use crate::types::Str;

messages! {
    api UnregisterBroker, versions 0..=0;

    request UnregisterBrokerRequest {
        broker_id: i32;
    }

    response UnregisterBrokerResponse {
        throttle_time_ms: i32;
        error_code: i16;
        error_message: Option<Str>;
    }
}
