//! Answers to requests that are wrong in some way, as a node of Apache Kafka 4.1 gives them. `scripts/compare.py` asks both.

use weir_protocol::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use weir_protocol::api::create_topics::CreateTopicsRequest;
use weir_protocol::api::delete_groups::DeleteGroupsRequest;
use weir_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir_protocol::api::describe_cluster::DescribeClusterRequest;
use weir_protocol::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use weir_protocol::api::describe_producers::{DescribeProducersRequest, TopicRequest};
use weir_protocol::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use weir_protocol::api::list_transactions::ListTransactionsRequest;
use weir_protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};
use weir_protocol::api::sync_group::SyncGroupRequest;
use weir_protocol::{ErrorCode, Str, Uuid};

use crate::harness::*;

fn metadata_of(h: &mut Harness, name: &str) -> (i16, Uuid, usize) {
    let topic = MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(Str::copy_from(name)) };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let topic = &h.ask(12, &request).topics[0];
    (topic.error_code, topic.topic_id, topic.partitions.len())
}

#[test]
fn a_topic_that_is_named_twice_is_refused_once_and_stays_as_it_was() {
    let mut h = Harness::new();
    let mut twice = create_request("t", 1, &[]);
    twice.topics.push(twice.topics[0].clone());
    let made = h.ask(7, &twice).topics;
    assert_eq!((made.len(), made[0].error_code), (1, ErrorCode::InvalidRequest.code()));

    h.create("t", 1, &[]);
    let wanted = |count| CreatePartitionsTopic { name: "t".into(), count, ..Default::default() };
    let topics = vec![wanted(2), wanted(3)];
    let grown = h.ask(3, &CreatePartitionsRequest { topics, ..Default::default() }).results;
    assert_eq!((grown.len(), grown[0].error_code), (1, ErrorCode::InvalidRequest.code()));

    let (_, id, _) = metadata_of(&mut h, "t");
    let by_name = || DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO };
    let by_id = || DeleteTopicState { name: None, topic_id: id };
    for topics in [vec![by_name(), by_name()], vec![by_id(), by_id()], vec![by_id(), by_name()]] {
        let gone = h.ask(6, &DeleteTopicsRequest { topics, ..Default::default() }).responses;
        assert_eq!((gone.len(), gone[0].error_code), (1, ErrorCode::InvalidRequest.code()));
    }
    assert_eq!(metadata_of(&mut h, "t"), (0, id, 1), "it is there, with its one partition");
    let topic_names = vec!["t".into(), "t".into()];
    let gone = h.ask(5, &DeleteTopicsRequest { topic_names, ..Default::default() }).responses;
    assert_eq!((gone.len(), gone[0].error_code), (1, ErrorCode::InvalidRequest.code()));
    let topics = vec![by_id()];
    assert_eq!(
        h.ask(6, &DeleteTopicsRequest { topics, ..Default::default() }).responses[0].error_code,
        0
    );
}

#[test]
fn a_deletion_needs_a_name_or_an_id() {
    let mut h = Harness::new();
    let topics = vec![DeleteTopicState { name: None, topic_id: Uuid::ZERO }];
    let answer = h.ask(6, &DeleteTopicsRequest { topics, ..Default::default() });
    assert_eq!(answer.responses[0].error_code, ErrorCode::InvalidRequest.code());
}

#[test]
fn what_no_topic_can_be_is_refused() {
    let mut h = Harness::new();
    let mut create = |name: &str, configs: &[(&str, &str)]| {
        let request =
            CreateTopicsRequest { validate_only: true, ..create_request(name, 1, configs) };
        h.ask(7, &request).topics[0].error_code
    };
    assert_eq!(create("__cluster_metadata", &[]), ErrorCode::InvalidRequest.code());
    let (leader, follower) =
        ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas");
    for bad in
        [(leader, "odd"), (follower, "1:x"), (follower, "1"), ("remote.storage.enable", "true")]
    {
        assert_eq!(create("t", &[bad]), ErrorCode::InvalidConfig.code(), "{bad:?}");
    }
    for good in
        [(leader, "*"), (leader, "0:1,1:0"), (follower, ""), ("remote.storage.enable", "False")]
    {
        assert_eq!(create("t", &[good]), 0, "{good:?}");
    }
}

#[test]
fn a_topic_by_its_id_is_not_for_metadata_10_and_11() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let (_, id, _) = metadata_of(&mut h, "t");
    for (name, topic_id) in [(None, Uuid::ZERO), (None, id), (Some("t".into()), id)] {
        let topics = Some(vec![MetadataRequestTopic { topic_id, name }]);
        for version in [10, 11] {
            let request = MetadataRequest { topics: topics.clone(), ..Default::default() };
            let answer = h.ask(version, &request);
            assert_eq!(answer.topics[0].error_code, ErrorCode::InvalidRequest.code());
            assert!(answer.topics[0].name.is_some(), "it may not be null here");
        }
    }
}

