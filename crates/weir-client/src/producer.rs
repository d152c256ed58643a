//! The producer: records in, deliveries out.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use weir_protocol::types::{PartitionId, TimestampMs};

use crate::accumulator::{Accumulator, Appended, Life, Slot, Taken};
use crate::attempts::Attempts;
use crate::client::Client;
use crate::config::{Acks, ProducerConfig, IDEMPOTENT_IN_FLIGHT_MAX};
use crate::delivery::{BatchDelivery, Completion, Delivery};
use crate::error::{ClientError, ProduceError};
use crate::interceptor::Intercepted;
use crate::record::Record;
use crate::sender::Shared;

mod transactional;

/// Figures of a producer since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProducerStats {
    /// Records taken.
    pub records_sent: u64,
    /// Records acknowledged.
    pub records_acked: u64,
    /// Records failed for good.
    pub records_failed: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Batches the broker found too large, sent again in halves.
    pub splits: u64,
    /// Produce requests made.
    pub requests: u64,
    /// Produce requests answered.
    pub answers: u64,
    /// From the write of a produce request to its answer, of all that were answered, in microseconds.
    pub request_latency_us: u64,
    /// The longest such time.
    pub request_latency_us_max: u64,
    /// How long brokers have told this producer to wait for its quota, in milliseconds. It does.
    pub throttle_ms: u64,
    /// The longest such wait.
    pub throttle_ms_max: u64,
    /// Batches sent for the first time.
    pub batches: u64,
    /// Their bytes before compression.
    pub batch_bytes: u64,
    /// Transactions committed.
    pub transactions_committed: u64,
    /// Transactions aborted.
    pub transactions_aborted: u64,
    /// What `buffered_bytes` may come to.
    pub buffer_bytes_max: usize,
    /// Bytes of record batches sent, retries included, before compression on the first send.
    pub bytes: u64,
    /// Bytes of records not answered yet.
    pub buffered_bytes: usize,
    /// Records not answered yet.
    pub buffered_records: u64,
}

/// Kafka's figures of a producer, from the counters. A rate is the difference of a counter between two
/// looks.
impl ProducerStats {
    /// `buffer-available-bytes`.
    pub fn buffer_available_bytes(&self) -> usize {
        self.buffer_bytes_max.saturating_sub(self.buffered_bytes)
    }

    /// `batch-size-avg`: bytes of a batch before compression; `None` before the first.
    pub fn batch_bytes_avg(&self) -> Option<f64> {
        ratio(self.batch_bytes, self.batches)
    }

    /// `request-latency-avg` in milliseconds; `None` before the first answer.
    pub fn request_latency_ms_avg(&self) -> Option<f64> {
        ratio(self.request_latency_us, self.answers).map(|us| us / 1_000.0)
    }

    /// `produce-throttle-time-avg` in milliseconds; `None` before the first answer.
    pub fn throttle_ms_avg(&self) -> Option<f64> {
        ratio(self.throttle_ms, self.answers)
    }

    /// Of all records decided, how many have failed; `None` before the first.
    pub fn record_error_ratio(&self) -> Option<f64> {
        ratio(self.records_failed, self.records_failed + self.records_acked)
    }
}

fn ratio(sum: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / count as f64)
}

/// Sends records, batched per partition, idempotent by default.
///
/// All methods take `&self`; share it by `Arc`. Dropping it abandons what is not delivered: `close`
/// first.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    next_stamp: AtomicU64,
}

impl Producer {
    /// Makes a producer and starts it. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Config`] for settings that contradict each other.
    pub fn new(client: Arc<Client>, config: ProducerConfig) -> Result<Producer, ClientError> {
        check(&config)?;
        let shared = Shared::new(client, config);
        shared.start();
        Ok(Producer { shared, next_stamp: AtomicU64::new(1) })
    }

    /// Starts it again after `close`.
    ///
    /// # Errors
    /// [`ProduceError::AlreadyRunning`] if it was not closed.
    pub fn start(&self) -> Result<(), ProduceError> {
        self.shared.core().restart()?;
        self.shared.start();
        Ok(())
    }

