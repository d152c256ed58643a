//! Kafka's configuration keys: names, types, defaults, and what DescribeConfigs says of them.
//!
//! The two tables come from the definitions inside Kafka 4.1.0. A key that is described is not always one that does
//! something here: what a single node has no use for keeps Kafka's default.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use weir_log::check_topic_name;
use weir_protocol::api::create_topics::CreatableTopicConfigs;
use weir_protocol::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use weir_protocol::{ErrorCode, Str};

use crate::broker::{Broker, Step};
use crate::config::BrokerConfig;
use crate::dynamic_configs::{fallbacks, is_dynamic, ALL_BROKERS, THIS_BROKER};
use crate::effects::Connection;
use crate::group_configs;
use crate::request::{distinct, Response};
use crate::resource_configs::{ResourceKey, CLIENT_METRICS_KEYS, GROUP_KEYS};
use crate::settings::ConfigOwner;
use crate::topic_defaults::TopicDefaults;
use crate::topics::topic_value;

/// Longest value of a topic's configuration key.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4_096;

pub(crate) const RESOURCE_TOPIC: i8 = 2;
pub(crate) const RESOURCE_BROKER: i8 = 4;
pub(crate) const RESOURCE_BROKER_LOGGER: i8 = 8;
pub(crate) const RESOURCE_CLIENT_METRICS: i8 = 16;
pub(crate) const RESOURCE_GROUP: i8 = 32;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_DYNAMIC_BROKER: i8 = 2;
const SOURCE_DYNAMIC_DEFAULT_BROKER: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_CLIENT_METRICS: i8 = 7;
const SOURCE_GROUP: i8 = 8;

/// Kafka's `ConfigDef.Type`, by the numbers of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// A fraction.
    Double = 6,
    /// Texts between commas.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// Never shown.
    Password = 9,
}

impl ConfigType {
    /// What a value is that is of this type, in Kafka's words.
    pub(crate) const fn described(self) -> &'static str {
        match self {
            Self::Boolean => "boolean: true or false",
            Self::Int => "number of type INT",
            Self::Short => "number of type SHORT",
            Self::Long => "number of type LONG",
            Self::Double => "number of type DOUBLE",
            Self::String | Self::List | Self::Class | Self::Password => "text",
        }
    }
}

/// A key of a topic.
#[derive(Debug)]
pub struct TopicKey {
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub kind: ConfigType,
    /// What holds if nobody says anything.
    pub default: &'static str,
    /// Keys of the broker it falls back to, most specific first.
    pub synonyms: Vec<&'static str>,
}

/// A key of a broker.
#[derive(Debug)]
pub(crate) struct BrokerKey {
    name: &'static str,
    pub(crate) kind: ConfigType,
    /// Kafka changes it while it runs.
    pub(crate) dynamic: bool,
    default: Option<&'static str>,
}

/// The keys of a topic, by name.
pub fn topic_keys() -> &'static [TopicKey] {
    static KEYS: OnceLock<Vec<TopicKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let lines = include_str!("topic_configs.txt").lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let mut parts = line.split('|');
                Some(TopicKey {
                    name: parts.next()?,
                    kind: config_type(parts.next()?),
                    default: parts.next()?,
                    synonyms: parts.next()?.split(',').filter(|name| !name.is_empty()).collect(),
                })
            })
            .collect()
    })
}

fn broker_keys() -> &'static [BrokerKey] {
    static KEYS: OnceLock<Vec<BrokerKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let lines =
            include_str!("broker_configs.txt").lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let mut parts = line.split('|');
                Some(BrokerKey {
                    name: parts.next()?,
                    kind: config_type(parts.next()?),
                    dynamic: parts.next()? == "d",
                    default: parts.next(),
                })
            })
            .collect()
    })
}

fn config_type(name: &str) -> ConfigType {
    match name {
        "BOOLEAN" => ConfigType::Boolean,
        "INT" => ConfigType::Int,
        "SHORT" => ConfigType::Short,
        "LONG" => ConfigType::Long,
        "DOUBLE" => ConfigType::Double,
        "LIST" => ConfigType::List,
        "CLASS" => ConfigType::Class,
        "PASSWORD" => ConfigType::Password,
        _ => ConfigType::String,
    }
}

