//! Compaction, case by case.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use weir_log::disk::{Fault, FaultKind};
use weir_log::{
    AppendOrigin, CleanOutcome, CleanerOptions, Disk, LogConfig, LogDir, LogDirOptions, MemDisk,
};
use weir_protocol::batch::{self, build_control, BatchBuilder, ControlMarker};
use weir_protocol::compression::Codec;
use weir_protocol::{Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs, Uuid};

use crate::rig::{exists, options, path, producer_batch, read_all, txn_batch, Rig, DIR, T0, TOPIC};

/// One small batch a record.
fn put(rig: &mut Rig, key: &str, value: Option<&str>) -> i64 {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(T0, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    rig.append(builder.build().to_vec()).unwrap().base_offset.get()
}

fn compacted(pairs: &[(&str, &str)]) -> Rig {
    let mut all = vec![
        ("cleanup.policy", "compact"),
        ("segment.bytes", "400"),
        ("index.interval.bytes", "100"),
        ("file.delete.delay.ms", "0"),
    ];
    all.extend_from_slice(pairs);
    Rig::with(&all)
}

/// Cleans all that may be cleaned; what came of each slice that did more than go on.
fn clean(rig: &mut Rig, now: TimestampMs) -> Vec<CleanOutcome> {
    rig.commit();
    assert!(rig.dir.request_clean(rig.id).unwrap());
    upkeep(rig, now)
}

/// Upkeep and commits until nothing is left to do.
fn upkeep(rig: &mut Rig, now: TimestampMs) -> Vec<CleanOutcome> {
    let mut outcomes = Vec::new();
    for _ in 0..1000 {
        let upkeep = rig.dir.begin_upkeep(now);
        let waits = rig.dir.has_dirty();
        rig.commit();
        let Some(upkeep) = upkeep else {
            if waits {
                continue;
            }
            return outcomes;
        };
        let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
        let report = rig.dir.finish_upkeep(done, now);
        let outcome = report.cleaning.filter(|outcome| *outcome != CleanOutcome::Goes);
        if outcome.as_ref().is_some_and(|one| !matches!(one, CleanOutcome::Cleaned { .. })) {
            outcomes.extend(outcome);
            return outcomes;
        }
        outcomes.extend(outcome);
    }
    panic!("the cleaner does not come to an end");
}

/// Offset, key and value of each record up to the synced offset; keys of markers are `commit`, `abort`.
fn records(rig: &Rig) -> Vec<(i64, String, Option<String>)> {
    let (log, mut at, mut found) = (rig.log(), rig.log().log_start_offset(), Vec::new());
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    while at < log.synced_offset() {
        let read = log.read(at, 500, log.synced_offset()).unwrap();
        at = read.next_offset;
        for view in batch::batches(&read_all(&read.slices)) {
            let view = view.unwrap();
            view.verify_crc().unwrap();
            for record in view.records(1 << 20).unwrap().map(Result::unwrap) {
                let offset = record.offset.get();
                if view.is_control() {
                    let kind = ControlMarker::from_key(&record.key.unwrap()).unwrap();
                    found.push((offset, format!("{kind:?}").to_lowercase(), None));
                    continue;
                }
                let key = record.key.map(text).unwrap_or_default();
                found.push((offset, key, record.value.map(text)));
            }
        }
    }
    found
}

fn offsets(rig: &Rig) -> Vec<i64> {
    records(rig).into_iter().map(|record| record.0).collect()
}

fn log_files(disk: &MemDisk) -> Vec<String> {
    let names = disk.files().into_keys().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        path.starts_with(PathBuf::from(DIR).join(format!("{TOPIC}-0"))).then_some(name)
    });
    names.collect()
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    let mut rig = compacted(&[]);
    for round in 0..10 {
        for key in ["a", "b", "c"] {
            put(&mut rig, key, Some(&format!("{key}{round}")));
        }
    }
    let last = put(&mut rig, "d", Some("only"));
    let segments = rig.log().segment_count();
    let outcomes = clean(&mut rig, T0);
    assert!(
        matches!(&*outcomes, [CleanOutcome::Cleaned { cleaned_to: Offset(31), .. }]),
        "{outcomes:?}"
    );
    let expect: Vec<(i64, String, Option<String>)> =
        [(27, "a", "a9"), (28, "b", "b9"), (29, "c", "c9"), (last, "d", "only")]
            .map(|(offset, key, value)| (offset, key.to_owned(), Some(value.to_owned())))
            .into();
    assert_eq!(records(&rig), expect);
    // What became small is merged the next time.
    clean(&mut rig, T0);
    assert_eq!(records(&rig), expect);
    assert!(segments > 5 && rig.log().segment_count() == 2, "the small segments became one");
    assert_eq!((rig.log().log_start_offset(), rig.log().log_end_offset()), (Offset(0), Offset(31)));
    // A read in a gap begins with the next batch there is.
    let read = rig.log().read(Offset(3), 1, Offset(31)).unwrap();
    let bytes = read_all(&read.slices);
    assert_eq!(batch::batches(&bytes).next().unwrap().unwrap().base_offset(), Offset(27));
    assert_eq!(read.next_offset, Offset(28));
    let (rig, report) = rig.close_and_reopen();
    assert!(report.clean && report.bad_files.is_empty());
    assert_eq!(records(&rig), expect);
    assert_eq!(rig.log().cleaned_to(), Some(Offset(31)));
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!((report.bytes_scanned, report.damage.len()), (0, 0));
    assert_eq!(records(&rig), expect);
}

