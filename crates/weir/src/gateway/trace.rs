//! The trace an event belongs to, and its place in the order of acceptance: two record headers.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::http::HeaderMap;
use uuid::Uuid;
use weir_protocol::types::TimestampMs;

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

/// Numbers events in the order in which this gateway took them.
///
/// Microseconds since 1970, or one more than the last number: strictly rising within a process and,
/// while the clock does not go back, over restarts. So a reader sees from the numbers of one device
/// whether an urgent event overtook others, without a counter per device in memory.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: AtomicI64,
}

impl Sequence {
    pub(crate) fn next(&self, now: TimestampMs) -> i64 {
        let wanted = now.get().saturating_mul(1000);
        let advance = |last: i64| Some(wanted.max(last.saturating_add(1)));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
        wanted.max(last.unwrap_or_default().saturating_add(1))
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

    #[test]
    fn sequence_rises_strictly_even_when_the_clock_stands_or_goes_back() {
        let sequence = Sequence::default();
        let times = [5, 5, 5, 4, 9];
        let numbers: Vec<i64> = times.iter().map(|ms| sequence.next(TimestampMs(*ms))).collect();
        assert_eq!(numbers, [5000, 5001, 5002, 5003, 9000]);
    }
}
