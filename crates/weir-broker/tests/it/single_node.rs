//! What tools and clients ask of a cluster, answered by one node; values compared with an Apache Kafka 4.1.0 node.

use std::path::Path;

use bytes::{BufMut, BytesMut};
use weir_log::disk::{Fault, FaultKind};
use weir_protocol::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use weir_protocol::api::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use weir_protocol::api::describe_log_dirs::DescribeLogDirsRequest;
use weir_protocol::api::describe_quorum::{DescribeQuorumRequest, PartitionData, TopicData};
use weir_protocol::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicRequest,
};
use weir_protocol::api::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use weir_protocol::api::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use weir_protocol::api::unregister_broker::UnregisterBrokerRequest;
use weir_protocol::api::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use weir_protocol::{ErrorCode, Request, Str};

use crate::harness::*;

const UNKNOWN: i16 = ErrorCode::UnknownTopicOrPartition.code();

fn describe(
    h: &mut Harness,
    names: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = cursor.map(|(topic, partition_index)| Cursor {
        topic_name: Str::copy_from(topic),
        partition_index,
    });
    let topics = names.iter().map(|name| TopicRequest { name: Str::copy_from(name) });
    let topics = topics.collect();
    h.ask(0, &DescribeTopicPartitionsRequest { topics, response_partition_limit: limit, cursor })
}

/// Name, error and partitions of each topic.
fn topics(answer: &DescribeTopicPartitionsResponse) -> Vec<(String, i16, Vec<i32>)> {
    let topics = answer.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        (topic.name.as_deref().unwrap().to_owned(), topic.error_code, partitions.collect())
    });
    topics.collect()
}

fn cursor(answer: &DescribeTopicPartitionsResponse) -> Option<(String, i32)> {
    let next = answer.next_cursor.as_ref();
    next.map(|next| (next.topic_name.to_string(), next.partition_index))
}

#[test]
fn topics_are_described_in_the_order_of_their_names() {
    let mut h = Harness::new();
    h.create("b", 2, &[]);
    h.create("a", 1, &[]);
    let named =
        |name: &str, error: i16, partitions: &[i32]| (name.to_owned(), error, partitions.to_vec());
    let all = describe(&mut h, &[], 2_000, None);
    assert_eq!(topics(&all), [named("a", 0, &[0]), named("b", 0, &[0, 1])]);
    assert_eq!(cursor(&all), None);
    let b = &all.topics[1];
    assert_eq!((b.is_internal, b.topic_authorized_operations), (false, 3_576));
    let partition = &b.partitions[1];
    assert_eq!((partition.leader_id, &partition.isr_nodes), (0, &vec![0]));
    assert_eq!(partition.eligible_leader_replicas, Some(vec![]));
    let some = describe(&mut h, &["zz", "b", "b", "no/pe"], 2_000, None);
    let invalid = ErrorCode::InvalidTopicException.code();
    assert_eq!(
        topics(&some),
        [named("b", 0, &[0, 1]), named("no/pe", invalid, &[]), named("zz", UNKNOWN, &[])]
    );
}

#[test]
fn a_cursor_goes_through_all_partitions() {
    let mut h = Harness::new();
    h.create("a", 3, &[]);
    h.create("b", 2, &[]);
    let (mut seen, mut at) = (Vec::new(), None);
    loop {
        let from =
            at.as_ref().map(|(topic, partition): &(String, i32)| (topic.as_str(), *partition));
        let answer = describe(&mut h, &[], 2, from);
        let count: usize = answer.topics.iter().map(|topic| topic.partitions.len()).sum();
        assert!(count <= 2);
        for (name, _, partitions) in topics(&answer) {
            seen.extend(partitions.into_iter().map(|partition| format!("{name}{partition}")));
        }
        at = cursor(&answer);
        if at.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["a0", "a1", "a2", "b0", "b1"]);
    for limit in [0, -1] {
        let one = describe(&mut h, &["a"], limit, None);
        assert_eq!(cursor(&one), Some(("a".to_owned(), 1)), "one at least");
    }
    let behind = describe(&mut h, &["a"], 9, Some(("a", 7)));
    assert_eq!((topics(&behind)[0].2.len(), cursor(&behind)), (0, None));
    for bad in [("b", 0), ("0", 0), ("a", -1)] {
        let refused = describe(&mut h, &["a"], 9, Some(bad));
        assert_eq!(topics(&refused)[0].1, ErrorCode::InvalidRequest.code(), "{bad:?}");
    }
}