#[test]
fn endpoints_are_of_type_1_here() {
    let mut h = Harness::new();
    let mut ask = |endpoint_type| {
        let answer = h.ask(1, &DescribeClusterRequest { endpoint_type, ..Default::default() });
        (answer.error_code, answer.endpoint_type)
    };
    assert_eq!(ask(1), (0, 1));
    assert_eq!(ask(2), (ErrorCode::MismatchedEndpointType.code(), 1));
    assert_eq!(ask(0), (ErrorCode::UnsupportedEndpointType.code(), 1));
    assert_eq!(ask(3), (ErrorCode::UnsupportedEndpointType.code(), 1));
}

#[test]
fn times_with_a_meaning_are_known_from_their_version_on() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let mut ask = |version, timestamp, current_leader_epoch| {
        let one = ListOffsetsPartition { timestamp, current_leader_epoch, ..Default::default() };
        let topics =
            vec![ListOffsetsTopic { name: "t".into(), partitions: vec![one.clone(), one] }];
        let topic =
            h.ask(version, &ListOffsetsRequest { topics, ..Default::default() }).topics.remove(0);
        assert_eq!(topic.partitions.len(), 1, "what comes twice is answered once");
        topic.partitions[0].error_code
    };
    assert_eq!(ask(9, -1, -1), ErrorCode::InvalidRequest.code());
    let mut ask = |version, timestamp, current_leader_epoch| {
        let one = ListOffsetsPartition { timestamp, current_leader_epoch, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![one] }];
        let answer = h.ask(version, &ListOffsetsRequest { topics, ..Default::default() });
        answer.topics[0].partitions[0].error_code
    };
    for (timestamp, first) in [(-3, 7), (-4, 8), (-5, 9)] {
        let before = ask(first - 1, timestamp, -1);
        assert_eq!(before, ErrorCode::UnsupportedVersion.code(), "{timestamp}");
        assert_eq!(ask(first, timestamp, -1), 0, "{timestamp}");
    }
}

#[test]
fn a_join_that_is_refused_has_no_protocol() {
    let mut h = Harness::with_coordinator();
    let request = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..JoinGroupRequest::default()
    };
    let answer = h.ask(9, &request);
    assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.code());
    assert_eq!(answer.protocol_name, None);
    assert_eq!(h.ask(6, &request).protocol_name, Some(Str::default()), "it may not be null there");
}

#[test]
fn a_sync_says_of_which_protocol_it_is() {
    let mut h = Harness::with_coordinator();
    let mut ask = |version, protocol_name: Option<&'static str>| {
        let request = SyncGroupRequest {
            group_id: "g".into(),
            protocol_type: Some("consumer".into()),
            protocol_name: protocol_name.map(Str::from_static),
            ..SyncGroupRequest::default()
        };
        h.ask(version, &request).error_code
    };
    assert_eq!(ask(5, None), ErrorCode::InconsistentGroupProtocol.code());
    assert_eq!(ask(5, Some("range")), ErrorCode::UnknownMemberId.code());
    assert_eq!(ask(4, None), ErrorCode::UnknownMemberId.code());
}

#[test]
fn a_group_that_is_deleted_twice_is_answered_once() {
    let mut h = Harness::with_coordinator();
    let groups_names = vec!["g".into(), "g".into(), Str::default()];
    let answer = h.ask(2, &DeleteGroupsRequest { groups_names });
    let errors: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
    assert_eq!(errors, [ErrorCode::GroupIdNotFound.code(); 2]);
}

#[test]
fn names_that_no_topic_has_are_told_from_topics_that_are_not_there() {
    let mut h = Harness::new();
    for (name, error) in
        [("none", ErrorCode::UnknownTopicOrPartition), ("a b", ErrorCode::InvalidTopicException)]
    {
        let topics = vec![TopicRequest { name: Str::copy_from(name), partition_indexes: vec![0] }];
        let producers = h.ask(0, &DescribeProducersRequest { topics });
        assert_eq!(producers.topics[0].partitions[0].error_code, error.code());
        let resources = vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: Str::copy_from(name),
            configuration_keys: None,
        }];
        let configs = h.ask(4, &DescribeConfigsRequest { resources, ..Default::default() });
        assert_eq!(configs.results[0].error_code, error.code());
    }
}

#[test]
fn no_key_of_a_configuration_is_all_keys() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let mut count = |configuration_keys| {
        let resource_name = "t".into();
        let one = DescribeConfigsResource { resource_type: 2, resource_name, configuration_keys };
        let request = DescribeConfigsRequest { resources: vec![one], ..Default::default() };
        h.ask(4, &request).results[0].configs.len()
    };
    let all = count(None);
    assert!(all > 1);
    assert_eq!(count(Some(Vec::new())), all);
    assert_eq!(count(Some(vec!["retention.ms".into()])), 1);
}

#[test]
fn dead_is_a_state_of_transactions() {
    let mut h = Harness::with_coordinator();
    let state_filters = vec!["Dead".into(), "Odd".into()];
    let answer = h.ask(1, &ListTransactionsRequest { state_filters, ..Default::default() });
    assert_eq!(answer.unknown_state_filters, [Str::from_static("Odd")]);
}
