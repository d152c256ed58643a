//! The commit journal: several logs through appends, rolls, truncations, deletions and restarts, with
//! the power cut at each single operation of the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use weir_log::disk::{Fault, FaultKind};
use weir_log::{
    AppendOrigin, CommitGroup, Flush, LogConfig, LogDir, LogDirOptions, LogId, MemDisk,
    RecoveryReport,
};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{Offset, PartitionId, TimestampMs, Uuid};

use crate::rig::{batch_of, exists, read_all, Rig, DIR, T0};

/// So small that the ring goes round, and is full, within a few commits.
const JOURNAL_BYTES: u64 = 40 << 10;

fn journal_path() -> PathBuf {
    Path::new(DIR).join("weir-commit-journal")
}

#[derive(Debug, Clone)]
enum Op {
    Append {
        log: usize,
        bytes: usize,
    },
    Commit,
    /// Begins a commit that ends with the next one or with `Finish`.
    Begin,
    Finish,
    /// Runs the flush that a commit gave.
    Flush,
    DropFlush,
    Truncate {
        log: usize,
        at: usize,
    },
    Recreate {
        log: usize,
    },
    DeleteRecords {
        log: usize,
        at: usize,
    },
    Checkpoint,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3_usize, 1..400_usize).prop_map(|(log, bytes)| Op::Append { log, bytes }),
        1 => (0..3_usize, 3000..9000_usize).prop_map(|(log, bytes)| Op::Append { log, bytes }),
        8 => Just(Op::Commit),
        2 => Just(Op::Begin),
        1 => Just(Op::Finish),
        3 => Just(Op::Flush),
        1 => Just(Op::DropFlush),
        1 => (0..3_usize, any::<usize>()).prop_map(|(log, at)| Op::Truncate { log, at }),
        1 => (0..3_usize).prop_map(|log| Op::Recreate { log }),
        1 => (0..3_usize, any::<usize>()).prop_map(|(log, at)| Op::DeleteRecords { log, at }),
        1 => Just(Op::Checkpoint),
    ]
}

/// What one log must be, under one topic id.
#[derive(Debug, Clone)]
struct Expected {
    topic_id: Uuid,
    /// Its batches, of one record each: so offsets are places in the list.
    batches: Vec<Vec<u8>>,
    /// So many are there for certain: a reader was told, or a producer.
    committed: usize,
}

#[derive(Debug)]
struct Run {
    disk: MemDisk,
    config: LogConfig,
    dir: Option<LogDir>,
    logs: Vec<(LogId, Expected)>,
    /// For a log that is being deleted and made again: what it may be instead.
    in_doubt: Option<(usize, Expected)>,
    running: Option<CommitGroup>,
    flush: Option<Flush>,
    /// Makes each batch and each topic id another.
    count: u64,
    now: TimestampMs,
}

fn options(config: &LogConfig) -> LogDirOptions {
    LogDirOptions {
        new_cluster_id: Uuid([1; 16]),
        new_directory_id: Uuid([2; 16]),
        default_config: config.clone(),
        journal_bytes_max: Some(JOURNAL_BYTES),
        ..LogDirOptions::default()
    }
}

fn open(disk: &MemDisk, config: &LogConfig) -> Result<(LogDir, RecoveryReport), String> {
    let dir = Path::new(DIR);
    LogDir::open(Arc::new(disk.clone()), dir, options(config), T0).map_err(|e| e.to_string())
}

impl Run {
    fn new() -> Self {
        let config = LogConfig { segment_bytes_max: 20_000, ..LogConfig::default() };
        let disk = MemDisk::new();
        let (dir, _) = open(&disk, &config).unwrap();
        let mut run = Self {
            disk,
            config,
            dir: Some(dir),
            logs: Vec::new(),
            in_doubt: None,
            running: None,
            flush: None,
            count: 0,
            now: T0,
        };
        for log in 0..3 {
            let none = Expected { topic_id: Uuid::ZERO, batches: Vec::new(), committed: 0 };
            run.logs.push((LogId(0), none));
            run.create(log).unwrap();
        }
        run.commit().unwrap();
        run
    }

