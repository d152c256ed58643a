//! What the producer costs: records of about 200 bytes, made inside, into one topic.
//!
//! usage: produce_bench HOST:PORT TOPIC PARTITIONS MESSAGES BATCH [single|latency]
//!
//! BATCH is how many records one `send_batch` appends. `single` sends record by record (`send`),
//! `latency` sends one record at a time and awaits its answer. Environment: ACKS (all, 1, 0),
//! LINGER_MS, CODEC, BUFFER_MB, REQUEST_KB. Prints one JSON line.
// A bench measures with the machine's clock and prints.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

mod bench_load;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_client::admin::NewTopic;
use weir_client::{
    Acks, Admin, Client, ClientConfig, Codec, ProduceError, Producer, ProducerConfig, Record,
};

use bench_load::{cpu_seconds, event_time, push_reading, Key, Rng};

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
    eprintln!(
        "{:.0} records/s, {} bytes each, {} requests, {} retries",
        messages as f64 / elapsed,
        stats.bytes / messages.max(1),
        stats.requests,
        stats.retries,
    );
    println!(
        r#"{{"client":"weir","records":{},"seconds":{elapsed:.6},"cpu_seconds_per_million":{:.4},"errors":{}}}"#,
        stats.records_acked,
        cpu * 1e6 / messages.max(1) as f64,
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
    let mut rng = Rng::default();
    let mut sent = 0;
    while sent < messages {
        let at = event_time(sent);
        let (refused, _) = producer.send_batch(|appender| {
            for _ in 0..batch.min(messages - sent) {
                let device = rng.device();
                let key = Key::of(device);
                let record =
                    Record { topic, key: Some(&key.0), timestamp: Some(at), ..Record::default() };
                appender.append_with(&record, 256, |out| {
                    push_reading(out, device, sent, &mut rng, at);
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
    let mut rng = Rng::default();
    let mut value = Vec::with_capacity(256);
    for seq in 0..messages {
        let at = event_time(seq);
        let device = rng.device();
        let key = Key::of(device);
        value.clear();
        push_reading(&mut value, device, seq, &mut rng, at);
        let record = Record::new(topic, &value).with_key(&key.0);
        match producer.send(record) {
            Err(ProduceError::BufferFull { .. }) => drop(producer.send_wait(record).await?),
            other => drop(other?),
        }
    }
    Ok(())
}

async fn latency(producer: &Producer, topic: &str, messages: u64) -> Result<(), Box<dyn Error>> {
    let mut rng = Rng::default();
    let mut micros = Vec::with_capacity(usize::try_from(messages)?);
    let mut value = Vec::with_capacity(256);
    for seq in 0..messages {
        let device = rng.device();
        let key = Key::of(device);
        value.clear();
        push_reading(&mut value, device, seq, &mut rng, event_time(seq));
        let sent_at = Instant::now();
        producer.send(Record::new(topic, &value).with_key(&key.0))?.await?;
        micros.push(sent_at.elapsed().as_micros());
    }
    micros.sort_unstable();
    let at = |percent: usize| micros.get(micros.len() * percent / 100).copied().unwrap_or(0);
    eprintln!(
        "latency µs: p50 {} p90 {} p99 {} max {}",
        at(50),
        at(90),
        at(99),
        micros.last().unwrap_or(&0)
    );
    Ok(())
}
