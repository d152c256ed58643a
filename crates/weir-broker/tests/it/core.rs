use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use weir_broker::{BrokerConfig, BrokerError, Durability};
use weir_log::disk::{Fault, FaultKind};
use weir_log::{Disk, MemDisk};
use weir_protocol::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use weir_protocol::api::create_topics::{CreatableReplicaAssignment, CreateTopicsRequest};
use weir_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir_protocol::api::describe_cluster::DescribeClusterRequest;
use weir_protocol::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use weir_protocol::api::fetch::{FetchPartition, FetchRequest};
use weir_protocol::api::find_coordinator::FindCoordinatorRequest;
use weir_protocol::api::init_producer_id::InitProducerIdRequest;
use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use weir_protocol::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use weir_protocol::api::produce::ProduceRequest;
use weir_protocol::batch::{batches, BatchBuilder};
use weir_protocol::compression::Codec;
use weir_protocol::{ErrorCode, Str, TimestampMs, Uuid};

use crate::harness::*;

fn metadata_of(h: &mut Harness, name: &str, create: bool) -> MetadataResponse {
    let topic = MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(Str::copy_from(name)) };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: create,
        ..MetadataRequest::default()
    };
    h.ask(12, &request)
}

#[test]
fn acks_all_is_answered_after_the_commit() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let ticket = h.call(9, &produce_request("t", 0, -1, batch(&["a", "b"]))).ticket();
    assert!(h.answer::<ProduceRequest>(ticket).is_none());
    assert!(h.read("t", 0, 0).is_empty(), "nobody reads what is not synced");
    h.commit();
    let answer = first(h.answer::<ProduceRequest>(ticket).unwrap());
    assert_eq!((answer.error_code, answer.base_offset, answer.log_start_offset), (0, 0, 0));
    assert_eq!(h.read("t", 0, 0), ["a", "b"]);
}

#[test]
fn appends_go_on_while_a_commit_runs() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let one = h.call(9, &produce_request("t", 0, -1, batch(&["a"]))).ticket();
    let pending = h.broker.begin_commit().unwrap();
    let two = h.call(9, &produce_request("t", 0, -1, batch(&["b"]))).ticket();
    let done = pending.run();
    let woken = h.broker.finish_commit(done, h.now);
    let tickets: Vec<_> = woken.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [one], "the second belongs to the next commit");
    assert_eq!(h.read("t", 0, 0), ["a"]);
    h.commit();
    assert_eq!(first(h.answer::<ProduceRequest>(two).unwrap()).base_offset, 1);
}

#[test]
fn relaxed_durability_answers_acks_all_before_the_commit_and_readers_still_wait_for_it() {
    let relaxed = BrokerConfig { durability: Durability::Relaxed, ..config() };
    let mut h = Harness::on(Arc::new(MemDisk::new()), relaxed);
    h.create("t", 1, &[]);
    h.commit_all();
    let answer = first(h.call(9, &produce_request("t", 0, -1, batch(&["a"]))).answer());
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    assert_eq!(h.broker.commit_need(), weir_broker::CommitNeed::Soon);
    assert!(h.read("t", 0, 0).is_empty(), "nobody reads what is not synced");
    let mut h = h.after_power_cut(7);
    assert!(h.read("t", 0, 0).is_empty(), "what was answered is gone, as was agreed");
    h.call(9, &produce_request("t", 0, -1, batch(&["b"]))).answer();
    h.commit();
    assert_eq!(h.read("t", 0, 0), ["b"]);
}

#[test]
fn acks_1_is_answered_at_once_and_seen_after_the_commit() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.commit_all();
    let answer = first(h.call(9, &produce_request("t", 0, 1, batch(&["a"]))).answer());
    assert_eq!(answer.base_offset, 0);
    assert_eq!(h.broker.commit_need(), weir_broker::CommitNeed::Soon);
    h.commit();
    assert_eq!(h.read("t", 0, 0), ["a"]);
}

#[test]
fn what_was_acked_at_acks_1_survives_a_kill_and_soon_a_power_cut() {
    for seed in 0..10 {
        let mut h = Harness::new();
        h.create("t", 1, &[]);
        h.commit_all();
        let answer = first(h.call(9, &produce_request("t", 0, 1, batch(&["a"]))).answer());
        assert_eq!(answer.error_code, 0);
        // A process that is killed leaves its page cache.
        let mut killed = Harness::on(Arc::new(h.disk.crash_as_kill()), h.config.clone());
        assert_eq!(killed.read("t", 0, 0), ["a"]);
        // The commit that nobody waits for is asked for all the same.
        h.commit_all();
        let mut h = h.after_power_cut(seed);
        assert_eq!(h.read("t", 0, 0), ["a"], "seed {seed}");
    }
}

#[test]
fn acks_0_has_no_answer_and_its_failure_closes() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    assert!(matches!(h.call(9, &produce_request("t", 0, 0, batch(&["a"]))), Called::Silent));
    assert!(matches!(h.call(9, &produce_request("t", 9, 0, batch(&["a"]))), Called::Closed));
}

#[test]
fn a_long_poll_wakes_on_the_commit_not_on_the_append() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let fetch = h.call(12, &fetch_request("t", 0, 0, 10_000)).ticket();
    let produce = h.call(9, &produce_request("t", 0, -1, batch(&["a"]))).ticket();
    assert!(h.answer::<FetchRequest>(fetch).is_none());
    h.commit();
    assert_eq!(fetched(&h.answer::<FetchRequest>(fetch).unwrap()), ["a"]);
    assert!(h.answer::<ProduceRequest>(produce).is_some());
}

#[test]
fn a_long_poll_ends_at_its_deadline_with_nothing() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let fetch = h.call(12, &fetch_request("t", 0, 0, 500)).ticket();
    h.pass_ms(499);
    assert!(h.answer::<FetchRequest>(fetch).is_none());
    assert!(h.broker.next_deadline() <= h.now.plus_ms(1));
    h.pass_ms(1);
    let answer = h.answer::<FetchRequest>(fetch).unwrap();
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.records, Some(Bytes::new()), "no records is zero bytes, not null");
}

#[test]
fn min_bytes_is_waited_for() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let request = FetchRequest { min_bytes: 150, ..fetch_request("t", 0, 0, 10_000) };
    let fetch = h.call(12, &request).ticket();
    h.produce("t", 0, batch(&["a"]));
    assert!(h.answer::<FetchRequest>(fetch).is_none());
    h.produce("t", 0, batch(&["b"]));
    h.produce("t", 0, batch(&["c"]));
    assert_eq!(fetched(&h.answer::<FetchRequest>(fetch).unwrap()), ["a", "b", "c"]);
}

#[test]
fn a_fetch_inside_a_batch_gets_the_whole_batch() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["a", "b", "c"]));
    let answer = h.ask(12, &fetch_request("t", 0, 1, 0));
    assert_eq!(fetched(&answer), ["a", "b", "c"]);
}