    fn dir(&mut self) -> &mut LogDir {
        self.dir.as_mut().unwrap()
    }

    fn unique(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn create(&mut self, log: usize) -> Result<(), String> {
        let mut topic_id = Uuid([7; 16]);
        topic_id.0[..8].copy_from_slice(&self.unique().to_be_bytes());
        // Also if it fails half-way.
        self.logs[log].1 = Expected { topic_id, batches: Vec::new(), committed: 0 };
        let (config, now) = (self.config.clone(), self.now);
        let name = format!("topic-{log}");
        let made = self.dir().create_log(&name, topic_id, PartitionId(0), config, now);
        self.logs[log].0 = made.map_err(|e| e.to_string())?;
        Ok(())
    }

    /// One operation. `Err` once the power is off.
    fn apply(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Append { log, bytes } => self.append(*log, *bytes),
            Op::Commit => self.commit(),
            Op::Begin => {
                if self.running.is_none() {
                    self.running = self.dir().begin_commit();
                }
                Ok(())
            }
            Op::Finish => self.finish(),
            Op::Flush => match self.flush.take() {
                Some(flush) => flush.run().map_err(|e| e.to_string()),
                None => Ok(()),
            },
            Op::DropFlush => {
                self.flush = None;
                Ok(())
            }
            Op::Truncate { log, at } => self.truncate(*log, *at),
            Op::Recreate { log } => self.recreate(*log),
            Op::DeleteRecords { log, at } => {
                let id = self.logs[*log].0;
                let now = self.now;
                let log = self.dir().get_mut(id).unwrap();
                let (start, end) = (log.log_start_offset().get(), log.synced_offset().get());
                let before = start + (*at as i64).rem_euclid(end - start + 1);
                log.delete_records(Offset(before), now).map(|_| ()).map_err(|e| e.to_string())
            }
            Op::Checkpoint => {
                self.now = self.now.plus_ms(61_000);
                let now = self.now;
                self.dir().tick(now).map(|_| ()).map_err(|e| e.to_string())
            }
        }
    }

    fn append(&mut self, log: usize, bytes: usize) -> Result<(), String> {
        let mut value = vec![b'x'; bytes];
        value.extend_from_slice(&self.unique().to_be_bytes());
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(T0, None, Some(&value), &[]);
        let mut batch = builder.build().to_vec();
        let (id, now) = (self.logs[log].0, self.now);
        let appended =
            self.dir().get_mut(id).unwrap().append(&mut batch, AppendOrigin::Client, now);
        let offset = appended.map_err(|e| e.to_string())?.base_offset;
        let expected = &mut self.logs[log].1;
        assert_eq!(offset.get(), expected.batches.len() as i64, "offsets are dense");
        expected.batches.push(batch);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(group) = self.running.take() else { return Ok(()) };
        let mut committed = group.run().map_err(|e| e.to_string())?;
        let flush = committed.take_flush();
        for (id, synced) in self.dir().finish_commit(committed) {
            let log = self.logs.iter_mut().find(|(known, _)| *known == id).unwrap();
            log.1.committed = usize::try_from(synced.get()).unwrap();
            assert!(log.1.committed <= log.1.batches.len());
        }
        self.flush = flush.or(self.flush.take());
        Ok(())
    }

    fn commit(&mut self) -> Result<(), String> {
        self.finish()?;
        loop {
            self.running = self.dir().begin_commit();
            if self.running.is_none() {
                break;
            }
            self.finish()?;
        }
        for (_, log) in &self.logs {
            assert_eq!(log.committed, log.batches.len(), "a commit covers all");
        }
        self.in_doubt = None;
        Ok(())
    }

    /// Cuts and commits; until that is through, what is cut may come back.
    fn truncate(&mut self, log: usize, at: usize) -> Result<(), String> {
        self.commit()?;
        let id = self.logs[log].0;
        let start = self.dir().get(id).unwrap().log_start_offset().get() as usize;
        let end = self.logs[log].1.batches.len();
        let at = start + at % (end - start + 1);
        self.logs[log].1.committed = at;
        let cut = self.dir().get_mut(id).unwrap().truncate(Offset(at as i64));
        cut.map_err(|e| e.to_string())?;
        let group = self.dir().begin_commit();
        if let Some(group) = group {
            let committed = group.run().map_err(|e| e.to_string())?;
            self.dir().finish_commit(committed);
        }
        self.logs[log].1.batches.truncate(at);
        self.commit()
    }

