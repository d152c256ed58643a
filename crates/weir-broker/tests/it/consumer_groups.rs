//! Consumer groups of KIP-848 over the wire: persistence, describing, and migration from and to the classic protocol.

use bytes::Bytes;
use weir_broker::consumer_group::MigrationPolicy;
use weir_log::MemDisk;
use weir_protocol::api::consumer_group_describe::{ConsumerGroupDescribeRequest, DescribedGroup};
use weir_protocol::api::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use weir_protocol::api::consumer_protocol::{
    self, ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition,
};
use weir_protocol::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use weir_protocol::api::delete_groups::DeleteGroupsRequest;
use weir_protocol::api::describe_groups::DescribeGroupsRequest;
use weir_protocol::api::heartbeat::HeartbeatRequest;
use weir_protocol::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use weir_protocol::api::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use weir_protocol::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use weir_protocol::api::list_groups::ListGroupsRequest;
use weir_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_protocol::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use weir_protocol::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use weir_protocol::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use weir_protocol::{ErrorCode, Str};

use crate::harness::*;

fn joining(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: Str::copy_from(member),
        rebalance_timeout_ms: 20_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// A heartbeat of a member that has carried out `has`.
fn beating(member: &str, epoch: i32, has: Option<&Assignment>) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: Str::copy_from(member),
        member_epoch: epoch,
        topic_partitions: has.map(|has| has.topic_partitions.clone()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn partitions(assignment: &Assignment) -> Vec<i32> {
    let of = |topic: &TopicPartitions| topic.partitions.clone();
    assignment.topic_partitions.iter().flat_map(of).collect()
}

fn given(answer: &ConsumerGroupHeartbeatResponse) -> Vec<i32> {
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    partitions(answer.assignment.as_ref().expect("an assignment"))
}

fn with_topic(count: i32) -> Harness {
    let mut h = Harness::with_coordinator();
    h.create("t", count, &[]);
    h
}

fn describe(h: &mut Harness) -> DescribedGroup {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec!["g".into()],
        include_authorized_operations: false,
    };
    h.ask(1, &request).groups.remove(0)
}

fn commit(member: &str, epoch: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: epoch,
        member_id: Str::copy_from(member),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
        }],
        ..OffsetCommitRequest::default()
    }
}

fn committing(h: &mut Harness, version: i16, request: &OffsetCommitRequest) -> i16 {
    h.ask(version, request).topics[0].partitions[0].error_code
}

/// The group's error, and the offset.
fn fetching(h: &mut Harness, member: Option<&str>, epoch: i32) -> (i16, Option<i64>) {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id: member.map(Str::copy_from),
            member_epoch: epoch,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
            }]),
        }],
        ..OffsetFetchRequest::default()
    };
    let group = h.ask(9, &request).groups.remove(0);
    (group.error_code, group.topics.first().map(|topic| topic.partitions[0].committed_offset))
}

#[test]
fn a_member_hears_of_its_partitions_once_they_are_on_disk() {
    let mut h = with_topic(2);
    let ticket = h.call(1, &joining("a")).ticket();
    assert!(h.answer::<ConsumerGroupHeartbeatRequest>(ticket).is_none());
    h.commit_all();
    let answer = h.answer::<ConsumerGroupHeartbeatRequest>(ticket).unwrap();
    assert_eq!((answer.member_epoch, given(&answer)), (1, vec![0, 1]));
    assert_eq!(answer.heartbeat_interval_ms, 5_000);
    let quiet = h.call(1, &beating("a", 1, answer.assignment.as_ref())).answer();
    assert_eq!((quiet.error_code, quiet.assignment), (0, None), "nothing to wait for");
}

#[test]
fn a_group_comes_back_after_a_power_cut() {
    for seed in 0..5 {
        let mut h = with_topic(2);
        let a = h.ask(1, &joining("a"));
        let mut b = joining("b");
        (b.instance_id, b.server_assignor) = (Some("i".into()), Some("range".into()));
        (b.subscribed_topic_names, b.subscribed_topic_regex) = (None, Some("t.*".into()));
        h.ask(1, &b);
        let told = h.ask(1, &beating("a", 1, a.assignment.as_ref()));
        assert_eq!(given(&told), [1], "a static member comes first");
        let before = describe(&mut h);
        let mut h = h.after_power_cut(seed);
        assert_eq!(describe(&mut h), before, "seed {seed}");
        let a = h.ask(1, &beating("a", 1, told.assignment.as_ref()));
        assert_eq!((a.error_code, a.member_epoch), (0, 2));
        let beat = ConsumerGroupHeartbeatRequest {
            instance_id: Some("i".into()),
            ..beating("b", 2, None)
        };
        assert_eq!(given(&h.ask(1, &beat)), [0]);
        // Sessions count from the start.
        h.pass_ms(44_999);
        assert_eq!(describe(&mut h).members.len(), 2);
        h.pass_ms(1);
        assert_eq!(describe(&mut h).group_state, "Empty");
        h.commit_all();
        let mut h = h.after_power_cut(seed);
        assert_eq!(describe(&mut h).members, []);
    }
}