#[test]
fn a_first_batch_over_the_limits_is_sent_all_the_same() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["a long value that is longer than the limit"]));
    let mut request = fetch_request("t", 0, 0, 0);
    request.max_bytes = 10;
    request.topics[0].partitions[0].partition_max_bytes = 1;
    assert_eq!(fetched(&h.ask(12, &request)).len(), 1);
}

#[test]
fn no_partition_starves_under_max_bytes() {
    let mut h = Harness::new();
    h.create("t", 3, &[]);
    for partition in 0..3 {
        h.produce("t", partition, batch(&["x"]));
    }
    let mut request = fetch_request("t", 0, 0, 0);
    let one = request.topics[0].partitions[0].clone();
    request.topics[0].partitions =
        (0..3).map(|partition| FetchPartition { partition, ..one.clone() }).collect();
    request.max_bytes = 1;
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let answer = h.ask(12, &request);
        let with_data = answer.responses[0]
            .partitions
            .iter()
            .filter(|data| !data.records.as_ref().unwrap().is_empty());
        let indexes: Vec<i32> = with_data.map(|data| data.partition_index).collect();
        assert_eq!(indexes.len(), 1);
        served.extend(indexes);
    }
    assert_eq!(served.len(), 3);
}

#[test]
fn fetch_errors_end_the_poll_at_once() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let check = |h: &mut Harness, request: FetchRequest, error: ErrorCode| {
        let answer = h.call(12, &request).answer();
        assert_eq!(answer.responses[0].partitions[0].error_code, error.code());
    };
    check(&mut h, fetch_request("t", 0, 5, 10_000), ErrorCode::OffsetOutOfRange);
    check(&mut h, fetch_request("t", 7, 0, 10_000), ErrorCode::UnknownTopicOrPartition);
    check(&mut h, fetch_request("nope", 0, 0, 10_000), ErrorCode::UnknownTopicOrPartition);
    let mut newer = fetch_request("t", 0, 0, 10_000);
    newer.topics[0].partitions[0].current_leader_epoch = 99;
    check(&mut h, newer, ErrorCode::UnknownLeaderEpoch);
    let mut session = fetch_request("t", 0, 0, 0);
    (session.session_id, session.session_epoch) = (9, 1);
    assert_eq!(h.call(12, &session).answer().error_code, ErrorCode::FetchSessionIdNotFound.code());
    let mut by_id = fetch_request("", 0, 0, 10_000);
    by_id.topics[0].topic_id = Uuid([9; 16]);
    let answer = h.call(13, &by_id).answer();
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicId.code());
}

#[test]
fn deleting_a_topic_wakes_its_fetches() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let fetch = h.call(12, &fetch_request("t", 0, 0, 10_000)).ticket();
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO }],
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(h.ask(6, &delete).responses[0].error_code, 0);
    let answer = h.answer::<FetchRequest>(fetch).unwrap();
    assert_eq!(
        answer.responses[0].partitions[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
}

#[test]
fn a_lost_connection_takes_its_fetches_along() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let ticket = h.call_on(5, 12, &fetch_request("t", 0, 0, 10_000)).ticket();
    assert_eq!(h.broker.disconnect(weir_broker::ConnId(5)), [ticket]);
    h.produce("t", 0, batch(&["a"]));
    assert!(h.answer::<FetchRequest>(ticket).is_none());
}

#[test]
fn a_repeated_batch_gets_its_first_offset_and_is_not_written_again() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let id = h
        .ask(4, &InitProducerIdRequest { transactional_id: None, ..Default::default() })
        .producer_id;
    assert_eq!(h.produce("t", 0, idempotent(id, 0, 0, &["a", "b"])).base_offset, 0);
    assert_eq!(h.produce("t", 0, idempotent(id, 0, 2, &["c"])).base_offset, 2);
    let again = h.produce("t", 0, idempotent(id, 0, 0, &["a", "b"]));
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = h.produce("t", 0, idempotent(id, 0, 9, &["z"]));
    assert_eq!((gap.error_code, gap.base_offset), (ErrorCode::OutOfOrderSequenceNumber.code(), -1));
    assert_eq!(h.read("t", 0, 0), ["a", "b", "c"]);
}

#[test]
fn a_repeat_during_the_commit_of_the_original_waits_for_it() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.commit_all();
    let one = h.call(9, &produce_request("t", 0, -1, idempotent(1, 0, 0, &["a"]))).ticket();
    let pending = h.broker.begin_commit().unwrap();
    let two = h.call(9, &produce_request("t", 0, -1, idempotent(1, 0, 0, &["a"]))).ticket();
    let woken = h.broker.finish_commit(pending.run(), h.now);
    let tickets: Vec<_> = woken.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [one, two]);
}

#[test]
fn bad_batches_are_refused_by_name() {
    let mut h = Harness::new();
    h.create("t", 1, &[("max.message.bytes", "200")]);
    h.create("compacted", 1, &[("cleanup.policy", "compact")]);
    h.create("two", 1, &[("min.insync.replicas", "2")]);
    let check = |h: &mut Harness, topic: &str, batch: Bytes, error: ErrorCode| {
        let answer = h.produce(topic, 0, batch);
        assert_eq!(answer.error_code, error.code(), "{:?}", answer.error_message);
        assert!(error.is_none() || answer.error_message.is_some());
    };
    check(&mut h, "t", Bytes::new(), ErrorCode::InvalidRecord);
    // As Kafka: what is cut is no batch, what no version has written is damage.
    let whole = batch(&["x"]);
    check(&mut h, "t", whole.slice(..whole.len() - 1), ErrorCode::InvalidRecord);
    check(&mut h, "t", whole.slice(..20), ErrorCode::InvalidRecord);
    for (magic, error) in [(1, ErrorCode::InvalidRecord), (3, ErrorCode::CorruptMessage)] {
        let mut other = BytesMut::from(&whole[..]);
        other[16] = magic;
        check(&mut h, "t", other.freeze(), error);
    }
    check(&mut h, "t", batch(&["x"; 100]), ErrorCode::MessageTooLarge);
    let mut flipped = BytesMut::from(&batch(&["x"])[..]);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    check(&mut h, "t", flipped.freeze(), ErrorCode::CorruptMessage);
    let mut twice = BytesMut::new();
    twice.put_slice(&batch(&["x"]));
    twice.put_slice(&batch(&["y"]));
    check(&mut h, "t", twice.freeze(), ErrorCode::InvalidRecord);
    check(&mut h, "t", batch_at(START_MS + 7_200_000, &["x"]), ErrorCode::InvalidTimestamp);
    check(&mut h, "t", batch_at(0, &["1970 is valid"]), ErrorCode::None);
    let keyless = h.produce("compacted", 0, idempotent(-1, -1, -1, &["no key"]));
    assert_eq!(keyless.error_code, ErrorCode::InvalidRecord.code());
    assert_eq!(keyless.record_errors[0].batch_index, 0);
    // As Kafka 4.1: no more replicas are wanted than the partition has.
    check(&mut h, "two", batch(&["x"]).clone(), ErrorCode::None);
    let acks = first(h.call(9, &produce_request("t", 0, 2, batch(&["x"]))).answer());
    assert_eq!(acks.error_code, ErrorCode::InvalidRequiredAcks.code());
    assert_eq!(
        h.produce("t", 5, batch(&["x"])).error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    h.ask(3, &FindCoordinatorRequest { key: "g".into(), ..Default::default() });
    check(&mut h, "__consumer_offsets", batch(&["x"]), ErrorCode::InvalidTopicException);
}

#[test]
fn log_append_time_is_written_and_answered() {
    let mut h = Harness::new();
    h.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    h.pass_ms(5_000);
    let answer = h.produce("t", 0, batch_at(0, &["a"]));
    assert_eq!(answer.log_append_time_ms, START_MS + 5_000);
    assert_eq!(h.read("t", 0, 0), ["a"]);
}

#[test]
fn metadata_makes_legal_topics_and_only_when_it_may() {
    let mut h = Harness::new();
    assert_eq!(
        metadata_of(&mut h, "t", false).topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    let made = metadata_of(&mut h, "t", true);
    assert_eq!((made.topics[0].error_code, made.topics[0].partitions.len()), (0, 4));
    assert_eq!(
        (made.brokers[0].node_id, &*made.brokers[0].host, made.brokers[0].port),
        (0, "localhost", 9092)
    );
    assert_eq!(made.topics[0].topic_authorized_operations, i32::MIN);
    assert_eq!(
        metadata_of(&mut h, "a/b", true).topics[0].error_code,
        ErrorCode::InvalidTopicException.code()
    );
    let all = h.ask(12, &MetadataRequest { topics: None, ..Default::default() });
    assert_eq!(all.topics.len(), 1);
    let none = h.ask(12, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() });
    assert!(none.topics.is_empty());
    let all = h.ask(0, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() });
    assert_eq!(all.topics.len(), 1, "in version 0 empty means all");
    let by_id = MetadataRequestTopic { topic_id: made.topics[0].topic_id, name: None };
    let answer = h.ask(12, &MetadataRequest { topics: Some(vec![by_id]), ..Default::default() });
    assert_eq!(answer.topics[0].name, Some("t".into()));
}