#[test]
fn a_reader_of_one_batch_at_a_time_gets_past_a_gap_at_the_end_of_a_segment() {
    let mut rig = compacted(&[]);
    put(&mut rig, "first", Some("stays"));
    for _ in 0..20 {
        put(&mut rig, "x", Some("goes"));
    }
    clean(&mut rig, T0);
    let (log, end) = (rig.log(), rig.log().synced_offset());
    let (mut at, mut found) = (Offset(0), Vec::new());
    while at < end {
        let read = log.read(at, 1, end).unwrap();
        let bytes = read_all(&read.slices);
        found.extend(batch::batches(&bytes).map(|view| view.unwrap().base_offset().get()));
        assert!(read.next_offset > at, "the reader is stuck at {at} of {end}");
        at = read.next_offset;
    }
    assert_eq!(found, [0, 20]);
}

#[test]
fn a_tombstone_can_be_read_until_its_horizon_and_then_goes() {
    let mut rig = compacted(&[("delete.retention.ms", "60000")]);
    put(&mut rig, "a", Some("1"));
    put(&mut rig, "b", Some("1"));
    put(&mut rig, "a", None);
    clean(&mut rig, T0);
    assert_eq!(offsets(&rig), [1, 2]);
    let view = |rig: &Rig| {
        let read = rig.log().read(Offset(2), 1, Offset(3)).unwrap();
        let bytes = read_all(&read.slices);
        let view = batch::batches(&bytes).next().unwrap().unwrap();
        (view.base_offset(), view.delete_horizon())
    };
    assert_eq!(view(&rig), (Offset(2), Some(T0.plus_ms(60_000))));
    clean(&mut rig, T0.plus_ms(59_999));
    assert_eq!(view(&rig), (Offset(2), Some(T0.plus_ms(60_000))), "the horizon does not move");
    clean(&mut rig, T0.plus_ms(60_000));
    assert_eq!(offsets(&rig), [1]);
    assert_eq!(rig.log().log_end_offset(), Offset(3));
}

fn end_txn(rig: &mut Rig, marker: ControlMarker, id: i64) {
    let bytes = build_control(marker, ProducerId(id), ProducerEpoch(0), 0, T0);
    let log = rig.log_mut();
    log.append(&mut bytes.to_vec(), AppendOrigin::Coordinator, T0).unwrap();
}

fn put_in_txn(rig: &mut Rig, id: i64, sequence: i32, key: &str) {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
    builder.set_transactional(true);
    builder.append(T0, Some(key.as_bytes()), Some(b"in txn"), &[]);
    rig.append(builder.build().to_vec()).unwrap();
}

#[test]
fn aborted_data_goes_and_its_marker_follows_after_the_horizon() {
    let mut rig = compacted(&[("delete.retention.ms", "1000")]);
    put(&mut rig, "a", Some("before"));
    put_in_txn(&mut rig, 7, 0, "a");
    put_in_txn(&mut rig, 8, 0, "b");
    end_txn(&mut rig, ControlMarker::Abort, 7);
    end_txn(&mut rig, ControlMarker::Commit, 8);
    // So that the aborted batch is not its producer's last.
    put_in_txn(&mut rig, 7, 1, "c");
    end_txn(&mut rig, ControlMarker::Commit, 7);
    let aborted = |rig: &Rig| rig.log().aborted_txns(Offset(0), Offset(100)).unwrap().len();
    clean(&mut rig, T0);
    assert_eq!((offsets(&rig), aborted(&rig)), (vec![0, 2, 3, 4, 5, 6], 1));
    // No batch of it is left now: the marker gets its horizon, and is not told of any more.
    clean(&mut rig, T0.plus_ms(500));
    assert_eq!((offsets(&rig), aborted(&rig)), (vec![0, 2, 3, 4, 5, 6], 0));
    clean(&mut rig, T0.plus_ms(1_499));
    assert_eq!(offsets(&rig), [0, 2, 3, 4, 5, 6]);
    clean(&mut rig, T0.plus_ms(1_500));
    assert_eq!(offsets(&rig), [0, 2, 4, 5, 6]);
}

