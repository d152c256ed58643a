//! What the producer costs: sensor JSON of about 200 bytes, made inside, into one topic.
//!
//! usage: produce_bench HOST:PORT TOPIC PARTITIONS MESSAGES BATCH [single|latency]
//!
//! BATCH is how many records one `send_batch` appends. `single` sends record by record (`send`),
//! `latency` sends one record at a time and awaits its answer. Environment: ACKS (all, 1, 0),
//! LINGER_MS, CODEC, BUFFER_MB, REQUEST_KB.
// A bench measures with the machine's clock and prints.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_client::admin::NewTopic;
use weir_client::{
    Acks, Admin, Client, ClientConfig, Codec, ProduceError, Producer, ProducerConfig, Record,
};
use weir_protocol::types::TimestampMs;

/// xorshift64: the bench must not measure a random generator.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: the sum of four.
    fn normal(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 1.732
    }
}

fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_two_decimals(out: &mut Vec<u8>, value: f64) {
    let hundredths = (value * 100.0) as i64;
    if hundredths < 0 {
        out.push(b'-');
    }
    push_number(out, hundredths.abs() / 100);
    let rest = (hundredths.abs() % 100) as u8;
    out.extend_from_slice(&[b'.', b'0' + rest / 10, b'0' + rest % 10]);
}

fn reading(out: &mut Vec<u8>, device: u32, seq: u64, rng: &mut Rng, at: TimestampMs) {
    out.extend_from_slice(b"{\"device_id\":\"dev-");
    push_number(out, 100_000_000 + device);
    out.extend_from_slice(
        b"\",\"building\":\"B1\",\"floor\":3,\"room\":\"R12\",\"type\":\"temperature\",\"unit\":\"C\",\"value\":",
    );
    push_two_decimals(out, 25.0 + 5.0 * rng.normal());
    out.extend_from_slice(b",\"seq\":");
    push_number(out, seq);
    out.extend_from_slice(b",\"ts\":");
    push_number(out, at.get());
    out.extend_from_slice(b",\"quality\":\"good\",\"anomaly\":false}");
}

struct Key([u8; 13]);

impl Key {
    fn of(device: u32) -> Self {
        let mut key = *b"dev-000000000";
        key[4..].copy_from_slice(itoa::Buffer::new().format(100_000_000 + device).as_bytes());
        Key(key)
    }
}

/// User and system time of this process, in seconds. Clock ticks are 1/100 s on Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| -> f64 {
        after_name.split_whitespace().nth(index).and_then(|text| text.parse().ok()).unwrap_or(0.0)
    };
    (field(11) + field(12)) / 100.0
}

fn config() -> ProducerConfig {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let mut config = ProducerConfig::default();
    match env("ACKS").as_str() {
        "0" => (config.acks, config.idempotent) = (Acks::None, false),
        "1" => (config.acks, config.idempotent) = (Acks::Leader, false),
        _ => {}
    }
    if let Ok(linger_ms) = env("LINGER_MS").parse() {
        config.linger_ms = linger_ms;
    }
    if let Ok(megabytes) = env("BUFFER_MB").parse::<usize>() {
        config.buffer_bytes_max = megabytes << 20;
        config.partition_buffer_bytes_max = config.buffer_bytes_max;
    }
    if let Ok(kilobytes) = env("REQUEST_KB").parse::<usize>() {
        config.request_bytes_max = kilobytes << 10;
    }
    if let Some(codec) = Codec::ALL.iter().find(|codec| codec.name() == env("CODEC")) {
        config.compression = *codec;
    }
    config
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, address, topic, partitions, messages, batch, mode @ ..] = args.as_slice() else {
        return Err(
            "usage: produce_bench HOST:PORT TOPIC PARTITIONS MESSAGES BATCH [single|latency]"
                .into(),
        );
    };
    let (messages, batch): (u64, u64) = (messages.parse()?, batch.parse()?);
    let client = Client::connect_tcp(ClientConfig::new([address.as_str()])).await?;
    let wanted = NewTopic::new(topic.as_str(), partitions.parse()?);
    for result in Admin::new(Arc::clone(&client)).create_topics(&[wanted]).await? {
        result?;
    }
    let producer = Producer::new(client, config())?;
    producer.ready(topic).await?;

    let (started, cpu) = (Instant::now(), cpu_seconds());
    match mode.first().map(String::as_str) {
        Some("latency") => latency(&producer, topic, messages).await?,
        Some("single") => single(&producer, topic, messages).await?,
        _ => batched(&producer, topic, messages, batch).await?,
    }
    producer.flush().await;
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let stats = producer.stats();
    producer.close(Duration::from_secs(10)).await?;
    println!(
        "messages {messages} rate {:.0}/s bytes/msg {} cpu {cpu:.2} s = {:.3} s per million, requests {} retries {} acked {} failed {}",
        messages as f64 / elapsed,
        stats.bytes / messages.max(1),
        cpu * 1e6 / messages as f64,
        stats.requests,
        stats.retries,
        stats.records_acked,
        stats.records_failed,
    );
    if stats.records_acked != messages {
        return Err("not everything was acknowledged".into());
    }
    Ok(())
}

