//! Compaction against the whole history: whatever is cleaned, rolled, restarted or cut off, each key
//! has its last value, and nothing else has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use weir_log::disk::{Fault, FaultKind};
use weir_log::{
    AppendOrigin, CleanOutcome, CleanerOptions, Log, LogConfig, LogDir, LogDirOptions, LogId,
    MemDisk,
};
use weir_protocol::batch::{self, build_control, BatchBuilder, ControlMarker};
use weir_protocol::compression::Codec;
use weir_protocol::{Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs, Uuid};

use crate::rig::{options, read_all, DIR, T0, TOPIC};

const PRODUCERS: usize = 4;
/// Of them, these write in transactions.
const TRANSACTIONAL: usize = 2;

#[derive(Debug, Clone)]
enum Op {
    /// Keys and whether they have a value.
    Produce {
        producer: Option<usize>,
        records: Vec<(u8, bool)>,
        codec: usize,
    },
    Repeat {
        producer: usize,
    },
    EndTxn {
        producer: usize,
        commit: bool,
    },
    Commit,
    Later {
        ms: i64,
    },
    /// Until all that may be cleaned is.
    Clean,
    /// One slice or group, if a log is due.
    Slice,
    FindTime {
        ago_ms: i64,
    },
    Close,
    Kill,
    PowerCut {
        seed: u64,
    },
    CutWhileCleaning {
        after: u64,
        seed: u64,
        power: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let records = vec((0..12_u8, prop::bool::weighted(0.8)), 1..6);
    prop_oneof![
        10 => (prop::option::of(0..PRODUCERS), records, 0..5_usize)
            .prop_map(|(producer, records, codec)| Op::Produce { producer, records, codec }),
        1 => (0..PRODUCERS).prop_map(|producer| Op::Repeat { producer }),
        4 => (0..TRANSACTIONAL, any::<bool>())
            .prop_map(|(producer, commit)| Op::EndTxn { producer, commit }),
        4 => Just(Op::Commit),
        2 => (0..3000_i64).prop_map(|ms| Op::Later { ms }),
        3 => Just(Op::Clean),
        4 => Just(Op::Slice),
        1 => (-100..9000_i64).prop_map(|ago_ms| Op::FindTime { ago_ms }),
        1 => Just(Op::Close),
        1 => Just(Op::Kill),
        1 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
        2 => (0..120_u64, any::<u64>(), any::<bool>())
            .prop_map(|(after, seed, power)| Op::CutWhileCleaning { after, seed, power }),
    ]
}

/// A record as it was written.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    offset: i64,
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    /// Its transaction, by number.
    txn: Option<u64>,
}

#[derive(Debug, Clone)]
struct Batch {
    base: i64,
    last: i64,
    /// Empty: a marker.
    records: Vec<Written>,
    /// For a marker: the transaction and whether it commits.
    ends: Option<(u64, bool)>,
    producer: Option<usize>,
    bytes: Vec<u8>,
}

/// What a reader gets.
#[derive(Debug, Default)]
struct Seen {
    records: Vec<Written>,
    committed: Vec<Written>,
}

#[derive(Debug)]
struct Model {
    disk: MemDisk,
    dir: Option<LogDir>,
    id: LogId,
    options: LogDirOptions,
    history: Vec<Batch>,
    synced: i64,
    /// By producer, while one is open.
    open: [Option<u64>; PRODUCERS],
    next_txn: u64,
    now: TimestampMs,
    /// Nothing at or above has been touched by the cleaner.
    touched_to: i64,
}

