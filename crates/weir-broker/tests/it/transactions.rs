//! Transactions through the core, by the bytes of their requests.

use bytes::Bytes;
use weir_broker::Ticket;
use weir_protocol::api::add_offsets_to_txn::AddOffsetsToTxnRequest;
use weir_protocol::api::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use weir_protocol::api::describe_producers::{DescribeProducersRequest, TopicRequest};
use weir_protocol::api::describe_transactions::DescribeTransactionsRequest;
use weir_protocol::api::end_txn::{EndTxnRequest, EndTxnResponse};
use weir_protocol::api::find_coordinator::FindCoordinatorRequest;
use weir_protocol::api::init_producer_id::InitProducerIdRequest;
use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use weir_protocol::api::list_transactions::ListTransactionsRequest;
use weir_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_protocol::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use weir_protocol::api::produce::PartitionProduceResponse;
use weir_protocol::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use weir_protocol::api::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use weir_protocol::batch::{batches, BatchBuilder, ControlMarker};
use weir_protocol::compression::Codec;
use weir_protocol::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, Str, TimestampMs};

use crate::harness::*;

/// A producer id and epoch as they go over the wire.
pub(crate) type Who = (i64, i16);

pub(crate) fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code)
}

pub(crate) fn transactional(who: Who, sequence: i32, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        builder.append(TimestampMs(START_MS), None, Some(value.as_bytes()), &[]);
    }
    builder.set_producer(ProducerId(who.0), ProducerEpoch(who.1), Sequence(sequence));
    builder.set_transactional(true);
    builder.build()
}

pub(crate) fn init_request(id: &str, expected: Option<Who>) -> InitProducerIdRequest {
    let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
    InitProducerIdRequest {
        transactional_id: Some(Str::copy_from(id)),
        transaction_timeout_ms: 60_000,
        producer_id,
        producer_epoch,
    }
}

pub(crate) fn end_request(id: &str, who: Who, committed: bool) -> EndTxnRequest {
    EndTxnRequest {
        transactional_id: Str::copy_from(id),
        producer_id: who.0,
        producer_epoch: who.1,
        committed,
    }
}

pub(crate) fn add_request(
    id: &str,
    who: Who,
    partitions: &[(&str, i32)],
) -> AddPartitionsToTxnRequest {
    let topic = |(name, partition): &(&str, i32)| AddPartitionsToTxnTopic {
        name: Str::copy_from(name),
        partitions: vec![*partition],
    };
    AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: Str::copy_from(id),
        v3_and_below_producer_id: who.0,
        v3_and_below_producer_epoch: who.1,
        v3_and_below_topics: partitions.iter().map(topic).collect(),
        ..AddPartitionsToTxnRequest::default()
    }
}

pub(crate) fn offsets_request(
    id: &str,
    who: Who,
    group: &str,
    topic: &str,
    offset: i64,
) -> TxnOffsetCommitRequest {
    TxnOffsetCommitRequest {
        transactional_id: Str::copy_from(id),
        group_id: Str::copy_from(group),
        producer_id: who.0,
        producer_epoch: who.1,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: Str::copy_from(topic),
            partitions: vec![TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: None,
            }],
        }],
        ..TxnOffsetCommitRequest::default()
    }
}

impl Harness {
    /// Asks until the answer is not CONCURRENT_TRANSACTIONS.
    pub(crate) fn init(&mut self, id: &str, expected: Option<Who>) -> Result<Who, ErrorCode> {
        loop {
            let answer = self.ask(5, &init_request(id, expected));
            match code(answer.error_code) {
                ErrorCode::None => return Ok((answer.producer_id, answer.producer_epoch)),
                ErrorCode::ConcurrentTransactions => self.commit_all(),
                error => return Err(error),
            }
        }
    }

    pub(crate) fn write(
        &mut self,
        version: i16,
        id: &str,
        topic: &str,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let topic_id = match version {
            13.. => self.topic_id(topic),
            _ => weir_protocol::Uuid::ZERO,
        };
        let mut request = produce_request(topic, 0, -1, batch);
        request.transactional_id = Some(Str::copy_from(id));
        request.topic_data[0].topic_id = topic_id;
        first(self.ask(version, &request))
    }

