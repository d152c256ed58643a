//! Opens a data directory, as a broker would, and reads every batch of it with its CRC.
//!
//! `cargo run -p weir-log --example read_dir -- DIR NODE_ID`
//!
//! It recovers what was not stopped cleanly, so give it a copy. Directories that Apache Kafka wrote are
//! read too.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use weir_log::{FileDisk, Log, LogDir, LogDirOptions};
use weir_protocol::batch;
use weir_protocol::{NodeId, TimestampMs};

fn main() {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "sample".to_owned());
    let node_id = std::env::args().nth(2).map_or(0, |id| id.parse().unwrap());
    let options = LogDirOptions { node_id: NodeId(node_id), ..LogDirOptions::default() };
    let now = TimestampMs(1_763_700_000_000);
    let (log_dir, report) =
        LogDir::open(Arc::new(FileDisk), Path::new(&dir), options, now).unwrap();
    println!("cluster {}: {report:#?}", log_dir.cluster_id());
    for (_, log) in log_dir.logs().filter(|(_, log)| log.size_bytes() > 0) {
        let (batches, records) = read(log);
        println!(
            "{}-{} {}: offsets {} to {}, stable {}, epoch {}, {} segments, {batches} batches, \
             {records} records, {} producers",
            log.topic(),
            log.partition(),
            log.topic_id(),
            log.log_start_offset(),
            log.synced_offset(),
            log.last_stable_offset(),
            log.leader_epoch(),
            log.segment_count(),
            log.producer_count(),
        );
    }
}

fn read(log: &Log) -> (usize, i64) {
    let (mut at, mut batches, mut records) = (log.log_start_offset(), 0, 0);
    while at < log.synced_offset() {
        let read = log.read(at, 1 << 20, log.synced_offset()).unwrap();
        for slice in &read.slices {
            for view in batch::batches(&slice.read().unwrap()) {
                let view = view.unwrap();
                view.verify_crc().unwrap();
                batches += 1;
                records += i64::from(view.record_count());
            }
        }
        at = read.next_offset;
    }
    (batches, records)
}
