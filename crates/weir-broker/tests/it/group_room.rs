//! What the members of a group may say of themselves, and all groups together.

use std::sync::Arc;

use bytes::Bytes;
use weir_broker::BrokerConfig;
use weir_log::MemDisk;
use weir_protocol::api::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use weir_protocol::api::find_coordinator::FindCoordinatorRequest;
use weir_protocol::api::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use weir_protocol::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use weir_protocol::{ErrorCode, Str};

use crate::harness::{config, Called, Harness};

const TOO_LARGE: i16 = ErrorCode::GroupMaxSizeReached.code();
const NO_ROOM: i16 = ErrorCode::CoordinatorNotAvailable.code();

/// Entries are counted at 64 bytes each, beside their texts.
const ENTRY_BYTES: usize = 64;

/// A group may take 10,000 bytes, all together 50,000.
fn harness() -> Harness {
    harness_of(10_000)
}

fn harness_of(group_metadata_bytes_max: usize) -> Harness {
    let config =
        BrokerConfig { group_metadata_bytes_max, groups_metadata_bytes_max: 50_000, ..config() };
    let mut h = Harness::on(Arc::new(MemDisk::new()), config);
    let find = FindCoordinatorRequest { key: "any".into(), ..Default::default() };
    assert_eq!(h.ask(3, &find).error_code, 0);
    h
}

fn join(group: &str, member: &str, bytes: usize) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::copy_from(group),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        member_id: Str::copy_from(member),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from(vec![7; bytes]),
        }],
        ..Default::default()
    }
}

fn joined(h: &mut Harness, group: &str, member: &str, bytes: usize) -> JoinGroupResponse {
    h.ask(3, &join(group, member, bytes))
}

#[test]
fn a_member_that_a_group_has_no_room_for_is_refused_and_the_others_stay() {
    let mut h = harness();
    assert_eq!(joined(&mut h, "large", "", 11_000).error_code, TOO_LARGE);
    assert!(h.broker.stats().groups.is_empty(), "nothing is kept of it");
    let first = joined(&mut h, "g", "", 4_000);
    assert_eq!(first.error_code, 0);
    let second = h.call(3, &join("g", "", 4_000)).ticket();
    assert_eq!(joined(&mut h, "g", "", 4_000).error_code, TOO_LARGE);
    // Who is there may come again, also with a little more.
    let again = h.call(3, &join("g", &first.member_id, 4_500));
    assert!(matches!(again, Called::Parked(_) | Called::Answered(_)), "{again:?}");
    h.commit_all();
    assert_eq!(h.answer::<JoinGroupRequest>(second).expect("an answer").error_code, 0);
    assert_eq!(h.broker.stats().groups[0].members, 2);
    assert_eq!(joined(&mut h, "g", &first.member_id, 9_500).error_code, TOO_LARGE);
    // Their sessions end, and there is room again.
    h.pass_ms(60_000);
    h.commit_all();
    assert_eq!(h.broker.stats().groups[0].members, 0);
    assert_eq!(joined(&mut h, "g", "", 9_000).error_code, 0);
}

#[test]
fn an_assignment_that_a_group_has_no_room_for_is_refused() {
    let mut h = harness();
    let leader = joined(&mut h, "g", "", 100);
    let sync = |bytes: usize| SyncGroupRequest {
        group_id: "g".into(),
        generation_id: leader.generation_id,
        member_id: leader.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: leader.member_id.clone(),
            assignment: Bytes::from(vec![7; bytes]),
        }],
        ..Default::default()
    };
    assert_eq!(h.ask(3, &sync(10_000)).error_code, TOO_LARGE);
    let synced = h.ask(3, &sync(5_000));
    assert_eq!((synced.error_code, synced.assignment.len()), (0, 5_000));
}

#[test]
fn all_groups_together_have_a_bound_and_what_ends_makes_room() {
    let mut h = harness();
    for n in 0..6 {
        assert_eq!(joined(&mut h, &format!("g{n}"), "", 7_000).error_code, 0, "{n}");
    }
    assert_eq!(joined(&mut h, "one more", "", 7_000).error_code, NO_ROOM);
    assert_eq!(joined(&mut h, "small", "", 1_000).error_code, 0);
    h.pass_ms(60_000);
    h.commit_all();
    assert_eq!(joined(&mut h, "one more", "", 7_000).error_code, 0);
}