    fn topic_id(&mut self, topic: &str) -> weir_protocol::Uuid {
        let stats = weir_protocol::api::metadata::MetadataRequest {
            topics: Some(vec![weir_protocol::api::metadata::MetadataRequestTopic {
                name: Some(Str::copy_from(topic)),
                ..Default::default()
            }]),
            ..Default::default()
        };
        self.ask(12, &stats).topics[0].topic_id
    }

    pub(crate) fn add(&mut self, id: &str, who: Who, partitions: &[(&str, i32)]) -> Vec<ErrorCode> {
        let answer = self.ask(3, &add_request(id, who, partitions));
        let topics = answer.results_by_topic_v3_and_below;
        let partitions = topics.into_iter().flat_map(|topic| topic.results_by_partition);
        partitions.map(|partition| code(partition.partition_error_code)).collect()
    }

    pub(crate) fn end(
        &mut self,
        version: i16,
        id: &str,
        who: Who,
        commit: bool,
    ) -> (ErrorCode, Who) {
        let answer = self.ask(version, &end_request(id, who, commit));
        (code(answer.error_code), (answer.producer_id, answer.producer_epoch))
    }

    /// What a reader of what is committed sees: it leaves out what the answers call aborted, as a client does.
    pub(crate) fn committed(&mut self, topic: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let mut offset = 0;
        loop {
            let mut request = fetch_request(topic, 0, offset, 0);
            request.isolation_level = 1;
            let answer = self.ask(12, &request);
            let data = &answer.responses[0].partitions[0];
            assert_eq!(data.error_code, 0);
            let records = data.records.clone().unwrap_or_default();
            if records.is_empty() {
                return seen;
            }
            let mut aborted = data.aborted_transactions.clone().unwrap_or_default();
            let mut open = std::collections::BTreeSet::new();
            for view in batches(&records) {
                let view = view.unwrap();
                let producer = view.producer_id().get();
                aborted.retain(|txn| {
                    let begins = txn.first_offset <= view.last_offset().get();
                    begins.then(|| open.insert(txn.producer_id));
                    !begins
                });
                let from = offset;
                offset = view.last_offset().get() + 1;
                if view.is_control() {
                    let record = view.records(100).unwrap().next().unwrap().unwrap();
                    if ControlMarker::from_key(&record.key.unwrap()) == Some(ControlMarker::Abort) {
                        open.remove(&producer);
                    }
                    continue;
                }
                if view.is_transactional() && open.contains(&producer) {
                    continue;
                }
                for record in view.records(1 << 20).unwrap().map(Result::unwrap) {
                    if record.offset >= Offset(from) {
                        seen.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                    }
                }
            }
        }
    }

    pub(crate) fn offset_of(&mut self, group: &str, topic: &str, stable: bool) -> (ErrorCode, i64) {
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: Str::copy_from(group),
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: Str::copy_from(topic),
                    partition_indexes: vec![0],
                }]),
                ..OffsetFetchRequestGroup::default()
            }],
            require_stable: stable,
            ..OffsetFetchRequest::default()
        };
        let group = self.ask(9, &request).groups.remove(0);
        let partition = &group.topics[0].partitions[0];
        (code(partition.error_code), partition.committed_offset)
    }

    fn latest(&mut self, topic: &str, isolation_level: i8) -> i64 {
        let request = ListOffsetsRequest {
            isolation_level,
            topics: vec![ListOffsetsTopic {
                name: Str::copy_from(topic),
                partitions: vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }],
            }],
            ..ListOffsetsRequest::default()
        };
        self.ask(6, &request).topics[0].partitions[0].offset
    }

    fn state(&mut self, id: &str) -> String {
        let request = DescribeTransactionsRequest { transactional_ids: vec![Str::copy_from(id)] };
        self.ask(0, &request).transaction_states[0].transaction_state.to_string()
    }
}

