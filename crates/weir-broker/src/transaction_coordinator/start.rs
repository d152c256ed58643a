//! What the logs say of transactions after a start.
//!
//! `__transaction_state` is read from the front, and the last record of a key counts. Then each partition is asked what is
//! open in it:
//!
//! - It belongs to a transaction that was decided: it gets its marker. Where nothing is open the marker is there already.
//! - It belongs to an open transaction: the partition is part of it. A producer of version 2 adds a partition and writes
//!   to it in one commit, and a crash may have kept the second and lost the first.
//! - For the same reason it may belong to a transaction whose beginning was lost, under the epoch its producer was given
//!   by the last end: then that transaction is open.
//! - Nobody knows it, or its epoch was fenced: it is aborted, or readers of what is committed would wait for ever.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use weir_log::LogId;
use weir_protocol::{LeaderEpoch, PartitionId, ProducerEpoch, ProducerId, Str, TimestampMs};

use super::{Transactions, TxnOffset};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::transaction::{Producer, Transaction, TxnState, TxnVersion};
use crate::transaction_records::{decode_key, TransactionLogValue};

/// Bytes read at once while the log is replayed.
const REPLAY_BYTES: usize = 4 << 20;

/// What a partition has open.
#[derive(Debug)]
struct Open {
    topic: Str,
    partition: i32,
    producer: Producer,
}

impl Broker {
    /// Reads what the log has. Before [`Broker::replay_offsets`].
    pub(crate) fn replay_transactions(&mut self) -> Result<(), BrokerError> {
        let Some(topic) = self.topics.get(TRANSACTIONS_TOPIC) else { return Ok(()) };
        let logs: Vec<(PartitionId, LogId)> = topic.logs().collect();
        let mut found: BTreeMap<Str, TransactionLogValue> = BTreeMap::new();
        for (partition, log) in logs {
            self.logs.for_each_record(log, REPLAY_BYTES, |key, value| {
                if let Err(error) = replay_record(&mut found, key, value) {
                    tracing::warn!(%partition, %error, "a record of __transaction_state is not understood");
                }
            })?;
        }
        let mark = self.commit_queue.mark();
        for (id, record) in found {
            if let Some(txn) = Transaction::restore(record) {
                self.transactions.put(&id, txn, mark);
            }
        }
        Ok(())
    }

    /// An offset of `__consumer_offsets` that no marker has decided yet.
    pub(crate) fn replay_txn_offset(
        &mut self,
        group: &Str,
        producer: ProducerId,
        key: (Str, i32),
        offset: TxnOffset,
    ) {
        self.await_marker(group, producer, key, offset);
    }

    /// Brings transactions and partitions together. After [`Broker::replay_offsets`].
    pub(crate) fn reconcile_transactions(&mut self, now: TimestampMs) {
        let by_producer = by_producer(&self.transactions);
        for open in self.open_transactions() {
            match by_producer.get(&open.producer.id) {
                Some(id) => self.reconcile(id, &open, now),
                None => self.abort_unknown(&open, open.producer.epoch, now),
            }
        }
        let mut ending: Vec<Str> = self
            .transactions
            .by_id
            .iter()
            .filter(|(_, entry)| entry.txn.decision().is_some())
            .map(|(id, _)| id.clone())
            .collect();
        ending.sort();
        for id in ending {
            self.write_all_markers(&id, None, true, now);
        }
    }

    fn open_transactions(&self) -> Vec<Open> {
        let mut found = Vec::new();
        for topic in self.topics.iter() {
            for (partition, log) in topic.logs() {
                let Some(log) = self.logs.get(log) else { continue };
                found.extend(log.open_transactions().map(|info| Open {
                    topic: topic.name().clone(),
                    partition: partition.get(),
                    producer: Producer { id: info.id, epoch: info.epoch },
                }));
            }
        }
        found
    }

    fn reconcile(&mut self, id: &Str, open: &Open, now: TimestampMs) {
        let Some(entry) = self.transactions.by_id.get_mut(id) else { return };
        let own = entry.txn.producer();
        let is_ending = entry.txn.decision().is_some();
        let is_of_end =
            is_ending && open.producer.id == own.id && entry.txn.ends(open.producer.epoch);
        if is_of_end && entry.txn.includes(&open.topic, open.partition) {
            // It gets its marker.
        } else if is_ending && !is_of_end && open.producer == entry.txn.successor() {
            entry.adopted.push((open.topic.clone(), open.partition));
        } else if !is_ending && open.producer == own {
            self.adopt(id, &[(open.topic.clone(), open.partition)], now);
        } else {
            self.abort_unknown(open, own.epoch.max(open.producer.epoch), now);
        }
    }

    /// Takes partitions into the open transaction, or opens one with them.
    pub(super) fn adopt(&mut self, id: &Str, partitions: &[(Str, i32)], now: TimestampMs) {
        let Some(entry) = self.transactions.get(id) else { return };
        let mut txn = entry.txn.clone();
        let version = match txn.state() {
            TxnState::Ongoing => txn.version(),
            // One of version 1 writes nothing before its beginning is on disk.
            _ => TxnVersion::V2,
        };
        let added = partitions.iter().map(|(topic, partition)| (topic, *partition));
        match txn.add(txn.producer(), added, version, now) {
            Ok(false) => {}
            Ok(true) => {
                if let Err(error) = self.store_transaction(id, txn, now) {
                    tracing::error!(id = %id, %error, "what a crash has left of a transaction could not be taken into it");
                }
            }
            Err(error) => debug_assert!(false, "a transaction takes its own partitions: {error}"),
        }
    }

    fn abort_unknown(&mut self, open: &Open, epoch: ProducerEpoch, now: TimestampMs) {
        let Open { topic, partition, producer } = open;
        tracing::warn!(
            topic = %topic, partition, producer = producer.id.get(),
            "a transaction that nobody can end any more is aborted"
        );
        let marker = Producer { id: producer.id, epoch };
        let epoch = self.marker_epoch(topic, *partition, producer.id);
        match self.write_marker(marker, false, epoch, topic, *partition, now) {
            Ok(()) => self.commit_queue.appended(false),
            Err(error) => {
                tracing::error!(topic = %topic, partition, %error, "the abort marker was not written");
            }
        }
        if topic == OFFSETS_TOPIC {
            self.settle_offsets(producer.id, false, Some(&[*partition].into()));
        }
    }

    /// The epoch of the coordinator that wrote the last marker of this producer: a lower one is refused.
    fn marker_epoch(&self, topic: &str, partition: i32, id: ProducerId) -> LeaderEpoch {
        let log = self.topics.get(topic).and_then(|topic| topic.log(PartitionId(partition)));
        let info = log.and_then(|log| self.logs.get(log)).and_then(|log| log.producer(id));
        LeaderEpoch(info.map_or(0, |info| info.coordinator_epoch).max(0))
    }
}

fn by_producer(transactions: &Transactions) -> HashMap<ProducerId, Str> {
    let ids = transactions.by_id.iter().flat_map(|(id, entry)| {
        [entry.txn.producer().id, entry.txn.successor().id].map(|producer| (producer, id.clone()))
    });
    ids.collect()
}

fn replay_record(
    found: &mut BTreeMap<Str, TransactionLogValue>,
    key: Option<Bytes>,
    value: Option<Bytes>,
) -> Result<(), weir_protocol::DecodeError> {
    let Some(key) = key else { return Ok(()) };
    let Some(id) = decode_key(key)? else { return Ok(()) };
    match value {
        Some(value) => drop(found.insert(id, TransactionLogValue::decode(value)?)),
        None => drop(found.remove(&id)),
    }
    Ok(())
}
