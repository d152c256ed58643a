//! Requests that name more than one request may, or whose work would grow with the square of what they name.

#![allow(clippy::disallowed_methods)] // How long the work takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_broker::BrokerConfig;
use weir_log::MemDisk;
use weir_protocol::api::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use weir_protocol::api::create_acls::{AclCreation, CreateAclsRequest};
use weir_protocol::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use weir_protocol::api::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir_protocol::api::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use weir_protocol::api::delete_groups::DeleteGroupsRequest;
use weir_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir_protocol::{ErrorCode, Str};

use crate::harness::{config, Harness};

const INVALID: i16 = ErrorCode::InvalidRequest.code();

/// Ten names in one request.
fn harness() -> Harness {
    Harness::on(Arc::new(MemDisk::new()), BrokerConfig { request_names_max: 10, ..config() })
}

fn names(count: usize) -> Vec<Str> {
    (0..count).map(|n| Str::from(format!("t.{n}"))).collect()
}

fn creation(count: usize) -> CreateTopicsRequest {
    let topic = |name: Str| CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = names(count).into_iter().map(topic).collect();
    CreateTopicsRequest { topics, ..Default::default() }
}

#[test]
fn too_many_topics_in_one_request_are_refused_and_nothing_is_made() {
    let mut h = harness();
    let refused = h.ask(7, &creation(11)).topics;
    assert_eq!(refused.len(), 10);
    assert!(refused.iter().all(|one| one.error_code == INVALID && one.error_message.is_some()));
    assert!(h.broker.stats().topics.is_empty());
    assert!(h.ask(7, &creation(10)).topics.iter().all(|one| one.error_code == 0));
    let topics = names(11).into_iter().map(|name| CreatePartitionsTopic {
        name,
        count: 2,
        ..Default::default()
    });
    let grow = CreatePartitionsRequest { topics: topics.collect(), ..Default::default() };
    assert!(h.ask(3, &grow).results.iter().all(|one| one.error_code == INVALID));
    let state = |name: Str| DeleteTopicState { name: Some(name), ..Default::default() };
    let topics = names(11).into_iter().map(state).collect();
    let delete = DeleteTopicsRequest { topics, timeout_ms: 1_000, ..Default::default() };
    assert!(h.ask(6, &delete).responses.iter().all(|one| one.error_code == INVALID));
    assert_eq!(h.broker.stats().topics.len(), 10);
}

#[test]
fn too_many_groups_in_one_request_are_refused() {
    let mut h = harness();
    let delete = |count: usize| DeleteGroupsRequest { groups_names: names(count) };
    let refused = h.ask(2, &delete(11)).results;
    assert!(refused.iter().all(|one| one.error_code == INVALID), "{refused:?}");
    let unknown = ErrorCode::GroupIdNotFound.code();
    assert!(h.ask(2, &delete(10)).results.iter().all(|one| one.error_code == unknown));
}

fn rule(name: Str) -> AclCreation {
    AclCreation {
        resource_type: 2,
        resource_name: name,
        resource_pattern_type: 3,
        principal: "User:a".into(),
        host: "*".into(),
        operation: 3,
        permission_type: 3,
    }
}

fn filter(name: Option<Str>) -> DeleteAclsFilter {
    DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: name,
        pattern_type_filter: 3,
        principal_filter: Some("User:a".into()),
        host_filter: Some("*".into()),
        operation: 3,
        permission_type: 3,
    }
}

#[test]
fn too_many_rules_in_one_request_are_refused() {
    let mut h = harness();
    let create = |count: usize| CreateAclsRequest {
        creations: names(count).into_iter().map(rule).collect(),
    };
    let delete = |count: usize| DeleteAclsRequest {
        filters: names(count).into_iter().map(|name| filter(Some(name))).collect(),
    };
    assert!(h.ask(3, &create(11)).results.iter().all(|one| one.error_code == INVALID));
    assert!(h.ask(3, &create(10)).results.iter().all(|one| one.error_code == 0));
    assert!(h.ask(3, &delete(11)).filter_results.iter().all(|one| one.error_code == INVALID));
    let gone = h.ask(3, &delete(10)).filter_results;
    assert!(gone.iter().all(|one| one.error_code == 0 && one.matching_acls.len() == 1));
}

#[test]
fn many_filters_are_held_against_many_rules_only_if_that_is_little_work() {
    let mut h = Harness::new();
    let create = CreateAclsRequest { creations: names(3_000).into_iter().map(rule).collect() };
    assert!(h.ask(3, &create).results.iter().all(|one| one.error_code == 0));
    let wide = DeleteAclsRequest { filters: vec![filter(None); 4_000] };
    assert!(h.ask(3, &wide).filter_results.iter().all(|one| one.error_code == INVALID));
    // Those that mean one rule each are looked up, however many.
    let mut exact: Vec<_> = names(3_000).into_iter().map(|name| filter(Some(name))).collect();
    exact.extend(names(4_000).into_iter().map(|name| filter(Some(name))));
    let gone = h.ask(3, &DeleteAclsRequest { filters: exact }).filter_results;
    let matched: usize = gone.iter().map(|one| one.matching_acls.len()).sum();
    assert_eq!(matched, 3_000, "each once");
    let none = h.ask(3, &DeleteAclsRequest { filters: vec![filter(None)] });
    assert!(none.filter_results[0].matching_acls.is_empty());
}

/// By scans of all that is staged for each name this takes minutes in a test build.
#[test]
fn twenty_thousand_topics_in_one_request_are_planned_in_time() {
    let mut h = Harness::new();
    let begun = Instant::now();
    let planned = h.call(7, &creation(20_000));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    planned.ticket();
}

#[test]
fn a_group_has_a_hundred_patterns_at_most() {
    let mut h = Harness::with_coordinator();
    let beat = |n: usize, pattern: usize| ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: Str::from(format!("m{n}")),
        member_epoch: 0,
        rebalance_timeout_ms: 10_000,
        subscribed_topic_regex: Some(Str::from(format!("t{pattern}"))),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    for n in 0..100 {
        assert_eq!(h.ask(1, &beat(n, n)).error_code, 0, "{n}");
    }
    let refused = h.ask(1, &beat(100, 100));
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached.code());
    assert!(refused.error_message.is_some());
    assert_eq!(h.ask(1, &beat(100, 7)).error_code, 0, "one that the group has");
}
