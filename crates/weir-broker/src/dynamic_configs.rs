//! The broker's configuration while it runs: what was given at the start, under what admin clients have set.
//!
//! A key may be set for all brokers, and for this one, which counts more. Those that Kafka calls dynamic are taken and
//! kept; defaults of topics, the cleaner's keys and the limits of connections have their effect at once. Listeners, TLS
//! and SASL come from the configuration file alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weir_log::CleanerOptions;
use weir_protocol::ErrorCode;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::configs::{broker_key, is_of_type, topic_keys, ConfigType, CONFIG_VALUE_BYTES_MAX};
use crate::settings::{ClusterSettings, ConfigOwner, Configs};
use crate::topic_requests::Refused;

/// The name under which settings of this broker alone are kept.
pub(crate) const THIS_BROKER: &str = "0";
/// The name under which settings of all brokers are kept.
pub(crate) const ALL_BROKERS: &str = "";

/// Rates of replication (KIP-73, KIP-113), which tools set around a reassignment. They are no keys of a broker's
/// configuration file, and no DescribeConfigs shows them.
const THROTTLES: &[&str] = &[
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// Keys that Kafka changes live and this broker reads at the start.
const FIXED: &[&str] = &[
    "listener.security.protocol.map",
    "listeners",
    "metric.reporters",
    "principal.builder.class",
    "sasl.",
    "ssl.",
];

/// Whether a key may be set while the broker runs.
pub(crate) fn is_dynamic(name: &str) -> bool {
    let is_fixed = FIXED.iter().any(|fixed| match fixed.ends_with('.') {
        true => name.starts_with(fixed),
        false => name == *fixed,
    });
    !is_fixed && broker_key(name).is_some_and(|key| key.dynamic)
}

/// Whether these may be the dynamic configuration of this broker or of all.
///
/// # Errors
/// What Kafka's `DynamicBrokerConfig.validate` answers. One that is unknown is refused too; Kafka keeps it.
pub(crate) fn check(config: &BrokerConfig, configs: &Configs) -> Result<(), Refused> {
    let invalid = |words: String| Err((ErrorCode::InvalidRequest, words));
    let names = |fits: &dyn Fn(&str) -> bool| {
        let names = configs.keys().map(String::as_str).filter(|name| fits(name));
        names.collect::<Vec<_>>().join(", ")
    };
    let known = |name: &str| broker_key(name).is_some() || THROTTLES.contains(&name);
    let unknown = names(&|name| !known(name));
    if !unknown.is_empty() {
        return invalid(format!(
            "Unknown broker configs, or of a listener, which come from its file: {unknown}"
        ));
    }
    let fixed = names(&|name| !is_dynamic(name) && !THROTTLES.contains(&name));
    if !fixed.is_empty() {
        return invalid(format!("Cannot update these configs dynamically: Set({fixed})"));
    }
    let mut scratch = config.clone();
    for (name, value) in configs {
        if let Err(words) = set(&mut scratch, name, value) {
            return invalid(words);
        }
    }
    Ok(())
}

/// Sets one key. Those without an effect here are checked alone.
///
/// # Errors
/// Words for the client.
fn set(config: &mut BrokerConfig, name: &str, value: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("Invalid value {value} for configuration {name}: {why}"));
    let kind = broker_key(name).map_or(ConfigType::Long, |key| key.kind);
    if value.len() > CONFIG_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
        return bad("it is too long, or has control characters");
    }
    if !is_of_type(kind, value) {
        return bad(&format!("Not a {}", kind.described()));
    }
    let number = value.trim().parse::<i64>().ok();
    let at_least = |min: i64| number.is_none_or(|number| number >= min);
    let size = || number.and_then(|number| usize::try_from(number).ok());
    match name {
        "max.connections" => match size() {
            Some(max) => config.connections_max = max.max(1),
            None => return bad("Value must be at least 0"),
        },
        "max.connections.per.ip" => match size() {
            Some(max) => config.connections_per_ip_max = Some(max),
            None => return bad("Value must be at least 0"),
        },
        "max.connections.per.ip.overrides" => match per_ip_overrides(value) {
            Some(overrides) => config.connections_per_ip_overrides = overrides,
            None => return bad("Addresses with a number each are expected, as 10.0.0.7:50"),
        },
        "max.connection.creation.rate" => match number.and_then(|rate| u32::try_from(rate).ok()) {
            // Kafka's default stands for no limit.
            Some(rate) => {
                config.connection_creation_rate_max =
                    (rate < i32::MAX.unsigned_abs()).then_some(rate.max(1));
            }
            None => return bad("Value must be at least 0"),
        },
        _ if THROTTLES.contains(&name) && !at_least(0) => return bad("Value must be at least 0"),
        _ if name.ends_with(".threads") && !at_least(1) => return bad("Value must be at least 1"),
        _ => {
            let known = config
                .set_cleaner_key(name, value)
                .and_then(|known| Ok(known || config.topic_defaults.set_any(name, value)?));
            if known.is_err() {
                return bad("It is out of range");
            }
        }
    }
    Ok(())
}

