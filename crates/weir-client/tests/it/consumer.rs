//! What a consumer reads, from where, and what it says when it cannot.

use std::time::Duration;

use weir_client::{
    AutoOffsetReset, ClientError, ConsumedRecord, Consumer, ConsumerConfig, IsolationLevel,
    Producer, ProducerConfig, Record, TopicPartition,
};
use weir_protocol::batch::{build_control, BatchBuilder, ControlMarker};
use weir_protocol::compression::Codec;
use weir_protocol::types::{Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use crate::fake::FakeCluster;

const WAIT: Duration = Duration::from_secs(30);

fn earliest() -> ConsumerConfig {
    ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() }
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", PartitionId(number))
}

async fn consumer(cluster: &FakeCluster, config: ConsumerConfig, partitions: i32) -> Consumer {
    let consumer = Consumer::new(cluster.client().await, config).unwrap();
    let all: Vec<TopicPartition> = (0..partitions).map(partition).collect();
    consumer.assign(&all).unwrap();
    consumer
}

async fn fill(cluster: &FakeCluster, partitions: i32, per_partition: i32) {
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    producer.ready("t").await.unwrap();
    for number in 0..per_partition {
        for to in 0..partitions {
            let value = format!("{to}:{number}");
            let record = Record::new("t", value.as_bytes()).with_partition(PartitionId(to));
            producer.send_wait(record).await.unwrap();
        }
    }
    producer.flush().await;
}

async fn read(consumer: &Consumer, count: usize) -> Vec<ConsumedRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let more = consumer.poll(WAIT).await.unwrap();
        assert!(!more.is_empty(), "only {} of {count} came", records.len());
        records.extend(more);
    }
    records
}

fn offsets(records: &[ConsumedRecord]) -> Vec<i64> {
    records.iter().map(|record| record.offset.get()).collect()
}

#[tokio::test(start_paused = true)]
async fn all_records_come_once_and_in_order_per_partition() {
    let cluster = FakeCluster::new(2).with_topic("t", 3);
    fill(&cluster, 3, 50).await;
    let config = ConsumerConfig { poll_records_max: 7, ..earliest() };
    let consumer = consumer(&cluster, config, 3).await;
    let records = read(&consumer, 150).await;
    assert_eq!(records.len(), 150);
    for number in 0..3 {
        let of_partition: Vec<ConsumedRecord> = records
            .iter()
            .filter(|record| record.partition == PartitionId(number))
            .cloned()
            .collect();
        assert_eq!(offsets(&of_partition), (0..50).collect::<Vec<i64>>());
        assert_eq!(of_partition[9].value.as_deref(), Some(format!("{number}:9").as_bytes()));
        assert_eq!(consumer.position(&partition(number)), Some(Offset(50)));
    }
    assert!(consumer.lag().iter().all(|(_, lag)| *lag == 0));
}

#[tokio::test(start_paused = true)]
async fn poll_returns_at_most_what_is_configured() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    fill(&cluster, 1, 100).await;
    let config = ConsumerConfig { poll_records_max: 30, ..earliest() };
    let consumer = consumer(&cluster, config, 1).await;
    let sizes: Vec<usize> = [
        consumer.poll(WAIT).await.unwrap().len(),
        consumer.poll(WAIT).await.unwrap().len(),
        consumer.poll(WAIT).await.unwrap().len(),
        consumer.poll(WAIT).await.unwrap().len(),
    ]
    .to_vec();
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.iter().all(|size| *size <= 30), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn latest_reads_only_what_comes() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    fill(&cluster, 1, 5).await;
    let consumer = consumer(&cluster, ConsumerConfig::default(), 1).await;
    assert!(consumer.poll(Duration::from_secs(2)).await.unwrap().is_empty());
    fill(&cluster, 1, 1).await;
    assert_eq!(offsets(&read(&consumer, 1).await), [5]);
}