#[test]
fn a_log_whose_aborts_nobody_knows_any_more_is_left_alone() {
    let mut rig = compacted(&[]);
    put(&mut rig, "a", Some("committed"));
    put_in_txn(&mut rig, 7, 0, "a");
    end_txn(&mut rig, ControlMarker::Abort, 7);
    // So that the segment of the marker is sealed.
    for n in 0..10 {
        put(&mut rig, "b", Some(&format!("value {n}")));
    }
    rig.commit();
    let index = path(0, "txnindex");
    let bytes = rig.disk.files()[&index].clone();
    rig.disk.damage(&index, Vec::clear).unwrap();
    let outcomes = clean(&mut rig, T0);
    let [CleanOutcome::Uncleanable(it)] = &*outcomes else { panic!("{outcomes:?}") };
    assert!(it.reason.contains("transaction index"), "{it:?}");
    assert_eq!(offsets(&rig)[..3], [0, 1, 2], "the committed value is still there");
    rig.disk.damage(&index, |now| *now = bytes).unwrap();
    clean(&mut rig, T0);
    let value = records(&rig).into_iter().find(|(_, key, _)| key == "a").unwrap();
    assert_eq!(value, (0, "a".to_owned(), Some("committed".to_owned())));
}

#[test]
fn an_abort_without_records_needs_no_index_also_behind_a_batch_that_was_emptied() {
    let mut rig = compacted(&[("delete.retention.ms", "0")]);
    put_in_txn(&mut rig, 7, 0, "a");
    end_txn(&mut rig, ControlMarker::Abort, 7);
    for round in 0..4 {
        put(&mut rig, "b", Some(&format!("value {round}")));
        // Of a transaction that had no records in this partition.
        end_txn(&mut rig, ControlMarker::Abort, 7);
        let outcomes = clean(&mut rig, T0.plus_ms(round * 1_000));
        assert!(
            outcomes.iter().all(|one| matches!(one, CleanOutcome::Cleaned { .. })),
            "{outcomes:?}"
        );
    }
}

#[test]
fn a_swap_that_finds_no_room_for_a_name_takes_the_directory_offline_and_a_start_completes_it() {
    for after in 0..12 {
        let mut rig = compacted(&[]);
        for n in 0..20 {
            put(&mut rig, "a", Some(&format!("value {n}")));
        }
        rig.commit();
        rig.disk.inject(Fault { after, kind: FaultKind::NoRoomForNames });
        assert!(rig.dir.request_clean(rig.id).unwrap());
        for _ in 0..20 {
            let Some(upkeep) = rig.dir.begin_upkeep(T0) else { break };
            let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
            rig.dir.finish_upkeep(done, T0);
        }
        rig.disk.clear_fault();
        if rig.dir.failure().is_none() {
            assert_eq!(offsets(&rig).last(), Some(&19), "after {after} renamings");
        }
        let (rig, report) = rig.kill_and_reopen();
        assert_eq!(report.damage, [], "after {after} renamings");
        assert_eq!(offsets(&rig).last(), Some(&19), "after {after} renamings");
    }
}

#[test]
fn what_an_open_transaction_holds_back_is_not_cleaned() {
    let mut rig = compacted(&[]);
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    put_in_txn(&mut rig, 7, 0, "a");
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    clean(&mut rig, T0);
    let left = offsets(&rig);
    assert!(left.len() < 30, "what lies before is cleaned: {left:?}");
    assert_eq!(left[left.len() - 21..], (20..41).collect::<Vec<_>>());
    end_txn(&mut rig, ControlMarker::Abort, 7);
    clean(&mut rig, T0);
    // The aborted batch is its producer's last and stays as a header, and so does its marker.
    assert_eq!(offsets(&rig), [40, 41]);
}

