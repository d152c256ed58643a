//! [`BrokerConfig`]: what a broker is told at the start, with Kafka's defaults where Kafka has one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use weir_log::RecoveryWatch;

use crate::consumer_group::{Assignor, MigrationPolicy};
use crate::error::BrokerError;
use crate::security::{ConfiguredUser, ListenerConfig};
use crate::topic_defaults::TopicDefaults;

/// Partitions of `__consumer_offsets`. Part of the format: a group's records lie in partition
/// `abs(hash(group)) % 50`, so it cannot change once there is data.
pub const OFFSETS_PARTITIONS: i32 = 50;

/// Partitions of `__transaction_state` (`transaction.state.log.num.partitions`). Part of the format, as above.
pub const TRANSACTIONS_PARTITIONS: i32 = 50;

/// Producer ids taken from disk at once, as Kafka's `ProducerIdsBlock`.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;

/// When acks=all is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on disk.
    #[default]
    Strict,
    /// As acks=1: once it is in the file. A power cut takes back at most what was answered in the last
    /// [`BrokerConfig::sync_lag_ms_max`] and the sync after it. Committed offsets stay strict, and so does what
    /// readers see.
    Relaxed,
}

/// A topic that is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownTopic {
    /// How many partitions it has.
    pub partitions: i32,
    /// Its own configuration, as Kafka names it.
    pub configs: BTreeMap<String, String>,
}

