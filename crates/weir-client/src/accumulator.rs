//! The producer's core: open batches per partition, what is under way, and the rules of order. Pure.
//!
//! # What holds
//! - A record is encoded into the open batch of its partition when it is appended; nothing is queued
//!   but batches.
//! - Bytes not yet answered stay under `buffer_bytes_max` in total and `partition_buffer_bytes_max`
//!   per partition, so a stalled partition leaves room for the others.
//! - Batches of a partition get sequences in order when they are first sent, and keep them over
//!   retries. After a retriable failure nothing of the partition is sent until all of its batches
//!   under way have come back; then the failed ones go again, oldest first, on one connection.
//! - A sequence is never given to another record. Where one may be missing on the broker (a batch
//!   timed out or was refused), the partition goes on under a new producer identity (KIP-360).
//!
//! # When a batch is sent
//! An idle producer sends at once. While a request to the broker is unanswered, or records come in so
//! fast that the wait fills batches, a batch waits for more: until it is full, until the broker's
//! pending bytes reach [`REQUEST_BYTES_TARGET`], or for `linger_ms`.

mod generation;
mod split;
mod transactional;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use generation::Generations;
pub(crate) use split::Part;
pub(crate) use transactional::Additions;

use bytes::Bytes;
use weir_protocol::batch::{BatchBuilder, BatchPool, Header};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{
    NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Str, TimestampMs, Uuid,
};

use crate::config::ProducerConfig;
use crate::delivery::{Completion, Outcome};
use crate::error::ProduceError;
use crate::partitioner::{Partition as CustomPartition, PartitionGrowth, Partitioner};
use crate::record::Record;
use crate::transaction::Transactions;

/// Pending bytes of a broker at which waiting for more gains little: a request of this size costs
/// about 20 ns per 200-byte record for its system calls and answers.
pub const REQUEST_BYTES_TARGET: usize = 1 << 20;

/// Records count as "coming in fast" when `linger_ms` would bring so many bytes.
const BUSY_BYTES: f64 = 65_536.0;

/// The bytes of a batch before its first record.
const BATCH_HEADER_BYTES: usize = 61;

/// More than a record needs besides key, value and headers: length, attributes, two deltas, three
/// lengths, each a varint of at most 5 bytes (10 for the time delta).
const RECORD_OVERHEAD_BYTES: usize = 36;

/// How long a transaction's first write waits for the markers of the one before, as Java's producer does
/// (`TransactionManager.ADD_PARTITIONS_RETRY_BACKOFF_MS`).
const MARKERS_BACKOFF_MS: u64 = 20;

/// Monotonic milliseconds, of any origin. Wall time may jump, and a jump must not expire deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MonoMs(pub u64);

impl MonoMs {
    /// Never.
    pub const MAX: MonoMs = MonoMs(u64::MAX);

    /// So much later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        MonoMs(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`, 0 if that is later.
    pub const fn since(self, earlier: MonoMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A broker the accumulator sends to; dense, in order of first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerIndex(pub usize);

/// A partition the accumulator knows; dense, in order of first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(usize);

#[cfg(test)]
impl Slot {
    pub(crate) fn test(index: usize) -> Slot {
        Slot(index)
    }
}

/// The identity under which sequences count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Producer id.
    pub id: ProducerId,
    /// Producer epoch.
    pub epoch: ProducerEpoch,
}

impl Identity {
    /// Of a producer that is not idempotent.
    pub const NONE: Identity = Identity { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };
}

/// Whether records are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Yes.
    Running,
    /// `close` has begun: no new ones, the rest goes out.
    Draining,
    /// No.
    Stopped,
}

/// A batch on its way to the socket.
#[derive(Debug)]
pub struct Outgoing {
    /// Its partition here.
    pub slot: Slot,
    /// Its number within the producer, to find it when the answer comes.
    pub batch: u64,
    /// Topic name.
    pub topic: Str,
    /// Topic id; zero where unknown.
    pub topic_id: Uuid,
    /// Partition number.
    pub partition: PartitionId,
    /// The identity to stamp.
    pub identity: Identity,
    /// The sequence of its first record.
    pub base_sequence: Sequence,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// Its records.
    pub payload: Payload,
    /// Its fate; whoever writes it asks there first whether it still may.
    pub(crate) completion: Arc<Completion>,
}

/// The records of a batch: still in the builder on the first send, finished bytes on a retry.
#[derive(Debug)]
pub enum Payload {
    /// Not built yet; the shell builds outside the lock.
    Open(BatchBuilder),
    /// Built.
    Built(Bytes),
    /// Some records of a batch that was too large; not built yet.
    Part(Part),
}

/// What to do for a broker now.
#[derive(Debug)]
pub enum Step {
    /// Write one produce request with these.
    Send(Vec<Outgoing>),
    /// Nothing before this time, unless woken.
    WaitUntil(MonoMs),
    /// Nothing until woken.
    Idle,
    /// The producer has stopped.
    Stop,
}

/// The broker's word, or the lack of one, about a batch.
#[derive(Debug, Clone)]
pub enum Answer {
    /// In the log.
    Acked {
        /// Offset of its first record, where known.
        base_offset: Option<Offset>,
        /// The broker's append time, where the topic uses that.
        append_time: Option<TimestampMs>,
    },
    /// Refused.
    Refused {
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words.
        message: Option<String>,
    },
    /// No answer: whether it is in the log is unknown.
    Lost {
        /// Why.
        reason: String,
    },
}

/// Completions to announce after the lock is released.
pub(crate) type Completed = Vec<(Arc<Completion>, Outcome)>;

/// What follows from answers.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// To announce outside the lock.
    pub(crate) completed: Completed,
    /// Metadata may be stale.
    pub(crate) refresh_metadata: bool,
    /// Bytes were freed, though perhaps nothing completed: a batch that timed out while under way keeps
    /// its bytes until its answer.
    pub(crate) freed_room: bool,
}

/// A record was taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) slot: Slot,
    /// The fate of its batch, if this is the first record of a `send_batch` in it.
    pub(crate) first: Option<Arc<Completion>>,
}

/// Where a record went.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) completion: Arc<Completion>,
    pub(crate) index: u32,
}

/// Counters since the start; see [`crate::ProducerStats`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) records_sent: u64,
    pub(crate) records_acked: u64,
    pub(crate) records_failed: u64,
    pub(crate) retries: u64,
    pub(crate) splits: u64,
    pub(crate) requests: u64,
    pub(crate) answers: u64,
    pub(crate) request_latency_us: u64,
    pub(crate) request_latency_us_max: u64,
    pub(crate) throttle_ms: u64,
    pub(crate) throttle_ms_max: u64,
    pub(crate) batches: u64,
    pub(crate) batch_bytes: u64,
    pub(crate) transactions_committed: u64,
    pub(crate) transactions_aborted: u64,
    pub(crate) bytes: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Accumulator {
    config: ProducerConfig,
    retry_backoff_ms: u32,
    retry_backoff_ms_max: u32,
    topics: Vec<Topic>,
    topic_by_name: HashMap<Str, usize>,
    /// The topic of the last append: most callers send to one topic at a time.
    last_topic: usize,
    partitions: Vec<Partition>,
    brokers: Vec<Broker>,
    broker_by_node: HashMap<NodeId, BrokerIndex>,
    buffered_bytes: usize,
    buffered_records: u64,
    next_batch: u64,
    identity: Option<Identity>,
    identity_wanted: bool,
    /// Why there is none yet.
    identity_error: Option<String>,
    life: Life,
    /// Only of a transactional producer.
    transactions: Option<Transactions>,
    /// Whether records are taken: what `life` and `transactions` say, in one place for `append`.
    admits: bool,
    /// Grows with each restart, so that answers to what was abandoned are told apart.
    incarnation: u32,
    rate: RateMeter,
    /// The largest record that fits all bounds.
    record_bytes_max: usize,
    /// Buffers come back when the bytes of an answered batch are dropped.
    pool: BatchPool,
    /// Grows when bytes are freed; with `full_at` it tells whether waiting for room is over.
    freed_epoch: u64,
    full_at: u64,
    /// Brokers whose loop must be woken once the lock is released.
    wakes: Vec<BrokerIndex>,
    pub(crate) counters: Counters,
}

