//! Start, flush, close, and the errors named in the specification of the device data producer.

use std::sync::Arc;
use std::time::Duration;

use weir_client::{Acks, Codec, ProduceError, Producer, ProducerConfig, Record};
use weir_protocol::types::PartitionId;

use crate::fake::{FakeCluster, Fault};

const RECORD: Record<'_> = Record::new("t", b"v").with_partition(PartitionId(0));

#[tokio::test(start_paused = true)]
async fn the_errors_of_the_specification_come_by_name() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, _| Fault::Delay(Duration::from_secs(1)));
    let producer =
        Arc::new(Producer::new(cluster.client().await, ProducerConfig::default()).unwrap());
    producer.ready("t").await.unwrap();
    let running = producer.start().unwrap_err();
    assert_eq!(running.to_string(), "producer is already running");

    let delivery = producer.send(RECORD).unwrap();
    let closing = tokio::spawn({
        let producer = Arc::clone(&producer);
        async move { producer.close(Duration::from_secs(10)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let shutting = producer.send(RECORD).unwrap_err();
    assert_eq!(shutting.to_string(), "producer is shutting down");
    assert_eq!(producer.close(Duration::ZERO).await, Err(ProduceError::ShuttingDown));

    closing.await.unwrap().unwrap();
    delivery.await.unwrap();
    let stopped = producer.send(RECORD).unwrap_err();
    assert_eq!(stopped.to_string(), "producer is not running");
    assert_eq!(producer.close(Duration::ZERO).await, Err(ProduceError::NotRunning));
}

#[tokio::test(start_paused = true)]
async fn a_closed_producer_starts_again() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    producer.ready("t").await.unwrap();
    producer.send(RECORD).unwrap().await.unwrap();
    producer.close(Duration::from_secs(1)).await.unwrap();
    producer.start().unwrap();
    producer.send(RECORD).unwrap().await.unwrap();
    assert_eq!(cluster.values("t", 0).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn close_gives_up_at_its_deadline() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, _| Fault::Swallow);
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    producer.ready("t").await.unwrap();
    let delivery = producer.send(RECORD).unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(producer.close(Duration::from_secs(2)).await, Err(ProduceError::Abandoned));
    assert_eq!(started.elapsed().as_secs(), 2);
    assert_eq!(delivery.await, Err(ProduceError::Abandoned));
    assert_eq!(producer.stats().buffered_bytes, 0);

    cluster.script(|_, _, _| Fault::None);
    producer.start().unwrap();
    producer.send(RECORD).unwrap().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_what_was_sent_before() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, _| Fault::Delay(Duration::from_secs(1)));
    let config = ProducerConfig { linger_ms: 60_000, ..ProducerConfig::default() };
    let producer = Producer::new(cluster.client().await, config).unwrap();
    producer.ready("t").await.unwrap();
    let deliveries: Vec<_> = (0..10).map(|_| producer.send(RECORD).unwrap()).collect();
    producer.flush().await;
    assert!(deliveries.iter().all(|delivery| matches!(delivery.try_result(), Some(Ok(_)))));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_producer_fails_what_is_not_delivered() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, _| Fault::Swallow);
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    producer.ready("t").await.unwrap();
    let delivery = producer.send(RECORD).unwrap();
    drop(producer);
    assert_eq!(delivery.await, Err(ProduceError::Abandoned));
}

fn at_level(compression: Codec, level: i32) -> ProducerConfig {
    ProducerConfig { compression, compression_level: Some(level), ..ProducerConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn settings_that_contradict_each_other_are_refused() {
    let cluster = FakeCluster::new(1);
    let client = cluster.client().await;
    for (key, config) in [
        ("acks", ProducerConfig { acks: Acks::Leader, ..ProducerConfig::default() }),
        ("in_flight_max", ProducerConfig { in_flight_max: 6, ..ProducerConfig::default() }),
        ("in_flight_max", ProducerConfig { in_flight_max: 0, ..ProducerConfig::default() }),
        ("compression_level", at_level(Codec::Gzip, 10)),
        ("compression_level", at_level(Codec::Lz4, 1)),
        (
            "batch_bytes_max",
            ProducerConfig { batch_bytes_max: 9 << 20, ..ProducerConfig::default() },
        ),
    ] {
        let error = Producer::new(Arc::clone(&client), config).unwrap_err();
        assert_eq!(error.code(), "WEIR-0408");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_too_large_and_partitions_too_high_are_refused_at_once() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    producer.ready("t").await.unwrap();
    let large = vec![0; 1_000_001];
    let refused = producer.send(Record::new("t", &large)).unwrap_err();
    assert_eq!(refused.code(), "WEIR-0417");
    let refused = producer.send(RECORD.with_partition(PartitionId(1))).unwrap_err();
    assert_eq!(refused.code(), "WEIR-0416");
    let refused = producer.send(RECORD.with_partition(PartitionId(-1))).unwrap_err();
    assert_eq!(refused.code(), "WEIR-0416");
}
