//! Brokers that answer produces wrongly: whatever they say, each record is decided within its bound,
//! memory comes back, and a broker that has come to its senses is used again.

use std::time::Duration;

use weir_client::{ProduceError, Producer, ProducerConfig, Record};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::PartitionId;

use crate::fake::{FakeCluster, Fault};
use crate::seeded::{for_seeds, Rng};

const DELIVERY_TIMEOUT_MS: u32 = 5_000;
const REQUEST_TIMEOUT_MS: u32 = 1_000;

async fn producer(cluster: &FakeCluster) -> Producer {
    let client =
        cluster.client_with(|config| config.request_timeout_ms = REQUEST_TIMEOUT_MS).await.unwrap();
    let config =
        ProducerConfig { delivery_timeout_ms: DELIVERY_TIMEOUT_MS, ..ProducerConfig::default() };
    let producer = Producer::new(client, config).unwrap();
    producer.ready("t").await.unwrap();
    producer
}

fn record(value: &str) -> Record<'_> {
    Record::new("t", value.as_bytes()).with_partition(PartitionId(0))
}

/// An answer as it should be, damaged: cut short, of another length, of another request, with bits
/// turned, or replaced.
fn mangle(rng: &mut Rng, frame: &mut Vec<u8>) {
    match rng.below(7) {
        0 => frame.truncate(rng.index(frame.len())),
        1 => frame[0] = rng.below(256) as u8,
        2 => frame[3] = frame[3].wrapping_add(1 + rng.below(255) as u8),
        3 => frame[7] = frame[7].wrapping_add(1 + rng.below(255) as u8),
        4 => {
            for _ in 0..1 + rng.below(4) {
                let at = 8 + rng.index(frame.len() - 8);
                frame[at] = rng.below(256) as u8;
            }
        }
        // Every count and length in it is impossible.
        5 => frame[8..].fill(0xff),
        _ => frame.extend((0..rng.below(64)).map(|_| 0x7f)),
    }
}

async fn run(seed: u64) {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster).await;
    let mut rng = Rng(seed);
    cluster.state().mangle = Some(Box::new(move |frame| {
        if rng.below(3) > 0 {
            mangle(&mut rng, frame);
        }
    }));
    let mut deliveries = Vec::new();
    for number in 0..30 {
        let value = number.to_string();
        deliveries.push((value.clone(), producer.send(record(&value)).unwrap()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let bound = Duration::from_millis((DELIVERY_TIMEOUT_MS + 2 * REQUEST_TIMEOUT_MS).into());
    let decided = tokio::time::timeout(bound, producer.flush()).await;
    assert!(decided.is_ok(), "seed {seed}: not decided in time");
    cluster.state().mangle = None;
    let healed = producer.send(record("healed")).unwrap();
    healed.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let written = cluster.values("t", 0);
    assert_eq!(written.last().map(String::as_str), Some("healed"), "seed {seed}");
    let mut distinct = written.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), written.len(), "seed {seed}: doubled");
    let stats = producer.stats();
    assert_eq!(stats.buffered_bytes, 0, "seed {seed}");
    assert_eq!(stats.records_acked + stats.records_failed, 31, "seed {seed}");
}

#[test]
fn damaged_answers_cost_no_more_than_their_request() {
    for_seeds(40, run);
}

#[tokio::test(start_paused = true)]
async fn endless_not_leader_ends_with_the_delivery_timeout_and_is_no_storm() {
    let cluster = FakeCluster::new(3).with_topic("t", 1);
    cluster.script(|_, _, _| Fault::Refuse(ErrorCode::NotLeaderOrFollower));
    let producer = producer(&cluster).await;
    let asked = cluster.state().metadata_requests;
    let started = tokio::time::Instant::now();
    let error = producer.send(record("v")).unwrap().await.unwrap_err();
    let ProduceError::DeliveryTimeout { last, .. } = &error else { panic!("{error}") };
    assert!(last.contains("NOT_LEADER_OR_FOLLOWER"), "{last}");
    let elapsed_ms = started.elapsed().as_millis();
    assert!((5_000..6_000).contains(&elapsed_ms), "{elapsed_ms}");
    let produces = cluster.state().produces.len();
    assert!((4..40).contains(&produces), "{produces} requests in 5 s");
    let asked = cluster.state().metadata_requests - asked;
    assert!((4..120).contains(&asked), "{asked} lookups in 5 s");
    cluster.script(|_, _, _| Fault::None);
    producer.send(record("w")).unwrap().await.unwrap();
    assert_eq!(cluster.values("t", 0), ["w"]);
}

#[tokio::test(start_paused = true)]
async fn leaders_that_send_each_other_on_without_end_are_no_storm_either() {
    let cluster = FakeCluster::new(3).with_topic("t", 1);
    cluster.script(|_, _, _| Fault::MoveLeader);
    let producer = producer(&cluster).await;
    let error = producer.send(record("v")).unwrap().await.unwrap_err();
    assert!(matches!(error, ProduceError::DeliveryTimeout { .. }), "{error}");
    let produces = cluster.state().produces.len();
    assert!(produces < 120, "{produces} requests in 5 s");
}