#[test]
fn no_election_is_needed() {
    let mut h = Harness::new();
    h.create("t", 2, &[]);
    let elect = |h: &mut Harness, election_type: i8, named: Option<Vec<(&str, Vec<i32>)>>| {
        let topic_partitions = named.map(|named| {
            let topics = named.into_iter().map(|(topic, partitions)| TopicPartitions {
                topic: Str::copy_from(topic),
                partitions,
            });
            topics.collect()
        });
        h.ask(2, &ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 1_000 })
    };
    let needless = ErrorCode::ElectionNotNeeded.code();
    for election_type in [0, 1] {
        let named = vec![("t", vec![0, 9]), ("none", vec![0])];
        let answer = elect(&mut h, election_type, Some(named));
        let errors = answer
            .replica_election_results
            .iter()
            .flat_map(|topic| topic.partition_result.iter().map(|partition| partition.error_code));
        assert_eq!(errors.collect::<Vec<_>>(), [needless, UNKNOWN, UNKNOWN]);
        assert_eq!(answer.error_code, 0);
    }
    let all = elect(&mut h, 0, None);
    assert_eq!((all.error_code, all.replica_election_results[0].partition_result.len()), (0, 0));
    let unknown = elect(&mut h, 7, Some(vec![("t", vec![0])]));
    assert_eq!(unknown.error_code, ErrorCode::InvalidRequest.code());
}

#[test]
fn replicas_may_stay_where_they_are_and_go_nowhere_else() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let mut reassign = |topic: &str, partition_index: i32, replicas: Option<&[i32]>| {
        let replicas = replicas.map(<[_]>::to_vec);
        let partitions = vec![ReassignablePartition { partition_index, replicas }];
        let topics = vec![ReassignableTopic { name: Str::copy_from(topic), partitions }];
        let request = AlterPartitionReassignmentsRequest {
            topics,
            ..AlterPartitionReassignmentsRequest::default()
        };
        let answer = h.ask(1, &request);
        assert_eq!((answer.error_code, answer.allow_replication_factor_change), (0, true));
        answer.responses[0].partitions[0].error_code
    };
    assert_eq!(reassign("t", 0, Some(&[0])), 0);
    let invalid = ErrorCode::InvalidReplicaAssignment.code();
    for bad in [&[][..], &[0, 0], &[0, 1], &[1], &[-1]] {
        assert_eq!(reassign("t", 0, Some(bad)), invalid, "{bad:?}");
    }
    assert_eq!(reassign("t", 0, None), ErrorCode::NoReassignmentInProgress.code());
    assert_eq!(reassign("t", 9, Some(&[0])), UNKNOWN);
    assert_eq!(reassign("none", 0, None), UNKNOWN);
    for named in [None, Some("t"), Some("none")] {
        let topics = named.map(|name| {
            let partition_indexes = vec![0];
            vec![ListPartitionReassignmentsTopics { name: name.into(), partition_indexes }]
        });
        let list = ListPartitionReassignmentsRequest { topics, ..Default::default() };
        let answer = h.ask(0, &list);
        assert_eq!((answer.error_code, answer.topics.len()), (0, 0));
    }
}

#[test]
fn there_is_one_log_directory() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let described = h.ask(4, &DescribeLogDirsRequest { topics: None });
    let path = described.results[0].log_dir.to_string();
    assert_eq!(Path::new(&path), h.config.data_dir);
    assert_eq!(described.results[0].topics[0].partitions.len(), 1);
    let mut place = |path: &str, name: &str, partition: i32| {
        let topics = vec![AlterReplicaLogDirTopic {
            name: Str::copy_from(name),
            partitions: vec![partition],
        }];
        let dirs = vec![AlterReplicaLogDir { path: Str::copy_from(path), topics }];
        h.ask(2, &AlterReplicaLogDirsRequest { dirs }).results[0].partitions[0].error_code
    };
    assert_eq!(place(&path, "t", 0), 0);
    assert_eq!(place(&format!("{path}/"), "t", 0), 0);
    assert_eq!(place(&path, "t", 9), UNKNOWN);
    assert_eq!(place(&path, "none", 0), UNKNOWN);
    assert_eq!(place("/elsewhere", "t", 0), ErrorCode::LogDirNotFound.code());
}

