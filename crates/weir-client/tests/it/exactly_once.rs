//! Consume, transform, produce: through cancelled steps and faults each record read leads to its output
//! once and in order.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use weir_client::{
    AutoOffsetReset, ClientError, Consumer, ConsumerConfig, DoneBy, ErrorClass, ExactlyOnce,
    GroupConfig, Outbox, Producer, ProducerConfig, Record, TopicPartition, TransactionError,
    TxnVersion,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::PartitionId;
use weir_protocol::ApiKey;

use crate::fake::{FakeCluster, Fault, TxnFault};
use crate::seeded::{for_seeds, Rng};

const RECORDS: usize = 60;

async fn consumer(cluster: &FakeCluster, group: GroupConfig) -> Consumer {
    let config = ConsumerConfig {
        group: Some(group),
        auto_offset_reset: AutoOffsetReset::Earliest,
        poll_records_max: 5,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(cluster.client().await, config).unwrap();
    consumer.assign(&[TopicPartition::new("in", PartitionId(0))]).unwrap();
    consumer
}

async fn copier(cluster: &FakeCluster, version: TxnVersion, max_block_ms: u32) -> ExactlyOnce {
    let config = ProducerConfig {
        transactional_id: Some("copy".to_owned()),
        transaction_version_max: version,
        max_block_ms,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(cluster.client().await, config).unwrap();
    producer.ready("out").await.unwrap();
    ExactlyOnce::new(consumer(cluster, GroupConfig::new("g")).await, producer).await.unwrap()
}

async fn filled() -> FakeCluster {
    let cluster = FakeCluster::new(1).with_topic("in", 1).with_topic("out", 1);
    let source = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    source.ready("in").await.unwrap();
    for number in 0..RECORDS {
        source.send(Record::new("in", number.to_string().as_bytes())).unwrap();
    }
    source.close(Duration::from_secs(10)).await.unwrap();
    cluster
}

fn copy(record: &weir_client::ConsumedRecord, outbox: &mut Outbox) {
    outbox.push(&Record { topic: "out", value: record.value.as_deref(), ..Record::default() });
}

fn committed(cluster: &FakeCluster) -> Vec<String> {
    let entries = cluster.entries("out", 0).into_iter();
    entries.filter(|entry| entry.committed == Some(true)).map(|entry| entry.value).collect()
}

fn expected() -> Vec<String> {
    (0..RECORDS).map(|number| number.to_string()).collect()
}

/// Polls so many times, with a little time in between, then drops it.
async fn polled<F: Future>(future: F, times: u64) -> Option<F::Output> {
    tokio::pin!(future);
    for time in 0..times {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        match time % 3 {
            0 => tokio::time::sleep(Duration::from_millis(1)).await,
            _ => tokio::task::yield_now().await,
        }
    }
    None
}

async fn run(seed: u64) {
    let mut rng = Rng(seed);
    let cluster = filled().await;
    let mut faults = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    cluster.script(move |topic, _, _| match (topic, faults.below(10)) {
        ("out", 0) => Fault::CutBefore,
        ("out", 1) => Fault::CutAfter,
        ("out", 2..4) => Fault::Delay(Duration::from_millis(faults.below(5))),
        _ => Fault::None,
    });
    let mut faults = Rng(seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1);
    cluster.state().transactions.script = Box::new(move |_, _| match faults.below(12) {
        0 => TxnFault::CutBefore,
        1 => TxnFault::CutAfter,
        2 => TxnFault::Refuse(ErrorCode::CoordinatorLoadInProgress),
        _ => TxnFault::None,
    });
    let version = if rng.below(2) == 0 { TxnVersion::V1 } else { TxnVersion::V2 };
    let copier = copier(&cluster, version, 500).await;
    let (mut cancelled, mut failed, mut done) = (0, 0, 0);
    while committed(&cluster).len() < RECORDS {
        let limit = if rng.below(3) == 0 { u64::MAX } else { 1 + rng.below(200) };
        match polled(copier.step(Duration::from_millis(50), copy), limit).await {
            Some(Ok(_)) => done += 1,
            Some(Err(error)) => {
                assert_ne!(error.class(), ErrorClass::Fatal, "seed {seed}: {error}");
                failed += 1;
            }
            None => cancelled += 1,
        }
        assert!(cancelled + failed + done < 2_000, "seed {seed}: no end");
    }
    copier.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(committed(&cluster), expected(), "seed {seed} {version:?}: {cancelled} cancelled");
    let place = ("g".to_owned(), "in".to_owned(), 0);
    assert_eq!(cluster.state().transactions.committed[&place], RECORDS as i64, "seed {seed}");
}

#[test]
fn each_record_is_committed_once_however_steps_are_cancelled() {
    for_seeds(30, run);
}

#[tokio::test(start_paused = true)]
async fn a_step_ends_though_the_coordinator_does_not_answer_and_a_later_one_goes_on() {
    for api in [ApiKey::EndTxn, ApiKey::TxnOffsetCommit] {
        let cluster = filled().await;
        let copier = copier(&cluster, TxnVersion::V2, 1_000).await;
        cluster.state().transactions.script = Box::new(move |asked, _| match asked {
            asked if asked == api => TxnFault::Refuse(ErrorCode::CoordinatorLoadInProgress),
            ApiKey::EndTxn => TxnFault::Refuse(ErrorCode::CoordinatorLoadInProgress),
            _ => TxnFault::None,
        });
        for _ in 0..3 {
            let started = tokio::time::Instant::now();
            let error = copier.step(Duration::from_secs(1), copy).await.unwrap_err();
            assert_ne!(error.class(), ErrorClass::Fatal, "{error}");
            let waited = started.elapsed();
            assert!(waited < Duration::from_millis(3_200), "{api:?}: {waited:?}");
        }
        cluster.state().transactions.script = Box::new(|_, _| TxnFault::None);
        for _ in 0..RECORDS {
            copier.step(Duration::from_secs(1), copy).await.unwrap();
        }
        assert_eq!(committed(&cluster), expected(), "{api:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_aborts_the_step_that_was_dropped_and_its_records_are_read_again() {
    let cluster = filled().await;
    let first = copier(&cluster, TxnVersion::V2, 1_000).await;
    cluster.state().transactions.script = Box::new(|asked, _| match asked {
        ApiKey::TxnOffsetCommit => TxnFault::Refuse(ErrorCode::CoordinatorLoadInProgress),
        _ => TxnFault::None,
    });
    let step = first.step(Duration::from_secs(1), copy);
    assert!(tokio::time::timeout(Duration::from_millis(300), step).await.is_err());
    assert!(!cluster.entries("out", 0).is_empty());
    first.close(Duration::from_secs(5)).await.unwrap();
    let undecided = cluster.entries("out", 0).iter().filter(|e| e.committed.is_none()).count();
    assert_eq!(undecided, 0, "nothing is left open");
    cluster.state().transactions.script = Box::new(|_, _| TxnFault::None);
    let second = copier(&cluster, TxnVersion::V2, 1_000).await;
    for _ in 0..RECORDS {
        second.step(Duration::from_secs(1), copy).await.unwrap();
    }
    assert_eq!(committed(&cluster), expected());
}

#[tokio::test(start_paused = true)]
async fn a_group_that_commits_in_other_ways_is_refused() {
    let cluster = filled().await;
    let plain = || GroupConfig::new("g");
    for (key, group) in [
        ("auto_commit_interval_ms", plain().with_auto_commit(1_000)),
        ("auto_commit_records", GroupConfig { auto_commit_records: Some(10), ..plain() }),
        ("commit_on_revoke", GroupConfig { commit_on_revoke: true, ..plain() }),
        ("done_by", GroupConfig { done_by: DoneBy::Record, ..plain() }),
    ] {
        let config =
            ProducerConfig { transactional_id: Some("x".to_owned()), ..ProducerConfig::default() };
        let producer = Producer::new(cluster.client().await, config).unwrap();
        let made = ExactlyOnce::new(consumer(&cluster, group).await, producer).await;
        let Err(TransactionError::Client(ClientError::Config { key: refused, .. })) = made else {
            panic!("{key}: {made:?}");
        };
        assert_eq!(refused, key);
    }
    let config =
        ProducerConfig { transactional_id: Some("x".to_owned()), ..ProducerConfig::default() };
    let producer = Producer::new(cluster.client().await, config).unwrap();
    let lone = Consumer::new(cluster.client().await, ConsumerConfig::default()).unwrap();
    assert!(ExactlyOnce::new(lone, producer).await.is_err());
}