async fn batched(
    producer: &Producer,
    topic: &str,
    messages: u64,
    batch: u64,
) -> Result<(), ProduceError> {
    let mut rng = Rng(88_172_645_463_325_252);
    let mut sent = 0;
    while sent < messages {
        let at = TimestampMs(1_790_000_000_000 + (sent / 1_000) as i64);
        let (refused, _) = producer.send_batch(|appender| {
            for _ in 0..batch.min(messages - sent) {
                let device = (rng.next() % 10_000) as u32;
                let key = Key::of(device);
                let record =
                    Record { topic, key: Some(&key.0), timestamp: Some(at), ..Record::default() };
                appender.append_with(&record, 256, |out| {
                    reading(out, device, sent, &mut rng, at);
                })?;
                sent += 1;
            }
            Ok::<(), ProduceError>(())
        });
        match refused {
            Ok(()) => {}
            Err(ProduceError::BufferFull { .. }) => producer.wait_for_room().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn single(producer: &Producer, topic: &str, messages: u64) -> Result<(), ProduceError> {
    let mut rng = Rng(88_172_645_463_325_252);
    let mut value = Vec::with_capacity(256);
    for seq in 0..messages {
        let at = TimestampMs(1_790_000_000_000 + (seq / 1_000) as i64);
        let device = (rng.next() % 10_000) as u32;
        let key = Key::of(device);
        value.clear();
        reading(&mut value, device, seq, &mut rng, at);
        let record = Record::new(topic, &value).with_key(&key.0);
        match producer.send(record) {
            Err(ProduceError::BufferFull { .. }) => drop(producer.send_wait(record).await?),
            other => drop(other?),
        }
    }
    Ok(())
}

async fn latency(producer: &Producer, topic: &str, messages: u64) -> Result<(), Box<dyn Error>> {
    let mut rng = Rng(88_172_645_463_325_252);
    let mut micros = Vec::with_capacity(usize::try_from(messages)?);
    let mut value = Vec::with_capacity(256);
    for seq in 0..messages {
        let device = (rng.next() % 10_000) as u32;
        let key = Key::of(device);
        value.clear();
        reading(&mut value, device, seq, &mut rng, TimestampMs(1_790_000_000_000));
        let sent_at = Instant::now();
        producer.send(Record::new(topic, &value).with_key(&key.0))?.await?;
        micros.push(sent_at.elapsed().as_micros());
    }
    micros.sort_unstable();
    let at = |percent: usize| micros.get(micros.len() * percent / 100).copied().unwrap_or(0);
    println!(
        "latency µs: p50 {} p90 {} p99 {} max {}",
        at(50),
        at(90),
        at(99),
        micros.last().unwrap_or(&0)
    );
    Ok(())
}
