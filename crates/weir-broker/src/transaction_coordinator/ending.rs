//! How transactions end: decisions, markers, timeouts, expiry.

use std::collections::BTreeSet;

use weir_log::AppendOrigin;
use weir_protocol::api::write_txn_markers::WriteTxnMarkersResponse;
use weir_protocol::batch::{build_control, ControlMarker};
use weir_protocol::{ErrorCode, LeaderEpoch, PartitionId, ProducerId, Str, TimestampMs};

use super::{end_response, Entry};
use crate::broker::Broker;
use crate::commit_queue::Due;
use crate::effects::Ticket;
use crate::request::Response;
use crate::transaction::{Producer, Transaction};

/// When markers that could not be written are tried again.
const RETRY_MS: i64 = 200;
/// `transaction.remove.expired.transaction.cleanup.interval.ms`
const EXPIRY_INTERVAL_MS: i64 = 3_600_000;

/// Who is answered when a transaction has ended.
#[derive(Debug)]
pub struct EndReply {
    /// Of the EndTxn.
    pub ticket: Ticket,
}

/// What of a transaction is due when a commit ends.
#[derive(Debug)]
pub enum TxnDue {
    /// The decision is on disk: write the markers.
    Decided {
        /// The transactional id.
        id: Str,
        /// Who waits.
        reply: Option<EndReply>,
    },
    /// The markers are on disk: the transaction is complete.
    Marked {
        /// The transactional id.
        id: Str,
        /// Who waits.
        reply: Option<EndReply>,
    },
    /// Markers that a WriteTxnMarkers asked for are on disk.
    Written {
        /// Whom to answer.
        ticket: Ticket,
        /// What to answer.
        response: WriteTxnMarkersResponse,
        /// The transactions that end in partitions of `__consumer_offsets`.
        ended: Vec<(ProducerId, bool, BTreeSet<i32>)>,
    },
}

impl Broker {
    /// Stores a decision. The markers follow when it is on disk.
    pub(super) fn begin_end(
        &mut self,
        id: &Str,
        txn: Transaction,
        reply: Option<EndReply>,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        debug_assert!(txn.decision().is_some(), "what ends is decided");
        self.store_transaction(id, txn, now)?;
        // An earlier decision, a timeout's, may be waiting to be tried again: this one is in its place, and markers must
        // not come before it is on disk.
        let stuck = self.transactions.by_id.get_mut(id).and_then(|entry| entry.stuck.take());
        debug_assert!(
            !matches!(stuck, Some((_, Some(_)))),
            "what is being ended is not ended again"
        );
        self.transactions.reschedule(id);
        self.commit_queue.push(Due::Transaction(TxnDue::Decided { id: id.clone(), reply }));
        Ok(())
    }

    /// Goes on with a transaction, or with markers, after a commit.
    pub(crate) fn transaction_due(
        &mut self,
        due: TxnDue,
        synced: bool,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        match due {
            TxnDue::Decided { id, reply } if synced => {
                self.write_all_markers(&id, reply, false, now)
            }
            TxnDue::Marked { id, reply } if synced => {
                self.transaction_marked(&id, reply, now, woken)
            }
            // What is on disk nobody knows; the next start does.
            TxnDue::Decided { reply, .. } | TxnDue::Marked { reply, .. } => {
                let response = end_response(ErrorCode::CoordinatorNotAvailable, Producer::NONE);
                woken.extend(reply.map(|reply| (reply.ticket, Response::EndTxn(response))));
            }
            TxnDue::Written { ticket, response, ended } => {
                let response = self.markers_written(response, ended, synced);
                woken.push((ticket, Response::WriteTxnMarkers(response)));
            }
        }
    }

    /// Writes the markers of a transaction that is decided. Where some could not be written before, or nobody knows, only
    /// partitions get one where the transaction is still open.
    pub(super) fn write_all_markers(
        &mut self,
        id: &Str,
        reply: Option<EndReply>,
        only_open: bool,
        now: TimestampMs,
    ) {
        let decided = self.transactions.by_id.get(id);
        let decided = decided.and_then(|entry| Some((entry, entry.txn.decision()?)));
        let Some((entry, commit)) = decided else {
            // Whoever waits is answered all the same.
            self.commit_queue.push(Due::Transaction(TxnDue::Marked { id: id.clone(), reply }));
            return;
        };
        let producer = entry.txn.producer();
        let partitions: Vec<(Str, i32)> = partitions_of(entry).collect();
        let epoch = self.coordinator_epoch(id, now);
        let mut stuck = None;
        for (topic, partition) in partitions {
            if only_open && !self.is_open_in(id, &topic, partition) {
                continue;
            }
            if let Err(error) = self.write_marker(producer, commit, epoch, &topic, partition, now) {
                tracing::warn!(id = %id, topic = %topic, partition, %error, "a marker was not written; it will be tried again");
                stuck = Some(error);
            }
        }
        self.commit_queue.appended(true);
        match stuck {
            Some(_) => self.put_off(id, reply, now),
            None => {
                self.commit_queue.push(Due::Transaction(TxnDue::Marked { id: id.clone(), reply }));
            }
        }
    }

    fn put_off(&mut self, id: &Str, reply: Option<EndReply>, now: TimestampMs) {
        if let Some(entry) = self.transactions.by_id.get_mut(id) {
            entry.stuck = Some((now.plus_ms(RETRY_MS), reply));
        }
        self.transactions.reschedule(id);
    }

