//! [`TopicDefaults`]: what the broker's own configuration says for topics that do not say it themselves.
//!
//! Kafka has a key of the broker for most keys of a topic: `log.retention.ms` for `retention.ms`. Some have several, of
//! which the most specific one that is given counts: `log.retention.ms`, then `.minutes`, then `.hours`. The table is
//! that of [`crate::configs`].

use std::collections::BTreeMap;

use weir_log::LogConfig;

use crate::configs::{check_topic_value, topic_key, topic_keys};
use crate::error::BrokerError;

/// Keys of the specification for keys of Kafka.
const ALIASES: &[(&str, &str)] =
    &[("log.cleaner.min.dirty.ratio", "log.cleaner.min.cleanable.ratio")];

/// Defaults of topics that the broker was given. Without any, Kafka's own hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicDefaults {
    /// By the broker's key, as given.
    given: BTreeMap<&'static str, String>,
    /// By the topic's key, in its unit.
    values: BTreeMap<&'static str, String>,
}

impl TopicDefaults {
    /// Sets one of the broker's `log.*` keys that are defaults of topics. Returns whether `key` is one.
    ///
    /// # Errors
    /// [`BrokerError::Config`]; nothing is changed then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, BrokerError> {
        let key = ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name);
        match key.starts_with("log.") {
            true => self.set_any(key, value),
            false => Ok(false),
        }
    }

    /// As [`TopicDefaults::set`], for keys of other names too: `message.max.bytes`, `min.insync.replicas`.
    pub(crate) fn set_any(&mut self, key: &str, value: &str) -> Result<bool, BrokerError> {
        let synonym = |one: &&&'static str| **one == key;
        let found = topic_keys()
            .iter()
            .find_map(|topic| Some((topic.name, *topic.synonyms.iter().find(synonym)?)));
        let Some((topic, key)) = found else { return Ok(false) };
        let value = value.trim();
        let bad = || BrokerError::Config {
            key,
            value: value.to_owned(),
            expected: "what the topic's key of this name takes, in the unit of its name",
        };
        let in_unit = in_topic_unit(key, value).ok_or_else(bad)?;
        check_topic_value(topic, &in_unit).map_err(|_| bad())?;
        // Kafka takes any negative size for no limit, the log -1 alone.
        LogConfig::default().set(topic, &in_unit).map_err(|_| bad())?;
        self.given.insert(key, value.to_owned());
        self.renew(topic);
        Ok(true)
    }

    /// The most specific of the keys that were given counts.
    fn renew(&mut self, topic: &'static str) {
        let first = self.given_for(topic).next();
        let value = first.and_then(|(key, value)| in_topic_unit(key, value));
        if let Some(value) = value {
            self.values.insert(topic, value);
        }
    }

    /// The default of a topic's key, if the broker was given one.
    #[must_use]
    pub fn value(&self, topic_key: &str) -> Option<&str> {
        self.values.get(topic_key).map(String::as_str)
    }

    /// The defaults by topic key.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The broker's keys as given.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.given.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// Those of the broker's keys as given that are a default of this topic key, most specific first.
    pub(crate) fn given_for(&self, topic: &str) -> impl Iterator<Item = (&'static str, &str)> {
        let synonyms = topic_key(topic).map_or(&[][..], |key| &key.synonyms);
        synonyms.iter().filter_map(|key| {
            let (key, value) = self.given.get_key_value(key)?;
            Some((*key, value.as_str()))
        })
    }
}

/// The value in the unit of the topic's key, which is milliseconds where the broker's has hours or minutes. A negative
/// time is no limit, as in Kafka's `getLogRetentionTimeMillis`.
fn in_topic_unit(key: &str, value: &str) -> Option<String> {
    let factor = match key.rsplit_once('.')?.1 {
        "hours" => 3_600_000,
        "minutes" => 60_000,
        _ => return Some(value.to_owned()),
    };
    let number: i64 = value.parse().ok()?;
    let ms = if number < 0 { -1 } else { number.checked_mul(factor)? };
    Some(ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_key_counts_in_whatever_order_they_are_given() {
        let keys = [
            ("log.retention.hours", "2"),
            ("log.retention.ms", "5000"),
            ("log.retention.minutes", "3"),
        ];
        for turn in 0..3 {
            let mut defaults = TopicDefaults::default();
            for index in 0..3 {
                let (key, value) = keys[(turn + index) % 3];
                assert!(defaults.set(key, value).unwrap());
            }
            assert_eq!(defaults.value("retention.ms"), Some("5000"), "{turn}");
            let given: Vec<_> = defaults.given_for("retention.ms").collect();
            assert_eq!(given, [keys[1], keys[2], keys[0]]);
        }
    }

    #[test]
    fn hours_and_minutes_become_milliseconds_and_minus_one_stays() {
        for (key, value, topic, ms) in [
            ("log.retention.hours", "168", "retention.ms", "604800000"),
            ("log.retention.minutes", "2", "retention.ms", "120000"),
            ("log.retention.hours", "-1", "retention.ms", "-1"),
            ("log.roll.hours", "1", "segment.ms", "3600000"),
            ("log.roll.jitter.hours", "1", "segment.jitter.ms", "3600000"),
        ] {
            let mut defaults = TopicDefaults::default();
            assert!(defaults.set(key, value).unwrap(), "{key}");
            assert_eq!(defaults.value(topic), Some(ms), "{key}");
        }
    }

    #[test]
    fn the_specifications_dirty_ratio_is_kafkas_cleanable_ratio() {
        let mut defaults = TopicDefaults::default();
        assert!(defaults.set("log.cleaner.min.dirty.ratio", "0.3").unwrap());
        assert_eq!(defaults.value("min.cleanable.dirty.ratio"), Some("0.3"));
        assert_eq!(defaults.given().next(), Some(("log.cleaner.min.cleanable.ratio", "0.3")));
    }

    #[test]
    fn what_a_topic_would_not_take_is_refused_and_changes_nothing() {
        for (key, value) in [
            ("log.retention.ms", "-2"),
            ("log.retention.hours", "9223372036854775807"),
            ("log.retention.hours", "soon"),
            ("log.retention.bytes", "-5"),
            ("log.segment.bytes", "10"),
            ("log.cleanup.policy", "shred"),
            ("log.cleaner.min.cleanable.ratio", "1.5"),
            ("log.roll.ms", "0"),
        ] {
            let mut defaults = TopicDefaults::default();
            assert_eq!(defaults.set(key, value).unwrap_err().code(), "WEIR-0305", "{key}={value}");
            assert_eq!(defaults, TopicDefaults::default(), "{key}={value}");
        }
        let mut defaults = TopicDefaults::default();
        for no_default in ["log.cleaner.enable", "message.max.bytes", "log.dirs", "retention.ms"] {
            assert!(!defaults.set(no_default, "1").unwrap(), "{no_default}");
        }
    }
}
