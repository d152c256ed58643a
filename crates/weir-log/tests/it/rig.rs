//! What the tests share: a directory on a disk in memory, batches, and reading back.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weir_log::{
    AppendError, AppendOrigin, Appended, Disk, Flush, Log, LogConfig, LogDir, LogDirOptions,
    LogError, LogId, MemDisk, RecoveryReport, UpkeepReport,
};
use weir_protocol::batch::{self, BatchBuilder};
use weir_protocol::compression::Codec;
use weir_protocol::{Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs, Uuid};

pub(crate) const DIR: &str = "/data";
pub(crate) const TOPIC: &str = "drone-events";
pub(crate) const T0: TimestampMs = TimestampMs(1_763_700_000_000);

/// A directory with one log.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) disk: MemDisk,
    pub(crate) dir: LogDir,
    pub(crate) id: LogId,
    pub(crate) config: LogConfig,
}

pub(crate) fn options(config: &LogConfig) -> LogDirOptions {
    LogDirOptions {
        new_cluster_id: Uuid([1; 16]),
        new_directory_id: Uuid([2; 16]),
        default_config: config.clone(),
        ..LogDirOptions::default()
    }
}

pub(crate) fn open(
    disk: &MemDisk,
    config: &LogConfig,
) -> Result<(LogDir, RecoveryReport), LogError> {
    LogDir::open(Arc::new(disk.clone()), Path::new(DIR), options(config), T0)
}

impl Rig {
    /// A new directory whose log is durable.
    pub(crate) fn new(config: LogConfig) -> Self {
        let options = options(&config);
        Self::with_options(config, options)
    }

    /// As [`Rig::new`], in a directory that has no commit journal.
    pub(crate) fn without_journal() -> Self {
        let config = LogConfig::default();
        let options = LogDirOptions { journal_bytes_max: None, ..options(&config) };
        Self::with_options(config, options)
    }

    fn with_options(config: LogConfig, options: LogDirOptions) -> Self {
        let disk = MemDisk::new();
        let opened = LogDir::open(Arc::new(disk.clone()), Path::new(DIR), options, T0);
        let (mut dir, _) = opened.unwrap();
        let id = dir.create_log(TOPIC, Uuid([3; 16]), PartitionId(0), config.clone(), T0).unwrap();
        let mut rig = Self { disk, dir, id, config };
        rig.commit();
        rig
    }

    pub(crate) fn with(pairs: &[(&str, &str)]) -> Self {
        Self::new(LogConfig::from_pairs(pairs.iter().copied()).unwrap())
    }

    pub(crate) fn log(&self) -> &Log {
        self.dir.get(self.id).unwrap()
    }

    pub(crate) fn log_mut(&mut self) -> &mut Log {
        self.dir.get_mut(self.id).unwrap()
    }

    pub(crate) fn append(&mut self, mut batch: Vec<u8>) -> Result<Appended, AppendError> {
        self.log_mut().append(&mut batch, AppendOrigin::Client, T0)
    }

    /// Commits until nothing waits.
    pub(crate) fn commit(&mut self) {
        while let Some(group) = self.dir.begin_commit() {
            let mut committed = group.run().unwrap();
            let flush = committed.take_flush();
            self.dir.finish_commit(committed);
            flush.map_or(Ok(()), Flush::run).unwrap();
        }
    }

    /// Does all upkeep that is due.
    pub(crate) fn upkeep(&mut self, now: TimestampMs) -> UpkeepReport {
        upkeep(&mut self.dir, now)
    }

    /// Makes the commit journal of no use: all it held is in the segments, for good.
    pub(crate) fn empty_journal(&mut self) {
        let (config, id) = (self.config.clone(), Uuid([8; 16]));
        self.dir.create_log("zz", id, PartitionId(0), config, T0).unwrap();
        self.commit();
    }

