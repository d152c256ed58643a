//! Directories with every kind of file, as a clean stop, a kill and a power cut leave them, and what is
//! to be read from them.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_log::{
    AbortedTxn, AppendOrigin, CleanerOptions, Flush, Log, LogConfig, LogDir, LogDirOptions,
    LogError, LogId, MemDisk, RecoveryReport,
};
use weir_protocol::batch::{self, BatchBuilder, BatchView, ControlMarker, Record};
use weir_protocol::compression::Codec;
use weir_protocol::{Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs, Uuid};

use crate::rig::{batch_at, read_all, DIR, T0};

/// Plain, compacted, and one whose start was moved into a segment.
pub(crate) const TOPICS: [&str; 3] = ["events", "states", "alerts"];
/// So small that most of it holds commits.
const JOURNAL_BYTES: u64 = 40 << 10;
/// A commit of more goes to the segments at once.
const GROUP_BYTES_MAX: u64 = 8 << 10;

/// A directory, and what a start makes of it as long as nothing is damaged.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) disk: MemDisk,
    pub(crate) logs: BTreeMap<&'static str, Known>,
    /// Of each segment that a start leaves as it is: where its batches are.
    pub(crate) places: BTreeMap<PathBuf, Vec<(i64, Range<usize>)>>,
}

/// What readers of one log must get.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// By base offset.
    pub(crate) batches: BTreeMap<i64, Vec<u8>>,
    /// All records by offset, in words; also those below the start, that come to light if it is forgotten.
    pub(crate) records: BTreeMap<i64, String>,
    pub(crate) aborted: Vec<AbortedTxn>,
    /// Base offset of the first batch with a record as late as this, or later.
    pub(crate) by_time: Vec<(TimestampMs, Option<Offset>)>,
}

pub(crate) fn options() -> LogDirOptions {
    let config = |pairs: &[(&str, &str)]| {
        let common = [("segment.bytes", "2500"), ("index.interval.bytes", "200")];
        LogConfig::from_pairs(common.into_iter().chain(pairs.iter().copied())).unwrap()
    };
    let compact = config(&[("cleanup.policy", "compact"), ("file.delete.delay.ms", "0")]);
    LogDirOptions {
        new_cluster_id: Uuid([1; 16]),
        new_directory_id: Uuid([2; 16]),
        default_config: config(&[("file.delete.delay.ms", "0")]),
        topic_configs: HashMap::from([(TOPICS[1].to_owned(), compact)]),
        journal_bytes_max: Some(JOURNAL_BYTES),
        journal_group_bytes_max: GROUP_BYTES_MAX,
        cleaner: CleanerOptions::default(),
        ..LogDirOptions::default()
    }
}

pub(crate) fn open(disk: &MemDisk) -> Result<(LogDir, RecoveryReport), LogError> {
    LogDir::open(Arc::new(disk.clone()), Path::new(DIR), options(), T0)
}

pub(crate) fn find<'a>(dir: &'a LogDir, topic: &str) -> Option<&'a Log> {
    dir.find(topic, PartitionId(0)).and_then(|id| dir.get(id))
}

/// The leader epoch is the one field that neither the CRC nor its neighbours give away.
pub(crate) fn without_epoch(batch: &[u8]) -> (&[u8], &[u8]) {
    (&batch[..12], &batch[16..])
}

/// A clean stop, a kill, and a few power cuts.
pub(crate) fn scenes(seed: u64) -> Vec<Scene> {
    let stopped = Filling::new();
    let disk = stopped.disk.clone();
    stopped.dir.close().unwrap();
    let mut scenes = vec![Scene::new("clean stop", disk, None)];
    let live = Filling::new();
    let committed = live.known();
    scenes.push(Scene::new("kill", live.disk.crash_as_kill(), Some(&committed)));
    for cut in 0..4 {
        scenes.push(Scene::new("power cut", live.disk.crash(seed ^ cut), Some(&committed)));
    }
    scenes
}