    /// Waits until the topic's partitions are known, so that `send` takes records for it. Creates the
    /// topic where the cluster does that. Waits at most `max_block_ms`.
    ///
    /// # Errors
    /// [`ProduceError::TopicNotReady`] when the time is over, [`ProduceError::TopicRefused`] when the
    /// cluster says no.
    pub async fn ready(&self, topic: &str) -> Result<(), ProduceError> {
        self.ready_until(topic, self.block_deadline()).await
    }

    async fn ready_until(&self, topic: &str, deadline: Instant) -> Result<(), ProduceError> {
        self.shared.want_topic(topic);
        let left = deadline.saturating_duration_since(Instant::now());
        match self.shared.client.topic(topic, left).await {
            Ok(_) => {
                self.shared.update_topics();
                Ok(())
            }
            Err(ClientError::Broker { code, .. }) => {
                Err(ProduceError::TopicRefused { topic: topic.to_owned(), code })
            }
            Err(_) => Err(ProduceError::TopicNotReady { topic: topic.to_owned() }),
        }
    }

    /// How many partitions the topic has, if that is known.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        self.shared.core().partition_count(topic)
    }

    /// Encodes the record into the open batch of its partition. Never waits.
    ///
    /// # Errors
    /// [`ProduceError::BufferFull`], [`ProduceError::TopicNotReady`] (see [`Producer::ready`]),
    /// [`ProduceError::RecordTooLarge`], [`ProduceError::NoSuchPartition`],
    /// [`ProduceError::ShuttingDown`], [`ProduceError::NotRunning`]. The record was not taken then.
    pub fn send(&self, record: Record<'_>) -> Result<Delivery, ProduceError> {
        let mut appender = self.appender();
        appender.append_tracked(&record)
    }

    /// As `send`, but waits for metadata and room, up to `max_block_ms`. Returns when the record is
    /// taken; await the delivery to know it is safe.
    ///
    /// # Errors
    /// As `send`, when the time is over.
    pub async fn send_wait(&self, record: Record<'_>) -> Result<Delivery, ProduceError> {
        if self.shared.config.interceptors.is_empty() {
            return self.send_until(&record, self.block_deadline()).await;
        }
        let intercepted = Intercepted::new(&self.shared.config.interceptors, &record);
        let headers = intercepted.changed_headers();
        let record = intercepted.record(headers.as_deref());
        self.send_until(&record, self.block_deadline()).await
    }

    /// Of a record that the interceptors have seen.
    async fn send_until(
        &self,
        record: &Record<'_>,
        deadline: Instant,
    ) -> Result<Delivery, ProduceError> {
        loop {
            // Made before the attempt, so that room freed in between is not missed.
            let room = self.shared.room.notified();
            // Apart, so that the lock is free before anything is waited for.
            let sent = self.appender().place(record, Appender::append_tracked_as_is);
            let error = match sent {
                Err(error @ ProduceError::BufferFull { .. }) => error,
                Err(ProduceError::TopicNotReady { topic }) => {
                    self.ready_until(&topic, deadline).await?;
                    continue;
                }
                done => return done,
            };
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                return Err(error);
            }
        }
    }

    /// Takes the lock once for many records: `append` appends as many as it likes. What it returns
    /// comes back with one delivery for all records taken.
    ///
    /// While `append` runs no other call of this producer gets on, so it should only make records, and must
    /// not call the producer.
    pub fn send_batch<R>(&self, append: impl FnOnce(&mut Appender<'_>) -> R) -> (R, BatchDelivery) {
        let mut appender = self.appender();
        appender.stamp = self.next_stamp.fetch_add(1, Ordering::Relaxed);
        let result = append(&mut appender);
        let delivery = std::mem::take(&mut appender.delivery);
        (result, delivery)
    }

    /// Waits, after [`ProduceError::BufferFull`], until something was delivered or failed; at most
    /// `max_block_ms`. Then try again.
    ///
    /// # Errors
    /// [`ProduceError::BufferFull`] when the time is over.
    pub async fn wait_for_room(&self) -> Result<(), ProduceError> {
        let deadline = self.block_deadline();
        loop {
            let room = self.shared.room.notified();
            if self.shared.core().has_freed_room() {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                return Err(ProduceError::BufferFull {
                    used_bytes: self.shared.core().buffered_bytes(),
                    limit_bytes: self.shared.config.buffer_bytes_max,
                    partition: None,
                });
            }
        }
    }

    /// Waits until everything sent before this call is delivered or failed.
    pub async fn flush(&self) {
        let completions = self.shared.core().seal_all();
        self.shared.wake_brokers();
        decided(completions).await;
    }

    /// Takes no more records, delivers what is there until the deadline, then fails the rest with
    /// [`ProduceError::Abandoned`]. A transaction that is open is aborted.
    ///
    /// # Errors
    /// [`ProduceError::Abandoned`] if something was abandoned, [`ProduceError::ShuttingDown`] or
    /// [`ProduceError::NotRunning`] if it was closed before.
    pub async fn close(&self, deadline: Duration) -> Result<(), ProduceError> {
        let until = Instant::now() + deadline;
        self.abort_unfinished(deadline).await;
        let completions = {
            let mut core = self.shared.core();
            match core.life() {
                Life::Running => core.set_life(Life::Draining),
                Life::Draining => return Err(ProduceError::ShuttingDown),
                Life::Stopped => return Err(ProduceError::NotRunning),
            }
            core.seal_all()
        };
        self.shared.wake_brokers();
        let _ = tokio::time::timeout_at(until, decided(completions)).await;
        if self.abandon() {
            return Err(ProduceError::Abandoned);
        }
        Ok(())
    }

    /// Stops at once; `true` if records were given up.
    fn abandon(&self) -> bool {
        let effects = self.shared.core().abandon_all();
        self.shared.stop();
        let any = !effects.completed.is_empty();
        self.shared.announce(effects);
        any
    }

    /// How its attempts to reach brokers go: news of each that fails, and of the first that succeeds
    /// after one. So a cluster that is away is seen long before deliveries time out.
    pub fn attempts(&self) -> watch::Receiver<Attempts> {
        self.shared.attempts.subscribe()
    }

    /// Gives up, with [`ProduceError::NotSent`], all records that have not been handed to a connection
    /// yet: for a caller that would rather keep them itself while the cluster is away. What may be in
    /// the log is not touched.
    pub fn recall_unsent(&self) {
        let now = self.shared.now();
        let effects = self.shared.core().recall_unsent(now);
        self.shared.announce(effects);
        self.shared.wake_brokers();
    }

    /// Figures since it was made.
    pub fn stats(&self) -> ProducerStats {
        let core = self.shared.core();
        let counters = core.counters;
        ProducerStats {
            records_sent: counters.records_sent,
            records_acked: counters.records_acked,
            records_failed: counters.records_failed,
            retries: counters.retries,
            splits: counters.splits,
            requests: counters.requests,
            answers: counters.answers,
            request_latency_us: counters.request_latency_us,
            request_latency_us_max: counters.request_latency_us_max,
            throttle_ms: counters.throttle_ms,
            throttle_ms_max: counters.throttle_ms_max,
            batches: counters.batches,
            batch_bytes: counters.batch_bytes,
            transactions_committed: counters.transactions_committed,
            transactions_aborted: counters.transactions_aborted,
            buffer_bytes_max: self.shared.config.buffer_bytes_max,
            bytes: counters.bytes,
            buffered_bytes: core.buffered_bytes(),
            buffered_records: core.buffered_records(),
        }
    }

    fn block_deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.shared.config.max_block_ms.into())
    }

    fn appender(&self) -> Appender<'_> {
        Appender {
            core: Some(self.shared.core()),
            shared: &self.shared,
            now: None,
            stamp: 0,
            delivery: BatchDelivery::default(),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.abandon();
    }
}

