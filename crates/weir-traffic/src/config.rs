//! Settings, named as in `traffic-config.yaml` of the specification, each with its bounds.

use serde::{Serialize, Serializer};

use crate::error::TrafficError;

/// `traffic_control`: the limits of a traffic manager.
///
/// It is written to `/stats` under the names of the keys; reading files is the binary's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrafficConfig {
    /// Events a lane holds at most, those in flight included.
    pub buffer_size: usize,
    /// Bytes a lane holds at most, those in flight included.
    pub buffer_bytes_max: usize,
    /// Events sent together at most.
    pub batch_size: usize,
    /// Bytes sent together at most; one event is always sent.
    pub batch_bytes_max: usize,
    /// The longest an event waits for others while the sink has room for a batch.
    #[serde(rename = "flush_interval", serialize_with = "as_duration")]
    pub flush_interval_ms: u64,
    /// Events per `rate_window`, urgent ones not counted. `None`: the sink sets the pace.
    pub max_rate: Option<u64>,
    /// The window of `max_rate`.
    #[serde(rename = "rate_window", serialize_with = "as_duration")]
    pub rate_window_ms: u64,
    /// Failures in a row that open the circuit breaker.
    pub max_failures: u32,
    /// How long the circuit breaker stays open.
    #[serde(rename = "circuit_timeout", serialize_with = "as_duration")]
    pub circuit_timeout_ms: u64,
    /// Probes that must succeed to close the circuit breaker again.
    pub half_open_successes: u32,
    /// How long an event waits while the sink is away, before its caller gets it back; and how long it
    /// may take to send what waits already, at `max_rate`, for another event to be taken.
    ///
    /// 10 s by default: as long as the circuit breaker stays open once, so that an outage shorter
    /// than that costs nobody an event, and shorter than the 30 s after which HTTP clients give up.
    #[serde(rename = "wait_max", serialize_with = "as_duration")]
    pub wait_max_ms: u64,
    /// Batches on their way at once; urgent ones have as many for themselves.
    pub in_flight_max: usize,
    /// A batch unanswered for so long counts as a failure (it stays in flight until it is answered).
    #[serde(rename = "send_timeout", serialize_with = "as_duration")]
    pub send_timeout_ms: u64,
    /// The first wait after a failed send; doubles with each failure in a row, up to ten times itself.
    #[serde(rename = "retry_backoff", serialize_with = "as_duration")]
    pub retry_backoff_ms: u64,
    /// An event that waited so long moves its lane up one class in the choice of the next lane.
    #[serde(rename = "aging_interval", serialize_with = "as_duration")]
    pub aging_interval_ms: u64,
}

impl Default for TrafficConfig {
    fn default() -> Self {
        Self {
            buffer_size: 10_000,
            buffer_bytes_max: 64 << 20,
            batch_size: 100,
            batch_bytes_max: 1 << 20,
            flush_interval_ms: 50,
            max_rate: None,
            rate_window_ms: 1_000,
            max_failures: 5,
            circuit_timeout_ms: 10_000,
            half_open_successes: 3,
            wait_max_ms: 10_000,
            in_flight_max: 5,
            send_timeout_ms: 5_000,
            retry_backoff_ms: 100,
            aging_interval_ms: 1_000,
        }
    }
}

const HOUR_MS: u64 = 3_600_000;

impl TrafficConfig {
    /// Checks every value against its bounds.
    ///
    /// # Errors
    /// [`TrafficError::Config`], which names the key.
    pub fn validate(&self) -> Result<(), TrafficError> {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        within("traffic_control.buffer_size", count(self.buffer_size), 1, 10_000_000)?;
        within("traffic_control.buffer_bytes_max", count(self.buffer_bytes_max), 1_024, 64 << 30)?;
        within("traffic_control.batch_size", count(self.batch_size), 1, 100_000)?;
        within("traffic_control.batch_bytes_max", count(self.batch_bytes_max), 1_024, 1 << 30)?;
        within("traffic_control.flush_interval", self.flush_interval_ms, 1, 60_000)?;
        if let Some(rate) = self.max_rate {
            within("traffic_control.max_rate", rate, 1, 1_000_000_000)?;
        }
        within("traffic_control.rate_window", self.rate_window_ms, 1, HOUR_MS)?;
        within("traffic_control.max_failures", self.max_failures.into(), 1, 1_000_000)?;
        within("traffic_control.circuit_timeout", self.circuit_timeout_ms, 1, HOUR_MS)?;
        within("traffic_control.half_open_successes", self.half_open_successes.into(), 1, 1_000)?;
        within("traffic_control.wait_max", self.wait_max_ms, 1, HOUR_MS)?;
        within("traffic_control.in_flight_max", count(self.in_flight_max), 1, 1_000)?;
        within("traffic_control.send_timeout", self.send_timeout_ms, 1, HOUR_MS)?;
        within("traffic_control.retry_backoff", self.retry_backoff_ms, 1, 60_000)?;
        within("traffic_control.aging_interval", self.aging_interval_ms, 1, HOUR_MS)?;
        if self.batch_size > self.buffer_size {
            return Err(TrafficError::Config {
                key: "traffic_control.batch_size",
                value: self.batch_size.to_string(),
                expected: format!("at most buffer_size ({})", self.buffer_size),
            });
        }
        Ok(())
    }
}

fn within(key: &'static str, value: u64, min: u64, max: u64) -> Result<(), TrafficError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(TrafficError::Config { key, value: value.to_string(), expected: format!("{min} to {max}") })
}

/// Milliseconds written as a duration.
fn as_duration<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{ms}ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_names_its_key() {
        let check = |change: fn(&mut TrafficConfig), key: &str| {
            let mut config = TrafficConfig::default();
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert!(error.to_string().starts_with(&format!("traffic_control.{key}: ")), "{error}");
            assert_eq!(error.code(), "WEIR-0510");
        };
        check(|c| c.buffer_size = 0, "buffer_size");
        check(|c| c.batch_size = 0, "batch_size");
        check(|c| c.batch_size = 10_001, "batch_size");
        check(|c| c.flush_interval_ms = 0, "flush_interval");
        check(|c| c.max_rate = Some(0), "max_rate");
        check(|c| c.half_open_successes = 0, "half_open_successes");
        check(|c| c.in_flight_max = 0, "in_flight_max");
    }
}
