//! How long one commit of appends to many segments takes: by an fdatasync of each segment, by one
//! `syncfs`, and by the commit journal.
//!
//! ```text
//! cargo run --release -p weir-log --example commit_bench [directory [segments]]
//! ```
//!
//! The directory decides which disk is measured; by default it is the one of the build. A commit is
//! everything from the first append to the synced offset. Flushes of the journal run on a thread of
//! their own, as in the broker, and count as what they cost the commits beside them.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_log::disk::{DirEntry, DiskLock, LockFailure, OpenMode, VolumeBytes};
use weir_log::{
    AppendOrigin, Disk, DiskFile, FileDisk, Flush, LogConfig, LogDir, LogDirOptions, LogId,
};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{PartitionId, TimestampMs, Uuid};

const RUN: Duration = Duration::from_secs(3);
const COMMITS_MIN: usize = 50;
const T0: TimestampMs = TimestampMs(1_763_700_000_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Each,
    Syncfs,
    Journal,
}

fn main() {
    let base = std::env::args().nth(1).map_or_else(
        || PathBuf::from(std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into())),
        PathBuf::from,
    );
    std::fs::create_dir_all(&base).unwrap();
    println!("one commit of n appends, each to another segment: p50, p99 in ms; commits/s; MB/s");
    println!("{:<18}{:^34}{:^34}{:^34}", "", "fdatasync each", "syncfs", "journal");
    let small = [(1, 300), (8, 20_000), (12, 90_000), (100, 4_000), (1000, 4_000)];
    let only: Option<usize> = std::env::args().nth(2).map(|only| only.parse().unwrap());
    for (segments, bytes) in small.into_iter().filter(|row| only.is_none_or(|n| n == row.0)) {
        print_row(&base, segments, bytes, &[Way::Each, Way::Syncfs, Way::Journal]);
    }
    if only.is_some() {
        return;
    }
    println!("where writing twice begins to cost more than it saves, 12 segments:");
    for kilobytes in [64, 128, 256, 512, 1024, 2048, 4096, 8192] {
        print_row(&base, 12, kilobytes * 1000 / 12, &[Way::Each, Way::Syncfs, Way::Journal]);
    }
}

fn print_row(base: &Path, segments: usize, bytes: usize, ways: &[Way]) {
    print!("{:<18}", format!("{segments} x {bytes} B"));
    for way in ways {
        let (mut times, took) = measure(base, segments, bytes, *way);
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        let rate = times.len() as f64 / took.as_secs_f64();
        let megabytes = rate * (segments * bytes) as f64 / 1e6;
        print!("{:>9.2} {:>8.2} {rate:>7.0} {megabytes:>7.0} ", at(50), at(99));
    }
    println!();
}

fn batch(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    let overhead = builder_overhead();
    let value = vec![b'x'; bytes.saturating_sub(overhead).max(1)];
    builder.append(T0, None, Some(&value), &[]);
    builder.build().to_vec()
}

/// A batch header and the head of one record, about.
const fn builder_overhead() -> usize {
    61 + 10
}

fn measure(base: &Path, segments: usize, bytes: usize, way: Way) -> (Vec<Duration>, Duration) {
    let dir = base.join(format!("commit-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let disk: Arc<dyn Disk> = match way {
        Way::Each => Arc::new(SyncEach(FileDisk)),
        Way::Syncfs | Way::Journal => Arc::new(FileDisk),
    };
    let options = LogDirOptions {
        journal_bytes_max: (way == Way::Journal).then_some(64 << 20),
        journal_group_bytes_max: 8 << 20,
        ..LogDirOptions::default()
    };
    let (mut log_dir, _) = LogDir::open(disk, &dir, options, T0).unwrap();
    let config = LogConfig { batch_bytes_max: 2 << 20, ..LogConfig::default() };
    let make = |log_dir: &mut LogDir, partition: usize| {
        let partition = PartitionId(i32::try_from(partition).unwrap());
        log_dir.create_log("bench", Uuid([7; 16]), partition, config.clone(), T0).unwrap()
    };
    let ids: Vec<LogId> = (0..segments).map(|partition| make(&mut log_dir, partition)).collect();
    let (flushes, to_flush) = mpsc::sync_channel::<Flush>(1);
    let flusher = std::thread::spawn(move || to_flush.into_iter().for_each(|f| f.run().unwrap()));
    let mut batch = batch(bytes);
    commit(&mut log_dir, &flushes);
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < RUN || times.len() < COMMITS_MIN {
        let one = Instant::now();
        for id in &ids {
            let log = log_dir.get_mut(*id).unwrap();
            log.append(&mut batch, AppendOrigin::Client, T0).unwrap();
        }
        commit(&mut log_dir, &flushes);
        times.push(one.elapsed());
    }
    let took = start.elapsed();
    drop(flushes);
    flusher.join().unwrap();
    drop(log_dir);
    std::fs::remove_dir_all(&dir).unwrap();
    // What is left of one measurement must not burden the next.
    FileDisk.sync_dir(base).unwrap();
    (times, took)
}

fn commit(log_dir: &mut LogDir, flushes: &SyncSender<Flush>) {
    while let Some(group) = log_dir.begin_commit() {
        let mut committed = group.run().unwrap();
        let flush = committed.take_flush();
        log_dir.finish_commit(committed);
        if let Some(flush) = flush {
            let _ = flushes.try_send(flush);
        }
    }
}

/// Files that are synced one by one, however many.
#[derive(Debug)]
struct SyncEach(FileDisk);

impl Disk for SyncEach {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path, mode)
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open_direct(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn sync_many(&self, files: &[Arc<dyn DiskFile>], dirs: &[PathBuf]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync_data())?;
        dirs.iter().try_for_each(|dir| self.0.sync_dir(dir))
    }

    fn volume_bytes(&self, path: &Path) -> io::Result<VolumeBytes> {
        self.0.volume_bytes(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockFailure> {
        self.0.lock(path)
    }
}