#[test]
fn bad_heartbeats_are_refused_by_name() {
    let mut h = with_topic(1);
    let check = |h: &mut Harness, version: i16, beat: ConsumerGroupHeartbeatRequest| {
        let answer = h.ask(version, &beat);
        assert!(answer.error_message.is_some());
        ErrorCode::from_code(answer.error_code)
    };
    let unknown = ErrorCode::GroupIdNotFound;
    assert_eq!(check(&mut h, 1, beating("a", 1, None)), unknown);
    assert_eq!(check(&mut h, 1, beating("a", -1, None)), unknown);
    let invalid = ErrorCode::InvalidRequest;
    assert_eq!(check(&mut h, 1, joining("")), invalid);
    assert_eq!(check(&mut h, 0, beating("", 1, None)), invalid);
    let join = || joining("a");
    assert_eq!(
        check(&mut h, 1, ConsumerGroupHeartbeatRequest { group_id: "".into(), ..join() }),
        invalid
    );
    assert_eq!(
        check(&mut h, 1, ConsumerGroupHeartbeatRequest { instance_id: Some("".into()), ..join() }),
        invalid
    );
    assert_eq!(
        check(&mut h, 1, ConsumerGroupHeartbeatRequest { rack_id: Some("".into()), ..join() }),
        invalid
    );
    assert_eq!(
        check(&mut h, 1, ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..join() }),
        invalid
    );
    assert_eq!(
        check(&mut h, 1, ConsumerGroupHeartbeatRequest { topic_partitions: None, ..join() }),
        invalid
    );
    assert_eq!(
        check(&mut h, 1, ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..join() }),
        invalid
    );
    assert_eq!(check(&mut h, 1, beating("a", -2, None)), invalid);
    assert_eq!(check(&mut h, 1, beating("a", -3, None)), invalid);
    let sticky = ConsumerGroupHeartbeatRequest { server_assignor: Some("sticky".into()), ..join() };
    assert_eq!(check(&mut h, 1, sticky), ErrorCode::UnsupportedAssignor);
    let regex =
        ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some("(".into()), ..join() };
    assert_eq!(check(&mut h, 1, regex), ErrorCode::InvalidRegularExpression);
    assert!(h.broker.stats().groups.is_empty(), "who is refused makes no group");
    // Before KIP-1082 the broker made the id.
    let answer = h.ask(0, &joining(""));
    assert_eq!((answer.error_code, answer.member_id.unwrap().len()), (0, 22));
}

#[test]
fn a_group_obeys_its_own_configuration() {
    let mut h = with_topic(1);
    let config = |name: &str, value: &str| AlterableConfig {
        name: Str::copy_from(name),
        config_operation: 0,
        value: Some(Str::copy_from(value)),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 32,
            resource_name: "g".into(),
            configs: vec![
                config("consumer.heartbeat.interval.ms", "6000"),
                config("consumer.session.timeout.ms", "50000"),
            ],
        }],
        validate_only: false,
    };
    assert_eq!(h.ask(1, &request).responses[0].error_code, 0);
    assert_eq!(h.ask(1, &joining("a")).heartbeat_interval_ms, 6_000);
    let other = ConsumerGroupHeartbeatRequest { group_id: "other".into(), ..joining("a") };
    assert_eq!(h.ask(1, &other).heartbeat_interval_ms, 5_000);
    h.pass_ms(49_999);
    assert_eq!(describe(&mut h).members.len(), 1);
    h.pass_ms(1);
    assert_eq!(describe(&mut h).members.len(), 0);
}