#[test]
fn every_advertised_version_of_what_needs_no_group_answers() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let cluster_id = h.broker.cluster_id().clone();
    for version in 0..=13 {
        let answer = h.ask(
            version,
            &MetadataRequest {
                topics: Some(vec![MetadataRequestTopic {
                    name: Some("t".into()),
                    topic_id: Uuid::ZERO,
                }]),
                ..Default::default()
            },
        );
        assert_eq!(answer.topics[0].error_code, 0, "Metadata v{version}");
    }
    for version in 3..=12 {
        let answer = h.ask(version, &produce_request("t", 0, -1, batch(&["x"])));
        assert_eq!(first(answer).error_code, 0, "Produce v{version}");
    }
    for version in 4..=12 {
        let answer = h.ask(version, &fetch_request("t", 0, 0, 0));
        assert_eq!(answer.responses[0].partitions[0].error_code, 0, "Fetch v{version}");
    }
    for version in 0..=6 {
        let request = FindCoordinatorRequest {
            key: "g".into(),
            coordinator_keys: vec!["g".into()],
            ..Default::default()
        };
        let answer = h.ask(version, &request);
        let node = if version >= 4 { answer.coordinators[0].node_id } else { answer.node_id };
        assert_eq!(node, 0, "FindCoordinator v{version}");
    }
    for version in 0..=2 {
        let answer = h.ask(version, &DescribeClusterRequest::default());
        assert_eq!(answer.cluster_id, cluster_id, "DescribeCluster v{version}");
    }
    for version in 2..=7 {
        let answer = h.ask(version, &create_request(&format!("c{version}"), 1, &[]));
        assert_eq!(answer.topics[0].error_code, 0, "CreateTopics v{version}");
    }
}

#[test]
fn topic_ids_stand_for_names() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let id = metadata_of(&mut h, "t", false).topics[0].topic_id;
    let mut request = produce_request("", 0, -1, batch(&["a"]));
    request.topic_data[0].topic_id = id;
    let answer = h.ask(13, &request);
    assert_eq!(answer.responses[0].topic_id, id);
    assert_eq!(first(answer).error_code, 0);
    let mut fetch = fetch_request("", 0, 0, 0);
    fetch.topics[0].topic_id = id;
    for version in 13..=18 {
        assert_eq!(fetched(&h.ask(version, &fetch)), ["a"]);
    }
    for unknown in [Uuid([1; 16]), Uuid::ZERO] {
        request.topic_data[0].topic_id = unknown;
        assert_eq!(first(h.ask(13, &request)).error_code, ErrorCode::UnknownTopicId.code());
    }
}

/// The delta of a time is a varlong, not a varint: the records of a batch may lie further apart than 2^31 ms.
#[test]
fn records_of_a_batch_may_lie_half_a_year_apart() {
    let mut h = Harness::new();
    h.create("compacted", 1, &[("cleanup.policy", "compact")]);
    let times = [START_MS - (1 << 34), START_MS - (1 << 32) - 1, START_MS];
    let mut builder = BatchBuilder::new(Codec::None);
    for time in times {
        builder.append(TimestampMs(time), Some(b"k"), Some(b"v"), &[]);
    }
    assert_eq!(h.produce("compacted", 0, builder.build()).error_code, 0);
    let answer = h.ask(12, &fetch_request("compacted", 0, 0, 0));
    let records = answer.responses[0].partitions[0].records.clone().unwrap();
    let views = batches(&records).map(Result::unwrap);
    let read = views.flat_map(|view| view.records(1 << 20).unwrap().collect::<Vec<_>>());
    let read: Vec<i64> = read.map(|record| record.unwrap().timestamp.get()).collect();
    assert_eq!(read, times);
}

/// KIP-511: Kafka's broker takes letters, digits, dots and dashes, between letters and digits.
#[test]
fn software_without_a_proper_name_is_refused_and_may_ask_again() {
    let mut h = Harness::new();
    let asked = |name: &str, version: &str| ApiVersionsRequest {
        client_software_name: Str::copy_from(name),
        client_software_version: Str::copy_from(version),
    };
    for version in [3, 4] {
        for (name, number) in
            [("", "1"), ("a", ""), ("a b", "1"), ("-a", "1"), ("a", "1."), ("\u{e9}", "1")]
        {
            let answer = h.ask(version, &asked(name, number));
            assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code(), "{name} {number}");
            assert!(answer.api_keys.is_empty());
        }
        for (name, number) in [("apache-kafka-java", "4.1.0"), ("librdkafka", "2.12.1"), ("a", "1")]
        {
            let answer = h.ask(version, &asked(name, number));
            assert_eq!((answer.error_code, answer.api_keys.is_empty()), (0, false), "{name}");
        }
    }
    // Before, nobody says it.
    assert_eq!(h.ask(2, &asked("", "")).error_code, 0);
    let kraft = |name: &Str| *name == *"kraft.version";
    let answer = h.ask(4, &asked("a", "1"));
    assert!(answer.supported_features.iter().any(|one| kraft(&one.name)));
    assert!(!answer.finalized_features.iter().any(|one| kraft(&one.name)), "its level is 0");
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_as_version_0() {
    let mut h = Harness::new();
    let mut frame = BytesMut::new();
    frame.put_i16(18);
    frame.put_i16(55);
    frame.put_i32(7);
    frame.put_i16(-1);
    frame.put_slice(b"whatever a later version has");
    let mut decoded = weir_broker::request::decode(frame, 1 << 20).unwrap();
    let connection = weir_broker::Connection {
        id: weir_broker::ConnId(1),
        client_host: "/".into(),
        advertised: ("localhost".into(), 1),
        principal: "User:ANONYMOUS".into(),
    };
    let effects = h.broker.handle(&connection, &decoded.header, &mut decoded.request, h.now);
    let weir_broker::Reply::Now(response) = effects.reply else { panic!("no answer") };
    let bytes = response.encode(weir_protocol::ApiKey::ApiVersions, 55, 7).unwrap().concat();
    let (_, answer): (i32, ApiVersionsResponse) = weir_protocol::frame::decode_response::<
        ApiVersionsRequest,
    >(Bytes::from(bytes).slice(4..), 0)
    .unwrap();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!((answer.api_keys[0].api_key, answer.api_keys[0].max_version), (18, 4));
}

