//! A topic is deleted, its name is used again, and the power is cut in between: nothing of the first is the second's.

use std::sync::Arc;

use weir_broker::{BrokerConfig, KnownTopic};
use weir_log::disk::{Fault, FaultKind};
use weir_log::MemDisk;
use weir_protocol::api::create_topics::CreateTopicsRequest;
use weir_protocol::api::delete_topics::DeleteTopicsRequest;
use weir_protocol::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use weir_protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};
use weir_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_protocol::Str;

use crate::harness::{batch, create_request, Harness};

fn metadata(topic: &str, auto_create: bool) -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Str::copy_from(topic)),
            ..Default::default()
        }]),
        allow_auto_topic_creation: auto_create,
        ..Default::default()
    }
}

fn is_there(h: &mut Harness, topic: &str) -> bool {
    h.ask(9, &metadata(topic, false)).topics[0].error_code == 0
}

/// A topic with five records, which group `g` has read.
fn read_topic(h: &mut Harness, topic: &str) {
    h.create(topic, 1, &[]);
    for n in 0..5 {
        assert_eq!(h.produce(topic, 0, batch(&[&format!("old {n}")])).error_code, 0);
    }
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: Str::copy_from(topic),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 5,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    assert_eq!(h.ask(7, &commit).topics[0].partitions[0].error_code, 0);
    h.commit_all();
}

/// Deletes a topic with one commit: its answer leaves, and what the deletion appends is on its way.
fn delete(h: &mut Harness, topic: &str) {
    let request = DeleteTopicsRequest {
        topic_names: vec![Str::copy_from(topic)],
        timeout_ms: 1_000,
        ..Default::default()
    };
    let ticket = h.call(4, &request).ticket();
    h.commit();
    let answer = h.answer::<DeleteTopicsRequest>(ticket).expect("an answer");
    assert_eq!(answer.responses[0].error_code, 0);
}

/// Commits until the power is cut, `after` so many operations of the disk; or four times.
fn commit_until_cut(mut h: Harness, after: u64, seed: u64) -> Harness {
    h.disk.inject(Fault { after, kind: FaultKind::PowerOff });
    for _ in 0..4 {
        let Some(pending) = h.broker.begin_commit() else { break };
        let done = pending.run();
        h.broker.finish_commit(done, h.now);
    }
    let mut h = h.after_power_cut(seed);
    h.commit_all();
    h
}

#[test]
fn a_topic_made_again_has_nothing_of_the_one_before_wherever_the_power_is_cut() {
    let (mut made, mut not_made) = (0, 0);
    for after in 0..44 {
        for seed in 0..3 {
            for auto in [false, true] {
                let mut h = Harness::with_coordinator();
                read_topic(&mut h, "t");
                delete(&mut h, "t");
                match auto {
                    false => h.call(7, &create_request("t", 1, &[])).ticket(),
                    true => h.call(9, &metadata("t", true)).ticket(),
                };
                let mut h = commit_until_cut(h, after, seed);
                match is_there(&mut h, "t") {
                    true => made += 1,
                    false => not_made += 1,
                }
                let what = format!("after {after}, seed {seed}, auto {auto}");
                let answer = h.ask(7, &create_request("t", 1, &[]));
                assert!(matches!(answer.topics[0].error_code, 0 | 36), "{what}: {answer:?}");
                assert_eq!(h.offset_of("g", "t", false).1, -1, "{what}");
                assert_eq!(h.produce("t", 0, batch(&["new"])).error_code, 0, "{what}");
                assert_eq!(h.read("t", 0, 0), ["new"], "{what}");
            }
        }
    }
    assert!(made > 10 && not_made > 10, "{made} of one kind, {not_made} of the other");
}

#[test]
fn a_deletion_is_carried_out_though_another_topic_is_made_before_it_is_on_disk() {
    for after in 0..20 {
        for seed in 0..4 {
            let mut h = Harness::with_coordinator();
            read_topic(&mut h, "t");
            delete(&mut h, "t");
            h.call(7, &create_request("u", 1, &[])).ticket();
            let mut h = commit_until_cut(h, after, seed);
            let what = format!("after {after}, seed {seed}");
            assert!(!is_there(&mut h, "t"), "{what}");
            h.create("t", 1, &[]);
            assert_eq!(h.offset_of("g", "t", false).1, -1, "{what}");
            assert_eq!(h.produce("t", 0, batch(&["new"])).error_code, 0, "{what}");
            assert_eq!(h.read("t", 0, 0), ["new"], "{what}");
        }
    }
}

#[test]
fn the_start_that_ends_a_deletion_may_be_cut_short_too() {
    for first in 0..10 {
        for after in 0..14 {
            let mut h = Harness::with_coordinator();
            read_topic(&mut h, "t");
            delete(&mut h, "t");
            let mut h = {
                h.disk.inject(Fault { after: first, kind: FaultKind::PowerOff });
                if let Some(pending) = h.broker.begin_commit() {
                    let done = pending.run();
                    h.broker.finish_commit(done, h.now);
                }
                h.after_power_cut(first)
            };
            h.call(7, &create_request("t", 1, &[])).ticket();
            let mut h = commit_until_cut(h, after, after + 1);
            let what = format!("first {first}, after {after}");
            let answer = h.ask(7, &create_request("t", 1, &[]));
            assert!(matches!(answer.topics[0].error_code, 0 | 36), "{what}: {answer:?}");
            assert_eq!(h.offset_of("g", "t", false).1, -1, "{what}");
            assert_eq!(h.produce("t", 0, batch(&["new"])).error_code, 0, "{what}");
            assert_eq!(h.read("t", 0, 0), ["new"], "{what}");
        }
    }
}

#[test]
fn a_name_is_free_again_one_commit_after_its_topic_was_deleted() {
    let mut h = Harness::with_coordinator();
    read_topic(&mut h, "t");
    delete(&mut h, "t");
    let ticket = h.call(7, &create_request("t", 1, &[])).ticket();
    h.commit();
    assert!(h.answer::<CreateTopicsRequest>(ticket).is_none(), "it has only just begun");
    h.commit();
    assert_eq!(h.answer::<CreateTopicsRequest>(ticket).expect("an answer").topics[0].error_code, 0);
    assert_eq!(h.produce("t", 0, batch(&["new"])).base_offset, 0);
}

#[test]
fn a_topic_that_is_expected_comes_back_as_it_was_made() {
    let expected = KnownTopic {
        partitions: 3,
        configs: [("retention.ms".to_owned(), "86400000".to_owned())].into(),
    };
    let config = BrokerConfig {
        known_topics: [("expected".to_owned(), expected)].into(),
        ..crate::harness::config()
    };
    let mut h = Harness::on(Arc::new(MemDisk::new()), config);
    for topic in ["expected", "other"] {
        h.call(9, &metadata(topic, true));
        h.commit_all();
    }
    let partitions =
        |h: &mut Harness, topic| h.ask(9, &metadata(topic, false)).topics[0].partitions.len();
    assert_eq!((partitions(&mut h, "expected"), partitions(&mut h, "other")), (3, 4));
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "expected".into(),
            configuration_keys: Some(vec!["retention.ms".into()]),
        }],
        ..Default::default()
    };
    let configs = h.ask(4, &request).results.remove(0).configs;
    assert_eq!(configs[0].value.as_deref(), Some("86400000"));
}
