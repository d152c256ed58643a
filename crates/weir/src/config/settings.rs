//! The values as the program uses them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use weir_broker::Durability;
use weir_traffic::TrafficConfig;

use super::load::Values;
use super::security::{BrokerSecurity, KafkaSecurity};
use super::shape;
use crate::error::{Outcome, UserError};

/// What happens to an event whose data breaks the schema of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validation {
    /// It is refused.
    Strict,
    /// It is taken and logged.
    Warn,
}

/// One topic made at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    /// Whether the configuration names their number, or it is weir's default.
    pub(crate) partitions_named: bool,
    /// `None`: the broker's default.
    pub(crate) retention_ms: Option<u64>,
    /// As with the partitions.
    pub(crate) retention_named: bool,
    /// How keys become partitions, by the client's name of it.
    pub(crate) partitioner: String,
    /// Fields of `data` that are the key; empty: the gateway's own.
    pub(crate) key_fields: Vec<String>,
}

/// Everything, checked. Field names are those of the keys.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) broker_listen: SocketAddr,
    pub(crate) broker_advertised: Option<(String, u16)>,
    pub(crate) broker_journal_bytes_max: usize,
    pub(crate) broker_num_partitions: u32,
    pub(crate) broker_auto_create_topics: bool,
    pub(crate) broker_durability: Durability,
    /// Kafka's `log.*` keys that are set, in Kafka's units.
    pub(crate) broker_log_keys: Vec<(String, String)>,
    pub(crate) broker_security: BrokerSecurity,
    pub(crate) insecure_listen: bool,
    pub(crate) http_connections_max: usize,
    pub(crate) gateway_listen: SocketAddr,
    pub(crate) gateway_hosts: Vec<String>,
    pub(crate) body_bytes_max: usize,
    pub(crate) event_bytes_max: usize,
    pub(crate) events_per_request_max: usize,
    pub(crate) requests_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) streams_max: usize,
    pub(crate) stream_message_bytes_max: usize,
    pub(crate) validation: Validation,
    pub(crate) console_listen: SocketAddr,
    pub(crate) console_hosts: Vec<String>,
    pub(crate) console_clients_max: usize,
    pub(crate) layers: Layers,
    pub(crate) traffic: TrafficConfig,
    pub(crate) priorities: [Vec<String>; 4],
    /// Empty: the embedded broker.
    pub(crate) brokers: Vec<String>,
    pub(crate) kafka_security: KafkaSecurity,
    pub(crate) group_prefix: String,
    pub(crate) from_earliest: bool,
    pub(crate) session_timeout_ms: u64,
    pub(crate) commit_interval_ms: u64,
    pub(crate) compression: String,
    /// Event type or `prefix.*` to topic, on top of the built-in table.
    pub(crate) routes: Vec<(String, String)>,
    pub(crate) topics: Vec<TopicSettings>,
    pub(crate) zones_file: Option<PathBuf>,
    pub(crate) trajectory_retention_ms: u64,
}

/// What is switched on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers {
    pub(crate) fleet: bool,
    pub(crate) console: bool,
    pub(crate) demo: bool,
}

/// Partitions of a configured topic that does not say.
const PARTITIONS: u32 = 3;
const DAY_MS: u64 = 86_400_000;

/// Topics that exist after a start (design: the seven of spec 001, then those of 003 and 004).
const TOPICS: &[(&str, u32, Option<u64>)] = &[
    ("drone-events", 3, None),
    ("task-events", 3, None),
    ("user-events", 3, None),
    ("alert-events", 3, None),
    ("system-events", 3, None),
    ("monitoring-data", 3, Some(DAY_MS)),
    ("application-logs", 3, Some(7 * DAY_MS)),
    ("iot-sensor-data", 12, None),
    ("order-events", 3, None),
    ("dead_letter_queue", 3, Some(30 * DAY_MS)),
];

/// The topic whose keys are spread by FNV-1a, as spec 004 asks.
const FNV_TOPIC: &str = "iot-sensor-data";

impl TopicSettings {
    fn new(name: &str, partitions: u32) -> Self {
        Self {
            name: name.to_owned(),
            partitions,
            partitions_named: false,
            retention_ms: None,
            retention_named: false,
            partitioner: if name == FNV_TOPIC { "fnv1a" } else { "murmur2" }.to_owned(),
            key_fields: Vec::new(),
        }
    }
}

