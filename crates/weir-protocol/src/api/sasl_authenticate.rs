//! SaslAuthenticate: carries the bytes of a SASL exchange.

use bytes::Bytes;

use crate::types::Str;

messages! {
    api SaslAuthenticate, versions 0..=2;

    request SaslAuthenticateRequest {
        auth_bytes: Bytes;
    }

    response SaslAuthenticateResponse {
        error_code: i16;
        error_message: Option<Str>;
        auth_bytes: Bytes;
        session_lifetime_ms: i64 [versions 1..];
    }
}
