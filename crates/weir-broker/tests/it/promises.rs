//! What clients assert of a broker, line by line of the research (broker-and-protocol.md §4.3, §4.4), where no other test
//! has it yet.

use weir_protocol::api::create_topics::CreateTopicsRequest;
use weir_protocol::api::describe_cluster::DescribeClusterRequest;
use weir_protocol::api::fetch::FetchRequest;
use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use weir_protocol::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use weir_protocol::api::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use weir_protocol::{ErrorCode, Request, Str};

use crate::harness::*;

fn metadata(h: &mut Harness, name: &str, create: bool, operations: bool) -> MetadataResponse {
    let topic = MetadataRequestTopic { name: Some(Str::copy_from(name)), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: create,
        include_topic_authorized_operations: operations,
        include_cluster_authorized_operations: operations,
    };
    h.ask(9, &request)
}

/// §4.3, 5: with null Java's admin client dies.
#[test]
fn a_created_topic_tells_its_configuration() {
    let mut h = Harness::new();
    for (version, name) in (2..).zip(["v2", "v3", "v4", "v5", "v6", "v7"]) {
        let request = create_request(name, 1, &[("retention.ms", "5")]);
        let topic = h.ask(version, &request).topics.remove(0);
        assert_eq!(topic.error_code, 0);
        if version >= 5 {
            let configs = topic.configs.expect("no error, so no null");
            assert_eq!(configs.len(), 33);
            let own = configs.iter().find(|config| config.name == "retention.ms").unwrap();
            assert_eq!((own.value.as_deref(), own.config_source), (Some("5"), 1));
        }
    }
    assert!(CreateTopicsRequest::VERSIONS.contains(&7));
}

/// §4.3, 11: the epoch of that record, and neither an older nor a newer one is taken from a client.
#[test]
fn each_record_has_the_epoch_it_was_written_under() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch_at(START_MS, &["old"]));
    let mut h = h.after_power_cut(7);
    h.produce("t", 0, batch_at(START_MS + 10_000, &["new"]));
    let epoch_at = |h: &mut Harness, timestamp: i64| {
        let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: "t".into(), partitions }],
            ..ListOffsetsRequest::default()
        };
        h.ask(10, &request).topics[0].partitions[0].leader_epoch
    };
    let (old, new) = (epoch_at(&mut h, START_MS), epoch_at(&mut h, START_MS + 10_000));
    assert!(old < new, "an unclean start begins an epoch: {old}, {new}");
    assert_eq!(epoch_at(&mut h, -1), new);
    let told = metadata(&mut h, "t", false, false).topics[0].partitions[0].leader_epoch;
    assert_eq!(told, new);
    let with_epoch = |epoch: i32| -> FetchRequest {
        let mut fetch = fetch_request("t", 0, 0, 0);
        fetch.topics[0].partitions[0].current_leader_epoch = epoch;
        fetch
    };
    for (epoch, error) in [
        (new, ErrorCode::None),
        (old, ErrorCode::FencedLeaderEpoch),
        (new + 1, ErrorCode::UnknownLeaderEpoch),
        (-1, ErrorCode::None),
    ] {
        let answer = h.ask(12, &with_epoch(epoch));
        assert_eq!(answer.responses[0].partitions[0].error_code, error.code(), "{epoch}");
    }
}

