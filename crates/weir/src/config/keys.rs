//! Every key of `weir.yaml`, declared once.

use weir_client::spelling::edit_distance;

/// How a value is written and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text but an empty one.
    Text,
    /// Where to listen: `127.0.0.1:8084`.
    Address,
    /// `kafka-1:9092`.
    HostPort,
    /// A list of `host:port`.
    Brokers,
    /// Levels by module: `info,weir_broker=debug`.
    LogFilter,
    /// The name of a topic that weir may write to.
    Topic,
    /// One of the given words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// A whole number of at least the first and at most the second figure.
    Count(u64, u64),
    /// `50ms`, `10s`, `7d`; the figures bound it in milliseconds.
    Duration(u64, u64),
    /// `16MiB` or a plain number.
    Bytes(u64, u64),
    /// A list of texts, or one text with commas.
    List,
    /// As [`Kind::List`], with at least one text in it, and none that is empty.
    Fields,
    /// A list of the given words.
    Words(&'static [&'static str]),
    /// As [`Kind::Count`], or -1 for no limit.
    CountOrNone(u64, u64),
    /// As [`Kind::Duration`], or -1 for no limit.
    DurationOrNone(u64, u64),
    /// As [`Kind::Bytes`], or -1 for no limit.
    BytesOrNone(u64, u64),
    /// A number from 0 to 1.
    Ratio,
    /// A number from 0 to so many hundredths.
    RatioTo(u64),
    /// Bytes per second: a size, or a number above 0 as Java prints it.
    Rate,
}

impl Kind {
    /// Whether a YAML list may stand for it.
    pub(super) fn takes_list(self) -> bool {
        matches!(self, Self::List | Self::Brokers | Self::Fields | Self::Words(_))
    }

    /// How it is written, for those whose description does not say it.
    pub(super) fn example(self) -> Option<&'static str> {
        match self {
            Self::Address => Some("127.0.0.1:8084"),
            Self::HostPort => Some("edge-7.example.org:9092"),
            Self::Brokers => Some("kafka-1:9092,kafka-2:9092"),
            Self::LogFilter => Some("info,weir_broker=debug"),
            Self::Topic => Some("drone-events"),
            Self::Fields => Some("[pump_id, site_id]"),
            _ => None,
        }
    }
}

/// One key. `*` in a name stands for any one segment.
#[derive(Debug)]
pub(crate) struct Key {
    /// Dotted name, as nested in the YAML.
    pub(crate) name: &'static str,
    /// How it is written.
    pub(crate) kind: Kind,
    /// Its value when nothing is given; `None`: not set.
    pub(crate) default: Option<&'static str>,
    /// One line for people.
    pub(crate) doc: &'static str,
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, doc }
}

const HOUR_MS: u64 = 3_600_000;
const YEAR_MS: u64 = 365 * 24 * HOUR_MS;
const GIB: u64 = 1 << 30;
/// The largest numbers of Kafka's types `INT` and `LONG`.
const INT_MAX: u64 = i32::MAX as u64;
const LONG_MAX: u64 = i64::MAX as u64;
/// How the meaning of a key begins that is known and does nothing.
const NO_EFFECT: &str = "known, without effect: ";