#[tokio::test(start_paused = true)]
async fn seeking_into_a_batch_skips_its_front() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let mut builder = BatchBuilder::new(Codec::Lz4);
    for number in 0..10_u8 {
        builder.append(TimestampMs(1), None, Some(&[number]), &[]);
    }
    let batch = builder.build().to_vec();
    cluster.state().topics.get_mut("t").unwrap()[0].log.push_batch(batch, 9);
    let consumer = consumer(&cluster, earliest(), 1).await;
    assert_eq!(read(&consumer, 10).await.len(), 10);
    consumer.seek(&partition(0), Offset(7)).unwrap();
    assert_eq!(offsets(&read(&consumer, 3).await), [7, 8, 9]);
    consumer.seek(&partition(0), Offset(2)).unwrap();
    assert_eq!(offsets(&read(&consumer, 8).await), (2..10).collect::<Vec<i64>>());
    assert_eq!(consumer.seek(&partition(5), Offset(0)).unwrap_err().code(), "WEIR-0423");
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_is_gone_is_reset_or_told() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    fill(&cluster, 1, 10).await;
    let reset = consumer(&cluster, earliest(), 1).await;
    read(&reset, 10).await;
    cluster.state().topics.get_mut("t").unwrap()[0].log.start = 4;
    reset.seek(&partition(0), Offset(1)).unwrap();
    assert_eq!(read(&reset, 6).await[0].value.as_deref(), Some(&b"0:4"[..]));

    let config =
        ConsumerConfig { auto_offset_reset: AutoOffsetReset::None, ..ConsumerConfig::default() };
    let told = consumer(&cluster, config, 1).await;
    let error = told.poll(WAIT).await.unwrap_err();
    assert_eq!(error.code(), "WEIR-0420", "{error}");
    told.seek(&partition(0), Offset(1)).unwrap();
    let error = told.poll(WAIT).await.unwrap_err();
    assert!(matches!(error, ClientError::OffsetOutOfRange { offset: Offset(1), .. }), "{error}");
    told.seek(&partition(0), Offset(9)).unwrap();
    assert_eq!(offsets(&read(&told, 1).await), [9]);
}

#[tokio::test(start_paused = true)]
async fn a_moved_leader_is_followed() {
    let cluster = FakeCluster::new(2).with_topic("t", 1);
    fill(&cluster, 1, 10).await;
    let consumer = consumer(&cluster, earliest(), 1).await;
    read(&consumer, 10).await;
    cluster.state().move_leader("t", 0);
    fill(&cluster, 1, 10).await;
    assert_eq!(offsets(&read(&consumer, 10).await), (10..20).collect::<Vec<i64>>());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_told_and_nothing_jumps_over_it() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let push = |value: &[u8]| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs(1), None, Some(value), &[]);
        let batch = builder.build().to_vec();
        cluster.state().topics.get_mut("t").unwrap()[0].log.push_batch(batch, 0);
    };
    push(b"a");
    push(b"b");
    push(b"c");
    cluster.state().topics.get_mut("t").unwrap()[0].log.damage(1);
    let consumer = consumer(&cluster, earliest(), 1).await;
    assert_eq!(offsets(&read(&consumer, 1).await), [0]);
    let error = consumer.poll(WAIT).await.unwrap_err();
    assert!(matches!(error, ClientError::CorruptBatch { offset: Offset(1), .. }), "{error}");
    assert_eq!(consumer.position(&partition(0)), Some(Offset(1)));
    consumer.seek(&partition(0), Offset(2)).unwrap();
    assert_eq!(offsets(&read(&consumer, 1).await), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_told_once_beside_a_busy_partition_and_not_fetched_again() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    let push = |to: usize| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs(1), None, Some(b"v"), &[]);
        let batch = builder.build().to_vec();
        cluster.state().topics.get_mut("t").unwrap()[to].log.push_batch(batch, 0);
    };
    push(0);
    cluster.state().topics.get_mut("t").unwrap()[0].log.damage(0);
    push(1);
    let consumer = consumer(&cluster, earliest(), 2).await;
    let (mut errors, mut records) = (Vec::new(), 0);
    for _ in 0..100 {
        // There is always something to read in the other one.
        push(1);
        match consumer.poll(Duration::from_secs(2)).await {
            Ok(more) => records += more.len(),
            Err(error) => errors.push(error),
        }
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].code(), "WEIR-0422");
    assert!(records >= 99, "{records}");
    let fetches = cluster.state().fetches;
    consumer.poll(Duration::from_secs(10)).await.unwrap();
    consumer.poll(Duration::from_secs(10)).await.unwrap();
    let idle = cluster.state().fetches - fetches;
    assert!(idle <= 45, "two in a second, not {idle} in 20 s");
}

