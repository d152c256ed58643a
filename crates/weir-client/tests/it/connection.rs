//! Brokers that answer late, wrongly, in another version, or not at all.

use std::time::Duration;

use weir_client::{Acks, ClientError, Producer, ProducerConfig, Record};
use weir_protocol::types::PartitionId;

use crate::fake::{FakeCluster, Fault};

#[tokio::test(start_paused = true)]
async fn an_older_broker_is_asked_again_in_its_version() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.state().api_versions_max = 2;
    cluster.client().await.ping().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_an_error_that_names_the_addresses() {
    let cluster = FakeCluster::new(1);
    cluster.state().down.push(1);
    let error = cluster.client_with(|_| {}).await.unwrap_err();
    assert_eq!((error.code(), error.is_retriable()), ("WEIR-0400", true));
    assert!(error.to_string().contains("node1:9092"), "{error}");
}

async fn garbage(bytes: Vec<u8>) -> ClientError {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let client = cluster.client_with(|config| config.request_timeout_ms = 1_000).await.unwrap();
    cluster.state().garbage = Some(bytes);
    let error = client.ping().await.unwrap_err();
    // The next attempt gets a new connection.
    client.ping().await.unwrap();
    error
}

#[tokio::test(start_paused = true)]
async fn a_wrong_correlation_id_ends_the_connection() {
    let error = garbage(vec![0, 0, 0, 8, 0x7f, 0, 0, 1, 0, 0, 0, 0]).await;
    assert_eq!(error.code(), "WEIR-0402");
    assert!(error.to_string().contains("was due"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn impossible_lengths_end_the_connection_and_cost_no_memory() {
    assert_eq!(garbage(vec![0x7f, 0xff, 0xff, 0xff, 0, 0]).await.code(), "WEIR-0402");
    assert_eq!(garbage(vec![0xff, 0xff, 0xff, 0xff]).await.code(), "WEIR-0402");
    assert_eq!(garbage(vec![0, 0, 0, 0]).await.code(), "WEIR-0402");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_in_the_middle_times_out() {
    let error = garbage(vec![0, 0, 1, 0, 0, 0, 0, 1]).await;
    assert_eq!(error.code(), "WEIR-0401", "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_closes_its_connection_and_is_tried_on_a_new_one() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, count| if count == 1 { Fault::Swallow } else { Fault::None });
    let client = cluster.client_with(|config| config.request_timeout_ms = 2_000).await.unwrap();
    let producer = Producer::new(client, ProducerConfig::default()).unwrap();
    producer.ready("t").await.unwrap();
    let connects = cluster.state().connects;
    let started = tokio::time::Instant::now();
    let record = Record::new("t", b"v").with_partition(PartitionId(0));
    producer.send(record).unwrap().await.unwrap();
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(4), "{waited:?}");
    assert!(cluster.state().connects > connects);
    assert_eq!(cluster.values("t", 0), ["v"]);
}

async fn a_stalled_reader(config: ProducerConfig) {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, count| if count == 1 { Fault::Stall } else { Fault::None });
    let client = cluster.client_with(|config| config.request_timeout_ms = 2_000).await.unwrap();
    let producer = Producer::new(client, config).unwrap();
    producer.ready("t").await.unwrap();
    let started = tokio::time::Instant::now();
    // More than the pipe holds, in several requests: the later ones cannot be written.
    let value = vec![b'x'; 100_000];
    for _ in 0..10 {
        producer.send(Record::new("t", &value).with_partition(PartitionId(0))).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    producer.flush().await;
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert_eq!(producer.stats().buffered_bytes, 0);
    assert!(cluster.values("t", 0).len() >= 4);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stops_reading_holds_no_write_past_its_deadline() {
    let config = ProducerConfig { batch_bytes_max: 200_000, ..ProducerConfig::default() };
    a_stalled_reader(config).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stops_reading_holds_no_write_without_acks_either() {
    let config = ProducerConfig {
        batch_bytes_max: 200_000,
        acks: Acks::None,
        idempotent: false,
        ..ProducerConfig::default()
    };
    a_stalled_reader(config).await;
}

#[tokio::test(start_paused = true)]
async fn a_blocked_write_ends_with_its_connection() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, count| if count == 1 { Fault::Stall } else { Fault::None });
    let client = cluster.client_with(|config| config.request_timeout_ms = 2_000).await.unwrap();
    let producer = Producer::new(client, ProducerConfig::default()).unwrap();
    producer.ready("t").await.unwrap();
    let started = tokio::time::Instant::now();
    let record = |value| Record::new("t", value).with_partition(PartitionId(0));
    let first = producer.send(record(b"first")).unwrap();
    // Written half a second before the first request is overdue, which closes the connection.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let second = producer.send(record(&[b'x'; 500_000])).unwrap();
    first.await.unwrap();
    second.await.unwrap();
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(3), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn metadata_is_refreshed_when_it_is_old() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let client = cluster.client_with(|config| config.metadata_max_age_ms = 60_000).await.unwrap();
    let before = cluster.state().metadata_requests;
    tokio::time::sleep(Duration::from_secs(330)).await;
    let refreshed = cluster.state().metadata_requests - before;
    assert!((4..=6).contains(&refreshed), "{refreshed}");
    drop(client);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cluster.state().metadata_requests;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(cluster.state().metadata_requests, before, "a dropped client asks no more");
}
