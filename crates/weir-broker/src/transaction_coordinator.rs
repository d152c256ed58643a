//! The transaction coordinator: requests on one side, [`Transaction`] state machines on the other, and between them the
//! log `__transaction_state`, in which they are kept.
//!
//! ```text
//! EndTxn ─▶ PrepareCommit appended ─ synced ─▶ markers appended ─ synced ─▶ CompleteCommit appended, EndTxn answered
//! ```
//!
//! The decision is on disk before the first marker, and all markers are before the transaction is complete. So after a
//! crash in between the markers are written again, and a reader sees all of it or nothing. EndTxn is answered at the end,
//! not as in Kafka after the decision: markers cost one more sync here and no other node, and a client that goes on at
//! once is not sent away with CONCURRENT_TRANSACTIONS.
//!
//! One core holds coordinator and partitions, so a batch is checked against the coordinator itself, and a producer of
//! version 2 adds a partition and writes to it in one commit. A crash may then keep the batch and lose that the
//! transaction has begun; [`start`] makes it good from what the partitions say.
//!
//! | part | what it holds |
//! |---|---|
//! | here | InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, and what a produce asks |
//! | [`ending`] | decisions, markers, timeouts, expiry |
//! | [`offsets`] | TxnOffsetCommit and offsets that wait for their marker |
//! | [`start`] | what the logs say after a start |
//! | [`admin`] | ListTransactions, DescribeTransactions, DescribeProducers, WriteTxnMarkers |

mod admin;
mod ending;
mod offsets;
mod start;

use std::collections::{BTreeSet, HashMap};

use weir_log::{AppendOrigin, LogId};
use weir_protocol::api::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use weir_protocol::api::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
};
use weir_protocol::api::end_txn::{EndTxnRequest, EndTxnResponse};
use weir_protocol::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{
    ErrorCode, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Str, TimestampMs,
};

use crate::broker::{Broker, Step};
use crate::commit_queue::Mark;
use crate::config::OFFSETS_PARTITIONS;
use crate::effects::Ticket;
use crate::offset_records::partition_of;
use crate::request::Response;
use crate::stats::TransactionStats;
use crate::topics::{Topic, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::transaction::{End, Ended, Initialised, Producer, Transaction, TxnState, TxnVersion};
use crate::transaction_records::encode_key;

pub use ending::{EndReply, TxnDue};
pub(crate) use offsets::{supersede, TxnOffset, TxnOffsets};

/// Longest transactional id: what the key of a record can hold.
const TRANSACTIONAL_ID_BYTES_MAX: usize = i16::MAX as usize;
/// From this version of Produce on the client follows version 2: what it writes to is added.
const PRODUCE_VERSION_V2: i16 = 12;
/// From this version of EndTxn on.
const END_TXN_VERSION_V2: i16 = 5;
/// From this version of AddPartitionsToTxn on it is for brokers, and in batches.
const ADD_PARTITIONS_BATCHED: i16 = 4;

/// One transactional id.
#[derive(Debug)]
struct Entry {
    txn: Transaction,
    /// The commit that covers the beginning of the open transaction.
    began: Mark,
    /// When it is looked at next; `None` if it is not among the deadlines.
    wake_at: Option<TimestampMs>,
    /// Decision, markers or the record of the end could not be written: when that is tried again, and who is
    /// answered when it is done.
    stuck: Option<(TimestampMs, Option<EndReply>)>,
    /// What a crash has left open of the transaction that follows the one that is ending.
    adopted: Vec<(Str, i32)>,
}

/// All transactional ids.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    by_id: HashMap<Str, Entry>,
    deadlines: BTreeSet<(TimestampMs, Str)>,
    /// Groups with offsets that wait for the marker of a producer.
    groups: HashMap<ProducerId, BTreeSet<Str>>,
    next_expiry: Option<TimestampMs>,
    committed: u64,
    aborted: u64,
    timed_out: u64,
}

impl Transactions {
    fn get(&self, id: &str) -> Option<&Entry> {
        self.by_id.get(id)
    }