#[derive(Debug)]
struct Topic {
    name: Str,
    id: Uuid,
    partitioner: Partitioner,
    slots: Vec<Slot>,
    /// Since when metadata says that it does not exist.
    missing_since: Option<MonoMs>,
    /// Where records without a deciding key go now.
    sticky: usize,
    generations: Generations,
}

#[derive(Debug)]
struct Partition {
    topic: usize,
    partition: PartitionId,
    leader: Option<BrokerIndex>,
    open: Option<OpenBatch>,
    /// Sealed, never sent, without sequence.
    sealed: VecDeque<SealedBatch>,
    /// Sent at least once, oldest first; their sequences are consecutive.
    in_flight: VecDeque<SentBatch>,
    /// How many of `in_flight` are under way now, and to which broker.
    outstanding: usize,
    outstanding_to: Option<BrokerIndex>,
    /// A batch came back retriable: nothing is sent until all under way have come back.
    recovering: bool,
    retry_at: MonoMs,
    failures: u32,
    bytes: usize,
    identity: Identity,
    next_sequence: Sequence,
    batches_sent: u64,
    /// A sequence may be missing on the broker: go on under a new identity.
    needs_identity: bool,
    /// A batch was acknowledged under this producer id. Before, the broker takes any first sequence for the beginning
    /// (KIP-360): a batch behind one that is refused would be written before it.
    is_known: bool,
    /// The number of the last transaction it was in.
    transaction: u64,
    /// In its leader's list of partitions with something to send.
    listed: bool,
    /// The topic has it no more.
    retired: bool,
    /// What the broker has been found to take, where that is less than the configuration says.
    batch_bytes_max: usize,
}

#[derive(Debug)]
struct OpenBatch {
    builder: BatchBuilder,
    completion: Arc<Completion>,
    /// When it was first seen by `step`; appends do not read a clock.
    opened_at: Option<MonoMs>,
    bytes: usize,
    touched: u64,
    generation: u32,
}

impl OpenBatch {
    /// Its completion, once per `stamp` (0 is none): how `send_batch` collects distinct batches.
    #[inline]
    fn touch(&mut self, stamp: u64) -> Option<Arc<Completion>> {
        if self.touched == stamp || stamp == 0 {
            return None;
        }
        self.touched = stamp;
        Some(Arc::clone(&self.completion))
    }
}

#[derive(Debug)]
struct SealedBatch {
    builder: BatchBuilder,
    completion: Arc<Completion>,
    opened_at: Option<MonoMs>,
    bytes: usize,
    count: i32,
    generation: u32,
}

#[derive(Debug)]
struct SentBatch {
    batch: u64,
    /// Its number in its partition.
    ordinal: u64,
    generation: u32,
    completion: Arc<Completion>,
    opened_at: MonoMs,
    bytes: usize,
    count: i32,
    attempts: u32,
    base_sequence: Sequence,
    /// The bytes while it waits for a retry; under way the shell has them.
    waiting: Option<Waiting>,
    last_error: String,
    timed_out: bool,
    /// An attempt may have written it, though it was not acknowledged.
    in_doubt: bool,
    /// A part of a batch that was in doubt when it was found too large: it may be in the log as a part of
    /// the whole, where the broker does not know it again by its sequences.
    part_in_doubt: bool,
}

/// What is sent when a batch goes again.
#[derive(Debug)]
enum Waiting {
    /// The bytes.
    Built(Bytes),
    /// Records of a batch that was too large, from this one on.
    Part { whole: Bytes, first: i32 },
}

#[derive(Debug)]
struct Broker {
    node: NodeId,
    in_flight: usize,
    /// Partitions with something to send, served in turn.
    ready: VecDeque<Slot>,
    /// Bytes in open and sealed batches of the partitions it leads.
    pending_bytes: usize,
    sealed_count: usize,
    /// An append that brings `pending_bytes` to this wakes the loop: 1 while it idles, the target
    /// while it waits for more, `usize::MAX` while it is awake or its window is full.
    wake_at_bytes: usize,
    /// It has told us to send nothing until then: our quota is used up (KIP-219).
    throttled_until: MonoMs,
}

/// Bytes per millisecond, averaged over some milliseconds.
#[derive(Debug, Default)]
struct RateMeter {
    bytes: u64,
    since: MonoMs,
    bytes_per_ms: f64,
}

impl RateMeter {
    fn sample(&mut self, now: MonoMs) -> f64 {
        let elapsed_ms = now.since(self.since);
        if elapsed_ms > 0 {
            let current = self.bytes as f64 / elapsed_ms as f64;
            // A long pause forgets the past; neighbouring milliseconds are averaged.
            let weight = (elapsed_ms as f64 / 4.0).min(1.0);
            self.bytes_per_ms += (current - self.bytes_per_ms) * weight;
            self.bytes = 0;
            self.since = now;
        }
        self.bytes_per_ms
    }
}