/// The key of a topic with this name.
#[must_use]
pub fn topic_key(name: &str) -> Option<&'static TopicKey> {
    topic_keys().iter().find(|key| key.name == name)
}

/// The key of a broker with this name.
pub(crate) fn broker_key(name: &str) -> Option<&'static BrokerKey> {
    broker_keys().iter().find(|key| key.name == name)
}

/// What Kafka has for a key of a broker that nobody sets.
#[cfg(test)]
pub(crate) fn broker_default(name: &str) -> Option<&'static str> {
    broker_key(name)?.default
}

/// Whether `value` is of this type at all.
pub(crate) fn is_of_type(kind: ConfigType, value: &str) -> bool {
    let value = value.trim();
    match kind {
        ConfigType::Boolean => matches!(value.to_ascii_lowercase().as_str(), "true" | "false"),
        ConfigType::Int => value.parse::<i32>().is_ok(),
        ConfigType::Short => value.parse::<i16>().is_ok(),
        ConfigType::Long => value.parse::<i64>().is_ok(),
        ConfigType::Double => value.parse::<f64>().is_ok(),
        _ => true,
    }
}

/// Whether `value` may stand for the topic key `name`.
///
/// # Errors
/// Words for the client.
pub fn check_topic_value(name: &str, value: &str) -> Result<(), String> {
    let Some(key) = topic_key(name) else {
        return Err(format!("Unknown topic config name: {name}"));
    };
    if value.len() > CONFIG_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(format!(
            "Invalid value for configuration {name}: too long, or with control characters"
        ));
    }
    let number = value.trim().parse::<i64>().ok();
    let in_range =
        |(min, max): (i64, i64)| number.is_some_and(|number| (min..=max).contains(&number));
    let fine = match key.kind {
        // There is no other place to keep records at.
        ConfigType::Boolean if name == "remote.storage.enable" => {
            value.trim().eq_ignore_ascii_case("false")
        }
        ConfigType::Boolean => {
            matches!(value.trim().to_ascii_lowercase().as_str(), "true" | "false")
        }
        _ if name == "compression.gzip.level" && number == Some(0) => false,
        ConfigType::Int | ConfigType::Short => in_range(range_of(name, i64::from(i32::MAX))),
        ConfigType::Long => in_range(range_of(name, i64::MAX)),
        ConfigType::Double => {
            value.trim().parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio))
        }
        _ if name.ends_with(".replication.throttled.replicas") => are_replicas(value),
        // Kafka 4.1 takes the empty list: neither deleted nor compacted.
        _ if name == "cleanup.policy" && value.is_empty() => true,
        _ => match choices_of(name) {
            Some(choices) => value.split(',').all(|one| choices.contains(&one.trim())),
            None => true,
        },
    };
    match fine {
        true => Ok(()),
        false => {
            Err(format!("Invalid value {value} for configuration {name}{}", why_not(key, value)))
        }
    }
}

/// A list of `partition:broker`, or `*` for all.
fn are_replicas(value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_pair = |pair: &str| {
        pair.split_once(':')
            .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
    };
    value.trim().is_empty()
        || value.trim() == "*"
        || value.split(',').all(|pair| is_pair(pair.trim()))
}

/// The rest of Kafka's words for a value that may not be.
fn why_not(key: &TopicKey, value: &str) -> String {
    let number = value.trim().parse::<i64>().ok();
    let (min, max) = range_of(key.name, i64::MAX);
    match (key.kind, number) {
        (kind, _) if !is_of_type(kind, value) => format!(": Not a {}", kind.described()),
        (ConfigType::Int | ConfigType::Short | ConfigType::Long, Some(number)) if number < min => {
            format!(": Value must be at least {min}")
        }
        (ConfigType::Int | ConfigType::Short | ConfigType::Long, Some(number)) if number > max => {
            format!(": Value must be no more than {max}")
        }
        _ => match choices_of(key.name) {
            Some(choices) => format!(": String must be one of: {}", choices.join(", ")),
            None => String::new(),
        },
    }
}