    /// Takes a state over that is in the log. `mark` is the commit that covers it.
    fn put(&mut self, id: &Str, txn: Transaction, mark: Mark) {
        let entry = self.by_id.entry(id.clone()).or_insert_with(|| Entry {
            txn: txn.clone(),
            began: mark,
            wake_at: None,
            stuck: None,
            adopted: Vec::new(),
        });
        if txn.state() == TxnState::Ongoing && entry.txn.state() != TxnState::Ongoing {
            entry.began = mark;
        }
        entry.txn = txn;
        self.reschedule(id);
    }

    fn remove(&mut self, id: &Str) {
        if let Some(at) = self.by_id.remove(id).and_then(|entry| entry.wake_at) {
            self.deadlines.remove(&(at, id.clone()));
        }
    }

    fn reschedule(&mut self, id: &Str) {
        let Some(entry) = self.by_id.get_mut(id) else { return };
        let stuck = entry.stuck.as_ref().map(|(at, _)| *at);
        // What could not be written is tried again in its time, also where the deadline has passed long since.
        let next = stuck.or(entry.txn.deadline());
        if entry.wake_at == next {
            return;
        }
        if let Some(before) = entry.wake_at.take() {
            self.deadlines.remove(&(before, id.clone()));
        }
        entry.wake_at = next;
        self.deadlines.extend(next.map(|at| (at, id.clone())));
    }

    /// The first time one of them has something to do.
    pub(crate) fn next_deadline(&self) -> Option<TimestampMs> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The clock was set: what has a deadline keeps the time it had left.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        self.next_expiry = self.next_expiry.map(|at| at.plus_ms(by_ms));
        self.deadlines.clear();
        for (id, entry) in &mut self.by_id {
            entry.txn.shift(by_ms);
            entry.stuck = entry.stuck.take().map(|(at, reply)| (at.plus_ms(by_ms), reply));
            entry.wake_at = entry.wake_at.map(|at| at.plus_ms(by_ms));
            self.deadlines.extend(entry.wake_at.map(|at| (at, id.clone())));
        }
    }

    /// For people.
    pub(crate) fn stats(&self) -> TransactionStats {
        let in_state = |wanted: &[TxnState]| {
            self.by_id.values().filter(|entry| wanted.contains(&entry.txn.state())).count()
        };
        TransactionStats {
            transactional_ids: self.by_id.len(),
            ongoing: in_state(&[TxnState::Ongoing]),
            ending: in_state(&[TxnState::PrepareCommit, TxnState::PrepareAbort]),
            committed: self.committed,
            aborted: self.aborted,
            timed_out: self.timed_out,
        }
    }
}

/// What the transactional batches of one Produce request stand under.
#[derive(Debug)]
pub(crate) struct TransactionalWrite {
    /// The transactional id of the request.
    pub(crate) id: Option<Str>,
    /// The version of the request.
    pub(crate) version: i16,
    /// What became of adding its partitions.
    pub(crate) added: Result<(), ErrorCode>,
}

/// A transactional batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransactionalBatch<'a> {
    pub(crate) producer: Producer,
    pub(crate) base_sequence: Sequence,
    pub(crate) topic: &'a Str,
    pub(crate) partition: PartitionId,
    pub(crate) log: Option<LogId>,
}

impl Broker {
    /// InitProducerId with a transactional id.
    pub(crate) fn init_transactional(
        &mut self,
        ticket: Ticket,
        id: &Str,
        request: &InitProducerIdRequest,
        version: i16,
        now: TimestampMs,
    ) -> Step {
        let (error, producer) = match self.try_init(id, request, now) {
            Ok(producer) => (ErrorCode::None, producer),
            Err(error) => (fenced_by_version(error, version, 4), Producer::NONE),
        };
        let response = Response::InitProducerId(InitProducerIdResponse {
            throttle_time_ms: 0,
            error_code: error.code(),
            producer_id: producer.id.get(),
            producer_epoch: producer.epoch.get(),
        });
        match error {
            ErrorCode::None => self.commit_queue.answer_when_synced(ticket, response),
            _ => Step::Answer(response),
        }
    }

