//! The log against a list of batches, through appends, reads, rolls, truncation, retention, restarts,
//! kills and power cuts, also in the middle of an operation and of recovery.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use weir_log::disk::{Fault, FaultKind};
use weir_log::{AppendOrigin, LogConfig, LogDir, LogId, MemDisk};
use weir_protocol::{Offset, PartitionId, TimestampMs, Uuid};

use crate::rig::{batch_at, open, options, producer_batch, read_all, upkeep, DIR, T0, TOPIC};

#[derive(Debug, Clone)]
enum Op {
    Append { count: usize, value_bytes: usize, later_ms: i64 },
    AppendIdempotent { count: usize, repeat: bool },
    Read { from: u16, bytes_max: usize },
    FindTime { later_ms: i64 },
    BeginCommit,
    FinishCommit,
    Commit,
    Truncate { at: u16 },
    DeleteRecords { before: u16 },
    Retention,
    Tick,
    Close,
    Kill,
    PowerCut { seed: u64 },
    PowerCutDuring { after: u64, seed: u64, ops: Vec<Op> },
    PowerCutInRecovery { after: u64, seed: u64 },
}

fn simple_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..6_usize, 0..80_usize, -50..200_i64).prop_map(|(count, value_bytes, later_ms)| {
            Op::Append { count, value_bytes, later_ms }
        }),
        2 => (1..4_usize, any::<bool>())
            .prop_map(|(count, repeat)| Op::AppendIdempotent { count, repeat }),
        4 => (any::<u16>(), 0..2000_usize)
            .prop_map(|(from, bytes_max)| Op::Read { from, bytes_max }),
        1 => (-200..5000_i64).prop_map(|later_ms| Op::FindTime { later_ms }),
        1 => Just(Op::BeginCommit),
        1 => Just(Op::FinishCommit),
        3 => Just(Op::Commit),
        1 => any::<u16>().prop_map(|before| Op::DeleteRecords { before }),
        1 => Just(Op::Retention),
        1 => Just(Op::Tick),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => simple_op(),
        1 => any::<u16>().prop_map(|at| Op::Truncate { at }),
        1 => Just(Op::Close),
        1 => Just(Op::Kill),
        1 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
        2 => (0..60_u64, any::<u64>(), vec(simple_op(), 1..12))
            .prop_map(|(after, seed, ops)| Op::PowerCutDuring { after, seed, ops }),
        1 => (0..40_u64, any::<u64>())
            .prop_map(|(after, seed)| Op::PowerCutInRecovery { after, seed }),
    ]
}

#[derive(Debug, Clone)]
struct Written {
    base: i64,
    last: i64,
    bytes: Vec<u8>,
    timestamp: i64,
}

/// What the log must be.
#[derive(Debug)]
struct Model {
    disk: MemDisk,
    dir: Option<LogDir>,
    id: LogId,
    config: LogConfig,
    /// All batches since the first, also those below the log start.
    written: Vec<Written>,
    /// Synced, by the log's own word.
    synced: i64,
    start: i64,
    /// Where it may start after a power cut: further on, if that came in the middle of retention.
    start_max: i64,
    /// The log start at the last commit.
    durable_start: i64,
    running: Option<weir_log::CommitGroup>,
    next_sequence: i32,
    last_idempotent: Option<(Vec<u8>, i64)>,
    now: TimestampMs,
}

impl Model {
    fn new(config: LogConfig) -> Self {
        let disk = MemDisk::new();
        let (mut dir, _) = open(&disk, &config).unwrap();
        let id = dir.create_log(TOPIC, Uuid([3; 16]), PartitionId(0), config.clone(), T0).unwrap();
        let mut model = Self {
            disk,
            dir: Some(dir),
            id,
            config,
            written: Vec::new(),
            synced: 0,
            start: 0,
            start_max: 0,
            durable_start: 0,
            running: None,
            next_sequence: 0,
            last_idempotent: None,
            now: T0,
        };
        model.commit().unwrap();
        model
    }