#[tokio::test(start_paused = true)]
async fn all_records_before_a_damaged_batch_come_however_few_a_poll_takes() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let push = |records: u8| {
        let mut builder = BatchBuilder::new(Codec::None);
        for number in 0..records {
            builder.append(TimestampMs(1), None, Some(&[number]), &[]);
        }
        let batch = builder.build().to_vec();
        let delta = i32::from(records) - 1;
        cluster.state().topics.get_mut("t").unwrap()[0].log.push_batch(batch, delta);
    };
    push(10);
    push(1);
    cluster.state().topics.get_mut("t").unwrap()[0].log.damage(1);
    let config = ConsumerConfig { poll_records_max: 4, ..earliest() };
    let consumer = consumer(&cluster, config, 1).await;
    assert_eq!(offsets(&read(&consumer, 10).await), (0..10).collect::<Vec<i64>>());
    let error = consumer.poll(WAIT).await.unwrap_err();
    assert!(matches!(error, ClientError::CorruptBatch { offset: Offset(10), .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_error_does_not_wait_until_a_busy_partition_is_read() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    let push = |to: usize| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs(1), None, Some(b"v"), &[]);
        let batch = builder.build().to_vec();
        cluster.state().topics.get_mut("t").unwrap()[to].log.push_batch(batch, 0);
    };
    push(0);
    cluster.state().topics.get_mut("t").unwrap()[0].log.damage(0);
    (0..500).for_each(|_| push(1));
    let config =
        ConsumerConfig { poll_records_max: 5, partition_fetch_bytes_max: 1_000, ..earliest() };
    let consumer = consumer(&cluster, config, 2).await;
    for polls in 0.. {
        // Time for the next fetch, so that no poll is without records.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Ok(records) = consumer.poll(WAIT).await else { break };
        assert!(polls < 20 && !records.is_empty(), "no error after {polls} polls");
    }
}

fn transactional(producer: i64, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_producer(ProducerId(producer), ProducerEpoch(0), Sequence(0));
    builder.set_transactional(true);
    builder.append(TimestampMs(1), None, Some(value), &[]);
    builder.build().to_vec()
}

#[tokio::test(start_paused = true)]
async fn aborted_records_and_markers_are_hidden() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    {
        let mut state = cluster.state();
        let log = &mut state.topics.get_mut("t").unwrap()[0].log;
        let marker = |producer, kind| {
            build_control(kind, ProducerId(producer), ProducerEpoch(0), 0, TimestampMs(1)).to_vec()
        };
        log.push_batch(transactional(7, b"aborted"), 0);
        log.push_batch(transactional(8, b"committed"), 0);
        log.push_batch(marker(7, ControlMarker::Abort), 0);
        log.push_batch(transactional(7, b"second try"), 0);
        log.push_batch(marker(8, ControlMarker::Commit), 0);
        log.push_batch(marker(7, ControlMarker::Commit), 0);
        log.aborted = vec![(7, 0)];
    }
    let values = |records: Vec<ConsumedRecord>| -> Vec<String> {
        let text = |record: ConsumedRecord| String::from_utf8(record.value.unwrap().to_vec());
        records.into_iter().map(|record| text(record).unwrap()).collect()
    };
    let committed = ConsumerConfig { isolation: IsolationLevel::ReadCommitted, ..earliest() };
    let strict = consumer(&cluster, committed, 1).await;
    assert_eq!(values(read(&strict, 2).await), ["committed", "second try"]);
    assert_eq!(strict.position(&partition(0)), Some(Offset(6)), "past the markers");
    let loose = consumer(&cluster, earliest(), 1).await;
    assert_eq!(values(read(&loose, 3).await), ["aborted", "committed", "second try"]);
}

