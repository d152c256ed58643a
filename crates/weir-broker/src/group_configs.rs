//! Kafka's `group.*` keys of the broker: set at the start, told, and checked against one another.
//!
//! None of them changes while the broker runs, as in Kafka 4.1. What a group may be given of its own, live, stays within
//! the bounds here (`resource_configs.rs`).

use std::ops::RangeInclusive;

use crate::config::{bad, BrokerConfig};
use crate::consumer_group::{Assignor, MigrationPolicy};
use crate::error::BrokerError;

const HEARTBEAT: &str = "group.consumer.heartbeat.interval.ms";
const SESSION: &str = "group.consumer.session.timeout.ms";

/// A key that is one number of the configuration.
struct Number {
    name: &'static str,
    min: i32,
    set: fn(&mut BrokerConfig, i32),
    get: fn(&BrokerConfig) -> i64,
}

/// In Kafka's order. The smallest values are those of its definitions; where it has none, 0.
const NUMBERS: &[Number] = &[
    Number {
        name: HEARTBEAT,
        min: 1,
        set: |config, ms| config.group_consumer_heartbeat_interval_ms = ms,
        get: |config| config.group_consumer_heartbeat_interval_ms.into(),
    },
    Number {
        name: "group.consumer.max.heartbeat.interval.ms",
        min: 1,
        set: |config, ms| set_end(&mut config.group_consumer_heartbeat_interval_ms_bounds, ms),
        get: |config| i64::from(*config.group_consumer_heartbeat_interval_ms_bounds.end()),
    },
    Number {
        name: "group.consumer.max.session.timeout.ms",
        min: 1,
        set: |config, ms| set_end(&mut config.group_consumer_session_timeout_ms_bounds, ms),
        get: |config| i64::from(*config.group_consumer_session_timeout_ms_bounds.end()),
    },
    Number {
        name: "group.consumer.max.size",
        min: 1,
        set: |config, members| config.group_consumer_members_max = size(members),
        get: |config| number(config.group_consumer_members_max),
    },
    Number {
        name: "group.consumer.min.heartbeat.interval.ms",
        min: 1,
        set: |config, ms| set_start(&mut config.group_consumer_heartbeat_interval_ms_bounds, ms),
        get: |config| i64::from(*config.group_consumer_heartbeat_interval_ms_bounds.start()),
    },
    Number {
        name: "group.consumer.min.session.timeout.ms",
        min: 1,
        set: |config, ms| set_start(&mut config.group_consumer_session_timeout_ms_bounds, ms),
        get: |config| i64::from(*config.group_consumer_session_timeout_ms_bounds.start()),
    },
    Number {
        name: SESSION,
        min: 1,
        set: |config, ms| config.group_consumer_session_timeout_ms = ms,
        get: |config| config.group_consumer_session_timeout_ms.into(),
    },
    Number {
        name: "group.initial.rebalance.delay.ms",
        min: 0,
        set: |config, ms| config.group_initial_rebalance_delay_ms = ms.into(),
        get: |config| config.group_initial_rebalance_delay_ms,
    },
    Number {
        name: "group.max.session.timeout.ms",
        min: 0,
        set: |config, ms| config.group_session_timeout_ms_max = ms,
        get: |config| config.group_session_timeout_ms_max.into(),
    },
    Number {
        name: "group.max.size",
        min: 1,
        set: |config, members| config.group_members_max = size(members),
        get: |config| number(config.group_members_max),
    },
    Number {
        name: "group.min.session.timeout.ms",
        min: 0,
        set: |config, ms| config.group_session_timeout_ms_min = ms,
        get: |config| config.group_session_timeout_ms_min.into(),
    },
];

/// Keys whose value here is not Kafka's default, and so is told as given.
const NOT_KAFKAS: &[&str] = &[
    "group.consumer.max.size",
    "group.initial.rebalance.delay.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
];