fn with_topics() -> Harness {
    let mut h = Harness::new();
    h.create("a", 1, &[]);
    h.create("b", 1, &[]);
    h
}

#[test]
fn version_1_commits_and_aborts() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    assert_eq!(h.add("tx", who, &[("a", 0), ("b", 0)]), [ErrorCode::None; 2]);
    assert_eq!(h.write(10, "tx", "a", transactional(who, 0, &["a1"])).error_code, 0);
    assert_eq!(h.write(10, "tx", "b", transactional(who, 0, &["b1"])).error_code, 0);
    assert_eq!((h.latest("a", 0), h.latest("a", 1)), (1, 0), "undecided is not stable");
    assert!(h.committed("a").is_empty());
    assert_eq!(h.read("a", 0, 0), ["a1"], "who asks for all sees all");
    assert_eq!(h.end(3, "tx", who, true).0, ErrorCode::None);
    assert_eq!((h.committed("a"), h.committed("b")), (vec!["a1".into()], vec!["b1".into()]));
    assert_eq!(h.latest("a", 1), 2, "the marker takes an offset");

    assert_eq!(h.add("tx", who, &[("a", 0)]), [ErrorCode::None]);
    assert_eq!(h.write(10, "tx", "a", transactional(who, 1, &["a2"])).error_code, 0);
    assert_eq!(h.end(3, "tx", who, false).0, ErrorCode::None);
    assert_eq!(h.committed("a"), ["a1"]);
    assert_eq!(h.latest("a", 1), 4);
    assert_eq!(h.broker.stats().transactions.committed, 1);
    assert_eq!(h.broker.stats().transactions.aborted, 1);
}

#[test]
fn version_2_adds_by_writing_and_gets_a_new_epoch_with_each_end() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    assert_eq!(h.write(12, "tx", "a", transactional(who, 0, &["a1"])).error_code, 0);
    assert_eq!(h.write(13, "tx", "b", transactional(who, 0, &["b1"])).error_code, 0);
    let (error, next) = h.end(5, "tx", who, true);
    assert_eq!((error, next), (ErrorCode::None, (who.0, who.1 + 1)));
    assert_eq!(h.end(5, "tx", who, true), (ErrorCode::None, next), "an answer was lost");
    assert_eq!(h.end(5, "tx", who, false).0, ErrorCode::InvalidTxnState);
    let late = h.write(12, "tx", "a", transactional(who, 1, &["late"]));
    assert_eq!(code(late.error_code), ErrorCode::InvalidProducerEpoch);
    assert_eq!(h.write(12, "tx", "a", transactional(next, 0, &["a2"])).error_code, 0);
    assert_eq!(h.end(5, "tx", who, true).0, ErrorCode::ProducerFenced, "of the one before");
    assert_eq!(h.end(5, "tx", next, false).0, ErrorCode::None);
    assert_eq!((h.committed("a"), h.committed("b")), (vec!["a1".into()], vec!["b1".into()]));
}

#[test]
fn what_belongs_to_no_open_transaction_is_refused() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    let refused = |h: &mut Harness, version, who, sequence| {
        code(h.write(version, "tx", "a", transactional(who, sequence, &["x"])).error_code)
    };
    assert_eq!(refused(&mut h, 10, who, 0), ErrorCode::InvalidTxnState);
    assert_eq!(refused(&mut h, 11, who, 0), ErrorCode::TransactionAbortable);
    assert_eq!(refused(&mut h, 12, who, 7), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(refused(&mut h, 12, (who.0, who.1 + 1), 0), ErrorCode::InvalidProducerEpoch);
    assert_eq!(refused(&mut h, 12, (who.0 + 1, 0), 0), ErrorCode::InvalidProducerIdMapping);
    let nobody = produce_request("a", 0, -1, transactional(who, 0, &["x"]));
    let nobody = first(h.ask(9, &nobody));
    assert_eq!(code(nobody.error_code), ErrorCode::TransactionalIdAuthorizationFailed);
    assert!(h.read("a", 0, 0).is_empty());
}

