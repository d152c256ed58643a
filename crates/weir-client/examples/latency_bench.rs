//! How long a record takes from producer to consumer, acks=all, on 12 partitions.
//!
//! usage: latency_bench HOST:PORT TOPIC open RATE SECONDS
//!        latency_bench HOST:PORT TOPIC one RECORDS
//!
//! `open` sends RATE records per second whatever happens to those before, and counts from the moment a
//! record was due, so that a stall is seen by every record it holds up (no coordinated omission). The
//! first second is not counted. `one` sends a record when the one before was consumed, and counts from
//! its sending. The topic must be new. Prints one JSON line.
// A bench measures with the machine's clock and prints.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

mod bench_load;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_client::admin::NewTopic;
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, Producer,
    ProducerConfig, Record, TopicPartition,
};
use weir_protocol::types::PartitionId;

use bench_load::{event_time, push_reading, seq_of, Key, Rng};

const PARTITIONS: i32 = 12;
const WARM_UP: Duration = Duration::from_secs(1);
/// Records sent one at a time before counting begins.
const WARM_UP_RECORDS: u64 = 100;
/// A consumer that gets nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const USAGE: &str = "usage: latency_bench HOST:PORT TOPIC open RATE SECONDS
       latency_bench HOST:PORT TOPIC one RECORDS";

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    runtime.block_on(async {
        match args.as_slice() {
            [address, topic, "open", rate, seconds] => {
                open(Ends::connect(address, topic).await?, rate.parse()?, seconds.parse()?).await
            }
            [address, topic, "one", records] => {
                one(Ends::connect(address, topic).await?, records.parse()?).await
            }
            _ => Err(USAGE.into()),
        }
    })
}

/// A producer, and a consumer of all partitions of its topic.
struct Ends {
    producer: Arc<Producer>,
    consumer: Consumer,
    topic: String,
}

impl Ends {
    async fn connect(address: &str, topic: &str) -> Fallible<Self> {
        let client = Client::connect_tcp(ClientConfig::new([address])).await?;
        let admin = Admin::new(Arc::clone(&client));
        for result in admin.create_topics(&[NewTopic::new(topic, PARTITIONS)]).await? {
            result?;
        }
        let producer = Producer::new(Arc::clone(&client), ProducerConfig::default())?;
        producer.ready(topic).await?;
        let config = ConsumerConfig {
            auto_offset_reset: AutoOffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        // A client of its own: fetches that wait must not stand before produce requests.
        let client = Client::connect_tcp(ClientConfig::new([address])).await?;
        let consumer = Consumer::new(client, config)?;
        let all: Vec<TopicPartition> =
            (0..PARTITIONS).map(|n| TopicPartition::new(topic, PartitionId(n))).collect();
        consumer.assign(&all)?;
        Ok(Self { producer: Arc::new(producer), consumer, topic: topic.to_owned() })
    }

    /// The `seq` of the records that come next.
    async fn next(&self) -> Fallible<Vec<u64>> {
        let records = self.consumer.poll(SILENCE_MAX).await?;
        if records.is_empty() {
            return Err("no record came".into());
        }
        let seq = |value: &[u8]| seq_of(value).ok_or("a record that is no reading");
        Ok(records
            .iter()
            .map(|record| seq(record.value.as_deref().unwrap_or_default()))
            .collect::<Result<_, _>>()?)
    }

    async fn close(self) -> Fallible<u64> {
        self.producer.flush().await;
        let failed = self.producer.stats().records_failed;
        self.producer.close(Duration::from_secs(10)).await?;
        self.consumer.close().await?;
        Ok(failed)
    }
}

/// Makes and sends readings.
struct Source {
    producer: Arc<Producer>,
    topic: String,
    rng: Rng,
    value: Vec<u8>,
}

impl Source {
    fn of(ends: &Ends) -> Self {
        let (producer, topic) = (Arc::clone(&ends.producer), ends.topic.clone());
        Self { producer, topic, rng: Rng::default(), value: Vec::with_capacity(256) }
    }

    fn send(&mut self, seq: u64) -> Fallible<()> {
        let device = self.rng.device();
        self.value.clear();
        push_reading(&mut self.value, device, seq, &mut self.rng, event_time(seq));
        let key = Key::of(device);
        self.producer.send(Record::new(&self.topic, &self.value).with_key(&key.0))?;
        Ok(())
    }
}

async fn open(ends: Ends, rate: u64, seconds: u64) -> Fallible<()> {
    let count = rate * seconds;
    let due = move |seq: u64| Duration::from_secs_f64(seq as f64 / rate as f64);
    let mut source = Source::of(&ends);
    let started = Instant::now();
    // A thread of its own: the runtime's timers are no finer than a millisecond.
    let sender = std::thread::spawn(move || -> Result<(), String> {
        for seq in 0..count {
            std::thread::sleep(due(seq).saturating_sub(started.elapsed()));
            source.send(seq).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    let mut took = Latencies::default();
    let mut seen = 0;
    while seen < count {
        let arrived = ends.next().await?;
        let now = started.elapsed();
        seen += arrived.len() as u64;
        let counted = arrived.into_iter().map(due).filter(|due| *due >= WARM_UP);
        took.0.extend(counted.map(|due| now.saturating_sub(due)));
    }
    sender.join().map_err(|_| "the sender panicked")??;
    let errors = ends.close().await?;
    took.print("open", rate, errors);
    Ok(())
}

async fn one(ends: Ends, records: u64) -> Fallible<()> {
    let mut source = Source::of(&ends);
    let mut took = Latencies::default();
    for seq in 0..records + WARM_UP_RECORDS {
        let sent = Instant::now();
        source.send(seq)?;
        if ends.next().await? != [seq] {
            return Err("another record than the one sent".into());
        }
        if seq >= WARM_UP_RECORDS {
            took.0.push(sent.elapsed());
        }
    }
    let errors = ends.close().await?;
    took.print("one", 0, errors);
    Ok(())
}

#[derive(Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn print(mut self, mode: &str, rate: u64, errors: u64) {
        self.0.sort_unstable();
        let count = self.0.len();
        let at = |per_mille: usize| {
            let found = self.0.get(count * per_mille / 1_000).or(self.0.last());
            found.map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        println!(
            r#"{{"client":"weir","mode":"{mode}","rate":{rate},"records":{count},"p50_ms":{:.4},"p99_ms":{:.4},"max_ms":{:.4},"errors":{errors}}}"#,
            at(500),
            at(990),
            at(1_000),
        );
    }
}
