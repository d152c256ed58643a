//! librdkafka as producer and consumer, with the settings that serve it best at this load.
//!
//! ```text
//! rdkafka-bench produce HOST:PORT TOPIC RECORDS
//! rdkafka-bench consume HOST:PORT TOPIC PARTITIONS RECORDS
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench_load::{Measurement, Outcome, Readings};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

const USAGE: &str = "usage: rdkafka-bench produce HOST:PORT TOPIC RECORDS
       rdkafka-bench consume HOST:PORT TOPIC PARTITIONS RECORDS";
/// How often the sending thread takes delivery reports, in records.
const POLL_EVERY: u64 = 10_000;
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// A consumer that gets nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["produce", address, topic, records] => produce(address, topic, records.parse()?),
        ["consume", address, topic, partitions, records] => {
            consume(address, topic, partitions.parse()?, records.parse()?)
        }
        _ => Err(USAGE.into()),
    }
}

/// Counts delivery reports.
#[derive(Default)]
struct Reports {
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.delivered } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn produce(address: &str, topic: &str, records: u64) -> Result<(), Box<dyn Error>> {
    let producer: BaseProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("batch.num.messages", "10000")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .set("partitioner", "murmur2_random")
        .create_with_context(Reports::default())?;
    producer.client().fetch_metadata(Some(topic), SETTLED_WITHIN)?;
    let (mut readings, mut value) = (Readings::default(), Vec::with_capacity(256));
    let measurement = Measurement::start();
    for index in 0..records {
        value.clear();
        let key = readings.push_next(&mut value);
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        while let Err((error, refused)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(1));
            record = refused;
        }
        if index % POLL_EVERY == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(SETTLED_WITHIN)?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let Reports { delivered, failed } = &**producer.context();
    let outcome = Outcome { records: count(delivered), errors: count(failed) };
    measurement.print("rdkafka", outcome);
    complete(outcome, records)
}

fn consume(
    address: &str,
    topic: &str,
    partitions: i32,
    records: u64,
) -> Result<(), Box<dyn Error>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("queued.min.messages", "1000000")
        .set("fetch.message.max.bytes", "10000000")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    let measurement = Measurement::start();
    consumer.assign(&all)?;
    let (mut outcome, mut value_bytes, mut heard) = (Outcome::default(), 0, Instant::now());
    while outcome.records < records && heard.elapsed() < SILENCE_MAX {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                outcome.records += 1;
                value_bytes += message.payload_len();
                if outcome.records % POLL_EVERY == 0 {
                    heard = Instant::now();
                }
            }
            Some(Err(error)) => {
                eprintln!("consume: {error}");
                outcome.errors += 1;
            }
            None => {}
        }
    }
    measurement.print("rdkafka", outcome);
    eprintln!("{value_bytes} bytes of values");
    complete(outcome, records)
}

fn complete(outcome: Outcome, wanted: u64) -> Result<(), Box<dyn Error>> {
    if outcome.records == wanted && outcome.errors == 0 {
        return Ok(());
    }
    Err(format!("{} of {wanted} records, {} errors", outcome.records, outcome.errors).into())
}