#[test]
fn requests_that_are_not_served_are_errors() {
    let frame = |key: i16, version: i16| {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_i16(-1);
        frame.put_slice(&[0; 64]);
        weir_broker::request::decode(frame, 1 << 20)
    };
    assert!(frame(0, 2).is_err(), "Produce v2 is advertised, but refused");
    assert!(frame(3, 99).is_err());
    assert!(frame(68, 0).is_err(), "ConsumerGroupHeartbeat is not served");
    assert!(frame(999, 0).is_err());
    assert!(weir_broker::request::decode(BytesMut::from(&b"GET / HTTP/1.1"[..]), 1 << 20).is_err());
}

#[test]
fn topics_are_refused_by_name_and_number() {
    let mut h = Harness::new();
    h.create("a.b", 1, &[]);
    let check = |h: &mut Harness, request: CreateTopicsRequest, error: ErrorCode| {
        let topic = h.ask(7, &request).topics.remove(0);
        assert_eq!(topic.error_code, error.code(), "{:?}", topic.error_message);
        assert!(!topic.error_message.unwrap().is_empty());
    };
    check(&mut h, create_request("a.b", 1, &[]), ErrorCode::TopicAlreadyExists);
    check(&mut h, create_request("a_b", 1, &[]), ErrorCode::InvalidTopicException);
    check(&mut h, create_request("x/y", 1, &[]), ErrorCode::InvalidTopicException);
    check(&mut h, create_request("x", 0, &[]), ErrorCode::InvalidPartitions);
    check(&mut h, create_request("x", 1, &[("no.such", "1")]), ErrorCode::InvalidConfig);
    check(&mut h, create_request("x", 1, &[("retention.ms", "soon")]), ErrorCode::InvalidConfig);
    check(&mut h, create_request("x", 1_000_000, &[]), ErrorCode::PolicyViolation);
    let mut replicated = create_request("x", 1, &[]);
    replicated.topics[0].replication_factor = 2;
    check(&mut h, replicated, ErrorCode::InvalidReplicationFactor);
    let mut both = create_request("x", 1, &[]);
    both.topics[0].assignments =
        vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![0] }];
    check(&mut h, both, ErrorCode::InvalidRequest);
    let mut twice = create_request("x", 1, &[]);
    twice.topics.push(twice.topics[0].clone());
    check(&mut h, twice, ErrorCode::InvalidRequest);
}

#[test]
fn a_topic_is_only_validated_when_asked_so() {
    let mut h = Harness::new();
    let mut request = create_request("t", -1, &[("retention.ms", "1000")]);
    request.validate_only = true;
    let topic = h.ask(7, &request).topics.remove(0);
    assert_eq!((topic.error_code, topic.num_partitions, topic.topic_id), (0, 4, Uuid::ZERO));
    let configs =
        topic.configs.expect("never null without an error, or Java's client falls over it");
    let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
    assert_eq!(
        metadata_of(&mut h, "t", false).topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
}

#[test]
fn a_topic_made_again_is_a_new_one() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["old"]));
    let old = metadata_of(&mut h, "t", false).topics[0].topic_id;
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: None, topic_id: old }],
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(h.ask(6, &delete).responses[0].name, Some("t".into()));
    h.create("t", 1, &[]);
    assert_ne!(metadata_of(&mut h, "t", false).topics[0].topic_id, old);
    assert!(h.read("t", 0, 0).is_empty());
    assert_eq!(h.produce("t", 0, batch(&["new"])).base_offset, 0);
    let gone = h.ask(6, &delete).responses.remove(0);
    assert_eq!(gone.error_code, ErrorCode::UnknownTopicId.code());
    let mut h = h.after_power_cut(3);
    assert_eq!(h.read("t", 0, 0), ["new"]);
}

fn list(h: &mut Harness, timestamp: i64) -> (i16, i64, i64, i32) {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition { timestamp, ..Default::default() }],
        }],
        ..ListOffsetsRequest::default()
    };
    let found = h.ask(10, &request).topics.remove(0).partitions.remove(0);
    (found.error_code, found.offset, found.timestamp, found.leader_epoch)
}

#[test]
fn offsets_are_listed_by_time_and_by_name() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    assert_eq!(list(&mut h, START_MS).1, -1);
    let mut builder =
        weir_protocol::batch::BatchBuilder::new(weir_protocol::compression::Codec::None);
    for ms in [10, 30, 20] {
        builder.append(weir_protocol::TimestampMs(START_MS + ms), None, Some(b"x"), &[]);
    }
    h.produce("t", 0, builder.build());
    h.produce("t", 0, batch_at(START_MS + 25, &["y"]));
    let epoch = list(&mut h, -1).3;
    assert!(epoch >= 0);
    assert_eq!(list(&mut h, -1), (0, 4, -1, epoch));
    assert_eq!(list(&mut h, -2), (0, 0, -1, epoch));
    assert_eq!(list(&mut h, -3), (0, 1, START_MS + 30, epoch));
    assert_eq!(list(&mut h, -4).1, 0);
    assert_eq!(list(&mut h, -5).1, -1);
    assert_eq!(list(&mut h, START_MS), (0, 0, START_MS + 10, epoch));
    assert_eq!(
        list(&mut h, START_MS + 11),
        (0, 1, START_MS + 30, epoch),
        "the first record at or after"
    );
    assert_eq!(list(&mut h, START_MS + 31).1, -1);
    // What is not synced is not listed.
    let _ = h.call(9, &produce_request("t", 0, -1, batch_at(START_MS + 90, &["z"]))).ticket();
    assert_eq!((list(&mut h, -1).1, list(&mut h, START_MS + 80).1), (4, -1));
}