#[test]
fn a_second_producer_fences_the_first() {
    let mut h = with_topics();
    let old = h.init("tx", None).unwrap();
    assert_eq!(h.write(12, "tx", "a", transactional(old, 0, &["zombie"])).error_code, 0);
    let answer = h.ask(5, &init_request("tx", None));
    assert_eq!(code(answer.error_code), ErrorCode::ConcurrentTransactions);
    let new = h.init("tx", None).unwrap();
    assert_eq!(new, (old.0, old.1 + 2), "the epoch in between aborted what was open");
    assert_eq!(h.end(5, "tx", old, true).0, ErrorCode::ProducerFenced);
    assert_eq!(h.end(1, "tx", old, true).0, ErrorCode::InvalidProducerEpoch);
    assert_eq!(h.add("tx", old, &[("a", 0)]), [ErrorCode::ProducerFenced]);
    let late = h.write(12, "tx", "a", transactional(old, 1, &["late"]));
    assert_eq!(code(late.error_code), ErrorCode::InvalidProducerEpoch);
    assert_eq!(h.init("tx", Some(old)), Err(ErrorCode::ProducerFenced));
    let v3 = h.ask(3, &init_request("tx", Some(old)));
    assert_eq!(code(v3.error_code), ErrorCode::InvalidProducerEpoch);
    assert!(h.committed("a").is_empty());
    assert_eq!(h.write(12, "tx", "a", transactional(new, 0, &["new"])).error_code, 0);
    assert_eq!(h.end(5, "tx", new, true).0, ErrorCode::None);
    assert_eq!(h.committed("a"), ["new"]);
}

#[test]
fn init_refuses_what_makes_no_sense() {
    let mut h = with_topics();
    let refused =
        |h: &mut Harness, request: InitProducerIdRequest| code(h.ask(5, &request).error_code);
    assert_eq!(refused(&mut h, init_request("", None)), ErrorCode::InvalidRequest);
    for transaction_timeout_ms in [0, -1, 900_001] {
        let request = InitProducerIdRequest { transaction_timeout_ms, ..init_request("tx", None) };
        assert_eq!(refused(&mut h, request), ErrorCode::InvalidTransactionTimeout);
    }
    let half = InitProducerIdRequest { producer_epoch: -1, ..init_request("tx", Some((5, 0))) };
    assert_eq!(refused(&mut h, half), ErrorCode::InvalidRequest);
    let request = FindCoordinatorRequest {
        key_type: 1,
        coordinator_keys: vec!["tx".into(), "".into()],
        ..FindCoordinatorRequest::default()
    };
    let found = h.ask(4, &request).coordinators;
    // The id without a name has a coordinator, as in Kafka, which then takes no transaction under it.
    assert_eq!((found[0].error_code, found[1].error_code), (0, 0));
}

#[test]
fn partitions_are_added_all_or_none() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    let added = h.add("tx", who, &[("a", 0), ("a", 9), ("none", 0)]);
    let not_attempted = ErrorCode::OperationNotAttempted;
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(added, [not_attempted, unknown, unknown]);
    assert_eq!(h.state("tx"), "Empty");
    assert_eq!(h.add("other", who, &[("a", 0)]), [ErrorCode::InvalidProducerIdMapping]);
}

/// Versions from 4 on are for brokers that verify what they are written.
#[test]
fn partitions_are_verified_in_batches() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    assert_eq!(h.add("tx", who, &[("a", 0)]), [ErrorCode::None]);
    let verify = |h: &mut Harness, version, topic: &str, who: Who| {
        let request = AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: "tx".into(),
                producer_id: who.0,
                producer_epoch: who.1,
                verify_only: true,
                topics: vec![AddPartitionsToTxnTopic {
                    name: Str::copy_from(topic),
                    partitions: vec![0],
                }],
            }],
            ..AddPartitionsToTxnRequest::default()
        };
        let answer = h.ask(version, &request);
        let result = &answer.results_by_transaction[0].topic_results[0].results_by_partition[0];
        code(result.partition_error_code)
    };
    assert_eq!(verify(&mut h, 4, "a", who), ErrorCode::None);
    assert_eq!(verify(&mut h, 4, "b", who), ErrorCode::TransactionAbortable);
    assert_eq!(verify(&mut h, 5, "b", who), ErrorCode::TransactionAbortable);
    assert_eq!(verify(&mut h, 5, "a", (who.0, 7)), ErrorCode::ProducerFenced);
}