/// `10.0.0.7:50,2001:db8::7:100`. Names of hosts are not looked up: the core asks no network.
fn per_ip_overrides(value: &str) -> Option<BTreeMap<IpAddr, usize>> {
    let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let entry = |entry: &str| {
        let (address, max) = entry.rsplit_once(':')?;
        let address: IpAddr = address.trim().parse().ok()?;
        Some((address.to_canonical(), max.trim().parse().ok()?))
    };
    entries.map(entry).collect()
}

/// What holds: the configuration of the start, under what was set for all brokers and for this one.
pub(crate) fn effective(start: &BrokerConfig, settings: &ClusterSettings) -> BrokerConfig {
    let mut config = start.clone();
    for name in [ALL_BROKERS, THIS_BROKER] {
        for (key, value) in settings.configs(ConfigOwner::Broker, name) {
            if let Err(words) = set(&mut config, key, value) {
                tracing::warn!(words, "a dynamic configuration is left out");
            }
        }
    }
    config
}

/// Keys that a broker's key falls back to, itself first: `log.retention.ms`, `.minutes`, `.hours`.
pub(crate) fn fallbacks(name: &'static str) -> Vec<&'static str> {
    let found = topic_keys().iter().find_map(|topic| {
        let at = topic.synonyms.iter().position(|synonym| *synonym == name)?;
        topic.synonyms.get(at..).map(<[_]>::to_vec)
    });
    found.unwrap_or_else(|| vec![name])
}

impl Broker {
    /// What was set has changed: what obeys it is told.
    pub(crate) fn apply_broker_configs(&mut self) {
        self.config = effective(&self.start_config, &self.settings);
        self.logs.set_cleaner(cleaner_options(&self.config));
        self.topics.set_defaults(self.config.topic_defaults.clone());
        for topic in self.topics.iter() {
            let log_config = topic.log_config();
            for (_, log) in topic.logs() {
                self.logs.set_config(log, log_config.clone());
            }
        }
    }

    /// How many connections there may be by now, and how fast they may come, if the next is from `address`.
    #[must_use]
    pub fn connection_limits(&self, address: IpAddr) -> ConnectionLimits {
        let address = address.to_canonical();
        let own_max = self.config.connections_per_ip_overrides.get(&address).copied();
        let per_ip_max = self.config.connections_per_ip_max.filter(|_| !address.is_loopback());
        ConnectionLimits {
            connections_max: self.config.connections_max,
            per_ip_max: own_max.or(per_ip_max),
            rate_max: self.config.connection_creation_rate_max.map(f64::from),
            ip_rate_max: self.settings.connection_rate_of(address),
        }
    }

    /// How much the cleaner may read and write in a second.
    #[must_use]
    pub fn cleaner_io_bytes_per_second_max(&self) -> Option<u64> {
        self.config.cleaner_io_bytes_per_second_max
    }
}

/// How many connections there may be, and how fast they may come.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionLimits {
    /// All at once.
    pub connections_max: usize,
    /// Those of one address at once; none for loopback, unless it has one of its own.
    pub per_ip_max: Option<usize>,
    /// New ones per second, from everywhere.
    pub rate_max: Option<f64>,
    /// New ones per second from this address: its quota.
    pub ip_rate_max: Option<f64>,
}

