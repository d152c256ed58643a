//! Reading by offset and by time.

use weir_log::LogError;
use weir_protocol::batch::BatchView;
use weir_protocol::{LeaderEpoch, Offset, TimestampMs};

use crate::rig::{batch_at, batch_of, read_all, Rig, T0};

/// 40 batches of 5 records over several segments, synced.
fn filled() -> Rig {
    let mut rig = Rig::with(&[("segment.bytes", "1000"), ("index.interval.bytes", "100")]);
    for _ in 0..40 {
        rig.append(batch_of(5)).unwrap();
    }
    rig.commit();
    assert!(rig.log().segment_count() > 5);
    rig
}

#[test]
fn a_read_inside_a_batch_returns_the_whole_batch() {
    let rig = filled();
    for offset in 0..200 {
        let read = rig.log().read(Offset(offset), 1, Offset(200)).unwrap();
        let bytes = read_all(&read.slices);
        let view = BatchView::parse(&bytes).unwrap();
        assert_eq!(view.base_offset(), Offset(offset / 5 * 5));
        assert_eq!(view.size_bytes(), bytes.len(), "one batch, though larger than one byte");
        assert_eq!(read.next_offset, Offset(offset / 5 * 5 + 5));
    }
}

#[test]
fn a_read_returns_whole_batches_up_to_its_limits() {
    let rig = filled();
    let one = read_all(&rig.log().read(Offset(0), 1, Offset(200)).unwrap().slices).len();
    for bytes_max in [one, one + 1, 3 * one - 1, 3 * one, 50 * one] {
        let read = rig.log().read(Offset(7), bytes_max, Offset(100)).unwrap();
        assert!(read.size_bytes <= bytes_max);
        let expect = (bytes_max / one).min(19);
        assert_eq!(read.size_bytes, expect * one, "{bytes_max}");
        assert_eq!(read.next_offset, Offset(5 + 5 * i64::try_from(expect).unwrap()));
    }
}

#[test]
fn a_batch_that_reaches_beyond_the_bound_is_left_out() {
    let rig = filled();
    let read = rig.log().read(Offset(0), 1 << 20, Offset(12)).unwrap();
    assert_eq!(read.next_offset, Offset(10));
    let read = rig.log().read(Offset(10), 1 << 20, Offset(12)).unwrap();
    assert!(read.slices.is_empty());
    let read = rig.log().read(Offset(150), 1 << 20, Offset(100)).unwrap();
    assert!(read.slices.is_empty());
}

#[test]
fn reads_outside_the_log_are_refused() {
    let mut rig = filled();
    assert!(rig.log().read(Offset(200), 1, Offset(200)).unwrap().slices.is_empty());
    rig.log_mut().delete_records(Offset(50), T0).unwrap();
    for offset in [-1, 0, 49, 201] {
        let error = rig.log().read(Offset(offset), 1, Offset(200)).unwrap_err();
        assert!(matches!(error, LogError::OffsetOutOfRange { .. }), "{offset}: {error}");
    }
    assert_eq!(rig.offsets_from(50), (50..200).collect::<Vec<_>>());
}

#[test]
fn a_slice_can_be_read_after_its_segment_is_deleted() {
    let mut rig = Rig::with(&[
        ("segment.bytes", "1000"),
        ("retention.ms", "1000"),
        ("file.delete.delay.ms", "0"),
    ]);
    for _ in 0..40 {
        rig.append(batch_of(5)).unwrap();
    }
    rig.commit();
    let read = rig.log().read(Offset(0), 500, Offset(200)).unwrap();
    let before = read_all(&read.slices);
    let later = T0.plus_ms(10_000);
    assert!(rig.dir.tick(later).unwrap().segments_deleted > 0);
    rig.upkeep(later);
    assert!(!crate::rig::exists(&rig.disk, &rig.path(0, "log")));
    assert!(!crate::rig::exists(&rig.disk, &rig.path(0, "log.deleted")));
    assert_eq!(read_all(&read.slices), before);
}

#[test]
fn the_first_batch_at_or_after_a_time_is_found() {
    // Times that rise, but not without steps back.
    let times: Vec<i64> =
        (0..60).map(|n| 1000 + n * 10 - if n % 3 == 0 { 25 } else { 0 }).collect();
    for restart in ["none", "clean", "killed"] {
        let mut rig = Rig::with(&[("segment.bytes", "1000"), ("index.interval.bytes", "100")]);
        for time in &times {
            rig.append(batch_at(2, 10, TimestampMs(*time))).unwrap();
        }
        rig.commit();
        let rig = match restart {
            "clean" => rig.close_and_reopen().0,
            "killed" => rig.kill_and_reopen().0,
            _ => rig,
        };
        for wanted in 960..1620 {
            let expect = times.iter().position(|time| *time >= wanted);
            let found = rig.log().offset_for_timestamp(TimestampMs(wanted)).unwrap();
            let base = found.as_ref().map(|found| found.base_offset.get());
            let expect = expect.map(|at| 2 * i64::try_from(at).unwrap());
            assert_eq!(base, expect, "{restart} {wanted}");
            if let Some(found) = found {
                let bytes = found.slice.read().unwrap();
                assert_eq!(BatchView::parse(&bytes).unwrap().base_offset(), found.base_offset);
                assert_eq!(found.leader_epoch, LeaderEpoch(0));
            }
        }
        let max = rig.log().max_timestamp().unwrap().find().unwrap()[1].clone().unwrap();
        assert_eq!(max.max_timestamp.get(), *times.iter().max().unwrap());
    }
}

#[test]
fn log_append_time_is_written_into_the_batch() {
    let mut rig = Rig::with(&[("message.timestamp.type", "LogAppendTime")]);
    let appended = rig.append(batch_at(3, 10, TimestampMs(5))).unwrap();
    assert_eq!(appended.log_append_time, Some(T0));
    rig.commit();
    let bytes = read_all(&rig.log().read(Offset(0), 1, Offset(3)).unwrap().slices);
    let view = BatchView::parse(&bytes).unwrap();
    view.verify_crc().unwrap();
    assert_eq!(view.max_timestamp(), T0);
    assert_eq!(view.timestamp_type(), weir_log::TimestampType::LogAppendTime);
}

#[test]
fn an_index_that_lies_is_found_out_and_built_again() {
    let rig = filled();
    let (rig, _) = rig.close_and_reopen();
    // An entry in the middle of the first sealed index points elsewhere.
    let path = rig.path(0, "index");
    rig.disk.damage(&path, |bytes| bytes[7] ^= 0x15).unwrap();
    let mut rig = rig;
    assert_eq!(rig.offsets_from(0), (0..200).collect::<Vec<_>>());
    for offset in 0..200 {
        let read = rig.log().read(Offset(offset), 1, Offset(200)).unwrap();
        let bytes = read_all(&read.slices);
        assert_eq!(BatchView::parse(&bytes).unwrap().base_offset(), Offset(offset / 5 * 5));
    }
    assert_eq!(rig.upkeep(T0).indexes_rebuilt, 1);
    assert_eq!(rig.upkeep(T0).indexes_rebuilt, 0);
    assert_eq!(rig.offsets_from(0), (0..200).collect::<Vec<_>>());
}