#[test]
fn end_is_answered_when_the_markers_are_on_disk() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    h.write(12, "tx", "a", transactional(who, 0, &["a1"]));
    let ticket: Ticket = h.call(5, &end_request("tx", who, true)).ticket();
    assert_eq!(h.state("tx"), "PrepareCommit");
    let again = h.call(5, &end_request("tx", who, true)).answer();
    assert_eq!(code(again.error_code), ErrorCode::ConcurrentTransactions);
    let mut request = produce_request("a", 0, 1, transactional((who.0, who.1 + 1), 0, &["x"]));
    request.transactional_id = Some("tx".into());
    let early = first(h.call(12, &request).answer());
    assert_eq!(code(early.error_code), ErrorCode::ConcurrentTransactions);
    h.commit();
    assert!(h.answer::<EndTxnRequest>(ticket).is_none());
    assert!(h.committed("a").is_empty(), "the marker is written but not on disk");
    h.commit();
    let answer: EndTxnResponse = h.answer::<EndTxnRequest>(ticket).unwrap();
    assert_eq!(answer.error_code, 0);
    assert_eq!(h.committed("a"), ["a1"]);
    assert_eq!(h.state("tx"), "CompleteCommit");
}

#[test]
fn an_idle_transaction_is_aborted_and_its_producer_fenced() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    h.write(12, "tx", "a", transactional(who, 0, &["slow"]));
    h.pass_ms(59_999);
    assert_eq!(h.state("tx"), "Ongoing");
    h.broker.clock_set(-3_600_000);
    h.now = h.now.plus_ms(-3_600_000);
    assert_eq!(h.broker.next_deadline().since(h.now), 1, "the clock was set, time did not pass");
    h.pass_ms(1);
    h.commit_all();
    assert_eq!(h.state("tx"), "CompleteAbort");
    assert_eq!(h.latest("a", 1), 2);
    assert!(h.committed("a").is_empty());
    assert_eq!(h.end(3, "tx", who, true).0, ErrorCode::ProducerFenced);
    let late = h.write(12, "tx", "a", transactional(who, 1, &["late"]));
    assert_eq!(code(late.error_code), ErrorCode::InvalidProducerEpoch);
    assert_eq!(h.broker.stats().transactions.timed_out, 1);
}

#[test]
fn transactional_ids_expire() {
    let mut h = with_topics();
    let who = h.init("old", None).unwrap();
    h.pass_ms(1);
    h.pass_ms(6 * 86_400_000);
    h.init("new", None).unwrap();
    h.pass_ms(86_400_000 + 1);
    h.commit_all();
    let listed = |h: &mut Harness| {
        let states = h.ask(0, &ListTransactionsRequest::default()).transaction_states;
        states.iter().map(|state| state.transactional_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&mut h), ["new"]);
    let mut h = h.after_power_cut(1);
    assert_eq!(listed(&mut h), ["new"]);
    assert_eq!(h.add("old", who, &[("a", 0)]), [ErrorCode::InvalidProducerIdMapping]);
}

