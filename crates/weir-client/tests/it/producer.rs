//! What a producer does when all is well, and when brokers are not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use weir_client::{
    Acks, Codec, Header, Intercepted, Interceptor, Partition, Partitioner, ProduceError, Producer,
    ProducerConfig, Record,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{Offset, PartitionId};

use crate::fake::{FakeCluster, Fault};

async fn producer(cluster: &FakeCluster, config: ProducerConfig) -> Producer {
    let producer = Producer::new(cluster.client().await, config).unwrap();
    producer.ready("t").await.unwrap();
    producer
}

fn to(partition: i32, value: &str) -> Record<'_> {
    Record::new("t", value.as_bytes()).with_partition(PartitionId(partition))
}

#[tokio::test(start_paused = true)]
async fn records_arrive_with_key_headers_and_offsets_in_order() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let headers = [Header { key: "event-type", value: Some(b"x") }];
    let mut deliveries = Vec::new();
    for number in 0..100 {
        let value = number.to_string();
        let record = Record::new("t", value.as_bytes()).with_key(b"dev-1").with_headers(&headers);
        deliveries.push(producer.send(record).unwrap());
    }
    for (number, delivery) in (0..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, Some(Offset(number)));
    }
    let entries = cluster.entries("t", 0);
    assert_eq!(entries.len(), 100);
    assert_eq!(entries[7].key.as_deref(), Some("dev-1"));
    assert_eq!(entries[7].headers, [("event-type".to_owned(), "x".to_owned())]);
    let stats = producer.stats();
    assert_eq!((stats.records_sent, stats.records_acked, stats.buffered_bytes), (100, 100, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idle_producer_sends_at_once() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let config = ProducerConfig { linger_ms: 5_000, ..ProducerConfig::default() };
    let producer = producer(&cluster, config).await;
    producer.send(to(0, "first")).unwrap().await.unwrap();
    let sent_at = tokio::time::Instant::now();
    producer.send(to(0, "second")).unwrap().await.unwrap();
    assert!(sent_at.elapsed() < Duration::from_millis(5), "{:?}", sent_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn keys_choose_the_partition_java_would_choose() {
    let cluster = FakeCluster::new(2).with_topic("t", 12);
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let delivery = producer.send(Record::new("t", b"v").with_key(b"abc")).unwrap();
    assert_eq!(delivery.await.unwrap().partition, PartitionId(479_470_107 % 12));
}

#[tokio::test(start_paused = true)]
async fn null_keys_pass_over_a_partition_without_room() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    cluster.script(|_, partition, _| if partition == 0 { Fault::Swallow } else { Fault::None });
    let config = ProducerConfig {
        batch_bytes_max: 1_000,
        partition_buffer_bytes_max: 10_000,
        ..ProducerConfig::default()
    };
    let producer = producer(&cluster, config).await;
    let value = "x".repeat(200);
    for _ in 0..60 {
        producer.send_wait(Record::new("t", value.as_bytes())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One connection stands still with partition 0; records went to partition 1 before that.
    let stats = producer.stats();
    assert!(stats.records_sent == 60, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_created_where_the_cluster_does_that() {
    let cluster = FakeCluster::new(1);
    cluster.state().auto_create_partitions = Some(3);
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    let record = Record::new("new", b"v");
    assert_eq!(
        producer.send(record).unwrap_err(),
        ProduceError::TopicNotReady { topic: "new".to_owned() }
    );
    producer.send_wait(record).await.unwrap().await.unwrap();
    assert_eq!(producer.partition_count("new"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_cannot_be_is_refused_by_name() {
    let cluster = FakeCluster::new(1);
    let config = ProducerConfig { max_block_ms: 500, ..ProducerConfig::default() };
    let producer = Producer::new(cluster.client().await, config).unwrap();
    let illegal = producer.send_wait(Record::new("a b", b"v")).await.unwrap_err();
    assert_eq!((illegal.code(), illegal.is_retriable()), ("WEIR-0415", false));
    let missing = producer.send_wait(Record::new("nope", b"v")).await.unwrap_err();
    assert_eq!((missing.code(), missing.is_retriable()), ("WEIR-0414", true));
}

#[tokio::test(start_paused = true)]
async fn a_cut_between_write_and_answer_makes_no_duplicate() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, count| if count <= 2 { Fault::CutAfter } else { Fault::None });
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let first = producer.send(to(0, "a")).unwrap();
    let second = producer.send(to(0, "b")).unwrap();
    assert_eq!(first.await.unwrap().offset, Some(Offset(0)));
    assert_eq!(second.await.unwrap().offset, Some(Offset(1)));
    assert_eq!(cluster.values("t", 0), ["a", "b"]);
    assert!(producer.stats().retries > 0);
}

#[tokio::test(start_paused = true)]
async fn a_moved_leader_is_found_and_order_kept() {
    let cluster = FakeCluster::new(3).with_topic("t", 1);
    cluster.script(|_, _, count| if count == 2 { Fault::MoveLeader } else { Fault::None });
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let mut deliveries = Vec::new();
    for number in 0..50 {
        deliveries.push(producer.send(to(0, &number.to_string())).unwrap());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let expected: Vec<String> = (0..50).map(|number: i32| number.to_string()).collect();
    assert_eq!(cluster.values("t", 0), expected);
    let nodes: Vec<i32> = cluster.state().produces.iter().map(|(node, _)| *node).collect();
    assert!(nodes.contains(&1) && nodes.contains(&2), "{nodes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_broker_does_not_hold_up_the_other() {
    let cluster = FakeCluster::new(2).with_topic("t", 2);
    cluster.script(|_, partition, _| match partition {
        0 => Fault::Delay(Duration::from_secs(5)),
        _ => Fault::None,
    });
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let slow = producer.send(to(0, "slow")).unwrap();
    let started = tokio::time::Instant::now();
    for _ in 0..20 {
        producer.send(to(1, "fast")).unwrap().await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(slow.try_result(), None);
    slow.await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_partition_fills_its_own_bound_only() {
    let cluster = FakeCluster::new(2).with_topic("t", 2);
    cluster.script(|_, partition, _| if partition == 0 { Fault::Swallow } else { Fault::None });
    let config = ProducerConfig {
        batch_bytes_max: 1_000,
        partition_buffer_bytes_max: 5_000,
        buffer_bytes_max: 20_000,
        ..ProducerConfig::default()
    };
    let producer = producer(&cluster, config).await;
    let value = "x".repeat(300);
    let refused = loop {
        match producer.send(to(0, &value)) {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    let ProduceError::BufferFull { partition, limit_bytes, used_bytes } = refused else {
        panic!("{refused}");
    };
    assert_eq!((partition, limit_bytes), (Some(PartitionId(0)), 5_000));
    assert!(used_bytes <= 5_000);
    for _ in 0..100 {
        producer.send_wait(to(1, &value)).await.unwrap().await.unwrap();
    }
    assert_eq!(cluster.values("t", 1).len(), 100);
}

#[tokio::test(start_paused = true)]
async fn send_wait_waits_for_room_and_no_longer_than_max_block() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, count| match count {
        1 => Fault::Delay(Duration::from_secs(2)),
        2 => Fault::Swallow,
        _ => Fault::None,
    });
    let config = ProducerConfig {
        batch_bytes_max: 1_000,
        partition_buffer_bytes_max: 1_000,
        buffer_bytes_max: 1_000,
        max_block_ms: 3_000,
        ..ProducerConfig::default()
    };
    let producer = producer(&cluster, config).await;
    let value = "x".repeat(600);
    producer.send(to(0, &value)).unwrap();
    let started = tokio::time::Instant::now();
    producer.send_wait(to(0, &value)).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(2));
    let started = tokio::time::Instant::now();
    let refused = producer.send_wait(to(0, &value)).await.unwrap_err();
    assert!(matches!(refused, ProduceError::BufferFull { .. }), "{refused}");
    assert_eq!(started.elapsed().as_millis() / 10, 300);
    assert!(refused.to_string().starts_with("message buffer is full"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_end_is_met_with_a_new_identity_and_order_kept() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster, ProducerConfig::default()).await;
    producer.send(to(0, "before")).unwrap().await.unwrap();
    cluster.state().topics.get_mut("t").unwrap()[0].log.forget_producers();
    let mut deliveries = Vec::new();
    for number in 0..30 {
        deliveries.push(producer.send(to(0, &number.to_string())).unwrap());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let entries = cluster.entries("t", 0);
    let values: Vec<&str> = entries.iter().map(|entry| entry.value.as_str()).collect();
    let expected: Vec<String> = (0..30).map(|number: i32| number.to_string()).collect();
    assert_eq!(values[0], "before");
    assert_eq!(values[1..], expected);
    assert_ne!(entries[0].producer, entries[1].producer);
    assert_eq!(entries[1].sequence, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_fails_alone() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, count| match count {
        2 => Fault::Refuse(ErrorCode::InvalidRecord),
        _ => Fault::None,
    });
    let producer = producer(&cluster, ProducerConfig::default()).await;
    producer.send(to(0, "a")).unwrap().await.unwrap();
    let refused = producer.send(to(0, "b")).unwrap().await.unwrap_err();
    let ProduceError::Refused { code, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*code, ErrorCode::InvalidRecord);
    assert!(!refused.is_retriable());
    producer.send(to(0, "c")).unwrap().await.unwrap();
    assert_eq!(cluster.values("t", 0), ["a", "c"]);
    assert_eq!(producer.stats().records_failed, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_delivery_timeout_no_sequence_is_used_again() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.script(|_, _, count| match count {
        2..=4 => Fault::CutBefore,
        _ => Fault::None,
    });
    let config =
        ProducerConfig { retries_max: 2, delivery_timeout_ms: 10_000, ..ProducerConfig::default() };
    let producer = producer(&cluster, config).await;
    producer.send(to(0, "a")).unwrap().await.unwrap();
    let lost = producer.send(to(0, "lost")).unwrap().await.unwrap_err();
    assert_eq!((lost.code(), lost.is_retriable()), ("WEIR-0418", true));
    producer.send(to(0, "c")).unwrap().await.unwrap();
    let entries = cluster.entries("t", 0);
    let values: Vec<&str> = entries.iter().map(|entry| entry.value.as_str()).collect();
    assert_eq!(values, ["a", "c"]);
    assert_ne!(entries[0].producer, entries[1].producer, "a new identity after a possible hole");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stays_away_is_told_of_at_each_attempt_and_what_was_never_sent_is_said_so() {
    let cluster = FakeCluster::new(2).with_topic("t", 2);
    let config = ProducerConfig { delivery_timeout_ms: 3_000, ..ProducerConfig::default() };
    let producer = producer(&cluster, config).await;
    let mut attempts = producer.attempts();
    cluster.state().down.push(2);
    let started = tokio::time::Instant::now();
    let sent = producer.send(to(1, "v")).unwrap();
    attempts.wait_for(|attempts| attempts.failed_in_row >= 5).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(2_500), "{:?}", started.elapsed());
    let lost = sent.await.unwrap_err();
    assert!(matches!(lost, ProduceError::NotSent { timeout_ms: 3_000, .. }), "{lost}");
    assert_eq!((lost.code(), lost.is_retriable()), ("WEIR-0426", true));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    cluster.state().down.clear();
    producer.send(to(1, "w")).unwrap().await.unwrap();
    assert_eq!(cluster.values("t", 1), ["w"]);
    assert_eq!(producer.stats().buffered_bytes, 0);
    assert_eq!(attempts.borrow().failed_in_row, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_said_not_to_be_sent_is_left_out_of_a_request_with_others() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    cluster.state().hold_ids = true;
    let config = ProducerConfig { delivery_timeout_ms: 3_000, ..ProducerConfig::default() };
    let producer = producer(&cluster, config).await;
    cluster.state().mute_new = true;
    let old = producer.send(to(0, "old")).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let young = producer.send(to(1, "young")).unwrap();
    // Both go into one request, which waits for its connection.
    cluster.state().hold_ids = false;
    let error = old.await.unwrap_err();
    assert!(matches!(error, ProduceError::NotSent { .. }), "{error}");
    cluster.state().mute_new = false;
    young.await.unwrap();
    assert_eq!(cluster.values("t", 1), ["young"]);
    assert_eq!(cluster.values("t", 0), [""; 0], "its sender may have sent it elsewhere by now");
    producer.send(to(0, "next")).unwrap().await.unwrap();
    assert_eq!(cluster.values("t", 0), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn without_acks_deliveries_complete_without_offset() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    // Kafka answers no produce with acks none; nor does the script.
    cluster.script(|_, _, _| Fault::Swallow);
    let config =
        ProducerConfig { acks: Acks::None, idempotent: false, ..ProducerConfig::default() };
    let producer = producer(&cluster, config).await;
    assert_eq!(producer.send(to(0, "v")).unwrap().await.unwrap().offset, None);
    assert_eq!(producer.stats().buffered_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn send_batch_answers_for_all_its_records() {
    let cluster = FakeCluster::new(2).with_topic("t", 4);
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let ((), delivery) = producer.send_batch(|appender| {
        for number in 0..1_000 {
            let key = format!("dev-{}", number % 50);
            let record = Record { topic: "t", key: Some(key.as_bytes()), ..Record::default() };
            appender
                .append_with(&record, 16, |out| {
                    out.extend_from_slice(number.to_string().as_bytes())
                })
                .unwrap();
        }
    });
    assert_eq!(delivery.count(), 1_000);
    delivery.wait().await.unwrap();
    let written: usize = (0..4).map(|partition| cluster.values("t", partition).len()).sum();
    assert_eq!(written, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_batch_delivery_tells_of_a_failure_inside() {
    let cluster = FakeCluster::new(1).with_topic("t", 2);
    cluster.script(|_, partition, _| match partition {
        1 => Fault::Refuse(ErrorCode::InvalidRecord),
        _ => Fault::None,
    });
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let ((), delivery) = producer.send_batch(|appender| {
        appender.append(&to(0, "a")).unwrap();
        appender.append(&to(1, "b")).unwrap();
    });
    assert!(matches!(delivery.wait().await, Err(ProduceError::Refused { .. })));
    assert_eq!(cluster.values("t", 0), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_too_large_goes_in_parts_and_every_record_knows_its_offset() {
    for codec in Codec::ALL {
        let cluster = FakeCluster::new(1).with_topic("t", 1);
        cluster.state().batch_bytes_max = 1_000;
        let config = ProducerConfig { compression: codec, ..ProducerConfig::default() };
        let producer = producer(&cluster, config).await;
        let mut deliveries = Vec::new();
        for number in 0..300_u32 {
            // Digits that no codec makes much smaller.
            let value: String = (1..12)
                .map(|n| (number * 7_919 + 1).wrapping_mul(n * 104_729).to_string())
                .collect();
            deliveries.push((value.clone(), producer.send(to(0, &value)).unwrap()));
        }
        producer.flush().await;
        for (place, (value, delivery)) in deliveries.into_iter().enumerate() {
            let offset = delivery.await.unwrap().offset.unwrap().get() as usize;
            assert_eq!(offset, place, "{codec}");
            assert_eq!(cluster.entries("t", 0)[offset].value, value, "{codec}");
        }
        assert_eq!(cluster.entries("t", 0).len(), 300);
        let splits = producer.stats().splits;
        assert!(splits > 2, "{codec}: {splits}");
        // From each batch it learns, until it knows what the broker takes.
        let mut splits = Vec::new();
        for _ in 0..12 {
            let before = producer.stats().splits;
            for number in 0..20 {
                let value: String = (1..12).map(|n| (number * n * 104_729).to_string()).collect();
                producer.send_wait(to(0, &value)).await.unwrap();
            }
            producer.flush().await;
            splits.push(producer.stats().splits - before);
        }
        assert_eq!(splits.last(), Some(&0), "{codec}: {splits:?}");
        let again = producer.stats();
        assert_eq!(again.buffered_bytes, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_too_large_for_the_broker_fails_alone_among_its_batch() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.state().batch_bytes_max = 1_000;
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let large = "x".repeat(2_000);
    let ((), all) = producer.send_batch(|appender| {
        for value in ["a", "b", large.as_str(), "c", "d"] {
            appender.append(&to(0, value)).unwrap();
        }
    });
    let error = all.wait().await.unwrap_err();
    let ProduceError::Refused { code, .. } = &error else { panic!("{error}") };
    assert_eq!(*code, ErrorCode::MessageTooLarge);
    assert_eq!(cluster.values("t", 0), ["a", "b", "c", "d"]);
    assert_eq!((producer.stats().records_acked, producer.stats().records_failed), (4, 1));
}

/// Routes by a header, as the router of spec 003.
#[derive(Debug)]
struct Route;

impl Interceptor for Route {
    fn on_send(&self, record: &mut Intercepted<'_>) {
        let target = record.header("target_topic").map(<[u8]>::to_vec);
        if let Some(target) = target.and_then(|target| String::from_utf8(target).ok()) {
            record.set_topic(target);
            record.set_key(Some(b"abc".to_vec()));
            record.remove_header("target_topic");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_interceptor_changes_topic_and_key_before_the_partition_is_chosen() {
    let cluster = FakeCluster::new(1).with_topic("t", 1).with_topic("other", 12);
    let config =
        ProducerConfig { interceptors: vec![Arc::new(Route)], ..ProducerConfig::default() };
    let producer = producer(&cluster, config).await;
    let headers = [Header { key: "target_topic", value: Some(b"other") }];
    let record = Record::new("t", b"v").with_headers(&headers);
    // The topic it names is ready, the one it goes to is not yet.
    let metadata = producer.send_wait(record).await.unwrap().await.unwrap();
    let place = 479_470_107 % 12;
    assert_eq!(metadata.partition, PartitionId(place));
    let entry = &cluster.entries("other", place as usize)[0];
    assert_eq!((entry.key.as_deref(), entry.headers.len()), (Some("abc"), 0));

    let ((), delivery) = producer.send_batch(|appender| {
        appender.append(&record).unwrap();
        let in_place = Record { value: None, ..record };
        appender.append_with(&in_place, 8, |out| out.extend_from_slice(b"in place")).unwrap();
        appender.append(&Record::new("t", b"stays")).unwrap();
    });
    delivery.wait().await.unwrap();
    assert_eq!(cluster.values("other", place as usize), ["v", "v", "in place"]);
    assert_eq!(cluster.values("t", 0), ["stays"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_waits_for_its_partition_and_a_record_without_one_goes_elsewhere() {
    for (partitioner, moves) in [
        (Partitioner::Murmur2, false),
        (Partitioner::Crc32, false),
        (Partitioner::Sticky, true),
        (Partitioner::RoundRobin, true),
    ] {
        let cluster = FakeCluster::new(1).with_topic("t", 2);
        let config = ProducerConfig { partitioner, ..ProducerConfig::default() };
        let producer = producer(&cluster, config).await;
        let home = producer.send(Record::new("t", b"v").with_key(b"k")).unwrap().partition();
        producer.flush().await;
        cluster.state().topics.get_mut("t").unwrap()[home.get() as usize].leader = -1;
        producer.ready("t").await.unwrap();
        // Until the metadata without the leader is there.
        tokio::time::sleep(Duration::from_secs(301)).await;
        for _ in 0..3 {
            let keyed = producer.send(Record::new("t", b"v").with_key(b"k")).unwrap();
            assert_eq!(keyed.partition() != home, moves, "a key decides alone");
            let keyless = producer.send(Record::new("t", b"v")).unwrap();
            assert_ne!(keyless.partition(), home);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_throttles_is_left_alone_for_so_long_and_the_figures_say_it() {
    let cluster = FakeCluster::new(2).with_topic("t", 2);
    let producer = producer(&cluster, ProducerConfig::default()).await;
    cluster.state().throttle_ms = 2_000;
    producer.send(to(0, "a")).unwrap().await.unwrap();
    cluster.state().throttle_ms = 0;
    let started = tokio::time::Instant::now();
    // The other broker has said nothing.
    producer.send(to(1, "b")).unwrap().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    producer.send(to(0, "c")).unwrap().await.unwrap();
    let waited = started.elapsed().as_millis();
    assert!((1_900..2_100).contains(&waited), "{waited}");
    let stats = producer.stats();
    assert_eq!((stats.throttle_ms, stats.throttle_ms_max, stats.answers), (2_000, 2_000, 3));
    assert_eq!((stats.batches, stats.record_error_ratio()), (3, Some(0.0)));
    assert_eq!(stats.buffer_available_bytes(), ProducerConfig::default().buffer_bytes_max);
    assert!(stats.batch_bytes_avg().is_some_and(|bytes| bytes > 61.0));
}

#[tokio::test(start_paused = true)]
async fn a_throttle_beyond_reason_leaves_time_for_the_delivery() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let config = ProducerConfig { delivery_timeout_ms: 3_000, ..ProducerConfig::default() };
    let producer = producer(&cluster, config).await;
    for (throttle_ms, waits_ms) in [(i32::MAX, 0), (-1, 1_500), (0, 0)] {
        cluster.state().throttle_ms = throttle_ms;
        let started = tokio::time::Instant::now();
        producer.send_wait(to(0, "v")).await.unwrap().await.unwrap();
        let waited = started.elapsed().as_millis();
        assert!((waits_ms..waits_ms + 100).contains(&waited), "{throttle_ms}: {waited}");
    }
    assert_eq!(cluster.entries("t", 0).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_a_batch_has_one_of_its_own() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let config = ProducerConfig { batch_bytes_max: 1_000, ..ProducerConfig::default() };
    let producer = producer(&cluster, config).await;
    let large = "x".repeat(50_000);
    let ((), all) = producer.send_batch(|appender| {
        for value in ["a", large.as_str(), "b"] {
            appender.append(&to(0, value)).unwrap();
        }
    });
    all.wait().await.unwrap();
    assert_eq!(cluster.values("t", 0), ["a", large.as_str(), "b"]);
    assert_eq!(producer.stats().batches, 3);
}

#[tokio::test(start_paused = true)]
async fn a_batch_written_without_an_answer_and_then_too_large_is_not_written_again_in_halves() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let limit = cluster.clone();
    let mut is_first = true;
    cluster.script(move |_, _, _| match std::mem::take(&mut is_first) {
        true => Fault::CutAfter,
        false => Fault::None,
    });
    let producer = producer(&cluster, ProducerConfig::default()).await;
    let ((), all) = producer.send_batch(|appender| {
        for value in ["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc", "dddddddddd"] {
            appender.append(&to(0, value)).unwrap();
        }
    });
    let waiting = tokio::spawn(all.wait());
    while limit.entries("t", 0).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Somebody lowers max.message.bytes.
    limit.state().batch_bytes_max = 100;
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, ProduceError::DeliveryTimeout { .. }), "nobody can tell: {error}");
    assert!(producer.stats().splits > 0);
    assert_eq!(cluster.entries("t", 0).len(), 4, "once");
    producer.send_wait(to(0, "next")).await.unwrap().await.unwrap();
    assert_eq!(cluster.values("t", 0)[4..], ["next"]);
}

/// Sends a copy of each record by the producer it belongs to, and counts.
#[derive(Debug, Default)]
struct Audit {
    producer: OnceLock<Weak<Producer>>,
    seen: AtomicUsize,
}

impl Audit {
    fn copy(&self) {
        if let Some(producer) = self.producer.get().and_then(Weak::upgrade) {
            producer.send(Record::new("audit", b"copy").with_partition(PartitionId(0))).unwrap();
        }
    }
}

impl Interceptor for Audit {
    fn on_send(&self, record: &mut Intercepted<'_>) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        if record.topic() != "audit" {
            record.add_header("seen", None);
            self.copy();
        }
    }
}

impl Partition for Audit {
    fn partition(&self, _: &Record<'_>, _: i32) -> Option<i32> {
        self.copy();
        Some(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interceptors_and_partitioners_may_call_the_producer() {
    let cluster = FakeCluster::new(1).with_topic("t", 1).with_topic("audit", 1);
    let audit = Arc::new(Audit::default());
    let config = ProducerConfig {
        interceptors: vec![Arc::<Audit>::clone(&audit)],
        partitioner: Partitioner::Custom(Arc::<Audit>::clone(&audit)),
        ..ProducerConfig::default()
    };
    let producer = Arc::new(producer(&cluster, config).await);
    producer.ready("audit").await.unwrap();
    audit.producer.set(Arc::downgrade(&producer)).unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    let (calling, runtime) = (Arc::clone(&producer), tokio::runtime::Handle::current());
    // On a thread of its own: a lock that is taken twice stands still.
    std::thread::spawn(move || {
        calling.send(Record::new("t", b"a")).unwrap();
        calling.send_batch(|appender| {
            appender.append(&Record::new("t", b"b")).unwrap();
            appender.append_tracked(&Record::new("t", b"c")).unwrap();
            appender.append_with(&Record::new("t", b""), 1, |out| out.push(b'd')).unwrap();
        });
        runtime.block_on(calling.send_wait(Record::new("t", b"e"))).unwrap();
        done.send(()).unwrap();
    });
    let wait = move || is_done.recv_timeout(Duration::from_secs(20));
    tokio::task::spawn_blocking(wait).await.unwrap().expect("no call stands still");
    producer.flush().await;
    assert_eq!(cluster.values("t", 0), ["a", "b", "c", "d", "e"]);
    // One by the interceptor and one by the partitioner for each.
    assert_eq!(cluster.entries("audit", 0).len(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_interceptor_sees_a_record_once_however_long_it_waits() {
    let cluster = FakeCluster::new(1).with_topic("t", 1).with_topic("late", 1);
    let audit = Arc::new(Audit::default());
    let config = ProducerConfig {
        interceptors: vec![Arc::<Audit>::clone(&audit)],
        buffer_bytes_max: 300,
        partition_buffer_bytes_max: 300,
        batch_bytes_max: 300,
        record_bytes_max: 300,
        ..ProducerConfig::default()
    };
    let producer = producer(&cluster, config).await;
    // For its topic.
    producer.send_wait(Record::new("late", b"a")).await.unwrap().await.unwrap();
    assert_eq!(audit.seen.load(Ordering::Relaxed), 1);
    // For room.
    cluster.script(|_, _, _| Fault::Delay(Duration::from_millis(50)));
    for _ in 0..10 {
        producer.send_wait(to(0, &"x".repeat(100))).await.unwrap();
    }
    producer.flush().await;
    assert_eq!(audit.seen.load(Ordering::Relaxed), 11);
    assert!(cluster.entries("t", 0).iter().all(|entry| entry.headers.len() == 1));
}

/// Writes down what it is shown.
#[derive(Debug, Default)]
struct Look(Mutex<Vec<Option<Vec<u8>>>>);

impl Partition for Look {
    fn partition(&self, record: &Record<'_>, partitions: i32) -> Option<i32> {
        assert_eq!(partitions, 2);
        self.0.lock().unwrap().push(record.value.map(<[u8]>::to_vec));
        Some(1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_partitioner_of_the_program_sees_the_same_with_and_without_interceptors() {
    for interceptors in [Vec::new(), vec![Arc::new(Route) as Arc<dyn Interceptor>]] {
        let cluster = FakeCluster::new(1).with_topic("t", 2);
        let look = Arc::new(Look::default());
        let config = ProducerConfig {
            interceptors,
            topic_partitioners: vec![(
                "t".to_owned(),
                Partitioner::Custom(Arc::<Look>::clone(&look)),
            )],
            ..ProducerConfig::default()
        };
        let producer = producer(&cluster, config).await;
        producer.send(Record::new("t", b"tracked")).unwrap();
        let ((), delivery) = producer.send_batch(|appender| {
            appender.append(&Record::new("t", b"plain")).unwrap();
            // The value it carries is an old one: `write` puts the record's own in place.
            let stale = Record::new("t", b"stale");
            appender.append_with(&stale, 8, |out| out.extend_from_slice(b"in place")).unwrap();
        });
        delivery.wait().await.unwrap();
        let shown = std::mem::take(&mut *look.0.lock().unwrap());
        assert_eq!(shown, [Some(b"tracked".to_vec()), Some(b"plain".to_vec()), None]);
        assert_eq!(cluster.values("t", 1), ["tracked", "plain", "in place"]);
    }
}
