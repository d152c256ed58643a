//! Which topics a client keeps in view, and which it may bring into being.

use std::sync::Arc;
use std::time::Duration;

use weir_client::admin::OffsetSpec;
use weir_client::{
    Admin, AutoOffsetReset, Consumer, ConsumerConfig, Producer, ProducerConfig, Record,
    TopicPartition,
};
use weir_protocol::types::{Offset, PartitionId};

use crate::fake::FakeCluster;

fn partition(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, PartitionId(0))
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_does_not_come_back_by_itself_but_by_the_next_record() {
    let cluster = FakeCluster::new(1);
    cluster.state().auto_create_partitions = Some(1);
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    let record = Record::new("t", b"v");
    producer.send_wait(record).await.unwrap().await.unwrap();
    cluster.state().topics.remove("t");
    // Past the age of metadata, and past the time a missing topic is kept.
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert!(!cluster.state().topics.contains_key("t"));
    producer.send_wait(record).await.unwrap().await.unwrap();
    assert_eq!(cluster.values("t", 0), ["v"]);
}

#[tokio::test(start_paused = true)]
async fn consumers_and_admin_calls_create_nothing_and_admin_calls_leave_nothing_in_view() {
    let cluster = FakeCluster::new(1).with_topic("there", 1);
    cluster.state().auto_create_partitions = Some(1);
    let client = cluster.client_with(|config| config.api_timeout_ms = 2_000).await.unwrap();
    let admin = Admin::new(Arc::clone(&client));
    let found = admin.list_offsets(&[(partition("there"), OffsetSpec::Latest)]).await.unwrap();
    assert_eq!(found, [(partition("there"), Some(Offset(0)))]);
    admin.list_offsets(&[(partition("nowhere"), OffsetSpec::Latest)]).await.unwrap_err();
    client.ping().await.unwrap();
    assert!(client.view().topics.is_empty(), "{:?}", client.view().topics.keys());

    let config =
        ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..Default::default() };
    let consumer = Consumer::new(client, config).unwrap();
    consumer.assign(&[partition("later")]).unwrap();
    assert!(consumer.poll(Duration::from_secs(1_000)).await.unwrap().is_empty());
    assert!(!cluster.state().topics.contains_key("later"));
    // It is waited for, however late it comes.
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    producer.send_wait(Record::new("later", b"v")).await.unwrap().await.unwrap();
    let records = consumer.poll(Duration::from_secs(10)).await.unwrap();
    assert_eq!(records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_topic_nobody_has_is_out_of_view_after_a_while() {
    let cluster = FakeCluster::new(1);
    let client = cluster.client().await;
    let config = ProducerConfig { max_block_ms: 500, ..ProducerConfig::default() };
    let producer = Producer::new(Arc::clone(&client), config).unwrap();
    producer.send_wait(Record::new("nope", b"v")).await.unwrap_err();
    assert!(client.view().topics.contains_key("nope"));
    tokio::time::sleep(Duration::from_secs(310)).await;
    assert!(client.view().topics.is_empty());
    let before = cluster.state().metadata_requests;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(cluster.state().metadata_requests - before <= 2, "nothing is looked for any more");
}