#[test]
fn offsets_count_from_the_commit_on() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    let add = AddOffsetsToTxnRequest {
        transactional_id: "tx".into(),
        producer_id: who.0,
        producer_epoch: who.1,
        group_id: "g".into(),
    };
    let early = h.ask(3, &offsets_request("tx", who, "g", "a", 5));
    assert_eq!(code(early.topics[0].partitions[0].error_code), ErrorCode::InvalidTxnState);
    assert_eq!(h.ask(3, &add).error_code, 0);
    let answer = h.ask(3, &offsets_request("tx", who, "g", "a", 5));
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(h.offset_of("g", "a", false), (ErrorCode::None, -1));
    assert_eq!(h.offset_of("g", "a", true), (ErrorCode::UnstableOffsetCommit, -1));
    let mut h = h.after_power_cut(1);
    assert_eq!(h.offset_of("g", "a", true), (ErrorCode::UnstableOffsetCommit, -1));
    assert_eq!(h.end(3, "tx", who, true).0, ErrorCode::None);
    assert_eq!(h.offset_of("g", "a", true), (ErrorCode::None, 5));
    let mut h = h.after_power_cut(2);
    assert_eq!(h.offset_of("g", "a", true), (ErrorCode::None, 5));

    // Version 2 adds by committing; an abort forgets.
    let who = h.init("tx", None).unwrap();
    let answer = h.ask(5, &offsets_request("tx", who, "g", "a", 9));
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    let (error, next) = h.end(5, "tx", who, false);
    assert_eq!(error, ErrorCode::None);
    assert_eq!(h.offset_of("g", "a", true), (ErrorCode::None, 5));

    // A commit outside the transaction stands behind it in the log, and so counts.
    h.ask(5, &offsets_request("tx", next, "g", "a", 20));
    let plain = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "a".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 30,
                ..OffsetCommitRequestPartition::default()
            }],
        }],
        ..OffsetCommitRequest::default()
    };
    h.ask(8, &plain);
    assert_eq!(h.end(5, "tx", next, true).0, ErrorCode::None);
    assert_eq!(h.offset_of("g", "a", true), (ErrorCode::None, 30));
    let mut h = h.after_power_cut(3);
    assert_eq!(h.offset_of("g", "a", true), (ErrorCode::None, 30));
}

#[test]
fn offsets_of_a_transaction_check_the_generation() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    let mut request = offsets_request("tx", who, "g", "a", 5);
    request.generation_id = 3;
    request.member_id = "m".into();
    let refused = h.ask(5, &request);
    assert_eq!(code(refused.topics[0].partitions[0].error_code), ErrorCode::IllegalGeneration);
    let unknown = h.ask(5, &offsets_request("tx", who, "g", "none", 5));
    let unknown = code(unknown.topics[0].partitions[0].error_code);
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(h.state("tx"), "Empty");
}