#[test]
fn the_log_directory_tells_the_room_of_its_volume() {
    let mut h = Harness::new();
    let usable = |h: &mut Harness| {
        let dir = h.ask(4, &DescribeLogDirsRequest { topics: None }).results.remove(0);
        assert!(dir.error_code == 0 && dir.total_bytes >= dir.usable_bytes, "{dir:?}");
        dir.usable_bytes
    };
    let before = usable(&mut h);
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["x".repeat(10_000).as_str()]));
    let after = usable(&mut h);
    assert!((10_000..1 << 30).contains(&(before - after)), "{before} then {after}");
    h.disk.inject(Fault { after: 0, kind: FaultKind::Full });
    assert_eq!(usable(&mut h), 0);
    h.disk.clear_fault();
    h.disk.inject(Fault { after: 0, kind: FaultKind::PowerOff });
    let dir = h.ask(4, &DescribeLogDirsRequest { topics: None }).results.remove(0);
    assert_eq!((dir.error_code, dir.total_bytes, dir.usable_bytes), (0, -1, -1), "unknown");
}

#[test]
fn the_quorum_is_this_node() {
    let mut h = Harness::new();
    let quorum = |h: &mut Harness, version: i16, topic: &str, partitions: &[i32]| {
        let partitions = partitions.iter().map(|index| PartitionData { partition_index: *index });
        let topics =
            vec![TopicData { topic_name: Str::copy_from(topic), partitions: partitions.collect() }];
        h.ask(version, &DescribeQuorumRequest { topics })
    };
    let answer = quorum(&mut h, 2, "__cluster_metadata", &[0]);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!((answer.error_code, partition.error_code, partition.leader_id), (0, 0, 0));
    let voters = &partition.current_voters;
    assert_eq!((voters.len(), voters[0].replica_id), (1, 0));
    assert_eq!(voters[0].last_caught_up_timestamp, h.now.get());
    assert_eq!((answer.nodes[0].node_id, &*answer.nodes[0].listeners[0].host), (0, "localhost"));
    assert_eq!(quorum(&mut h, 0, "__cluster_metadata", &[0]).topics[0].partitions[0].error_code, 0);
    for (topic, partitions) in
        [("__cluster_metadata", &[1][..]), ("t", &[0]), ("__cluster_metadata", &[0, 1])]
    {
        let answer = quorum(&mut h, 2, topic, partitions);
        let errors = answer.topics[0].partitions.iter().map(|partition| partition.error_code);
        assert!(errors.into_iter().all(|error| error == UNKNOWN), "{topic} {partitions:?}");
        assert!(answer.nodes.is_empty());
    }
}

#[test]
fn features_stay_at_their_level() {
    let mut h = Harness::new();
    let (upgrade, safe_downgrade) = (1, 2);
    let update = |h: &mut Harness, version: i16, feature: &str, level: i16, upgrade_type: i8| {
        let feature_updates = vec![FeatureUpdateKey {
            feature: Str::copy_from(feature),
            max_version_level: level,
            allow_downgrade: false,
            upgrade_type: if version == 0 { 1 } else { upgrade_type },
        }];
        h.ask(version, &UpdateFeaturesRequest { feature_updates, ..Default::default() })
    };
    for version in 0..=2 {
        let same = update(&mut h, version, "metadata.version", 27, upgrade);
        assert_eq!((same.error_code, same.error_message), (0, None));
        assert_eq!(same.results.len(), usize::from(version < 2));
    }
    let refused = ErrorCode::InvalidUpdateVersion.code();
    for (feature, level, upgrade_type) in [
        ("metadata.version", 26, upgrade),
        ("metadata.version", 26, safe_downgrade),
        ("metadata.version", 28, upgrade),
        ("transaction.version", -1, upgrade),
        ("transaction.version", 2, 0),
        ("transaction.version", 2, 9),
        ("no.such.version", 1, upgrade),
    ] {
        let answer = update(&mut h, 2, feature, level, upgrade_type);
        assert_eq!(answer.error_code, refused, "{feature} {level} {upgrade_type}");
        assert!(answer.error_message.unwrap().contains(feature));
    }
}

/// What `kafka-features upgrade --release-version 4.1-IV1` asks for.
#[test]
fn the_levels_of_a_release_can_be_asked_for_again_and_again() {
    let mut h = Harness::new();
    let levels = [
        ("eligible.leader.replicas.version", 1),
        ("group.version", 1),
        ("kraft.version", 1),
        ("metadata.version", 27),
        ("transaction.version", 2),
    ];
    let update = |(feature, max_version_level): &(&'static str, i16)| FeatureUpdateKey {
        feature: Str::from_static(feature),
        max_version_level: *max_version_level,
        ..FeatureUpdateKey::default()
    };
    let feature_updates: Vec<_> = levels.iter().map(update).collect();
    let request = UpdateFeaturesRequest { feature_updates, ..Default::default() };
    for _ in 0..2 {
        let answer = h.ask(2, &request);
        assert_eq!((answer.error_code, answer.error_message), (0, None));
    }
}