impl Accumulator {
    /// An empty one. Without idempotence it needs no identity.
    pub fn new(config: ProducerConfig, retry_backoff_ms: u32, retry_backoff_ms_max: u32) -> Self {
        let identity = (!config.idempotent).then_some(Identity::NONE);
        // Buffers that grow anew cost more than the records in them: page faults and copies.
        let pool = BatchPool::with_level(config.buffer_bytes_max, config.compression_level);
        let record_bytes_max = config
            .record_bytes_max
            .max(config.batch_bytes_max)
            .min(config.partition_buffer_bytes_max);
        let transactions = config
            .transactional_id
            .as_deref()
            .map(|id| Transactions::new(id, config.transaction_version_max));
        Accumulator {
            identity_wanted: config.idempotent && transactions.is_none(),
            admits: transactions.is_none(),
            transactions,
            identity_error: None,
            config,
            retry_backoff_ms,
            retry_backoff_ms_max,
            topics: Vec::new(),
            topic_by_name: HashMap::new(),
            last_topic: 0,
            partitions: Vec::new(),
            brokers: Vec::new(),
            broker_by_node: HashMap::new(),
            buffered_bytes: 0,
            buffered_records: 0,
            next_batch: 0,
            identity,
            life: Life::Running,
            incarnation: 0,
            rate: RateMeter::default(),
            record_bytes_max,
            pool,
            freed_epoch: 1,
            full_at: 0,
            wakes: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Which run of the producer this is; answers must bring it back.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Whether records are taken.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Changes whether records are taken.
    pub fn set_life(&mut self, life: Life) {
        self.life = life;
        self.renew_admits();
        self.wake_all();
    }

    /// Bytes not answered yet.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Records not answered yet.
    pub fn buffered_records(&self) -> u64 {
        self.buffered_records
    }

    /// Partitions of the topic, if it is known.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        let topic = &self.topics[*self.topic_by_name.get(topic)?];
        i32::try_from(topic.slots.len()).ok()
    }

    /// The program's own partitioner of the topic, if it has one, and the number of partitions to ask with.
    pub(crate) fn custom_partitioner(
        &self,
        topic: &str,
    ) -> Option<(Arc<dyn CustomPartition>, i32)> {
        let count = self.partition_count(topic).filter(|count| *count > 0)?;
        let topic = &self.topics[*self.topic_by_name.get(topic)?];
        Some((Arc::clone(topic.partitioner.custom()?), count))
    }

    /// Names of the topics known.
    pub fn topic_names(&self) -> impl Iterator<Item = &Str> {
        self.topics.iter().map(|topic| &topic.name)
    }

    /// Whether a new identity is to be asked for, and the present one to ask with.
    pub fn wants_identity(&self) -> Option<Identity> {
        self.identity_wanted.then(|| self.identity.unwrap_or(Identity::NONE))
    }

    /// Whether room has been freed since the last refusal.
    pub(crate) fn has_freed_room(&self) -> bool {
        self.freed_epoch > self.full_at
    }

    /// Brokers to wake, once the lock is released.
    pub(crate) fn take_wakes(&mut self) -> Vec<BrokerIndex> {
        std::mem::take(&mut self.wakes)
    }

    /// The node of a broker.
    pub fn node(&self, broker: BrokerIndex) -> NodeId {
        self.brokers[broker.0].node
    }

    /// How many brokers are known.
    pub fn broker_count(&self) -> usize {
        self.brokers.len()
    }
}

/// Cluster changes.
impl Accumulator {
    /// Takes over what metadata says of a topic: leaders in order of partition. What waits in partitions
    /// that are no more is failed ([`retired`]).
    pub(crate) fn update_topic(
        &mut self,
        name: &Str,
        id: Uuid,
        leaders: &[Option<NodeId>],
    ) -> Effects {
        let topic_index = match self.topic_by_name.get(name) {
            Some(index) => *index,
            None => self.add_topic(name.clone()),
        };
        let mut effects = Effects::default();
        self.renew_topic(topic_index, id, leaders.len(), &mut effects);
        let known = self.topics[topic_index].slots.len();
        if (1..leaders.len()).contains(&known) {
            self.grow_topic(topic_index);
        }
        for (number, leader) in leaders.iter().enumerate() {
            let leader = leader.map(|node| self.broker_index(node));
            match self.topics[topic_index].slots.get(number) {
                Some(slot) => self.move_leader(*slot, leader),
                None => self.add_partition(topic_index, number, leader),
            }
        }
        self.discard_if_failed(&mut effects);
        effects
    }

    /// What is open is of the old number of partitions.
    fn grow_topic(&mut self, topic_index: usize) {
        if self.config.partition_growth == PartitionGrowth::AtOnce {
            return;
        }
        for at in 0..self.topics[topic_index].slots.len() {
            self.seal(self.topics[topic_index].slots[at]);
        }
        self.topics[topic_index].generations.grow();
    }

    fn add_topic(&mut self, name: Str) -> usize {
        let own = self.config.topic_partitioners.iter().find(|(topic, _)| *topic == *name);
        let partitioner = own.map_or(&self.config.partitioner, |(_, own)| own).clone();
        let index = self.topics.len();
        self.topic_by_name.insert(name.clone(), index);
        self.topics.push(Topic {
            name,
            id: Uuid::ZERO,
            partitioner,
            slots: Vec::new(),
            missing_since: None,
            sticky: 0,
            generations: Generations::new(),
        });
        index
    }

    fn add_partition(&mut self, topic: usize, number: usize, leader: Option<BrokerIndex>) {
        let slot = Slot(self.partitions.len());
        self.topics[topic].slots.push(slot);
        self.partitions.push(Partition {
            topic,
            // Metadata counts partitions in an i32.
            partition: PartitionId(number as i32),
            leader,
            open: None,
            sealed: VecDeque::new(),
            in_flight: VecDeque::new(),
            outstanding: 0,
            outstanding_to: None,
            recovering: false,
            retry_at: MonoMs::default(),
            failures: 0,
            bytes: 0,
            identity: Identity::NONE,
            next_sequence: Sequence(0),
            batches_sent: 0,
            needs_identity: false,
            is_known: false,
            transaction: 0,
            listed: false,
            retired: false,
            batch_bytes_max: self.config.batch_bytes_max,
        });
    }

    fn broker_index(&mut self, node: NodeId) -> BrokerIndex {
        let next = BrokerIndex(self.brokers.len());
        let index = *self.broker_by_node.entry(node).or_insert(next);
        if index == next {
            self.brokers.push(Broker {
                node,
                in_flight: 0,
                ready: VecDeque::new(),
                pending_bytes: 0,
                sealed_count: 0,
                wake_at_bytes: 1,
                throttled_until: MonoMs::default(),
            });
        }
        index
    }

    fn move_leader(&mut self, slot: Slot, leader: Option<BrokerIndex>) {
        let partition = &mut self.partitions[slot.0];
        if partition.leader == leader {
            return;
        }
        let (bytes, sealed) = (partition.pending_bytes(), partition.sealed.len());
        let old = std::mem::replace(&mut partition.leader, leader);
        partition.listed = false;
        // A new leader is tried at once: the wait was for the old one.
        partition.retry_at = MonoMs::default();
        if let Some(old) = old {
            let broker = &mut self.brokers[old.0];
            broker.ready.retain(|listed| *listed != slot);
            broker.pending_bytes -= bytes;
            broker.sealed_count -= sealed;
        }
        if let Some(new) = leader {
            let broker = &mut self.brokers[new.0];
            broker.pending_bytes += bytes;
            broker.sealed_count += sealed;
            self.list(slot);
            self.wake(new);
        }
    }

    /// Sets the identity for what is sent from now on. Partitions take it over when nothing of theirs
    /// is under way under the old one.
    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.identity_wanted = false;
        self.identity_error = None;
        for index in 0..self.partitions.len() {
            self.list(Slot(index));
        }
        self.wake_all();
    }

    /// Notes why no identity could be had, for those whose delivery times out meanwhile.
    pub(crate) fn set_identity_error(&mut self, reason: String) {
        self.identity_error = Some(reason);
    }

    fn wake_all(&mut self) {
        for index in 0..self.brokers.len() {
            self.wake(BrokerIndex(index));
        }
    }

    fn wake(&mut self, broker: BrokerIndex) {
        self.brokers[broker.0].wake_at_bytes = usize::MAX;
        if !self.wakes.contains(&broker) {
            self.wakes.push(broker);
        }
    }

    /// Puts the partition on its leader's list if it has something to send.
    fn list(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot.0];
        let Some(leader) = partition.leader else { return };
        if !partition.listed && partition.has_work() {
            partition.listed = true;
            self.brokers[leader.0].ready.push_back(slot);
        }
    }
}

impl Partition {
    fn pending_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.bytes)
            + self.sealed.iter().map(|batch| batch.bytes).sum::<usize>()
    }

    fn has_work(&self) -> bool {
        self.open.is_some() || !self.sealed.is_empty() || self.has_retry()
    }

    fn has_retry(&self) -> bool {
        self.in_flight.iter().any(|batch| batch.waiting.is_some())
    }

    /// Whether it can send only after answers or an identity have come; those wake the loop, no timer
    /// does.
    fn awaits_event(&self, to: BrokerIndex, current: Option<Identity>) -> bool {
        let elsewhere = self.outstanding > 0 && self.outstanding_to != Some(to);
        let cannot_adopt = self.outstanding > 0 || current == Some(self.identity);
        elsewhere || self.recovering || (self.needs_identity && cannot_adopt)
    }

    /// How many batches were sent from the oldest that is not answered on, answered ones included.
    ///
    /// The broker knows the last five of a producer again. Were more sent past one that has to go
    /// again, it would be refused as out of order instead of known as a duplicate.
    fn sent_since_oldest(&self) -> u64 {
        self.in_flight.front().map_or(0, |oldest| self.batches_sent - oldest.ordinal)
    }

    /// Of the batch that is to be sent next for the first time.
    fn next_generation(&self) -> Option<u32> {
        let sealed = self.sealed.front().map(|batch| batch.generation);
        sealed.or(self.open.as_ref().map(|open| open.generation))
    }

    fn opened_at(&self) -> Option<MonoMs> {
        let sealed = self.sealed.front().map(|batch| batch.opened_at);
        sealed.or(self.open.as_ref().map(|open| open.opened_at)).flatten()
    }
}