    /// Deletes a log and makes another of its name; until the commit it may be either.
    fn recreate(&mut self, log: usize) -> Result<(), String> {
        // Only one may be in doubt, and a group that runs knows the old one.
        self.commit()?;
        let (id, old) = self.logs[log].clone();
        self.in_doubt = Some((log, old));
        let now = self.now;
        self.dir().delete_log(id, now).map_err(|e| e.to_string())?;
        self.create(log)
    }

    /// The power is cut; starts on what is left, and looks at everything.
    fn power_cut(&mut self, seed: u64) {
        self.stop();
        let image = self.disk.crash(seed);
        // Every third time it is cut again while it recovers.
        let image = if seed.is_multiple_of(3) {
            image.inject(Fault { after: seed / 3 % 40, kind: FaultKind::PowerOff });
            drop(open(&image, &self.config));
            image.crash(seed ^ 1)
        } else {
            image
        };
        self.start_on(image);
    }

    fn stop(&mut self) {
        (self.running, self.flush, self.dir) = (None, None, None);
    }

    fn start_on(&mut self, disk: MemDisk) {
        disk.kill();
        let (dir, report) = open(&disk, &self.config).unwrap();
        // Other files may be torn: those of a log that was being made.
        let of_journal = |what: &&String| what.contains("journal");
        assert_eq!(report.bad_files.iter().find(of_journal), None, "{report:?}");
        (self.disk, self.dir) = (disk, Some(dir));
        let in_doubt = self.in_doubt.take();
        for log in 0..self.logs.len() {
            let other = in_doubt.as_ref().filter(|(which, _)| *which == log);
            self.check(log, other.map(|(_, other)| other), &report);
        }
        // What was in doubt is gone, or is to be made again.
        self.commit().unwrap();
    }

    fn check(&mut self, log: usize, other: Option<&Expected>, report: &RecoveryReport) {
        let name = format!("topic-{log}");
        let Some(id) = self.dir().find(&name, PartitionId(0)) else {
            assert!(other.is_some(), "{name} is lost");
            self.create(log).unwrap();
            return;
        };
        let found = self.dir.as_ref().unwrap().get(id).unwrap();
        let mut expected = self.logs[log].1.clone();
        if let Some(other) = other.filter(|other| other.topic_id == found.topic_id()) {
            expected = other.clone();
        }
        if other.is_some() && found.topic_id() == Uuid::ZERO {
            // Not made whole.
            expected.topic_id = Uuid::ZERO;
        }
        assert_eq!(found.topic_id(), expected.topic_id, "{name}");
        let end = usize::try_from(found.log_end_offset().get()).unwrap();
        if other.is_some()
            && expected.committed == 0
            && found.log_start_offset().get() == end as i64
        {
            // Its first segment is not there, and the log start on file is still the old one's.
            expected.batches = vec![Vec::new(); end];
        }
        assert!(
            end >= expected.committed && end <= expected.batches.len(),
            "{name} ends at {end}; {} were committed, {} appended; {report:?}",
            expected.committed,
            expected.batches.len()
        );
        assert_eq!(found.synced_offset(), found.log_end_offset());
        let (mut at, mut bytes) = (found.log_start_offset(), Vec::new());
        let start = usize::try_from(at.get()).unwrap();
        while at < found.synced_offset() {
            let read = found.read(at, 100_000, found.synced_offset()).unwrap();
            bytes.extend_from_slice(&read_all(&read.slices));
            at = read.next_offset;
        }
        assert!(bytes == expected.batches[start..end].concat(), "{name} holds other bytes");
        expected.batches.truncate(end);
        expected.committed = end;
        self.logs[log] = (id, expected);
    }
}