impl Model {
    fn new(config: LogConfig, dedupe_buffer_bytes_max: u64) -> Self {
        let cleaner =
            CleanerOptions { dedupe_buffer_bytes_max, backoff_ms: 0, ..Default::default() };
        let options = LogDirOptions { cleaner, ..options(&config) };
        let disk = MemDisk::new();
        let path = std::path::Path::new(DIR);
        let (mut dir, _) = LogDir::open(Arc::new(disk.clone()), path, options.clone(), T0).unwrap();
        let id = dir.create_log(TOPIC, Uuid([3; 16]), PartitionId(0), config, T0).unwrap();
        let mut model = Self {
            disk,
            dir: Some(dir),
            id,
            options,
            history: Vec::new(),
            synced: 0,
            open: [None; PRODUCERS],
            next_txn: 1,
            now: T0,
            touched_to: 0,
        };
        model.commit().unwrap();
        model
    }

    fn dir(&mut self) -> &mut LogDir {
        self.dir.as_mut().unwrap()
    }

    fn log(&self) -> &Log {
        self.dir.as_ref().unwrap().get(self.id).unwrap()
    }

    fn end(&self) -> i64 {
        self.history.last().map_or(0, |batch| batch.last + 1)
    }

    fn apply(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Produce { producer, records, codec } => self.produce(*producer, records, *codec),
            Op::Repeat { producer } => self.repeat(*producer),
            Op::EndTxn { producer, commit } => self.end_txn(*producer, *commit),
            Op::Commit => self.commit(),
            Op::Later { ms } => {
                self.now = self.now.plus_ms(*ms);
                let now = self.now;
                self.dir().tick(now).map(|_| ()).map_err(|error| error.to_string())
            }
            Op::Clean => self.clean(),
            Op::Slice => self.slice().map(|_| ()),
            Op::FindTime { ago_ms } => {
                self.check_time(self.now.plus_ms(-ago_ms));
                Ok(())
            }
            _ => {
                self.restart(op);
                Ok(())
            }
        }
    }

    fn restart(&mut self, op: &Op) {
        match op {
            Op::Close => {
                self.dir.take().unwrap().close().unwrap();
                self.synced = self.end();
                self.reopen(self.disk.clone());
            }
            Op::Kill => {
                self.dir = None;
                self.synced = self.end();
                self.reopen(self.disk.clone());
            }
            Op::PowerCut { seed } => {
                self.dir = None;
                self.reopen(self.disk.crash(*seed));
            }
            Op::CutWhileCleaning { after, seed, power } => {
                self.disk.inject(Fault { after: *after, kind: FaultKind::PowerOff });
                let _ = self.clean().and_then(|()| self.commit());
                self.dir = None;
                let image = if *power { self.disk.crash(*seed) } else { self.disk.clone() };
                self.reopen(image);
            }
            _ => unreachable!("{op:?} is no stop"),
        }
    }

    fn reopen(&mut self, disk: MemDisk) {
        disk.kill();
        let path = std::path::Path::new(DIR);
        let opened = LogDir::open(Arc::new(disk.clone()), path, self.options.clone(), self.now);
        let (dir, report) = opened.unwrap();
        for damage in &report.damage {
            assert!(damage.offset.get() >= self.synced, "{damage:?}");
        }
        self.id = dir.find(TOPIC, PartitionId(0)).expect("the log was committed");
        (self.disk, self.dir) = (disk, Some(dir));
        let end = self.log().log_end_offset().get();
        assert!(end >= self.synced && end <= self.end(), "{end}, not {}", self.synced);
        self.history.retain(|batch| batch.last < end);
        self.synced = end;
        // What was cut off is not open any more, or is again.
        self.open = [None; PRODUCERS];
        for batch in &self.history {
            let Some(producer) = batch.producer else { continue };
            match batch.ends {
                Some(_) => self.open[producer] = None,
                None => self.open[producer] = batch.records.iter().find_map(|record| record.txn),
            }
        }
        self.check();
    }

    fn next_sequence(&self, producer: usize) -> i32 {
        let own = self.history.iter().filter(|batch| batch.producer == Some(producer));
        own.map(|batch| i32::try_from(batch.records.len()).unwrap()).sum()
    }

    fn produce(
        &mut self,
        producer: Option<usize>,
        records: &[(u8, bool)],
        codec: usize,
    ) -> Result<(), String> {
        let mut builder = BatchBuilder::new(Codec::ALL[codec]);
        let mut txn = None;
        if let Some(producer) = producer {
            let id = ProducerId(100 + i64::try_from(producer).unwrap());
            let sequence = Sequence(self.next_sequence(producer));
            builder.set_producer(id, ProducerEpoch(0), sequence);
            if producer < TRANSACTIONAL {
                builder.set_transactional(true);
                let next_txn = &mut self.next_txn;
                txn = Some(*self.open[producer].get_or_insert_with(|| {
                    *next_txn += 1;
                    *next_txn
                }));
            }
        }
        let base = self.end();
        let mut written = Vec::new();
        for ((key, has_value), offset) in records.iter().zip(base..) {
            let key = vec![b'k', *key];
            let value = has_value.then(|| format!("{offset}-{}", "x".repeat(40)).into_bytes());
            let timestamp = self.now.plus_ms(offset % 3);
            builder.append(timestamp, Some(&key), value.as_deref(), &[]);
            written.push(Written { offset, timestamp: timestamp.get(), key, value, txn });
        }
        let bytes = builder.build().to_vec();
        self.append(bytes, AppendOrigin::Client, written, None, producer)
    }

    fn append(
        &mut self,
        mut bytes: Vec<u8>,
        origin: AppendOrigin,
        records: Vec<Written>,
        ends: Option<(u64, bool)>,
        producer: Option<usize>,
    ) -> Result<(), String> {
        let (id, now, base) = (self.id, self.now, self.end());
        let sent = bytes.clone();
        let log = self.dir().get_mut(id).unwrap();
        let appended = log.append(&mut bytes, origin, now).map_err(|error| error.to_string())?;
        assert_eq!((appended.base_offset.get(), appended.duplicate), (base, false));
        let last = appended.last_offset.get();
        self.history.push(Batch { base, last, records, ends, producer, bytes: sent });
        Ok(())
    }

    /// A batch that comes again is known, also after its records were cleaned away.
    fn repeat(&mut self, producer: usize) -> Result<(), String> {
        let own = |batch: &&Batch| batch.producer == Some(producer) && batch.ends.is_none();
        let Some(batch) = self.history.iter().rev().find(own).cloned() else { return Ok(()) };
        let (id, now) = (self.id, self.now);
        let log = self.dir().get_mut(id).unwrap();
        let again = log.append(&mut batch.bytes.clone(), AppendOrigin::Client, now);
        let again = again.map_err(|error| error.to_string())?;
        assert_eq!((again.base_offset.get(), again.duplicate), (batch.base, true));
        Ok(())
    }

    fn end_txn(&mut self, producer: usize, commit: bool) -> Result<(), String> {
        let Some(txn) = self.open[producer] else { return Ok(()) };
        let marker = if commit { ControlMarker::Commit } else { ControlMarker::Abort };
        let id = ProducerId(100 + i64::try_from(producer).unwrap());
        let bytes = build_control(marker, id, ProducerEpoch(0), 0, self.now).to_vec();
        let ends = Some((txn, commit));
        self.append(bytes, AppendOrigin::Coordinator, Vec::new(), ends, Some(producer))?;
        self.open[producer] = None;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), String> {
        while let Some(group) = self.dir().begin_commit() {
            let committed = group.run().map_err(|error| error.to_string())?;
            self.dir().finish_commit(committed);
            self.synced = self.log().synced_offset().get();
        }
        if let Some(failure) = self.dir().failure() {
            return Err(failure.to_string());
        }
        Ok(())
    }

    /// One step of upkeep. Returns whether there was one.
    fn slice(&mut self) -> Result<bool, String> {
        let now = self.now;
        self.touched_to = self.touched_to.max(self.log().last_stable_offset().get());
        let Some(upkeep) = self.dir().begin_upkeep(now) else { return Ok(false) };
        let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
        let report = self.dir().finish_upkeep(done, now);
        if let Some(failure) = self.dir().failure() {
            return Err(failure.to_string());
        }
        match report.cleaning {
            Some(CleanOutcome::Uncleanable(it)) => Err(it.reason),
            Some(CleanOutcome::GivenUp | CleanOutcome::PutOff) => Err("given up".to_owned()),
            _ => Ok(true),
        }
    }

    fn clean(&mut self) -> Result<(), String> {
        self.commit()?;
        let id = self.id;
        let asked = self.log().last_stable_offset().get();
        assert!(self.dir().request_clean(id).unwrap());
        for _ in 0..1000 {
            let progress = self.slice()?;
            // It may wait for a checkpoint.
            let waits = self.dir().has_dirty();
            self.commit()?;
            if !progress && !waits {
                break;
            }
        }
        self.check_cleaned(asked);
        self.check();
        Ok(())
    }

    /// Below what is clean now there is one record a key, and nothing that was aborted.
    fn check_cleaned(&self, asked: i64) {
        let cleaned_to = self.log().cleaned_to().map_or(0, Offset::get);
        let all_decided = self.open.iter().all(Option::is_none);
        assert!(!all_decided || cleaned_to >= asked, "{cleaned_to} of {asked}");
        let mut expect: BTreeMap<Vec<u8>, Written> = BTreeMap::new();
        for record in self.decided(cleaned_to) {
            expect.insert(record.key.clone(), record);
        }
        let seen = self.read();
        let below = seen.records.iter().filter(|record| record.offset < cleaned_to);
        let mut found = BTreeSet::new();
        for record in below {
            let wanted = expect.get(&record.key);
            assert_eq!(Some(record), wanted, "cleaned to {cleaned_to}");
            found.insert(record.key.clone());
        }
        for (key, record) in expect.iter().filter(|(_, record)| record.value.is_some()) {
            assert!(found.contains(key), "{record:?} is lost");
        }
    }

    /// The records below `end` that readers of what is committed see in the end.
    fn decided(&self, end: i64) -> Vec<Written> {
        let committed: BTreeSet<u64> = self
            .history
            .iter()
            .filter_map(|batch| batch.ends.filter(|ends| ends.1))
            .map(|ends| ends.0)
            .collect();
        let records = self.history.iter().flat_map(|batch| &batch.records);
        records
            .filter(|record| record.offset < end)
            .filter(|record| record.txn.is_none_or(|txn| committed.contains(&txn)))
            .cloned()
            .collect()
    }

    /// All that readers get, as a consumer gets it.
    fn read(&self) -> Seen {
        let log = self.log();
        let (stable, synced) = (log.last_stable_offset(), log.synced_offset());
        let mut aborted = log.aborted_txns(log.log_start_offset(), stable).unwrap();
        aborted.sort_by_key(|txn| txn.first_offset);
        let mut aborted = aborted.into_iter().peekable();
        let mut under_way: BTreeSet<i64> = BTreeSet::new();
        let mut seen = Seen::default();
        let (mut at, mut last) = (log.log_start_offset(), -1);
        while at < synced {
            let read = log.read(at, 700, synced).unwrap();
            assert!(read.next_offset > at, "a read gets on");
            at = read.next_offset;
            for view in batch::batches(&read_all(&read.slices)) {
                let view = view.unwrap();
                view.verify_crc().unwrap();
                assert!(view.base_offset().get() > last, "offsets rise");
                last = view.last_offset().get();
                let origin =
                    self.history.iter().find(|batch| batch.base == view.base_offset().get());
                let origin =
                    origin.unwrap_or_else(|| panic!("no batch was at {}", view.base_offset()));
                assert_eq!(origin.last, last, "a batch keeps its offsets");
                let producer = view.producer_id().get();
                while let Some(txn) = aborted.next_if(|txn| txn.first_offset <= view.last_offset())
                {
                    under_way.insert(txn.producer_id.get());
                }
                let mut offset_before = -1;
                for record in view.records(1 << 20).unwrap() {
                    let record = record.unwrap();
                    assert!(record.offset.get() > offset_before, "offsets rise");
                    offset_before = record.offset.get();
                    if view.is_control() {
                        let kind = ControlMarker::from_key(&record.key.unwrap()).unwrap();
                        assert_eq!(kind == ControlMarker::Commit, origin.ends.unwrap().1);
                        if kind == ControlMarker::Abort {
                            under_way.remove(&producer);
                        }
                        continue;
                    }
                    let wrote = origin.records.iter().find(|one| one.offset == record.offset.get());
                    let wrote = wrote.expect("a record that was written");
                    assert_eq!(record.key.as_deref(), Some(&*wrote.key));
                    assert_eq!(record.value.as_deref(), wrote.value.as_deref());
                    assert_eq!(record.timestamp.get(), wrote.timestamp);
                    seen.records.push(wrote.clone());
                    let is_aborted = view.is_transactional() && under_way.contains(&producer);
                    if view.last_offset() < stable && !is_aborted {
                        seen.committed.push(wrote.clone());
                    }
                }
            }
        }
        seen
    }

    fn check(&self) {
        let seen = self.read();
        let stable = self.log().last_stable_offset().get();
        let decided = self.decided(stable);
        let known: BTreeSet<i64> = decided.iter().map(|record| record.offset).collect();
        for record in &seen.committed {
            assert!(known.contains(&record.offset), "{record:?} was aborted or is open");
        }
        let last = |records: &[Written]| -> BTreeMap<Vec<u8>, Written> {
            records.iter().map(|record| (record.key.clone(), record.clone())).collect()
        };
        let (wanted, found) = (last(&decided), last(&seen.committed));
        for (key, record) in &wanted {
            match found.get(key) {
                Some(found) => assert_eq!(found, record, "not the last of its key"),
                None => assert!(record.value.is_none(), "{record:?} is lost"),
            }
        }
        // Nothing that the cleaner must not touch is missing, aborted or not.
        let there: BTreeSet<i64> = seen.records.iter().map(|record| record.offset).collect();
        let untouched = self.history.iter().flat_map(|batch| &batch.records);
        for record in
            untouched.filter(|one| one.offset >= self.touched_to && one.offset < self.synced)
        {
            assert!(there.contains(&record.offset), "{record:?} is lost");
        }
    }

    fn check_time(&self, time: TimestampMs) {
        let log = self.log();
        let found = log.offset_for_timestamp(time).unwrap().map(|found| found.base_offset);
        let (mut at, mut expect) = (log.log_start_offset(), None);
        while at < log.log_end_offset() && expect.is_none() {
            let read = log.read(at, 700, log.log_end_offset()).unwrap();
            at = read.next_offset;
            let bytes = read_all(&read.slices);
            let mut views = batch::batches(&bytes).map(Result::unwrap);
            expect = views
                .find(|view| view.record_count() > 0 && view.max_timestamp() >= time)
                .map(|view| view.base_offset());
        }
        assert_eq!(found, expect, "time {time}");
    }
}

fn cases() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 96;
    }
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn compaction_keeps_the_last_of_each_key(
        ops in vec(op(), 1..90),
        segment_bytes in 300..1500_u64,
        index_interval_bytes in 0..300_u64,
        delete_retention_ms in 0..4000_i64,
        dedupe_keys in prop_oneof![Just(16_u64), Just(1000)],
    ) {
        let config = LogConfig {
            segment_bytes_max: segment_bytes.max(700),
            index_interval_bytes,
            delete_retention_ms,
            file_delete_delay_ms: 500,
            min_cleanable_dirty_ratio: 0.1,
            retention_ms: None,
            cleanup_delete: false,
            cleanup_compact: true,
            ..LogConfig::default()
        };
        let mut model = Model::new(config, dedupe_keys * 24);
        for op in &ops {
            model.apply(op).unwrap();
        }
        model.commit().unwrap();
        model.check();
        model.clean().unwrap();
    }
}