#[test]
fn what_groups_take_is_known_after_a_start() {
    let mut h = harness();
    for n in 0..6 {
        let group = format!("g{n}");
        let leader = joined(&mut h, &group, "", 7_000);
        let sync = SyncGroupRequest {
            group_id: Str::copy_from(&group),
            generation_id: leader.generation_id,
            member_id: leader.member_id,
            ..Default::default()
        };
        assert_eq!(h.ask(3, &sync).error_code, 0);
    }
    let mut h = h.reopened();
    assert_eq!(h.broker.stats().groups.iter().map(|group| group.members).sum::<usize>(), 6);
    assert_eq!(joined(&mut h, "one more", "", 7_000).error_code, NO_ROOM);
    assert_eq!(joined(&mut h, "small", "", 1_000).error_code, 0);
}

#[test]
fn a_consumer_group_refuses_what_it_has_no_room_for_in_words() {
    let mut h = harness();
    let beat = |member: &str, topics: usize| ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: Str::copy_from(member),
        member_epoch: 0,
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(
            (0..topics).map(|n| Str::from(format!("topic-{n:04}"))).collect(),
        ),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let refused = h.ask(1, &beat("a", 2_000));
    assert_eq!(refused.error_code, TOO_LARGE);
    assert!(refused.error_message.is_some());
    assert!(h.broker.stats().groups.is_empty(), "nothing is kept of it");
    let topics = 4_000 / (ENTRY_BYTES + "topic-0000".len());
    assert_eq!(h.ask(1, &beat("a", topics)).error_code, 0);
    assert_eq!(h.ask(1, &beat("b", topics)).error_code, 0);
    assert_eq!(h.ask(1, &beat("c", topics)).error_code, TOO_LARGE);
    assert_eq!(h.broker.stats().groups[0].members, 2);
}

fn join_with(protocols: Vec<JoinGroupRequestProtocol>) -> JoinGroupRequest {
    JoinGroupRequest { protocols, ..join("g", "", 0) }
}

#[test]
fn a_member_offers_a_hundred_protocols_at_most() {
    let mut h = Harness::with_coordinator();
    let named = |n: usize| JoinGroupRequestProtocol {
        name: Str::from(format!("p{n}")),
        ..Default::default()
    };
    let refused = h.ask(3, &join_with((0..101).map(named).collect()));
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
    assert!(h.broker.stats().groups.is_empty(), "nothing is kept of it");
    assert_eq!(h.ask(3, &join_with((0..100).map(named).collect())).error_code, 0);
}

#[test]
fn protocols_topics_and_assignments_without_a_text_take_room_too() {
    let mut h = harness();
    let without_name = || JoinGroupRequestProtocol::default();
    let eighty = (0..80).map(|_| without_name()).collect();
    let mut full = join_with(eighty);
    assert_eq!(h.ask(3, &full).error_code, 0, "5,120 bytes of entries");
    full.group_id = "h".into();
    let mut small = harness_of(5_000);
    assert_eq!(small.ask(3, &full).error_code, TOO_LARGE);
    let leader = joined(&mut h, "leads", "", 100);
    let sync = |parts: usize| SyncGroupRequest {
        group_id: "leads".into(),
        generation_id: leader.generation_id,
        member_id: leader.member_id.clone(),
        assignments: (0..parts).map(|_| SyncGroupRequestAssignment::default()).collect(),
        ..Default::default()
    };
    assert_eq!(h.ask(3, &sync(200)).error_code, TOO_LARGE);
    let named = SyncGroupRequestAssignment {
        member_id: Str::from("m".repeat(12_000)),
        ..Default::default()
    };
    let of_nobody = SyncGroupRequest { assignments: vec![named], ..sync(0) };
    assert_eq!(h.ask(3, &of_nobody).error_code, TOO_LARGE, "member ids count");
    assert_eq!(h.ask(3, &sync(50)).error_code, 0);
}