    fn try_init(
        &mut self,
        id: &Str,
        request: &InitProducerIdRequest,
        now: TimestampMs,
    ) -> Result<Producer, ErrorCode> {
        check_id(id)?;
        let timeout_ms = request.transaction_timeout_ms;
        if !(1..=self.config.transaction_timeout_ms_max).contains(&timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let expected = match (request.producer_id, request.producer_epoch) {
            (-1, -1) => None,
            (id, epoch) if id >= 0 && epoch >= 0 => {
                Some(Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) })
            }
            _ => return Err(ErrorCode::InvalidRequest),
        };
        let known = self.transactions.get(id).map(|entry| entry.txn.clone());
        let mut txn = match known {
            Some(txn) => txn,
            None if self.transactions.by_id.len() >= self.config.transactional_ids_max => {
                return Err(ErrorCode::CoordinatorNotAvailable)
            }
            None => {
                let id = self.producer_ids.take().ok_or(ErrorCode::CoordinatorNotAvailable)?;
                Transaction::new(id, timeout_ms, now)
            }
        };
        let ids = &mut self.producer_ids;
        match txn.init(timeout_ms, expected, || ids.take(), now)? {
            Initialised::Ready => {
                let producer = txn.producer();
                self.store_transaction(&Str::copy_from(id), txn, now)?;
                Ok(producer)
            }
            Initialised::Aborting => {
                self.begin_end(&Str::copy_from(id), txn, None, now)?;
                Err(ErrorCode::ConcurrentTransactions)
            }
        }
    }

    pub(crate) fn add_partitions_to_txn(
        &mut self,
        ticket: Ticket,
        request: &AddPartitionsToTxnRequest,
        version: i16,
        now: TimestampMs,
    ) -> Step {
        let mut response = AddPartitionsToTxnResponse::default();
        if version >= ADD_PARTITIONS_BATCHED {
            for one in &request.transactions {
                let topic_results = self.add_partitions(one, version, now);
                let transactional_id = one.transactional_id.clone();
                response
                    .results_by_transaction
                    .push(AddPartitionsToTxnResult { transactional_id, topic_results });
            }
        } else {
            let one = AddPartitionsToTxnTransaction {
                transactional_id: request.v3_and_below_transactional_id.clone(),
                producer_id: request.v3_and_below_producer_id,
                producer_epoch: request.v3_and_below_producer_epoch,
                verify_only: false,
                topics: request.v3_and_below_topics.clone(),
            };
            response.results_by_topic_v3_and_below = self.add_partitions(&one, version, now);
        }
        // Also where it was known before: the client is answered once it is on disk.
        let response = Response::AddPartitionsToTxn(response);
        self.commit_queue.answer_when_synced(ticket, response)
    }

    /// Adds all partitions of a request, or none.
    fn add_partitions(
        &mut self,
        request: &AddPartitionsToTxnTransaction,
        version: i16,
        now: TimestampMs,
    ) -> Vec<AddPartitionsToTxnTopicResult> {
        let exists = |topic: &Str, partition: i32| {
            let topic = self.topics.get(topic);
            topic.is_some_and(|topic| topic.existing_log(PartitionId(partition)).is_ok())
        };
        let mut named =
            request.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (&t.name, *p)));
        let unknown: BTreeSet<(Str, i32)> = named
            .clone()
            .filter(|(topic, partition)| !exists(topic, *partition))
            .map(|(topic, partition)| (topic.clone(), partition))
            .collect();
        if !unknown.is_empty() {
            return partition_results(&request.topics, |topic, partition| {
                match unknown.contains(&(topic.clone(), partition)) {
                    true => ErrorCode::UnknownTopicOrPartition,
                    false => ErrorCode::OperationNotAttempted,
                }
            });
        }
        let id = &request.transactional_id;
        let producer = Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
        };
        if id.is_empty() {
            return partition_results(&request.topics, |_, _| ErrorCode::InvalidRequest);
        }
        if request.verify_only {
            let abortable = version >= ADD_PARTITIONS_BATCHED;
            return partition_results(&request.topics, |topic, partition| {
                let verified = self.verify(id, producer, topic, partition);
                match verified.err().unwrap_or(ErrorCode::None) {
                    ErrorCode::InvalidTxnState if abortable => ErrorCode::TransactionAbortable,
                    error => error,
                }
            });
        }
        let result = if named.clone().count() > self.config.request_partitions_max {
            Err(ErrorCode::InvalidRequest)
        } else {
            let version = match version {
                ADD_PARTITIONS_BATCHED.. => TxnVersion::V2,
                _ => TxnVersion::V1,
            };
            self.add_to_transaction(id, producer, &mut named, version, now)
        };
        let error = result.err().map_or(ErrorCode::None, |e| fenced_by_version(e, version, 2));
        partition_results(&request.topics, |_, _| error)
    }

    pub(crate) fn add_offsets_to_txn(
        &mut self,
        ticket: Ticket,
        request: &AddOffsetsToTxnRequest,
        version: i16,
        now: TimestampMs,
    ) -> Step {
        let producer = Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
        };
        let offsets_topic = Str::from_static(OFFSETS_TOPIC);
        let partition = self.offsets_partition(&request.group_id);
        let mut added = [(&offsets_topic, partition)].into_iter();
        let id = &request.transactional_id;
        let result = self.add_to_transaction(id, producer, &mut added, TxnVersion::V1, now);
        let error = result.err().map_or(ErrorCode::None, |e| fenced_by_version(e, version, 2));
        let response = AddOffsetsToTxnResponse { throttle_time_ms: 0, error_code: error.code() };
        self.commit_queue.answer_when_synced(ticket, Response::AddOffsetsToTxn(response))
    }

    /// The partition of `__consumer_offsets` that holds a group.
    pub(crate) fn offsets_partition(&self, group: &str) -> i32 {
        // 50, unless the directory came from a Kafka that was told otherwise.
        let count = self.topics.get(OFFSETS_TOPIC).map_or(0, Topic::partition_count);
        let count = i32::try_from(count).ok().filter(|count| *count > 0);
        partition_of(group, count.unwrap_or(OFFSETS_PARTITIONS))
    }

    fn add_to_transaction(
        &mut self,
        id: &Str,
        producer: Producer,
        partitions: &mut dyn Iterator<Item = (&Str, i32)>,
        version: TxnVersion,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        check_id(id)?;
        let entry = self.transactions.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        // A copy, as a record that cannot be written must change nothing.
        let mut txn = entry.txn.clone();
        if !txn.add(producer, partitions, version, now)? {
            return Ok(());
        }
        if txn.partition_count() > self.config.request_partitions_max {
            return Err(ErrorCode::InvalidRequest);
        }
        self.store_transaction(&Str::copy_from(id), txn, now)
    }

    fn verify(
        &self,
        id: &str,
        producer: Producer,
        topic: &str,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let entry = self.transactions.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        entry.txn.verify(producer, topic, partition)?;
        // Who writes before it was told that its transaction has begun: after a crash nobody could tell what it wrote
        // from the transaction before.
        match self.commit_queue.is_synced(entry.began) {
            true => Ok(()),
            false => Err(ErrorCode::ConcurrentTransactions),
        }
    }

    /// Adds what a Produce request of version 2 writes to, all with one record.
    pub(crate) fn begin_transactional_write(
        &mut self,
        id: Option<&Str>,
        version: i16,
        batches: &[(Producer, Str, i32)],
        now: TimestampMs,
    ) -> TransactionalWrite {
        let mut write = TransactionalWrite { id: id.cloned(), version, added: Ok(()) };
        let first = batches.first().map(|(producer, ..)| *producer);
        if let (Some(id), Some(producer), PRODUCE_VERSION_V2..) = (id, first, version) {
            let mut partitions = batches.iter().map(|(_, topic, partition)| (topic, *partition));
            let added = self.add_to_transaction(id, producer, &mut partitions, TxnVersion::V2, now);
            write.added = added;
        }
        write
    }

    /// Whether a transactional batch belongs to an open transaction.
    ///
    /// # Errors
    /// The code to answer with, by the version of the request, as in Kafka.
    pub(crate) fn check_transactional_write(
        &self,
        write: &TransactionalWrite,
        batch: TransactionalBatch<'_>,
    ) -> Result<(), ErrorCode> {
        let id = write.id.as_ref().ok_or(ErrorCode::TransactionalIdAuthorizationFailed)?;
        let is_v2 = write.version >= PRODUCE_VERSION_V2;
        let partition = batch.partition.get();
        let entry = self.transactions.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let result = match write.added {
            Err(error) => Err(error),
            Ok(()) if is_v2 => entry.txn.verify(batch.producer, batch.topic, partition),
            Ok(()) => self.verify(id, batch.producer, batch.topic, partition),
        };
        result.map_err(|error| write_error(error, write.version, PRODUCE_VERSION_V2))?;
        // A producer whose state is gone may go on anywhere, but one of version 2 begins each epoch at 0.
        let log = batch.log.and_then(|log| self.logs.get(log));
        let is_known = log.is_some_and(|log| log.producer(batch.producer.id).is_some());
        if is_v2 && !is_known && batch.base_sequence != Sequence(0) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        Ok(())
    }

    pub(crate) fn end_txn(
        &mut self,
        ticket: Ticket,
        request: &EndTxnRequest,
        version: i16,
        now: TimestampMs,
    ) -> Step {
        let answer = |error: ErrorCode, producer: Producer| {
            Step::Answer(Response::EndTxn(end_response(error, producer)))
        };
        match self.try_end(ticket, request, version, now) {
            Ok(None) => Step::Parked,
            Ok(Some(producer)) => answer(ErrorCode::None, producer),
            Err(error) => answer(fenced_by_version(error, version, 2), Producer::NONE),
        }
    }

    fn try_end(
        &mut self,
        ticket: Ticket,
        request: &EndTxnRequest,
        version: i16,
        now: TimestampMs,
    ) -> Result<Option<Producer>, ErrorCode> {
        let id = &request.transactional_id;
        check_id(id)?;
        let entry = self.transactions.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let mut txn = entry.txn.clone();
        let end = End {
            producer: end_producer(request),
            commit: request.committed,
            version: match version {
                END_TXN_VERSION_V2.. => TxnVersion::V2,
                _ => TxnVersion::V1,
            },
        };
        let ids = &mut self.producer_ids;
        match txn.end(end, || ids.take(), now)? {
            Ended::Already => Ok(Some(txn.producer())),
            Ended::Prepared => {
                self.begin_end(&Str::copy_from(id), txn, Some(EndReply { ticket }), now)?;
                Ok(None)
            }
        }
    }

    /// Whether an EndTxn must wait for what its producer wrote with less than acks=all: the decision must not be on disk
    /// before it is. Also where the producer needs a new id.
    pub(crate) fn end_must_wait(&mut self, request: &EndTxnRequest) -> bool {
        let Some(entry) = self.transactions.get(&request.transactional_id) else { return false };
        let producer = end_producer(request);
        if entry.txn.state() != TxnState::Ongoing || entry.txn.producer() != producer {
            return false;
        }
        let is_unsynced = |topic: &Str, partition: i32| {
            let log = self.topics.get(topic).and_then(|t| t.log(PartitionId(partition)));
            let log = log.and_then(|log| self.logs.get(log));
            log.is_some_and(|log| {
                let last = log.producer(producer.id).and_then(|info| info.last_offset);
                last.is_some_and(|last| last >= log.synced_offset())
            })
        };
        let mut partitions =
            entry.txn.partitions().iter().flat_map(|(t, ps)| ps.iter().map(move |p| (t, *p)));
        let waits = partitions.any(|(topic, partition)| is_unsynced(topic, partition));
        (producer.is_exhausted() && self.stage_next_producer_ids()) || waits
    }

    /// Stores a state of a transactional id, and takes it over.
    fn store_transaction(
        &mut self,
        id: &Str,
        txn: Transaction,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let value = txn.record().encode();
        self.write_transaction(id, Some(&value), now)?;
        self.transactions.put(id, txn, self.commit_queue.mark());
        Ok(())
    }

    /// Appends the record of a transactional id; `None` forgets it.
    fn write_transaction(
        &mut self,
        id: &str,
        value: Option<&[u8]>,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let log = self.transactions_log(id, now)?;
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(now, Some(&encode_key(id)), value, &[]);
        let mut batch = Vec::from(builder.build());
        let appended = self.logs.append(log, &mut batch, AppendOrigin::Coordinator, now);
        appended.map_err(|refusal| {
            tracing::warn!(id, error = %refusal.error, "append to the log of transactions failed");
            ErrorCode::CoordinatorNotAvailable
        })?;
        self.commit_queue.appended(false);
        Ok(())
    }

    fn transactions_log(&mut self, id: &str, now: TimestampMs) -> Result<LogId, ErrorCode> {
        let topic = self.topics.get(TRANSACTIONS_TOPIC);
        let count = topic.map_or(0, Topic::partition_count);
        let count = i32::try_from(count).ok().filter(|count| *count > 0);
        let count = count.ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let partition = PartitionId(partition_of(id, count));
        self.log_for_append(TRANSACTIONS_TOPIC, partition, now)
    }

    /// Whether the producer has a transaction open in this log, and under which epoch.
    fn open_epoch(&self, log: LogId, id: ProducerId) -> Option<(ProducerEpoch, Offset)> {
        let info = self.logs.get(log)?.producer(id)?;
        info.txn_first_offset.map(|first| (info.epoch, first))
    }
}