/// Appending.
impl Accumulator {
    /// Encodes the record into the open batch of its partition. Reads no clock: `now` is wall time for
    /// records without a timestamp.
    pub(crate) fn append(
        &mut self,
        record: &Record<'_>,
        now: TimestampMs,
        stamp: u64,
    ) -> Result<Taken, ProduceError> {
        let slot = self.slot_for(record)?;
        let bytes_max = record_bytes_max(record, record.value.map_or(0, <[u8]>::len));
        self.make_room(slot, bytes_max)?;
        let timestamp = record.timestamp.unwrap_or(now);
        let open = self.open_batch(slot);
        open.builder.append(timestamp, record.key, record.value, record.headers);
        let first = open.touch(stamp);
        self.account(slot);
        Ok(Taken { slot, first })
    }

    /// As `append`; `write` puts the value in place.
    // Always: a call and its spilled registers cost a tenth of an append, and there is one caller.
    #[inline(always)]
    pub(crate) fn append_with(
        &mut self,
        record: &Record<'_>,
        value_bytes_hint: usize,
        now: TimestampMs,
        stamp: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Taken, ProduceError> {
        let slot = self.slot_for(record)?;
        self.make_room(slot, record_bytes_max(record, value_bytes_hint))?;
        let timestamp = record.timestamp.unwrap_or(now);
        let open = self.open_batch(slot);
        open.builder.append_with(timestamp, record.key, record.headers, write);
        let first = open.touch(stamp);
        self.account(slot);
        Ok(Taken { slot, first })
    }

    /// The completion and index of the record appended last to this partition.
    pub(crate) fn last_appended(&self, slot: Slot) -> Option<Appended> {
        let open = self.partitions[slot.0].open.as_ref()?;
        let index = u32::try_from(open.builder.count()).unwrap_or(0).saturating_sub(1);
        Some(Appended { completion: Arc::clone(&open.completion), index })
    }

    #[inline]
    fn slot_for(&mut self, record: &Record<'_>) -> Result<Slot, ProduceError> {
        if !self.admits {
            return Err(self.refusal());
        }
        let topic_index = self.topic_index(record.topic)?;
        self.last_topic = topic_index;
        let topic = &self.topics[topic_index];
        let count = i32::try_from(topic.slots.len()).unwrap_or(i32::MAX);
        let chosen = match record.partition {
            Some(partition) => Some(partition.get()),
            // The program's own has been asked already, without the lock: any will do.
            None if topic.partitioner.custom().is_some() => None,
            None => topic.partitioner.choose(record, count),
        };
        match chosen {
            Some(number) => {
                let slot = usize::try_from(number).ok().and_then(|n| topic.slots.get(n));
                slot.copied().ok_or_else(|| ProduceError::NoSuchPartition {
                    topic: record.topic.to_owned(),
                    partition: PartitionId(number),
                    partitions: count,
                })
            }
            None => Ok(self.free_choice(topic_index)),
        }
    }

    #[inline]
    fn topic_index(&self, name: &str) -> Result<usize, ProduceError> {
        if let Some(topic) = self.topics.get(self.last_topic) {
            if &*topic.name == name && !topic.slots.is_empty() {
                return Ok(self.last_topic);
            }
        }
        match self.topic_by_name.get(name) {
            Some(index) if !self.topics[*index].slots.is_empty() => Ok(*index),
            _ => Err(ProduceError::TopicNotReady { topic: name.to_owned() }),
        }
    }

    /// A partition for a record whose key does not decide: the sticky one, or the next that has a
    /// leader and room. Here, and only here, an unavailable partition is passed over.
    fn free_choice(&mut self, topic_index: usize) -> Slot {
        let topic = &self.topics[topic_index];
        let count = topic.slots.len();
        let usable = |index: usize| {
            let partition = &self.partitions[topic.slots[index].0];
            partition.leader.is_some()
                && partition.bytes < self.config.partition_buffer_bytes_max / 2
        };
        let start = topic.sticky % count;
        let found = (0..count).map(|step| (start + step) % count).find(|index| usable(*index));
        let index = found.unwrap_or(start);
        let slot = topic.slots[index];
        let every_record_moves = topic.partitioner.takes_turns();
        self.topics[topic_index].sticky = if every_record_moves { index + 1 } else { index };
        slot
    }

    /// Checks the bounds for a record of at most so many bytes, and seals the open batch if the record
    /// would overfill it.
    #[inline]
    fn make_room(&mut self, slot: Slot, record_bytes: usize) -> Result<(), ProduceError> {
        let limit_bytes = self.record_bytes_max;
        if record_bytes + BATCH_HEADER_BYTES > limit_bytes {
            return Err(ProduceError::RecordTooLarge { record_bytes, limit_bytes });
        }
        if self.buffered_bytes + record_bytes > self.config.buffer_bytes_max {
            self.full_at = self.freed_epoch;
            return Err(ProduceError::BufferFull {
                used_bytes: self.buffered_bytes,
                limit_bytes: self.config.buffer_bytes_max,
                partition: None,
            });
        }
        let partition = &self.partitions[slot.0];
        if partition.bytes + record_bytes > self.config.partition_buffer_bytes_max {
            self.full_at = self.freed_epoch;
            return Err(ProduceError::BufferFull {
                used_bytes: partition.bytes,
                limit_bytes: self.config.partition_buffer_bytes_max,
                partition: Some(partition.partition),
            });
        }
        let overfull = partition.open.as_ref().is_some_and(|open| {
            open.builder.size_bytes() + record_bytes > partition.batch_bytes_max
        });
        if overfull {
            self.seal(slot);
        }
        Ok(())
    }

    #[inline]
    fn open_batch(&mut self, slot: Slot) -> &mut OpenBatch {
        let partition = &mut self.partitions[slot.0];
        let (number, codec) = (partition.partition, self.config.compression);
        if partition.open.is_none() && !partition.listed {
            if let Some(leader) = partition.leader {
                partition.listed = true;
                self.brokers[leader.0].ready.push_back(slot);
            }
        }
        partition.open.get_or_insert_with(|| OpenBatch {
            builder: BatchBuilder::with_pool(codec, &self.pool),
            completion: Completion::new(number),
            opened_at: None,
            bytes: 0,
            touched: 0,
            generation: self.topics[partition.topic].generations.opened(),
        })
    }

    /// Books the growth of the open batch and finds out whether its broker's loop must wake.
    #[inline]
    fn account(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot.0];
        let Some(open) = partition.open.as_mut() else { return };
        let size = open.builder.size_bytes();
        let grown = size - open.bytes;
        open.bytes = size;
        partition.bytes += grown;
        self.buffered_bytes += grown;
        self.buffered_records += 1;
        self.counters.records_sent += 1;
        self.rate.bytes += grown as u64;
        if let Some(leader) = partition.leader {
            let broker = &mut self.brokers[leader.0];
            broker.pending_bytes += grown;
            if broker.pending_bytes >= broker.wake_at_bytes {
                self.wake(leader);
            }
        }
    }