#[test]
fn configs_are_described_with_their_sources() {
    let mut h = Harness::new();
    h.create("t", 1, &[("retention.ms", "1000")]);
    let ask = |h: &mut Harness, kind: i8, name: &str, synonyms: bool| {
        let resource = DescribeConfigsResource {
            resource_type: kind,
            resource_name: Str::copy_from(name),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: synonyms,
            ..Default::default()
        };
        h.ask(4, &request).results.remove(0)
    };
    let topic = ask(&mut h, 2, "t", true);
    let find = |name: &str| topic.configs.iter().find(|config| config.name == name).unwrap();
    let retention = find("retention.ms");
    assert_eq!(
        (retention.value.as_deref(), retention.config_source, retention.config_type),
        (Some("1000"), 1, 5)
    );
    assert_eq!(retention.synonyms.len(), 1, "log.retention.ms has no default");
    let bytes = find("retention.bytes");
    assert_eq!(
        (bytes.value.as_deref(), bytes.config_source, bytes.config_type),
        (Some("-1"), 5, 5)
    );
    assert!(ask(&mut h, 2, "t", false).configs.iter().all(|config| config.synonyms.is_empty()));
    let broker = ask(&mut h, 4, "0", false);
    let listeners =
        broker.configs.iter().find(|config| config.name == "advertised.listeners").unwrap();
    assert_eq!(listeners.value.as_deref(), Some("PLAINTEXT://localhost:9092"));
    assert_eq!((listeners.config_source, listeners.read_only), (4, true));
    assert_eq!(ask(&mut h, 2, "nope", false).error_code, ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(ask(&mut h, 4, "7", false).error_code, ErrorCode::InvalidRequest.code());
}

/// A broker of the last test's disk with `log.*` keys.
fn with_log_keys(disk: Arc<MemDisk>, keys: &[(&str, &str)]) -> Harness {
    let mut config = config();
    for (key, value) in keys {
        assert!(config.set_log_key(key, value).unwrap(), "{key}");
    }
    Harness::on(disk, config)
}

#[test]
fn a_topic_without_the_key_has_the_brokers_default_and_says_where_it_is_from() {
    let keys = [
        ("log.cleanup.policy", "compact,delete"),
        ("log.retention.hours", "2"),
        ("log.segment.bytes", "2097152"),
        ("log.cleaner.min.dirty.ratio", "0.2"),
        ("log.cleaner.backoff.ms", "5000"),
        ("log.message.timestamp.type", "LogAppendTime"),
    ];
    let mut h = with_log_keys(Arc::new(MemDisk::new()), &keys);
    h.create("own", 1, &[("retention.ms", "1000"), ("cleanup.policy", "delete")]);
    h.create("t", 1, &[]);
    let describe = |h: &mut Harness, kind: i8, name: &str, key: &str| {
        let resource = DescribeConfigsResource {
            resource_type: kind,
            resource_name: Str::copy_from(name),
            configuration_keys: Some(vec![Str::copy_from(key)]),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: true,
            ..Default::default()
        };
        let config = h.ask(4, &request).results.remove(0).configs.remove(0);
        let synonyms: Vec<_> = config.synonyms.iter().map(|one| one.source).collect();
        (config.value.unwrap().to_string(), config.config_source, synonyms)
    };
    let said =
        |value: &str, source: i8, synonyms: &[i8]| (value.to_owned(), source, synonyms.to_owned());
    let (topic, broker) = (2, 4);
    for (name, key, expected) in [
        ("own", "retention.ms", said("1000", 1, &[1, 4, 5])),
        ("t", "retention.ms", said("7200000", 4, &[4, 5])),
        ("t", "cleanup.policy", said("compact,delete", 4, &[4, 5])),
        ("t", "segment.bytes", said("2097152", 4, &[4, 5])),
        ("t", "min.cleanable.dirty.ratio", said("0.2", 4, &[4, 5])),
        ("t", "segment.ms", said("604800000", 5, &[])),
    ] {
        assert_eq!(describe(&mut h, topic, name, key), expected, "{name} {key}");
    }
    for (key, expected) in [
        ("log.retention.hours", said("2", 4, &[4, 5])),
        ("log.cleaner.min.cleanable.ratio", said("0.2", 4, &[4, 5])),
        ("log.cleaner.backoff.ms", said("5000", 4, &[4, 5])),
        ("log.roll.hours", said("168", 5, &[5])),
    ] {
        assert_eq!(describe(&mut h, broker, "0", key), expected, "{key}");
    }
    // What a produce obeys is the default too: a record without a key is refused by a compacted topic.
    let keyless = idempotent(-1, -1, -1, &["x"]);
    let refused = h.ask(9, &produce_request("t", 0, 1, keyless));
    assert_eq!(first(refused).error_code, ErrorCode::InvalidRecord.code());
    let own = h.produce("own", 0, batch(&["x"]));
    assert_eq!((own.error_code, own.log_append_time_ms), (0, START_MS));
}

#[test]
fn a_default_holds_for_the_topics_of_an_earlier_start_and_goes_with_its_line() {
    let disk = Arc::new(MemDisk::new());
    let mut h = Harness::on(Arc::clone(&disk), config());
    h.create("t", 1, &[]);
    h.produce("t", 0, batch_at(START_MS, &["old"]));
    h.commit_all();
    h.broker.close().unwrap();
    let mut h =
        with_log_keys(Arc::clone(&disk), &[("log.retention.ms", "1000"), ("log.roll.ms", "500")]);
    h.pass_ms(600);
    h.produce("t", 0, batch_at(START_MS + 600, &["new"]));
    h.commit_all();
    h.pass_ms(300_000);
    assert_eq!(h.broker.stats().topics[0].start_offsets, [2], "both are older than a second");
    h.broker.close().unwrap();
    let mut h = Harness::on(disk, config());
    h.produce("t", 0, batch_at(START_MS, &["kept"]));
    h.commit_all();
    h.pass_ms(600_000);
    assert_eq!(h.broker.stats().topics[0].start_offsets, [2], "it is not a week old");
}

#[test]
fn topics_ids_configs_and_cluster_survive_a_restart() {
    let mut h = Harness::new();
    h.create("t", 3, &[("retention.ms", "-1"), ("max.message.bytes", "300")]);
    h.produce("t", 2, batch(&["a"]));
    let before = (metadata_of(&mut h, "t", false), h.broker.cluster_id().clone());
    let mut h = h.reopened();
    assert!(h.broker.stats().clean_start);
    let mut after = (metadata_of(&mut h, "t", false), h.broker.cluster_id().clone());
    for topic in after.0.topics.iter_mut().chain(before.0.topics.clone().iter_mut()) {
        topic.partitions.iter_mut().for_each(|partition| partition.leader_epoch = 0);
    }
    assert_eq!(
        (after.0.topics[0].topic_id, after.0.topics[0].partitions.len()),
        (before.0.topics[0].topic_id, 3)
    );
    assert_eq!(after.1, before.1);
    assert_eq!(h.read("t", 2, 0), ["a"]);
    assert_eq!(h.produce("t", 0, batch(&["x"; 100])).error_code, ErrorCode::MessageTooLarge.code());
}

#[test]
fn a_power_cut_keeps_what_was_acked() {
    for seed in 0..20 {
        let mut h = Harness::new();
        h.create("t", 2, &[]);
        let id = h
            .ask(4, &InitProducerIdRequest { transactional_id: None, ..Default::default() })
            .producer_id;
        assert_eq!(h.produce("t", 0, idempotent(id, 0, 0, &["a"])).error_code, 0);
        assert_eq!(h.produce("t", 1, batch(&["b"])).error_code, 0);
        let _ = h.call(9, &produce_request("t", 0, -1, idempotent(id, 0, 1, &["not acked"])));
        let mut h = h.after_power_cut(seed);
        assert_eq!(h.read("t", 0, 0)[0], "a", "seed {seed}");
        assert_eq!(h.read("t", 1, 0), ["b"], "seed {seed}");
        // The repeat of an acked batch is still known as one.
        assert_eq!(h.produce("t", 0, idempotent(id, 0, 0, &["a"])).base_offset, 0, "seed {seed}");
        let next = h
            .ask(4, &InitProducerIdRequest { transactional_id: None, ..Default::default() })
            .producer_id;
        assert!(next > id, "seed {seed}");
    }
}

#[test]
fn a_failed_sync_fails_what_waits_and_all_that_comes() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["a"]));
    let ticket = h.call(9, &produce_request("t", 0, -1, batch(&["b"]))).ticket();
    h.disk.inject(Fault { after: 0, kind: FaultKind::SyncError });
    h.commit();
    let answer = first(h.answer::<ProduceRequest>(ticket).unwrap());
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::KafkaStorageError.code(), -1));
    h.disk.clear_fault();
    assert_eq!(h.produce("t", 0, batch(&["c"])).error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!(h.read("t", 0, 0), ["a"], "readers go on with what is safe");
    assert!(h.broker.stats().failure.is_some());
    let mut h = h.after_power_cut(1);
    assert_eq!(h.read("t", 0, 0)[0], "a");
    assert_eq!(h.produce("t", 0, batch(&["d"])).error_code, 0);
}