impl Settings {
    /// Builds the settings; every value has been checked against its key when it was set.
    pub(crate) fn from_values(values: &Values) -> Outcome<Self> {
        let need = |name: &str| -> Outcome<String> {
            values.get(name).map(str::to_owned).ok_or_else(|| missing(name))
        };
        Ok(Self {
            data_dir: need("data_dir")?.into(),
            broker_listen: address(values, "broker.listen")?,
            broker_advertised: advertised(values)?,
            broker_journal_bytes_max: bytes(values, "broker.journal_bytes_max")?,
            broker_num_partitions: number(values, "broker.num_partitions")?,
            broker_auto_create_topics: values.flag("broker.auto_create_topics"),
            broker_durability: match values.get("broker.durability") {
                Some("relaxed") => Durability::Relaxed,
                _ => Durability::Strict,
            },
            broker_log_keys: values.log_keys(),
            broker_security: BrokerSecurity::from_values(values)?,
            insecure_listen: values.flag("broker.insecure_listen"),
            http_connections_max: number(values, "http.connections_max")?,
            gateway_listen: address(values, "gateway.listen")?,
            gateway_hosts: values.list("gateway.hosts"),
            body_bytes_max: bytes(values, "gateway.body_bytes_max")?,
            event_bytes_max: bytes(values, "gateway.event_bytes_max")?,
            events_per_request_max: number(values, "gateway.events_per_request_max")?,
            requests_max: number(values, "gateway.requests_max")?,
            request_bytes_max: bytes(values, "gateway.request_bytes_max")?,
            streams_max: number(values, "gateway.streams_max")?,
            stream_message_bytes_max: bytes(values, "gateway.stream_message_bytes_max")?,
            validation: match values.get("gateway.validation") {
                Some("warn") => Validation::Warn,
                _ => Validation::Strict,
            },
            console_listen: address(values, "console.listen")?,
            console_hosts: values.list("console.hosts"),
            console_clients_max: number(values, "console.clients_max")?,
            layers: Layers {
                fleet: values.flag("layers.fleet"),
                console: values.flag("layers.console"),
                demo: values.flag("layers.demo"),
            },
            traffic: traffic(values)?,
            priorities: ["urgent", "high", "normal", "low"]
                .map(|class| values.list(&format!("message_priorities.{class}"))),
            brokers: values.list("kafka.brokers"),
            kafka_security: KafkaSecurity::from_values(values)?,
            group_prefix: need("kafka.group_id")?,
            from_earliest: values.get("kafka.auto_offset_reset") == Some("earliest"),
            session_timeout_ms: duration(values, "kafka.session_timeout")?,
            commit_interval_ms: duration(values, "kafka.commit_interval")?,
            compression: need("kafka.compression_codec")?,
            routes: under(values, "routes.")
                .into_iter()
                .map(|(pattern, topic)| (pattern, shape::topic_of_alias(&topic).to_owned()))
                .collect(),
            topics: topics(values)?,
            trajectory_retention_ms: duration(values, "fleet.retention")?,
            zones_file: values.get("fleet.zones").map(PathBuf::from),
        })
    }
}

/// `traffic_control`. [`TrafficConfig::validate`] is left to who uses it.
fn traffic(values: &Values) -> Outcome<TrafficConfig> {
    Ok(TrafficConfig {
        buffer_size: number(values, "traffic_control.buffer_size")?,
        buffer_bytes_max: bytes(values, "traffic_control.buffer_bytes_max")?,
        batch_size: number(values, "traffic_control.batch_size")?,
        batch_bytes_max: bytes(values, "traffic_control.batch_bytes_max")?,
        flush_interval_ms: duration(values, "traffic_control.flush_interval")?,
        max_rate: values.count("traffic_control.max_rate"),
        rate_window_ms: duration(values, "traffic_control.rate_window")?,
        max_failures: number(values, "traffic_control.max_failures")?,
        circuit_timeout_ms: duration(values, "traffic_control.circuit_timeout")?,
        half_open_successes: number(values, "traffic_control.half_open_successes")?,
        wait_max_ms: duration(values, "traffic_control.wait_max")?,
        in_flight_max: number(values, "traffic_control.in_flight_max")?,
        send_timeout_ms: duration(values, "traffic_control.send_timeout")?,
        retry_backoff_ms: duration(values, "traffic_control.retry_backoff")?,
        aging_interval_ms: duration(values, "traffic_control.aging_interval")?,
    })
}

pub(super) fn missing(name: &str) -> UserError {
    UserError::new("WEIR-0803", format!("{name} is not set"))
}

pub(super) fn number<T: TryFrom<u64>>(values: &Values, name: &str) -> Outcome<T> {
    values.count(name).and_then(|n| T::try_from(n).ok()).ok_or_else(|| missing(name))
}

pub(super) fn bytes(values: &Values, name: &str) -> Outcome<usize> {
    values.bytes(name).and_then(|n| usize::try_from(n).ok()).ok_or_else(|| missing(name))
}

pub(super) fn duration(values: &Values, name: &str) -> Outcome<u64> {
    values.duration_ms(name).ok_or_else(|| missing(name))
}

fn address(values: &Values, name: &str) -> Outcome<SocketAddr> {
    let text = values.get(name).ok_or_else(|| missing(name))?;
    shape::address(text).ok_or_else(|| missing(name))
}

fn advertised(values: &Values) -> Outcome<Option<(String, u16)>> {
    let Some(text) = values.get("broker.advertised") else { return Ok(None) };
    shape::host_port(text).map(Some).map_err(|_| missing("broker.advertised"))
}

fn under(values: &Values, prefix: &str) -> Vec<(String, String)> {
    values
        .iter()
        .filter_map(|(name, value, _)| {
            Some((name.strip_prefix(prefix)?.to_owned(), value.to_owned()))
        })
        .collect()
}

fn topics(values: &Values) -> Outcome<Vec<TopicSettings>> {
    let mut topics: BTreeMap<String, TopicSettings> = TOPICS
        .iter()
        .map(|&(name, partitions, retention_ms)| {
            let topic = TopicSettings { retention_ms, ..TopicSettings::new(name, partitions) };
            (name.to_owned(), topic)
        })
        .collect();
    for (rest, value) in under(values, "topics.") {
        let Some((name, field)) = rest.rsplit_once('.') else { continue };
        let full = format!("topics.{rest}");
        let name = shape::topic_of_alias(name);
        let new = || TopicSettings::new(name, PARTITIONS);
        let topic = topics.entry(name.to_owned()).or_insert_with(new);
        match field {
            "partitions" => {
                topic.partitions = number(values, &full)?;
                topic.partitions_named = true;
            }
            "retention" => {
                topic.retention_ms = Some(duration(values, &full)?);
                topic.retention_named = true;
            }
            "key" => topic.key_fields = values.list(&full),
            _ => topic.partitioner = value,
        }
    }
    Ok(topics.into_values().collect())
}