#[tokio::test(start_paused = true)]
async fn paused_partitions_wait_and_lose_nothing() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    fill(&cluster, 2, 10).await;
    let consumer = consumer(&cluster, earliest(), 2).await;
    consumer.pause(&[partition(0)]);
    let records = read(&consumer, 10).await;
    assert!(records.iter().all(|record| record.partition == PartitionId(1)));
    assert!(consumer.poll(Duration::from_secs(3)).await.unwrap().is_empty());
    consumer.resume(&[partition(0)]);
    assert_eq!(offsets(&read(&consumer, 10).await), (0..10).collect::<Vec<i64>>());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_poll_loses_nothing() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    fill(&cluster, 1, 100).await;
    let config = ConsumerConfig { poll_records_max: 9, ..earliest() };
    let consumer = consumer(&cluster, config, 1).await;
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let cut_short = tokio::time::timeout(Duration::from_micros(1), consumer.poll(WAIT)).await;
        match cut_short {
            Ok(records) => seen.extend(offsets(&records.unwrap())),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    assert_eq!(seen, (0..100).collect::<Vec<i64>>());
}

#[tokio::test(start_paused = true)]
async fn poll_each_shows_what_poll_returns() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    fill(&cluster, 2, 40).await;
    let config = ConsumerConfig { poll_records_max: 7, ..earliest() };
    let consumer = consumer(&cluster, config, 2).await;
    let first = consumer.poll(WAIT).await.unwrap();
    let mut seen: Vec<(i32, i64, String)> = Vec::new();
    let mut see = |partition: i32, offset: i64, value: &[u8]| {
        seen.push((partition, offset, String::from_utf8(value.to_vec()).unwrap()));
    };
    let mut count = 0;
    for record in &first {
        see(record.partition.get(), record.offset.get(), record.value.as_deref().unwrap());
        count += 1;
    }
    while count < 80 {
        let more = consumer.poll_each(WAIT, |record| {
            see(record.partition.get(), record.offset.get(), record.value.unwrap());
        });
        count += more.await.unwrap();
    }
    seen.sort();
    let expected: Vec<(i32, i64, String)> =
        (0..2).flat_map(|p| (0..40).map(move |n| (p, n, format!("{p}:{n}")))).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn small_prefetch_still_reads_everything() {
    let cluster = FakeCluster::new(2).with_topic("t", 4);
    fill(&cluster, 4, 50).await;
    let config =
        ConsumerConfig { prefetch_bytes_max: 100, partition_fetch_bytes_max: 64, ..earliest() };
    let consumer = consumer(&cluster, config, 4).await;
    assert_eq!(read(&consumer, 200).await.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_pause_makes_room_for_the_others_at_once() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    let push = |to: usize| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs(1), None, Some(&[0; 200]), &[]);
        let batch = builder.build().to_vec();
        cluster.state().topics.get_mut("t").unwrap()[to].log.push_batch(batch, 0);
    };
    push(0);
    let config = ConsumerConfig { prefetch_bytes_max: 100, ..earliest() };
    let consumer = consumer(&cluster, config, 2).await;
    tokio::time::sleep(WAIT).await;
    // The first fills the room; nothing has been polled.
    push(1);
    tokio::time::sleep(WAIT).await;
    consumer.pause(&[partition(0)]);
    let records = consumer.poll(WAIT).await.unwrap();
    assert_eq!(records.first().map(|record| record.partition), Some(PartitionId(1)));
}

#[tokio::test(start_paused = true)]
async fn a_poll_may_wait_for_ever_and_bounds_of_nothing_are_refused() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let reader = consumer(&cluster, earliest(), 1).await;
    let polling = reader.poll(Duration::MAX);
    let filling = async {
        tokio::time::sleep(WAIT).await;
        fill(&cluster, 1, 1).await;
    };
    assert_eq!(tokio::join!(polling, filling).0.unwrap().len(), 1);
    let none = ConsumerConfig { prefetch_bytes_max: 0, ..earliest() };
    assert_eq!(Consumer::new(cluster.client().await, none).unwrap_err().code(), "WEIR-0408");
}

#[tokio::test(start_paused = true)]
async fn calls_that_need_a_group_say_so() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let consumer = consumer(&cluster, earliest(), 1).await;
    assert_eq!(consumer.subscribe(&["t"]).unwrap_err().code(), "WEIR-0423");
    assert_eq!(consumer.commit(&[]).await.unwrap_err().code(), "WEIR-0423");
    consumer.close().await.unwrap();
    assert_eq!(consumer.poll(WAIT).await.unwrap_err(), ClientError::Closed);
}