#[test]
fn producer_ids_go_on_after_a_restart() {
    let mut h = Harness::new();
    let ask = |h: &mut Harness, id: i64, epoch: i16| {
        let request = InitProducerIdRequest {
            transactional_id: None,
            producer_id: id,
            producer_epoch: epoch,
            ..Default::default()
        };
        let answer = h.ask(4, &request);
        (answer.producer_id, answer.producer_epoch)
    };
    assert_eq!(ask(&mut h, -1, -1), (0, 0));
    assert_eq!(ask(&mut h, -1, -1), (1, 0));
    assert_eq!(
        ask(&mut h, 1, 0),
        (2, 0),
        "whoever it says it was, it gets one of its own, as from Kafka"
    );
    let mut h = h.reopened();
    assert_eq!(ask(&mut h, -1, -1), (1_000, 0));
    let request =
        InitProducerIdRequest { transactional_id: Some("tx".into()), ..Default::default() };
    assert_ne!(h.ask(4, &request).error_code, 0);
}

#[test]
fn a_directory_in_use_is_refused() {
    let h = Harness::new();
    let second = weir_broker::Broker::open(config(), h.disk.clone() as Arc<dyn Disk>, 2, h.now);
    assert!(matches!(second, Err(BrokerError::Log(weir_log::LogError::Locked { .. }))));
}

#[test]
fn a_damaged_catalog_stops_the_start() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let disk = h.disk.clone();
    h.broker.close().unwrap();
    disk.damage(&config().data_dir.join("weir-topics"), |bytes| bytes[2] = b'?').unwrap();
    let opened = weir_broker::Broker::open(config(), disk as Arc<dyn Disk>, 2, h.now);
    let error = opened.expect_err("a topic less is a topic lost");
    assert_eq!(error.code(), "WEIR-0304");
}

#[test]
fn a_directory_without_catalog_keeps_its_topics() {
    let mut h = Harness::new();
    h.create("t", 2, &[]);
    h.produce("t", 1, batch(&["a"]));
    let id = metadata_of(&mut h, "t", false).topics[0].topic_id;
    let disk = h.disk.clone();
    h.broker.close().unwrap();
    disk.remove(&config().data_dir.join("weir-topics")).unwrap();
    let mut h = Harness::on(disk, config());
    let topic = metadata_of(&mut h, "t", false).topics.remove(0);
    assert_eq!((topic.topic_id, topic.partitions.len()), (id, 2));
    assert_eq!(h.read("t", 1, 0), ["a"]);
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let open = |config: BrokerConfig| {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
        weir_broker::Broker::open(config, disk, 1, weir_protocol::TimestampMs(0))
            .map(|_| ())
            .map_err(|e| e.code())
    };
    assert_eq!(open(BrokerConfig { num_partitions: 0, ..config() }), Err("WEIR-0305"));
    assert_eq!(open(BrokerConfig { request_bytes_total_max: 1, ..config() }), Err("WEIR-0305"));
}

#[test]
fn topics_grow_and_change_while_they_are_used() {
    use weir_protocol::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
    use weir_protocol::api::incremental_alter_configs::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    };
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let grow = |h: &mut Harness, count: i32| {
        let topic = CreatePartitionsTopic { name: "t".into(), count, assignments: None };
        h.ask(3, &CreatePartitionsRequest { topics: vec![topic], ..Default::default() }).results[0]
            .error_code
    };
    assert_eq!(grow(&mut h, 1), ErrorCode::InvalidPartitions.code());
    assert_eq!(grow(&mut h, 3), 0);
    assert_eq!(h.produce("t", 2, batch(&["a"])).error_code, 0);
    let alter = |h: &mut Harness, name: &str, operation: i8, value: &str| {
        let change = AlterableConfig {
            name: Str::copy_from(name),
            config_operation: operation,
            value: Some(Str::copy_from(value)),
        };
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![change],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        h.ask(1, &request).responses[0].error_code
    };
    assert_eq!(alter(&mut h, "max.message.bytes", 0, "80"), 0);
    assert_eq!(alter(&mut h, "cleanup.policy", 2, "compact"), 0);
    assert_eq!(alter(&mut h, "retention.ms", 2, "5"), ErrorCode::InvalidConfig.code());
    assert_eq!(
        h.produce("t", 0, batch(&["more than 80 bytes"])).error_code,
        ErrorCode::MessageTooLarge.code()
    );
    let mut h = h.after_power_cut(1);
    assert_eq!(
        h.produce("t", 0, batch(&["more than 80 bytes"])).error_code,
        ErrorCode::MessageTooLarge.code()
    );
    assert_eq!(h.read("t", 2, 0), ["a"]);
    assert_eq!(alter(&mut h, "max.message.bytes", 1, ""), 0);
    assert_eq!(h.produce("t", 0, batch(&["more than 80 bytes"])).error_code, 0);
}

