//! What any producer could reach at most, and what the disk gives.
//!
//! ```text
//! probe produce HOST:PORT TOPIC PARTITIONS RECORDS BATCH_RECORDS
//! probe disk DIR
//! ```
//!
//! `produce` writes readings straight into record batches and sends them over one socket, eight
//! requests in flight, idempotent, acks=all. It has no metadata, no retries and no partitioner: that is
//! the point of it. The topic must exist. `disk` prints what one small durable write and a long
//! sequential one take.

mod batch;
mod disk;
mod produce;
mod wire;

use std::error::Error;

const USAGE: &str = "usage: probe produce HOST:PORT TOPIC PARTITIONS RECORDS BATCH_RECORDS
       probe disk DIR";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["produce", address, topic, partitions, records, batch_records] => {
            produce::run(&produce::Plan {
                address,
                topic,
                partitions: partitions.parse()?,
                records: records.parse()?,
                batch_records: batch_records.parse()?,
            })
        }
        ["disk", dir] => disk::run(dir.as_ref()),
        _ => Err(USAGE.into()),
    }
}