#[test]
fn the_last_batch_of_a_producer_stays_without_its_records() {
    let mut rig = compacted(&[]);
    for sequence in 0..4 {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.set_producer(ProducerId(7), ProducerEpoch(3), Sequence(sequence));
        builder.append(T0.plus_ms(100), Some(b"a"), Some(b"v"), &[]);
        rig.append(builder.build().to_vec()).unwrap();
    }
    put(&mut rig, "a", Some("later"));
    clean(&mut rig, T0);
    assert_eq!(offsets(&rig), [4]);
    let read = rig.log().read(Offset(0), 1000, Offset(5)).unwrap();
    let bytes = read_all(&read.slices);
    let first = batch::batches(&bytes).next().unwrap().unwrap();
    assert_eq!(
        (first.base_offset(), first.record_count(), first.last_sequence()),
        (Offset(3), 0, Sequence(3))
    );
    // Its time is that of no record any more.
    let [first, latest] = rig.log().max_timestamp().unwrap().find().unwrap();
    assert!(first.is_none());
    assert_eq!(latest.map(|found| found.base_offset), Some(Offset(4)));
    assert_eq!(
        rig.log().offset_for_timestamp(T0.plus_ms(1)).unwrap().map(|found| found.base_offset),
        None
    );
    // Without its snapshot, the producer is known from what is left of the log.
    let disk = rig.disk.clone();
    for path in
        disk.files().into_keys().filter(|path| path.to_string_lossy().ends_with(".snapshot"))
    {
        disk.remove(&path).unwrap();
    }
    let (mut rig, _) = rig.kill_and_reopen();
    let gap = producer_batch(7, 3, 9, 1);
    assert_eq!(rig.append(gap).unwrap_err().code(), "WEIR-0213");
    assert_eq!(rig.append(producer_batch(7, 3, 4, 1)).unwrap().base_offset, Offset(5));
}

#[test]
fn a_log_is_due_by_its_dirty_ratio_or_its_lag() {
    let due = |pairs: &[(&str, &str)], later_ms: i64| {
        let mut rig = compacted(pairs);
        for n in 0..20 {
            put(&mut rig, "a", Some(&format!("value {n}")));
        }
        rig.dir.tick(T0.plus_ms(60_000)).unwrap();
        rig.commit();
        upkeep(&mut rig, T0.plus_ms(later_ms)).len()
    };
    assert_eq!(due(&[], 60_000), 1, "all of it is dirty");
    assert_eq!(due(&[("min.cleanable.dirty.ratio", "1")], 60_000), 0);
    let lag = [("min.cleanable.dirty.ratio", "1"), ("max.compaction.lag.ms", "100000")];
    assert_eq!(due(&lag, 100_000), 0);
    assert_eq!(due(&lag, 100_001), 1);
    assert_eq!(due(&[("min.compaction.lag.ms", "80000")], 79_999), 0);
    assert_eq!(due(&[("min.compaction.lag.ms", "80000")], 80_000), 1);
    assert_eq!(due(&[("cleanup.policy", "delete")], 60_000), 0);
}

#[test]
fn nothing_is_cleaned_before_the_recovery_point_on_file_has_passed_it() {
    let mut rig = compacted(&[]);
    for _ in 0..20 {
        put(&mut rig, "a", Some("value"));
    }
    rig.commit();
    assert!(upkeep(&mut rig, T0).is_empty(), "no checkpoint was written yet");
    rig.dir.tick(T0.plus_ms(60_000)).unwrap();
    rig.commit();
    assert_eq!(upkeep(&mut rig, T0.plus_ms(60_000)).len(), 1);
}

#[test]
fn segments_that_stay_as_they_are_are_not_written_again() {
    let mut rig = compacted(&[("segment.bytes", "2000")]);
    for n in 0..100 {
        put(&mut rig, &format!("key {n}"), Some("a value of some length"));
    }
    clean(&mut rig, T0);
    let stats = rig.dir.cleaner_stats();
    assert!(rig.log().segment_count() > 4);
    assert_eq!((stats.runs, stats.bytes_written, stats.records_dropped), (1, 0, 0));
    assert!(stats.bytes_read > 10_000);
    let names = log_files(&rig.disk);
    assert!(!names.iter().any(|name| name.contains("cleaned")), "{names:?}");
    // One key again: its first segment is written anew, from the change on.
    put(&mut rig, "key 30", Some("new"));
    clean(&mut rig, T0);
    let stats = rig.dir.cleaner_stats();
    assert!(stats.bytes_written > 1000 && stats.bytes_written < 6000, "{stats:?}");
    assert_eq!(stats.records_dropped, 1);
    assert_eq!(offsets(&rig), (0..101).filter(|n| *n != 30).collect::<Vec<_>>());
}