#[test]
fn more_partitions_are_shared_at_the_next_heartbeat() {
    let mut h = with_topic(1);
    let a = h.ask(1, &joining("a"));
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name: "t".into(), count: 3, assignments: None }],
        ..CreatePartitionsRequest::default()
    };
    assert_eq!(h.ask(3, &request).results[0].error_code, 0);
    let more = h.ask(1, &beating("a", 1, a.assignment.as_ref()));
    assert_eq!((more.member_epoch, given(&more)), (2, vec![0, 1, 2]));
}

#[test]
fn offsets_are_committed_and_read_in_the_epoch_that_holds() {
    let mut h = with_topic(1);
    h.ask(1, &joining("a"));
    let stale = ErrorCode::StaleMemberEpoch.code();
    let stranger = ErrorCode::UnknownMemberId.code();
    assert_eq!(committing(&mut h, 9, &commit("a", 1, 5)), 0);
    assert_eq!(committing(&mut h, 9, &commit("a", 0, 6)), stale);
    assert_eq!(committing(&mut h, 9, &commit("x", 1, 6)), stranger);
    assert_eq!(committing(&mut h, 9, &commit("", -1, 6)), stranger);
    assert_eq!(committing(&mut h, 8, &commit("a", 1, 6)), ErrorCode::UnsupportedVersion.code());
    assert_eq!(fetching(&mut h, Some("a"), 1), (0, Some(5)));
    assert_eq!(fetching(&mut h, None, -1), (0, Some(5)));
    assert_eq!(fetching(&mut h, Some("a"), 2), (stale, None));
    assert_eq!(fetching(&mut h, Some("x"), 1), (stranger, None));
}

#[test]
fn groups_of_both_kinds_are_listed_described_and_deleted() {
    let mut h = with_topic(1);
    h.ask(1, &joining("a"));
    let list = |h: &mut Harness, types: &[&str], states: &[&str]| {
        let texts = |all: &[&str]| all.iter().map(|one| Str::copy_from(one)).collect();
        let request =
            ListGroupsRequest { states_filter: texts(states), types_filter: texts(types) };
        let listed = h.ask(5, &request).groups;
        listed
            .into_iter()
            .map(|g| format!("{} {} {}", g.group_id, g.group_type, g.group_state))
            .collect::<Vec<_>>()
    };
    let simple = OffsetCommitRequest { group_id: "s".into(), ..commit("", -1, 1) };
    assert_eq!(committing(&mut h, 9, &simple), 0);
    assert_eq!(list(&mut h, &[], &[]), ["g consumer Stable", "s classic Empty"]);
    assert_eq!(list(&mut h, &["Consumer"], &[]), ["g consumer Stable"]);
    assert_eq!(list(&mut h, &["classic"], &["stable"]), [""; 0]);
    let described = describe(&mut h);
    assert_eq!((&*described.group_state, &*described.assignor_name), ("Stable", "uniform"));
    let member = &described.members[0];
    assert_eq!((member.member_epoch, member.member_type), (1, 1));
    assert_eq!(&*member.assignment.topic_partitions[0].topic_name, "t");
    assert_eq!(member.assignment, member.target_assignment);
    let classic =
        DescribeGroupsRequest { groups: vec!["g".into()], ..DescribeGroupsRequest::default() };
    let described = h.ask(6, &classic).groups.remove(0);
    assert_eq!(described.error_code, ErrorCode::GroupIdNotFound.code());
    let described = h.ask(5, &classic).groups.remove(0);
    assert_eq!((described.error_code, &*described.group_state), (0, "Dead"));
    let other = ConsumerGroupDescribeRequest {
        group_ids: vec!["s".into(), "no".into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let codes: Vec<i16> = h.ask(0, &other).groups.iter().map(|g| g.error_code).collect();
    assert_eq!(codes, [ErrorCode::GroupIdNotFound.code(); 2]);
    let delete = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    assert_eq!(h.ask(2, &delete).results[0].error_code, ErrorCode::NonEmptyGroup.code());
    assert_eq!(committing(&mut h, 9, &commit("a", 1, 5)), 0);
    h.ask(1, &beating("a", -1, None));
    assert_eq!(h.ask(2, &delete).results[0].error_code, 0);
    let mut h = h.after_power_cut(1);
    assert_eq!(list(&mut h, &["consumer"], &[]), [""; 0]);
    assert_eq!(fetching(&mut h, None, -1), (0, Some(-1)));
}

#[test]
fn offsets_of_topics_that_a_consumer_group_reads_are_not_deleted() {
    let mut h = with_topic(1);
    h.create("u", 1, &[]);
    h.ask(1, &joining("a"));
    committing(&mut h, 9, &commit("a", 1, 5));
    let topic = |name: &str| OffsetDeleteRequestTopic {
        name: Str::copy_from(name),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    };
    let request =
        OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic("t"), topic("u")] };
    let answer = h.ask(0, &request);
    let codes: Vec<i16> = answer.topics.iter().map(|t| t.partitions[0].error_code).collect();
    assert_eq!(codes, [ErrorCode::GroupSubscribedToTopic.code(), 0]);
    h.ask(1, &beating("a", -1, None));
    assert_eq!(h.ask(0, &request).topics[0].partitions[0].error_code, 0);
    assert_eq!(fetching(&mut h, None, -1).1, Some(-1));
}