async fn decided(completions: Vec<Arc<Completion>>) {
    let all = BatchDelivery { count: 0, completions };
    // Their errors belong to whoever sent them.
    let _ = all.wait().await;
}

pub(crate) fn check(config: &ProducerConfig) -> Result<(), ClientError> {
    let refuse = |key, reason: &str| Err(ClientError::Config { key, reason: reason.to_owned() });
    if config.idempotent && config.acks != Acks::All {
        return refuse("acks", "an idempotent producer needs acks all");
    }
    if config.transactional_id.is_some() && !config.idempotent {
        return refuse("transactional_id", "a transactional producer needs idempotence");
    }
    if config.transactional_id.as_ref().is_some_and(String::is_empty) {
        return refuse("transactional_id", "is empty");
    }
    if let Some(level) = config.compression_level {
        match config.compression.levels() {
            Some(levels) if levels.contains(&level) => {}
            Some(levels) => {
                let (codec, low, high) = (config.compression, levels.start(), levels.end());
                return refuse("compression_level", &format!("{codec} has levels {low} to {high}"));
            }
            None => {
                let codec = config.compression;
                return refuse("compression_level", &format!("{codec} has no levels"));
            }
        }
    }
    if config.in_flight_max == 0 {
        return refuse("in_flight_max", "must be at least 1");
    }
    if config.idempotent && config.in_flight_max > IDEMPOTENT_IN_FLIGHT_MAX {
        return refuse("in_flight_max", "an idempotent producer may have 5 requests in flight");
    }
    if config.batch_bytes_max > config.partition_buffer_bytes_max
        || config.partition_buffer_bytes_max > config.buffer_bytes_max
    {
        return refuse(
            "batch_bytes_max",
            "must be at most partition_buffer_bytes_max, and that at most buffer_bytes_max",
        );
    }
    Ok(())
}

