//! ListTransactions, DescribeTransactions, DescribeProducers (KIP-664, KIP-994, KIP-1152), and WriteTxnMarkers, with which
//! an operator ends what hangs.

use std::collections::{BTreeSet, HashSet};

use weir_log::check_topic_name;
use weir_protocol::api::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use weir_protocol::api::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};
use weir_protocol::api::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState as Listed,
};
use weir_protocol::api::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use weir_protocol::{
    ErrorCode, LeaderEpoch, PartitionId, ProducerEpoch, ProducerId, Str, TimestampMs,
};

use super::ending::TxnDue;
use crate::broker::{Broker, Step};
use crate::commit_queue::Due;
use crate::effects::Ticket;
use crate::re2;
use crate::request::{distinct, Response};
use crate::topics::OFFSETS_TOPIC;
use crate::transaction::{Producer, Transaction, TxnState};

/// A state of Kafka's that a transaction is never seen in.
const DEAD: &str = "Dead";

impl Broker {
    pub(crate) fn list_transactions(
        &self,
        request: &ListTransactionsRequest,
        now: TimestampMs,
    ) -> Step {
        let known = |name: &Str| TxnState::ALL.into_iter().find(|state| **name == *state.name());
        let mut response = ListTransactionsResponse {
            unknown_state_filters: request
                .state_filters
                .iter()
                .filter(|name| known(name).is_none() && ***name != *DEAD)
                .cloned()
                .collect(),
            ..ListTransactionsResponse::default()
        };
        let pattern = request.transactional_id_pattern.as_deref().filter(|text| !text.is_empty());
        let pattern = match pattern.map(re2::whole_match).transpose() {
            Ok(pattern) => pattern,
            Err(_) => {
                response.error_code = ErrorCode::InvalidRegularExpression.code();
                return Step::Answer(Response::ListTransactions(response));
            }
        };
        let is_known =
            |state: &TxnState| request.state_filters.iter().any(|one| **one == *state.name());
        let states: Vec<TxnState> = TxnState::ALL.into_iter().filter(is_known).collect();
        let producers: HashSet<i64> = request.producer_id_filters.iter().copied().collect();
        let is_wanted = |id: &Str, txn: &Transaction| {
            let runs_ms = txn.started().map_or(0, |started| now.since(started));
            (request.state_filters.is_empty() || states.contains(&txn.state()))
                && (producers.is_empty() || producers.contains(&txn.producer().id.get()))
                && (request.duration_filter < 0 || runs_ms > request.duration_filter)
                && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
        };
        response.transaction_states = self
            .transactions
            .by_id
            .iter()
            .filter(|(id, entry)| is_wanted(id, &entry.txn))
            .map(|(id, entry)| Listed {
                transactional_id: id.clone(),
                producer_id: entry.txn.producer().id.get(),
                transaction_state: entry.txn.state().name().into(),
            })
            .collect();
        response.transaction_states.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        Step::Answer(Response::ListTransactions(response))
    }

    pub(crate) fn describe_transactions(&self, request: &DescribeTransactionsRequest) -> Step {
        let transaction_states = distinct(&request.transactional_ids, |id| id)
            .into_iter()
            .take(self.config.request_names_max)
            .map(|id| self.describe_transaction(id))
            .collect();
        Step::Answer(Response::DescribeTransactions(DescribeTransactionsResponse {
            throttle_time_ms: 0,
            transaction_states,
        }))
    }

    fn describe_transaction(&self, id: &Str) -> TransactionState {
        let failed = |error: ErrorCode| TransactionState {
            error_code: error.code(),
            transactional_id: id.clone(),
            ..TransactionState::default()
        };
        if id.is_empty() {
            return failed(ErrorCode::InvalidRequest);
        }
        let Some(entry) = self.transactions.get(id) else {
            return failed(ErrorCode::TransactionalIdNotFound);
        };
        let txn = &entry.txn;
        TransactionState {
            error_code: 0,
            transactional_id: id.clone(),
            transaction_state: txn.state().name().into(),
            transaction_timeout_ms: txn.timeout_ms(),
            transaction_start_time_ms: txn.started().map_or(-1, TimestampMs::get),
            producer_id: txn.producer().id.get(),
            producer_epoch: txn.producer().epoch.get(),
            topics: txn
                .partitions()
                .iter()
                .map(|(topic, partitions)| TopicData {
                    topic: topic.clone(),
                    partitions: partitions.iter().copied().collect(),
                })
                .collect(),
        }
    }