fn rig_with_map(bytes: u64) -> Rig {
    let config = LogConfig::from_pairs([
        ("cleanup.policy", "compact"),
        ("segment.bytes", "2000"),
        ("file.delete.delay.ms", "0"),
    ])
    .unwrap();
    let cleaner = CleanerOptions { dedupe_buffer_bytes_max: bytes, ..CleanerOptions::default() };
    let options = LogDirOptions { cleaner, ..options(&config) };
    let disk = MemDisk::new();
    let dir = std::path::Path::new(DIR);
    let (mut dir, _) = LogDir::open(Arc::new(disk.clone()), dir, options, T0).unwrap();
    let id = dir.create_log(TOPIC, Uuid([3; 16]), PartitionId(0), config.clone(), T0).unwrap();
    Rig { disk, dir, id, config }
}

#[test]
fn keys_that_do_not_fit_are_cleaned_in_rounds() {
    let mut rig = rig_with_map(50 * 24);
    for _ in 0..3 {
        for n in 0..100 {
            put(&mut rig, &format!("key {n}"), Some("value"));
        }
    }
    let outcomes = clean(&mut rig, T0);
    assert!(outcomes.len() > 5, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, CleanOutcome::Cleaned { .. })));
    assert_eq!(offsets(&rig), (200..300).collect::<Vec<_>>());
    assert_eq!(rig.log().cleaned_to(), Some(Offset(300)));
}

#[test]
fn a_batch_with_too_many_keys_makes_a_log_uncleanable_and_nothing_else() {
    let mut rig = rig_with_map(0);
    let mut builder = BatchBuilder::new(Codec::None);
    for n in 0..100 {
        builder.append(T0, Some(format!("{n}").as_bytes()), None, &[]);
    }
    rig.append(builder.build().to_vec()).unwrap();
    let outcomes = clean(&mut rig, T0);
    assert!(matches!(&*outcomes, [CleanOutcome::Uncleanable(_)]), "{outcomes:?}");
    let [left_alone] = &*rig.dir.cleaner_stats().uncleanable else { panic!("one log") };
    assert!(left_alone.reason.contains("log.cleaner.dedupe.buffer.size"), "{left_alone:?}");
    put(&mut rig, "a", Some("goes on"));
    rig.commit();
    assert_eq!(offsets(&rig).len(), 101);
}

#[test]
fn a_damaged_log_is_left_alone_until_it_is_asked_for_again() {
    let mut rig = compacted(&[]);
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    rig.commit();
    let damaged = path(0, "log");
    rig.disk.damage(&damaged, |bytes| bytes[70] ^= 1).unwrap();
    let before = rig.disk.files()[&damaged].clone();
    let outcomes = clean(&mut rig, T0);
    let [CleanOutcome::Uncleanable(it)] = &*outcomes else { panic!("{outcomes:?}") };
    assert_eq!((&*it.topic, it.partition), (TOPIC, 0));
    assert!(it.reason.contains("crc"), "{it:?}");
    assert_eq!(rig.dir.cleaner_stats().uncleanable.len(), 1);
    assert_eq!(rig.disk.files()[&damaged], before);
    assert!(upkeep(&mut rig, T0.plus_ms(1_000_000)).is_empty(), "it is not tried each time");
    assert_eq!(put(&mut rig, "b", Some("x")), 20);
    rig.disk.damage(&damaged, |bytes| bytes[70] ^= 1).unwrap();
    let outcomes = clean(&mut rig, T0.plus_ms(2_000_000));
    assert!(matches!(outcomes.last(), Some(CleanOutcome::Cleaned { .. })), "{outcomes:?}");
    assert!(rig.dir.cleaner_stats().uncleanable.is_empty());
    assert_eq!(offsets(&rig), [19, 20]);
}

#[test]
fn records_without_a_key_are_dropped_and_counted() {
    let mut rig = compacted(&[("cleanup.policy", "delete")]);
    for n in 0..5 {
        put(&mut rig, "a", Some(&format!("{n}")));
        rig.append(producer_batch(-1, -1, -1, 2)).unwrap();
    }
    assert!(!rig.dir.request_clean(rig.id).unwrap(), "it is not compacted");
    let config = LogConfig { cleanup_compact: true, cleanup_delete: false, ..rig.config.clone() };
    rig.log_mut().set_config(config);
    clean(&mut rig, T0);
    assert_eq!(offsets(&rig), [12]);
    let stats = rig.dir.cleaner_stats();
    assert_eq!((stats.keyless_dropped, stats.records_dropped), (10, 14));
}

