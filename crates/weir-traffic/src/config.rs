//! Settings, named as in `traffic-config.yaml` of the specification, each with its bounds.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::TrafficError;
use crate::priority_table::MessagePriorities;

/// The whole of `traffic-config.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrafficFile {
    /// Limits.
    pub traffic_control: TrafficConfig,
    /// Event types by priority class.
    pub message_priorities: MessagePriorities,
}

/// `traffic_control`: the limits of a traffic manager.
///
/// Durations are written `50ms`, `1s`, `10s`, `2m`, or as a number of milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
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
    #[serde(rename = "flush_interval", with = "duration_ms")]
    pub flush_interval_ms: u64,
    /// Events per `rate_window`, urgent ones not counted. `None`: the sink sets the pace.
    pub max_rate: Option<u64>,
    /// The window of `max_rate`.
    #[serde(rename = "rate_window", with = "duration_ms")]
    pub rate_window_ms: u64,
    /// Failures in a row that open the circuit breaker.
    pub max_failures: u32,
    /// How long the circuit breaker stays open.
    #[serde(rename = "circuit_timeout", with = "duration_ms")]
    pub circuit_timeout_ms: u64,
    /// Probes that must succeed to close the circuit breaker again.
    pub half_open_successes: u32,
    /// How long an event waits while the sink is away, before its caller gets it back.
    ///
    /// 10 s by default: as long as the circuit breaker stays open once, so that an outage shorter
    /// than that costs nobody an event, and shorter than the 30 s after which HTTP clients give up.
    #[serde(rename = "wait_max", with = "duration_ms")]
    pub wait_max_ms: u64,
    /// Batches on their way at once; urgent ones have as many for themselves.
    pub in_flight_max: usize,
    /// A batch unanswered for so long counts as a failure (it stays in flight until it is answered).
    #[serde(rename = "send_timeout", with = "duration_ms")]
    pub send_timeout_ms: u64,
    /// The first wait after a failed send; doubles with each failure in a row, up to ten times itself.
    #[serde(rename = "retry_backoff", with = "duration_ms")]
    pub retry_backoff_ms: u64,
    /// An event that waited so long moves its lane up one class in the choice of the next lane.
    #[serde(rename = "aging_interval", with = "duration_ms")]
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
mod duration_ms {
    use super::*;

    pub(super) fn serialize<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{ms}ms"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
        input.deserialize_any(DurationVisitor)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 50ms, 10s or 2m")
    }

    fn visit_u64<E: de::Error>(self, ms: u64) -> Result<u64, E> {
        Ok(ms)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        parse_duration_ms(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// `50ms`, `1s`, `1.5s`, `2m`, `1h`; a number without a unit is milliseconds.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" | "" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => HOUR_MS,
        _ => return None,
    };
    let (whole, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
    if whole.is_empty() || fraction.len() > 9 {
        return None;
    }
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let fraction_ms = match fraction {
        "" => 0,
        _ => {
            fraction.parse::<u64>().ok()?.checked_mul(unit_ms)?
                / 10_u64.pow(u32::try_from(fraction.len()).ok()?)
        }
    };
    whole.parse::<u64>().ok()?.checked_mul(unit_ms)?.checked_add(fraction_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the specification, comments included.
    const SPEC: &str = "
traffic_control:
  buffer_size: 10000          # 消息缓冲池大小
  batch_size: 100             # 批处理大小
  flush_interval: 50ms        # 刷新间隔
  max_rate: 1000              # 最大速率 (消息/秒)
  rate_window: 1s             # 限流窗口
  max_failures: 5             # 最大失败次数
  circuit_timeout: 10s        # 熔断恢复时间

message_priorities:
  urgent:                     # 紧急消息
    - emergency_landing
    - collision_alert
  high:                      # 高优先级
    - low_battery_alert
    - signal_lost_alert
  normal:                    # 普通消息
    - heartbeat
    - status_update
  low:                       # 低优先级
    - log_data
    - statistics
";

    #[test]
    fn the_yaml_of_the_specification_loads_as_written() {
        let file: TrafficFile = serde_yaml_ng::from_str(SPEC).unwrap();
        let expected = TrafficConfig { max_rate: Some(1_000), ..TrafficConfig::default() };
        assert_eq!(file.traffic_control, expected);
        assert_eq!(file.message_priorities, MessagePriorities::default());
        file.traffic_control.validate().unwrap();
    }

    #[test]
    fn the_production_profile_of_the_specification_loads_as_written() {
        let text = "
traffic_control:
  buffer_size: 50000
  batch_size: 200
  flush_interval: 30ms
  max_rate: 2000
  max_failures: 3
  circuit_timeout: 5s
";
        let config = serde_yaml_ng::from_str::<TrafficFile>(text).unwrap().traffic_control;
        assert_eq!((config.buffer_size, config.batch_size), (50_000, 200));
        assert_eq!((config.flush_interval_ms, config.circuit_timeout_ms), (30, 5_000));
        assert_eq!((config.max_rate, config.max_failures), (Some(2_000), 3));
        config.validate().unwrap();
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_yaml_ng::from_str::<TrafficFile>("traffic_control: {bufer_size: 1}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("bufer_size"), "{error}");
    }

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

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, ms) in [
            ("50ms", Some(50)),
            ("1s", Some(1_000)),
            ("1.5s", Some(1_500)),
            ("2 m", Some(120_000)),
            ("1h", Some(HOUR_MS)),
            ("250", Some(250)),
            ("soon", None),
            ("", None),
            ("-1s", None),
            ("1.s", None),
            ("5 days", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration_ms(text), ms, "{text}");
        }
    }
}
