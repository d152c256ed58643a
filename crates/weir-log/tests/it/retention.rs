//! Rolling, retention and DeleteRecords.

use weir_log::disk::{Fault, FaultKind};
use weir_log::{AppendError, LogError};
use weir_protocol::{Offset, TimestampMs};

use crate::rig::{batch_at, batch_of, Rig, T0};

fn fill(rig: &mut Rig, batches: usize) {
    for n in 0..batches {
        let time = T0.plus_ms(i64::try_from(n).unwrap() * 1000);
        rig.append(batch_at(5, 10, time)).unwrap();
    }
    rig.commit();
}

#[test]
fn a_segment_rolls_before_it_exceeds_its_size() {
    let one = u64::try_from(batch_of(5).len()).unwrap();
    let mut rig = Rig::with(&[("segment.bytes", &(3 * one).to_string())]);
    fill(&mut rig, 10);
    assert_eq!(rig.log().segment_count(), 4);
    assert_eq!(rig.file(0, "log").len() as u64, 3 * one);
}

#[test]
fn a_segment_rolls_by_the_time_between_records() {
    let mut rig = Rig::with(&[("segment.ms", "2500")]);
    fill(&mut rig, 9);
    // 0, 1, 2 seconds in one; the record at 3 s is more than 2.5 s later than the first.
    assert_eq!(rig.log().segment_count(), 3);
}

#[test]
fn a_segment_rolls_when_its_index_is_full() {
    let mut rig = Rig::with(&[("segment.index.bytes", "24"), ("index.interval.bytes", "0")]);
    fill(&mut rig, 10);
    assert!(rig.log().segment_count() > 3);
    assert_eq!(rig.offsets_from(0).len(), 50);
}

#[test]
fn batches_over_the_limits_are_refused_and_leave_nothing() {
    let mut rig = Rig::with(&[("segment.bytes", "1000"), ("max.message.bytes", "500")]);
    let error = rig.append(batch_at(1, 600, T0)).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { batch_bytes_max: 500, .. }), "{error}");
    let mut rig = Rig::with(&[("segment.bytes", "1000")]);
    let error = rig.append(batch_at(1, 1100, T0)).unwrap_err();
    assert!(matches!(error, AppendError::LargerThanSegment { .. }), "{error}");
    assert_eq!(error.code(), "WEIR-0212");
    assert_eq!(rig.log().log_end_offset(), Offset(0));
}

#[test]
fn segments_older_than_retention_ms_go() {
    let mut rig = Rig::with(&[("segment.bytes", "500"), ("retention.ms", "10000")]);
    fill(&mut rig, 20);
    let now = T0.plus_ms(20_000);
    assert!(rig.dir.enforce_retention(now).unwrap() > 0);
    let start = rig.log().log_start_offset().get();
    // The batch at second 9 is 11 s old, the one at second 10 is exactly 10 s old.
    assert!(start > 0 && start <= 50, "{start}");
    assert_eq!(rig.offsets_from(start), (start..100).collect::<Vec<_>>());
}

#[test]
fn a_log_that_is_wholly_too_old_is_emptied_and_keeps_its_end() {
    let mut rig = Rig::with(&[("segment.bytes", "500"), ("retention.ms", "1000")]);
    fill(&mut rig, 20);
    rig.dir.enforce_retention(T0.plus_ms(1_000_000)).unwrap();
    assert_eq!(rig.log().log_start_offset(), Offset(100));
    assert_eq!((rig.log().size_bytes(), rig.log().segment_count()), (0, 1));
    assert_eq!(rig.append(batch_of(1)).unwrap().base_offset, Offset(100));
    let (rig, _) = rig.close_and_reopen();
    assert_eq!(rig.log().log_start_offset(), Offset(100));
    assert_eq!(rig.log().log_end_offset(), Offset(101));
}

#[test]
fn retention_bytes_keeps_at_least_that_much() {
    let mut rig = Rig::with(&[("segment.bytes", "500"), ("retention.bytes", "1200")]);
    fill(&mut rig, 20);
    rig.dir.enforce_retention(T0).unwrap();
    let size_bytes = rig.log().size_bytes();
    assert!((1200..1200 + 500).contains(&size_bytes), "{size_bytes}");
}

#[test]
fn a_segment_that_is_half_deleted_for_want_of_room_is_gone_for_readers() {
    for after in 0..8 {
        let mut rig = Rig::with(&[("segment.bytes", "500"), ("retention.ms", "1000")]);
        fill(&mut rig, 20);
        let later = T0.plus_ms(1_000_000);
        rig.disk.inject(Fault { after, kind: FaultKind::NoRoomForNames });
        assert!(matches!(rig.dir.enforce_retention(later), Err(LogError::DiskFull { .. })));
        let start = rig.log().log_start_offset().get();
        assert_eq!(rig.offsets_from(start), (start..100).collect::<Vec<_>>(), "after {after}");
        rig.disk.clear_fault();
        assert!(rig.dir.enforce_retention(later).unwrap() > 0);
        assert_eq!(rig.log().log_start_offset(), Offset(100));
    }
}

#[test]
fn unsynced_segments_are_not_deleted() {
    let mut rig = Rig::with(&[("segment.bytes", "500"), ("retention.ms", "1000")]);
    for _ in 0..20 {
        rig.append(batch_of(5)).unwrap();
    }
    assert_eq!(rig.dir.enforce_retention(T0.plus_ms(1_000_000)).unwrap(), 0);
    rig.commit();
    assert!(rig.dir.enforce_retention(T0.plus_ms(1_000_000)).unwrap() > 0);
}

#[test]
fn compacted_logs_are_not_deleted_by_age() {
    let mut rig = Rig::with(&[
        ("segment.bytes", "500"),
        ("retention.ms", "1000"),
        ("cleanup.policy", "compact"),
    ]);
    fill(&mut rig, 20);
    assert_eq!(rig.dir.enforce_retention(T0.plus_ms(1_000_000)).unwrap(), 0);
}

#[test]
fn deleted_records_stay_deleted_after_a_power_cut() {
    for seed in 0..20 {
        let mut rig = Rig::with(&[("segment.bytes", "500")]);
        fill(&mut rig, 20);
        assert_eq!(rig.log_mut().delete_records(Offset(47), T0).unwrap(), Offset(47));
        assert!(rig.dir.has_dirty());
        rig.commit();
        let image = rig.disk.crash(seed);
        let (rig, report) = rig.reopen_on(image);
        assert_eq!(rig.log().log_start_offset(), Offset(47), "seed {seed}");
        assert!(report.damage.is_empty(), "seed {seed}: {report:?}");
        assert_eq!(rig.log().log_end_offset(), Offset(100));
    }
}

#[test]
fn records_beyond_the_synced_offset_cannot_be_deleted() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(5)).unwrap();
    let error = rig.log_mut().delete_records(Offset(5), T0).unwrap_err();
    assert!(matches!(error, LogError::OffsetOutOfRange { .. }));
    rig.commit();
    assert_eq!(rig.log_mut().delete_records(Offset(5), T0).unwrap(), Offset(5));
    assert_eq!(rig.log_mut().delete_records(Offset(3), T0).unwrap(), Offset(5));
}

#[test]
fn records_dated_1970_live_until_the_next_retention_check() {
    let mut rig = Rig::with(&[("retention.ms", "1000")]);
    rig.append(batch_at(5, 10, TimestampMs(0))).unwrap();
    rig.commit();
    assert_eq!(rig.offsets_from(0), [0, 1, 2, 3, 4]);
    rig.dir.tick(T0).unwrap();
    assert_eq!(rig.log().log_start_offset(), Offset(5));
}
