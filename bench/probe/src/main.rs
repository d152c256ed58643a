//! What any producer could reach at most, and what the disk gives.
//!
//! ```text
//! probe produce HOST:PORT TOPIC PARTITIONS BATCH_RECORDS RECORDS      [acks=all|1] [value=BYTES]
//! probe load    HOST:PORT TOPIC PARTITIONS BATCH_RECORDS RATE SECONDS [acks=all|1] [value=BYTES]
//! probe disk DIR
//! probe disk-log DIR FILES BATCH_BYTES BATCHES
//! ```
//!
//! `produce` writes readings straight into record batches and sends them over one socket, eight
//! requests in flight, idempotent. It has no metadata, no retries and no partitioner: that is
//! the point of it. The topic must exist. `load` sends at a rate instead, and prints how long a batch
//! waits for its answer. `disk` prints what one small durable write and a long sequential one take,
//! `disk-log` what a log of batches over several files could reach with the same commits.

mod batch;
mod disk;
mod disk_log;
mod produce;
mod wire;

use std::error::Error;

const USAGE: &str = "usage: probe produce HOST:PORT TOPIC PARTITIONS BATCH_RECORDS RECORDS [acks=all|1] [value=BYTES]
       probe load HOST:PORT TOPIC PARTITIONS BATCH_RECORDS RATE SECONDS [acks=all|1] [value=BYTES]
       probe disk DIR
       probe disk-log DIR FILES BATCH_BYTES BATCHES";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (options, args): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|arg| arg.contains('='));
    match args.as_slice() {
        ["produce", address, topic, partitions, batch_records, records] => {
            let plan = plan(address, topic, partitions, batch_records, &options)?;
            produce::run(&plan, records.parse()?)
        }
        ["load", address, topic, partitions, batch_records, rate, seconds] => {
            let plan = plan(address, topic, partitions, batch_records, &options)?;
            produce::run_at(&plan, rate.parse()?, seconds.parse()?)
        }
        ["disk", dir] if options.is_empty() => disk::run(dir.as_ref()),
        ["disk-log", dir, files, batch_bytes, batches] if options.is_empty() => {
            disk_log::run(dir.as_ref(), files.parse()?, batch_bytes.parse()?, batches.parse()?)
        }
        _ => Err(USAGE.into()),
    }
}

fn plan<'a>(
    address: &'a str,
    topic: &'a str,
    partitions: &str,
    batch_records: &str,
    options: &[&str],
) -> Result<produce::Plan<'a>, Box<dyn Error>> {
    let mut plan = produce::Plan {
        address,
        topic,
        partitions: partitions.parse()?,
        batch_records: batch_records.parse()?,
        acks: wire::ACKS_ALL,
        value_bytes: None,
    };
    for option in options {
        match option.split_once('=') {
            Some(("acks", "all")) => plan.acks = wire::ACKS_ALL,
            Some(("acks", "1")) => plan.acks = 1,
            Some(("value", bytes)) => plan.value_bytes = Some(bytes.parse()?),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(plan)
}
