//! Fills a log directory for `scripts/restart_bench.py`, and goes on writing until it is killed.
//!
//! ```text
//! cargo run --release -p weir-log --example fill_dir -- DIR PARTITIONS MEGABYTES UNCHECKED_MEGABYTES
//! ```
//!
//! Batches of 5,000 records of 200 bytes go to the partitions in turn. The recovery point is written when
//! all but `UNCHECKED_MEGABYTES` are there; then it prints a line, and appends more until somebody kills it. With
//! `MEGABYTES` 0 there is nothing in the logs, and the directory is closed cleanly.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use weir_log::{AppendOrigin, FileDisk, Flush, LogConfig, LogDir, LogDirOptions, LogId};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{PartitionId, TimestampMs, Uuid};

const T0: TimestampMs = TimestampMs(1_763_700_000_000);
const COMMIT_BYTES: u64 = 8 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, numbers @ ..] = arguments.as_slice() else { panic!("see the head of this file") };
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
    let [partitions, megabytes, unchecked] = numbers[..] else {
        panic!("DIR PARTITIONS MEGABYTES UNCHECKED_MEGABYTES")
    };
    // Recovery points only when this program says so.
    let options = LogDirOptions {
        checkpoint_bytes: u64::MAX,
        new_cluster_id: Uuid([1; 16]),
        new_directory_id: Uuid([2; 16]),
        ..LogDirOptions::default()
    };
    let (mut log_dir, _) = LogDir::open(Arc::new(FileDisk), Path::new(dir), options, T0).unwrap();
    let ids = create(&mut log_dir, i32::try_from(partitions).unwrap());
    if megabytes == 0 {
        log_dir.close().unwrap();
        println!("closed");
        return;
    }
    let checked = megabytes.saturating_sub(unchecked) * 1_000_000;
    let mut turn = ids.iter().copied().cycle();
    append(&mut log_dir, &mut turn, checked);
    log_dir.tick(T0.plus_ms(61_000)).unwrap();
    commit(&mut log_dir);
    append(&mut log_dir, &mut turn, megabytes * 1_000_000 - checked);
    println!("filled");
    loop {
        append(&mut log_dir, &mut turn, 1);
    }
}

fn create(log_dir: &mut LogDir, partitions: i32) -> Vec<LogId> {
    let config = LogConfig { batch_bytes_max: 2 << 20, ..LogConfig::default() };
    let make = |partition| {
        let (topic_id, partition) = (Uuid([7; 16]), PartitionId(partition));
        log_dir.create_log("bench", topic_id, partition, config.clone(), T0).unwrap()
    };
    let ids = (0..partitions).map(make).collect();
    commit(log_dir);
    ids
}

/// Appends at least so many bytes, and commits them.
fn append(log_dir: &mut LogDir, turn: &mut impl Iterator<Item = LogId>, bytes: u64) {
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..5_000 {
        builder.append(T0, None, Some(&[b'x'; 200]), &[]);
    }
    let mut batch = builder.build().to_vec();
    let (mut done, mut uncommitted) = (0, 0);
    while done < bytes {
        let log = log_dir.get_mut(turn.next().unwrap()).unwrap();
        log.append(&mut batch, AppendOrigin::Client, T0).unwrap();
        done += batch.len() as u64;
        uncommitted += batch.len() as u64;
        if uncommitted >= COMMIT_BYTES {
            uncommitted = 0;
            commit(log_dir);
        }
    }
    commit(log_dir);
}

fn commit(log_dir: &mut LogDir) {
    while let Some(group) = log_dir.begin_commit() {
        let mut committed = group.run().unwrap();
        let flush = committed.take_flush();
        log_dir.finish_commit(committed);
        flush.map_or(Ok(()), Flush::run).unwrap();
    }
}
