//! Consume, transform, produce: each record read leads to its output exactly once, whatever crashes.
//!
//! The output and the consumer's offsets are one transaction. When it fails it is aborted, and the
//! consumer goes back to where it began, so that the same records are read again. Another instance that
//! takes over the partitions fences this one by the group's generation (KIP-447).

use std::collections::BTreeMap;
use std::time::Duration;

use weir_protocol::batch::Header;
use weir_protocol::types::{Offset, PartitionId, Str, TimestampMs};

use crate::consumer::{Consumer, PartitionOffset, TopicPartition};
use crate::error::{ClientError, ErrorClass, ProduceError};
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
/// time: make it without auto commit, and with [`crate::IsolationLevel::ReadCommitted`] where its input
/// comes from transactions.
#[derive(Debug)]
pub struct ExactlyOnce {
    consumer: Consumer,
    producer: Producer,
}

impl ExactlyOnce {
    /// Takes the transactional id over: an earlier instance with it is fenced.
    ///
    /// # Errors
    /// Of [`Producer::init_transactions`].
    pub async fn new(consumer: Consumer, producer: Producer) -> Result<Self, TransactionError> {
        producer.init_transactions().await?;
        Ok(ExactlyOnce { consumer, producer })
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
    /// Returns how many records were read.
    ///
    /// `transform` may be called again for the same record after a failure: what it does besides the
    /// outbox happens at least once.
    ///
    /// # Errors
    /// By [`StepError::class`]: after retriable and abortable ones step again; a fatal one ends this
    /// instance.
    pub async fn step(
        &self,
        timeout: Duration,
        mut transform: impl FnMut(&ConsumedRecord, &mut Outbox),
    ) -> Result<usize, StepError> {
        let records = self.consumer.poll(timeout).await?;
        if records.is_empty() {
            return Ok(0);
        }
        let mut outbox = Outbox::default();
        for record in &records {
            transform(record, &mut outbox);
        }
        match self.commit(outbox, &records).await {
            Ok(()) => Ok(records.len()),
            Err(error) => {
                self.go_back(&records);
                Err(error.into())
            }
        }
    }

    async fn commit(
        &self,
        outbox: Outbox,
        records: &[ConsumedRecord],
    ) -> Result<(), TransactionError> {
        self.producer.begin_transaction()?;
        match self.fill_and_commit(outbox, records).await {
            Err(error) if error.class() != ErrorClass::Fatal || is_open_still(&error) => {
                self.settle(error).await
            }
            done => done,
        }
    }

    async fn fill_and_commit(
        &self,
        outbox: Outbox,
        records: &[ConsumedRecord],
    ) -> Result<(), TransactionError> {
        let must_abort = |reason: String| TransactionError::MustAbort { reason };
        // The place first: a member that has none any more need not send anything.
        let group = self.consumer.group_metadata().map_err(|e| must_abort(e.to_string()))?;
        outbox.send(&self.producer).await.map_err(|error| match error {
            ProduceError::Fenced => TransactionError::Fenced {
                transactional_id: self.producer.transactional_id().unwrap_or_default().to_owned(),
            },
            error => must_abort(error.to_string()),
        })?;
        let offsets = next_offsets(records);
        self.producer.send_offsets_to_transaction(&offsets, &group).await?;
        self.producer.commit_transaction().await
    }

    /// Ends the transaction one way or the other: as long as it is undecided nothing can be begun.
    async fn settle(&self, first: TransactionError) -> Result<(), TransactionError> {
        loop {
            match self.producer.abort_transaction().await {
                Ok(()) => return Err(first),
                Err(error) if error.class() == ErrorClass::Retriable => {}
                // The commit has been asked for: only it can say how it went.
                Err(TransactionError::WrongState { .. }) => {
                    match self.producer.commit_transaction().await {
                        Err(error) if error.class() == ErrorClass::Fatal => return Err(error),
                        Err(_) => {}
                        Ok(()) => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next poll reads these again.
    fn go_back(&self, records: &[ConsumedRecord]) {
        let mut firsts: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        for record in records {
            firsts.entry(place(record)).or_insert(record.offset);
        }
        for (partition, offset) in firsts {
            // A partition that is ours no more is read again by whoever has it.
            let _ = self.consumer.seek(&partition, offset);
        }
    }

    /// Closes both.
    ///
    /// # Errors
    /// Of the consumer; a transaction that could not be aborted in time ends by its timeout.
    pub async fn close(self, deadline: Duration) -> Result<(), ClientError> {
        let _ = self.producer.close(deadline).await;
        self.consumer.close().await
    }
}

/// Whether the transaction is still to be aborted though the error itself is fatal to the call.
fn is_open_still(error: &TransactionError) -> bool {
    matches!(error, TransactionError::Client(_))
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