#[test]
fn offsets_of_a_consumer_group_live_seven_days_from_its_last_member() {
    const DAY_MS: i64 = 86_400_000;
    let mut h = with_topic(1);
    h.ask(1, &joining("a"));
    committing(&mut h, 9, &commit("a", 1, 5));
    h.now = h.now.plus_ms(10 * DAY_MS);
    h.ask(1, &beating("a", 1, None));
    h.pass_ms(1);
    h.commit_all();
    assert_eq!(fetching(&mut h, None, -1).1, Some(5), "it has a member");
    h.ask(1, &beating("a", -1, None));
    h.pass_ms(6 * DAY_MS);
    h.commit_all();
    let mut h = h.after_power_cut(1);
    h.pass_ms(600_000);
    h.commit_all();
    assert_eq!(fetching(&mut h, None, -1).1, Some(5), "the last member went six days ago");
    h.pass_ms(DAY_MS);
    h.commit_all();
    assert_eq!(fetching(&mut h, None, -1).1, Some(-1));
    assert!(h.broker.stats().groups.is_empty());
    let mut h = h.after_power_cut(2);
    assert_eq!(fetching(&mut h, None, -1).1, Some(-1));
    assert!(h.broker.stats().groups.is_empty());
}

fn classic_joining(member: &str, owned: &[i32]) -> JoinGroupRequest {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["t".into()],
        owned_partitions: match owned {
            [] => Vec::new(),
            owned => vec![TopicPartition { topic: "t".into(), partitions: owned.to_vec() }],
        },
        ..ConsumerProtocolSubscription::default()
    };
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        member_id: Str::copy_from(member),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "cooperative-sticky".into(),
            metadata: consumer_protocol::encode(&subscription, 1).unwrap(),
        }],
        ..JoinGroupRequest::default()
    }
}

fn share(indexes: &[i32]) -> Bytes {
    let partition = TopicPartition { topic: "t".into(), partitions: indexes.to_vec() };
    let assignment =
        ConsumerProtocolAssignment { assigned_partitions: vec![partition], user_data: None };
    consumer_protocol::encode(&assignment, 1).unwrap()
}

fn syncing(member: &str, generation: i32, shares: &[(&str, &[i32])]) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: Str::copy_from(member),
        assignments: shares
            .iter()
            .map(|(id, indexes)| SyncGroupRequestAssignment {
                member_id: Str::copy_from(id),
                assignment: share(indexes),
            })
            .collect(),
        ..SyncGroupRequest::default()
    }
}

fn synced(h: &mut Harness, member: &str, generation: i32) -> Vec<i32> {
    let answer = h.ask(3, &syncing(member, generation, &[]));
    assert_eq!(answer.error_code, 0);
    let (_, assignment) =
        consumer_protocol::decode::<ConsumerProtocolAssignment>(answer.assignment).unwrap();
    assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions).collect()
}

fn classic_beat(h: &mut Harness, member: &str, generation: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: Str::copy_from(member),
        group_instance_id: None,
    };
    ErrorCode::from_code(h.ask(3, &request).error_code)
}

/// A classic group with one member that has both partitions of t, in generation 1. Returns the member's id.
fn classic_group(h: &mut Harness) -> Str {
    let joined: JoinGroupResponse = h.ask(3, &classic_joining("", &[]));
    let id = joined.member_id;
    let answer = h.ask(3, &syncing(&id, 1, &[(&id, &[0, 1])]));
    assert_eq!(answer.error_code, 0);
    id
}

