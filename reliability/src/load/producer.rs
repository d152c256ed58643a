//! A producer that never gives up: idempotent, acks=all, five requests in flight.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{mpsc, watch};
use weir_client::{Client, Delivery, Producer, ProducerConfig, Record};
use weir_protocol::types::{Offset, PartitionId};

use super::recorder::Recorder;
use super::{Load, Phase, AWAY_MS_MAX};
use crate::history::{self, Event, Outcome, Send};

/// Keys of one producer; each belongs to one partition.
const KEYS: u64 = 16;
/// Records that wait for their answers. Then no more are made: a broker that is away must not
/// turn the load into one burst.
const WAITING_MAX: usize = 4_000;
const TICK: Duration = Duration::from_millis(5);
/// Values are filled up to this, about the size of a telemetry event.
const VALUE_BYTES: usize = 100;

struct Made {
    send: Send,
    delivery: Delivery,
}

pub(super) async fn run(
    load: Load,
    name: String,
    client: Arc<Client>,
    recorder: Arc<Recorder>,
    phase: watch::Receiver<Phase>,
) -> Result<()> {
    let config = ProducerConfig {
        // Small, so that five are in flight in each partition when the broker dies.
        batch_bytes_max: 2_000,
        request_bytes_max: 4_000,
        linger_ms: 1,
        delivery_timeout_ms: AWAY_MS_MAX,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(client, config)?;
    producer.ready(&load.topic).await?;
    let (made, outcomes) = mpsc::channel(WAITING_MAX);
    let settling = tokio::spawn(settle(outcomes, recorder));
    make(&load, &name, &producer, &made, phase).await?;
    drop(made);
    settling.await?;
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}

async fn make(
    load: &Load,
    name: &str,
    producer: &Producer,
    made: &mpsc::Sender<Made>,
    phase: watch::Receiver<Phase>,
) -> Result<()> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let per_tick = (load.rate * TICK.as_millis() as u64 / 1_000).max(1);
    let mut seq = 0;
    while *phase.borrow() == Phase::Running {
        tick.tick().await;
        for _ in 0..per_tick {
            let key_number = seq % KEYS;
            let key = format!("{name}-k{key_number}");
            let partition = i32::try_from(key_number)? % load.partitions;
            let mut value = history::value(name, seq);
            // What comes after the space is no part of it.
            value.push(' ');
            value.extend(std::iter::repeat_n('x', VALUE_BYTES.saturating_sub(value.len())));
            let record = Record::new(&load.topic, value.as_bytes())
                .with_key(key.as_bytes())
                .with_partition(PartitionId(partition));
            let delivery = producer.send_wait(record).await?;
            let client = name.to_owned();
            let (outcome, txn, offset) = (Outcome::Unknown, None, None);
            let send = Send { client, seq, partition, key, txn, outcome, offset };
            made.send(Made { send, delivery }).await?;
            seq += 1;
        }
    }
    Ok(())
}

/// Writes sends down with their outcomes. After any failure a record may yet be in the log: a refusal
/// may follow an earlier attempt whose answer was lost.
async fn settle(mut outcomes: mpsc::Receiver<Made>, recorder: Arc<Recorder>) {
    let mut told = 0;
    while let Some(Made { mut send, delivery }) = outcomes.recv().await {
        match delivery.await {
            Ok(metadata) => {
                send.outcome = Outcome::Acked;
                send.offset = metadata.offset.map(Offset::get);
            }
            Err(error) if told < 5 => {
                told += 1;
                eprintln!("{}:{} has failed: {} {error}", send.client, send.seq, error.code());
            }
            Err(_) => {}
        }
        recorder.write(&Event::Send(send));
    }
}