fn check_id(id: &str) -> Result<(), ErrorCode> {
    match id.is_empty() || id.len() > TRANSACTIONAL_ID_BYTES_MAX {
        true => Err(ErrorCode::InvalidRequest),
        false => Ok(()),
    }
}

fn end_producer(request: &EndTxnRequest) -> Producer {
    Producer { id: ProducerId(request.producer_id), epoch: ProducerEpoch(request.producer_epoch) }
}

fn end_response(error: ErrorCode, producer: Producer) -> EndTxnResponse {
    EndTxnResponse {
        throttle_time_ms: 0,
        error_code: error.code(),
        producer_id: producer.id.get(),
        producer_epoch: producer.epoch.get(),
    }
}

/// PRODUCER_FENCED is not known to clients below `known_from` (KIP-588).
fn fenced_by_version(error: ErrorCode, version: i16, known_from: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < known_from => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}

/// What a write of records or offsets is answered whose transaction does not allow it. `v2` is the version of the request
/// from which partitions are added by writing; the one before knows TRANSACTION_ABORTABLE (KIP-890, KIP-1050).
fn write_error(error: ErrorCode, version: i16, v2: i16) -> ErrorCode {
    match error {
        // As always for writes; also what a log says.
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::ConcurrentTransactions if version < v2 => ErrorCode::NotEnoughReplicas,
        ErrorCode::InvalidTxnState if version >= v2 - 1 => ErrorCode::TransactionAbortable,
        error => error,
    }
}

