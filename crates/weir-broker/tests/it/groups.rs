use bytes::Bytes;
use weir_broker::Ticket;
use weir_log::disk::{Fault, FaultKind};
use weir_protocol::api::consumer_protocol::{self, ConsumerProtocolSubscription};
use weir_protocol::api::delete_groups::DeleteGroupsRequest;
use weir_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir_protocol::api::describe_groups::DescribeGroupsRequest;
use weir_protocol::api::fetch::FetchRequest;
use weir_protocol::api::heartbeat::HeartbeatRequest;
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
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use weir_protocol::api::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use weir_protocol::{ErrorCode, Str, Uuid};

use crate::harness::*;

fn join(member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        member_id: Str::copy_from(member),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"sub"),
        }],
        ..JoinGroupRequest::default()
    }
}

fn sync(member: &str, generation: i32, shares: &[(&str, &'static str)]) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: Str::copy_from(member),
        assignments: shares
            .iter()
            .map(|(id, share)| SyncGroupRequestAssignment {
                member_id: Str::copy_from(id),
                assignment: Bytes::from_static(share.as_bytes()),
            })
            .collect(),
        ..SyncGroupRequest::default()
    }
}

fn commit(
    group: &str,
    member: &str,
    generation: i32,
    topic: &str,
    offset: i64,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: Str::copy_from(group),
        generation_id_or_member_epoch: generation,
        member_id: Str::copy_from(member),
        topics: vec![OffsetCommitRequestTopic {
            name: Str::copy_from(topic),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: 3,
                committed_metadata: Some("note".into()),
            }],
        }],
        ..OffsetCommitRequest::default()
    }
}

fn committed(h: &mut Harness, group: &str, topic: &str) -> (i64, i32, String) {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::copy_from(group),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: Str::copy_from(topic),
                partition_indexes: vec![0],
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    let group = h.ask(9, &request).groups.remove(0);
    assert_eq!(group.error_code, 0);
    let partition = &group.topics[0].partitions[0];
    (
        partition.committed_offset,
        partition.committed_leader_epoch,
        partition.metadata.clone().unwrap().to_string(),
    )
}

/// One member of group g, Stable in generation 1. Returns its id.
fn member(h: &mut Harness) -> String {
    let joined: JoinGroupResponse = h.call(3, &join("")).answer();
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    let id = joined.member_id.to_string();
    assert!(id.starts_with("tester-"), "{id}");
    let synced: SyncGroupResponse = h.ask(3, &sync(&id, 1, &[(&id, "share")]));
    assert_eq!(synced.assignment, "share");
    id
}

#[test]
fn an_assignment_is_handed_out_after_its_commit() {
    let mut h = Harness::with_coordinator();
    let joined: JoinGroupResponse = h.call(3, &join("")).answer();
    let ticket = h.call(3, &sync(&joined.member_id, 1, &[(&joined.member_id, "share")])).ticket();
    assert!(h.answer::<SyncGroupRequest>(ticket).is_none());
    h.commit_all();
    assert_eq!(h.answer::<SyncGroupRequest>(ticket).unwrap().assignment, "share");
}