    /// Closes the open batch: later records go into a new one, and this one need not wait.
    fn seal(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot.0];
        let Some(open) = partition.open.take() else { return };
        partition.sealed.push_back(SealedBatch {
            count: i32::try_from(open.builder.count()).unwrap_or(i32::MAX),
            builder: open.builder,
            completion: open.completion,
            opened_at: open.opened_at,
            bytes: open.bytes,
            generation: open.generation,
        });
        let (leader, topic) = (partition.leader, partition.topic);
        self.move_sticky(topic, slot);
        if let Some(leader) = leader {
            let broker = &mut self.brokers[leader.0];
            broker.sealed_count += 1;
            if broker.wake_at_bytes != usize::MAX {
                self.wake(leader);
            }
        }
    }

    /// Records without a deciding key move on when the batch they filled is closed (KIP-480).
    fn move_sticky(&mut self, topic: usize, slot: Slot) {
        let topic = &mut self.topics[topic];
        if topic.slots.get(topic.sticky % topic.slots.len().max(1)) == Some(&slot) {
            topic.sticky = (topic.sticky + 1) % topic.slots.len();
        }
    }

    /// Seals every open batch and returns the fate of everything not answered yet.
    pub(crate) fn seal_all(&mut self) -> Vec<Arc<Completion>> {
        for index in 0..self.partitions.len() {
            self.seal(Slot(index));
        }
        self.wake_all();
        let partitions = self.partitions.iter();
        partitions
            .flat_map(|partition| {
                let sent = partition.in_flight.iter().map(|batch| &batch.completion);
                sent.chain(partition.sealed.iter().map(|batch| &batch.completion))
            })
            .cloned()
            .collect()
    }
}

/// An upper bound of the record's bytes in a batch.
#[inline]
fn record_bytes_max(record: &Record<'_>, value_bytes: usize) -> usize {
    let headers = record.headers.iter();
    let headers_bytes: usize =
        headers.map(|Header { key, value }| 10 + key.len() + value.map_or(0, <[u8]>::len)).sum();
    RECORD_OVERHEAD_BYTES + record.key.map_or(0, <[u8]>::len) + value_bytes + headers_bytes
}

/// Sending.
impl Accumulator {
    /// What the loop of this broker does now.
    pub fn step(&mut self, broker_index: BrokerIndex, now: MonoMs) -> Step {
        if self.life == Life::Stopped {
            return Step::Stop;
        }
        self.stamp_open_batches(broker_index, now);
        let bytes_per_ms = self.rate.sample(now);
        let broker = &mut self.brokers[broker_index.0];
        broker.wake_at_bytes = usize::MAX;
        if self.identity.is_none() || broker.in_flight >= self.config.in_flight_max {
            return Step::Idle;
        }
        if broker.throttled_until > now {
            return Step::WaitUntil(broker.throttled_until);
        }
        if let Some(until) = self.hold_until(broker_index, bytes_per_ms, now) {
            // What waits for a retry has its own time, which may come first.
            self.brokers[broker_index.0].wake_at_bytes = REQUEST_BYTES_TARGET;
            return Step::WaitUntil(until);
        }
        let outgoing = self.collect(broker_index, now);
        if !outgoing.is_empty() {
            self.brokers[broker_index.0].in_flight += 1;
            self.counters.requests += 1;
            return Step::Send(outgoing);
        }
        let retry_at = self.next_retry(broker_index, now);
        self.brokers[broker_index.0].wake_at_bytes = self.brokers[broker_index.0].pending_bytes + 1;
        retry_at.map_or(Step::Idle, Step::WaitUntil)
    }

    fn stamp_open_batches(&mut self, broker: BrokerIndex, now: MonoMs) {
        for slot in &self.brokers[broker.0].ready {
            let partition = &mut self.partitions[slot.0];
            if let Some(open) = &mut partition.open {
                open.opened_at.get_or_insert(now);
            }
            // Newest first: those behind a stamped one are stamped.
            let unstamped =
                partition.sealed.iter_mut().rev().take_while(|batch| batch.opened_at.is_none());
            unstamped.for_each(|batch| batch.opened_at = Some(now));
        }
    }

    /// Until when this broker's batches wait for more records, if they should.
    fn hold_until(&self, index: BrokerIndex, bytes_per_ms: f64, now: MonoMs) -> Option<MonoMs> {
        let broker = &self.brokers[index.0];
        let busy = bytes_per_ms * f64::from(self.config.linger_ms) >= BUSY_BYTES;
        let must_go = self.life == Life::Draining
            || broker.sealed_count > 0
            || broker.pending_bytes >= REQUEST_BYTES_TARGET
            || (broker.in_flight == 0 && !busy);
        if must_go {
            return None;
        }
        let mut until = MonoMs::MAX;
        for slot in &broker.ready {
            let partition = &self.partitions[slot.0];
            if partition.awaits_event(index, self.identity) {
                continue;
            }
            let due = if partition.has_retry() {
                partition.retry_at
            } else {
                let linger_ms = u64::from(self.config.linger_ms);
                partition.opened_at().unwrap_or(now).plus_ms(linger_ms).max(partition.retry_at)
            };
            until = until.min(due);
        }
        (until > now && until != MonoMs::MAX).then_some(until)
    }

