//! What the consumer costs: reads records of one topic from the beginning, CRC checked.
//!
//! usage: consume_bench HOST:PORT TOPIC MESSAGES [GROUP]
//!
//! Environment: OBJECTS=1 reads through `poll` (an object per record) instead of `poll_each`.
//!
//! Prints one JSON line.
// A bench measures with the machine's clock and prints.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

mod bench_load;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_client::{
    Admin, AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, GroupConfig,
    TopicPartition,
};

use bench_load::cpu_seconds;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, address, topic, messages, group @ ..] = args.as_slice() else {
        return Err("usage: consume_bench HOST:PORT TOPIC MESSAGES [GROUP]".into());
    };
    let messages: u64 = messages.parse()?;
    let client = Client::connect_tcp(ClientConfig::new([address.as_str()])).await?;
    let config = ConsumerConfig {
        group: group.first().map(|id| GroupConfig::new(id.as_str())),
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(Arc::clone(&client), config)?;
    // Fetching begins with the assignment, so the clock does.
    let (started, cpu) = (Instant::now(), cpu_seconds());
    if group.is_empty() {
        let described = Admin::new(client).describe_topic(topic).await?;
        let all: Vec<TopicPartition> = described
            .partitions
            .iter()
            .map(|partition| TopicPartition::new(topic, partition.partition))
            .collect();
        consumer.assign(&all)?;
    } else {
        consumer.subscribe(&[topic.as_str()])?;
    }
    let (mut seen, mut bytes, mut idle) = (0_u64, 0_usize, 0);
    let as_objects = std::env::var_os("OBJECTS").is_some();
    while seen < messages && idle < 10 {
        if !as_objects {
            let shown = consumer
                .poll_each(Duration::from_secs(1), |record| {
                    bytes += record.value.map_or(0, <[u8]>::len);
                })
                .await?;
            idle = if shown == 0 { idle + 1 } else { 0 };
            seen += shown as u64;
            continue;
        }
        let records = consumer.poll(Duration::from_secs(1)).await?;
        idle = if records.is_empty() { idle + 1 } else { 0 };
        seen += records.len() as u64;
        bytes += records
            .iter()
            .filter_map(|record| record.value.as_ref())
            .map(|v| v.len())
            .sum::<usize>();
    }
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    consumer.close().await?;
    eprintln!("{:.0} records/s, {bytes} bytes of values", seen as f64 / elapsed);
    println!(
        r#"{{"client":"weir","records":{seen},"seconds":{elapsed:.6},"cpu_seconds_per_million":{:.4},"errors":{}}}"#,
        cpu * 1e6 / seen.max(1) as f64,
        messages.saturating_sub(seen),
    );
    if seen < messages {
        return Err(format!("only {seen} of {messages} records came").into());
    }
    Ok(())
}