    pub(crate) fn describe_producers(&self, request: &DescribeProducersRequest) -> Step {
        let mut left = self.config.request_partitions_max;
        let topics = distinct(&request.topics, |topic| &topic.name)
            .into_iter()
            .map(|topic| TopicResponse {
                name: topic.name.clone(),
                partitions: distinct(&topic.partition_indexes, |index| index)
                    .into_iter()
                    .map(|index| {
                        let allowed = left > 0;
                        left = left.saturating_sub(1);
                        self.describe_partition_producers(&topic.name, *index, allowed)
                    })
                    .collect(),
            })
            .collect();
        Step::Answer(Response::DescribeProducers(DescribeProducersResponse {
            throttle_time_ms: 0,
            topics,
        }))
    }

    fn describe_partition_producers(
        &self,
        topic: &str,
        index: i32,
        allowed: bool,
    ) -> PartitionResponse {
        let mut response = PartitionResponse { partition_index: index, ..Default::default() };
        let error = match check_topic_name(topic) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        };
        let topic = self.topics.get(topic).ok_or(error);
        let log = topic.and_then(|topic| topic.existing_log(PartitionId(index)));
        let log = log.and_then(|log| allowed.then_some(log).ok_or(ErrorCode::InvalidRequest));
        let log = match log {
            Ok(log) => log.and_then(|log| self.logs.get(log)),
            Err(error) => {
                response.error_code = error.code();
                response.error_message =
                    Some(Str::from_static("There is no such partition, or too many were named."));
                return response;
            }
        };
        let producers = log.into_iter().flat_map(|log| log.producers());
        response.active_producers = producers
            .map(|info| ProducerState {
                producer_id: info.id.get(),
                producer_epoch: i32::from(info.epoch.get()),
                last_sequence: info.last_sequence.get(),
                last_timestamp: info.last_seen.get(),
                coordinator_epoch: info.coordinator_epoch,
                current_txn_start_offset: info.txn_first_offset.map_or(-1, |first| first.get()),
            })
            .collect();
        response.active_producers.sort_by_key(|state| state.producer_id);
        response
    }

    /// WriteTxnMarkers. The answer waits until the markers are on disk.
    pub(crate) fn write_txn_markers(
        &mut self,
        ticket: Ticket,
        request: &WriteTxnMarkersRequest,
        now: TimestampMs,
    ) -> Step {
        let mut response = WriteTxnMarkersResponse::default();
        let mut ended = Vec::new();
        for marker in &request.markers {
            let mut offsets_partitions = BTreeSet::new();
            let mut result = WritableTxnMarkerResult {
                producer_id: marker.producer_id,
                topics: Vec::with_capacity(marker.topics.len()),
            };
            for topic in &marker.topics {
                let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
                for index in &topic.partition_indexes {
                    let written = self.write_wanted_marker(marker, &topic.name, *index, now);
                    let error_code = written.err().unwrap_or(ErrorCode::None).code();
                    if error_code == 0 && topic.name == OFFSETS_TOPIC {
                        offsets_partitions.insert(*index);
                    }
                    partitions.push(WritableTxnMarkerPartitionResult {
                        partition_index: *index,
                        error_code,
                    });
                }
                let name = topic.name.clone();
                result.topics.push(WritableTxnMarkerTopicResult { name, partitions });
            }
            response.markers.push(result);
            let producer = ProducerId(marker.producer_id);
            ended.push((producer, marker.transaction_result, offsets_partitions));
        }
        self.commit_queue.appended(true);
        self.commit_queue.push(Due::Transaction(TxnDue::Written { ticket, response, ended }));
        Step::Parked
    }

    fn write_wanted_marker(
        &mut self,
        marker: &WritableTxnMarker,
        topic: &Str,
        index: i32,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let found = self.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let log = found.existing_log(PartitionId(index))?;
        let producer = Producer {
            id: ProducerId(marker.producer_id),
            epoch: ProducerEpoch(marker.producer_epoch),
        };
        if producer.id < ProducerId(0) || producer.epoch < ProducerEpoch(0) {
            return Err(ErrorCode::InvalidRequest);
        }
        let info = log.and_then(|log| self.logs.get(log)?.producer(producer.id));
        if info.is_some_and(|info| producer.epoch < info.epoch) {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let epoch = LeaderEpoch(marker.coordinator_epoch.max(0));
        self.write_marker(producer, marker.transaction_result, epoch, topic, index, now)
    }

    pub(super) fn markers_written(
        &mut self,
        mut response: WriteTxnMarkersResponse,
        ended: Vec<(ProducerId, bool, BTreeSet<i32>)>,
        synced: bool,
    ) -> WriteTxnMarkersResponse {
        if synced {
            for (producer, commit, partitions) in ended {
                self.settle_offsets(producer, commit, Some(&partitions));
            }
            return response;
        }
        let topics = response.markers.iter_mut().flat_map(|marker| &mut marker.topics);
        for partition in topics.flat_map(|topic| &mut topic.partitions) {
            partition.error_code = ErrorCode::KafkaStorageError.code();
        }
        response
    }
}