    /// Stops and starts again on `disk`.
    pub(crate) fn reopen_on(self, disk: MemDisk) -> (Self, RecoveryReport) {
        let Self { dir, config, .. } = self;
        drop(dir);
        disk.kill();
        let (dir, report) = open(&disk, &config).unwrap();
        let id = dir.find(TOPIC, PartitionId(0)).unwrap();
        (Self { disk, dir, id, config }, report)
    }

    pub(crate) fn kill_and_reopen(self) -> (Self, RecoveryReport) {
        let disk = self.disk.clone();
        self.reopen_on(disk)
    }

    pub(crate) fn close_and_reopen(self) -> (Self, RecoveryReport) {
        let Self { disk, dir, config, .. } = self;
        dir.close().unwrap();
        let (dir, report) = open(&disk, &config).unwrap();
        let id = dir.find(TOPIC, PartitionId(0)).unwrap();
        (Self { disk, dir, id, config }, report)
    }

    pub(crate) fn path(&self, base: i64, suffix: &str) -> PathBuf {
        path(base, suffix)
    }

    pub(crate) fn file(&self, base: i64, suffix: &str) -> Vec<u8> {
        let path = self.path(base, suffix);
        self.disk.files().remove(&path).unwrap_or_else(|| panic!("no {}", path.display()))
    }

    /// Offsets of all records from `offset` to the synced offset, read as a consumer does.
    pub(crate) fn offsets_from(&self, offset: i64) -> Vec<i64> {
        let (log, mut at, mut offsets) = (self.log(), Offset(offset), Vec::new());
        while at < log.synced_offset() {
            let read = log.read(at, 1000, log.synced_offset()).unwrap();
            let bytes = read_all(&read.slices);
            for view in batch::batches(&bytes) {
                let view = view.unwrap();
                view.verify_crc().unwrap();
                offsets.extend(view.base_offset().get()..=view.last_offset().get());
            }
            assert!(read.next_offset > at, "a read gets on");
            at = read.next_offset;
        }
        offsets
    }
}

/// Does all upkeep that is due, without haste or hindrance.
pub(crate) fn upkeep(dir: &mut LogDir, now: TimestampMs) -> UpkeepReport {
    let mut all = UpkeepReport::default();
    while let Some(upkeep) = dir.begin_upkeep(now) {
        let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
        let one = dir.finish_upkeep(done, now);
        all.files_removed += one.files_removed;
        all.indexes_rebuilt += one.indexes_rebuilt;
        all.errors.extend(one.errors);
    }
    all
}

pub(crate) fn path(base: i64, suffix: &str) -> PathBuf {
    Path::new(DIR).join(format!("{TOPIC}-0")).join(format!("{base:020}.{suffix}"))
}

pub(crate) fn read_all(slices: &[weir_log::FileSlice]) -> Bytes {
    let mut bytes = Vec::new();
    for slice in slices {
        bytes.extend_from_slice(&slice.read().unwrap());
    }
    Bytes::from(bytes)
}

/// `count` records with values of `value_bytes`, all dated `timestamp`.
pub(crate) fn batch_at(count: usize, value_bytes: usize, timestamp: TimestampMs) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for n in 0..count {
        let value = vec![u8::try_from(n % 251).unwrap(); value_bytes];
        builder.append(timestamp, Some(b"key"), Some(&value), &[]);
    }
    builder.build().to_vec()
}

/// `count` small records.
pub(crate) fn batch_of(count: usize) -> Vec<u8> {
    batch_at(count, 10, T0)
}

/// `count` records of an idempotent producer.
pub(crate) fn producer_batch(id: i64, epoch: i16, sequence: i32, count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    for _ in 0..count {
        builder.append(T0, None, Some(b"value"), &[]);
    }
    builder.build().to_vec()
}

/// One record in a transaction.
pub(crate) fn txn_batch(id: i64, sequence: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
    builder.set_transactional(true);
    builder.append(T0, None, Some(b"value"), &[]);
    builder.build().to_vec()
}

pub(crate) fn exists(disk: &MemDisk, path: &Path) -> bool {
    disk.open(path, weir_log::disk::OpenMode::Existing).is_ok()
}