impl Scene {
    /// `committed` is what must be there by all means.
    fn new(
        name: &'static str,
        disk: MemDisk,
        committed: Option<&BTreeMap<&'static str, Known>>,
    ) -> Self {
        let opened = disk.crash_as_kill();
        let (dir, report) = open(&opened).unwrap();
        assert!(report.damage.is_empty() && report.bad_files.is_empty(), "{name}: {report:?}");
        assert!(report.warnings.is_empty(), "{name}: {report:?}");
        let mut logs = known(&dir);
        for (topic, known) in &mut logs {
            known.complete(&opened, topic);
        }
        for (topic, committed) in committed.into_iter().flatten() {
            let there = &logs[topic];
            assert_eq!((there.start, there.end), (committed.start, committed.end), "{name}");
            for ((a, one), (b, other)) in there.batches.iter().zip(&committed.batches) {
                assert_eq!(a, b, "{name}: {topic}");
                assert!(without_epoch(one) == without_epoch(other), "{name}: {topic}, {a}");
            }
        }
        drop(dir);
        let mut places = BTreeMap::new();
        for (path, bytes) in disk.files() {
            if path.extension().is_none_or(|end| end != "log") {
                continue;
            }
            let (mut at, mut found) = (0, Vec::new());
            for view in batch::batches_in(&bytes).map_while(Result::ok) {
                let len = view.size_bytes();
                if view.verify_crc().is_ok() {
                    found.push((view.base_offset().get(), at..at + len));
                }
                at += len;
            }
            places.insert(path, found);
        }
        Self { name, disk, logs, places }
    }
}

impl Known {
    /// Adds the records of all batches in the files.
    fn complete(&mut self, disk: &MemDisk, topic: &str) {
        let dir = Path::new(DIR).join(format!("{topic}-0"));
        for (path, bytes) in disk.files() {
            if !path.starts_with(&dir) || path.extension().is_none_or(|end| end != "log") {
                continue;
            }
            for view in batch::batches_in(&bytes).map(Result::unwrap) {
                self.records.extend(records_of(&view));
            }
        }
    }
}

/// What a reader gets of a batch, in words, by offset.
pub(crate) fn records_of(view: &BatchView<'_>) -> Vec<(i64, String)> {
    let Ok(records) = view.records(1 << 20) else { return Vec::new() };
    let words = |record: &Record| {
        let signed = (view.producer_id(), view.is_transactional(), view.is_control());
        format!("{} {:?} {:?} {signed:?}", record.timestamp, record.key, record.value)
    };
    records.map_while(Result::ok).map(|record| (record.offset.get(), words(&record))).collect()
}

/// What readers get from each log of a sound directory.
fn known(dir: &LogDir) -> BTreeMap<&'static str, Known> {
    let known_of = |topic: &'static str| {
        let log = find(dir, topic).unwrap();
        let (start, end) = (log.log_start_offset(), log.synced_offset());
        let read = log.read(start, usize::MAX, end).unwrap();
        let bytes = read_all(&read.slices);
        let mut batches = BTreeMap::new();
        for view in batch::batches(&bytes) {
            let view = view.unwrap();
            view.verify_crc().unwrap();
            batches.insert(view.base_offset().get(), view.bytes().to_vec());
        }
        let by_time = (0..40).map(|n| T0.plus_ms(n * 5 - 1));
        let by_time = by_time.map(|time| {
            (time, log.offset_for_timestamp(time).unwrap().map(|found| found.base_offset))
        });
        let known = Known {
            start,
            end,
            batches,
            records: BTreeMap::new(),
            aborted: log.aborted_txns(start, end).unwrap(),
            by_time: by_time.collect(),
        };
        (topic, known)
    };
    TOPICS.into_iter().map(known_of).collect()
}

/// Fills three logs: half of it before a checkpoint, half of it after, the end in the journal only.
struct Filling {
    disk: MemDisk,
    dir: LogDir,
    ids: Vec<LogId>,
    sequences: HashMap<i64, i32>,
}