/// What a broker is told at the start.
///
/// Fields that Kafka has under another name say so. Limits end in `_max`.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Where the logs lie.
    pub data_dir: PathBuf,
    /// Where to listen. Port 0 takes any.
    pub listen: SocketAddr,
    /// The address that clients are told to come back to; `None`: the one they came to.
    pub advertised: Option<(String, u16)>,
    /// Listeners beside `listen`, which has no security of its own: weir's own clients come there.
    pub listeners: Vec<ListenerConfig>,
    /// Who may log in, beside the users that clients make (KIP-554).
    pub users: Vec<ConfiguredUser>,
    /// Allows an address that others than this machine can reach, though nobody is asked who they are.
    pub insecure_listen: bool,
    /// `connections.max.reauth.ms`: how long a login holds; `None`: as long as its connection.
    pub session_ms_max: Option<u64>,
    /// How long a client may take for TLS and its login together.
    pub authentication_ms_max: u64,
    /// `connection.failed.authentication.delay.ms`: how long the answer to a failed login waits.
    pub failed_authentication_delay_ms: u64,
    /// `sasl.server.max.receive.size`: the largest request before a login. Kafka says 512 KiB, for the tickets of GSSAPI;
    /// what is asked here has at most some kilobytes.
    pub unauthenticated_request_bytes_max: usize,
    /// The id of the cluster; `None`: the one in the data directory, or a new one.
    pub cluster_id: Option<String>,
    /// `num.partitions`: partitions of a topic that is created without a number.
    pub num_partitions: i32,
    /// `auto.create.topics.enable`
    pub auto_create_topics: bool,
    /// What topics of these names are like when they come of themselves; the others have the defaults.
    pub known_topics: BTreeMap<String, KnownTopic>,
    /// Partitions of all topics together.
    pub partitions_max: usize,
    /// `socket.request.max.bytes`
    pub request_bytes_max: usize,
    /// Memory that requests being read and handled may take together.
    pub request_bytes_total_max: usize,
    /// Memory that the decoded form of one request may take beside its bytes.
    pub request_heap_bytes_max: usize,
    /// Answers that one connection may wait for. Then nothing more is read from it.
    pub answers_waiting_max: usize,
    /// Memory that answers of one connection may take while they wait to be written, and requests while they wait for
    /// their answers. Then nothing more is read from it; one answer alone may be larger.
    pub answer_bytes_waiting_max: usize,
    /// Memory that answers of all connections may take while they wait to be written, small ones aside. Beyond it nothing
    /// more is made that may be large, and who takes its answers too slowly is closed.
    pub answer_bytes_waiting_total_max: usize,
    /// `max.connections`; fewer where the limit of open files says so. Beyond it, connections that do nothing make room for
    /// new ones.
    ///
    /// Kafka has no limit of its own. Here it bounds memory; `scripts/idle.py` prints what 10,000 idle ones take.
    pub connections_max: usize,
    /// `max.connections.per.ip`, and as there no limit unless one is set. It does not count for loopback addresses: weir's
    /// own worker, gateway and console come from there, and so does everybody behind a local proxy.
    pub connections_per_ip_max: Option<usize>,
    /// `max.connections.per.ip.overrides`: other limits of single addresses, loopback too.
    pub connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// `max.connection.creation.rate`: new connections in a second, and as there no limit unless one is set. What would have
    /// come in ten seconds may come at once; beyond it they wait. Where there are further listeners it does not count for
    /// `listen`, as in Kafka for the brokers' own.
    pub connection_creation_rate_max: Option<u32>,
    /// Connections that the rest of the process may hold, for which files are left: a quarter of all at most.
    pub other_connections_max: usize,
    /// `connections.max.idle.ms`
    pub connection_idle_ms_max: u64,
    /// The longest pause inside one request.
    pub request_stall_ms_max: u64,
    /// How long a request may take from its first byte to its last: a client that sends a byte now and then never stalls.
    /// Clients give up after 30 s, unless they are told otherwise.
    pub request_read_ms_max: u64,
    /// `fetch.max.bytes`
    pub fetch_bytes_max: usize,
    /// The longest wait of a fetch, whatever it asks for.
    pub fetch_wait_ms_max: i32,
    /// `max.incremental.fetch.session.cache.slots`
    pub fetch_session_slots_max: usize,
    /// Partitions of all fetch sessions together. One takes some 200 bytes.
    pub fetch_session_partitions_max: usize,
    /// `max.request.partition.size.limit`, for every request that names partitions.
    pub request_partitions_max: usize,
    /// Topics, groups or resources that one request may name, where an answer says more of each than the request did.
    pub request_names_max: usize,
    /// When acks=all is answered.
    pub durability: Durability,
    /// How long an append of acks=1 may wait for its sync, and so to be seen by readers.
    pub sync_lag_ms_max: u64,
    /// `group.initial.rebalance.delay.ms`. Kafka says 3,000; here 0, as on its quick start.
    pub group_initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`
    pub group_session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub group_session_timeout_ms_max: i32,
    /// `group.max.size`
    pub group_members_max: usize,
    /// `group.consumer.heartbeat.interval.ms`
    pub group_consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.session.timeout.ms`
    pub group_consumer_session_timeout_ms: i32,
    /// `group.consumer.min.heartbeat.interval.ms` and `group.consumer.max.heartbeat.interval.ms`: what a group may be given
    /// of its own.
    pub group_consumer_heartbeat_interval_ms_bounds: RangeInclusive<i32>,
    /// `group.consumer.min.session.timeout.ms` and `group.consumer.max.session.timeout.ms`
    pub group_consumer_session_timeout_ms_bounds: RangeInclusive<i32>,
    /// `group.consumer.max.size`
    pub group_consumer_members_max: usize,
    /// `group.consumer.assignors`; the first is for groups whose members name none.
    pub group_consumer_assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`
    pub group_consumer_migration_policy: MigrationPolicy,
    /// Groups at once.
    pub groups_max: usize,
    /// Memory that one group may take: what its members say of themselves, by all their protocols, and their assignments.
    pub group_metadata_bytes_max: usize,
    /// Memory that all groups may take together.
    pub groups_metadata_bytes_max: usize,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention_minutes: i64,
    /// `transaction.max.timeout.ms`
    pub transaction_timeout_ms_max: i32,
    /// `transactional.id.expiration.ms`
    pub transactional_id_expiration_ms: i64,
    /// Transactional ids at once.
    pub transactional_ids_max: usize,
    /// Idempotent producers that one partition remembers, beside those with an open transaction. Beyond it those that have
    /// been silent for longest are forgotten, before `producer.id.expiration.ms`. One takes some 270 bytes.
    pub producers_per_partition_max: usize,
    /// Idempotent producers of all partitions together. Beyond it a partition that has many forgets one for each new one.
    pub producers_max: usize,
    /// `log.retention.check.interval.ms`
    pub retention_check_interval_ms: i64,
    /// How large the commit journal may grow; at least 1 MiB.
    pub journal_bytes_max: u64,
    /// Longest inflated form of a batch, where records must be looked at.
    pub inflate_bytes_max: usize,
    /// `log.cleaner.enable`
    pub cleaner_enabled: bool,
    /// `log.cleaner.backoff.ms`
    pub cleaner_backoff_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`
    pub cleaner_dedupe_buffer_bytes_max: u64,
    /// `log.cleaner.io.max.bytes.per.second`, read and written together; `None`: as fast as the disk.
    pub cleaner_io_bytes_per_second_max: Option<u64>,
    /// `log.retention.ms` and the like: what holds for topics that do not say it themselves.
    pub topic_defaults: TopicDefaults,
    /// Who is told how far a recovery is at the start; by default it is logged.
    pub recovery_watch: RecoveryWatch,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9092),
            advertised: None,
            listeners: Vec::new(),
            users: Vec::new(),
            insecure_listen: false,
            session_ms_max: None,
            authentication_ms_max: 10_000,
            failed_authentication_delay_ms: 100,
            unauthenticated_request_bytes_max: 64 << 10,
            cluster_id: None,
            num_partitions: 4,
            auto_create_topics: true,
            known_topics: BTreeMap::new(),
            partitions_max: 20_000,
            request_bytes_max: 100 << 20,
            request_bytes_total_max: 256 << 20,
            request_heap_bytes_max: 64 << 20,
            answers_waiting_max: 1_000,
            answer_bytes_waiting_max: 16 << 20,
            answer_bytes_waiting_total_max: 256 << 20,
            connections_max: 16_384,
            connections_per_ip_max: None,
            connections_per_ip_overrides: BTreeMap::new(),
            connection_creation_rate_max: None,
            other_connections_max: 0,
            connection_idle_ms_max: 600_000,
            request_stall_ms_max: 30_000,
            request_read_ms_max: 120_000,
            fetch_bytes_max: 57_671_680,
            fetch_wait_ms_max: 300_000,
            fetch_session_slots_max: 1_000,
            fetch_session_partitions_max: 100_000,
            request_partitions_max: 20_000,
            request_names_max: 20_000,
            durability: Durability::Strict,
            sync_lag_ms_max: 5,
            group_initial_rebalance_delay_ms: 0,
            group_session_timeout_ms_min: 3_000,
            group_session_timeout_ms_max: 1_800_000,
            group_members_max: 1_000,
            group_consumer_heartbeat_interval_ms: 5_000,
            group_consumer_session_timeout_ms: 45_000,
            group_consumer_heartbeat_interval_ms_bounds: 5_000..=15_000,
            group_consumer_session_timeout_ms_bounds: 45_000..=60_000,
            group_consumer_members_max: 1_000,
            group_consumer_assignors: vec![Assignor::Uniform, Assignor::Range],
            group_consumer_migration_policy: MigrationPolicy::Bidirectional,
            groups_max: 100_000,
            group_metadata_bytes_max: 16 << 20,
            groups_metadata_bytes_max: 256 << 20,
            offset_metadata_bytes_max: 4_096,
            offsets_retention_minutes: 10_080,
            transaction_timeout_ms_max: 900_000,
            transactional_id_expiration_ms: 604_800_000,
            transactional_ids_max: 100_000,
            producers_per_partition_max: 50_000,
            producers_max: 500_000,
            retention_check_interval_ms: 300_000,
            journal_bytes_max: 64 << 20,
            inflate_bytes_max: 64 << 20,
            cleaner_enabled: true,
            cleaner_backoff_ms: 15_000,
            cleaner_dedupe_buffer_bytes_max: 128 << 20,
            cleaner_io_bytes_per_second_max: None,
            topic_defaults: TopicDefaults::default(),
            recovery_watch: RecoveryWatch::default(),
        }
    }
}

