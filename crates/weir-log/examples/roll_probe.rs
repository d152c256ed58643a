//! How long the append takes that rolls a segment of a log with many idempotent producers, whose state goes into a snapshot
//! then: that is how long everybody else waits for the log's lock.
//!
//! `cargo run --release -p weir-log --example roll_probe [-- PRODUCERS]` (100,000)
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_log::{AppendOrigin, FileDisk, LogConfig, LogDir, LogDirOptions};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs, Uuid};

const T0: TimestampMs = TimestampMs(1_763_700_000_000);
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
const ROLLS: usize = 10;

fn main() {
    let producers = std::env::args().nth(1).map_or(100_000, |text| text.parse().unwrap());
    let dir = PathBuf::from("target").join(format!("roll-probe-{}", std::process::id()));
    let options = LogDirOptions {
        producers_per_log_max: producers,
        producers_max: producers,
        ..LogDirOptions::default()
    };
    let (mut log_dir, _) = LogDir::open(Arc::new(FileDisk), &dir, options, T0).unwrap();
    let config = LogConfig {
        segment_bytes_max: SEGMENT_BYTES_MAX,
        batch_bytes_max: 2 << 20,
        ..LogConfig::default()
    };
    let id = log_dir.create_log("probe", Uuid([7; 16]), PartitionId(0), config, T0).unwrap();
    for producer in 0..producers {
        append(&mut log_dir, id, &mut batch(producer as i64, 0, 10));
    }
    commit(&mut log_dir);
    let mut large = batch(-1, 0, 1 << 20);
    let (mut rolling, mut plain) = (Vec::new(), Vec::new());
    while rolling.len() < ROLLS {
        let segments = log_dir.get(id).unwrap().segment_count();
        let took = append(&mut log_dir, id, &mut large);
        match log_dir.get(id).unwrap().segment_count() > segments {
            true => rolling.push(took),
            false => plain.push(took),
        }
        commit(&mut log_dir);
    }
    println!(
        "{producers} producers, append of 1 MiB: median {:?}, with a roll {:?} (of {ROLLS})",
        median(plain),
        median(rolling)
    );
    drop(log_dir);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn batch(producer: i64, sequence: i32, bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(T0, None, Some(&vec![b'x'; bytes]), &[]);
    if producer >= 0 {
        builder.set_producer(ProducerId(producer), ProducerEpoch(0), Sequence(sequence));
    }
    builder.build().to_vec()
}

fn append(log_dir: &mut LogDir, id: weir_log::LogId, batch: &mut [u8]) -> Duration {
    let log = log_dir.get_mut(id).unwrap();
    let began = Instant::now();
    log.append(batch, AppendOrigin::Client, T0).unwrap();
    began.elapsed()
}

fn commit(log_dir: &mut LogDir) {
    if let Some(group) = log_dir.begin_commit() {
        let mut done = group.run().unwrap();
        let flush = done.take_flush();
        let _ = log_dir.finish_commit(done);
        flush.map_or(Ok(()), weir_log::Flush::run).unwrap();
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