impl Filling {
    fn new() -> Self {
        let disk = MemDisk::new();
        let (mut dir, _) = open(&disk).unwrap();
        let options = options();
        let mut ids = Vec::new();
        for (n, topic) in (1..).zip(TOPICS) {
            let config = options.topic_configs.get(topic).unwrap_or(&options.default_config);
            let id = dir.create_log(topic, Uuid([n; 16]), PartitionId(0), config.clone(), T0);
            ids.push(id.unwrap());
        }
        let mut filling = Self { disk, dir, ids, sequences: HashMap::new() };
        for n in 0..60 {
            filling.round(n);
            filling.commit(n % 3 == 0);
        }
        filling.clean();
        filling.dir.get_mut(filling.ids[2]).unwrap().delete_records(Offset(25), T0).unwrap();
        let later = T0.plus_ms(options.checkpoint_interval_ms + 1);
        filling.dir.tick(later).unwrap();
        filling.commit(true);
        for n in 60..90 {
            filling.round(n);
            // The last of them are in the journal alone.
            filling.commit(n < 75);
        }
        filling
    }

    /// A bit of everything.
    fn round(&mut self, n: usize) {
        let at = T0.plus_ms(n as i64 * 2);
        self.append(0, batch_at(1 + n % 7, 10, at), AppendOrigin::Client);
        let mut mixed = BatchBuilder::new(Codec::ALL[n % 5]);
        self.sign(&mut mixed, 9);
        for one in 0..4 {
            mixed.append(at.plus_ms(one), Some(b"key"), Some(&vec![7; n + 20]), &[]);
        }
        self.append(0, mixed.build().to_vec(), AppendOrigin::Client);
        for (producer, every) in [(7, 5), (8, 9)] {
            if n % every != 1 {
                continue;
            }
            let mut txn = BatchBuilder::new(Codec::None);
            self.sign(&mut txn, producer);
            txn.set_transactional(true);
            txn.append(at, None, Some(b"in doubt"), &[]);
            self.append(0, txn.build().to_vec(), AppendOrigin::Client);
        }
        for (producer, every, marker) in
            [(7, 5, ControlMarker::Abort), (8, 9, ControlMarker::Commit)]
        {
            if n % every == 2 {
                let id = ProducerId(producer);
                let end = batch::build_control(marker, id, ProducerEpoch(0), 0, at);
                self.append(0, end.to_vec(), AppendOrigin::Coordinator);
            }
        }
        let mut state = BatchBuilder::new(Codec::None);
        let key = format!("device-{}", n % 11);
        let value = format!("state {n}");
        state.append(at, Some(key.as_bytes()), (n % 13 != 3).then_some(value.as_bytes()), &[]);
        self.append(1, state.build().to_vec(), AppendOrigin::Client);
        self.append(2, batch_at(1 + n % 3, 40, at), AppendOrigin::Client);
    }

    fn sign(&mut self, batch: &mut BatchBuilder, producer: i64) {
        let sequence = self.sequences.entry(producer).or_default();
        batch.set_producer(ProducerId(producer), ProducerEpoch(0), Sequence(*sequence));
        *sequence += if producer == 9 { 4 } else { 1 };
    }

    fn append(&mut self, log: usize, mut batch: Vec<u8>, origin: AppendOrigin) {
        let log = self.dir.get_mut(self.ids[log]).unwrap();
        log.append(&mut batch, origin, T0).unwrap();
    }

    fn commit(&mut self, flushes: bool) {
        while let Some(group) = self.dir.begin_commit() {
            let mut committed = group.run().unwrap();
            let flush = committed.take_flush();
            self.dir.finish_commit(committed);
            if flushes {
                flush.map_or(Ok(()), Flush::run).unwrap();
            }
        }
    }

    fn clean(&mut self) {
        assert!(self.dir.request_clean(self.ids[1]).unwrap());
        let before = self.dir.get(self.ids[1]).unwrap().size_bytes();
        for _ in 0..1000 {
            let upkeep = self.dir.begin_upkeep(T0);
            let waits = self.dir.has_dirty();
            self.commit(true);
            let Some(upkeep) = upkeep else {
                if waits {
                    continue;
                }
                break;
            };
            let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
            let report = self.dir.finish_upkeep(done, T0);
            assert!(report.errors.is_empty(), "{report:?}");
        }
        let after = self.dir.get(self.ids[1]).unwrap().size_bytes();
        assert!(after < before, "it was compacted");
    }

    fn known(&self) -> BTreeMap<&'static str, Known> {
        known(&self.dir)
    }
}