/// Runs `ops`, cuts the power after `after` operations of the disk, and starts again; then goes on a
/// little, and cuts it again. Returns how many operations there were.
fn run_to(ops: &[Op], after: Option<u64>, seed: u64) -> u64 {
    let mut run = Run::new();
    let before = run.disk.operations();
    if let Some(after) = after {
        run.disk.inject(Fault { after, kind: FaultKind::PowerOff });
    }
    let _ = ops.iter().try_for_each(|op| run.apply(op));
    let operations = run.disk.operations() - before;
    run.power_cut(seed);
    for round in 0..2 {
        for log in 0..3 {
            run.append(log, 100 + round).unwrap();
        }
        run.commit().unwrap();
    }
    run.append(0, 10).unwrap();
    run.power_cut(seed.wrapping_mul(31));
    operations
}

fn cases(default: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = default;
    }
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn nothing_committed_is_lost_wherever_the_power_is_cut(
        ops in vec(op(), 1..40),
        seed in any::<u32>(),
    ) {
        let operations = run_to(&ops, None, u64::from(seed));
        for after in 0..operations {
            run_to(&ops, Some(after), u64::from(seed) + after);
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn nothing_committed_is_lost_in_long_runs(
        ops in vec(op(), 50..200),
        after in 0..2000_u64,
        seed in any::<u32>(),
    ) {
        run_to(&ops, Some(after), u64::from(seed));
    }
}

/// A rig whose journal holds the commits of `count` batches of 5 records.
fn with_commits(count: usize) -> Rig {
    let mut rig = Rig::with(&[("segment.bytes", "100000")]);
    for _ in 0..count {
        rig.append(batch_of(5)).unwrap();
        rig.commit();
    }
    rig
}

fn all_offsets(batches: i64) -> Vec<i64> {
    (0..batches * 5).collect()
}

#[test]
fn what_the_page_cache_loses_is_replayed_and_only_once() {
    let rig = with_commits(3);
    // Nothing has synced the segment since it was made.
    rig.disk.damage(&rig.path(0, "log"), Vec::clear).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!((report.journal_records, report.warnings.len()), (3, 0), "{report:?}");
    assert_eq!(report.journal_bytes, 3 * batch_of(5).len() as u64);
    assert_eq!(rig.offsets_from(0), all_offsets(3));
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!((report.journal_records, report.bytes_scanned), (0, 0));
    assert_eq!(rig.offsets_from(0), all_offsets(3));
}

#[test]
fn after_a_clean_stop_the_journal_is_empty_and_says_so() {
    let (rig, report) = with_commits(3).close_and_reopen();
    assert!(report.clean && report.journal_records == 0, "{report:?}");
    let disk = rig.disk.clone();
    rig.dir.close().unwrap();
    let bytes = disk.files().remove(&journal_path()).unwrap();
    let header = weir_log::journal::format::Header::decode(&bytes).unwrap();
    assert!(header.closed);
}

#[test]
fn a_replay_heals_a_segment_whose_sync_failed() {
    let mut rig = with_commits(3);
    // A commit of another kind syncs the segment, and that fails: its pages are clean afterwards, and
    // read as if they were on disk.
    let (config, id) = (rig.config.clone(), Uuid([8; 16]));
    rig.dir.create_log("other", id, PartitionId(0), config, T0).unwrap();
    // The two files of the new log come first.
    rig.disk.inject(Fault { after: 2, kind: FaultKind::SyncError });
    rig.dir.begin_commit().unwrap().run().unwrap_err();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!(report.journal_records, 3);
    for seed in 0..10 {
        let image = rig.disk.crash(seed);
        let (dir, _) = crate::rig::open(&image, &rig.config).unwrap();
        let log = dir.get(dir.find(crate::rig::TOPIC, PartitionId(0)).unwrap()).unwrap();
        assert_eq!(log.log_end_offset(), Offset(15), "seed {seed}");
    }
}

#[test]
fn the_journal_of_another_directory_is_refused_and_nothing_is_changed() {
    let rig = with_commits(3);
    let foreign = rig.disk.files().remove(&journal_path()).unwrap();
    let disk = MemDisk::new();
    let config = rig.config.clone();
    let other = LogDirOptions { new_directory_id: Uuid([9; 16]), ..options(&config) };
    let open_other = || {
        LogDir::open(Arc::new(disk.clone()), Path::new(DIR), other.clone(), T0).map(|(dir, _)| dir)
    };
    open_other().unwrap().close().unwrap();
    disk.damage(&journal_path(), |bytes| *bytes = foreign).unwrap();
    let before = disk.files();
    let error = open_other().unwrap_err();
    assert_eq!(error.code(), "WEIR-0217", "{error}");
    let mut after = disk.files();
    after.retain(|path, _| before.contains_key(path));
    assert!(after == before);
}

#[test]
fn a_journal_that_is_gone_is_told_of_after_an_unclean_stop_only() {
    for clean in [true, false] {
        let rig = with_commits(3);
        let (disk, config) = (rig.disk.clone(), rig.config.clone());
        if clean {
            rig.dir.close().unwrap();
        } else {
            drop(rig.dir);
            disk.kill();
        }
        weir_log::Disk::remove(&disk, &journal_path()).unwrap();
        let (_, report) = crate::rig::open(&disk, &config).unwrap();
        assert_eq!(report.warnings.is_empty(), clean, "{report:?}");
        assert!(exists(&disk, &journal_path()), "there is a new one");
    }
}

#[test]
fn a_header_that_has_rotted_is_kept_and_told_of() {
    let rig = with_commits(3);
    rig.disk.damage(&journal_path(), |bytes| bytes[..8192].fill(0x55)).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!(report.bad_files.len(), 1, "{report:?}");
    assert!(exists(&rig.disk, &journal_path().with_extension("damaged-0")));
    assert_eq!(rig.offsets_from(0), all_offsets(3), "a killed process leaves its page cache");
}

#[test]
fn a_record_that_has_rotted_is_told_of_and_those_behind_it_are_replayed() {
    let mut rig = with_commits(1);
    let config = rig.config.clone();
    let other = rig.dir.create_log("other", Uuid([8; 16]), PartitionId(0), config, T0).unwrap();
    rig.commit();
    rig.append(batch_of(5)).unwrap();
    rig.commit();
    let log = rig.dir.get_mut(other).unwrap();
    log.append(&mut batch_of(3), AppendOrigin::Client, T0).unwrap();
    rig.commit();
    rig.disk.damage(&journal_path(), |bytes| bytes[8192 + 100] ^= 1).unwrap();
    let other_log = Path::new(DIR).join("other-0/00000000000000000000.log");
    rig.disk.damage(&other_log, Vec::clear).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!((report.journal_records, report.bad_files.len()), (1, 1), "{report:?}");
    let log = rig.dir.get(rig.dir.find("other", PartitionId(0)).unwrap()).unwrap();
    assert_eq!(log.log_end_offset(), Offset(3));
}

#[test]
fn what_another_program_wrote_since_is_not_overwritten() {
    // Killed, then stopped cleanly by somebody who knows no journal.
    let rig = with_commits(3);
    let (disk, config) = (rig.disk.clone(), rig.config.clone());
    drop(rig.dir);
    let with_mark = |disk: &MemDisk| {
        let mark = Path::new(DIR).join(".kafka_cleanshutdown");
        weir_log::Disk::open(disk, &mark, weir_log::disk::OpenMode::Create).unwrap();
    };
    disk.kill();
    with_mark(&disk);
    disk.damage(&crate::rig::path(0, "log"), Vec::clear).unwrap();
    let (dir, report) = crate::rig::open(&disk, &config).unwrap();
    assert_eq!((report.journal_records, report.warnings.len()), (0, 1), "{report:?}");
    drop(dir);
    // The same, but that one was killed too: its batches are others.
    let rig = with_commits(3);
    let disk = rig.disk.clone();
    let mut other = batch_of(7);
    batch_assign(&mut other);
    disk.damage(&rig.path(0, "log"), |bytes| *bytes = other.clone()).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!(report.bad_files.len(), 2, "{report:?}");
    assert_eq!(rig.file(0, "log"), other);
    assert_eq!(rig.offsets_from(0), (0..7).collect::<Vec<_>>());
}

#[test]
fn what_a_clean_stop_of_another_program_left_is_not_overwritten_though_the_next_start_is_cut_off() {
    let mut rig = with_commits(1);
    rig.empty_journal();
    rig.append(batch_of(5)).unwrap();
    rig.commit();
    let (disk, config) = (rig.disk.clone(), rig.config.clone());
    drop(rig.dir);
    disk.kill();
    // It has compacted the log, so that other batches stand where the journal's were.
    let mut other = batch_of(40);
    batch_assign(&mut other);
    assert!(other.len() > 2 * batch_of(5).len());
    disk.damage(&crate::rig::path(0, "log"), |bytes| *bytes = other.clone()).unwrap();
    weir_log::Disk::remove(&disk, &crate::rig::path(0, "index")).unwrap();
    let mark = Path::new(DIR).join(".kafka_cleanshutdown");
    weir_log::Disk::open(&disk, &mark, weir_log::disk::OpenMode::Create).unwrap();
    for after in 0..200 {
        let disk = disk.crash_as_kill();
        disk.inject(Fault { after, kind: FaultKind::PowerOff });
        let is_whole = crate::rig::open(&disk, &config).is_ok();
        let disk = disk.crash(after);
        let (dir, report) = crate::rig::open(&disk, &config).unwrap();
        drop(dir);
        let found = &disk.files()[&crate::rig::path(0, "log")];
        assert!(*found == other, "cut off after {after} operations: {report:?}");
        if is_whole {
            return;
        }
    }
    panic!("the start has no end");
}

#[test]
fn nothing_is_written_inside_a_batch_of_another_program_and_what_is_left_out_is_kept() {
    let mut rig = with_commits(1);
    rig.empty_journal();
    for _ in 0..2 {
        rig.append(batch_of(5)).unwrap();
        rig.commit();
    }
    let appended = rig.file(0, "log")[batch_of(5).len()..].to_vec();
    // It has compacted the log, and was killed as well: no batch begins where the journal goes on.
    for with_index in [true, false] {
        let disk = rig.disk.crash_as_kill();
        let mut other = batch_of(40);
        batch_assign(&mut other);
        assert!(other.len() > appended.len() + batch_of(5).len());
        disk.damage(&crate::rig::path(0, "log"), |bytes| *bytes = other.clone()).unwrap();
        if !with_index {
            weir_log::Disk::remove(&disk, &crate::rig::path(0, "index")).unwrap();
        }
        let (dir, report) = crate::rig::open(&disk, &rig.config).unwrap();
        let files = disk.files();
        assert!(files[&crate::rig::path(0, "log")] == other, "{report:?}");
        let said = report.bad_files.iter().filter(|what| what.contains("commit journal")).count();
        assert_eq!(said, 2, "{report:?}");
        let position = batch_of(5).len();
        let kept = crate::rig::path(0, &format!("log.damaged-{position}"));
        assert!(files[&kept] == appended, "both appends are kept");
        let log = dir.get(dir.find(crate::rig::TOPIC, PartitionId(0)).unwrap()).unwrap();
        assert_eq!(log.log_end_offset(), Offset(40));
    }
}

#[test]
fn a_segment_that_is_shorter_than_the_journal_goes_on_at_is_told_of() {
    let mut rig = with_commits(2);
    rig.empty_journal();
    rig.append(batch_of(5)).unwrap();
    rig.commit();
    rig.disk.damage(&rig.path(0, "log"), |bytes| bytes.truncate(batch_of(5).len())).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!(report.warnings.len(), 1, "{report:?}");
    assert_eq!(rig.offsets_from(0), all_offsets(1));
}

fn batch_assign(batch: &mut [u8]) {
    weir_protocol::batch::assign(batch, Offset(0), weir_protocol::LeaderEpoch(0)).unwrap();
}

#[test]
fn without_room_for_a_journal_commits_go_to_the_segments() {
    let disk = MemDisk::new();
    let config = LogConfig::default();
    let (dir, _) = open(&disk, &config).unwrap();
    dir.close().unwrap();
    weir_log::Disk::remove(&disk, &journal_path()).unwrap();
    // The lock, the mark, and then the journal.
    disk.inject(Fault { after: 3, kind: FaultKind::Full });
    let opened = open(&disk, &config);
    disk.clear_fault();
    if let Ok((mut dir, report)) = opened {
        assert_eq!(report.warnings.len(), 1, "{report:?}");
        assert!(!exists(&disk, &journal_path()));
        dir.create_log("a", Uuid([3; 16]), PartitionId(0), config, T0).unwrap();
        while let Some(group) = dir.begin_commit() {
            let committed = group.run().unwrap();
            dir.finish_commit(committed);
        }
    } else {
        panic!("a full disk is no reason not to start: {opened:?}");
    }
}

#[test]
fn a_journal_that_is_turned_off_is_replayed_and_removed() {
    let rig = with_commits(3);
    let (disk, config) = (rig.disk.clone(), rig.config.clone());
    drop(rig.dir);
    disk.kill();
    disk.damage(&crate::rig::path(0, "log"), Vec::clear).unwrap();
    let off = LogDirOptions { journal_bytes_max: None, ..crate::rig::options(&config) };
    let (dir, report) = LogDir::open(Arc::new(disk.clone()), Path::new(DIR), off, T0).unwrap();
    assert_eq!(report.journal_records, 3);
    assert!(!exists(&disk, &journal_path()));
    let log = dir.get(dir.find(crate::rig::TOPIC, PartitionId(0)).unwrap()).unwrap();
    assert_eq!(log.synced_offset(), Offset(15));
}

#[test]
fn it_grows_while_commits_fill_it_and_no_further_than_it_may() {
    let disk = MemDisk::new();
    let config = LogConfig::default();
    let options = LogDirOptions { journal_bytes_max: Some(3 << 20), ..options(&config) };
    let open = || LogDir::open(Arc::new(disk.clone()), Path::new(DIR), options.clone(), T0);
    let (mut dir, _) = open().unwrap();
    let id = dir.create_log("a", Uuid([3; 16]), PartitionId(0), config.clone(), T0).unwrap();
    let len = || disk.files()[&journal_path()].len();
    let mut lens = vec![len()];
    for _ in 0..1500 {
        dir.get_mut(id).unwrap().append(&mut batch_of(1), AppendOrigin::Client, T0).unwrap();
        let mut committed = dir.begin_commit().unwrap().run().unwrap();
        let flush = committed.take_flush();
        dir.finish_commit(committed);
        flush.map_or(Ok(()), Flush::run).unwrap();
        if lens.last() != Some(&len()) {
            lens.push(len());
        }
    }
    assert_eq!(lens, [1 << 20, 2 << 20, 3 << 20]);
    drop(dir);
    disk.kill();
    let (dir, report) = open().unwrap();
    assert!(report.journal_records > 100 && report.bad_files.is_empty(), "{report:?}");
    assert_eq!(
        dir.get(dir.find("a", PartitionId(0)).unwrap()).unwrap().synced_offset().get(),
        1500
    );
}

/// A sync of much at once would hold up the commits that come meanwhile.
#[test]
fn segments_are_synced_every_few_mebibytes_however_large_the_journal_may_be() {
    const BATCH_BYTES: usize = 256 << 10;
    let disk = MemDisk::new();
    let config = LogConfig::default();
    let options = LogDirOptions { journal_bytes_max: Some(64 << 20), ..options(&config) };
    let (mut dir, _) = LogDir::open(Arc::new(disk.clone()), Path::new(DIR), options, T0).unwrap();
    let id = dir.create_log("a", Uuid([3; 16]), PartitionId(0), LogConfig::default(), T0).unwrap();
    let (mut unsynced, mut unsynced_max) = (0, 0);
    for _ in 0..400 {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(T0, None, Some(&vec![b'x'; BATCH_BYTES]), &[]);
        let mut batch = builder.build().to_vec();
        dir.get_mut(id).unwrap().append(&mut batch, AppendOrigin::Client, T0).unwrap();
        let mut committed = dir.begin_commit().unwrap().run().unwrap();
        let flush = committed.take_flush();
        dir.finish_commit(committed);
        unsynced += BATCH_BYTES;
        unsynced_max = unsynced_max.max(unsynced);
        if let Some(flush) = flush {
            flush.run().unwrap();
            unsynced = 0;
        }
    }
    assert_eq!(unsynced_max, 4 << 20);
    assert!(disk.files()[&journal_path()].len() <= 16 << 20, "it grows only as far as it must");
}

/// On a real file system, which may have direct I/O or not.
#[test]
fn it_works_on_files_of_the_system() {
    let root = tempfile::tempdir().unwrap();
    let config = LogConfig::default();
    let open = || {
        let disk = Arc::new(weir_log::FileDisk);
        LogDir::open(disk, root.path(), options(&config), T0).unwrap()
    };
    let (mut dir, _) = open();
    let id = dir.create_log("a", Uuid([3; 16]), PartitionId(0), config.clone(), T0).unwrap();
    for _ in 0..30 {
        dir.get_mut(id).unwrap().append(&mut batch_of(9), AppendOrigin::Client, T0).unwrap();
        let committed = dir.begin_commit().unwrap().run().unwrap();
        dir.finish_commit(committed);
    }
    drop(dir);
    // As if the page cache of the segment had been lost.
    let segment = root.path().join("a-0/00000000000000000000.log");
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    let kept = file.metadata().unwrap().len() / 30 * 28;
    file.set_len(kept).unwrap();
    let (dir, report) = open();
    assert!(report.journal_records > 1 && report.bad_files.is_empty(), "{report:?}");
    let log = dir.get(dir.find("a", PartitionId(0)).unwrap()).unwrap();
    assert_eq!(log.synced_offset(), Offset(270));
}

/// What happens to the journal's file.
#[derive(Debug, Clone)]
enum Rot {
    Flip { at: usize, mask: u8 },
    Cut { at: usize },
    Zero { at: usize, len: usize },
    Swap { one: usize, other: usize },
}

fn rot() -> impl Strategy<Value = Rot> {
    prop_oneof![
        4 => (any::<usize>(), 1..=255_u8).prop_map(|(at, mask)| Rot::Flip { at, mask }),
        2 => any::<usize>().prop_map(|at| Rot::Cut { at }),
        2 => (any::<usize>(), 1..5000_usize).prop_map(|(at, len)| Rot::Zero { at, len }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Rot::Swap { one, other }),
    ]
}

impl Rot {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len().max(1);
        match self {
            Self::Flip { at, mask } if !bytes.is_empty() => bytes[at % len] ^= mask,
            Self::Cut { at } => bytes.truncate(at % len),
            Self::Zero { at, len: count } => {
                let from = at % len;
                let to = (from + count).min(bytes.len());
                bytes[from.min(to)..to].fill(0);
            }
            Self::Swap { one, other } if len > 8192 => {
                let block = |at: &usize| at % (len / 4096) * 4096;
                let (one, other) = (block(one), block(other));
                for n in 0..4096 {
                    bytes.swap(one + n, other + n);
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(cases(500))]

    /// With the page cache as a power cut leaves it. What is served is a prefix of what was appended.
    #[test]
    fn a_journal_that_has_rotted_never_makes_a_log_serve_other_bytes(
        ops in vec(op(), 5..30),
        rot in vec(rot(), 1..4),
        seed in any::<u64>(),
    ) {
        let mut run = Run::new();
        for op in &ops {
            run.apply(op).unwrap();
        }
        run.stop();
        let image = run.disk.crash(seed);
        image.damage(&journal_path(), |bytes| rot.iter().for_each(|rot| rot.apply(bytes))).unwrap();
        let (dir, _) = open(&image, &run.config).unwrap();
        for (_, log) in dir.logs() {
            let known = run.logs.iter().map(|(_, known)| known).chain(
                run.in_doubt.iter().map(|(_, known)| known));
            let Some(known) = known.into_iter().find(|known| known.topic_id == log.topic_id()) else {
                continue;
            };
            let (mut at, mut bytes) = (log.log_start_offset(), Vec::new());
            let start = usize::try_from(at.get()).unwrap();
            while at < log.synced_offset() {
                let read = log.read(at, 100_000, log.synced_offset()).unwrap();
                bytes.extend_from_slice(&read_all(&read.slices));
                at = read.next_offset;
            }
            let end = usize::try_from(at.get()).unwrap();
            prop_assert!(end <= known.batches.len() || start == end);
            prop_assert!(start == end || bytes == known.batches[start..end].concat());
        }
    }
}