/// The validators of Kafka's `LogConfig`.
fn range_of(name: &str, max: i64) -> (i64, i64) {
    match name {
        // 0 is none of them: see `check_topic_value`.
        "compression.gzip.level" => (-1, 9),
        "compression.lz4.level" => (1, 17),
        "compression.zstd.level" => (-131_072, 22),
        "flush.messages" | "max.compaction.lag.ms" | "min.insync.replicas" | "segment.ms" => {
            (1, max)
        }
        "local.retention.bytes" | "local.retention.ms" => (-2, max),
        "retention.ms" => (-1, max),
        "retention.bytes" => (i64::MIN, max),
        "segment.bytes" => (1 << 20, max),
        "segment.index.bytes" => (4, max),
        _ => (0, max),
    }
}

fn choices_of(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "cleanup.policy" => Some(&["compact", "delete"]),
        "compression.type" => Some(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "message.timestamp.type" => Some(&["CreateTime", "LogAppendTime"]),
        _ => None,
    }
}

/// What the configuration of this broker says instead of Kafka's defaults.
fn static_values(config: &BrokerConfig, connection: &Connection) -> BTreeMap<&'static str, String> {
    let (host, port) = &connection.advertised;
    let mut values = fixed_values(config);
    values.insert("advertised.listeners", format!("PLAINTEXT://{host}:{port}"));
    values
}

/// Those that are the same for each connection.
fn fixed_values(config: &BrokerConfig) -> BTreeMap<&'static str, String> {
    let mut values = BTreeMap::from([
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("broker.id", "0".to_owned()),
        ("listeners", format!("PLAINTEXT://{}", config.listen)),
        ("log.dir", config.data_dir.display().to_string()),
        ("log.dirs", config.data_dir.display().to_string()),
        ("max.connections", config.connections_max.to_string()),
        ("node.id", "0".to_owned()),
        ("num.partitions", config.num_partitions.to_string()),
        ("offsets.topic.replication.factor", "1".to_owned()),
        ("process.roles", "broker,controller".to_owned()),
        ("socket.request.max.bytes", config.request_bytes_max.to_string()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("transaction.state.log.replication.factor", "1".to_owned()),
    ]);
    // Where they are not set, Kafka's defaults say it: no limit.
    if let Some(max) = config.connections_per_ip_max {
        values.insert("max.connections.per.ip", max.to_string());
    }
    if let Some(max) = config.connection_creation_rate_max {
        values.insert("max.connection.creation.rate", max.to_string());
    }
    values.extend(cleaner_values(config));
    values.extend(group_configs::told(config));
    values.extend(config.topic_defaults.given().map(|(key, value)| (key, value.to_owned())));
    values
}

/// What the cleaner and retention are told other than Kafka's defaults.
fn cleaner_values(config: &BrokerConfig) -> Vec<(&'static str, String)> {
    let default = BrokerConfig::default();
    let values = |config: &BrokerConfig| {
        // As Java prints a double; without a limit its largest.
        let rate = config.cleaner_io_bytes_per_second_max;
        let rate = rate.map_or("1.7976931348623157E308".to_owned(), |rate| format!("{rate}.0"));
        [
            ("log.cleaner.backoff.ms", config.cleaner_backoff_ms.to_string()),
            ("log.cleaner.dedupe.buffer.size", config.cleaner_dedupe_buffer_bytes_max.to_string()),
            ("log.cleaner.enable", config.cleaner_enabled.to_string()),
            ("log.cleaner.io.max.bytes.per.second", rate),
            ("log.retention.check.interval.ms", config.retention_check_interval_ms.to_string()),
        ]
    };
    let pairs = values(config).into_iter().zip(values(&default));
    pairs.filter(|(own, default)| own != default).map(|(own, _)| own).collect()
}

impl Broker {
    pub(crate) fn describe_configs(
        &self,
        connection: &Connection,
        request: &DescribeConfigsRequest,
    ) -> Step {
        let resources = distinct(&request.resources, |one| (one.resource_type, &one.resource_name));
        let names_max = self.config.request_names_max;
        let results = if resources.len() > names_max {
            let words = format!("More than {names_max} resources in one request.");
            let refused = resources.into_iter().take(names_max);
            refused
                .map(|resource| failed_resource(resource, ErrorCode::InvalidRequest, &words))
                .collect()
        } else {
            let synonyms = request.include_synonyms;
            resources
                .into_iter()
                .map(|resource| self.describe_resource(connection, resource, synonyms))
                .collect()
        };
        Step::Answer(Response::DescribeConfigs(DescribeConfigsResponse {
            throttle_time_ms: 0,
            results,
        }))
    }

