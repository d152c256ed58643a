//! How many producers are remembered, whoever makes up their ids.

use std::path::Path;
use std::sync::Arc;

use weir_log::disk::MemDisk;
use weir_log::{AppendOrigin, Appended, LogConfig, LogDir, LogDirOptions, LogId};
use weir_protocol::{PartitionId, ProducerId, Uuid};

use crate::rig::{options, producer_batch, txn_batch, DIR, T0};

fn open(disk: &MemDisk, per_log_max: usize, total_max: usize) -> LogDir {
    let options = LogDirOptions {
        producers_per_log_max: per_log_max,
        producers_max: total_max,
        ..options(&LogConfig::default())
    };
    LogDir::open(Arc::new(disk.clone()), Path::new(DIR), options, T0).unwrap().0
}

fn create(dir: &mut LogDir, partition: i32) -> LogId {
    let id = Uuid([u8::try_from(partition + 1).unwrap(); 16]);
    dir.create_log("t", id, PartitionId(partition), LogConfig::default(), T0).unwrap()
}

/// Appends one record at the `ms`th millisecond.
fn append(dir: &mut LogDir, log: LogId, mut batch: Vec<u8>, ms: i64) -> Appended {
    let log = dir.get_mut(log).unwrap();
    log.append(&mut batch, AppendOrigin::Client, T0.plus_ms(ms)).unwrap()
}

fn commit(dir: &mut LogDir) {
    while let Some(group) = dir.begin_commit() {
        let committed = group.run().unwrap();
        dir.finish_commit(committed);
    }
}

#[test]
fn a_log_remembers_no_more_producers_than_it_may_and_the_latest_of_them() {
    let disk = MemDisk::new();
    let mut dir = open(&disk, 1_000, usize::MAX);
    let log = create(&mut dir, 0);
    for n in 0..5_000 {
        append(&mut dir, log, producer_batch(n, 0, 0, 1), n);
        assert!(dir.get(log).unwrap().producer_count() <= 1_000);
    }
    // At most one in 16 is forgotten more than must be.
    for n in 4_100..5_000 {
        let again = append(&mut dir, log, producer_batch(n, 0, 0, 1), 5_000);
        assert_eq!((again.duplicate, again.base_offset.get()), (true, n));
    }
    let report = dir.tick(T0.plus_ms(5_000)).unwrap();
    let kept = dir.get(log).unwrap().producer_count();
    assert_eq!(report.producers_forgotten, 5_000 - kept as u64);
    assert_eq!(dir.tick(T0.plus_ms(6_000)).unwrap().producers_forgotten, 0);
}

#[test]
fn a_producer_with_an_open_transaction_is_not_forgotten_for_want_of_room() {
    let disk = MemDisk::new();
    let mut dir = open(&disk, 200, usize::MAX);
    let log = create(&mut dir, 0);
    for n in 0..300 {
        append(&mut dir, log, txn_batch(n, 0), n);
    }
    for n in 1_000..3_000 {
        append(&mut dir, log, producer_batch(n, 0, 0, 1), n);
    }
    let found = dir.get(log).unwrap();
    assert!((0..300).all(|n| found.producer(ProducerId(n)).is_some()));
    assert!(found.producer_count() <= 500);
    assert_eq!(found.open_transactions().count(), 300);
}

#[test]
fn the_bound_holds_through_a_restart_of_any_kind() {
    for clean in [true, false] {
        let disk = MemDisk::new();
        let mut dir = open(&disk, usize::MAX, usize::MAX);
        let log = create(&mut dir, 0);
        for n in 0..2_000 {
            append(&mut dir, log, producer_batch(n, 0, 0, 1), n);
        }
        commit(&mut dir);
        if clean {
            dir.close().unwrap();
        } else {
            drop(dir);
            disk.kill();
        }
        let mut dir = open(&disk, 300, usize::MAX);
        let log = dir.find("t", PartitionId(0)).unwrap();
        let kept = dir.get(log).unwrap().producer_count();
        assert!((250..=300).contains(&kept), "clean {clean}: {kept}");
        for n in 1_800..2_000 {
            let again = append(&mut dir, log, producer_batch(n, 0, 0, 1), 3_000);
            assert_eq!((again.duplicate, again.base_offset.get()), (true, n), "clean {clean}");
        }
    }
}

#[test]
fn all_logs_together_remember_no_more_than_they_may_and_each_some() {
    let disk = MemDisk::new();
    let mut dir = open(&disk, 1_000, 2_000);
    let logs: Vec<LogId> = (0..10).map(|partition| create(&mut dir, partition)).collect();
    let mut next = 0;
    for log in &logs {
        for _ in 0..1_500 {
            append(&mut dir, *log, producer_batch(next, 0, 0, 1), next);
            next += 1;
        }
        dir.tick(T0.plus_ms(next)).unwrap();
    }
    let counts: Vec<usize> =
        logs.iter().map(|log| dir.get(*log).unwrap().producer_count()).collect();
    assert!(counts.iter().sum::<usize>() <= 2_000 + 10 * 100, "{counts:?}");
    assert!(counts.iter().all(|count| *count >= 90), "{counts:?}");
}

#[test]
fn a_snapshot_of_many_producers_is_read_back_whole() {
    let disk = MemDisk::new();
    let mut dir = open(&disk, usize::MAX, usize::MAX);
    let log = create(&mut dir, 0);
    for n in 0..3_000 {
        // Not in the order of their ids.
        let id = (n * 7_919) % 3_001;
        append(&mut dir, log, producer_batch(id, 0, 0, 1), n);
    }
    commit(&mut dir);
    dir.tick(T0.plus_ms(100_000)).unwrap();
    commit(&mut dir);
    let before: Vec<_> = sorted(&dir, log);
    drop(dir);
    let dir = open(&disk.crash(3), usize::MAX, usize::MAX);
    let log = dir.find("t", PartitionId(0)).unwrap();
    assert_eq!(sorted(&dir, log), before);
    assert_eq!(before.len(), 3_000);
}

fn sorted(dir: &LogDir, log: LogId) -> Vec<weir_log::ProducerInfo> {
    let mut all: Vec<_> = dir.get(log).unwrap().producers().collect();
    all.sort_unstable_by_key(|one| one.id);
    all
}