#[test]
fn transactions_are_listed_and_described() {
    let mut h = with_topics();
    let who = h.init("tx-1", None).unwrap();
    h.init("tx-2", None).unwrap();
    h.write(12, "tx-1", "a", transactional(who, 0, &["x", "y"]));
    h.pass_ms(5_000);
    let listed = |h: &mut Harness, request: ListTransactionsRequest| {
        let answer = h.ask(2, &request);
        assert_eq!(answer.error_code, 0);
        let states = answer.transaction_states.iter();
        states.map(|state| state.transactional_id.to_string()).collect::<Vec<_>>()
    };
    let all = ListTransactionsRequest { duration_filter: -1, ..ListTransactionsRequest::default() };
    assert_eq!(listed(&mut h, all.clone()), ["tx-1", "tx-2"]);
    let pattern = |text: &str| ListTransactionsRequest {
        transactional_id_pattern: Some(Str::copy_from(text)),
        ..all.clone()
    };
    assert_eq!(listed(&mut h, pattern(".*2")), ["tx-2"]);
    assert!(listed(&mut h, pattern("tx")).is_empty(), "the whole id must match");
    let error = h.ask(2, &pattern("tx)(")).error_code;
    assert_eq!(code(error), ErrorCode::InvalidRegularExpression);
    let slow = |duration_filter| ListTransactionsRequest { duration_filter, ..all.clone() };
    assert_eq!(listed(&mut h, slow(4_999)), ["tx-1"]);
    assert!(listed(&mut h, slow(5_000)).is_empty());
    let by_id = ListTransactionsRequest { producer_id_filters: vec![who.0], ..all.clone() };
    assert_eq!(listed(&mut h, by_id), ["tx-1"]);
    let states = ListTransactionsRequest {
        state_filters: vec!["Ongoing".into(), "Odd".into()],
        ..all.clone()
    };
    assert_eq!(h.ask(2, &states).unknown_state_filters, ["Odd"]);
    assert_eq!(listed(&mut h, states), ["tx-1"]);

    let ids = vec!["tx-1".into(), "none".into(), "".into()];
    let described = h.ask(0, &DescribeTransactionsRequest { transactional_ids: ids });
    let [ongoing, none, empty] = &described.transaction_states[..] else { panic!() };
    assert_eq!(ongoing.transaction_state, "Ongoing");
    assert_eq!((ongoing.producer_id, ongoing.producer_epoch), who);
    assert_eq!(ongoing.transaction_start_time_ms, START_MS);
    assert_eq!((&ongoing.topics[0].topic, &ongoing.topics[0].partitions), (&"a".into(), &vec![0]));
    assert_eq!(code(none.error_code), ErrorCode::TransactionalIdNotFound);
    assert_eq!(code(empty.error_code), ErrorCode::InvalidRequest);

    let request = DescribeProducersRequest {
        topics: vec![TopicRequest { name: "a".into(), partition_indexes: vec![0, 1] }],
    };
    let answer = h.ask(0, &request);
    let [first, second] = &answer.topics[0].partitions[..] else { panic!() };
    let producer = &first.active_producers[0];
    assert_eq!((producer.producer_id, producer.producer_epoch), (who.0, i32::from(who.1)));
    assert_eq!((producer.last_sequence, producer.current_txn_start_offset), (1, 0));
    assert_eq!(code(second.error_code), ErrorCode::UnknownTopicOrPartition);
}

/// What `kafka-transactions abort` sends.
#[test]
fn an_operator_ends_a_transaction() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    h.write(12, "tx", "a", transactional(who, 0, &["x"]));
    let markers = |who: Who, topic: &str| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: who.0,
            producer_epoch: who.1,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic {
                name: Str::copy_from(topic),
                partition_indexes: vec![0],
            }],
            coordinator_epoch: 0,
        }],
    };
    let answer = h.ask(1, &markers(who, "a"));
    assert_eq!(answer.markers[0].topics[0].partitions[0].error_code, 0);
    assert_eq!(h.latest("a", 1), 2);
    assert!(h.committed("a").is_empty());
    let unknown = h.ask(1, &markers(who, "none"));
    let unknown = code(unknown.markers[0].topics[0].partitions[0].error_code);
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn a_decision_is_carried_out_after_a_power_cut() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..30 {
        let mut h = with_topics();
        let who = h.init("tx", None).unwrap();
        h.write(12, "tx", "a", transactional(who, 0, &["a1"]));
        h.write(12, "tx", "b", transactional(who, 0, &["b1"]));
        h.call(5, &end_request("tx", who, true)).ticket();
        h.commit();
        // The decision is on disk; of the markers there is what the cut leaves.
        let mut h = h.after_power_cut(seed);
        seen.insert((h.latest("a", 0), h.latest("b", 0)));
        h.commit_all();
        assert_eq!(h.state("tx"), "CompleteCommit");
        assert_eq!((h.committed("a"), h.committed("b")), (vec!["a1".into()], vec!["b1".into()]));
        assert_eq!((h.latest("a", 1), h.latest("b", 1)), (2, 2), "one marker each");
        // A repeat of the request that was not answered.
        assert_eq!(h.end(5, "tx", who, true), (ErrorCode::None, (who.0, who.1 + 1)));
    }
    assert!(seen.len() > 1, "the cuts differ: {seen:?}");
}