    /// One batch of each partition that may send, in turn, up to the size of a request.
    fn collect(&mut self, broker_index: BrokerIndex, now: MonoMs) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        let mut request_bytes = 0;
        let turns = self.brokers[broker_index.0].ready.len();
        for _ in 0..turns {
            let Some(slot) = self.brokers[broker_index.0].ready.pop_front() else { break };
            self.partitions[slot.0].listed = false;
            let batch_bytes = self.next_batch_bytes(slot);
            let fits =
                request_bytes == 0 || request_bytes + batch_bytes <= self.config.request_bytes_max;
            if fits {
                if let Some(batch) = self.take_batch(slot, broker_index, now) {
                    request_bytes += batch_bytes;
                    outgoing.push(batch);
                }
            }
            self.list(slot);
        }
        outgoing
    }

    fn next_batch_bytes(&self, slot: Slot) -> usize {
        let partition = &self.partitions[slot.0];
        let waiting = partition.in_flight.iter().find(|batch| batch.waiting.is_some());
        waiting
            .map(|batch| batch.bytes)
            .or(partition.sealed.front().map(|batch| batch.bytes))
            .or(partition.open.as_ref().map(|open| open.bytes))
            .unwrap_or(0)
    }

    /// The next batch of this partition, if order allows one now.
    fn take_batch(&mut self, slot: Slot, to: BrokerIndex, now: MonoMs) -> Option<Outgoing> {
        let current = self.identity?;
        let partition = &mut self.partitions[slot.0];
        if partition.retry_at > now || partition.awaits_event(to, Some(current)) {
            return None;
        }
        if partition.needs_identity {
            partition.adopt(current);
        }
        if !self.may_write_in_transaction(slot, current) {
            return None;
        }
        let partition = &mut self.partitions[slot.0];
        if self.config.idempotent && !partition.is_known && partition.outstanding > 0 {
            return None;
        }
        if partition.has_retry() {
            return self.take_retry(slot, to);
        }
        if partition.sent_since_oldest() >= self.config.in_flight_max as u64 {
            return None;
        }
        let generation = partition.next_generation()?;
        if !self.topics[partition.topic].generations.may_send(generation) {
            return None;
        }
        if partition.in_flight.is_empty() && partition.identity != current {
            partition.adopt(current);
        }
        if partition.sealed.is_empty() {
            self.close_open_for_sending(slot, to);
        }
        self.take_first(slot, to, now)
    }

    /// Moves the open batch to the sealed ones without waking anybody: it is about to be sent.
    fn close_open_for_sending(&mut self, slot: Slot, leader: BrokerIndex) {
        let awake = std::mem::replace(&mut self.brokers[leader.0].wake_at_bytes, usize::MAX);
        self.seal(slot);
        self.brokers[leader.0].wake_at_bytes = awake;
    }

    /// Sends the first batch that was never sent: it gets its sequence now.
    fn take_first(&mut self, slot: Slot, to: BrokerIndex, now: MonoMs) -> Option<Outgoing> {
        let batch_number = self.next_batch;
        let partition = &mut self.partitions[slot.0];
        let sealed = partition.sealed.pop_front()?;
        self.next_batch += 1;
        let broker = &mut self.brokers[to.0];
        broker.pending_bytes -= sealed.bytes;
        broker.sealed_count -= 1;
        let base_sequence =
            if self.config.idempotent { partition.next_sequence } else { Sequence::NONE };
        partition.next_sequence = partition.next_sequence.plus(sealed.count);
        let completion = Arc::clone(&sealed.completion);
        partition.in_flight.push_back(SentBatch {
            batch: batch_number,
            ordinal: partition.batches_sent,
            generation: sealed.generation,
            completion: sealed.completion,
            opened_at: sealed.opened_at.unwrap_or(now),
            bytes: sealed.bytes,
            count: sealed.count,
            attempts: 1,
            base_sequence,
            waiting: None,
            last_error: String::new(),
            timed_out: false,
            in_doubt: false,
            part_in_doubt: false,
        });
        partition.batches_sent += 1;
        partition.outstanding += 1;
        partition.outstanding_to = Some(to);
        self.counters.bytes += sealed.bytes as u64;
        self.counters.batches += 1;
        self.counters.batch_bytes += sealed.bytes as u64;
        let payload = Payload::Open(sealed.builder);
        Some(self.outgoing(slot, batch_number, base_sequence, payload, completion))
    }

    fn take_retry(&mut self, slot: Slot, to: BrokerIndex) -> Option<Outgoing> {
        let partition = &mut self.partitions[slot.0];
        let oldest = partition.in_flight.front()?.ordinal;
        let batch = partition.in_flight.iter_mut().find(|batch| batch.waiting.is_some())?;
        // Halves may make more of them than the broker knows again.
        if batch.ordinal - oldest >= self.config.in_flight_max as u64 {
            return None;
        }
        let (payload, bytes) = match batch.waiting.take()? {
            Waiting::Built(bytes) => {
                let size = bytes.len();
                (Payload::Built(bytes), size)
            }
            Waiting::Part { whole, first } => {
                let builder = BatchBuilder::with_pool(self.config.compression, &self.pool);
                (Payload::Part(Part { whole, first, count: batch.count, builder }), batch.bytes)
            }
        };
        batch.attempts = batch.attempts.saturating_add(1);
        let (number, base_sequence) = (batch.batch, batch.base_sequence);
        let completion = Arc::clone(&batch.completion);
        partition.outstanding += 1;
        partition.outstanding_to = Some(to);
        self.counters.retries += 1;
        self.counters.bytes += bytes as u64;
        Some(self.outgoing(slot, number, base_sequence, payload, completion))
    }

    fn outgoing(
        &self,
        slot: Slot,
        batch: u64,
        base_sequence: Sequence,
        payload: Payload,
        completion: Arc<Completion>,
    ) -> Outgoing {
        let partition = &self.partitions[slot.0];
        let topic = &self.topics[partition.topic];
        Outgoing {
            slot,
            batch,
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition: partition.partition,
            identity: partition.identity,
            base_sequence,
            transactional: self.transactions.is_some(),
            payload,
            completion,
        }
    }

    fn next_retry(&self, broker: BrokerIndex, now: MonoMs) -> Option<MonoMs> {
        let ready = self.brokers[broker.0].ready.iter();
        let timed = ready.map(|slot| &self.partitions[slot.0]).filter(|partition| {
            !partition.awaits_event(broker, self.identity) && partition.retry_at > now
        });
        timed.map(|partition| partition.retry_at).min()
    }
}

impl Partition {
    /// Takes over an identity, renumbering from 0 what waits: it is known not to be in the log.
    fn adopt(&mut self, current: Identity) {
        assert!(self.outstanding == 0, "what is under way counts under the old identity");
        // Of an id it knows, a broker takes a new epoch from its first sequence only.
        self.is_known &= self.identity.id == current.id;
        self.identity = current;
        self.needs_identity = false;
        self.next_sequence = Sequence(0);
        for batch in &mut self.in_flight {
            batch.in_doubt = false;
            batch.part_in_doubt = false;
            batch.base_sequence = self.next_sequence;
            self.next_sequence = self.next_sequence.plus(batch.count);
        }
    }
}

/// Answers.
impl Accumulator {
    /// Takes the answers to one request of this broker, with the bytes of each batch for a retry.
    pub(crate) fn on_answers(
        &mut self,
        broker: BrokerIndex,
        incarnation: u32,
        answers: Vec<(Slot, u64, Bytes, Answer)>,
        now: MonoMs,
    ) -> Effects {
        let mut effects = Effects::default();
        if incarnation != self.incarnation {
            return effects;
        }
        self.brokers[broker.0].in_flight -= 1;
        for (slot, batch, bytes, answer) in answers {
            self.on_answer(slot, batch, bytes, answer, now, &mut effects);
            self.settle(slot);
            self.list(slot);
            // The partition may have moved meanwhile.
            if let Some(leader) = self.partitions[slot.0].leader {
                if leader != broker && self.partitions[slot.0].listed {
                    self.wake(leader);
                }
            }
        }
        self.discard_if_failed(&mut effects);
        self.wake(broker);
        effects
    }

    /// A request was answered: how long that took, and how long the broker wants to be left alone. A
    /// wait near the delivery timeout would only fail what waits.
    pub(crate) fn note_request(
        &mut self,
        broker: BrokerIndex,
        latency_us: u64,
        throttle_ms: i32,
        now: MonoMs,
    ) {
        let throttle_ms = u64::try_from(throttle_ms).unwrap_or(0);
        let throttle_ms = throttle_ms.min(u64::from(self.config.delivery_timeout_ms) / 2);
        let counters = &mut self.counters;
        counters.answers += 1;
        counters.request_latency_us += latency_us;
        counters.request_latency_us_max = counters.request_latency_us_max.max(latency_us);
        counters.throttle_ms += throttle_ms;
        counters.throttle_ms_max = counters.throttle_ms_max.max(throttle_ms);
        let broker = &mut self.brokers[broker.0];
        broker.throttled_until = broker.throttled_until.max(now.plus_ms(throttle_ms));
    }