#[test]
fn each_compacted_partition_has_its_dirty_ratio_and_the_bytes_it_became_smaller_by() {
    let mut rig = compacted(&[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "1")]);
    for n in 0..50 {
        put(&mut rig, "a", Some(&format!("{n}")));
    }
    rig.commit();
    assert!(rig.dir.cleaner_stats().partitions.is_empty(), "not looked at yet");
    // The recovery point moves on, then the cleaner looks.
    rig.dir.tick(T0.plus_ms(60_000)).unwrap();
    rig.commit();
    upkeep(&mut rig, T0.plus_ms(60_000));
    let seen = rig.dir.cleaner_stats().partitions;
    let [one] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((&*one.topic, one.partition, one.bytes_cleaned), (crate::rig::TOPIC, 0, 0));
    assert!((one.dirty_ratio - 1.0).abs() < 1e-9, "{one:?}");
    let before = rig.log().size_bytes();
    clean(&mut rig, T0.plus_ms(120_000));
    let stats = rig.dir.cleaner_stats();
    let [one] = stats.partitions.as_slice() else { panic!("{stats:?}") };
    assert!(one.dirty_ratio < 1e-9, "{one:?}");
    assert_eq!(one.bytes_cleaned, before - rig.log().size_bytes());
    assert_eq!(one.bytes_cleaned, stats.bytes_cleaned);
}

/// Begins a cleaning and stops before the step at which a group takes its place.
fn run_to_swap(rig: &mut Rig) -> weir_log::UpkeepDone {
    rig.commit();
    rig.dir.request_clean(rig.id).unwrap();
    loop {
        let upkeep = rig.dir.begin_upkeep(T0);
        rig.commit();
        let Some(upkeep) = upkeep else { continue };
        let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
        if log_files(&rig.disk).iter().any(|name| name.ends_with("log.cleaned")) {
            return done;
        }
        rig.dir.finish_upkeep(done, T0);
    }
}

#[test]
fn a_log_deleted_while_it_is_cleaned_leaves_the_next_of_its_name_alone() {
    let mut rig = compacted(&[]);
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    let done = run_to_swap(&mut rig);
    rig.dir.delete_log(rig.id, T0).unwrap();
    let config = rig.config.clone();
    rig.id = rig.dir.create_log(TOPIC, Uuid([4; 16]), PartitionId(0), config, T0).unwrap();
    for n in 0..20 {
        put(&mut rig, "b", Some(&format!("value {n}")));
    }
    rig.commit();
    let report = rig.dir.finish_upkeep(done, T0);
    assert_eq!(report.cleaning, Some(CleanOutcome::GivenUp));
    rig.upkeep(T0);
    assert_eq!(offsets(&rig), (0..20).collect::<Vec<_>>());
    let (rig, report) = rig.kill_and_reopen();
    assert!(report.damage.is_empty());
    assert_eq!(offsets(&rig), (0..20).collect::<Vec<_>>());
    assert_eq!(rig.log().cleaned_to(), None);
}

#[test]
fn what_retention_takes_while_a_log_is_cleaned_does_not_come_back() {
    let mut rig = compacted(&[("cleanup.policy", "compact,delete"), ("retention.ms", "1000")]);
    for n in 0..20 {
        put(&mut rig, &format!("{n}"), Some("value"));
        put(&mut rig, "a", Some("value"));
    }
    let done = run_to_swap(&mut rig);
    assert!(rig.dir.enforce_retention(T0.plus_ms(2_000)).unwrap() > 0);
    let start = rig.log().log_start_offset();
    assert_eq!(rig.dir.finish_upkeep(done, T0).cleaning, Some(CleanOutcome::GivenUp));
    rig.upkeep(T0);
    assert_eq!(rig.log().log_start_offset(), start);
    let names = log_files(&rig.disk);
    assert!(
        !names.iter().any(|name| name.contains("cleaned") || name.contains("swap")),
        "{names:?}"
    );
}

#[test]
fn a_log_with_both_policies_is_cleaned_and_expires() {
    let mut rig = compacted(&[("cleanup.policy", "compact,delete"), ("retention.ms", "100000")]);
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    clean(&mut rig, T0);
    assert_eq!(offsets(&rig), [19]);
    // All of this segment is overwritten in the next: it becomes empty, and must not stop retention.
    for n in 0..40 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    clean(&mut rig, T0);
    assert_eq!(offsets(&rig), [59]);
    rig.dir.enforce_retention(T0.plus_ms(100_001)).unwrap();
    assert_eq!(rig.log().log_start_offset(), Offset(60));
    assert_eq!(rig.log().size_bytes(), 0);
}

