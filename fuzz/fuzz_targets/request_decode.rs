//! Any frame: its header, then its body as the request that the header names, and as the response to that request.
//!
//! Nothing may panic or take more memory than the budget, and what can be read must be written and read back equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_protocol::frame::decode_request_header;
use weir_protocol::{ApiKey, Decoder, Encoder, Request, Wire};

/// Far below libFuzzer's limit, so that an amplification would be seen.
const HEAP_BYTES_MAX: usize = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::with_heap_bytes_max(data.to_vec().into(), HEAP_BYTES_MAX);
    let Ok(header) = decode_request_header(&mut decoder) else { return };
    let Ok(api_key) = ApiKey::try_from(header.api_key) else { return };
    macro_rules! check_all {
        ($($module:ident::$request:ident;)+) => {$({
            type Body = weir_protocol::api::$module::$request;
            if Body::API_KEY == api_key {
                check::<Body>(decoder.clone(), header.api_version);
                check::<<Body as Request>::Response>(decoder.clone(), header.api_version);
            }
        })+};
    }
    weir_protocol::for_each_request!(check_all);
});

fn check<T: Wire>(mut decoder: Decoder, version: i16) {
    let Ok(message) = T::decode(&mut decoder, version) else { return };
    let once = encode(&message, version);
    // Compared as bytes, since a quota may be NaN, which is not equal to itself.
    let mut again = Decoder::new(once.clone());
    let reread = T::decode(&mut again, version).expect("what was written can be read");
    again.finish().expect("what was written is read to its end");
    assert_eq!(encode(&reread, version), once);
}

fn encode<T: Wire>(message: &T, version: i16) -> bytes::Bytes {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version);
    encoder.finish().expect("what was read can be written").freeze()
}
