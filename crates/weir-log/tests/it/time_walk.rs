//! A search by time, behind a record that is dated ahead.

use weir_log::LogError;
use weir_protocol::{Offset, PartitionId, TimestampMs};

use crate::rig::{batch_at, open, path, Rig, T0, TOPIC};

/// A record one second ahead, many of now, and one three seconds ahead: between the two the time index has nothing to say.
fn dated_ahead() -> Rig {
    let mut rig = Rig::with(&[("index.interval.bytes", "1000")]);
    rig.append(batch_at(1, 10, T0.plus_ms(1_000))).unwrap();
    for _ in 0..5_000 {
        rig.append(batch_at(1, 10, T0)).unwrap();
    }
    rig.append(batch_at(1, 10, T0.plus_ms(3_000))).unwrap();
    rig.commit();
    rig
}

#[test]
fn batches_behind_a_record_dated_ahead_are_found_by_a_walk() {
    let rig = dated_ahead();
    let mut walk = rig.log().time_walk(T0.plus_ms(2_000), Offset(0)).unwrap();
    assert_eq!(walk.next_batch().unwrap().unwrap().base_offset, Offset(5_001));
    assert!(walk.next_batch().unwrap().is_none() && walk.beyond().is_none());
    let max = rig.log().max_timestamp().unwrap();
    assert_eq!(max.find().unwrap()[1].as_ref().unwrap().base_offset, Offset(5_001));
    let found = rig.log().offset_for_timestamp(T0.plus_ms(2_000)).unwrap().unwrap();
    assert_eq!(found.base_offset, Offset(5_001));
}

#[test]
fn a_search_by_time_reads_no_headers_on_the_way_before_its_walk() {
    let rig = dated_ahead();
    // A batch half-way is none any more: who comes by says so.
    let one = batch_at(1, 10, T0).len();
    rig.disk.damage(&rig.path(0, "log"), |bytes| bytes[2_500 * one + 16] = 9).unwrap();
    let mut walk = rig.log().time_walk(T0.plus_ms(2_000), Offset(0)).unwrap();
    assert!(matches!(walk.next_batch().unwrap_err(), LogError::Damaged { .. }));
    let max = rig.log().max_timestamp().unwrap();
    assert!(matches!(max.find().unwrap_err(), LogError::Damaged { .. }));
}

#[test]
fn a_time_index_that_was_emptied_is_made_again_at_a_start() {
    let mut rig = Rig::with(&[("segment.bytes", "400")]);
    for n in 0..40 {
        rig.append(batch_at(2, 10, T0.plus_ms(n * 1_000))).unwrap();
    }
    rig.commit();
    let (rig, _) = rig.close_and_reopen();
    let Rig { dir, disk, config, .. } = rig;
    dir.close().unwrap();
    let index = path(0, "timeindex");
    let bytes = disk.files()[&index].clone();
    disk.damage(&index, Vec::clear).unwrap();
    let (dir, report) = open(&disk, &config).unwrap();
    assert!(report.clean && report.indexes_rebuilt == 1, "{report:?}");
    let log = dir.get(dir.find(TOPIC, PartitionId(0)).unwrap()).unwrap();
    let found = log.offset_for_timestamp(T0.plus_ms(1_000)).unwrap().unwrap();
    assert_eq!(found.base_offset, Offset(2));
    assert_eq!(disk.files()[&index], bytes);
    // It is on disk at once: nothing comes back to it.
    assert_eq!(disk.crash(1).files()[&index], bytes);
}

#[test]
fn a_walk_comes_to_each_batch_that_may_have_a_record_and_says_what_lies_beyond() {
    let mut rig = Rig::with(&[("segment.bytes", "400")]);
    for n in 0..40 {
        rig.append(batch_at(2, 10, T0.plus_ms(n * 1_000))).unwrap();
    }
    rig.commit();
    assert!(rig.log().segment_count() > 8);
    let time = T0.plus_ms(10_000);
    let mut from = Offset(0);
    let mut found = Vec::new();
    loop {
        let mut walk = rig.log().time_walk(time, from).unwrap();
        while let Some(batch) = walk.next_batch().unwrap() {
            found.push(batch.base_offset.get());
        }
        match walk.beyond() {
            Some(beyond) => from = beyond,
            None => break,
        }
    }
    assert_eq!(found, (10..40).map(|n| n * 2).collect::<Vec<i64>>());
    let none = rig.log().time_walk(TimestampMs(i64::MAX), Offset(0)).unwrap().next_batch().unwrap();
    assert!(none.is_none());
}