#[test]
fn deleted_records_are_gone_after_a_power_cut_too() {
    use weir_protocol::api::delete_records::{
        DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
    };
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    for value in ["a", "b", "c"] {
        h.produce("t", 0, batch(&[value]));
    }
    let delete = |h: &mut Harness, offset: i64| {
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
        let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
        let result = h
            .ask(2, &DeleteRecordsRequest { topics, ..Default::default() })
            .topics
            .remove(0)
            .partitions
            .remove(0);
        (result.error_code, result.low_watermark)
    };
    assert_eq!(delete(&mut h, 9), (ErrorCode::OffsetOutOfRange.code(), -1));
    assert_eq!(delete(&mut h, 2), (0, 2));
    assert_eq!(list(&mut h, -2).1, 2);
    let mut h = h.after_power_cut(2);
    assert_eq!(list(&mut h, -2).1, 2);
    assert_eq!(h.read("t", 0, 2), ["c"]);
}

#[test]
fn a_failed_sync_deletes_no_records() {
    use weir_protocol::api::delete_records::{
        DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
    };
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["a"]));
    h.produce("t", 0, batch(&["b"]));
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
    let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
    let request = DeleteRecordsRequest { topics, ..Default::default() };
    let ticket = h.call(2, &request).ticket();
    h.disk.inject(Fault { after: 0, kind: FaultKind::SyncError });
    h.commit_all();
    let answer = h.answer::<DeleteRecordsRequest>(ticket).unwrap();
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(
        (partition.error_code, partition.low_watermark),
        (ErrorCode::KafkaStorageError.code(), -1)
    );
}

#[test]
fn min_bytes_over_max_bytes_is_not_waited_for() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["a"]));
    let request = weir_protocol::api::fetch::FetchRequest {
        min_bytes: 1 << 20,
        max_bytes: 10,
        ..fetch_request("t", 0, 0, 1_000)
    };
    assert_eq!(fetched(&h.call(12, &request).answer()), ["a"]);
}

#[test]
fn a_name_said_often_is_answered_once() {
    use weir_protocol::api::metadata::MetadataRequestTopic;
    let mut h = Harness::new();
    h.create("t", 3, &[]);
    let topic = MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic; 1_000]), ..Default::default() };
    let answer = h.ask(12, &request);
    assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 3));
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configuration_keys: Some(vec!["retention.ms".into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource; 1_000], ..Default::default() };
    let answer = h.ask(4, &request);
    assert_eq!((answer.results.len(), answer.results[0].configs.len()), (1, 1));
}

#[test]
fn requests_that_name_too_much_are_refused() {
    use weir_protocol::api::metadata::MetadataRequestTopic;
    let config = BrokerConfig { request_names_max: 2, request_partitions_max: 2, ..config() };
    let mut h = Harness::on(Arc::new(MemDisk::new()), config);
    h.create("t", 4, &[]);
    let refused = ErrorCode::InvalidRequest.code();
    let named = |name: &str| MetadataRequestTopic {
        name: Some(Str::copy_from(name)),
        ..Default::default()
    };
    let topics = Some(["t", "u", "v"].map(named).to_vec());
    let answer = h.ask(12, &MetadataRequest { topics, ..Default::default() });
    assert_eq!(
        answer.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(),
        [refused; 2]
    );
    assert_eq!(h.broker.stats().topics.len(), 1, "none is made");
    let partitions = (0..3)
        .map(|partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: -1,
            ..Default::default()
        })
        .collect();
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions }];
    let answer = h.ask(10, &ListOffsetsRequest { topics, ..ListOffsetsRequest::default() });
    assert!(answer.topics[0].partitions.iter().all(|one| one.error_code == refused));
    let mut request = produce_request("t", 0, -1, batch(&["a"]));
    let more = request.topic_data[0].partition_data[0].clone();
    request.topic_data[0].partition_data.extend([more.clone(), more]);
    let answer = h.ask(9, &request);
    assert!(answer.responses[0].partition_responses.iter().all(|one| one.error_code == refused));
    assert_eq!(list(&mut h, -1).1, 0);
}

#[test]
fn a_partition_listed_twice_is_refused_once() {
    let mut h = Harness::new();
    h.create("t", 2, &[]);
    let partitions = [0, 1, 0]
        .map(|partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: -1,
            ..Default::default()
        })
        .to_vec();
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions }];
    let answer = h.ask(10, &ListOffsetsRequest { topics, ..ListOffsetsRequest::default() });
    let codes: Vec<i16> = answer.topics[0].partitions.iter().map(|one| one.error_code).collect();
    let refused = ErrorCode::InvalidRequest.code();
    assert_eq!(codes, [refused, 0]);
}

#[test]
fn no_deleted_record_is_found_by_its_time() {
    use weir_protocol::api::delete_records::{
        DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
    };
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let mut builder =
        weir_protocol::batch::BatchBuilder::new(weir_protocol::compression::Codec::None);
    for ms in [90, 10, 20] {
        builder.append(weir_protocol::TimestampMs(START_MS + ms), None, Some(b"x"), &[]);
    }
    h.produce("t", 0, builder.build());
    h.produce("t", 0, batch_at(START_MS + 5, &["older"]));
    h.produce("t", 0, batch_at(START_MS + 95, &["y"]));
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
    let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
    h.ask(2, &DeleteRecordsRequest { topics, ..Default::default() });
    assert_eq!(list(&mut h, START_MS + 1).1, 1, "not 0, which is gone");
    // The batch of the first three still says 90, of a record that is gone.
    assert_eq!(list(&mut h, START_MS + 30).1, 4);
    assert_eq!(list(&mut h, START_MS + 96).1, -1);
}

/// A disk with a log `t-0` that its catalog does not name.
fn disk_with_a_stray() -> Arc<MemDisk> {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["somebody's"]));
    let disk = h.disk.clone();
    let catalog = config().data_dir.join("weir-topics");
    h.broker.close().unwrap();
    disk.damage(&catalog, |bytes| bytes.fill(b' ')).unwrap();
    disk.remove(&catalog).unwrap();
    let file = disk.open(&catalog, weir_log::disk::OpenMode::Truncate).unwrap();
    file.write_at(b"0\n", 0).unwrap();
    disk
}

#[test]
fn a_log_of_no_topic_does_not_obey_the_defaults_of_topics() {
    let disk = disk_with_a_stray();
    let segment = config().data_dir.join("t-0/00000000000000000000.log");
    let before = disk.files()[&segment].clone();
    let mut h = with_log_keys(disk, &[("log.retention.ms", "1000")]);
    h.pass_ms(600_000);
    h.commit_all();
    assert_eq!(h.disk.files().get(&segment), Some(&before));
}

#[test]
fn a_log_of_no_topic_is_left_alone() {
    let disk = disk_with_a_stray();
    let mut h = Harness::on(disk, config());
    let answer = h.ask(7, &create_request("t", 1, &[]));
    assert_eq!(answer.topics[0].error_code, ErrorCode::InvalidTopicException.code());
    assert_ne!(metadata_of(&mut h, "t", true).topics[0].error_code, 0);
    assert!(h.disk.files().keys().any(|path| path.starts_with(config().data_dir.join("t-0"))));
    h.create("u", 1, &[]);
}