impl BrokerConfig {
    /// Sets one of Kafka's `group.*` keys. Returns whether `key` is one that does something here.
    ///
    /// # Errors
    /// [`BrokerError::Config`]; nothing is changed then.
    pub fn set_group_key(&mut self, key: &str, value: &str) -> Result<bool, BrokerError> {
        let value = value.trim();
        if let Some(known) = NUMBERS.iter().find(|known| known.name == key) {
            let expected = match known.min {
                0 => "a whole number, 0 or above",
                _ => "a whole number above 0",
            };
            match value.parse::<i32>() {
                Ok(number) if number >= known.min => (known.set)(self, number),
                _ => return Err(bad(known.name, value, expected)),
            }
            return Ok(true);
        }
        match key {
            "group.consumer.assignors" => {
                let named: Option<Vec<Assignor>> =
                    value.split(',').map(|name| Assignor::of(name.trim())).collect();
                let expected = "one or both of uniform and range";
                self.group_consumer_assignors =
                    named.ok_or_else(|| bad("group.consumer.assignors", value, expected))?;
            }
            "group.consumer.migration.policy" => {
                let expected = "bidirectional, upgrade, downgrade or disabled";
                self.group_consumer_migration_policy = MigrationPolicy::of(value)
                    .ok_or_else(|| bad("group.consumer.migration.policy", value, expected))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Whether the keys go together, as Kafka's `GroupCoordinatorConfig` asks at its start.
///
/// # Errors
/// [`BrokerError::Config`] with the key that does not fit.
pub(crate) fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
    let heartbeat_ms = config.group_consumer_heartbeat_interval_ms;
    let session_ms = config.group_consumer_session_timeout_ms;
    check_bounds(
        heartbeat_ms,
        &config.group_consumer_heartbeat_interval_ms_bounds,
        HEARTBEAT,
        [
            "group.consumer.max.heartbeat.interval.ms",
            "at least group.consumer.min.heartbeat.interval.ms",
            "from group.consumer.min.heartbeat.interval.ms to group.consumer.max.heartbeat.interval.ms",
        ],
    )?;
    check_bounds(
        session_ms,
        &config.group_consumer_session_timeout_ms_bounds,
        SESSION,
        [
            "group.consumer.max.session.timeout.ms",
            "at least group.consumer.min.session.timeout.ms",
            "from group.consumer.min.session.timeout.ms to group.consumer.max.session.timeout.ms",
        ],
    )?;
    if heartbeat_ms >= session_ms {
        let expected = "less than group.consumer.session.timeout.ms";
        return Err(bad(HEARTBEAT, &heartbeat_ms.to_string(), expected));
    }
    let (min, max) = (config.group_session_timeout_ms_min, config.group_session_timeout_ms_max);
    if min > max {
        let expected = "at least group.min.session.timeout.ms";
        return Err(bad("group.max.session.timeout.ms", &max.to_string(), expected));
    }
    Ok(())
}

fn check_bounds(
    value: i32,
    bounds: &RangeInclusive<i32>,
    key: &'static str,
    [max_key, above_min, between]: [&'static str; 3],
) -> Result<(), BrokerError> {
    if bounds.is_empty() {
        return Err(bad(max_key, &bounds.end().to_string(), above_min));
    }
    match bounds.contains(&value) {
        true => Ok(()),
        false => Err(bad(key, &value.to_string(), between)),
    }
}

/// What DescribeConfigs tells of these keys other than Kafka's defaults.
pub(crate) fn told(config: &BrokerConfig) -> Vec<(&'static str, String)> {
    let default = BrokerConfig::default();
    let numbers = NUMBERS
        .iter()
        .filter(|key| NOT_KAFKAS.contains(&key.name) || (key.get)(config) != (key.get)(&default))
        .map(|key| (key.name, (key.get)(config).to_string()));
    let mut told: Vec<_> = numbers.collect();
    if config.group_consumer_assignors != default.group_consumer_assignors {
        let assignors = config.group_consumer_assignors.iter().map(|assignor| assignor.name());
        told.push(("group.consumer.assignors", assignors.collect::<Vec<_>>().join(",")));
    }
    if config.group_consumer_migration_policy != default.group_consumer_migration_policy {
        let policy = config.group_consumer_migration_policy.name();
        told.push(("group.consumer.migration.policy", policy.to_owned()));
    }
    told
}

fn set_start(bounds: &mut RangeInclusive<i32>, start: i32) {
    *bounds = start..=*bounds.end();
}

fn set_end(bounds: &mut RangeInclusive<i32>, end: i32) {
    *bounds = *bounds.start()..=end;
}

fn size(members: i32) -> usize {
    usize::try_from(members).unwrap_or(usize::MAX)
}

fn number(members: usize) -> i64 {
    i64::try_from(members).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::broker_default;

    fn with(keys: &[(&str, &str)]) -> BrokerConfig {
        let mut config = BrokerConfig::default();
        for (key, value) in keys {
            assert!(config.set_group_key(key, value).unwrap(), "{key}");
        }
        config
    }

    #[test]
    fn the_keys_are_those_of_kafka_and_each_is_told_as_it_was_set() {
        let keys = [
            ("group.consumer.assignors", "range,uniform"),
            ("group.consumer.heartbeat.interval.ms", "3000"),
            ("group.consumer.max.heartbeat.interval.ms", "9000"),
            ("group.consumer.max.session.timeout.ms", "70000"),
            ("group.consumer.max.size", "10"),
            ("group.consumer.migration.policy", "upgrade"),
            ("group.consumer.min.heartbeat.interval.ms", "2000"),
            ("group.consumer.min.session.timeout.ms", "20000"),
            ("group.consumer.session.timeout.ms", "30000"),
            ("group.initial.rebalance.delay.ms", "3000"),
            ("group.max.session.timeout.ms", "90000"),
            ("group.max.size", "7"),
            ("group.min.session.timeout.ms", "6000"),
        ];
        let config = with(&keys);
        assert!(check(&config).is_ok());
        let mut told = told(&config);
        told.sort_unstable();
        let told: Vec<_> = told.iter().map(|(key, value)| (*key, value.as_str())).collect();
        assert_eq!(told, keys);
        for (key, _) in keys {
            for value in ["-", "-1", ""] {
                let error = BrokerConfig::default().set_group_key(key, value).unwrap_err();
                assert_eq!(error.code(), "WEIR-0305", "{key}");
            }
        }
        assert!(!BrokerConfig::default().set_group_key("group.share.max.size", "1").unwrap());
    }

    #[test]
    fn what_is_not_told_is_kafkas_default() {
        let (config, told) = (BrokerConfig::default(), told(&BrokerConfig::default()));
        assert!(check(&config).is_ok());
        for key in NUMBERS.iter().filter(|key| !told.iter().any(|(name, _)| *name == key.name)) {
            let value = (key.get)(&config).to_string();
            assert_eq!(broker_default(key.name), Some(value.as_str()), "{}", key.name);
        }
    }

    #[test]
    fn keys_that_contradict_one_another_stop_the_start() {
        for (keys, named) in [
            (&[("group.consumer.session.timeout.ms", "30000")][..], SESSION),
            (&[("group.consumer.session.timeout.ms", "61000")], SESSION),
            (&[("group.consumer.heartbeat.interval.ms", "4999")], HEARTBEAT),
            (&[("group.consumer.heartbeat.interval.ms", "15001")], HEARTBEAT),
            (
                &[("group.consumer.max.session.timeout.ms", "44999")],
                "group.consumer.max.session.timeout.ms",
            ),
            (
                &[("group.consumer.min.heartbeat.interval.ms", "15001")],
                "group.consumer.max.heartbeat.interval.ms",
            ),
            (
                &[
                    ("group.consumer.max.heartbeat.interval.ms", "50000"),
                    ("group.consumer.heartbeat.interval.ms", "45000"),
                ],
                HEARTBEAT,
            ),
            (&[("group.max.session.timeout.ms", "1000")], "group.max.session.timeout.ms"),
        ] {
            let error = check(&with(keys)).expect_err(named);
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(error.code(), "WEIR-0305");
        }
    }
}
