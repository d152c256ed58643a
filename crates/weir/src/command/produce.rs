//! `weir produce TOPIC`: one record per line of standard input, acknowledged by all replicas.

use std::time::Duration;

use weir_client::{Admin, Producer, ProducerConfig, Record};

use super::kafka::{block_on, connect, described, failed};
use super::lines::{self, Line};
use crate::cli::ProduceArgs;
use crate::error::{Outcome, UserError};
use crate::output::grouped;

/// Lines sent before their acknowledgements are awaited; bounds what a failure leaves unknown.
const UNACKED_MAX: usize = 10_000;

/// Longest line, in bytes; a broker takes 1 MiB unless set otherwise.
const LINE_BYTES_MAX: usize = 16 << 20;

pub(crate) fn run(args: &ProduceArgs) -> Outcome {
    block_on(async {
        let client = connect(args.brokers.brokers.as_deref()).await?;
        // An unknown topic is told before the first line is read.
        let what = format!("cannot write to topic \"{}\"", args.topic);
        described(&Admin::new(client.clone()), &args.topic).await.map_err(|error| {
            failed(&what, &error).help(format!("weir topics --create {}", args.topic))
        })?;
        let producer = Producer::new(client, ProducerConfig::default())
            .map_err(|error| failed("cannot start the producer", &error))?;
        let sent = send_lines(&producer, args).await?;
        let closed = producer.close(Duration::from_secs(30)).await;
        closed.map_err(|error| UserError::new(error.code(), "cannot finish").why(error))?;
        let records = if sent == 1 { "record" } else { "records" };
        outln!("{} {records} acknowledged in {}", grouped(sent), args.topic);
        Ok(())
    })
}

async fn send_lines(producer: &Producer, args: &ProduceArgs) -> Outcome<u64> {
    let refused = |error: weir_client::ProduceError| {
        UserError::new(error.code(), format!("cannot write to topic \"{}\"", args.topic)).why(error)
    };
    let mut waiting = Vec::new();
    let mut sent = 0;
    let mut input = std::io::stdin().lock();
    loop {
        let read = lines::read(&mut input, LINE_BYTES_MAX).map_err(|error| {
            UserError::new("WEIR-0804", "cannot read standard input").why(error)
        })?;
        let Some(line) = read else { break };
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong(bytes) => return Err(too_long(args, sent, waiting.len(), bytes)),
        };
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let record = record(args, line);
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

fn too_long(args: &ProduceArgs, sent: u64, unacked: usize, bytes: u64) -> UserError {
    let (line, bytes) = (sent + 1, grouped(bytes));
    let acked = grouped(sent - unacked as u64);
    UserError::new("WEIR-0417", format!("cannot write line {line} to topic \"{}\"", args.topic))
        .why(format!("it has {bytes} bytes; {acked} lines before it are acknowledged"))
        .help("mend the line, and send it and what follows again")
}

/// A line is bytes, in whatever encoding.
fn record<'a>(args: &'a ProduceArgs, line: &'a [u8]) -> Record<'a> {
    let split = args.key_separator.as_deref().and_then(|separator| split(line, separator));
    match split {
        Some((key, value)) => Record::new(&args.topic, value).with_key(key),
        None => Record::new(&args.topic, line),
    }
}

fn split<'a>(line: &'a [u8], separator: &str) -> Option<(&'a [u8], &'a [u8])> {
    let separator = separator.as_bytes();
    let at = line.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_the_first_separator_whatever_its_bytes() {
        assert_eq!(split(b"k=v=w", "="), Some((&b"k"[..], &b"v=w"[..])));
        assert_eq!(split(b"k\xff::v", "::"), Some((&b"k\xff"[..], &b"v"[..])));
        assert_eq!(split(b"kv", "="), None);
        assert_eq!(split(b"", "="), None);
        assert_eq!(split(b"kv", ""), None);
    }
}