    fn describe_resource(
        &self,
        connection: &Connection,
        resource: &DescribeConfigsResource,
        synonyms: bool,
    ) -> DescribeConfigsResult {
        // No key is all keys, as null is.
        let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
        let keys: Option<HashSet<&str>> = keys.map(|keys| keys.iter().map(|key| &**key).collect());
        let wanted = |name: &str| keys.as_ref().is_none_or(|keys| keys.contains(name));
        let name = &*resource.resource_name;
        let configs = match resource.resource_type {
            RESOURCE_TOPIC => self.topic_configs(name, synonyms),
            RESOURCE_BROKER => self.broker_configs(connection, name, synonyms),
            RESOURCE_BROKER_LOGGER => logger_configs(name),
            RESOURCE_CLIENT_METRICS => self.client_metrics_configs(name, synonyms),
            RESOURCE_GROUP => self.group_configs(name, synonyms),
            _ => Err((
                ErrorCode::InvalidRequest,
                format!("Unsupported resource type: {}", resource.resource_type),
            )),
        };
        match configs {
            Ok(configs) => DescribeConfigsResult {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs: configs.into_iter().filter(|config| wanted(&config.name)).collect(),
                ..DescribeConfigsResult::default()
            },
            Err((error, message)) => failed_resource(resource, error, &message),
        }
    }

    fn topic_configs(
        &self,
        name: &str,
        synonyms: bool,
    ) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
        let topic = self.topics.get(name).ok_or_else(|| match check_topic_name(name) {
            Ok(()) => {
                (ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist"))
            }
            Err(words) => (ErrorCode::InvalidTopicException, words),
        })?;
        Ok(self.topic_values(topic.configs(), synonyms))
    }

    fn topic_values(
        &self,
        own: &BTreeMap<String, String>,
        synonyms: bool,
    ) -> Vec<DescribeConfigsResourceResult> {
        let defaults = &self.config.topic_defaults;
        let start = fixed_values(&self.start_config);
        let describe = |key: &TopicKey| {
            let sources = self.broker_sources(&start, &key.synonyms);
            let first = key.synonyms.first().copied().unwrap_or_default();
            topic_config(key, own, defaults, without_far_defaults(first, sources), synonyms)
        };
        topic_keys().iter().map(describe).collect()
    }

    /// The configuration of a topic as CreateTopics v5 and above answers it (KIP-525): never null when there is no
    /// error, or Java's admin client falls over it.
    pub(crate) fn created_configs(
        &self,
        own: &BTreeMap<String, String>,
    ) -> Vec<CreatableTopicConfigs> {
        let values = self.topic_values(own, false).into_iter();
        let created = values.map(|config| CreatableTopicConfigs {
            name: config.name,
            value: config.value,
            read_only: config.read_only,
            config_source: config.config_source,
            is_sensitive: config.is_sensitive,
        });
        created.collect()
    }