    fn dir(&mut self) -> &mut LogDir {
        self.dir.as_mut().unwrap()
    }

    fn log(&self) -> &weir_log::Log {
        self.dir.as_ref().unwrap().get(self.id).unwrap()
    }

    fn end(&self) -> i64 {
        self.written.last().map_or(0, |batch| batch.last + 1)
    }

    /// One operation. `Err` if the disk failed, which it does only when the power is cut.
    fn apply(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Append { count, value_bytes, later_ms } => {
                self.now = self.now.plus_ms((*later_ms).max(0));
                let batch = batch_at(*count, *value_bytes, self.now.plus_ms((*later_ms).min(0)));
                self.append(batch, *count)
            }
            Op::AppendIdempotent { count, repeat } => self.append_idempotent(*count, *repeat),
            Op::Read { from, bytes_max } => {
                self.check_read(i64::from(*from), *bytes_max);
                Ok(())
            }
            Op::FindTime { later_ms } => {
                self.check_time(T0.plus_ms(*later_ms).get());
                Ok(())
            }
            Op::BeginCommit => {
                if self.running.is_none() {
                    self.running = self.dir().begin_commit();
                }
                Ok(())
            }
            Op::FinishCommit => self.finish(),
            Op::Commit => self.commit(),
            Op::DeleteRecords { before } => self.delete_records(i64::from(*before)),
            Op::Retention => {
                let now = self.now;
                let outcome = self.dir().enforce_retention(now).map(|_| ());
                self.note_retention(outcome)
            }
            Op::Tick => {
                self.now = self.now.plus_ms(61_000);
                let now = self.now;
                let outcome = self.dir().tick(now).map(|_| ());
                upkeep(self.dir(), now);
                self.note_retention(outcome)
            }
            Op::Truncate { at } => self.truncate(i64::from(*at)),
            _ => {
                self.restart(op);
                Ok(())
            }
        }
    }

    /// A stop of some kind, and the next start.
    fn restart(&mut self, op: &Op) {
        match op {
            Op::Close => {
                self.finish().unwrap();
                self.dir.take().unwrap().close().unwrap();
                self.synced = self.end();
                self.durable_start = self.start;
                self.reopen(self.disk.clone(), self.end());
            }
            Op::Kill => {
                self.stop();
                self.reopen(self.disk.clone(), self.end());
            }
            Op::PowerCut { seed } => {
                self.stop();
                let image = self.disk.crash(*seed);
                self.reopen(image, self.synced);
            }
            Op::PowerCutDuring { after, seed, ops } => {
                self.disk.inject(Fault { after: *after, kind: FaultKind::PowerOff });
                for op in ops {
                    if self.apply(op).is_err() {
                        break;
                    }
                }
                self.restart(&Op::PowerCut { seed: *seed });
            }
            Op::PowerCutInRecovery { after, seed } => {
                self.stop();
                let image = self.disk.crash(*seed);
                image.inject(Fault { after: *after, kind: FaultKind::PowerOff });
                let config = self.config.clone();
                drop(open(&image, &config));
                let image = image.crash(seed.wrapping_add(1));
                self.reopen(image, self.synced);
            }
            _ => unreachable!("{op:?} is no stop"),
        }
    }

    fn note_retention(&mut self, outcome: Result<(), weir_log::LogError>) -> Result<(), String> {
        self.start = self.log().log_start_offset().get().max(self.start);
        if outcome.is_err() {
            self.start_max = self.synced;
        }
        outcome.map_err(|e| e.to_string())
    }

    fn append(&mut self, batch: Vec<u8>, count: usize) -> Result<(), String> {
        let mut batch = batch;
        let (id, now, base) = (self.id, self.now, self.end());
        let log = self.dir().get_mut(id).unwrap();
        let appended =
            log.append(&mut batch, AppendOrigin::Client, now).map_err(|e| e.to_string())?;
        assert_eq!(appended.base_offset, Offset(base), "offsets are dense");
        assert!(!appended.duplicate);
        let last = base + i64::try_from(count).unwrap() - 1;
        assert_eq!(appended.last_offset, Offset(last));
        let timestamp = i64::from_be_bytes(batch[35..43].try_into().unwrap());
        self.written.push(Written { base, last, bytes: batch, timestamp });
        Ok(())
    }

    fn append_idempotent(&mut self, count: usize, repeat: bool) -> Result<(), String> {
        if let Some((batch, base)) = self.last_idempotent.clone().filter(|_| repeat) {
            let (id, now) = (self.id, self.now);
            let log = self.dir().get_mut(id).unwrap();
            let appended = log
                .append(&mut batch.clone(), AppendOrigin::Client, now)
                .map_err(|e| e.to_string())?;
            assert!(appended.duplicate, "sequence {}", self.next_sequence);
            assert_eq!(appended.base_offset, Offset(base));
            return Ok(());
        }
        let batch = producer_batch(7, 0, self.next_sequence, count);
        let base = self.end();
        self.append(batch.clone(), count)?;
        self.next_sequence += i32::try_from(count).unwrap();
        self.last_idempotent = Some((batch, base));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(group) = self.running.take() else { return Ok(()) };
        let committed = group.run().map_err(|e| e.to_string())?;
        self.dir().finish_commit(committed);
        self.note_synced();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), String> {
        self.finish()?;
        let start = self.start;
        while let Some(group) = self.dir().begin_commit() {
            let committed = group.run().map_err(|e| e.to_string())?;
            self.dir().finish_commit(committed);
            self.note_synced();
        }
        assert_eq!(self.synced, self.end(), "a commit covers all");
        self.durable_start = start;
        Ok(())
    }

    fn note_synced(&mut self) {
        let synced = self.log().synced_offset().get();
        assert!(synced >= self.synced && synced <= self.end());
        self.synced = synced;
    }

    fn delete_records(&mut self, before: i64) -> Result<(), String> {
        let before = before % (self.synced + 1);
        let (id, now) = (self.id, self.now);
        let start = self
            .dir()
            .get_mut(id)
            .unwrap()
            .delete_records(Offset(before), now)
            .map_err(|e| e.to_string());
        if let Ok(start) = &start {
            assert_eq!(start.get(), before.max(self.start));
        }
        // A failure may come after the log start moved, but not after it became durable.
        self.start = self.log().log_start_offset().get().max(self.start);
        start.map(|_| ())
    }

    /// Truncates and commits: before the commit a power cut may bring cut batches back.
    fn truncate(&mut self, at: i64) -> Result<(), String> {
        self.commit()?;
        let at = self.start + at % (self.end() - self.start + 1);
        let id = self.id;
        self.dir().get_mut(id).unwrap().truncate(Offset(at)).map_err(|e| e.to_string())?;
        self.written.retain(|batch| batch.last < at);
        self.synced = self.synced.min(self.end());
        // Cut inside the batch in which the log begins: it begins where that batch did.
        self.start = self.start.min(self.end());
        assert_eq!(self.log().log_end_offset().get(), self.end());
        assert_eq!(self.log().log_start_offset().get(), self.start);
        self.forget_producer();
        self.commit()
    }

    /// The producer starts afresh under another sequence, as its state is not modelled.
    fn forget_producer(&mut self) {
        self.last_idempotent = None;
        let survives = self.written.iter().rev().find(|batch| {
            batch.bytes.len() > 61
                && i64::from_be_bytes(batch.bytes[43..51].try_into().unwrap()) == 7
        });
        match survives {
            None => self.next_sequence = 0,
            Some(batch) => {
                let sequence = i32::from_be_bytes(batch.bytes[53..57].try_into().unwrap());
                let delta = i32::from_be_bytes(batch.bytes[23..27].try_into().unwrap());
                self.next_sequence = sequence + delta + 1;
                // With its records, a producer may be forgotten. It may go on in any case.
                if batch.base >= self.start {
                    self.last_idempotent = Some((batch.bytes.clone(), batch.base));
                }
            }
        }
    }

    fn stop(&mut self) {
        self.running = None;
        self.dir = None;
    }

    /// Starts again on `disk`, where everything up to `kept` at least must be.
    fn reopen(&mut self, disk: MemDisk, kept: i64) {
        disk.kill();
        let options = options(&self.config);
        let dir = std::path::Path::new(DIR);
        let (dir, _) = LogDir::open(Arc::new(disk.clone()), dir, options, self.now).unwrap();
        self.id = dir.find(TOPIC, PartitionId(0)).expect("the log was committed");
        (self.disk, self.dir) = (disk, Some(dir));
        let (end, start) = (self.log().log_end_offset().get(), self.log().log_start_offset().get());
        assert!(end >= kept, "acknowledged records are lost: the log ends at {end}, not {kept}");
        assert!(end <= self.end().max(self.start));
        assert!(
            start >= self.durable_start && start <= self.start.max(self.start_max),
            "the log starts at {start}, {} was durable, {} seen",
            self.durable_start,
            self.start
        );
        self.written.retain(|batch| batch.last < end);
        assert_eq!(self.end().max(start), end, "a batch was cut in two");
        assert_eq!(self.log().synced_offset().get(), end, "what is recovered is synced");
        (self.synced, self.start, self.durable_start) = (end, start, start);
        self.start_max = 0;
        self.forget_producer();
        self.check_all();
    }

    fn check_all(&self) {
        let mut at = self.start;
        while at < self.synced {
            at = self.check_read(at, 700);
        }
    }

    /// Reads as a consumer does, and compares with the list. Returns where to go on.
    fn check_read(&self, from: i64, bytes_max: usize) -> i64 {
        let log = self.log();
        assert!(log.synced_offset().get() <= self.end().max(self.start));
        let from = self.start + (from - self.start).rem_euclid(self.synced - self.start + 1);
        let read = log.read(Offset(from), bytes_max, log.synced_offset()).unwrap();
        let mut expect = Vec::new();
        let mut next = from;
        let readable =
            self.written.iter().filter(|batch| batch.last >= from && batch.last < self.synced);
        for batch in readable {
            if !expect.is_empty() && expect.len() + batch.bytes.len() > bytes_max {
                break;
            }
            expect.extend_from_slice(&batch.bytes);
            next = batch.last + 1;
            if expect.len() > bytes_max {
                break;
            }
        }
        let bytes = read_all(&read.slices);
        assert_eq!(bytes.len(), read.size_bytes);
        assert!(bytes == expect, "other bytes from {from}, at most {bytes_max}");
        assert_eq!(read.next_offset.get(), next);
        next
    }

    fn check_time(&self, timestamp: i64) {
        let found = self.log().offset_for_timestamp(TimestampMs(timestamp)).unwrap();
        let expect = self
            .written
            .iter()
            .find(|batch| batch.timestamp >= timestamp && batch.last >= self.start);
        assert_eq!(
            found.map(|found| found.base_offset.get()),
            expect.map(|batch| batch.base),
            "time {timestamp}"
        );
    }
}

fn cases() -> ProptestConfig {
    // PROPTEST_CASES says how many; this is for a run without it.
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 128;
    }
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_log_is_its_model(
        ops in vec(op(), 1..80),
        segment_bytes in 300..2000_u64,
        index_interval_bytes in 0..400_u64,
        retention_ms in prop::option::of(1000..10_000_i64),
    ) {
        let config = LogConfig {
            segment_bytes_max: segment_bytes.max(800),
            index_interval_bytes,
            retention_ms,
            ..LogConfig::default()
        };
        let mut model = Model::new(config);
        for op in &ops {
            model.apply(op).unwrap();
        }
        model.commit().unwrap();
        model.check_all();
    }
}
