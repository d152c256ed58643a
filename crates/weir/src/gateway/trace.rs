//! The trace an event belongs to: a record header.

use axum::http::HeaderMap;
use uuid::Uuid;

/// A trace id of the W3C trace context: 32 lower-case hex digits, not all zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceId(String);

impl TraceId {
    /// A new one.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    /// From a request's `traceparent`: version, trace id, parent id, flags, with dashes between.
    /// A malformed header is as none, as the recommendation asks.
    pub(crate) fn of_request(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get("traceparent")?.to_str().ok()?;
        let id = value.split('-').nth(1)?;
        let hex = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex && id.bytes().any(|b| b != b'0')).then(|| Self(id.to_owned()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(traceparent: &'static str) -> Option<TraceId> {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", traceparent.parse().unwrap());
        TraceId::of_request(&headers)
    }

    #[test]
    fn trace_of_the_request_is_kept_and_a_malformed_one_is_as_none() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let found = of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(found, Some(TraceId(id.to_owned())));
        for bad in
            ["", "00", "00-0af7-b7ad-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(TraceId::random().as_bytes().len(), 32);
    }
}
