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
        let image = if seed % 3 == 0 {
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