    fn broker_configs(
        &self,
        connection: &Connection,
        name: &str,
        synonyms: bool,
    ) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
        let start = static_values(&self.start_config, connection);
        if name == ALL_BROKERS {
            return Ok(self.default_broker_configs(synonyms));
        }
        if name != THIS_BROKER {
            let words = match name.parse::<i32>() {
                Ok(id) => {
                    format!("Unexpected broker id, expected 0 or empty string, but received {id}")
                }
                Err(_) => format!("Broker id must be an integer, but it is: {name}"),
            };
            return Err((ErrorCode::InvalidRequest, words));
        }
        let describe = |key: &BrokerKey| {
            let sources = self.broker_sources(&start, &fallbacks(key.name));
            broker_config(key, without_far_defaults(key.name, sources), synonyms)
        };
        Ok(broker_keys().iter().map(describe).collect())
    }

    /// What was set for all brokers.
    fn default_broker_configs(&self, synonyms: bool) -> Vec<DescribeConfigsResourceResult> {
        let set = self.settings.configs(ConfigOwner::Broker, ALL_BROKERS);
        let known = set.iter().filter_map(|(name, value)| Some((broker_key(name)?, value)));
        let describe = |(key, value): (&'static BrokerKey, &String)| {
            let source = SOURCE_DYNAMIC_DEFAULT_BROKER;
            let own = Sourced { name: key.name, value: value.clone(), source };
            broker_config(key, vec![own], synonyms)
        };
        known.map(describe).collect()
    }

    /// The values of these keys of the broker, the one that counts first.
    fn broker_sources(
        &self,
        start: &BTreeMap<&'static str, String>,
        keys: &[&'static str],
    ) -> Vec<Sourced> {
        let set = |owner: &str, name: &str| {
            self.settings.configs(ConfigOwner::Broker, owner).get(name).cloned()
        };
        let mut sources = Vec::new();
        for name in keys.iter().copied() {
            let values = [
                (set(THIS_BROKER, name), SOURCE_DYNAMIC_BROKER),
                (set(ALL_BROKERS, name), SOURCE_DYNAMIC_DEFAULT_BROKER),
                (start.get(name).cloned(), SOURCE_STATIC_BROKER),
                (broker_key(name).and_then(|key| key.default).map(str::to_owned), SOURCE_DEFAULT),
            ];
            let known = values.into_iter().filter_map(|(value, source)| Some((value?, source)));
            sources.extend(known.map(|(value, source)| Sourced { name, value, source }));
        }
        sources
    }

    /// What holds for a key of the broker, where no connection matters.
    pub(crate) fn broker_value(&self, name: &str) -> Option<String> {
        let key = broker_key(name)?;
        let start = fixed_values(&self.start_config);
        self.broker_sources(&start, &[key.name]).into_iter().next().map(|first| first.value)
    }

    fn group_configs(
        &self,
        name: &str,
        synonyms: bool,
    ) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
        if name.is_empty() {
            let words = "Group name must not be empty".to_owned();
            return Err((ErrorCode::InvalidRequest, words));
        }
        let own = self.settings.configs(ConfigOwner::Group, name);
        let describe = |key: &ResourceKey| {
            let default = key.broker_key.and_then(|name| self.broker_value(name));
            let default = default.unwrap_or_else(|| key.default.to_owned());
            let own = own.get(key.name).map(|value| (value.clone(), SOURCE_GROUP));
            resource_config(key, own, default, synonyms, true)
        };
        Ok(GROUP_KEYS.iter().map(describe).collect())
    }

    fn client_metrics_configs(
        &self,
        name: &str,
        synonyms: bool,
    ) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
        if name.is_empty() {
            let words = "Client metrics subscription name must not be empty".to_owned();
            return Err((ErrorCode::InvalidRequest, words));
        }
        let own = self.settings.configs(ConfigOwner::ClientMetrics, name);
        let describe = |key: &ResourceKey| {
            let own = own.get(key.name).map(|value| (value.clone(), SOURCE_CLIENT_METRICS));
            resource_config(key, own, key.default.to_owned(), synonyms, false)
        };
        Ok(CLIENT_METRICS_KEYS.iter().map(describe).collect())
    }
}

/// A broker has no loggers whose level could be changed.
fn logger_configs(name: &str) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    let invalid = |words: String| Err((ErrorCode::InvalidRequest, words));
    match name {
        THIS_BROKER => Ok(Vec::new()),
        "" => invalid("Broker id must not be empty".to_owned()),
        _ => invalid(format!("Unexpected broker id, expected 0 but received {name}")),
    }
}

/// A key of a group or of a metrics subscription. Kafka tells the default as a synonym of the first kind alone.
fn resource_config(
    key: &ResourceKey,
    own: Option<(String, i8)>,
    default: String,
    synonyms: bool,
    default_is_synonym: bool,
) -> DescribeConfigsResourceResult {
    let is_default = own.is_none();
    let (value, source) = own.unwrap_or((default, SOURCE_DEFAULT));
    let synonym = Sourced { name: key.name, value: value.clone(), source }.synonym();
    DescribeConfigsResourceResult {
        name: Str::from_static(key.name),
        value: Some(value.into()),
        read_only: false,
        config_source: source,
        is_sensitive: false,
        synonyms: match synonyms && (default_is_synonym || !is_default) {
            true => vec![synonym],
            false => Vec::new(),
        },
        config_type: key.kind as i8,
        documentation: None,
    }
}