    fn on_answer(
        &mut self,
        slot: Slot,
        batch_number: u64,
        bytes: Bytes,
        answer: Answer,
        now: MonoMs,
        effects: &mut Effects,
    ) {
        let partition = &mut self.partitions[slot.0];
        let Some(index) = partition.in_flight.iter().position(|b| b.batch == batch_number) else {
            return;
        };
        partition.outstanding -= 1;
        let batch = &mut partition.in_flight[index];
        batch.in_doubt |= answer.leaves_doubt(&batch.completion);
        match self.verdict(slot, index, answer) {
            Verdict::Acked(outcome) => {
                let batch_bytes_max = self.config.batch_bytes_max;
                let partition = &mut self.partitions[slot.0];
                partition.failures = 0;
                partition.is_known = true;
                partition.retry_at = MonoMs::default();
                partition.widen_batches(partition.in_flight[index].bytes, batch_bytes_max);
                self.finish(slot, index, outcome, effects);
            }
            Verdict::Failed(error) => {
                // Its sequence stays unused on the broker: those after it need a new identity. While an
                // older one may be in the log already, that one must go again as it was, or it would
                // be there twice; those after this one are then refused as out of order.
                // So must a part that may be in the log behind it: only the old sequences tell.
                let renumbers = self.renumbers();
                let partition = &mut self.partitions[slot.0];
                let next_is_in_doubt = partition.in_flight.get(1).is_some_and(|b| b.part_in_doubt);
                partition.needs_identity |=
                    renumbers && index == 0 && !next_is_in_doubt && !partition.retired;
                self.finish(slot, index, Outcome::Failed(error), effects);
            }
            Verdict::Split(error) => {
                if !self.split(slot, index, bytes) {
                    self.partitions[slot.0].needs_identity |= self.renumbers() && index == 0;
                    self.finish(slot, index, Outcome::Failed(error), effects);
                }
            }
            Verdict::Retry { reason, refresh } => {
                effects.refresh_metadata |= refresh;
                let retry_at = now.plus_ms(self.backoff_ms(slot));
                let partition = &mut self.partitions[slot.0];
                if !partition.recovering {
                    partition.failures = partition.failures.saturating_add(1);
                }
                self.keep_for_retry(slot, index, bytes, reason, retry_at, effects);
            }
            Verdict::Soon { reason } => {
                let batch = &mut self.partitions[slot.0].in_flight[index];
                batch.attempts = batch.attempts.saturating_sub(1);
                let retry_at = now.plus_ms(MARKERS_BACKOFF_MS);
                self.keep_for_retry(slot, index, bytes, reason, retry_at, effects);
            }
        }
    }

    fn verdict(&mut self, slot: Slot, index: usize, answer: Answer) -> Verdict {
        let (code, message) = match answer {
            Answer::Acked { base_offset, append_time } => {
                return Verdict::Acked(Outcome::Acked { base_offset, append_time });
            }
            Answer::Lost { .. } if self.partitions[slot.0].retired => {
                let topic = self.partitions[slot.0].topic;
                return Verdict::Failed(self.gone(topic));
            }
            Answer::Lost { reason } => return Verdict::Retry { reason, refresh: true },
            Answer::Refused { code, message } => (code, message),
        };
        let reason = message
            .as_deref()
            .map_or_else(|| code.name().to_owned(), |text| format!("{}: {text}", code.name()));
        if self.partitions[slot.0].retired {
            let topic = self.partitions[slot.0].topic;
            return Verdict::Failed(self.gone(topic));
        }
        match code {
            // In the log already, too long ago for the broker to remember where.
            ErrorCode::DuplicateSequenceNumber => {
                Verdict::Acked(Outcome::Acked { base_offset: None, append_time: None })
            }
            ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
                if index == 0 && self.partitions[slot.0].in_flight[index].part_in_doubt =>
            {
                // The whole may be in the log, and then this part is: under a new identity it would be
                // there twice.
                Verdict::Failed(self.timeout_error(reason, false))
            }
            ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
                if self.renumbers() || (self.config.idempotent && index > 0) =>
            {
                // Behind one that failed itself this only follows from it. As the oldest it means that
                // the broker lost what it had acknowledged, or that a sequence is missing: it is not in
                // the log, so it goes again under a new identity (KIP-360). In a transaction it fails that
                // one: what it has lost went with the identity.
                self.partitions[slot.0].needs_identity |= index == 0;
                Verdict::Retry { reason, refresh: false }
            }
            ErrorCode::ProducerFenced if self.transactions.is_some() => {
                Verdict::Failed(self.die_fenced())
            }
            ErrorCode::ConcurrentTransactions => Verdict::Soon { reason },
            code if code.is_retriable() => Verdict::Retry { reason, refresh: true },
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
                Verdict::Split(ProduceError::Refused { code, message })
            }
            _ => Verdict::Failed(ProduceError::Refused { code, message }),
        }
    }

    fn keep_for_retry(
        &mut self,
        slot: Slot,
        index: usize,
        bytes: Bytes,
        reason: String,
        retry_at: MonoMs,
        effects: &mut Effects,
    ) {
        let partition = &mut self.partitions[slot.0];
        let batch = &mut partition.in_flight[index];
        let may_retry = self.transactions.as_ref().is_none_or(Transactions::may_retry);
        let gave_up = batch.timed_out || batch.attempts > self.config.retries_max || !may_retry;
        batch.last_error = reason;
        batch.waiting = Some(Waiting::Built(bytes));
        if !partition.recovering {
            partition.recovering = true;
            partition.retry_at = retry_at;
        }
        if gave_up {
            self.give_up(slot, index, effects);
        }
    }

    fn backoff_ms(&self, slot: Slot) -> u64 {
        let doublings = self.partitions[slot.0].failures.min(16);
        let backoff = u64::from(self.retry_backoff_ms) << doublings;
        backoff.min(self.retry_backoff_ms_max.into())
    }

    /// Fails a batch whose fate on the broker is unknown, or that never got there. Its sequence may be
    /// missing there.
    fn give_up(&mut self, slot: Slot, index: usize, effects: &mut Effects) {
        let partition = &mut self.partitions[slot.0];
        let last = std::mem::take(&mut partition.in_flight[index].last_error);
        // Those behind it keep their sequences: if it did reach the log they fit, if not the broker
        // says OUT_OF_ORDER and they are renumbered. New ones wait for that.
        let is_alone = partition.in_flight.len() == 1;
        let unwritten = partition.in_flight[index].completion.withdraw();
        self.partitions[slot.0].needs_identity |= self.renumbers() && is_alone;
        let error = self.discarded_with().unwrap_or_else(|| self.timeout_error(last, unwritten));
        self.finish(slot, index, Outcome::Failed(error), effects);
    }

    /// Removes a batch and frees its bytes.
    fn finish(&mut self, slot: Slot, index: usize, outcome: Outcome, effects: &mut Effects) {
        let Some(batch) = self.partitions[slot.0].in_flight.remove(index) else { return };
        if !batch.timed_out {
            self.note_outcome(&outcome, true);
            self.count_outcome(batch.count, &outcome);
            effects.completed.push((batch.completion, outcome));
        }
        effects.freed_room = true;
        self.free(slot, batch.bytes, batch.count);
        self.decided(slot, batch.generation);
    }

    /// A batch is decided: those that waited for it, as the topic grew after it, may go.
    fn decided(&mut self, slot: Slot, generation: u32) {
        let topic = self.partitions[slot.0].topic;
        if !self.topics[topic].generations.decided(generation) {
            return;
        }
        for at in 0..self.topics[topic].slots.len() {
            let slot = self.topics[topic].slots[at];
            self.list(slot);
            if let Some(leader) = self.partitions[slot.0].leader {
                self.wake(leader);
            }
        }
    }

    fn count_outcome(&mut self, count: i32, outcome: &Outcome) {
        let count = count as u64;
        match outcome {
            Outcome::Acked { .. } => self.counters.records_acked += count,
            Outcome::Failed(_) => self.counters.records_failed += count,
            Outcome::Parts(_) => debug_assert!(false, "halves are counted each"),
        }
    }

    fn free(&mut self, slot: Slot, bytes: usize, count: i32) {
        let partition = &mut self.partitions[slot.0];
        assert!(partition.bytes >= bytes, "more bytes freed than taken");
        partition.bytes -= bytes;
        self.buffered_bytes -= bytes;
        self.buffered_records -= count as u64;
        self.freed_epoch += 1;
    }

    /// Ends recovery once nothing is under way, and asks for an identity where one is needed.
    fn settle(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot.0];
        if partition.outstanding > 0 {
            return;
        }
        partition.recovering = false;
        partition.outstanding_to = None;
        if partition.needs_identity && self.identity == Some(partition.identity) {
            self.identity_wanted = true;
        }
    }
}