#[test]
fn no_broker_is_unregistered() {
    let mut h = Harness::new();
    let mut unregister =
        |broker_id: i32| h.ask(0, &UnregisterBrokerRequest { broker_id }).error_code;
    assert_eq!(unregister(7), ErrorCode::BrokerIdNotRegistered.code());
    assert_eq!(unregister(0), ErrorCode::InvalidRequest.code(), "it is the one that answers");
}

/// Keys of share groups, delegation tokens, telemetry, raft voters and other brokers: not advertised, and a client that
/// sends one all the same loses its connection, as with a Kafka that does not know a key.
#[test]
fn what_is_not_advertised_is_not_served() {
    for key in [38, 39, 40, 41, 52, 56, 58, 62, 67, 71, 72, 76, 77, 78, 79, 80, 81, 83, 88, 90, 92]
    {
        assert!(weir_broker::api_table::SERVED.iter().all(|served| served.get() != key), "{key}");
        for version in 0..3 {
            let mut frame = BytesMut::new();
            frame.put_i16(key);
            frame.put_i16(version);
            frame.put_i32(7);
            frame.put_i16(-1);
            frame.put_slice(&[0; 64]);
            assert!(weir_broker::request::decode(frame, 1 << 20).is_err(), "{key} v{version}");
        }
    }
}

#[test]
fn requests_that_name_too_many_partitions_are_refused_whole() {
    let mut h = Harness::new();
    let count = h.config.request_partitions_max + 1;
    let partitions: Vec<i32> = vec![0; count];
    let invalid = ErrorCode::InvalidRequest.code();
    let topic = || Str::from_static("t");
    let elect = ElectLeadersRequest {
        topic_partitions: Some(vec![TopicPartitions {
            topic: topic(),
            partitions: partitions.clone(),
        }]),
        ..ElectLeadersRequest::default()
    };
    let answer = h.ask(2, &elect);
    assert_eq!((answer.error_code, answer.replica_election_results.len()), (invalid, 0));
    let partition = ReassignablePartition { partition_index: 0, replicas: None };
    let topics = vec![ReassignableTopic { name: topic(), partitions: vec![partition; count] }];
    let reassign = AlterPartitionReassignmentsRequest {
        topics,
        ..AlterPartitionReassignmentsRequest::default()
    };
    let answer = h.ask(1, &reassign);
    assert_eq!((answer.error_code, answer.responses.len()), (invalid, 0));
    let partitions = vec![PartitionData { partition_index: 0 }; count];
    let quorum =
        DescribeQuorumRequest { topics: vec![TopicData { topic_name: topic(), partitions }] };
    let answer = h.ask(2, &quorum);
    assert_eq!((answer.error_code, answer.topics.len()), (invalid, 0));
}

#[test]
fn every_advertised_version_of_an_admins_request_answers() {
    fn each<R: Request>(request: &R)
    where
        R::Response: std::fmt::Debug,
    {
        let mut h = Harness::new();
        h.create("t", 1, &[]);
        let versions = weir_broker::api_table::advertised(R::API_KEY).unwrap();
        for version in versions {
            let _ = h.ask(version, request);
        }
    }
    each(&weir_protocol::api::alter_client_quotas::AlterClientQuotasRequest::default());
    each(&weir_protocol::api::alter_configs::AlterConfigsRequest::default());
    each(&AlterPartitionReassignmentsRequest::default());
    each(&AlterReplicaLogDirsRequest::default());
    each(&weir_protocol::api::create_acls::CreateAclsRequest::default());
    each(&weir_protocol::api::delete_acls::DeleteAclsRequest::default());
    each(&weir_protocol::api::describe_acls::DescribeAclsRequest::default());
    each(&weir_protocol::api::describe_client_quotas::DescribeClientQuotasRequest::default());
    each(&DescribeLogDirsRequest { topics: None });
    each(&DescribeQuorumRequest::default());
    each(&DescribeTopicPartitionsRequest::default());
    each(&ElectLeadersRequest { topic_partitions: None, ..ElectLeadersRequest::default() });
    each(&weir_protocol::api::list_config_resources::ListConfigResourcesRequest::default());
    each(&ListPartitionReassignmentsRequest::default());
    each(&UnregisterBrokerRequest::default());
    each(&UpdateFeaturesRequest::default());
}