#[test]
fn a_full_disk_puts_cleaning_off_and_leaves_nothing() {
    let mut rig = compacted(&[]);
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    rig.dir.tick(T0.plus_ms(60_000)).unwrap();
    rig.commit();
    let now = T0.plus_ms(60_000);
    rig.disk.inject(Fault { after: 0, kind: FaultKind::Full });
    let mut outcomes = Vec::new();
    for _ in 0..10 {
        let Some(upkeep) = rig.dir.begin_upkeep(now) else { break };
        let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
        outcomes.extend(rig.dir.finish_upkeep(done, now).cleaning);
    }
    rig.disk.clear_fault();
    assert_eq!(outcomes.last(), Some(&CleanOutcome::PutOff));
    assert!(rig.dir.failure().is_none());
    assert_eq!(offsets(&rig).len(), 20);
    let outcomes = upkeep(&mut rig, now.plus_ms(15_000));
    assert!(matches!(&*outcomes, [CleanOutcome::Cleaned { .. }]), "{outcomes:?}");
    // The last record stands in the active segment.
    assert!(offsets(&rig).len() < 10);
    rig.upkeep(now.plus_ms(60_000));
    let names = log_files(&rig.disk);
    assert!(!names.iter().any(|name| name.contains("cleaned")), "{names:?}");
}

#[test]
fn a_cleaning_that_is_stopped_is_begun_again_later() {
    let mut rig = compacted(&[]);
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    rig.dir.tick(T0.plus_ms(60_000)).unwrap();
    rig.commit();
    let now = T0.plus_ms(60_000);
    let upkeep_now = rig.dir.begin_upkeep(now).unwrap();
    let done = upkeep_now.run(&mut |_| ControlFlow::Break(()));
    assert_eq!(rig.dir.finish_upkeep(done, now).cleaning, Some(CleanOutcome::GivenUp));
    assert_eq!(offsets(&rig).len(), 20);
    assert_eq!(upkeep(&mut rig, now.plus_ms(15_000)).len(), 1);
}

#[test]
fn a_panic_of_the_upkeep_thread_leaves_the_log_alone() {
    let mut rig = compacted(&[]);
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    drop(run_to_swap(&mut rig));
    rig.dir.abandon_upkeep();
    assert_eq!(rig.dir.cleaner_stats().uncleanable.len(), 1);
    assert_eq!(offsets(&rig).len(), 20);
    let outcomes = clean(&mut rig, T0);
    assert!(matches!(&*outcomes, [CleanOutcome::Cleaned { .. }]), "{outcomes:?}");
    assert_eq!(offsets(&rig), [19]);
}

#[test]
fn the_cleaner_checkpoint_is_kafkas_and_forgets_deleted_logs() {
    let mut rig = compacted(&[]);
    let config = rig.config.clone();
    rig.dir.create_log("other", Uuid([5; 16]), PartitionId(3), config, T0).unwrap();
    for n in 0..20 {
        put(&mut rig, "a", Some(&format!("value {n}")));
    }
    clean(&mut rig, T0);
    rig.commit();
    let checkpoint = PathBuf::from(DIR).join("cleaner-offset-checkpoint");
    assert_eq!(rig.disk.files()[&checkpoint], b"0\n1\ndrone-events 0 20\n");
    rig.dir.delete_log(rig.id, T0).unwrap();
    rig.commit();
    assert_eq!(rig.disk.files()[&checkpoint], b"0\n0\n");
}

#[test]
fn a_lost_or_damaged_cleaner_checkpoint_costs_a_cleaning() {
    for damaged in [false, true] {
        let mut rig = compacted(&[]);
        for n in 0..20 {
            put(&mut rig, "a", Some(&format!("value {n}")));
        }
        clean(&mut rig, T0);
        let checkpoint = PathBuf::from(DIR).join("cleaner-offset-checkpoint");
        match damaged {
            true => rig.disk.damage(&checkpoint, |bytes| bytes[0] = b'x').unwrap(),
            false => rig.disk.remove(&checkpoint).unwrap(),
        }
        let (mut rig, report) = rig.kill_and_reopen();
        assert_eq!((report.damage.len(), report.bad_files.len()), (0, usize::from(damaged)));
        assert_eq!((offsets(&rig), rig.log().cleaned_to()), (vec![19], None));
        clean(&mut rig, T0);
        assert_eq!((offsets(&rig), rig.log().cleaned_to()), (vec![19], Some(Offset(20))));
    }
}

