//! Settings of client, producer and consumer. Every queue, wait and retry has its bound here.
//!
//! A field that Kafka's Java client names carries that name with its unit last; the doc says which.

use std::sync::Arc;
use std::time::Duration;

use weir_protocol::compression::Codec;

use crate::clock::{Clock, SystemClock};
use crate::consumer::RebalanceHook;
use crate::interceptor::Interceptor;
use crate::partitioner::{PartitionGrowth, Partitioner};
use crate::security::Security;
use crate::transaction::TxnVersion;

/// Kafka's bound on requests in flight for an idempotent producer: a broker remembers the last five
/// batches of a producer per partition (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

/// What is shared by all that one [`crate::Client`] serves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `bootstrap.servers`: `host:port` of some brokers, tried in order.
    pub bootstrap: Vec<String>,
    /// `client.id`, shown in the broker's logs and quotas.
    pub client_id: String,
    /// `request.timeout.ms`: a request unanswered for so long closes its connection.
    pub request_timeout_ms: u32,
    /// `socket.connection.setup.timeout.ms`: connect and version negotiation together.
    pub connect_timeout_ms: u32,
    /// `reconnect.backoff.ms`: first wait after a failed connect; doubles, with 20 % jitter.
    pub reconnect_backoff_ms: u32,
    /// `reconnect.backoff.max.ms`: the longest such wait.
    pub reconnect_backoff_max_ms: u32,
    /// `retry.backoff.ms`: first wait before a request is tried again; doubles, with 20 % jitter.
    pub retry_backoff_ms: u32,
    /// `retry.backoff.max.ms`: the longest such wait.
    pub retry_backoff_max_ms: u32,
    /// `metadata.max.age.ms`: metadata older than this is fetched again though nothing failed.
    pub metadata_max_age_ms: u32,
    /// `metadata.recovery.rebootstrap.trigger.ms`: after so long without metadata, though it was asked for
    /// all the time, the brokers known are forgotten and the bootstrap list is asked again (KIP-1102).
    pub rebootstrap_after_ms: u32,
    /// `default.api.timeout.ms`: the bound on one admin or offset call with all its retries.
    pub api_timeout_ms: u32,
    /// The largest answer accepted from a broker. A longer length prefix closes the connection.
    pub response_bytes_max: usize,
    /// Whether asking for the metadata of an unknown topic may create it (`allow.auto.create.topics`).
    pub auto_create_topics: bool,
    /// `security.protocol` and what goes with it.
    pub security: Security,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            bootstrap: vec!["127.0.0.1:9092".to_owned()],
            client_id: "weir".to_owned(),
            request_timeout_ms: 30_000,
            connect_timeout_ms: 10_000,
            reconnect_backoff_ms: 50,
            reconnect_backoff_max_ms: 1_000,
            retry_backoff_ms: 50,
            retry_backoff_max_ms: 1_000,
            metadata_max_age_ms: 300_000,
            rebootstrap_after_ms: 300_000,
            api_timeout_ms: 60_000,
            response_bytes_max: 128 << 20,
            auto_create_topics: true,
            security: Security::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl ClientConfig {
    /// Defaults with these brokers to start from.
    pub fn new<I, S>(bootstrap: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        ClientConfig {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            ..ClientConfig::default()
        }
    }
}

/// When a produce request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Not at all: deliveries complete when the bytes are written, without an offset.
    None,
    /// When the leader has it.
    Leader,
    /// When all in-sync replicas have it; on weir's own broker, when it is on disk.
    #[default]
    All,
}

