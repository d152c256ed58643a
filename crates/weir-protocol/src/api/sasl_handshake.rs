//! SaslHandshake: chooses a SASL mechanism.

use crate::types::Str;

messages! {
    api SaslHandshake, versions 0..=1;

    request SaslHandshakeRequest {
        mechanism: Str;
    }

    response SaslHandshakeResponse {
        error_code: i16;
        mechanisms: Vec<Str>;
    }
}
