//! `weir produce TOPIC`: one record per line of standard input, acknowledged by all replicas.

use std::io::BufRead;
use std::time::Duration;

use weir_client::{Producer, ProducerConfig, Record};

use super::kafka::{block_on, connect, failed};
use crate::cli::ProduceArgs;
use crate::error::{Outcome, UserError};
use crate::output::grouped;

/// Lines sent before their acknowledgements are awaited; bounds what a failure leaves unknown.
const UNACKED_MAX: usize = 10_000;

pub(crate) fn run(args: &ProduceArgs) -> Outcome {
    block_on(async {
        let client = connect(&args.brokers.brokers).await?;
        let producer = Producer::new(client, ProducerConfig::default())
            .map_err(|error| failed("cannot start the producer", &error))?;
        let sent = send_lines(&producer, args).await?;
        let closed = producer.close(Duration::from_secs(30)).await;
        closed.map_err(|error| UserError::new(error.code(), "cannot finish").why(error))?;
        outln!("{} records acknowledged in {}", grouped(sent), args.topic);
        Ok(())
    })
}

async fn send_lines(producer: &Producer, args: &ProduceArgs) -> Outcome<u64> {
    let refused = |error: weir_client::ProduceError| {
        UserError::new(error.code(), format!("cannot write to topic \"{}\"", args.topic)).why(error)
    };
    let mut waiting = Vec::new();
    let mut sent = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| {
            UserError::new("WEIR-0804", "cannot read standard input").why(error)
        })?;
        let record = record(args, &line);
        waiting.push(producer.send_wait(record).await.map_err(refused)?);
        sent += 1;
        if waiting.len() >= UNACKED_MAX {
            for delivery in waiting.drain(..) {
                delivery.await.map_err(refused)?;
            }
        }
    }
    for delivery in waiting {
        delivery.await.map_err(refused)?;
    }
    Ok(sent)
}

fn record<'a>(args: &'a ProduceArgs, line: &'a str) -> Record<'a> {
    let split = args.key_separator.as_deref().and_then(|separator| line.split_once(separator));
    match split {
        Some((key, value)) => Record::new(&args.topic, value.as_bytes()).with_key(key.as_bytes()),
        None => Record::new(&args.topic, line.as_bytes()),
    }
}
