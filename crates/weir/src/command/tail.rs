//! `weir tail TOPIC`: prints records as they arrive.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{json, Map, Value};
use weir_client::admin::OffsetSpec;
use weir_client::{
    Admin, AutoOffsetReset, ConsumedRecord, Consumer, ConsumerConfig, TopicPartition,
};
use weir_protocol::types::Offset;

use super::kafka::{block_on, connect, failed, offsets};
use crate::cli::TailArgs;
use crate::error::{Outcome, UserError};

pub(crate) fn run(args: &TailArgs) -> Outcome {
    block_on(async {
        let client = connect(args.brokers.brokers.as_deref()).await?;
        let admin = Admin::new(client.clone());
        let what = format!("cannot read topic \"{}\"", args.topic);
        let topic = admin.describe_topic(&args.topic).await.map_err(|error| {
            failed(&what, &error).help(format!("weir topics --create {}", args.topic))
        })?;
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| TopicPartition::new(&args.topic, partition.partition))
            .collect();
        let from = if args.from_beginning { OffsetSpec::Earliest } else { OffsetSpec::Latest };
        let starts = offsets(&admin, &partitions, from).await?;
        let ends = offsets(&admin, &partitions, OffsetSpec::Latest).await?;
        let config =
            ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..Default::default() };
        let consumer = Consumer::new(client, config).map_err(|error| failed(&what, &error))?;
        consumer.assign(&partitions).map_err(|error| failed(&what, &error))?;
        for (partition, start) in partitions.iter().zip(starts) {
            consumer.seek(partition, start).map_err(|error| failed(&what, &error))?;
        }
        let ends: Vec<_> = partitions.into_iter().zip(ends).collect();
        follow(&consumer, args, &ends).await
    })
}

async fn follow(
    consumer: &Consumer,
    args: &TailArgs,
    ends: &[(TopicPartition, Offset)],
) -> Outcome {
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut out = io::BufWriter::new(io::stdout());
    loop {
        let done = args.exit
            && ends.iter().all(|(partition, end)| {
                end.get() == 0 || consumer.position(partition).is_some_and(|at| at >= *end)
            });
        if done || left == 0 {
            return finish(out.flush());
        }
        let records = consumer
            .poll(Duration::from_millis(200))
            .await
            .map_err(|error| failed(format!("cannot read topic \"{}\"", args.topic), &error))?;
        for record in records {
            if left == 0 {
                break;
            }
            left -= 1;
            let line = if args.json { as_json(&record) } else { as_text(&record) };
            if let Err(error) = writeln!(out, "{line}") {
                return finish(Err(error));
            }
        }
        if let Err(error) = out.flush() {
            return finish(Err(error));
        }
    }
}

/// A reader that went away (`weir tail t | head`) is the end, not a failure.
fn finish(written: io::Result<()>) -> Outcome {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(UserError::new("WEIR-0808", "cannot write to standard output").why(error))
        }
        _ => Ok(()),
    }
}

fn as_text(record: &ConsumedRecord) -> String {
    let text = |bytes: &Option<bytes::Bytes>| match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "null".to_owned(),
    };
    let (partition, offset) = (record.partition, record.offset);
    format!("{partition}/{offset}  {}  {}", text(&record.key), text(&record.value))
}

/// The value is embedded as JSON if it is JSON, else as text.
fn as_json(record: &ConsumedRecord) -> String {
    let text = |bytes: &bytes::Bytes| Value::from(String::from_utf8_lossy(bytes).into_owned());
    let value = record
        .value
        .as_ref()
        .map(|bytes| serde_json::from_slice(bytes).unwrap_or_else(|_| text(bytes)));
    let headers: Map<String, Value> = record
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_ref().map_or(Value::Null, text)))
        .collect();
    json!({
        "topic": &*record.topic,
        "partition": record.partition.get(),
        "offset": record.offset.get(),
        "timestamp_ms": record.timestamp.get(),
        "key": record.key.as_ref().map(text),
        "value": value,
        "headers": headers,
    })
    .to_string()
}