#[test]
fn the_new_id_of_a_static_member_is_told_once_it_is_on_disk() {
    let static_join =
        |member: &str| JoinGroupRequest { group_instance_id: Some("i-1".into()), ..join(member) };
    let beat = |h: &mut Harness, id: &str| {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: 1,
            member_id: Str::copy_from(id),
            group_instance_id: Some("i-1".into()),
        };
        h.ask(4, &request).error_code
    };
    for seed in 0..10 {
        let mut h = Harness::with_coordinator();
        let old: JoinGroupResponse = h.call(5, &static_join("")).answer();
        let old = old.member_id.to_string();
        let mut share = sync(&old, 1, &[(&old, "share")]);
        share.group_instance_id = Some("i-1".into());
        assert_eq!(h.ask(3, &share).assignment, "share");
        h.commit_all();
        // Its process has started again.
        let ticket = h.call(5, &static_join("")).ticket();
        assert!(h.answer::<JoinGroupRequest>(ticket).is_none());
        h.commit();
        let answer = h.answer::<JoinGroupRequest>(ticket).unwrap();
        assert_eq!((answer.error_code, answer.generation_id), (0, 1));
        let new = answer.member_id.to_string();
        assert_ne!(new, old);
        let mut h = h.after_power_cut(seed);
        assert_eq!(beat(&mut h, &new), 0, "seed {seed}");
        assert_eq!(beat(&mut h, &old), ErrorCode::FencedInstanceId.code(), "seed {seed}");
        // An id that could not be stored is not told as one.
        let ticket = h.call(5, &static_join("")).ticket();
        h.disk.inject(Fault { after: 0, kind: FaultKind::SyncError });
        h.commit();
        let answer = h.answer::<JoinGroupRequest>(ticket).unwrap();
        assert_eq!(answer.error_code, ErrorCode::CoordinatorNotAvailable.code());
    }
}

#[test]
fn join_v4_tells_the_id_first() {
    let mut h = Harness::with_coordinator();
    let told = h.call(4, &join("")).answer();
    assert_eq!(told.error_code, ErrorCode::MemberIdRequired.code());
    let joined = h.call(4, &join(&told.member_id)).answer();
    assert_eq!((joined.error_code, &joined.leader), (0, &told.member_id));
}

#[test]
fn two_members_rebalance_and_one_leaves() {
    let mut h = Harness::with_coordinator();
    let a = member(&mut h);
    let heartbeat = |id: &str, generation| HeartbeatRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: Str::copy_from(id),
        group_instance_id: None,
    };
    let second: Ticket = h.call(3, &join("")).ticket();
    let told = h.call(4, &heartbeat(&a, 1)).answer();
    assert_eq!(told.error_code, ErrorCode::RebalanceInProgress.code());
    let again = h.call(3, &join(&a)).answer();
    let b = h.answer::<JoinGroupRequest>(second).unwrap();
    assert_eq!((again.generation_id, b.generation_id), (2, 2));
    assert_eq!(again.members.len(), 2);
    assert!(b.members.is_empty());
    let waits = h.call(3, &sync(&b.member_id, 2, &[])).ticket();
    h.ask(3, &sync(&a, 2, &[(&a, "A"), (&b.member_id, "B")]));
    assert_eq!(h.answer::<SyncGroupRequest>(waits).unwrap().assignment, "B");
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![MemberIdentity {
            member_id: b.member_id.clone(),
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    assert_eq!(h.ask(5, &leave).members[0].error_code, 0);
    assert_eq!(h.ask(5, &leave).members[0].error_code, ErrorCode::UnknownMemberId.code());
    assert_eq!(
        h.call(4, &heartbeat(&a, 2)).answer().error_code,
        ErrorCode::RebalanceInProgress.code()
    );
}

#[test]
fn sessions_end_by_the_tick() {
    let mut h = Harness::with_coordinator();
    member(&mut h);
    assert!(h.broker.next_deadline() <= h.now.plus_ms(10_000));
    h.pass_ms(10_000);
    let group = h.broker.stats().groups.remove(0);
    assert_eq!((group.state, group.members, group.generation), ("Empty", 0, 2));
}

#[test]
fn an_offset_is_seen_after_its_commit() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    let id = member(&mut h);
    let ticket = h.call(9, &commit("g", &id, 1, "t", 5)).ticket();
    assert_eq!(committed(&mut h, "g", "t"), (-1, -1, String::new()));
    h.commit_all();
    let answer = h.answer::<OffsetCommitRequest>(ticket).unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut h, "g", "t"), (5, 3, "note".to_owned()));
}

