//! Compaction as clients see it.

use std::ops::ControlFlow;

use weir_protocol::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use weir_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_protocol::api::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{ErrorCode, PartitionId, Str, TimestampMs};

use crate::harness::*;

impl Harness {
    /// Asks for a cleaning and does all upkeep.
    fn clean(&mut self, topic: &str, partition: i32) {
        self.commit_all();
        assert!(self.broker.request_clean(topic, PartitionId(partition)).unwrap());
        let mut idle = 0;
        while idle < 3 {
            match self.broker.begin_upkeep(self.now) {
                Some(upkeep) => {
                    let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
                    self.broker.finish_upkeep(done, self.now);
                    idle = 0;
                }
                None => idle += 1,
            }
            self.commit_all();
        }
    }
}

fn keyed(key: &str, value: &str, timestamp: i64) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(TimestampMs(timestamp), Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    builder.build()
}

fn list(h: &mut Harness, timestamp: i64) -> (i64, i64) {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition { timestamp, ..Default::default() }],
        }],
        ..Default::default()
    };
    let answer = h.ask(7, &request).topics.remove(0).partitions.remove(0);
    assert_eq!(answer.error_code, 0);
    (answer.offset, answer.timestamp)
}

#[test]
fn a_reader_finds_its_way_through_a_compacted_topic() {
    let mut h = Harness::new();
    h.create("t", 1, &[("cleanup.policy", "compact")]);
    for n in 0..30 {
        h.produce("t", 0, keyed(&format!("k{}", n % 3), &format!("v{n}"), START_MS + n));
    }
    h.clean("t", 0);
    let cleaner = h.broker.stats().cleaner;
    assert_eq!((cleaner.runs, cleaner.records_dropped, cleaner.uncleanable.len()), (1, 27, 0));
    assert!(cleaner.bytes_cleaned > 1_000, "{cleaner:?}");
    for from in [0, 13, 27] {
        assert_eq!(h.read("t", 0, from), ["v27", "v28", "v29"], "from {from}");
    }
    assert_eq!(h.read("t", 0, 28), ["v28", "v29"]);
    assert_eq!((list(&mut h, -2).0, list(&mut h, -1).0), (0, 30));
    assert_eq!(list(&mut h, START_MS), (27, START_MS + 27));
    assert_eq!(list(&mut h, START_MS + 28), (28, START_MS + 28));
    assert_eq!(list(&mut h, -3), (29, START_MS + 29));
    let answer = h.produce("t", 0, keyed("k0", "v30", START_MS));
    assert_eq!(answer.base_offset, 30);
    let mut h = h.reopened();
    assert_eq!(h.read("t", 0, 0), ["v27", "v28", "v29", "v30"]);
}

#[test]
fn a_topic_that_becomes_compacted_is_cleaned() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    for n in 0..10 {
        h.produce("t", 0, keyed("k", &format!("v{n}"), START_MS));
    }
    assert!(!h.broker.request_clean("t", PartitionId(0)).unwrap());
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![AlterableConfig {
                name: "cleanup.policy".into(),
                config_operation: 0,
                value: Some("compact,delete".into()),
            }],
        }],
        validate_only: false,
    };
    assert_eq!(h.ask(1, &request).responses[0].error_code, 0);
    h.clean("t", 0);
    assert_eq!(h.read("t", 0, 0), ["v9"]);
}

#[test]
fn only_what_is_there_can_be_cleaned() {
    let mut h = Harness::new();
    let unknown = Err(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(h.broker.request_clean("t", PartitionId(0)), unknown);
    h.create("t", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(h.broker.request_clean("t", PartitionId(1)), unknown);
}

fn commit_offsets(h: &mut Harness, group: &str, offset: i64) {
    let partitions = (0..4).map(|partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset + i64::from(partition_index),
        committed_leader_epoch: 0,
        committed_metadata: Some(Str::from(format!("note {offset}"))),
    });
    let request = OffsetCommitRequest {
        group_id: Str::copy_from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: partitions.collect(),
        }],
        ..OffsetCommitRequest::default()
    };
    let answer = h.ask(8, &request);
    assert!(answer.topics[0].partitions.iter().all(|one| one.error_code == 0));
}

fn all_offsets(h: &mut Harness, groups: &[&str]) -> String {
    let all = |group: &&str| OffsetFetchRequestGroup {
        group_id: Str::copy_from(group),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest {
        groups: groups.iter().map(all).collect(),
        ..OffsetFetchRequest::default()
    };
    format!("{:?}", h.ask(9, &request).groups)
}

#[test]
fn committed_offsets_are_the_same_after_compaction_and_restart() {
    let mut h = Harness::new();
    h.create("t", 4, &[]);
    let groups = ["g", "h", "i"];
    for n in 0..50 {
        for group in groups {
            commit_offsets(&mut h, group, n * 100);
        }
    }
    let before = all_offsets(&mut h, &groups);
    assert!(before.contains("note 4900"), "{before}");
    let size = |h: &Harness| {
        let topics = h.broker.stats().topics;
        topics.iter().find(|topic| topic.name == "__consumer_offsets").unwrap().size_bytes
    };
    let size_before = size(&h);
    for group in groups {
        let partition = weir_broker::offset_records::partition_of(group, 50);
        h.clean("__consumer_offsets", partition);
    }
    assert!(size(&h) * 20 < size_before, "{} of {size_before}", size(&h));
    assert_eq!(all_offsets(&mut h, &groups), before);
    let mut h = h.reopened();
    assert_eq!(all_offsets(&mut h, &groups), before);
    let mut h = h.after_power_cut(3);
    assert_eq!(all_offsets(&mut h, &groups), before);
}