enum Verdict {
    Acked(Outcome),
    /// Too large: in halves, or not at all.
    Split(ProduceError),
    Failed(ProduceError),
    Retry {
        reason: String,
        refresh: bool,
    },
    /// Not an attempt: the markers of the transaction before are being written still.
    Soon {
        reason: String,
    },
}

impl Answer {
    /// Whether the batch may be in the log though it was not acknowledged. A leader that steps down while
    /// a write waits for its followers answers as if it had none.
    fn leaves_doubt(&self, completion: &Completion) -> bool {
        match self {
            Answer::Acked { .. } => false,
            Answer::Lost { .. } => completion.may_be_written(),
            Answer::Refused {
                code: ErrorCode::ConcurrentTransactions | ErrorCode::NotEnoughReplicas,
                ..
            } => false,
            Answer::Refused { code, .. } => code.is_retriable(),
        }
    }
}

/// Time and the end.
impl Accumulator {
    /// Fails what is older than the delivery timeout. A batch under way fails now, and its answer, when
    /// it comes, only settles the sequence.
    pub(crate) fn expire(&mut self, now: MonoMs) -> Effects {
        let mut effects = Effects::default();
        let timeout_ms = u64::from(self.config.delivery_timeout_ms);
        let expired = |opened_at: MonoMs| now.since(opened_at) >= timeout_ms;
        for index in 0..self.partitions.len() {
            let slot = Slot(index);
            self.expire_unsent(slot, now, &expired, &mut effects);
            self.expire_sent(slot, &expired, &mut effects);
            self.settle(slot);
        }
        self.retire_missing(now, &mut effects);
        self.discard_if_failed(&mut effects);
        effects
    }

    /// Fails what has never been handed to a connection, however young.
    pub(crate) fn recall_unsent(&mut self, now: MonoMs) -> Effects {
        let mut effects = Effects::default();
        for index in 0..self.partitions.len() {
            let slot = Slot(index);
            self.expire_unsent(slot, now, &|_| true, &mut effects);
            let mut at = 0;
            while let Some(batch) = self.partitions[index].in_flight.get_mut(at) {
                if batch.timed_out || !batch.completion.withdraw() {
                    at += 1;
                } else if batch.waiting.is_some() {
                    self.give_up(slot, at, &mut effects);
                } else {
                    self.time_out(slot, at, &mut effects);
                    at += 1;
                }
            }
            self.settle(slot);
        }
        self.discard_if_failed(&mut effects);
        effects
    }

    fn expire_unsent(
        &mut self,
        slot: Slot,
        now: MonoMs,
        expired: &impl Fn(MonoMs) -> bool,
        effects: &mut Effects,
    ) {
        let partition = &mut self.partitions[slot.0];
        if let Some(open) = &mut partition.open {
            // Without a leader no loop stamps it.
            if expired(*open.opened_at.get_or_insert(now)) {
                self.seal(slot);
            }
        }
        loop {
            let partition = &mut self.partitions[slot.0];
            let Some(first) = partition.sealed.front_mut() else { break };
            if !expired(*first.opened_at.get_or_insert(now)) {
                break;
            }
            let last = match (partition.leader, &self.identity_error) {
                (None, _) => "partition has no leader",
                (Some(_), Some(reason)) => reason,
                (Some(_), None) => "not sent yet",
            };
            let error = self.timeout_error(last.to_owned(), true);
            self.fail_unsent(slot, error, effects);
        }
    }

    fn timeout_error(&self, last: String, unwritten: bool) -> ProduceError {
        let timeout_ms = self.config.delivery_timeout_ms;
        if unwritten {
            ProduceError::NotSent { timeout_ms, last }
        } else {
            ProduceError::DeliveryTimeout { timeout_ms, last }
        }
    }

    /// Fails the first sealed batch. It has no sequence, so nothing follows from it.
    fn fail_unsent(&mut self, slot: Slot, error: ProduceError, effects: &mut Effects) {
        let partition = &mut self.partitions[slot.0];
        let Some(batch) = partition.sealed.pop_front() else { return };
        if let Some(leader) = partition.leader {
            let broker = &mut self.brokers[leader.0];
            broker.pending_bytes -= batch.bytes;
            broker.sealed_count -= 1;
        }
        let outcome = Outcome::Failed(error);
        self.note_outcome(&outcome, false);
        self.count_outcome(batch.count, &outcome);
        effects.completed.push((batch.completion, outcome));
        effects.freed_room = true;
        self.free(slot, batch.bytes, batch.count);
        self.decided(slot, batch.generation);
    }

    fn expire_sent(
        &mut self,
        slot: Slot,
        expired: &impl Fn(MonoMs) -> bool,
        effects: &mut Effects,
    ) {
        let mut index = 0;
        while index < self.partitions[slot.0].in_flight.len() {
            let batch = &mut self.partitions[slot.0].in_flight[index];
            if !expired(batch.opened_at) {
                break;
            }
            if batch.waiting.is_some() {
                self.give_up(slot, index, effects);
                continue;
            }
            if !batch.timed_out {
                self.time_out(slot, index, effects);
            }
            index += 1;
        }
    }

    /// Fails a batch under way. Its answer, when it comes, settles the sequence.
    fn time_out(&mut self, slot: Slot, index: usize, effects: &mut Effects) {
        let batch = &mut self.partitions[slot.0].in_flight[index];
        batch.timed_out = true;
        let (count, completion) = (batch.count, Arc::clone(&batch.completion));
        let unwritten = completion.withdraw();
        let last = if unwritten { "no connection" } else { "no answer" };
        let outcome = Outcome::Failed(self.timeout_error(last.to_owned(), unwritten));
        self.note_outcome(&outcome, true);
        self.count_outcome(count, &outcome);
        effects.completed.push((completion, outcome));
    }

    /// Fails everything and stops: the deadline of `close` has come.
    pub(crate) fn abandon_all(&mut self) -> Effects {
        let mut effects = Effects::default();
        for index in 0..self.partitions.len() {
            let slot = Slot(index);
            self.seal(slot);
            while !self.partitions[index].sealed.is_empty() {
                self.fail_unsent(slot, ProduceError::Abandoned, &mut effects);
            }
            while !self.partitions[index].in_flight.is_empty() {
                let abandoned = Outcome::Failed(ProduceError::Abandoned);
                self.finish(slot, 0, abandoned, &mut effects);
            }
            self.partitions[index].outstanding = 0;
        }
        self.set_life(Life::Stopped);
        effects
    }

    /// Starts again after a stop, with a new identity to be asked for.
    pub(crate) fn restart(&mut self) -> Result<(), ProduceError> {
        if self.life != Life::Stopped {
            return Err(ProduceError::AlreadyRunning);
        }
        debug_assert_eq!(self.buffered_bytes, 0, "a stopped producer holds nothing");
        for broker in &mut self.brokers {
            broker.in_flight = 0;
            broker.wake_at_bytes = 1;
        }
        for partition in &mut self.partitions {
            // What was abandoned may or may not be in the log.
            partition.needs_identity = self.config.idempotent
                && self.transactions.is_none()
                && partition.identity != Identity::NONE;
            partition.recovering = false;
            partition.outstanding_to = None;
        }
        self.incarnation += 1;
        self.restart_transactions();
        self.identity_wanted = self.config.idempotent && self.transactions.is_none();
        self.life = Life::Running;
        self.renew_admits();
        Ok(())
    }
}

mod retired;
#[cfg(test)]
mod tests;