/// Appends records while it holds the producer's lock; see [`Producer::send_batch`].
pub struct Appender<'a> {
    /// Not there while the program is asked. The lock must be free before others are woken.
    core: Option<MutexGuard<'a, Accumulator>>,
    shared: &'a Arc<Shared>,
    /// Wall time, read at the first record that needs it.
    now: Option<TimestampMs>,
    stamp: u64,
    delivery: BatchDelivery,
}

impl fmt::Debug for Appender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

impl<'a> Appender<'a> {
    /// As [`Producer::send`], without a future of its own: the delivery of the whole `send_batch`
    /// covers it.
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), ProduceError> {
        if self.shared.asks_program {
            return self.ask_program(record, Self::append_as_is);
        }
        self.append_as_is(record)
    }

    #[inline]
    fn append_as_is(&mut self, record: &Record<'_>) -> Result<(), ProduceError> {
        let now = self.wall_time(record);
        let Some(core) = self.core.as_mut() else { return Err(ProduceError::NotRunning) };
        let appended = core.append(record, now, self.stamp);
        self.took(appended, record).map(drop)
    }

    /// As `append`, with a future for this record.
    ///
    /// # Errors
    /// As there.
    pub fn append_tracked(&mut self, record: &Record<'_>) -> Result<Delivery, ProduceError> {
        if self.shared.asks_program {
            return self.ask_program(record, Self::append_tracked_as_is);
        }
        self.append_tracked_as_is(record)
    }

    #[inline]
    fn append_tracked_as_is(&mut self, record: &Record<'_>) -> Result<Delivery, ProduceError> {
        let now = self.wall_time(record);
        let Some(core) = self.core.as_mut() else { return Err(ProduceError::NotRunning) };
        let appended = core.append(record, now, self.stamp);
        let slot = self.took(appended, record)?;
        let appended = self.core.as_ref().and_then(|core| core.last_appended(slot));
        let Some(Appended { completion, index }) = appended else {
            return Err(ProduceError::NotRunning);
        };
        Ok(Delivery::new(completion, index))
    }

    /// As `append`, but `write` puts the value in place, at the end of the buffer it gets;
    /// `record.value` is ignored. `value_bytes_hint` is about how many bytes it writes, or more.
    ///
    /// # Errors
    /// As there.
    pub fn append_with(
        &mut self,
        record: &Record<'_>,
        value_bytes_hint: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ProduceError> {
        if self.shared.asks_program {
            let bare = Record { value: None, ..*record };
            // Not in place: a second copy of the fast path below would keep it from being inlined.
            return self.ask_program(&bare, |this, record| {
                let mut value = Vec::with_capacity(value_bytes_hint);
                write(&mut value);
                this.append_as_is(&Record { value: Some(&value), ..*record })
            });
        }
        self.append_with_as_is(record, value_bytes_hint, write)
    }

    #[inline]
    fn append_with_as_is(
        &mut self,
        record: &Record<'_>,
        value_bytes_hint: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ProduceError> {
        let now = self.wall_time(record);
        let Some(core) = self.core.as_mut() else { return Err(ProduceError::NotRunning) };
        let appended = core.append_with(record, value_bytes_hint, now, self.stamp, write);
        self.took(appended, record).map(drop)
    }

    /// Lets the interceptors change the record, and the program's partitioner place it.
    #[cold]
    fn ask_program<R>(
        &mut self,
        record: &Record<'_>,
        append: impl FnOnce(&mut Self, &Record<'_>) -> Result<R, ProduceError>,
    ) -> Result<R, ProduceError> {
        self.unlock();
        let intercepted = Intercepted::new(&self.shared.config.interceptors, record);
        let headers = intercepted.changed_headers();
        self.place(&intercepted.record(headers.as_deref()), append)
    }

    /// Has the program's partitioner place the record, without the lock: it may call the producer. Again,
    /// if the topic has got more partitions meanwhile, or the records of a key would go to two.
    fn place<R>(
        &mut self,
        record: &Record<'_>,
        append: impl FnOnce(&mut Self, &Record<'_>) -> Result<R, ProduceError>,
    ) -> Result<R, ProduceError> {
        if !self.shared.asks_program {
            return append(self, record);
        }
        let mut asked: Option<(i32, Option<PartitionId>)> = None;
        loop {
            let core = self.lock();
            let wanted = match record.partition {
                Some(_) => None,
                None => core.custom_partitioner(record.topic),
            };
            let Some((custom, count)) = wanted else { return append(self, record) };
            match asked {
                Some((with, partition)) if with == count => {
                    return append(self, &Record { partition, ..*record });
                }
                _ => {}
            }
            self.unlock();
            asked = Some((count, custom.partition(record, count).map(PartitionId)));
        }
    }

    fn lock(&mut self) -> &mut Accumulator {
        let shared = self.shared;
        self.core.get_or_insert_with(|| shared.core())
    }

    fn unlock(&mut self) {
        let Some(mut core) = self.core.take() else { return };
        let wakes = core.take_wakes();
        drop(core);
        self.shared.wake(&wakes);
    }

    #[inline]
    fn wall_time(&mut self, record: &Record<'_>) -> TimestampMs {
        if record.timestamp.is_some() {
            return TimestampMs(0);
        }
        let clock = &self.shared.client.config().clock;
        *self.now.get_or_insert_with(|| clock.now())
    }

    #[inline]
    fn took(
        &mut self,
        appended: Result<Taken, ProduceError>,
        record: &Record<'_>,
    ) -> Result<Slot, ProduceError> {
        match appended {
            Ok(Taken { slot, first }) => {
                self.delivery.count += 1;
                self.delivery.completions.extend(first);
                Ok(slot)
            }
            Err(error) => {
                if matches!(error, ProduceError::TopicNotReady { .. }) {
                    self.shared.want_topic(record.topic);
                }
                Err(error)
            }
        }
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        self.unlock();
    }
}