#[test]
fn an_empty_classic_group_becomes_a_consumer_group_and_back_with_its_offsets() {
    let mut h = with_topic(2);
    let id = classic_group(&mut h);
    assert_eq!(committing(&mut h, 3, &commit(&id, 1, 7)), 0);
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![MemberIdentity { member_id: id, ..MemberIdentity::default() }],
        ..LeaveGroupRequest::default()
    };
    h.ask(4, &leave);
    assert_eq!(given(&h.ask(1, &joining("a"))), [0, 1]);
    assert_eq!(fetching(&mut h, Some("a"), 1), (0, Some(7)));
    let mut h = h.after_power_cut(1);
    assert_eq!(describe(&mut h).members.len(), 1);
    assert_eq!(committing(&mut h, 9, &commit("a", 1, 8)), 0);
    h.ask(1, &beating("a", -1, None));
    classic_group(&mut h);
    assert_eq!(describe(&mut h).error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(fetching(&mut h, None, -1), (0, Some(8)));
    let mut h = h.after_power_cut(2);
    assert_eq!(describe(&mut h).error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(fetching(&mut h, None, -1), (0, Some(8)));
    assert_eq!(h.broker.stats().groups[0].members, 1);
}

#[test]
fn an_application_moves_to_the_consumer_protocol_member_by_member_and_back() {
    let mut h = with_topic(2);
    let old = classic_group(&mut h);
    assert_eq!(committing(&mut h, 3, &commit(&old, 1, 7)), 0);
    // A member of the new protocol comes: the group is upgraded, the old member keeps what it has until it gives it up.
    let new = h.ask(1, &joining("new"));
    assert_eq!((new.member_epoch, given(&new)), (2, vec![]));
    let described = describe(&mut h);
    let mut kinds: Vec<i8> = described.members.iter().map(|m| m.member_type).collect();
    kinds.sort_unstable();
    assert_eq!((described.group_epoch, kinds), (2, vec![0, 1]));
    assert_eq!(classic_beat(&mut h, &old, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(committing(&mut h, 3, &commit(&old, 1, 8)), 0, "its generation still holds");
    let rejoined = h.ask(3, &classic_joining(&old, &[0, 1]));
    assert_eq!((rejoined.error_code, rejoined.generation_id), (0, 1));
    assert_eq!((&*rejoined.leader, rejoined.members.len()), ("", 0), "nobody leads");
    let kept = synced(&mut h, &old, 1);
    assert_eq!(kept.len(), 1);
    assert_eq!(classic_beat(&mut h, &old, 1), ErrorCode::RebalanceInProgress);
    let rejoined = h.ask(3, &classic_joining(&old, &kept));
    assert_eq!(rejoined.generation_id, 2);
    assert_eq!(synced(&mut h, &old, 2), kept);
    assert_eq!(classic_beat(&mut h, &old, 2), ErrorCode::None);
    let got = h.ask(1, &beating("new", 2, Some(&Assignment::default())));
    assert_eq!(given(&got), [1 - kept[0]]);
    // All that survives a power cut, and the last member of the new protocol goes: the group is downgraded.
    let mut h = h.after_power_cut(3);
    assert_eq!(describe(&mut h).members.len(), 2);
    h.ask(1, &beating("new", -1, None));
    assert_eq!(describe(&mut h).error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(classic_beat(&mut h, &old, 3), ErrorCode::RebalanceInProgress);
    let joined = h.ask(3, &classic_joining(&old, &kept));
    assert_eq!((joined.error_code, joined.generation_id), (0, 4));
    assert_eq!(joined.leader, old);
    h.ask(3, &syncing(&old, 4, &[(&old, &[0, 1])]));
    assert_eq!(fetching(&mut h, None, -1), (0, Some(8)));
    let mut h = h.after_power_cut(4);
    assert_eq!(classic_beat(&mut h, &old, 4), ErrorCode::None);
}

#[test]
fn a_classic_member_is_out_that_does_not_join_again_in_time() {
    let mut h = with_topic(2);
    let old = classic_group(&mut h);
    h.ask(1, &joining("new"));
    assert_eq!(classic_beat(&mut h, &old, 1), ErrorCode::RebalanceInProgress);
    for _ in 0..3 {
        h.pass_ms(8_000);
        h.ask(1, &beating("new", 2, Some(&Assignment::default())));
        assert_eq!(classic_beat(&mut h, &old, 1), ErrorCode::RebalanceInProgress);
    }
    h.pass_ms(6_000);
    assert_eq!(classic_beat(&mut h, &old, 1), ErrorCode::UnknownMemberId);
    let got = h.ask(1, &beating("new", 2, Some(&Assignment::default())));
    assert_eq!(given(&got), [0, 1]);
}

#[test]
fn classic_members_of_a_consumer_group_are_refused_by_name() {
    let mut h = with_topic(2);
    h.ask(1, &joining("new"));
    let connect = JoinGroupRequest { protocol_type: "connect".into(), ..classic_joining("", &[]) };
    let inconsistent = ErrorCode::InconsistentGroupProtocol.code();
    assert_eq!(h.ask(3, &connect).error_code, inconsistent);
    let mut garbage = classic_joining("", &[]);
    garbage.protocols[0].metadata = Bytes::from_static(b"?");
    assert_eq!(h.ask(3, &garbage).error_code, inconsistent);
    let told = h.ask(4, &classic_joining("", &[]));
    assert_eq!(told.error_code, ErrorCode::MemberIdRequired.code());
    let joined = h.ask(4, &classic_joining(&told.member_id, &[]));
    assert_eq!((joined.error_code, joined.generation_id), (0, 2));
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(classic_beat(&mut h, "new", 1), unknown, "it speaks the other protocol");
    assert_eq!(classic_beat(&mut h, "x", 1), unknown);
    assert_eq!(classic_beat(&mut h, &joined.member_id, 1), ErrorCode::IllegalGeneration);
    assert_eq!(h.ask(3, &syncing("new", 1, &[])).error_code, unknown.code());
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![
            MemberIdentity { member_id: "new".into(), ..MemberIdentity::default() },
            MemberIdentity { member_id: joined.member_id, ..MemberIdentity::default() },
        ],
        ..LeaveGroupRequest::default()
    };
    let codes: Vec<i16> = h.ask(4, &leave).members.iter().map(|m| m.error_code).collect();
    assert_eq!(codes, [unknown.code(), 0]);
}

#[test]
fn a_policy_can_forbid_to_move_with_members() {
    let disabled = weir_broker::BrokerConfig {
        group_consumer_migration_policy: MigrationPolicy::Disabled,
        ..config()
    };
    let mut h = Harness::on(std::sync::Arc::new(MemDisk::new()), disabled);
    h.create("t", 2, &[]);
    let id = classic_group(&mut h);
    let refused = h.ask(1, &joining("new"));
    assert_eq!(refused.error_code, ErrorCode::GroupIdNotFound.code());
    assert!(refused.error_message.unwrap().contains("online upgrade is disabled"));
    assert_eq!(classic_beat(&mut h, &id, 1), ErrorCode::None);
}

/// Sets a key of the group's own configuration.
fn configure(h: &mut Harness, key: &str, value: &str) {
    use weir_protocol::api::incremental_alter_configs::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    };
    let config = AlterableConfig {
        name: Str::copy_from(key),
        config_operation: 0,
        value: Some(Str::copy_from(value)),
    };
    let resource = AlterConfigsResource {
        resource_type: 32,
        resource_name: "g".into(),
        configs: vec![config],
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(h.ask(1, &request).responses[0].error_code, 0, "{key}={value}");
}

#[test]
fn a_groups_own_session_and_interval_count_from_the_next_heartbeat() {
    let mut h = with_topic(1);
    let joined = h.ask(1, &joining("a"));
    assert_eq!(joined.heartbeat_interval_ms, 5_000);
    configure(&mut h, "consumer.session.timeout.ms", "60000");
    configure(&mut h, "consumer.heartbeat.interval.ms", "7000");
    let beat = h.ask(1, &beating("a", joined.member_epoch, None));
    assert_eq!((beat.error_code, beat.heartbeat_interval_ms), (0, 7_000));
    h.pass_ms(59_000);
    let epoch = h.ask(1, &beating("a", joined.member_epoch, None)).member_epoch;
    assert_eq!(epoch, joined.member_epoch, "the broker's 45 seconds do not count");
    h.commit_all();
    let mut h = h.after_power_cut(6);
    h.pass_ms(59_000);
    let beat = h.ask(1, &beating("a", epoch, None));
    assert_eq!((beat.error_code, beat.heartbeat_interval_ms), (0, 7_000));
    h.pass_ms(61_000);
    let gone = ErrorCode::from_code(h.ask(1, &beating("a", epoch, None)).error_code);
    assert_eq!(gone, ErrorCode::UnknownMemberId);
}
