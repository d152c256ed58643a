//! Where partitions start when finding it takes its time or fails.

use std::time::Duration;

use weir_client::{AutoOffsetReset, Consumer, ConsumerConfig, GroupConfig, TopicPartition};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{Offset, PartitionId, TimestampMs};

use crate::fake::{FakeCluster, FakePartition};

const WAIT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", PartitionId(partition))
}

fn edit(cluster: &FakeCluster, partition: usize, edit: impl FnOnce(&mut FakePartition)) {
    edit(&mut cluster.state().topics.get_mut("t").unwrap()[partition]);
}

/// Puts records of this time at the end, each in a batch of its own.
fn append(cluster: &FakeCluster, to: usize, records: usize, time: i64) {
    for _ in 0..records {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs(time), None, Some(b"v"), &[]);
        edit(cluster, to, |partition| partition.log.push_batch(builder.build().to_vec(), 0));
    }
}

async fn assigned(cluster: &FakeCluster, config: ConsumerConfig, partitions: i32) -> Consumer {
    let consumer = Consumer::new(cluster.client().await, config).unwrap();
    consumer.assign(&(0..partitions).map(at).collect::<Vec<_>>()).unwrap();
    consumer
}

fn earliest() -> ConsumerConfig {
    ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() }
}

async fn poll(consumer: &Consumer) -> Vec<(i32, i64)> {
    let records = consumer.poll(WAIT).await.unwrap();
    records.iter().map(|record| (record.partition.get(), record.offset.get())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_seek_is_not_undone_by_a_time_that_no_record_has() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    append(&cluster, 0, 5, 1);
    let consumer = assigned(&cluster, earliest(), 1).await;
    assert_eq!(poll(&consumer).await.len(), 5);
    cluster.state().list_delay = SECOND;
    // While the end is looked for, and while the time is.
    for after in [SECOND / 2, SECOND + SECOND / 2] {
        consumer.seek_to_time(TimestampMs(100));
        tokio::time::sleep(after).await;
        consumer.seek(&at(0), Offset(2)).unwrap();
        tokio::time::sleep(3 * SECOND).await;
        assert_eq!(poll(&consumer).await, [(0, 2), (0, 3), (0, 4)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_comes_while_its_time_is_looked_for_is_read() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    append(&cluster, 0, 5, 1);
    let consumer = assigned(&cluster, ConsumerConfig::default(), 1).await;
    cluster.state().list_delay = SECOND;
    consumer.seek_to_time(TimestampMs(100));
    for _ in 0..8 {
        tokio::time::sleep(SECOND / 4).await;
        append(&cluster, 0, 1, 100);
    }
    assert_eq!(poll(&consumer).await[0], (0, 5));
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_holds_up_no_other() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    append(&cluster, 0, 1, 1);
    append(&cluster, 1, 1, 1);
    edit(&cluster, 1, |partition| partition.leader = -1);
    let consumer = assigned(&cluster, earliest(), 2).await;
    assert_eq!(poll(&consumer).await, [(0, 0)]);
    edit(&cluster, 1, |partition| partition.leader = 1);
    assert_eq!(poll(&consumer).await, [(1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_refused_fails_alone() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    append(&cluster, 0, 1, 1);
    edit(&cluster, 1, |partition| {
        partition.list_refusal = Some(ErrorCode::TopicAuthorizationFailed);
    });
    let consumer = assigned(&cluster, earliest(), 2).await;
    let refused = consumer.poll(WAIT).await.unwrap_err();
    assert_eq!(refused.broker_code(), Some(ErrorCode::TopicAuthorizationFailed));
    assert_eq!(poll(&consumer).await, [(0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_not_ready_holds_up_only_what_it_is_asked() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    append(&cluster, 0, 1, 1);
    append(&cluster, 1, 1, 1);
    cluster.state().group.fetch_refusal = Some(ErrorCode::CoordinatorLoadInProgress);
    let config = ConsumerConfig { group: Some(GroupConfig::new("g")), ..earliest() };
    let consumer = assigned(&cluster, config, 2).await;
    assert_eq!(consumer.poll(SECOND).await.unwrap(), []);
    assert!(consumer.seek_partition_to_time(&at(0), TimestampMs(0)).is_ok());
    assert_eq!(poll(&consumer).await, [(0, 0)]);
    cluster.state().group.fetch_refusal = None;
    assert_eq!(poll(&consumer).await, [(1, 0)]);
}
