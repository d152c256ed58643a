//! Configurations of groups (KIP-848) and of subscriptions to the metrics of clients (KIP-714): keys, types, defaults,
//! checks.
//!
//! Kafka describes a group's keys for share and streams groups too; those are not served, and so not told. Nobody is
//! asked for metrics: GetTelemetrySubscriptions is not served, as on a Kafka without a receiver.

use regex::Regex;
use weir_protocol::ErrorCode;

use crate::configs::{is_of_type, ConfigType, CONFIG_VALUE_BYTES_MAX};
use crate::settings::Configs;
use crate::topic_requests::Refused;

/// A key of a group or of a metrics subscription.
#[derive(Debug)]
pub(crate) struct ResourceKey {
    /// Its name.
    pub(crate) name: &'static str,
    /// What its value is.
    pub(crate) kind: ConfigType,
    /// The broker's key that has its default, if it has one there.
    pub(crate) broker_key: Option<&'static str>,
    /// Its default otherwise.
    pub(crate) default: &'static str,
}

/// The keys of a group.
pub(crate) const GROUP_KEYS: &[ResourceKey] = &[
    ResourceKey {
        name: "consumer.heartbeat.interval.ms",
        kind: ConfigType::Int,
        broker_key: Some("group.consumer.heartbeat.interval.ms"),
        default: "5000",
    },
    ResourceKey {
        name: "consumer.session.timeout.ms",
        kind: ConfigType::Int,
        broker_key: Some("group.consumer.session.timeout.ms"),
        default: "45000",
    },
];

/// The keys of a subscription.
pub(crate) const CLIENT_METRICS_KEYS: &[ResourceKey] = &[
    ResourceKey { name: "interval.ms", kind: ConfigType::Int, broker_key: None, default: "300000" },
    ResourceKey { name: "match", kind: ConfigType::List, broker_key: None, default: "" },
    ResourceKey { name: "metrics", kind: ConfigType::List, broker_key: None, default: "" },
];

/// What a subscription may match clients by.
const CLIENT_SELECTORS: &[&str] = &[
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Whether these may be the configuration of a group. `bound` gives the value of a key of the broker.
///
/// # Errors
/// What Kafka's `GroupConfig.validate` answers.
pub(crate) fn check_group(
    configs: &Configs,
    bound: impl Fn(&str) -> Option<i64>,
) -> Result<(), Refused> {
    let invalid = |words: String| Err((ErrorCode::InvalidConfig, words));
    let value = |key: &ResourceKey| match configs.get(key.name) {
        Some(text) => text.trim().parse::<i64>().ok(),
        None => key.broker_key.and_then(&bound).or_else(|| key.default.parse().ok()),
    };
    for (name, text) in configs {
        let Some(key) = GROUP_KEYS.iter().find(|key| key.name == name) else {
            return invalid(format!("Unknown group config name: {name}"));
        };
        let Some(number) = value(key).filter(|_| is_of_type(key.kind, text)) else {
            return invalid(format!(
                "Invalid value {text} for configuration {name}: Not a number of type INT"
            ));
        };
        let Some((_, rest)) = name.split_once('.') else { continue };
        let (min, max) =
            (format!("group.consumer.min.{rest}"), format!("group.consumer.max.{rest}"));
        if bound(&min).is_some_and(|min| number < min) {
            return invalid(format!("{name} must be greater than or equal to {min}"));
        }
        if bound(&max).is_some_and(|max| number > max) {
            return invalid(format!("{name} must be less than or equal to {max}"));
        }
    }
    let [heartbeat, session] = GROUP_KEYS else { return Ok(()) };
    match value(heartbeat) >= value(session) {
        true => invalid(format!("{} must be less than {}", heartbeat.name, session.name)),
        false => Ok(()),
    }
}

/// Whether these may be the configuration of a subscription.
///
/// # Errors
/// What Kafka's `ClientMetricsConfigs.validate` answers.
pub(crate) fn check_client_metrics(configs: &Configs) -> Result<(), Refused> {
    for (name, text) in configs {
        let fine = text.len() <= CONFIG_VALUE_BYTES_MAX && !text.chars().any(char::is_control);
        match name.as_str() {
            "interval.ms" => {
                let number = text.trim().parse::<i32>().ok();
                if !number.is_some_and(|number| (100..=3_600_000).contains(&number)) {
                    let words = format!(
                        "Invalid value {text} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
                    );
                    return Err((ErrorCode::InvalidRequest, words));
                }
            }
            "match" if fine => {
                text.split(',').filter(|one| !one.is_empty()).try_for_each(|one| {
                    let words = format!("Illegal client matching pattern: {one}");
                    is_client_pattern(one).then_some(()).ok_or((ErrorCode::InvalidConfig, words))
                })?
            }
            "metrics" if fine => {}
            "match" | "metrics" => {
                let words = format!("{name} is too long, or has control characters");
                return Err((ErrorCode::InvalidConfig, words));
            }
            _ => {
                let words = format!("Unknown client metrics configuration: {name}");
                return Err((ErrorCode::InvalidRequest, words));
            }
        }
    }
    Ok(())
}

/// `selector=regular expression`
fn is_client_pattern(text: &str) -> bool {
    let Some((selector, pattern)) = text.split_once('=') else { return false };
    CLIENT_SELECTORS.contains(&selector.trim()) && Regex::new(pattern.trim()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn kafka_bound(name: &str) -> Option<i64> {
        match name {
            "group.consumer.min.session.timeout.ms" => Some(45_000),
            "group.consumer.max.session.timeout.ms" => Some(60_000),
            "group.consumer.min.heartbeat.interval.ms" => Some(5_000),
            "group.consumer.max.heartbeat.interval.ms" => Some(15_000),
            _ => None,
        }
    }

    #[test]
    fn a_group_stays_within_the_bounds_of_the_broker() {
        let (session, heartbeat) =
            ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
        let check = |pairs: &[(&str, &str)]| check_group(&configs(pairs), kafka_bound);
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[(session, "50000"), (heartbeat, "6000")]), Ok(()));
        for bad in [
            &[(session, "50")][..],
            &[(session, "90000")],
            &[(heartbeat, "90000")],
            &[(heartbeat, "x")],
            &[(heartbeat, "99999999999")],
            &[("share.session.timeout.ms", "45000")],
            &[("no.such.key", "1")],
        ] {
            assert_eq!(check(bad).unwrap_err().0, ErrorCode::InvalidConfig, "{bad:?}");
        }
        let slow = check_group(&configs(&[(heartbeat, "45000")]), |_| None);
        assert!(slow.unwrap_err().1.contains("must be less than"));
    }

    #[test]
    fn a_subscription_has_an_interval_and_patterns() {
        let check = |name: &str, value: &str| {
            check_client_metrics(&configs(&[(name, value)])).map_err(|(error, _)| error)
        };
        assert_eq!(check("interval.ms", "5000"), Ok(()));
        assert_eq!(check("interval.ms", "5"), Err(ErrorCode::InvalidRequest));
        assert_eq!(check("metrics", "org.apache.kafka.producer.,x"), Ok(()));
        assert_eq!(check("match", "client_id=a.*,client_source_port=90.."), Ok(()));
        assert_eq!(check("match", "x=a.*"), Err(ErrorCode::InvalidConfig));
        assert_eq!(check("match", "client_id=["), Err(ErrorCode::InvalidConfig));
        assert_eq!(check("no.such.key", "1"), Err(ErrorCode::InvalidRequest));
    }
}