/// What the logs' cleaner is told.
pub(crate) fn cleaner_options(config: &BrokerConfig) -> CleanerOptions {
    CleanerOptions {
        enabled: config.cleaner_enabled,
        backoff_ms: config.cleaner_backoff_ms,
        dedupe_buffer_bytes_max: config.cleaner_dedupe_buffer_bytes_max,
        inflate_bytes_max: config.inflate_bytes_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn keys_of_the_start_and_values_out_of_range_are_refused() {
        for (key, value) in [
            ("log.dirs", "/x"),
            ("num.partitions", "7"),
            ("node.id", "4"),
            ("listeners", "PLAINTEXT://:1"),
            ("ssl.keystore.location", "/x"),
            ("listener.name.plaintext.ssl.keystore.location", "/x"),
            ("no.such.key", "1"),
            ("log.retention.ms", "soon"),
            ("log.retention.ms", "-2"),
            ("log.segment.bytes", "1"),
            ("log.cleaner.threads", "0"),
            ("num.io.threads", "0"),
            ("max.connection.creation.rate", "-1"),
            ("max.connections", "-1"),
            ("max.connections.per.ip.overrides", "host.example.org:7"),
            ("max.connections.per.ip.overrides", "10.0.0.1"),
            ("message.max.bytes", "-1"),
            ("unclean.leader.election.enable", "maybe"),
            ("leader.replication.throttled.rate", "-1"),
        ] {
            let refused = check(&BrokerConfig::default(), &configs(&[(key, value)]));
            let (error, words) = refused.expect_err(key);
            assert_eq!(error, ErrorCode::InvalidRequest);
            assert!(words.contains(key), "{words}");
        }
    }

    #[test]
    fn what_is_set_for_this_broker_counts_more_than_for_all_and_the_start() {
        let mut start = BrokerConfig::default();
        start.topic_defaults.set("log.retention.ms", "1").unwrap();
        let mut settings = ClusterSettings::default();
        let mut set = |name: &str, pairs: &[(&str, &str)]| {
            settings.apply(&crate::settings::SettingsChange::Configs {
                owner: ConfigOwner::Broker,
                name: name.to_owned(),
                configs: configs(pairs),
            });
            effective(&start, &settings)
        };
        let said =
            |config: &BrokerConfig, key: &str| config.topic_defaults.value(key).map(str::to_owned);
        assert_eq!(said(&set("1", &[("log.retention.ms", "9")]), "retention.ms").unwrap(), "1");
        let all = set("", &[("log.retention.ms", "2"), ("message.max.bytes", "5")]);
        assert_eq!(said(&all, "retention.ms").unwrap(), "2");
        let both = set("0", &[("log.retention.ms", "3"), ("max.connections", "12")]);
        assert_eq!(said(&both, "retention.ms").unwrap(), "3");
        assert_eq!(said(&both, "max.message.bytes").unwrap(), "5");
        assert_eq!(both.connections_max, 12);
    }

    #[test]
    fn retention_falls_back_from_milliseconds_to_hours() {
        let keys = ["log.retention.ms", "log.retention.minutes", "log.retention.hours"];
        assert_eq!(fallbacks("log.retention.ms"), keys);
        assert_eq!(fallbacks("log.retention.minutes"), keys[1..]);
        assert_eq!(fallbacks("num.io.threads"), ["num.io.threads"]);
    }
}