impl BrokerConfig {
    /// Sets one of Kafka's `log.*` keys: the cleaner's, `log.retention.check.interval.ms`, and defaults of topics
    /// ([`TopicDefaults::set`]). Returns whether `key` is one.
    ///
    /// # Errors
    /// [`BrokerError::Config`]; nothing is changed then.
    pub fn set_log_key(&mut self, key: &str, value: &str) -> Result<bool, BrokerError> {
        if key == "log.retention.check.interval.ms" {
            let ms = value.trim().parse().ok().filter(|ms| *ms > 0);
            let expected = "a whole number above 0";
            self.retention_check_interval_ms =
                ms.ok_or_else(|| bad("log.retention.check.interval.ms", value, expected))?;
            return Ok(true);
        }
        Ok(self.set_cleaner_key(key, value)? || self.topic_defaults.set(key, value)?)
    }

    /// Sets one of Kafka's `log.cleaner.*` keys that are the broker's. Returns whether `key` is one;
    /// those that are a topic's default (`log.cleaner.min.cleanable.ratio` and the like) are not.
    ///
    /// There is one cleaner, so `log.cleaner.threads` may say any number, and its buffers have the size
    /// they need.
    ///
    /// # Errors
    /// [`BrokerError::Config`]; nothing is changed then.
    pub fn set_cleaner_key(&mut self, key: &str, value: &str) -> Result<bool, BrokerError> {
        let value = value.trim();
        let number = |key: &'static str, min: i64| match value.parse::<i64>() {
            Ok(number) if number >= min => Ok(number),
            _ => Err(bad(key, value, "a whole number that is large enough")),
        };
        let ratio = |key: &'static str| match value.parse::<f64>() {
            Ok(number) if number > 0.0 => Ok(number),
            _ => Err(bad(key, value, "a number above 0")),
        };
        match key {
            "log.cleaner.enable" => {
                self.cleaner_enabled = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(bad("log.cleaner.enable", value, "true or false")),
                };
            }
            "log.cleaner.backoff.ms" => {
                self.cleaner_backoff_ms = number("log.cleaner.backoff.ms", 0)?;
            }
            "log.cleaner.dedupe.buffer.size" => {
                let bytes = number("log.cleaner.dedupe.buffer.size", DEDUPE_BUFFER_BYTES_MIN)?;
                self.cleaner_dedupe_buffer_bytes_max = bytes.unsigned_abs();
            }
            "log.cleaner.io.max.bytes.per.second" => {
                let rate = ratio("log.cleaner.io.max.bytes.per.second")?;
                // Kafka's default is the largest double: no limit. A cast saturates.
                self.cleaner_io_bytes_per_second_max =
                    (rate < u64::MAX as f64).then_some((rate as u64).max(1));
            }
            "log.cleaner.threads" => {
                number("log.cleaner.threads", 1)?;
            }
            "log.cleaner.io.buffer.size" => {
                number("log.cleaner.io.buffer.size", 0)?;
            }
            "log.cleaner.io.buffer.load.factor" => {
                ratio("log.cleaner.io.buffer.load.factor")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Room for the keys of one batch, whatever its size: Kafka wants a mebibyte for each thread too.
const DEDUPE_BUFFER_BYTES_MIN: i64 = 1 << 20;

pub(crate) fn bad(key: &'static str, value: &str, expected: &'static str) -> BrokerError {
    BrokerError::Config { key, value: value.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cleaners_keys_are_those_of_kafka() {
        let mut config = BrokerConfig::default();
        for (key, value) in [
            ("log.cleaner.enable", "false"),
            ("log.cleaner.backoff.ms", "5000"),
            ("log.cleaner.dedupe.buffer.size", "2097152"),
            ("log.cleaner.io.max.bytes.per.second", "1.5e6"),
            ("log.cleaner.threads", "4"),
            ("log.cleaner.io.buffer.size", "524288"),
            ("log.cleaner.io.buffer.load.factor", "0.9"),
        ] {
            assert!(config.set_cleaner_key(key, value).unwrap(), "{key}");
        }
        assert!(!config.cleaner_enabled);
        assert_eq!(config.cleaner_backoff_ms, 5_000);
        assert_eq!(config.cleaner_dedupe_buffer_bytes_max, 2 << 20);
        assert_eq!(config.cleaner_io_bytes_per_second_max, Some(1_500_000));
        let no_limit = "1.7976931348623157E308";
        config.set_cleaner_key("log.cleaner.io.max.bytes.per.second", no_limit).unwrap();
        assert_eq!(config.cleaner_io_bytes_per_second_max, None);
        assert!(!config.set_cleaner_key("log.retention.ms", "1").unwrap());
    }

    #[test]
    fn values_the_cleaner_cannot_have_are_refused_and_change_nothing() {
        for (key, value) in [
            ("log.cleaner.enable", "yes"),
            ("log.cleaner.backoff.ms", "-1"),
            ("log.cleaner.dedupe.buffer.size", "1000"),
            ("log.cleaner.io.max.bytes.per.second", "0"),
            ("log.cleaner.io.max.bytes.per.second", "NaN"),
            ("log.cleaner.threads", "0"),
        ] {
            let mut config = BrokerConfig::default();
            let before = format!("{config:?}");
            let error = config.set_cleaner_key(key, value).unwrap_err();
            assert_eq!((error.code(), before), ("WEIR-0305", format!("{config:?}")), "{key}");
        }
    }
}