#[test]
fn offsets_and_members_survive_a_power_cut() {
    for seed in 0..10 {
        let mut h = Harness::with_coordinator();
        h.create("t", 1, &[]);
        let id = member(&mut h);
        h.ask(9, &commit("g", &id, 1, "t", 5));
        h.ask(9, &commit("g", &id, 1, "t", 6));
        h.ask(9, &commit("simple", "", -1, "t", 7));
        let mut h = h.after_power_cut(seed);
        assert_eq!(committed(&mut h, "g", "t").0, 6, "seed {seed}");
        assert_eq!(committed(&mut h, "simple", "t").0, 7, "seed {seed}");
        // The member goes on as if nothing had been.
        let answer = h.ask(9, &commit("g", &id, 1, "t", 8));
        assert_eq!(answer.topics[0].partitions[0].error_code, 0, "seed {seed}");
        let mut h = h.reopened();
        assert_eq!(committed(&mut h, "g", "t").0, 8, "seed {seed}");
    }
}

#[test]
fn only_partitions_of_the_offsets_topic_that_are_written_have_directories() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    h.ask(9, &commit("g", "", -1, "t", 5));
    let files = h.disk.files();
    let mut dirs: Vec<String> = files
        .keys()
        .filter_map(|path| path.parent()?.file_name()?.to_str().map(str::to_owned))
        .filter(|dir| dir.starts_with("__consumer_offsets-"))
        .collect();
    dirs.dedup();
    // "g".hashCode() is 103.
    assert_eq!(dirs, ["__consumer_offsets-3"]);
    let topic = h.broker.stats().topics.remove(0);
    assert_eq!(
        (topic.name.as_str(), topic.partitions, topic.internal),
        ("__consumer_offsets", 50, true)
    );
}

#[test]
fn commits_are_refused_by_name() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    let id = member(&mut h);
    let check = |h: &mut Harness, version, request: OffsetCommitRequest, error: ErrorCode| {
        let answer = h.call(version, &request).answer();
        assert_eq!(answer.topics[0].partitions[0].error_code, error.code());
    };
    check(&mut h, 9, commit("g", &id, 7, "t", 1), ErrorCode::IllegalGeneration);
    check(&mut h, 9, commit("g", "nobody", 1, "t", 1), ErrorCode::UnknownMemberId);
    check(&mut h, 9, commit("g", "", -1, "t", 1), ErrorCode::UnknownMemberId);
    // The group without a name is one like others, as in Kafka.
    assert_eq!(h.ask(9, &commit("", "", -1, "t", 11)).topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut h, "", "t").0, 11);
    check(&mut h, 9, commit("never", "x", 1, "t", 1), ErrorCode::GroupIdNotFound);
    check(&mut h, 8, commit("never", "x", 1, "t", 1), ErrorCode::IllegalGeneration);
    check(&mut h, 9, commit("g", &id, 1, "nope", 1), ErrorCode::UnknownTopicOrPartition);
    let mut long = commit("g", &id, 1, "t", 1);
    long.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_097).into());
    check(&mut h, 9, long, ErrorCode::OffsetMetadataTooLarge);
}

#[test]
fn a_group_never_seen_has_no_offsets_and_no_error() {
    let mut h = Harness::with_coordinator();
    assert_eq!(committed(&mut h, "never", "t").0, -1);
    for version in 1..=7 {
        let request = OffsetFetchRequest {
            group_id: "never".into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: "t".into(),
                partition_indexes: vec![0],
            }]),
            ..OffsetFetchRequest::default()
        };
        let answer = h.ask(version, &request);
        assert_eq!((answer.error_code, answer.topics[0].partitions[0].committed_offset), (0, -1));
    }
}

#[test]
fn all_offsets_of_a_group_come_when_no_topic_is_named() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    h.create("u", 1, &[]);
    h.ask(9, &commit("s", "", -1, "t", 1));
    h.ask(9, &commit("s", "", -1, "u", 2));
    let request =
        OffsetFetchRequest { group_id: "s".into(), topics: None, ..OffsetFetchRequest::default() };
    let names: Vec<String> =
        h.ask(5, &request).topics.iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["t", "u"]);
}

