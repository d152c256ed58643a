//! Consume, transform, produce: each record read leads to its output exactly once, whatever crashes.
//!
//! The output and the consumer's offsets are one transaction. When it fails it is aborted, and the
//! consumer goes back to where it began, so that the same records are read again. Another instance that
//! takes over the partitions fences this one by the group's generation (KIP-447).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use weir_protocol::batch::Header;
use weir_protocol::types::{Offset, PartitionId, Str, TimestampMs};

use crate::config::{DoneBy, GroupConfig};
use crate::consumer::{Consumer, PartitionOffset, TopicPartition};
use crate::error::{ClientError, ErrorClass, ProduceError};
use crate::group::Stays;
use crate::producer::Producer;
use crate::record::{ConsumedRecord, Record};
use crate::transaction::TransactionError;

/// What a transformation gives out. It is sent when the whole batch is transformed.
#[derive(Debug, Default)]
pub struct Outbox {
    records: Vec<Owned>,
}

#[derive(Debug)]
struct Owned {
    topic: Str,
    partition: Option<PartitionId>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: Option<TimestampMs>,
}

impl Outbox {
    /// Takes a copy of the record.
    pub fn push(&mut self, record: &Record<'_>) {
        let header =
            |header: &Header<'_>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
        self.records.push(Owned {
            topic: Str::copy_from(record.topic),
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(header).collect(),
            timestamp: record.timestamp,
        });
    }

    async fn send(self, producer: &Producer) -> Result<(), ProduceError> {
        for owned in &self.records {
            let headers: Vec<Header<'_>> = owned
                .headers
                .iter()
                .map(|(key, value)| Header { key, value: value.as_deref() })
                .collect();
            let record = Record {
                topic: &owned.topic,
                partition: owned.partition,
                key: owned.key.as_deref(),
                value: owned.value.as_deref(),
                headers: &headers,
                timestamp: owned.timestamp,
            };
            // Its delivery is part of the commit.
            drop(producer.send_wait(record).await?);
        }
        Ok(())
    }
}

/// Why a step did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Reading failed; nothing was begun.
    #[error(transparent)]
    Consume(#[from] ClientError),
    /// The transaction.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

impl StepError {
    /// The code a person can look up with `weir explain`.
    pub const fn code(&self) -> &'static str {
        match self {
            StepError::Consume(error) => error.code(),
            StepError::Transaction(error) => error.code(),
        }
    }

    /// What a caller can do about it. After an abortable error the transaction was aborted and the
    /// consumer is back where it was: step again.
    pub fn class(&self) -> ErrorClass {
        match self {
            StepError::Consume(error) => error.class(),
            StepError::Transaction(error) => error.class(),
        }
    }
}

/// A consumer and a transactional producer that go hand in hand. The consumer commits by itself at no
/// time; make it with [`crate::IsolationLevel::ReadCommitted`] where its input comes from transactions.
#[derive(Debug)]
pub struct ExactlyOnce {
    consumer: Consumer,
    producer: Producer,
    /// Where the records begin of which nobody knows yet whether they are committed. Steps that fail, or
    /// are dropped, leave it to the next one. Held during a step: one at a time.
    undecided: Mutex<Option<Firsts>>,
}

/// By partition, the first record.
type Firsts = BTreeMap<TopicPartition, Offset>;

impl ExactlyOnce {
    /// Takes the transactional id over: an earlier instance with it is fenced.
    ///
    /// # Errors
    /// Of [`Producer::init_transactions`]; [`ClientError::Config`] for a consumer without a group, or one
    /// whose group has offsets committed in other ways than by the transactions.
    pub async fn new(consumer: Consumer, producer: Producer) -> Result<Self, TransactionError> {
        check(consumer.group_config())?;
        producer.init_transactions().await?;
        Ok(ExactlyOnce { consumer, producer, undecided: Mutex::default() })
    }

    /// The consumer, to subscribe or assign.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// The producer, for its figures.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Reads what there is, up to `timeout`, transforms it and commits output and offsets as one.
    /// Returns how many records were read. Cancel safe: what a dropped future leaves open the next step
    /// decides first, so that each record is in one committed transaction.
    ///
    /// `transform` may be called again for the same record after a failure: what it does besides the
    /// outbox happens at least once.
    ///
    /// Each call of the producer within it waits at most its `max_block_ms`.
    ///
    /// # Errors
    /// By [`StepError::class`]: after retriable and abortable ones step again; a fatal one ends this
    /// instance.
    pub async fn step(
        &self,
        timeout: Duration,
        mut transform: impl FnMut(&ConsumedRecord, &mut Outbox),
    ) -> Result<usize, StepError> {
        let mut undecided = self.undecided.lock().await;
        self.settle(&mut undecided).await?;
        let records = self.consumer.poll(timeout).await?;
        if records.is_empty() {
            return Ok(0);
        }
        *undecided = Some(firsts(&records));
        let stays = self.consumer.stays(undecided.iter().flat_map(BTreeMap::keys).cloned());
        let mut outbox = Outbox::default();
        for record in &records {
            transform(record, &mut outbox);
        }
        let Err(error) = self.commit(outbox, &records, stays.as_ref()).await else {
            *undecided = None;
            return Ok(records.len());
        };
        match self.settle(&mut undecided).await {
            Ok(Fate::Committed) => Ok(records.len()),
            Ok(Fate::Aborted) => Err(error.into()),
            Err(worse) if worse.class() == ErrorClass::Fatal => Err(worse.into()),
            // The next step goes on with it.
            Err(_) => Err(error.into()),
        }
    }