#[test]
fn topics_of_one_request_come_or_fail_together() {
    let mut h = Harness::new();
    let mut request = create_request("a", 1, &[]);
    request.topics.extend(create_request("b", 2, &[]).topics);
    request.topics.extend(create_request("not legal", 2, &[]).topics);
    request.topics.extend(create_request("b.c", 2, &[]).topics);
    request.topics.extend(create_request("b_c", 2, &[]).topics);
    let codes = |h: &mut Harness, request: &CreateTopicsRequest| {
        h.ask(7, request).topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
    };
    let invalid = ErrorCode::InvalidTopicException.code();
    assert_eq!(codes(&mut h, &request), [0, 0, invalid, 0, invalid]);
    let mut h = h.after_power_cut(3);
    assert_eq!(h.broker.stats().topics.len(), 3);
    h.disk.inject(Fault { after: 0, kind: FaultKind::Full });
    let mut more = create_request("x", 1, &[]);
    more.topics.extend(create_request("y", 1, &[]).topics);
    let offline = ErrorCode::KafkaStorageError.code();
    assert_eq!(codes(&mut h, &more), [offline; 2]);
    h.disk.clear_fault();
    assert_eq!(h.broker.stats().topics.len(), 3);
    assert_eq!(codes(&mut h, &more), [0; 2]);
}

#[test]
fn a_full_disk_is_told_to_who_runs_the_broker_until_no_record_is_refused_for_a_while() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.disk.inject(Fault { after: 0, kind: FaultKind::Full });
    let refused = h.produce("t", 0, batch(&["large"]));
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.code());
    let why = h.broker.stats().disk_full.expect("it is full");
    assert!(why.contains("no space left"), "{why}");
    h.disk.clear_fault();
    assert_eq!(h.produce("t", 0, batch(&["small"])).error_code, 0);
    assert!(h.broker.stats().disk_full.is_some(), "one that found room does not end it");
    h.pass_ms(10_000);
    assert_eq!(h.produce("t", 0, batch(&["small"])).error_code, 0);
    assert_eq!(h.broker.stats().disk_full, None);
}

#[test]
fn the_largest_timestamp_is_that_of_a_record_that_is_still_there() {
    use weir_protocol::api::delete_records::{
        DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
    };
    for seed in 0..60_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut h = Harness::new();
        let config = [("segment.bytes", "1048576"), ("index.interval.bytes", "80")];
        h.create("t", 1, &config);
        // One segment, or many.
        let value = "x".repeat(if seed % 3 == 0 { 1 } else { 150_000 });
        let mut times = Vec::new();
        for _ in 0..12 {
            let mut builder =
                weir_protocol::batch::BatchBuilder::new(weir_protocol::compression::Codec::None);
            for _ in 0..=below(4) {
                let time = START_MS + below(40) as i64;
                builder.append(weir_protocol::TimestampMs(time), None, Some(value.as_bytes()), &[]);
                times.push(time);
            }
            assert_eq!(h.produce("t", 0, builder.build()).error_code, 0);
        }
        let mut start = 0;
        for _ in 0..6 {
            let left = &times[start..];
            let max = left.iter().max().copied();
            let at = max.and_then(|max| left.iter().position(|time| *time == max));
            let expect = at.map_or(-1, |at| (start + at) as i64);
            let found = list(&mut h, -3);
            assert_eq!((found.1, found.2), (expect, max.unwrap_or(-1)), "seed {seed}, {start}");
            let time = START_MS + below(42) as i64;
            let at = left.iter().position(|found| *found >= time);
            let expect = at.map_or(-1, |at| (start + at) as i64);
            assert_eq!(list(&mut h, time).1, expect, "seed {seed}, {start}, {time}");
            start = (start + below(6) as usize).min(times.len());
            let offset = start as i64;
            let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
            let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
            h.ask(2, &DeleteRecordsRequest { topics, ..Default::default() });
        }
    }
}

#[test]
fn a_fetch_is_the_same_whether_its_records_are_read_at_once_or_on_the_way() {
    use bytes::BytesMut;
    use weir_broker::fetch::Piece;
    use weir_broker::{request, Connection, Reply, Response};
    use weir_protocol::api::fetch::{FetchPartition, FetchTopic};
    use weir_protocol::frame;
    let mut h = Harness::new();
    h.create("a", 3, &[("segment.bytes", "1048576")]);
    h.create("b", 2, &[]);
    let long = "x".repeat(300_000);
    for (topic, partition, count) in [("a", 0, 9), ("a", 2, 1), ("b", 1, 4)] {
        for n in 0..count {
            let text = format!("{topic}-{partition}-{n}");
            h.produce(topic, partition, batch(&[&text, &long]));
        }
    }
    h.produce("b", 0, batch(&["short"]));
    let id = |h: &mut Harness, name: &str| metadata_of(h, name, false).topics[0].topic_id;
    let ids = [id(&mut h, "a"), id(&mut h, "b")];
    for version in 4..=17 {
        let topic = |name: &str, topic_id, partitions: &[i32]| FetchTopic {
            topic: Str::copy_from(name),
            topic_id,
            partitions: partitions
                .iter()
                .map(|partition| FetchPartition {
                    partition: *partition,
                    partition_max_bytes: 8 << 20,
                    ..FetchPartition::default()
                })
                .collect(),
        };
        let request = FetchRequest {
            max_bytes: 8 << 20,
            topics: vec![topic("a", ids[0], &[2, 0, 1]), topic("b", ids[1], &[0, 1])],
            ..FetchRequest::default()
        };
        let mut frames = Vec::new();
        for at_once in [true, false] {
            let bytes = frame::encode_request(7, None, version, &request).unwrap();
            let mut decoded =
                request::decode(bytes.into_iter().skip(4).collect(), 1 << 20).unwrap();
            let connection = Connection {
                id: weir_broker::ConnId(1),
                client_host: "/127.0.0.1".into(),
                advertised: (Str::from("localhost"), 9092),
                principal: "User:ANONYMOUS".into(),
            };
            let effects =
                h.broker.handle(&connection, &decoded.header, &mut decoded.request, h.now);
            let Reply::Now(response) = effects.reply else { panic!("it has enough") };
            let Response::Fetch(mut answer) = *response else { panic!("a fetch") };
            assert!(answer.record_bytes() > 10_000);
            let mut whole = BytesMut::new();
            if at_once {
                answer.read(&mut BytesMut::new()).unwrap();
                let key = weir_protocol::ApiKey::Fetch;
                for piece in Response::Fetch(answer).encode(key, version, 7).unwrap() {
                    whole.extend_from_slice(&piece);
                }
            } else {
                for piece in answer.encode_around(weir_protocol::ApiKey::Fetch, version, 7).unwrap()
                {
                    match piece {
                        Piece::Bytes(bytes) => whole.extend_from_slice(&bytes),
                        Piece::Records(slice) => whole.extend_from_slice(&slice.read().unwrap()),
                    }
                }
            }
            frames.push(whole);
        }
        assert_eq!(frames[0], frames[1], "version {version}");
    }
}