#[test]
fn offsets_go_with_their_topic() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    h.ask(9, &commit("s", "", -1, "t", 9));
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO }],
        ..DeleteTopicsRequest::default()
    };
    h.ask(6, &delete);
    h.create("t", 1, &[]);
    assert_eq!(committed(&mut h, "s", "t").0, -1);
    let mut h = h.after_power_cut(5);
    assert_eq!(committed(&mut h, "s", "t").0, -1);
}

#[test]
fn offsets_go_with_all_topics_of_one_request() {
    let mut h = Harness::with_coordinator();
    let names: Vec<String> = (0..5).map(|n| format!("t{n}")).collect();
    names.iter().for_each(|name| h.create(name, 1, &[]));
    for group in ["s", "r"] {
        for name in &names {
            h.ask(9, &commit(group, "", -1, name, 9));
        }
    }
    let state =
        |name: &String| DeleteTopicState { name: Some(Str::copy_from(name)), topic_id: Uuid::ZERO };
    let topics = names[1..].iter().map(state).collect();
    h.ask(6, &DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() });
    h.commit_all();
    let check = |h: &mut Harness| {
        for group in ["s", "r"] {
            assert_eq!(committed(h, group, "t0").0, 9, "it stays");
            for name in &names[1..] {
                assert_eq!(committed(h, group, name).0, -1, "{group} {name}");
            }
        }
    };
    check(&mut h);
    names[1..].iter().for_each(|name| h.create(name, 1, &[]));
    check(&mut h);
    let mut h = h.after_power_cut(5);
    check(&mut h);
}

#[test]
fn groups_are_listed_described_and_deleted() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    let id = member(&mut h);
    h.ask(9, &commit("s", "", -1, "t", 9));
    let listed =
        h.ask(5, &ListGroupsRequest { states_filter: vec!["stable".into()], ..Default::default() });
    assert_eq!(listed.groups.len(), 1);
    assert_eq!((&*listed.groups[0].group_id, &*listed.groups[0].group_type), ("g", "classic"));
    assert_eq!(
        h.ask(
            5,
            &ListGroupsRequest { types_filter: vec!["consumer".into()], ..Default::default() }
        )
        .groups,
        []
    );
    let request =
        DescribeGroupsRequest { groups: vec!["g".into(), "nope".into()], ..Default::default() };
    let described = h.ask(6, &request).groups;
    assert_eq!((&*described[0].group_state, &*described[0].protocol_data), ("Stable", "range"));
    assert_eq!(
        (&*described[0].members[0].member_id, &described[0].members[0].member_assignment[..]),
        (&*id, &b"share"[..])
    );
    assert_eq!(
        (described[1].error_code, &*described[1].group_state),
        (ErrorCode::GroupIdNotFound.code(), "Dead")
    );
    assert_eq!(h.ask(5, &request).groups[1].error_code, 0);
    let delete = DeleteGroupsRequest { groups_names: vec!["g".into(), "s".into(), "nope".into()] };
    let codes: Vec<i16> =
        h.ask(2, &delete).results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::NonEmptyGroup.code(), 0, ErrorCode::GroupIdNotFound.code()]);
    let mut h = h.after_power_cut(1);
    assert_eq!(committed(&mut h, "s", "t").0, -1);
    assert_eq!(h.broker.stats().groups.len(), 1);
}

#[test]
fn offsets_of_an_empty_group_expire() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    h.ask(9, &commit("s", "", -1, "t", 9));
    h.pass_ms(6 * 86_400_000);
    assert_eq!(committed(&mut h, "s", "t").0, 9);
    h.pass_ms(86_400_000);
    assert_eq!(committed(&mut h, "s", "t").0, -1);
    h.commit_all();
    assert!(h.broker.stats().groups.is_empty());
    let mut h = h.after_power_cut(1);
    assert_eq!(committed(&mut h, "s", "t").0, -1);
}