/// KIP-595, as a Kafka 4.1.0 node answers it: epoch and offset where the log parts from what was read.
#[test]
fn who_has_read_what_is_not_in_the_log_is_told_where_it_parts() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.create("empty", 1, &[]);
    let fetch = |h: &mut Harness, topic: &str, offset: i64, last: i32, wait_ms: i32| {
        let mut request = fetch_request(topic, 0, offset, wait_ms);
        request.topics[0].partitions[0].last_fetched_epoch = last;
        let data = h.ask(12, &request).responses.remove(0).partitions.remove(0);
        let diverging = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
        (ErrorCode::from_code(data.error_code), diverging, data.records.unwrap().is_empty())
    };
    let agreed = (-1, -1);
    let out_of_range = (ErrorCode::OffsetOutOfRange, agreed, true);
    assert_eq!(fetch(&mut h, "empty", 0, 0, 0), (ErrorCode::None, agreed, true));
    assert_eq!(fetch(&mut h, "empty", 5, 0, 0), (ErrorCode::None, (0, 0), true));
    assert_eq!(fetch(&mut h, "empty", 0, 1, 0), out_of_range);
    h.produce("t", 0, batch(&["a", "b", "c"]));
    let old = metadata(&mut h, "t", false, false).topics[0].partitions[0].leader_epoch;
    let mut h = h.after_power_cut(7);
    h.produce("t", 0, batch(&["d"]));
    let new = metadata(&mut h, "t", false, false).topics[0].partitions[0].leader_epoch;
    assert!(old < new);
    assert_eq!(fetch(&mut h, "t", 3, old, 0), (ErrorCode::None, agreed, false));
    assert_eq!(fetch(&mut h, "t", 4, old, 5_000), (ErrorCode::None, (old, 3), true), "at once");
    assert_eq!(fetch(&mut h, "t", 4, new, 0), (ErrorCode::None, agreed, true));
    assert_eq!(fetch(&mut h, "t", 9, new, 0), (ErrorCode::None, (new, 4), true));
    assert_eq!(fetch(&mut h, "t", 4, new + 1, 0), out_of_range);
    assert_eq!(fetch(&mut h, "t", 9, -1, 0), out_of_range);
    let mut end_of = |topic: &'static str, leader_epoch: i32| {
        let partitions = vec![OffsetForLeaderPartition { leader_epoch, ..Default::default() }];
        let topics = vec![OffsetForLeaderTopic { topic: topic.into(), partitions }];
        let answer = h.ask(4, &OffsetForLeaderEpochRequest { replica_id: -1, topics });
        let end = &answer.topics[0].partitions[0];
        (end.leader_epoch, end.end_offset)
    };
    assert_eq!(
        (end_of("t", old), end_of("t", new), end_of("t", new + 1)),
        ((old, 3), (new, 4), agreed)
    );
    assert_eq!((end_of("empty", 0), end_of("empty", 99)), ((0, 0), agreed));
}

/// §4.4: internal topics are real topics.
#[test]
fn internal_topics_are_told_and_can_be_fetched() {
    let mut h = Harness::with_coordinator();
    let told = metadata(&mut h, "__consumer_offsets", false, false).topics.remove(0);
    assert_eq!((told.error_code, told.is_internal, told.partitions.len()), (0, true, 50));
    h.create("mine", 1, &[]);
    assert!(!metadata(&mut h, "mine", false, false).topics[0].is_internal);
    let fetched = h.ask(12, &fetch_request("__consumer_offsets", 49, 0, 0));
    assert_eq!(fetched.responses[0].partitions[0].error_code, 0);
}

/// §4.4: node 0, alone and controller; four partitions for a topic that comes of itself.
#[test]
fn a_topic_that_comes_of_itself_has_four_partitions_on_node_0() {
    let mut h = Harness::new();
    let answer = metadata(&mut h, "t", true, false);
    assert_eq!((answer.controller_id, answer.brokers[0].node_id), (0, 0));
    assert_eq!(answer.topics[0].partitions.len(), 4);
    assert!(answer.topics[0].partitions.iter().all(|partition| partition.leader_id == 0));
    assert_eq!(h.produce("t", 1, batch(&["a"])).error_code, 0);
}

/// §4.4: bits only when asked for, else the smallest number.
#[test]
fn operations_are_told_when_asked_for() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let quiet = metadata(&mut h, "t", false, false);
    assert_eq!(quiet.cluster_authorized_operations, i32::MIN);
    assert_eq!(quiet.topics[0].topic_authorized_operations, i32::MIN);
    let told = metadata(&mut h, "t", false, true);
    assert_eq!(told.cluster_authorized_operations, 8_096);
    assert_eq!(told.topics[0].topic_authorized_operations, 3_576);
    for (asked, operations) in [(false, i32::MIN), (true, 8_096)] {
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: asked,
            endpoint_type: 1,
            include_fenced_brokers: false,
        };
        assert_eq!(h.ask(2, &request).cluster_authorized_operations, operations);
    }
}

/// §4.4: valid, and there until retention looks the next time.
#[test]
fn records_of_1970_live_until_the_next_retention_check() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    // The first look is soon after the start, the next one five minutes later.
    h.pass_ms(1_000);
    assert_eq!(h.produce("t", 0, batch_at(0, &["first"])).error_code, 0);
    assert_eq!(h.read("t", 0, 0), ["first"]);
    h.pass_ms(1_000);
    assert_eq!(h.read("t", 0, 0), ["first"]);
    h.pass_ms(300_000);
    assert_eq!(h.broker.stats().topics[0].start_offsets, [1]);
}