impl Acks {
    /// The number of the wire.
    pub const fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Settings of a [`crate::Producer`].
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`: no duplicates and no reordering through retries. Needs [`Acks::All`].
    pub idempotent: bool,
    /// `compression.type`.
    pub compression: Codec,
    /// `compression.gzip.level` (1 to 9) or `compression.zstd.level` (KIP-390), by the codec; `None` is
    /// its default. Snappy and LZ4 have no levels here.
    pub compression_level: Option<i32>,
    /// `batch.size`: the most bytes of one batch before compression; a batch is sealed when the next
    /// record would pass it. A larger record has a batch of its own.
    pub batch_bytes_max: usize,
    /// The largest record, where that is more than `batch_bytes_max`. The broker has its own bound
    /// (`max.message.bytes`, 1,048,588).
    pub record_bytes_max: usize,
    /// `max.request.size`: the most bytes of one produce request; one batch is always sent. Larger ones
    /// cost more: their bytes have left the cache before they are summed and written.
    pub request_bytes_max: usize,
    /// `linger.ms`: the longest a record waits for company. Only waited while records come in so fast
    /// that waiting fills batches, or while earlier requests are unanswered: an idle producer sends
    /// at once.
    pub linger_ms: u32,
    /// `max.in.flight.requests.per.connection`; at most 5 when idempotent.
    pub in_flight_max: usize,
    /// `buffer.memory`: the most bytes of records not yet answered, all partitions together.
    pub buffer_bytes_max: usize,
    /// The most of that for one partition, so that one stalled partition leaves room for the others.
    pub partition_buffer_bytes_max: usize,
    /// `max.block.ms`: how long `send_wait` waits for room or metadata.
    pub max_block_ms: u32,
    /// `delivery.timeout.ms`: from append to answer, retries included.
    pub delivery_timeout_ms: u32,
    /// `retries`: sends after the first; the delivery timeout is the usual bound.
    pub retries_max: u32,
    /// `transactional.id`: makes the producer transactional; no two may have the same at once, the older
    /// one is fenced. Needs `idempotent`.
    pub transactional_id: Option<String>,
    /// `transaction.timeout.ms`: the coordinator aborts a transaction open for longer, and fences its
    /// producer. At most the broker's `transaction.max.timeout.ms` (15 minutes).
    pub transaction_timeout_ms: u32,
    /// The newest protocol of transactions to speak where the cluster offers it.
    pub transaction_version_max: TxnVersion,
    /// The partitioner of topics not named in `topic_partitioners`.
    pub partitioner: Partitioner,
    /// Partitioners by topic.
    pub topic_partitioners: Vec<(String, Partitioner)>,
    /// `interceptor.classes`: may change a record's topic, key or headers before its partition is chosen.
    pub interceptors: Vec<Arc<dyn Interceptor>>,
    /// What becomes of the order per key when a topic gets more partitions.
    pub partition_growth: PartitionGrowth,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            acks: Acks::All,
            idempotent: true,
            compression: Codec::None,
            compression_level: None,
            batch_bytes_max: 1_000_000,
            record_bytes_max: 1_000_000,
            request_bytes_max: 1 << 20,
            linger_ms: 5,
            in_flight_max: IDEMPOTENT_IN_FLIGHT_MAX,
            buffer_bytes_max: 32 << 20,
            partition_buffer_bytes_max: 8 << 20,
            max_block_ms: 60_000,
            delivery_timeout_ms: 120_000,
            retries_max: u32::MAX,
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            transaction_version_max: TxnVersion::V2,
            partitioner: Partitioner::Murmur2,
            topic_partitioners: Vec::new(),
            interceptors: Vec::new(),
            partition_growth: PartitionGrowth::KeepOrder,
        }
    }
}

/// Where to start in a partition without a committed offset, or after an offset that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    /// At the first record there is.
    Earliest,
    /// At the end: only what comes from now on.
    #[default]
    Latest,
    /// Nowhere: `poll` answers an error.
    None,
    /// At the first record that is not older than this, else at the end (KIP-1106).
    ByDuration(Duration),
}

/// When a record counts as dealt with, so that a commit may pass it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DoneBy {
    /// With the next poll.
    #[default]
    Poll,
    /// When [`crate::Consumer::done`] is called for it, in any order: no commit that the consumer makes
    /// passes the lowest that is not done.
    Record,
}

/// Which records of transactions are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// All, also those of open and aborted transactions.
    #[default]
    ReadUncommitted,
    /// Only those of committed transactions, and none past the first open one.
    ReadCommitted,
}

/// How members and coordinator of a group agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// Members join together and one of them assigns; every broker has it.
    #[default]
    Classic,
    /// The coordinator assigns, one member at a time (KIP-848); Kafka 4.0 and later.
    Consumer,
}

/// How a consumer takes part in a group.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// `group.id`.
    pub group_id: String,
    /// `group.protocol`.
    pub protocol: GroupProtocol,
    /// `group.remote.assignor`: how the coordinator assigns, with [`GroupProtocol::Consumer`]; `None`
    /// leaves it to the coordinator.
    pub server_assignor: Option<String>,
    /// `group.instance.id`: a static member keeps its partitions over a restart (KIP-345).
    pub instance_id: Option<String>,
    /// `session.timeout.ms`.
    pub session_timeout_ms: u32,
    /// `heartbeat.interval.ms`; with [`GroupProtocol::Consumer`] the coordinator says it. Cut to a third of `session_timeout_ms` where it is more.
    pub heartbeat_interval_ms: u32,
    /// `max.poll.interval.ms`: a member that does not poll for so long leaves, and its next poll says so.
    /// Also how long the group waits for a member in a rebalance.
    pub poll_interval_ms_max: u32,
    /// `partition.assignment.strategy`, in order of preference; not used with
    /// [`GroupProtocol::Consumer`].
    pub assignors: Vec<crate::assignor::Assignor>,
    /// `auto.commit.interval.ms`: commit what earlier polls returned, at the start of a poll. `None`:
    /// only when asked.
    pub auto_commit_interval_ms: Option<u32>,
    /// Commit once so many records have been returned since the last commit, at the start of a poll.
    pub auto_commit_records: Option<usize>,
    /// When a record counts as dealt with.
    pub done_by: DoneBy,
    /// Commit what earlier polls returned before partitions are given up, and on close. On by default
    /// with auto commit only; a manual committer uses the hook.
    pub commit_on_revoke: bool,
    /// Told of partitions given and taken.
    pub hook: Option<Arc<dyn RebalanceHook>>,
}

impl GroupConfig {
    /// Kafka's defaults for this group, without auto commit.
    pub fn new(group_id: impl Into<String>) -> Self {
        GroupConfig {
            group_id: group_id.into(),
            protocol: GroupProtocol::Classic,
            server_assignor: None,
            instance_id: None,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 3_000,
            poll_interval_ms_max: 300_000,
            assignors: vec![
                crate::assignor::Assignor::Range,
                crate::assignor::Assignor::RoundRobin,
            ],
            auto_commit_interval_ms: None,
            auto_commit_records: None,
            done_by: DoneBy::Poll,
            commit_on_revoke: false,
            hook: None,
        }
    }

    /// With auto commit at this interval, on revoke and on close.
    #[must_use]
    pub fn with_auto_commit(mut self, interval_ms: u32) -> Self {
        self.auto_commit_interval_ms = Some(interval_ms);
        self.commit_on_revoke = true;
        self
    }
}

/// Settings of a [`crate::Consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// The group, or `None` for a consumer that is told its partitions and stores no offsets.
    pub group: Option<GroupConfig>,
    /// `auto.offset.reset`.
    pub auto_offset_reset: AutoOffsetReset,
    /// `isolation.level`.
    pub isolation: IsolationLevel,
    /// `fetch.min.bytes`: the broker waits for so much, up to `fetch_wait_ms_max`.
    pub fetch_bytes_min: u32,
    /// `fetch.max.bytes` of one answer (one batch always comes).
    pub fetch_bytes_max: u32,
    /// `max.partition.fetch.bytes`.
    pub partition_fetch_bytes_max: u32,
    /// `fetch.max.wait.ms`: how long the broker holds a fetch that has too little.
    pub fetch_wait_ms_max: u32,
    /// The most bytes fetched and not yet returned by `poll`; fetching pauses above it.
    pub prefetch_bytes_max: usize,
    /// `max.poll.records`.
    pub poll_records_max: usize,
    /// With [`DoneBy::Record`]: the most records of one partition returned and not done; `poll` returns
    /// none of it above that.
    pub unfinished_records_max: usize,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// The most bytes one compressed batch may inflate to.
    pub inflate_bytes_max: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            group: None,
            auto_offset_reset: AutoOffsetReset::Latest,
            isolation: IsolationLevel::ReadUncommitted,
            fetch_bytes_min: 1,
            fetch_bytes_max: 52_428_800,
            partition_fetch_bytes_max: 1_048_576,
            fetch_wait_ms_max: 500,
            prefetch_bytes_max: 32 << 20,
            poll_records_max: 5_000,
            unfinished_records_max: 100_000,
            check_crcs: true,
            inflate_bytes_max: 64 << 20,
        }
    }
}