#[test]
fn bad_joins_are_refused_by_name() {
    let mut h = Harness::with_coordinator();
    let check = |h: &mut Harness, request: JoinGroupRequest, error: ErrorCode| {
        assert_eq!(h.call(5, &request).answer().error_code, error.code());
    };
    check(&mut h, JoinGroupRequest { group_id: "".into(), ..join("") }, ErrorCode::InvalidGroupId);
    check(
        &mut h,
        JoinGroupRequest { session_timeout_ms: 1, ..join("") },
        ErrorCode::InvalidSessionTimeout,
    );
    check(&mut h, join("nobody"), ErrorCode::UnknownMemberId);
    check(
        &mut h,
        JoinGroupRequest { protocols: Vec::new(), ..join("") },
        ErrorCode::InconsistentGroupProtocol,
    );
}

#[test]
fn an_offset_under_way_goes_with_its_group() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    let _ = h.call(9, &commit("s", "", -1, "t", 9)).ticket();
    let delete = DeleteGroupsRequest { groups_names: vec!["s".into()] };
    let _ = h.call(2, &delete).ticket();
    h.commit_all();
    assert_eq!(committed(&mut h, "s", "t").0, -1);
    // A commit after the deletion counts, and it alone.
    h.create("u", 1, &[]);
    let _ = h.call(9, &commit("r", "", -1, "t", 1)).ticket();
    let _ = h.call(2, &DeleteGroupsRequest { groups_names: vec!["r".into()] }).ticket();
    let _ = h.call(9, &commit("r", "", -1, "u", 2)).ticket();
    h.commit_all();
    assert_eq!((committed(&mut h, "r", "t").0, committed(&mut h, "r", "u").0), (-1, 2));
    let mut h = h.after_power_cut(1);
    assert_eq!((committed(&mut h, "r", "t").0, committed(&mut h, "r", "u").0), (-1, 2));
    assert_eq!(committed(&mut h, "s", "t").0, -1);
}

#[test]
fn an_offset_under_way_goes_with_its_topic() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    let _ = h.call(9, &commit("s", "", -1, "t", 9)).ticket();
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO }],
        ..DeleteTopicsRequest::default()
    };
    let _ = h.call(6, &delete).ticket();
    h.commit_all();
    h.create("t", 1, &[]);
    assert_eq!(committed(&mut h, "s", "t").0, -1);
    let mut h = h.after_power_cut(1);
    assert_eq!(committed(&mut h, "s", "t").0, -1, "the log has a tombstone for it");
}

#[test]
fn a_group_with_an_offset_under_way_does_not_expire() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    h.ask(9, &commit("s", "", -1, "t", 8));
    h.now = h.now.plus_ms(7 * 86_400_000);
    let ticket = h.call(9, &commit("s", "", -1, "t", 9)).ticket();
    h.pass_ms(1);
    h.commit_all();
    let answer = h.answer::<OffsetCommitRequest>(ticket).unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut h, "s", "t").0, 9);
    let mut h = h.after_power_cut(1);
    assert_eq!(committed(&mut h, "s", "t").0, 9);
}

#[test]
fn offsets_dropped_at_the_start_do_not_come_back_with_a_topic_of_that_name() {
    for seed in 0..10 {
        let mut h = Harness::with_coordinator();
        h.create("t", 1, &[]);
        h.ask(9, &commit("s", "", -1, "t", 9));
        let delete = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO }],
            ..DeleteTopicsRequest::default()
        };
        // The catalog is on disk, the tombstones are not.
        let ticket = h.call(6, &delete).ticket();
        h.commit();
        assert!(h.answer::<DeleteTopicsRequest>(ticket).is_some());
        let mut h = h.after_power_cut(seed);
        h.commit_all();
        h.create("t", 1, &[]);
        h.commit_all();
        let mut h = h.after_power_cut(seed);
        assert_eq!(committed(&mut h, "s", "t").0, -1, "seed {seed}");
    }
}