fn failed_resource(
    resource: &DescribeConfigsResource,
    error: ErrorCode,
    message: &str,
) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code: error.code(),
        error_message: Some(Str::copy_from(message)),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..DescribeConfigsResult::default()
    }
}

/// A value with the key and the source it is from.
#[derive(Debug, Clone)]
struct Sourced {
    name: &'static str,
    value: String,
    source: i8,
}

impl Sourced {
    fn synonym(self) -> DescribeConfigsSynonym {
        DescribeConfigsSynonym {
            name: Str::from_static(self.name),
            value: Some(self.value.into()),
            source: self.source,
        }
    }
}

/// What stands for a key, the one that counts first.
///
/// A key without a value of its own has those it falls back to (`log.retention.hours` for `log.retention.ms`), as in
/// Kafka. But where the only one is a default of such a key, Kafka tells none.
fn without_far_defaults(name: &str, sources: Vec<Sourced>) -> Vec<Sourced> {
    let is_far = |one: &Sourced| one.name != name && one.source == SOURCE_DEFAULT;
    sources.into_iter().skip_while(is_far).collect()
}

fn topic_config(
    key: &TopicKey,
    own: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
    fallbacks: Vec<Sourced>,
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let own_value = own.get(key.name).map(|value| Sourced {
        name: key.name,
        value: value.clone(),
        source: SOURCE_TOPIC,
    });
    let sources: Vec<Sourced> = own_value.into_iter().chain(fallbacks).collect();
    DescribeConfigsResourceResult {
        name: Str::from_static(key.name),
        value: Some(Str::copy_from(topic_value(own, defaults, key.name))),
        read_only: false,
        config_source: sources.first().map_or(SOURCE_DEFAULT, |first| first.source),
        is_sensitive: false,
        synonyms: match synonyms {
            true => sources.into_iter().map(Sourced::synonym).collect(),
            false => Vec::new(),
        },
        config_type: key.kind as i8,
        documentation: None,
    }
}

fn broker_config(
    key: &BrokerKey,
    sources: Vec<Sourced>,
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let sensitive = key.kind == ConfigType::Password;
    let first = sources.first().filter(|first| first.name == key.name);
    DescribeConfigsResourceResult {
        name: Str::from_static(key.name),
        value: first.filter(|_| !sensitive).map(|first| Str::copy_from(&first.value)),
        read_only: !is_dynamic(key.name),
        config_source: first.map_or(SOURCE_DEFAULT, |first| first.source),
        is_sensitive: sensitive,
        synonyms: match synonyms && !sensitive {
            true => sources.into_iter().map(Sourced::synonym).collect(),
            false => Vec::new(),
        },
        config_type: key.kind as i8,
        documentation: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_of_kafka() {
        assert_eq!(topic_keys().len(), 33);
        assert_eq!(broker_keys().len(), 316);
        let retention = topic_key("retention.ms").unwrap();
        assert_eq!((retention.kind, retention.default), (ConfigType::Long, "604800000"));
        assert_eq!(
            retention.synonyms,
            ["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        );
        let rack = broker_keys().iter().find(|key| key.name == "broker.rack").unwrap();
        assert_eq!(rack.default, None);
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for key in topic_keys() {
            assert_eq!(check_topic_value(key.name, key.default), Ok(()), "{}", key.name);
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let check = |name: &str, value: &str| {
            assert!(check_topic_value(name, value).is_err(), "{name}={value}")
        };
        check("retention.ms", "-2");
        check("retention.ms", "soon");
        check("cleanup.policy", "compact,shred");
        check("segment.bytes", "10");
        check("min.insync.replicas", "0");
        check("no.such.key", "1");
        check("preallocate", "maybe");
        check("max.message.bytes", "3000000000");
        check("compression.gzip.level", "0");
        check("compression.zstd.level", "23");
        check("compression.type", "none");
    }
}