/// The table. Names of `traffic_control`, `message_priorities` and `kafka` are those of the specification.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key("data_dir", Kind::Text, Some("./weir-data"), "where the log, trajectories and state live"),
    key("broker.listen", Kind::Address, Some("127.0.0.1:9092"), "address of the embedded Kafka broker"),
    key("broker.advertised", Kind::HostPort, None, "host:port told to clients; default: the address they connected to"),
    key("broker.journal_bytes_max", Kind::Bytes(1 << 20, 16 << 30), Some("64MiB"), "how large the commit journal of the embedded broker may grow"),
    key("broker.num_partitions", Kind::Count(1, 10_000), Some("4"), "partitions of a topic that a client creates by using it"),
    key("broker.auto_create_topics", Kind::Bool, Some("true"), "create a topic when a client first uses it"),
    key("broker.durability", Kind::OneOf(&["strict", "relaxed"]), Some("strict"), "strict: acks=all is on disk before the answer; relaxed: it may be lost in a power cut within milliseconds after it"),
    key("broker.listeners.*.listen", Kind::Address, None, "address of a further listener of the embedded broker"),
    key("broker.listeners.*.advertised", Kind::HostPort, None, "host:port told to its clients; default: the address they connected to"),
    key("broker.listeners.*.security_protocol", Kind::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), None, "what holds between it and its clients"),
    key("broker.listeners.*.sasl_mechanisms", Kind::Words(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), None, "how its clients log in, where security_protocol has SASL"),
    key("broker.listeners.*.ssl_certificate_file", Kind::Text, None, "PEM file of its certificate and those between it and its authority; read again when it changes"),
    key("broker.listeners.*.ssl_key_file", Kind::Text, None, "PEM file of its private key"),
    key("broker.listeners.*.ssl_client_ca_file", Kind::Text, None, "PEM file of the authorities that certificates of its clients come from"),
    key("broker.listeners.*.ssl_client_auth", Kind::OneOf(&["none", "requested", "required"]), None, "whether its clients are asked for a certificate; default none"),
    key("broker.users.*.password_file", Kind::Text, None, "file whose first line is the password of a user"),
    key("broker.users.*.password_env", Kind::Text, None, "variable that holds the password of a user"),
    key("broker.connections_max", Kind::Count(10, 1_000_000), Some("16384"), "connections at once, fewer if files are few (ulimit -n); beyond it idle ones make room"),
    key("broker.connections_per_ip_max", Kind::Count(1, 1_000_000), None, "connections of one address at once, loopback aside; default: no limit"),
    key("broker.connection_creation_rate_max", Kind::Count(1, INT_MAX), None, "new connections per second, beyond which they wait; not for broker.listen where there are broker.listeners; default: no limit"),
    key("broker.connections_max_idle", Kind::Duration(1_000, YEAR_MS), Some("10m"), "after which an idle connection is closed"),
    key("broker.connections_max_reauth", Kind::Duration(1_000, YEAR_MS), None, "how long a login holds before a client must renew it; default: as long as its connection"),
    key("broker.authentication_timeout", Kind::Duration(100, HOUR_MS), Some("10s"), "how long a client may take for TLS and its login"),
    key("broker.failed_authentication_delay", Kind::Duration(0, 60_000), Some("100ms"), "how long the answer to a failed login waits"),
    key("broker.request_bytes_max", Kind::Bytes(1 << 20, INT_MAX), Some("100MiB"), "largest request of a client; 64KiB before its login"),
    key("broker.request_bytes_total_max", Kind::Bytes(1 << 20, 64 * GIB), Some("256MiB"), "memory for all requests that are being read"),
    key("broker.insecure_listen", Kind::Bool, Some("false"), "allow addresses other than loopback without authentication"),
    key("group.consumer.heartbeat.interval.ms", Kind::Duration(1, INT_MAX), None, "how often members of consumer groups (KIP-848) are heard; default 5s"),
    key("group.consumer.min.heartbeat.interval.ms", Kind::Duration(1, INT_MAX), None, "the least that this, and consumer.heartbeat.interval.ms of a group, may be; default 5s"),
    key("group.consumer.max.heartbeat.interval.ms", Kind::Duration(1, INT_MAX), None, "the most they may be; default 15s"),
    key("group.consumer.session.timeout.ms", Kind::Duration(1, INT_MAX), None, "without a heartbeat for so long, such a member is out; default 45s"),
    key("group.consumer.min.session.timeout.ms", Kind::Duration(1, INT_MAX), None, "the least that this, and consumer.session.timeout.ms of a group, may be; default 45s"),
    key("group.consumer.max.session.timeout.ms", Kind::Duration(1, INT_MAX), None, "the most they may be; default 60s"),
    key("group.consumer.max.size", Kind::Count(1, INT_MAX), None, "members of a consumer group; default 1000"),
    key("group.consumer.assignors", Kind::Words(&["uniform", "range"]), None, "assignors of consumer groups, the first for those that name none; default uniform, range"),
    key("group.consumer.migration.policy", Kind::OneOf(&["bidirectional", "upgrade", "downgrade", "disabled"]), None, "whether groups with members move between the classic and the consumer protocol; default bidirectional"),
    key("group.initial.rebalance.delay.ms", Kind::Duration(0, INT_MAX), None, "how long the first rebalance of a classic group waits for more members; default 0"),
    key("group.min.session.timeout.ms", Kind::Duration(0, INT_MAX), None, "the shortest session a member of a classic group may ask for; default 3s"),
    key("group.max.session.timeout.ms", Kind::Duration(0, INT_MAX), None, "the longest session a member of a classic group may ask for; default 30m"),
    key("group.max.size", Kind::Count(1, INT_MAX), None, "members of a classic group; default 1000"),
    key("log.cleanup.policy", Kind::Words(&["delete", "compact"]), None, "what topics without cleanup.policy do with old records: delete, compact or both; default delete"),
    key("log.retention.ms", Kind::DurationOrNone(1, LONG_MAX), None, "how long topics without retention.ms keep records, -1: for ever; default 7d"),
    key("log.retention.minutes", Kind::CountOrNone(1, INT_MAX), None, "as log.retention.ms, in minutes; not looked at beside it"),
    key("log.retention.hours", Kind::CountOrNone(1, INT_MAX), None, "as log.retention.ms, in hours; not looked at beside it or minutes"),
    key("log.retention.bytes", Kind::BytesOrNone(0, LONG_MAX), None, "bytes that a partition keeps in topics without retention.bytes; default -1, no limit"),
    key("log.retention.check.interval.ms", Kind::Duration(1, LONG_MAX), None, "how often old segments are looked for; default 5m"),
    key("log.segment.bytes", Kind::Bytes(1 << 20, INT_MAX), None, "size of a segment in topics without segment.bytes; default 1GiB"),
    key("log.segment.delete.delay.ms", Kind::Duration(0, LONG_MAX), None, "how long a deleted file stays for its readers; default 60s"),
    key("log.roll.ms", Kind::Duration(1, LONG_MAX), None, "age at which a segment is closed in topics without segment.ms; default 7d"),
    key("log.roll.hours", Kind::Count(1, INT_MAX), None, "as log.roll.ms, in hours; not looked at beside it"),
    key("log.roll.jitter.ms", Kind::Duration(0, LONG_MAX), None, "up to so much is taken off log.roll.ms, by partition; default 0"),
    key("log.roll.jitter.hours", Kind::Count(0, INT_MAX), None, "as log.roll.jitter.ms, in hours; not looked at beside it"),
    key("log.index.interval.bytes", Kind::Bytes(0, INT_MAX), None, "bytes of log for one entry of an index; default 4096"),
    key("log.index.size.max.bytes", Kind::Bytes(4, INT_MAX), None, "size of an index that closes its segment; default 10MiB"),
    key("log.message.timestamp.type", Kind::OneOf(&["CreateTime", "LogAppendTime"]), None, "whose time a record has: its producer's or the broker's; default CreateTime"),
    key("log.message.timestamp.before.max.ms", Kind::Duration(0, LONG_MAX), None, "how far in the past a record's time may lie; default no limit"),
    key("log.message.timestamp.after.max.ms", Kind::Duration(0, LONG_MAX), None, "how far in the future a record's time may lie; default 1h"),
    key("log.cleaner.enable", Kind::Bool, None, "whether compacted topics are compacted; default true"),
    key("log.cleaner.backoff.ms", Kind::Duration(0, LONG_MAX), None, "pause of the cleaner when nothing is due; default 15s"),
    key("log.cleaner.dedupe.buffer.size", Kind::Bytes(1 << 20, LONG_MAX), None, "memory for the keys of the log that is being cleaned; default 128MiB"),
    key("log.cleaner.io.max.bytes.per.second", Kind::Rate, None, "bytes that the cleaner reads and writes per second; default no limit"),
    key("log.cleaner.min.cleanable.ratio", Kind::Ratio, None, "share of dirty bytes that lets a log be cleaned, 0 to 1; default 0.5"),
    key("log.cleaner.min.dirty.ratio", Kind::Ratio, None, "the specification's name of log.cleaner.min.cleanable.ratio, which counts if both are given"),
    key("log.cleaner.min.compaction.lag.ms", Kind::Duration(0, LONG_MAX), None, "how long a record stays uncompacted at least; default 0"),
    key("log.cleaner.max.compaction.lag.ms", Kind::Duration(1, LONG_MAX), None, "how long a record stays uncompacted at most; default no limit"),
    key("log.cleaner.delete.retention.ms", Kind::Duration(0, LONG_MAX), None, "how long a compacted log keeps the mark of a deleted key; default 24h"),
    key("log.cleaner.threads", Kind::Count(1, INT_MAX), None, "known, without effect: there is one cleaner"),
    key("log.cleaner.io.buffer.size", Kind::Bytes(0, INT_MAX), None, "known, without effect: the cleaner's buffers have the size they need"),
    key("log.cleaner.io.buffer.load.factor", Kind::Ratio, None, "known, without effect: the cleaner's table of keys grows as it needs"),
    key("log.flush.interval.messages", Kind::Count(1, LONG_MAX), None, "known, without effect: broker.durability says when records are on disk"),
    key("log.flush.interval.ms", Kind::Duration(0, LONG_MAX), None, "known, without effect: broker.durability says when records are on disk"),
    key("log.flush.scheduler.interval.ms", Kind::Duration(0, LONG_MAX), None, "known, without effect: broker.durability says when records are on disk"),
    key("log.preallocate", Kind::Bool, None, "known, without effect: segments grow as they are written"),
    key("http.connections_max", Kind::Count(1, 1_000_000), Some("8192"), "connections to gateway and console at once; more are refused with 503; at most a quarter of the open files allowed"),
    key("gateway.listen", Kind::Address, Some("127.0.0.1:8084"), "address of the HTTP and WebSocket gateway"),
    key("gateway.hosts", Kind::List, None, "host names the gateway answers to, beside localhost and addresses; unset on an address open to other machines: any"),
    key("gateway.body_bytes_max", Kind::Bytes(1024, GIB), Some("8MiB"), "largest request body"),
    key("gateway.event_bytes_max", Kind::Bytes(128, 1_000_000), Some("1000000"), "largest single event"),
    key("gateway.events_per_request_max", Kind::Count(1, 1_000_000), Some("10000"), "most events in one request"),
    key("gateway.requests_max", Kind::Count(1, 100_000), Some("1024"), "requests handled at once; more are refused with 503"),
    key("gateway.request_bytes_max", Kind::Bytes(1024, 64 * GIB), Some("256MiB"), "bytes of all bodies handled at once; more are refused with 503; as much again for messages of streams, and for answers"),
    key("gateway.streams_max", Kind::Count(1, 1_000_000), Some("4096"), "WebSocket connections at once; fewer if request_bytes_max has no room for a message of each"),
    key("gateway.stream_message_bytes_max", Kind::Bytes(128, GIB), Some("64KiB"), "largest WebSocket message"),
    key("gateway.validation", Kind::OneOf(&["strict", "warn"]), Some("strict"), "whether a field that breaks its schema is refused or only logged"),
    key("console.listen", Kind::Address, Some("127.0.0.1:8090"), "address of the web console"),
    key("console.hosts", Kind::List, None, "host names the console answers to, beside localhost and addresses"),
    key("console.clients_max", Kind::Count(1, 100_000), Some("64"), "browsers connected at once"),
    key("layers.fleet", Kind::Bool, Some("true"), "live positions, zones, trajectories, alerts, tasks"),
    key("layers.console", Kind::Bool, Some("true"), "the web console"),
    key("layers.demo", Kind::Bool, Some("false"), "a simulated fleet; the same as --demo"),
    key("traffic_control.buffer_size", Kind::Count(1, 10_000_000), Some("10000"), "events a lane holds at most"),
    key("traffic_control.buffer_bytes_max", Kind::Bytes(1024, 64 * GIB), Some("64MiB"), "bytes a lane holds at most"),
    key("traffic_control.batch_size", Kind::Count(1, 100_000), Some("100"), "events sent together at most"),
    key("traffic_control.flush_interval", Kind::Duration(1, 60_000), Some("50ms"), "longest wait for a batch to fill"),
    key("traffic_control.max_rate", Kind::Count(1, 1_000_000_000), None, "events per rate_window; default: no limit, Kafka sets the pace"),
    key("traffic_control.rate_window", Kind::Duration(1, HOUR_MS), Some("1s"), "the window of max_rate"),
    key("traffic_control.max_failures", Kind::Count(1, 1_000_000), Some("5"), "consecutive failures that open the breaker"),
    key("traffic_control.circuit_timeout", Kind::Duration(1, HOUR_MS), Some("10s"), "how long the breaker stays open"),
    key("traffic_control.half_open_successes", Kind::Count(1, 1_000), Some("3"), "probes that must succeed to close the breaker"),
    key("traffic_control.wait_max", Kind::Duration(1, HOUR_MS), Some("10s"), "longest wait in a lane while Kafka is away"),
    key("traffic_control.batch_bytes_max", Kind::Bytes(1024, GIB), Some("1MiB"), "bytes sent together at most; one event is always sent"),
    key("traffic_control.in_flight_max", Kind::Count(1, 1_000), Some("5"), "batches on their way at once; urgent ones have as many for themselves"),
    key("traffic_control.send_timeout", Kind::Duration(1, HOUR_MS), Some("5s"), "a batch unanswered for so long counts as a failure for the breaker"),
    key("traffic_control.retry_backoff", Kind::Duration(1, 60_000), Some("100ms"), "first wait after a failed batch; doubles, up to ten times itself"),
    key("traffic_control.aging_interval", Kind::Duration(1, HOUR_MS), Some("1s"), "an event that waited so long moves its lane up one class"),
    key("message_priorities.urgent", Kind::List, Some("emergency_landing,collision_alert"), "event types that overtake everything"),
    key("message_priorities.high", Kind::List, Some("low_battery_alert,signal_lost_alert"), "event types handled first"),
    key("message_priorities.normal", Kind::List, Some("heartbeat,status_update"), "event types handled in batches"),
    key("message_priorities.low", Kind::List, Some("log_data,statistics"), "event types that may wait"),
    key("kafka.brokers", Kind::Brokers, None, "a real cluster; without it weir runs its own broker"),
    key("kafka.group_id", Kind::Text, Some("drone-control-system"), "prefix of weir's consumer groups"),
    key("kafka.auto_offset_reset", Kind::OneOf(&["earliest", "latest"]), Some("earliest"), "where a new group starts"),
    key("kafka.session_timeout", Kind::Duration(6_000, HOUR_MS), Some("10s"), "after which a silent group member is out"),
    key("kafka.commit_interval", Kind::Duration(1, HOUR_MS), Some("1s"), "how often positions are committed"),
    key("kafka.compression_codec", Kind::OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]), Some("none"), "compression of what weir produces"),
    key("kafka.security_protocol", Kind::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), Some("PLAINTEXT"), "what holds between weir and the cluster"),
    key("kafka.sasl_mechanism", Kind::OneOf(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), Some("SCRAM-SHA-512"), "how weir logs in at the cluster, where security_protocol has SASL"),
    key("kafka.sasl_username", Kind::Text, None, "who weir is at the cluster"),
    key("kafka.sasl_password_file", Kind::Text, None, "file whose first line is weir's password at the cluster"),
    key("kafka.sasl_password_env", Kind::Text, None, "variable that holds weir's password at the cluster"),
    key("kafka.ssl_ca_file", Kind::Text, None, "PEM file of the authorities that the cluster's certificates come from; default: those of the system"),
    key("kafka.ssl_certificate_file", Kind::Text, None, "PEM file of weir's own certificate, for a cluster that asks for one"),
    key("kafka.ssl_key_file", Kind::Text, None, "PEM file of its private key"),
    key("kafka_producer.brokers", Kind::Brokers, None, "where weir sim sends to; default: the Kafka that weir up uses here"),
    key("kafka_producer.topic", Kind::Topic, Some("iot-sensor-data"), "topic of simulated readings"),
    key("kafka_producer.client_id", Kind::Text, Some("weir-sim"), "what weir sim calls itself at the brokers"),
    key("kafka_producer.batch_size", Kind::Count(1, 1_000_000), Some("2000"), "records that weir sim hands to its producer at once"),
    key("kafka_producer.batch_timeout", Kind::Duration(1, HOUR_MS), Some("5ms"), "longest wait for a batch to fill"),
    key("kafka_producer.compression", Kind::OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]), Some("none"), "compression of simulated readings"),
    key("kafka_producer.max_retries", Kind::Count(0, 10), None, "sends after the first; default: until the delivery times out after 2 minutes"),
    key("kafka_producer.retry_backoff", Kind::Duration(1, HOUR_MS), Some("50ms"), "first wait before a batch is sent again; doubles"),
    key("kafka_producer.required_acks", Kind::OneOf(&["-1", "0", "1"]), Some("-1"), "-1: all in-sync replicas, idempotent; 1: the leader; 0: no answer"),
    key("kafka_producer.flush_frequency", Kind::Duration(1, HOUR_MS), None, "as batch_timeout; the shorter of the two counts"),
    key("kafka_producer.channel_buffer_size", Kind::Count(1, INT_MAX), None, "records that wait for their answer at most; default: device_simulation.queue_buffer_size"),
    key("device_simulation.device_count", Kind::Count(1, 100_000), Some("100"), "simulated devices"),
    key("device_simulation.sample_interval", Kind::Duration(100, YEAR_MS), Some("5s"), "how often a device reads its sensors"),
    key("device_simulation.data_variation", Kind::Ratio, Some("1"), "how much of the specified deviation sensors have; 0: all readings are the mean"),
    key("device_simulation.anomaly_rate", Kind::RatioTo(10), Some("0.001"), "chance of a healthy reading that an anomaly begins with it"),
    key("device_simulation.trend_enabled", Kind::Bool, Some("true"), "day and night, season, weather, use and load"),
    key("device_simulation.trend_strength", Kind::Ratio, Some("0.3"), "trends make the square of it of the variance"),
    key("device_simulation.worker_pool_size", Kind::Count(1, 1_000), None, "threads that make records; default: one for two processors"),
    key("device_simulation.queue_buffer_size", Kind::Count(100, INT_MAX), Some("100000"), "records that wait for their answer at most"),
    key("backpressure.max_queue_size", Kind::Count(1, INT_MAX), None, "records in the queue that backpressure calls full; default: as many as may wait"),
    key("backpressure.drop_rate", Kind::Ratio, Some("0"), "chance of a simulated record to be dropped while the queue is over four fifths full"),
    key("backpressure.throttle_rate", Kind::Ratio, Some("0"), "how much weir sim slows down then; 1: a rest of 20ms after each batch"),
    key("routes.*", Kind::Topic, None, "event type or prefix (drone.*) to topic; added to the built-in table"),
    key("topics.*.partitions", Kind::Count(1, 100_000), None, "partitions of a topic that weir creates; one that is there keeps its own"),
    key("topics.*.retention", Kind::Duration(1, 100 * YEAR_MS), None, "how long its records are kept; set at each start, on a topic that is there too"),
    key("topics.*.partitioner", Kind::OneOf(&["murmur2", "fnv1a", "crc32", "round_robin", "sticky"]), None, "how keys become partitions"),
    key("topics.*.key", Kind::Fields, None, "fields of data of which the first there is becomes the record key; else source"),
    key("fleet.retention", Kind::Duration(60_000, 100 * YEAR_MS), Some("30d"), "how long trajectories are kept from when weir took a point, whatever its device says"),
    key("fleet.zones", Kind::Text, None, "GeoJSON file of no-fly zones"),
    key("logging.level", Kind::LogFilter, Some("info"), "error, warn, info, debug, or a filter such as info,weir_broker=debug; warn on a terminal unless set"),
    key("logging.format", Kind::OneOf(&["auto", "text", "json"]), Some("auto"), "auto: text on a terminal, JSON elsewhere"),
    key("logging.file", Kind::Text, None, "write the log there instead of stderr"),
    key("logging.file_bytes_max", Kind::Bytes(4096, 64 * GIB), Some("64MiB"), "size at which the log file is rotated"),
    key("logging.files_max", Kind::Count(1, 1_000), Some("5"), "rotated log files kept"),
];