#[test]
fn deadlines_move_along_with_a_clock_that_is_set() {
    for jump_ms in [3_600_000, -3_600_000] {
        let mut h = Harness::with_coordinator();
        h.create("t", 1, &[]);
        member(&mut h);
        let poll = h.call(12, &fetch_request("t", 0, 0, 20_000)).ticket();
        h.pass_ms(4_000);
        h.broker.clock_set(jump_ms);
        h.pass_ms(jump_ms);
        h.pass_ms(5_999);
        assert_eq!(h.broker.stats().groups[0].members, 1);
        h.pass_ms(1);
        assert_eq!(h.broker.stats().groups[0].members, 0);
        h.pass_ms(9_999);
        assert!(h.answer::<FetchRequest>(poll).is_none());
        h.pass_ms(1);
        assert!(h.answer::<FetchRequest>(poll).is_some());
    }
}

fn delete_offsets(h: &mut Harness, group: &str, topics: &[&str]) -> (i16, Vec<i16>) {
    let topic = |name: &&str| OffsetDeleteRequestTopic {
        name: Str::copy_from(name),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    };
    let request = OffsetDeleteRequest {
        group_id: Str::copy_from(group),
        topics: topics.iter().map(topic).collect(),
    };
    let answer = h.ask(0, &request);
    let codes = answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    (answer.error_code, codes)
}

#[test]
fn offsets_of_topics_that_nobody_reads_can_be_deleted() {
    let mut h = Harness::with_coordinator();
    for topic in ["read", "unread", "other"] {
        h.create(topic, 1, &[]);
    }
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["read".into()],
        ..ConsumerProtocolSubscription::default()
    };
    let mut request = join("");
    request.protocols[0].metadata = consumer_protocol::encode(&subscription, 3).unwrap();
    let id: Str = h.ask(3, &request).member_id;
    h.ask(3, &sync(&id, 1, &[(&id, "share")]));
    for topic in ["read", "unread", "other"] {
        h.ask(9, &commit("g", &id, 1, topic, 7));
    }
    let (error, codes) = delete_offsets(&mut h, "g", &["read", "unread", "nope"]);
    let subscribed = ErrorCode::GroupSubscribedToTopic.code();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!((error, codes), (0, vec![subscribed, 0, unknown]));
    let mut h = h.after_power_cut(1);
    let left = ["read", "unread", "other"].map(|topic| committed(&mut h, "g", topic).0);
    assert_eq!(left, [7, -1, 7]);
}

#[test]
fn offsets_are_deleted_of_known_groups_alone_and_not_of_strangers_to_consumers() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    let code = |error: ErrorCode| (error.code(), Vec::new());
    assert_eq!(delete_offsets(&mut h, "nope", &["t"]), code(ErrorCode::GroupIdNotFound));
    assert_eq!(delete_offsets(&mut h, "", &["t"]), code(ErrorCode::InvalidGroupId));
    h.ask(9, &commit("s", "", -1, "t", 9));
    assert_eq!(delete_offsets(&mut h, "s", &["t"]), (0, vec![0]));
    assert_eq!(committed(&mut h, "s", "t").0, -1);
    let connect = JoinGroupRequest { protocol_type: "connect".into(), ..join("") };
    h.ask(3, &connect);
    assert_eq!(delete_offsets(&mut h, "g", &["t"]), code(ErrorCode::NonEmptyGroup));
}

#[test]
fn an_offset_under_way_can_be_deleted() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    h.ask(9, &commit("s", "", -1, "t", 8));
    let _ = h.call(9, &commit("s", "", -1, "t", 9)).ticket();
    assert_eq!(delete_offsets(&mut h, "s", &["t"]), (0, vec![0]));
    assert_eq!(committed(&mut h, "s", "t").0, -1);
    let mut h = h.after_power_cut(1);
    assert_eq!(committed(&mut h, "s", "t").0, -1);
}