/// A log of which cleaning takes most away, in two groups.
fn before_cleaning() -> Rig {
    let mut rig = compacted(&[("segment.bytes", "700"), ("delete.retention.ms", "0")]);
    for n in 0..12 {
        put(&mut rig, &format!("{}", n % 5), Some("a value that takes some room in its segment"));
    }
    rig.append(txn_batch(9, 0)).unwrap();
    put_in_txn(&mut rig, 7, 0, "0");
    end_txn(&mut rig, ControlMarker::Abort, 7);
    end_txn(&mut rig, ControlMarker::Commit, 9);
    put(&mut rig, "1", None);
    for n in 0..12 {
        put(
            &mut rig,
            &format!("{}", 2 + n % 3),
            Some("a value that takes some room in its segment"),
        );
    }
    rig.commit();
    rig
}

#[test]
fn a_crash_at_any_point_of_cleaning_leaves_the_last_of_each_key() {
    let expect = [("0", 10), ("2", 26), ("3", 27), ("4", 28)];
    let mut points = 0;
    for after in 0..1000_u64 {
        let mut rig = before_cleaning();
        rig.disk.inject(Fault { after, kind: FaultKind::PowerOff });
        let finished = try_clean(&mut rig, T0) && try_clean(&mut rig, T0.plus_ms(1));
        let Rig { disk, dir, id, config } = rig;
        drop(dir);
        for seed in [None, Some(after), Some(after + 1_000_000)] {
            let image = seed.map_or_else(|| disk.crash_as_kill(), |seed| disk.crash(seed));
            let (dir, report) = crate::rig::open(&image, &config).unwrap();
            assert!(report.damage.is_empty(), "after {after}: {:?}", report.damage);
            let mut again = Rig { disk: image, dir, id, config: config.clone() };
            assert_eq!(again.log().log_end_offset(), Offset(29), "after {after}");
            check_last(&again, &expect, after);
            let names = log_files(&again.disk);
            assert!(!names.iter().any(|name| name.contains("swap")), "after {after}: {names:?}");
            // And it can be cleaned now.
            clean(&mut again, T0.plus_ms(2));
            check_last(&again, &expect, after);
            assert!(records(&again).iter().filter(|one| one.2.is_some()).count() <= 6);
        }
        points = after;
        if finished {
            break;
        }
    }
    assert!(points > 60 && points < 900, "{points} points");
}

/// As [`clean`], but the power may go.
fn try_clean(rig: &mut Rig, now: TimestampMs) -> bool {
    if rig.dir.request_clean(rig.id).is_err() {
        return false;
    }
    for _ in 0..1000 {
        let upkeep = rig.dir.begin_upkeep(now);
        let waits = rig.dir.has_dirty();
        while let Some(group) = rig.dir.begin_commit() {
            match group.run() {
                Ok(committed) => drop(rig.dir.finish_commit(committed)),
                Err(_) => return false,
            }
        }
        let Some(upkeep) = upkeep else {
            match waits {
                true => continue,
                false => return rig.dir.failure().is_none(),
            }
        };
        let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
        let outcome = rig.dir.finish_upkeep(done, now).cleaning;
        if matches!(outcome, Some(CleanOutcome::Uncleanable(_) | CleanOutcome::GivenUp)) {
            return false;
        }
    }
    false
}

fn check_last(rig: &Rig, expect: &[(&str, i64)], after: u64) {
    let found = records(rig);
    for (key, offset) in expect {
        let last = found.iter().rev().find(|one| one.1 == *key && one.0 != 13);
        assert_eq!(last.map(|one| one.0), Some(*offset), "key {key} after {after}");
    }
    let deleted = found.iter().rev().find(|one| one.1 == "1");
    assert!(deleted.is_none_or(|one| one.2.is_none()), "key 1 is back after {after}");
}

#[test]
fn a_swap_that_is_not_decided_is_dropped() {
    let mut rig = before_cleaning();
    let done = run_to_swap(&mut rig);
    drop(done);
    // As Kafka leaves it: it renames the log first (KAFKA-6264).
    let (from, to) = (path(0, "log.cleaned"), path(0, "log.swap"));
    rig.disk.rename(&from, &to).unwrap();
    let before = records(&rig);
    let (rig, _) = rig.kill_and_reopen();
    assert_eq!(records(&rig), before);
    assert!(!exists(&rig.disk, &to) && !exists(&rig.disk, &path(0, "index.cleaned")));
}