/// A producer of version 2 writes before its transaction is on disk.
#[test]
fn a_batch_whose_beginning_was_lost_opens_its_transaction() {
    let mut kept = 0;
    for seed in 0..60 {
        let mut h = with_topics();
        let who = h.init("tx", None).unwrap();
        h.write(12, "tx", "a", transactional(who, 0, &["a1"]));
        let ticket = h.call(5, &end_request("tx", who, true)).ticket();
        h.commit();
        h.commit();
        let next = h.answer::<EndTxnRequest>(ticket).unwrap();
        let next = (next.producer_id, next.producer_epoch);
        // The end is not on disk yet, but for its decision and markers, when the next transaction begins.
        let mut request = produce_request("b", 0, -1, transactional(next, 0, &["b1"]));
        request.transactional_id = Some("tx".into());
        h.call(12, &request).ticket();
        let mut h = h.after_power_cut(seed);
        h.commit_all();
        assert_eq!(h.committed("a"), ["a1"]);
        assert!(h.committed("b").is_empty());
        let is_kept = h.latest("b", 0) > 0;
        kept += i32::from(is_kept);
        let again = h.write(12, "tx", "b", transactional(next, 0, &["b1"]));
        assert_eq!(again.error_code, 0, "seed {seed}, kept {is_kept}");
        assert_eq!(h.end(5, "tx", next, true).0, ErrorCode::None);
        assert_eq!(h.committed("b"), ["b1"], "seed {seed}, kept {is_kept}");
    }
    assert!(kept > 0 && kept < 60, "the cuts differ: {kept}");
}

/// As above, but its client does not come back.
#[test]
fn a_batch_whose_beginning_was_lost_does_not_hang() {
    let mut kept = 0;
    for seed in 0..60 {
        let mut h = with_topics();
        let who = h.init("tx", None).unwrap();
        let mut request = produce_request("a", 0, -1, transactional(who, 0, &["x"]));
        request.transactional_id = Some("tx".into());
        h.call(12, &request).ticket();
        let mut h = h.after_power_cut(seed);
        kept += i32::from(h.latest("a", 0) > 0);
        h.init("tx", None).unwrap();
        h.commit_all();
        assert_eq!(h.latest("a", 1), h.latest("a", 0), "seed {seed}");
        assert!(h.committed("a").is_empty());
    }
    assert!(kept > 0, "some cuts keep the batch");
}

#[test]
fn a_transaction_that_nobody_knows_is_aborted_at_the_start() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    h.write(12, "tx", "a", transactional(who, 0, &["x"]));
    h.broker.close().unwrap();
    // The directory comes from elsewhere, without its transactions.
    let disk = h.disk.clone();
    for path in disk.files().keys() {
        if path.to_string_lossy().contains("__transaction_state") {
            weir_log::Disk::remove(&*disk, path).unwrap();
        }
    }
    let mut h = Harness::on(disk, config());
    h.commit_all();
    assert_eq!(h.latest("a", 1), 2);
    assert!(h.committed("a").is_empty());
}

#[test]
fn end_waits_for_what_was_written_with_less_than_all() {
    let mut h = with_topics();
    let who = h.init("tx", None).unwrap();
    let mut request = produce_request("a", 0, 1, transactional(who, 0, &["x"]));
    request.transactional_id = Some("tx".into());
    assert_eq!(first(h.call(12, &request).answer()).error_code, 0);
    let ticket = h.call(5, &end_request("tx", who, true)).ticket();
    assert_eq!(h.state("tx"), "Ongoing", "what it commits is not on disk");
    h.commit();
    assert_eq!(h.state("tx"), "PrepareCommit");
    h.commit_all();
    assert_eq!(h.answer::<EndTxnRequest>(ticket).unwrap().error_code, 0);
}

#[test]
fn the_topic_of_transactions_is_not_deleted() {
    use weir_protocol::api::delete_topics::DeleteTopicsRequest;
    let mut h = with_topics();
    h.init("tx", None).unwrap();
    let request = DeleteTopicsRequest {
        topic_names: vec!["__transaction_state".into()],
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(code(h.ask(5, &request).responses[0].error_code), ErrorCode::InvalidTopicException);
    let direct = h.produce("__transaction_state", 0, batch(&["x"]));
    assert_eq!(code(direct.error_code), ErrorCode::InvalidTopicException);
}
