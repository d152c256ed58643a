//! The property that matters: through any mix of faults, what is acknowledged is in the log exactly
//! once, and each key's records are in the order they were sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_client::{PartitionGrowth, Producer, ProducerConfig, Record};
use weir_protocol::error_code::ErrorCode;

use crate::fake::{FakeCluster, Fault};
use crate::seeded::{for_seeds, in_virtual_time, Rng};

const PARTITIONS: usize = 3;
const KEYS: u64 = 7;
const RECORDS: u64 = 400;

fn fault(rng: &mut Rng, faults_percent: u64) -> Fault {
    if rng.below(100) >= faults_percent {
        return Fault::None;
    }
    match rng.below(8) {
        0 => Fault::MoveLeader,
        1 => Fault::CutBefore,
        2 => Fault::CutAfter,
        3 => Fault::Refuse(ErrorCode::NotLeaderOrFollower),
        4 => Fault::Refuse(ErrorCode::NotEnoughReplicas),
        5 => Fault::WriteAndRefuse(ErrorCode::NotEnoughReplicasAfterAppend),
        6 => Fault::WriteAndRefuse(ErrorCode::RequestTimedOut),
        _ => Fault::Delay(Duration::from_millis(rng.below(40))),
    }
}

async fn run(seed: u64) {
    let mut rng = Rng(seed);
    let cluster = FakeCluster::new(3).with_topic("t", PARTITIONS as i32);
    let faults_percent = 5 + rng.below(40);
    let mut script_rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    cluster.script(move |_, _, _| fault(&mut script_rng, faults_percent));
    // In some runs batches are found too large, and halved.
    if rng.below(4) == 0 {
        cluster.state().batch_bytes_max = 300;
    }
    let config = ProducerConfig {
        linger_ms: 1,
        batch_bytes_max: 300 + rng.below(1_000) as usize,
        in_flight_max: 1 + rng.below(5) as usize,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(cluster.client().await, config).unwrap();
    producer.ready("t").await.unwrap();
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut deliveries = Vec::new();
    for number in 0..RECORDS {
        let key = format!("dev-{}", rng.below(KEYS));
        let value = format!("{number}");
        let record = Record::new("t", value.as_bytes()).with_key(key.as_bytes());
        deliveries.push((value.clone(), producer.send_wait(record).await.unwrap()));
        sent.entry(key).or_default().push(value);
        if rng.below(10) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.below(20))).await;
        }
    }
    let mut placed = Vec::new();
    for (value, delivery) in deliveries {
        let metadata = delivery.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        placed.push((value, metadata));
    }
    let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let logs: Vec<_> = (0..PARTITIONS).map(|partition| cluster.entries("t", partition)).collect();
    for entry in logs.iter().flatten() {
        written.entry(entry.key.clone().unwrap()).or_default().push(entry.value.clone());
    }
    assert_eq!(written, sent, "seed {seed}: lost, doubled or out of order");
    for (value, metadata) in placed {
        if let Some(offset) = metadata.offset {
            let entry = &logs[metadata.partition.get() as usize][offset.get() as usize];
            assert_eq!(entry.value, value, "seed {seed}: a delivery names the wrong offset");
        }
    }
    assert_eq!(producer.stats().buffered_bytes, 0, "seed {seed}");
}

#[test]
fn nothing_is_lost_doubled_or_reordered_through_faults() {
    for_seeds(60, run);
}

/// A topic grows under load: keys move to other partitions, and yet no later record of a key is written
/// before an earlier one.
async fn grow(seed: u64, growth: PartitionGrowth) -> usize {
    let mut rng = Rng(seed);
    let cluster = FakeCluster::new(3).with_topic("t", 2);
    let mut script_rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    cluster.script(move |_, _, _| fault(&mut script_rng, 30));
    let config = ProducerConfig {
        linger_ms: 1,
        batch_bytes_max: 300,
        partition_growth: growth,
        ..ProducerConfig::default()
    };
    let client = cluster.client().await;
    let producer = Producer::new(Arc::clone(&client), config).unwrap();
    producer.ready("t").await.unwrap();
    let mut deliveries = Vec::new();
    for number in 0..RECORDS {
        if number % 100 == 50 {
            cluster.state().grow_topic("t", 2);
            client.refresh_soon();
        }
        let key = format!("dev-{}", rng.below(KEYS));
        let value = format!("{number:05}");
        let record = Record::new("t", value.as_bytes()).with_key(key.as_bytes());
        deliveries.push(producer.send_wait(record).await.unwrap());
        if rng.below(4) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.below(20))).await;
        }
    }
    for delivery in deliveries {
        delivery.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let partitions = cluster.state().topics["t"].len();
    assert_eq!(partitions, 10, "seed {seed}");
    let mut entries: Vec<_> = (0..partitions).flat_map(|p| cluster.entries("t", p)).collect();
    assert_eq!(entries.len() as u64, RECORDS, "seed {seed}");
    entries.sort_by_key(|entry| entry.written);
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut overtaken = 0;
    for entry in entries {
        let before = last.insert(entry.key.unwrap(), entry.value.clone());
        overtaken += usize::from(before.is_some_and(|before| before > entry.value));
    }
    overtaken
}

#[test]
fn order_per_key_holds_while_partitions_are_added() {
    let mut overtaken_at_once = 0;
    for seed in 1..20 {
        println!("seed {seed}");
        let run = |growth| in_virtual_time(grow(seed, growth));
        assert_eq!(run(PartitionGrowth::KeepOrder), 0, "seed {seed}");
        overtaken_at_once += run(PartitionGrowth::AtOnce);
    }
    assert!(overtaken_at_once > 0, "the test would see it");
}