fn partition_results(
    topics: &[AddPartitionsToTxnTopic],
    result: impl Fn(&Str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic
            .partitions
            .iter()
            .map(|partition| AddPartitionsToTxnPartitionResult {
                partition_index: *partition,
                partition_error_code: result(&topic.name, *partition).code(),
            })
            .collect(),
    };
    topics.iter().map(of_topic).collect()
}

/// The answer of a request whose commit failed.
pub(crate) fn fail_transactional(response: Response) -> Response {
    let failed = ErrorCode::CoordinatorNotAvailable.code();
    match response {
        Response::InitProducerId(response) if response.error_code == 0 => {
            Response::InitProducerId(InitProducerIdResponse {
                error_code: failed,
                producer_id: -1,
                producer_epoch: -1,
                ..response
            })
        }
        Response::AddPartitionsToTxn(mut response) => {
            let batched = response.results_by_transaction.iter_mut();
            let topics = batched.flat_map(|one| &mut one.topic_results);
            let topics = topics.chain(&mut response.results_by_topic_v3_and_below);
            for partition in topics.flat_map(|topic| &mut topic.results_by_partition) {
                partition.partition_error_code = failed;
            }
            Response::AddPartitionsToTxn(response)
        }
        Response::AddOffsetsToTxn(response) => {
            Response::AddOffsetsToTxn(AddOffsetsToTxnResponse { error_code: failed, ..response })
        }
        Response::TxnOffsetCommit(mut response) => {
            for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.error_code == 0 {
                    partition.error_code = failed;
                }
            }
            Response::TxnOffsetCommit(response)
        }
        other => other,
    }
}
