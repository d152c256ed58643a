//! [`LogConfig`]: the settings of one topic, under Kafka's names and with Kafka's defaults.

pub use weir_protocol::batch::TimestampType;

/// `segment.bytes` below this would make a segment per message (Kafka's minimum since 4.0 is
/// 1 MiB; older topics may carry less, so ours is only what a batch header needs).
pub const SEGMENT_BYTES_MIN: u64 = 14;

/// The settings of one topic that its logs obey.
///
/// Kafka's topic keys that concern replication or tiering are no part of it. Values are Kafka's
/// defaults of version 4.1 unless set.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment does not grow beyond this.
    pub segment_bytes_max: u64,
    /// `segment.ms`: a segment does not hold records this much younger than its first.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this much is taken off `segment.ms`, so that not all logs roll
    /// at once.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: a segment rolls when an index would grow beyond this.
    pub segment_index_bytes_max: u64,
    /// `index.interval.bytes`: one index entry per this many bytes of log.
    pub index_interval_bytes: u64,
    /// `retention.ms`. `None` keeps records for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`. `None` sets no limit.
    pub retention_bytes_max: Option<u64>,
    /// `file.delete.delay.ms`: how long a deleted file stays, so that readers can finish.
    pub file_delete_delay_ms: i64,
    /// `cleanup.policy` contains `delete`.
    pub cleanup_delete: bool,
    /// `cleanup.policy` contains `compact`.
    pub cleanup_compact: bool,
    /// `delete.retention.ms`: how long a tombstone is kept.
    pub delete_retention_ms: i64,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`: the largest batch that is taken.
    pub batch_bytes_max: usize,
    /// `message.timestamp.type`. With `LogAppendTime` the log dates each batch.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`. Checked by the broker, which looks at records.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`. Checked by the broker, which looks at records.
    pub timestamp_after_max_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            segment_bytes_max: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            segment_index_bytes_max: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes_max: None,
            file_delete_delay_ms: 60_000,
            cleanup_delete: true,
            cleanup_compact: false,
            delete_retention_ms: DAY_MS,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            batch_bytes_max: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
        }
    }
}

/// A topic setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No topic has this key.
    #[error("unknown topic config name: {key}")]
    UnknownKey {
        /// What was given.
        key: String,
    },
    /// The key does not take this value.
    #[error("invalid value {value} for configuration {key}: {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl ConfigError {
    /// The code of the page that explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "WEIR-0216"
    }
}

/// Keys of Kafka's topics that a single log does not act on. They are taken, checked by whoever
/// serves DescribeConfigs, and change nothing here.
const KEYS_WITHOUT_EFFECT: &[&str] = &[
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "unclean.leader.election.enable",
];

impl LogConfig {
    /// The defaults with `pairs` of Kafka's topic keys over them.
    ///
    /// # Errors
    /// The first key or value that cannot be.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (key, value) in pairs {
            config.set(key, value)?;
        }
        Ok(config)
    }

    /// Sets one of Kafka's topic keys.
    ///
    /// # Errors
    /// If there is no such key, or it does not take the value. The config is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let at_least = |min: i64| parse_at_least(key, value, min);
        let bytes = |min: i64| at_least(min).map(i64::unsigned_abs);
        match key {
            "segment.bytes" => self.segment_bytes_max = bytes(SEGMENT_BYTES_MIN as i64)?,
            "segment.ms" => self.segment_ms = at_least(1)?,
            "segment.jitter.ms" => self.segment_jitter_ms = at_least(0)?,
            "segment.index.bytes" => self.segment_index_bytes_max = bytes(4)?,
            "index.interval.bytes" => self.index_interval_bytes = bytes(0)?,
            "retention.ms" => self.retention_ms = some_unless_minus_one(at_least(-1)?),
            "retention.bytes" => {
                self.retention_bytes_max =
                    some_unless_minus_one(at_least(-1)?).map(i64::unsigned_abs);
            }
            "file.delete.delay.ms" => self.file_delete_delay_ms = at_least(0)?,
            "cleanup.policy" => self.set_cleanup_policy(key, value)?,
            "delete.retention.ms" => self.delete_retention_ms = at_least(0)?,
            "min.cleanable.dirty.ratio" => {
                self.min_cleanable_dirty_ratio = parse_ratio(key, value)?;
            }
            "min.compaction.lag.ms" => self.min_compaction_lag_ms = at_least(0)?,
            "max.compaction.lag.ms" => self.max_compaction_lag_ms = at_least(1)?,
            "max.message.bytes" => {
                self.batch_bytes_max = usize::try_from(at_least(0)?).unwrap_or(usize::MAX);
            }
            "message.timestamp.type" => self.timestamp_type = parse_timestamp_type(key, value)?,
            "message.timestamp.before.max.ms" => self.timestamp_before_max_ms = at_least(0)?,
            "message.timestamp.after.max.ms" => self.timestamp_after_max_ms = at_least(0)?,
            _ if KEYS_WITHOUT_EFFECT.contains(&key) => {}
            _ => return Err(ConfigError::UnknownKey { key: key.to_owned() }),
        }
        Ok(())
    }

    /// `delete`, `compact`, or both, in any order. Kafka 4.1 also takes the empty list: keep all.
    fn set_cleanup_policy(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let (mut delete, mut compact) = (false, false);
        for policy in value.split(',').map(str::trim).filter(|policy| !policy.is_empty()) {
            match policy {
                "delete" => delete = true,
                "compact" => compact = true,
                _ => return Err(bad_value(key, value, "delete, compact or both are valid")),
            }
        }
        (self.cleanup_delete, self.cleanup_compact) = (delete, compact);
        Ok(())
    }

    /// `segment.ms` of the log whose jitter is drawn by `seed`, as Kafka's `randomSegmentJitter`.
    pub(crate) fn segment_ms_of(&self, seed: u64) -> i64 {
        // What stands in the active segment is not cleaned (Kafka's `LogConfig.maxSegmentMs`).
        let segment_ms = match self.cleanup_compact {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        };
        if self.segment_jitter_ms == 0 {
            return segment_ms;
        }
        let span = self.segment_jitter_ms.min(segment_ms).unsigned_abs().max(1);
        segment_ms.saturating_sub(i64::try_from(seed % span).unwrap_or(0))
    }
}

fn some_unless_minus_one(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}

fn bad_value(key: &str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::BadValue { key: key.to_owned(), value: value.to_owned(), expected }
}

fn parse_at_least(key: &str, value: &str, min: i64) -> Result<i64, ConfigError> {
    let number: i64 =
        value.trim().parse().map_err(|_| bad_value(key, value, "a whole number is needed"))?;
    if number < min {
        return Err(bad_value(key, value, "the number is too small"));
    }
    Ok(number)
}

fn parse_ratio(key: &str, value: &str) -> Result<f64, ConfigError> {
    match value.trim().parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(bad_value(key, value, "a number from 0 to 1 is needed")),
    }
}

fn parse_timestamp_type(key: &str, value: &str) -> Result<TimestampType, ConfigError> {
    match value.trim() {
        "CreateTime" => Ok(TimestampType::CreateTime),
        "LogAppendTime" => Ok(TimestampType::LogAppendTime),
        _ => Err(bad_value(key, value, "CreateTime or LogAppendTime is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_means_no_limit() {
        let config =
            LogConfig::from_pairs([("retention.ms", "-1"), ("retention.bytes", "-1")]).unwrap();
        assert_eq!((config.retention_ms, config.retention_bytes_max), (None, None));
        let config = LogConfig::from_pairs([("retention.bytes", "5")]).unwrap();
        assert_eq!(config.retention_bytes_max, Some(5));
    }

    #[test]
    fn cleanup_policy_takes_each_combination() {
        let check = |value: &str, delete: bool, compact: bool| {
            let config = LogConfig::from_pairs([("cleanup.policy", value)]).unwrap();
            assert_eq!((config.cleanup_delete, config.cleanup_compact), (delete, compact));
        };
        check("delete", true, false);
        check("compact", false, true);
        check("compact, delete", true, true);
        check("", false, false);
    }

    #[test]
    fn wrong_keys_and_values_are_refused_and_change_nothing() {
        for (key, value) in [
            ("retention.sm", "1"),
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("segment.bytes", "13"),
            ("cleanup.policy", "shred"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("message.timestamp.type", "Now"),
        ] {
            let mut config = LogConfig::default();
            assert!(config.set(key, value).is_err(), "{key}={value}");
            assert_eq!(config, LogConfig::default(), "{key}={value}");
        }
    }

    #[test]
    fn each_topic_key_of_kafka_is_known() {
        let facts = include_str!("../tests/data/kafka-4.1.0-topic-defaults.txt");
        let pairs: Vec<(&str, &str)> =
            facts.lines().filter_map(|line| line.split_once('=')).collect();
        assert_eq!(pairs.len(), 33);
        for (key, value) in &pairs {
            let mut config = LogConfig::default();
            config.set(key, value).unwrap();
            assert_eq!(config, LogConfig::default(), "{key}={value} is the default");
        }
        for key in KEYS_WITHOUT_EFFECT {
            assert!(pairs.iter().any(|(known, _)| known == key), "{key} is none of Kafka's");
        }
    }
}