/// The declaration that a dotted name falls under.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| matches(key.name, name))
}

/// One line for people on a key; empty for one that is not declared.
pub(crate) fn meaning(name: &str) -> &'static str {
    find(name).map_or("", |key| key.doc)
}

/// Why a known key does nothing, if it does nothing.
pub(super) fn without_effect(name: &str) -> Option<&'static str> {
    meaning(name).strip_prefix(NO_EFFECT)
}

/// Whether `name` is written by `pattern`, in which `*` stands for one segment; in a last
/// position it takes the rest, so that an event type with dots can be a key.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, "")) => name.strip_prefix(head).is_some_and(|rest| !rest.is_empty()),
        Some((head, tail)) => name
            .strip_prefix(head)
            .and_then(|rest| rest.strip_suffix(tail))
            .is_some_and(|middle| !middle.is_empty()),
    }
}

/// A few of the keys under `section`; empty: there is no such section.
pub(super) fn under(section: &str) -> Vec<&'static str> {
    let inside = |key: &&Key| key.name.strip_prefix(section).is_some_and(|r| r.starts_with('.'));
    KEYS.iter().filter(inside).map(|key| key.name).take(3).collect()
}

/// The known name nearest to a misspelt one, if any is near enough to be meant.
pub(super) fn suggest(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| (edit_distance(name, key.name), key.name))
        .min()
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 4))
        .map(|(_, known)| known)
}