    async fn commit(
        &self,
        outbox: Outbox,
        records: &[ConsumedRecord],
        stays: Option<&Stays>,
    ) -> Result<(), TransactionError> {
        let must_abort = |reason: String| TransactionError::MustAbort { reason };
        self.producer.begin_transaction()?;
        outbox.send(&self.producer).await.map_err(|error| match error {
            ProduceError::Fenced => TransactionError::Fenced {
                transactional_id: self.producer.transactional_id().unwrap_or_default().to_owned(),
            },
            error => must_abort(error.to_string()),
        })?;
        // The place in which they were read, or none.
        let group = self.consumer.metadata_during(stays).map_err(|e| must_abort(e.to_string()))?;
        let offsets = next_offsets(records);
        self.producer.send_offsets_to_transaction(&offsets, &group).await?;
        self.producer.commit_transaction().await
    }

    /// Finds out how the last transaction went, or aborts it and has the consumer go back. One try: what
    /// is undecided still is left to the next call.
    async fn settle(&self, undecided: &mut Option<Firsts>) -> Result<Fate, TransactionError> {
        if undecided.is_none() {
            return Ok(Fate::Committed);
        }
        if self.producer.is_commit_asked() {
            match self.producer.commit_transaction().await {
                Ok(()) => {
                    *undecided = None;
                    return Ok(Fate::Committed);
                }
                Err(error) if error.class() == ErrorClass::Abortable => {}
                Err(error) => return Err(error),
            }
        }
        if self.producer.is_in_transaction() {
            self.producer.abort_transaction().await?;
        }
        for (partition, offset) in undecided.take().into_iter().flatten() {
            // A partition that is ours no more is read again by whoever has it.
            let _ = self.consumer.seek(&partition, offset);
        }
        Ok(Fate::Aborted)
    }

    /// Decides what is open, as far as that can be had until the deadline, and closes both.
    ///
    /// # Errors
    /// Of the consumer; a transaction that could not be aborted in time ends by its timeout.
    pub async fn close(self, deadline: Duration) -> Result<(), ClientError> {
        let until = Instant::now() + deadline;
        let mut undecided = self.undecided.lock().await;
        let settled = tokio::time::timeout_at(until, self.settle(&mut undecided)).await;
        if !matches!(settled, Ok(Ok(_))) {
            tracing::debug!(?settled, "closed with a step undecided");
        }
        let _ = self.producer.close(until.saturating_duration_since(Instant::now())).await;
        self.consumer.close().await
    }
}

/// How the last transaction went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Or there was none.
    Committed,
    Aborted,
}

/// Whether nothing but the transactions commits offsets.
fn check(group: Option<&GroupConfig>) -> Result<(), ClientError> {
    let refuse = |key, reason: &str| Err(ClientError::Config { key, reason: reason.to_owned() });
    let Some(group) = group else {
        return refuse("group", "reading exactly once needs a group, which keeps the offsets");
    };
    let reason = "the offsets are committed with the transactions only";
    if group.auto_commit_interval_ms.is_some() {
        return refuse("auto_commit_interval_ms", reason);
    }
    if group.auto_commit_records.is_some() {
        return refuse("auto_commit_records", reason);
    }
    if group.commit_on_revoke {
        return refuse("commit_on_revoke", reason);
    }
    if group.done_by == DoneBy::Record {
        return refuse("done_by", reason);
    }
    Ok(())
}

fn firsts(records: &[ConsumedRecord]) -> Firsts {
    let mut firsts = Firsts::new();
    for record in records {
        firsts.entry(place(record)).or_insert(record.offset);
    }
    firsts
}

fn place(record: &ConsumedRecord) -> TopicPartition {
    TopicPartition { topic: record.topic.clone(), partition: record.partition }
}

/// The offset after the last record of each partition.
fn next_offsets(records: &[ConsumedRecord]) -> Vec<PartitionOffset> {
    let mut next: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for record in records {
        next.insert(place(record), record.offset.plus(1));
    }
    next.into_iter().map(|(partition, offset)| PartitionOffset::new(partition, offset)).collect()
}
