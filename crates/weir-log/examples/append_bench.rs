//! How fast a log takes batches, with and without a sync before the answer.
//!
//! `cargo run --release -p weir-log --example append_bench [-- DIR]`
//!
//! One thread appends, another commits, as a broker does it: while a group is synced the next one is
//! appended. `in flight` bounds what may be appended and not synced, as a client's window does.
//! Directory: a temporary one where the build is, so that it is a disk and not memory.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_log::{AppendOrigin, FileDisk, LogConfig, LogDir, LogDirOptions, LogId};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{PartitionId, TimestampMs, Uuid};

const T0: TimestampMs = TimestampMs(1_763_700_000_000);
const RECORD_BYTES: usize = 200;
const RUN: Duration = Duration::from_secs(3);

fn main() {
    let base = std::env::args().nth(1).map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::fs::create_dir_all(&base).unwrap();
    println!("records of {RECORD_BYTES} B, {} s each", RUN.as_secs());
    println!("{:<42}{:>12}{:>10}{:>12}", "", "records/s", "MB/s", "commits/s");
    for (records, partitions, in_flight) in
        [(5000, 1, 8), (5000, 12, 24), (100, 1, 8), (100, 12, 24), (1, 1, 8), (1, 12, 24)]
    {
        synced(&base, records, partitions, in_flight);
    }
    for records in [5000, 100, 1] {
        unsynced(&base, records);
    }
    starts(&base, 1000);
}

fn batch(records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    let value = vec![b'x'; RECORD_BYTES];
    for _ in 0..records {
        builder.append(T0, None, Some(&value), &[]);
    }
    builder.build().to_vec()
}

fn open(dir: &Path, partitions: i32) -> (LogDir, Vec<LogId>) {
    let options = LogDirOptions::default();
    let (mut log_dir, _) = LogDir::open(Arc::new(FileDisk), dir, options, T0).unwrap();
    let ids = (0..partitions)
        .map(|partition| {
            let found = log_dir.find("bench", PartitionId(partition));
            found.unwrap_or_else(|| {
                let config = LogConfig { batch_bytes_max: 2 << 20, ..LogConfig::default() };
                log_dir
                    .create_log("bench", Uuid([7; 16]), PartitionId(partition), config, T0)
                    .unwrap()
            })
        })
        .collect();
    (log_dir, ids)
}

fn fresh(base: &Path) -> PathBuf {
    let dir = base.join(format!("append-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn report(
    what: &str,
    appends: usize,
    records: usize,
    bytes: usize,
    commits: usize,
    took: Duration,
) {
    let seconds = took.as_secs_f64();
    println!(
        "{what:<42}{:>12.0}{:>10.1}{:>12.0}",
        (appends * records) as f64 / seconds,
        (appends * bytes) as f64 / seconds / 1e6,
        commits as f64 / seconds
    );
}

/// At most `in_flight` appends are not answered; each is answered after its sync.
fn synced(base: &Path, records: usize, partitions: i32, in_flight: usize) {
    let dir = fresh(base);
    let (mut log_dir, ids) = open(&dir, partitions);
    let (groups, to_run) = mpsc::channel::<weir_log::CommitGroup>();
    let (done, finished) = mpsc::channel();
    let committer = std::thread::spawn(move || {
        for group in to_run {
            if done.send(group.run()).is_err() {
                break;
            }
        }
    });
    let mut bytes = batch(records);
    let (mut appends, mut answered, mut commits) = (0, 0, 0);
    let mut in_group = 0;
    let start = Instant::now();
    while start.elapsed() < RUN || answered < appends {
        while start.elapsed() < RUN && appends - answered < in_flight {
            let log = log_dir.get_mut(ids[appends % ids.len()]).unwrap();
            log.append(&mut bytes, AppendOrigin::Client, T0).unwrap();
            appends += 1;
            if !log_dir.commit_is_running() {
                break;
            }
        }
        if let Some(group) = log_dir.begin_commit() {
            in_group = appends - answered;
            groups.send(group).unwrap();
        }
        let is_full = appends - answered >= in_flight || start.elapsed() >= RUN;
        let outcome = if is_full { finished.recv().ok() } else { finished.try_recv().ok() };
        if let Some(committed) = outcome {
            log_dir.finish_commit(committed.unwrap());
            answered += in_group;
            in_group = 0;
            commits += 1;
        }
    }
    let took = start.elapsed();
    drop(groups);
    committer.join().unwrap();
    let what = format!("synced, batches of {records}, {partitions} logs, {in_flight} in flight");
    report(&what, appends, records, bytes.len(), commits, took);
    drop(log_dir);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Into the page cache only; the disk follows as it can.
fn unsynced(base: &Path, records: usize) {
    let dir = fresh(base);
    let (mut log_dir, ids) = open(&dir, 1);
    let mut bytes = batch(records);
    let mut appends = 0;
    let start = Instant::now();
    while start.elapsed() < RUN && appends * bytes.len() < 2_000_000_000 {
        let log = log_dir.get_mut(ids[0]).unwrap();
        log.append(&mut bytes, AppendOrigin::Client, T0).unwrap();
        appends += 1;
    }
    let what = format!("not synced, batches of {records}");
    report(&what, appends, records, bytes.len(), 0, start.elapsed());
    drop(log_dir);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Opening a directory with many logs.
fn starts(base: &Path, partitions: i32) {
    let dir = fresh(base);
    let (mut log_dir, ids) = open(&dir, partitions);
    let start = Instant::now();
    let group = log_dir.begin_commit().unwrap();
    log_dir.finish_commit(group.run().unwrap());
    println!("first commit of {partitions} new logs: {:.1} ms", millis(start));
    for id in ids {
        let log = log_dir.get_mut(id).unwrap();
        log.append(&mut batch(20), AppendOrigin::Client, T0).unwrap();
    }
    let start = Instant::now();
    let group = log_dir.begin_commit().unwrap();
    log_dir.finish_commit(group.run().unwrap());
    println!("one commit of 4 kB to each of {partitions} logs: {:.1} ms", millis(start));
    let start = Instant::now();
    drop(log_dir);
    println!("(files closed in {:.1} ms)", millis(start));
    let start = Instant::now();
    let (log_dir, _) = open(&dir, partitions);
    println!("unclean start with {partitions} logs: {:.1} ms", millis(start));
    drop(log_dir);
    let start = Instant::now();
    let (log_dir, _) = open(&dir, partitions);
    println!("unclean start, nothing to scan: {:.1} ms", millis(start));
    let start = Instant::now();
    log_dir.close().unwrap();
    println!("clean stop: {:.1} ms", millis(start));
    let start = Instant::now();
    let (log_dir, _) = open(&dir, partitions);
    println!("clean start with {partitions} logs: {:.1} ms", millis(start));
    drop(log_dir);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