    fn is_open_in(&self, id: &Str, topic: &str, partition: i32) -> bool {
        let Some(entry) = self.transactions.get(id) else { return false };
        let log = self.topics.get(topic).and_then(|topic| topic.log(PartitionId(partition)));
        let open = log.and_then(|log| self.open_epoch(log, entry.txn.producer().id));
        open.is_some_and(|(epoch, _)| entry.txn.ends(epoch))
    }

    /// The epoch of markers: the leader epoch of the partition of `__transaction_state`, as in Kafka.
    fn coordinator_epoch(&mut self, id: &str, now: TimestampMs) -> LeaderEpoch {
        let log = self.transactions_log(id, now).ok();
        self.logs.bounds_or_empty(log).leader_epoch
    }

    /// Appends a marker. A partition that is gone needs none, and one where a later epoch has written has had its end.
    pub(super) fn write_marker(
        &mut self,
        producer: Producer,
        commit: bool,
        coordinator_epoch: LeaderEpoch,
        topic: &str,
        partition: i32,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let log = match self.log_for_append(topic, PartitionId(partition), now) {
            Err(ErrorCode::UnknownTopicOrPartition) => return Ok(()),
            found => found?,
        };
        let marker = if commit { ControlMarker::Commit } else { ControlMarker::Abort };
        let batch =
            build_control(marker, producer.id, producer.epoch, coordinator_epoch.get(), now);
        let mut batch = Vec::from(batch);
        match self.logs.append(log, &mut batch, AppendOrigin::Coordinator, now) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.error == ErrorCode::InvalidProducerEpoch => {
                tracing::warn!(topic, partition, "a marker came late; a later epoch has written");
                Ok(())
            }
            Err(refusal) => Err(refusal.error),
        }
    }

    /// All markers are on disk.
    fn transaction_marked(
        &mut self,
        id: &Str,
        reply: Option<EndReply>,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let decided = self.transactions.by_id.get_mut(id);
        let decided = decided.and_then(|entry| entry.txn.decision().map(|commit| (entry, commit)));
        let Some((entry, commit)) = decided else {
            // It has come to its end on another way: asking again tells how.
            let response = end_response(ErrorCode::ConcurrentTransactions, Producer::NONE);
            woken.extend(reply.map(|reply| (reply.ticket, Response::EndTxn(response))));
            return;
        };
        let adopted = std::mem::take(&mut entry.adopted);
        let mut txn = entry.txn.clone();
        self.settle_offsets(txn.producer().id, commit, None);
        txn.complete(now);
        let producer = txn.producer();
        if let Err(error) = self.store_transaction(id, txn, now) {
            tracing::warn!(id = %id, %error, "the end of a transaction was not written; it will be tried again");
            if let Some(entry) = self.transactions.by_id.get_mut(id) {
                entry.adopted = adopted;
            }
            self.put_off(id, reply, now);
            return;
        }
        match commit {
            true => self.transactions.committed += 1,
            false => self.transactions.aborted += 1,
        }
        if !adopted.is_empty() {
            self.adopt(id, &adopted, now);
        }
        let response = Response::EndTxn(end_response(ErrorCode::None, producer));
        woken.extend(reply.map(|reply| (reply.ticket, response)));
    }

    /// Lets the transactions' time pass.
    pub(crate) fn tick_transactions(&mut self, now: TimestampMs) {
        while self.transactions.next_deadline().is_some_and(|at| at <= now) {
            let Some((_, id)) = self.transactions.deadlines.pop_first() else { break };
            let Some(entry) = self.transactions.by_id.get_mut(&id) else { continue };
            entry.wake_at = None;
            if let Some((_, reply)) = entry.stuck.take() {
                if entry.txn.decision().is_some() {
                    self.write_all_markers(&id, reply, true, now);
                    continue;
                }
            }
            if entry.txn.deadline().is_some_and(|at| at <= now) {
                self.time_out(&id, now);
            } else {
                self.transactions.reschedule(&id);
            }
        }
        let next = *self.transactions.next_expiry.get_or_insert(now.plus_ms(EXPIRY_INTERVAL_MS));
        if now >= next {
            self.transactions.next_expiry = Some(now.plus_ms(EXPIRY_INTERVAL_MS));
            self.expire_transactional_ids(now);
        }
    }

    fn time_out(&mut self, id: &Str, now: TimestampMs) {
        let Some(entry) = self.transactions.get(id) else { return };
        let mut txn = entry.txn.clone();
        let timeout_ms = txn.timeout_ms();
        txn.fence(now);
        match self.begin_end(id, txn, None, now) {
            Ok(()) => {
                tracing::info!(id = %id, timeout_ms, "a transaction took longer than it may and is aborted");
                self.transactions.timed_out += 1;
            }
            // The disk is full or gone, which is told elsewhere.
            Err(error) => {
                tracing::debug!(id = %id, %error, "the abort of a transaction was not written; it will be tried again");
                self.put_off(id, None, now);
            }
        }
    }

    /// Forgets transactional ids that nobody has used for long.
    fn expire_transactional_ids(&mut self, now: TimestampMs) {
        let unused_ms_max = self.config.transactional_id_expiration_ms;
        let expired: Vec<Str> = self
            .transactions
            .by_id
            .iter()
            .filter(|(_, entry)| entry.txn.is_expired(unused_ms_max, now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in expired {
            if self.write_transaction(&id, None, now).is_err() {
                break; // The next round is in an hour.
            }
            self.transactions.remove(&id);
        }
    }
}

fn partitions_of(entry: &Entry) -> impl Iterator<Item = (Str, i32)> + '_ {
    let partitions = entry.txn.partitions().iter();
    partitions.flat_map(|(topic, of)| of.iter().map(move |partition| (topic.clone(), *partition)))
}
