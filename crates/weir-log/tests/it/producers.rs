//! Idempotent producers and transactions, through the log.

use weir_log::disk::{Fault, FaultKind};
use weir_log::{AppendError, AppendOrigin, Appended};
use weir_protocol::batch::{build_control, ControlMarker};
use weir_protocol::{Offset, PartitionId, ProducerEpoch, ProducerId, TimestampMs};

use crate::rig::{
    batch_at, batch_of, exists, open, path, producer_batch, txn_batch, Rig, T0, TOPIC,
};

fn duplicate(appended: Appended) -> Option<i64> {
    appended.duplicate.then_some(appended.base_offset.get())
}

fn end(rig: &mut Rig, id: i64, marker: ControlMarker) -> Offset {
    let batch = build_control(marker, ProducerId(id), ProducerEpoch(0), 0, T0);
    let mut batch = batch.to_vec();
    rig.log_mut().append(&mut batch, AppendOrigin::Coordinator, T0).unwrap().base_offset
}

#[test]
fn a_duplicate_is_answered_with_the_original_offset() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(7)).unwrap();
    let first = rig.append(producer_batch(9, 0, 0, 5)).unwrap();
    assert_eq!((first.base_offset, first.last_offset), (Offset(7), Offset(11)));
    rig.append(producer_batch(9, 0, 5, 5)).unwrap();
    assert_eq!(duplicate(rig.append(producer_batch(9, 0, 0, 5)).unwrap()), Some(7));
    assert_eq!(rig.log().log_end_offset(), Offset(17));
}

#[test]
fn duplicates_are_known_after_any_restart() {
    for restart in ["clean", "killed", "power cut"] {
        let mut rig = Rig::with(&[("segment.bytes", "700")]);
        for n in 0..20 {
            rig.append(producer_batch(9, 0, n * 5, 5)).unwrap();
        }
        rig.commit();
        assert!(rig.log().segment_count() > 2);
        let mut rig = match restart {
            "clean" => rig.close_and_reopen().0,
            "killed" => rig.kill_and_reopen().0,
            _ => {
                let image = rig.disk.crash(1);
                rig.reopen_on(image).0
            }
        };
        let again = rig.append(producer_batch(9, 0, 95, 5)).unwrap();
        assert_eq!(duplicate(again), Some(95), "{restart}");
        let error = rig.append(producer_batch(9, 0, 105, 5)).unwrap_err();
        assert!(matches!(error, AppendError::OutOfOrderSequence { .. }), "{restart}: {error}");
        assert!(!rig.append(producer_batch(9, 0, 100, 5)).unwrap().duplicate);
    }
}

/// A log that remembers 1,500 producers and has just been rolled; nothing is committed since. With the base of the new
/// segment.
fn rolled_with_many_producers() -> (Rig, i64) {
    let mut rig = Rig::with(&[("segment.bytes", "200000")]);
    for id in 0..1_500 {
        rig.append(producer_batch(id, 0, 0, 1)).unwrap();
    }
    rig.commit();
    let mut base = 0;
    while rig.log().segment_count() == 1 {
        base = rig.append(batch_of(100)).unwrap().base_offset.get();
    }
    (rig, base)
}

#[test]
fn the_snapshot_of_many_producers_is_left_to_the_commit_after_the_roll() {
    let (mut rig, base) = rolled_with_many_producers();
    assert!(rig.file(base, "snapshot").is_empty(), "there is more to do than to copy");
    let killed = rig.disk.crash_as_kill();
    rig.commit();
    let bytes = rig.file(base, "snapshot");
    assert_eq!(bytes.len(), 10 + 1_500 * 46);
    let ids = bytes[10..].chunks(46).map(|entry| entry[..8].to_vec());
    assert!(ids.is_sorted());
    let (later, power_cut) = (rig.disk.crash_as_kill(), rig.disk.crash(3));
    for (what, disk) in [("before", killed), ("after", later), ("a power cut", power_cut)] {
        let (dir, _) = open(&disk, &rig.config).unwrap();
        let id = dir.find(TOPIC, PartitionId(0)).unwrap();
        let mut other = Rig { disk, dir, id, config: rig.config.clone() };
        let again = other.append(producer_batch(1_499, 0, 0, 1)).unwrap();
        assert_eq!(duplicate(again), Some(1_499), "{what}");
    }
}

#[test]
fn a_snapshot_that_finds_no_room_is_done_without() {
    let (mut rig, base) = rolled_with_many_producers();
    rig.disk.inject(Fault { after: 0, kind: FaultKind::Full });
    rig.commit();
    assert!(!exists(&rig.disk, &path(base, "snapshot")));
    rig.disk.clear_fault();
    assert!(!rig.append(producer_batch(7, 0, 1, 1)).unwrap().duplicate);
    let (mut rig, _) = rig.close_and_reopen();
    assert_eq!(duplicate(rig.append(producer_batch(1_499, 0, 0, 1)).unwrap()), Some(1_499));
}

/// Writes `batches` of each of two producers in turn and has them synced, with a checkpoint before the
/// `snapshot_at`th pair, if any.
fn two_producers(rig: &mut Rig, batches: i32, snapshot_at: Option<i32>) {
    for n in 0..batches {
        if snapshot_at == Some(n) {
            rig.dir.tick(T0.plus_ms(i64::from(n) + 100_000)).unwrap();
            rig.commit();
            assert_eq!(rig.log().log_end_offset(), Offset(i64::from(n) * 5));
        }
        rig.append(producer_batch(8, 0, n * 2, 2)).unwrap();
        rig.append(producer_batch(9, 3, n * 3, 3)).unwrap();
    }
    rig.commit();
}

#[test]
fn none_of_five_batches_in_flight_is_doubled_by_a_restart() {
    let snapshots = [None, Some(1), Some(6), Some(7), Some(8), Some(9), Some(10), Some(11)];
    for (segment_bytes, index_bytes) in [("1000000", "4096"), ("1000000", "50"), ("700", "50")] {
        for snapshot_at in snapshots {
            for restart in ["clean", "killed", "power cut"] {
                let what = format!("{segment_bytes} {index_bytes} {snapshot_at:?} {restart}");
                let mut rig = Rig::with(&[
                    ("segment.bytes", segment_bytes),
                    ("index.interval.bytes", index_bytes),
                ]);
                two_producers(&mut rig, 11, snapshot_at);
                let mut rig = match restart {
                    "clean" => rig.close_and_reopen().0,
                    "killed" => rig.kill_and_reopen().0,
                    _ => {
                        let image = rig.disk.crash(1);
                        rig.reopen_on(image).0
                    }
                };
                let end = rig.log().log_end_offset();
                for n in 6..11 {
                    let offset = i64::from(n) * 5;
                    let again = rig.append(producer_batch(8, 0, n * 2, 2)).expect(&what);
                    assert_eq!(duplicate(again), Some(offset), "{what}");
                    let again = rig.append(producer_batch(9, 3, n * 3, 3)).expect(&what);
                    assert_eq!(duplicate(again), Some(offset + 2), "{what}");
                }
                assert_eq!(rig.log().log_end_offset(), end, "{what}");
                let sixth = rig.append(producer_batch(8, 0, 10, 2)).unwrap_err();
                assert!(matches!(sixth, AppendError::OutOfOrderSequence { .. }), "{what}");
                assert!(!rig.append(producer_batch(9, 3, 33, 3)).unwrap().duplicate, "{what}");
            }
        }
    }
}

/// As one that is cut off through two starts while others write on: its answers never came.
#[test]
fn a_producer_that_was_silent_while_others_wrote_still_has_its_five_batches() {
    for restart in ["clean", "killed", "power cut"] {
        let mut rig = Rig::with(&[("segment.bytes", "100000")]);
        for n in 0..9 {
            rig.append(producer_batch(8, 0, n * 2, 2)).unwrap();
            rig.append(producer_batch(9, 0, n * 2, 2)).unwrap();
        }
        rig.commit();
        let mut rig = rig.kill_and_reopen().0;
        for n in 0..1_000 {
            rig.append(batch_at(1, 300, T0)).unwrap();
            rig.append(producer_batch(7, 0, n, 1)).unwrap();
        }
        rig.commit();
        rig.dir.tick(T0.plus_ms(100_000)).unwrap();
        rig.commit();
        let mut rig = match restart {
            "clean" => rig.close_and_reopen().0,
            "killed" => rig.kill_and_reopen().0,
            _ => {
                let image = rig.disk.crash(1);
                rig.reopen_on(image).0
            }
        };
        for n in 4..9 {
            let again = rig.append(producer_batch(9, 0, n * 2, 2)).unwrap();
            assert_eq!(duplicate(again), Some(i64::from(n) * 4 + 2), "{restart}, batch {n}");
        }
        for producer in [8, 9] {
            assert!(!rig.append(producer_batch(producer, 0, 18, 2)).unwrap().duplicate);
        }
    }
}

#[test]
fn a_start_after_a_clean_stop_knows_five_batches_without_reading_them_back() {
    // With what the stop wrote down, and without it, as when Kafka stopped it.
    for is_written_down in [true, false] {
        let mut rig = Rig::with(&[("index.interval.bytes", "50")]);
        two_producers(&mut rig, 11, None);
        let (disk, config) = (rig.disk.clone(), rig.config.clone());
        rig.dir.close().unwrap();
        // A read back would end at the batch that this makes unreadable, before those in question.
        let pair = producer_batch(8, 0, 0, 2).len() + producer_batch(9, 3, 0, 3).len();
        disk.damage(&path(0, "log"), |bytes| bytes[7 * pair + 8..7 * pair + 12].fill(0xff))
            .unwrap();
        if !is_written_down {
            let file = std::path::Path::new(crate::rig::DIR).join("weir-producer-batches");
            weir_log::Disk::remove(&disk, &file).unwrap();
        }
        let (dir, report) = crate::rig::open(&disk, &config).unwrap();
        assert!(report.clean, "{report:?}");
        let id = dir.find(crate::rig::TOPIC, weir_protocol::PartitionId(0)).unwrap();
        let mut rig = Rig { disk, dir, id, config };
        let again = rig.append(producer_batch(8, 0, 6 * 2, 2)).ok().and_then(duplicate);
        assert_eq!(again, is_written_down.then_some(30));
        let last = rig.append(producer_batch(8, 0, 10 * 2, 2)).unwrap();
        assert_eq!(duplicate(last), Some(50));
    }
}

#[test]
fn batches_of_an_earlier_epoch_are_not_taken_for_duplicates_after_a_restart() {
    let mut rig = Rig::with(&[]);
    for n in 0..3 {
        rig.append(producer_batch(9, 0, n, 1)).unwrap();
    }
    rig.append(producer_batch(9, 1, 0, 1)).unwrap();
    rig.append(producer_batch(9, 1, 1, 1)).unwrap();
    let (mut rig, _) = rig.close_and_reopen();
    assert_eq!(duplicate(rig.append(producer_batch(9, 1, 0, 1)).unwrap()), Some(3));
    let error = rig.append(producer_batch(9, 0, 1, 1)).unwrap_err();
    assert!(matches!(error, AppendError::InvalidProducerEpoch { .. }), "{error}");
    assert!(!rig.append(producer_batch(9, 1, 2, 1)).unwrap().duplicate);
}

#[test]
fn a_snapshot_is_written_on_roll_and_on_close() {
    let mut rig = Rig::with(&[("segment.bytes", "700")]);
    for n in 0..20 {
        rig.append(producer_batch(9, 0, n * 5, 5)).unwrap();
    }
    let snapshots = |rig: &Rig| -> Vec<String> {
        let names = rig.disk.files().into_keys();
        let names = names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        names.filter(|name| name.ends_with(".snapshot")).collect()
    };
    assert_eq!(snapshots(&rig).len(), rig.log().segment_count() - 1);
    let (rig, report) = rig.close_and_reopen();
    assert!(report.clean);
    assert_eq!(snapshots(&rig).len(), rig.log().segment_count());
    assert!(snapshots(&rig).contains(&"00000000000000000100.snapshot".to_owned()));
}

#[test]
fn a_damaged_snapshot_is_replaced_by_reading_the_log() {
    let mut rig = Rig::with(&[("segment.bytes", "700")]);
    for n in 0..20 {
        rig.append(producer_batch(9, 0, n * 5, 5)).unwrap();
    }
    let (rig, _) = rig.close_and_reopen();
    rig.disk.damage(&rig.path(100, "snapshot"), |bytes| bytes[20] ^= 1).unwrap();
    let (mut rig, _) = rig.close_and_reopen();
    assert_eq!(duplicate(rig.append(producer_batch(9, 0, 95, 5)).unwrap()), Some(95));
}

#[test]
fn clients_may_not_write_control_batches() {
    let mut rig = Rig::with(&[]);
    let marker = build_control(ControlMarker::Commit, ProducerId(1), ProducerEpoch(0), 0, T0);
    let error = rig.append(marker.to_vec()).unwrap_err();
    assert!(matches!(error, AppendError::InvalidBatch { .. }), "{error}");
}

#[test]
fn the_stable_offset_waits_for_the_synced_marker() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(3)).unwrap();
    rig.append(txn_batch(5, 0)).unwrap();
    rig.append(batch_of(2)).unwrap();
    rig.commit();
    assert_eq!(rig.log().synced_offset(), Offset(6));
    assert_eq!(rig.log().last_stable_offset(), Offset(3));
    assert_eq!(end(&mut rig, 5, ControlMarker::Commit), Offset(6));
    assert_eq!(rig.log().last_stable_offset(), Offset(3));
    rig.commit();
    assert_eq!(rig.log().last_stable_offset(), Offset(7));
}

#[test]
fn aborted_transactions_are_listed_also_after_a_crash() {
    let mut rig = Rig::with(&[("segment.bytes", "300")]);
    rig.append(txn_batch(5, 0)).unwrap();
    rig.append(txn_batch(6, 0)).unwrap();
    rig.append(batch_of(10)).unwrap();
    assert_eq!(end(&mut rig, 5, ControlMarker::Abort), Offset(12));
    assert_eq!(end(&mut rig, 6, ControlMarker::Commit), Offset(13));
    rig.commit();
    let check = |rig: &Rig| {
        let found = rig.log().aborted_txns(Offset(0), Offset(14)).unwrap();
        let [aborted] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(aborted.producer_id, ProducerId(5));
        assert_eq!((aborted.first_offset, aborted.last_offset), (Offset(0), Offset(12)));
        assert_eq!(aborted.last_stable_offset, Offset(1));
        assert_eq!(rig.log().last_stable_offset(), Offset(14));
    };
    check(&rig);
    let (rig, _) = rig.kill_and_reopen();
    check(&rig);
    let image = rig.disk.crash(3);
    let (rig, _) = rig.reopen_on(image);
    check(&rig);
    let (rig, _) = rig.close_and_reopen();
    check(&rig);
}

#[test]
fn a_log_in_which_nothing_was_aborted_is_asked_without_touching_a_file() {
    let mut rig = Rig::with(&[("segment.bytes", "300")]);
    for n in 0..20 {
        rig.append(txn_batch(5, n)).unwrap();
        end(&mut rig, 5, ControlMarker::Commit);
    }
    rig.commit();
    assert!(rig.log().segment_count() > 5);
    let (mut rig, _) = rig.close_and_reopen();
    rig.disk.inject(Fault { after: 0, kind: FaultKind::TooManyOpen });
    assert!(rig.log().aborted_txns(Offset(0), Offset(40)).unwrap().is_empty());
    rig.disk.clear_fault();
    rig.append(txn_batch(5, 20)).unwrap();
    end(&mut rig, 5, ControlMarker::Abort);
    let (rig, _) = rig.close_and_reopen();
    assert_eq!(rig.log().aborted_txns(Offset(0), Offset(42)).unwrap().len(), 1);
}

#[test]
fn an_open_transaction_is_still_open_after_a_restart() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(3)).unwrap();
    rig.append(txn_batch(5, 0)).unwrap();
    rig.commit();
    let (rig, _) = rig.kill_and_reopen();
    assert_eq!(rig.log().last_stable_offset(), Offset(3));
    let (rig, _) = rig.close_and_reopen();
    assert_eq!(rig.log().last_stable_offset(), Offset(3));
}

#[test]
fn records_dated_1970_do_not_cost_their_producer_its_protection() {
    let mut rig = Rig::with(&[]);
    let mut builder =
        weir_protocol::batch::BatchBuilder::new(weir_protocol::compression::Codec::None);
    builder.set_producer(ProducerId(1), ProducerEpoch(0), weir_protocol::Sequence(0));
    builder.append(TimestampMs(0), None, None, &[]);
    let batch = builder.build().to_vec();
    rig.append(batch.clone()).unwrap();
    rig.commit();
    rig.dir.tick(T0.plus_ms(700_000)).unwrap();
    assert_eq!(duplicate(rig.append(batch.clone()).unwrap()), Some(0));
    rig.dir.tick(T0.plus_ms(25 * 3_600_000)).unwrap();
    assert_eq!(rig.log().producer_count(), 0);
}

/// The index of aborted transactions is written beside the log, and a power cut takes what it likes of either. A record of
/// it that has no marker would hide what the same producer committed later.
#[test]
fn every_abort_in_the_index_has_its_marker_after_two_power_cuts() {
    for seed in 0..300 {
        let mut rig = Rig::with(&[]);
        rig.append(batch_of(1)).unwrap();
        rig.commit();
        // Not on disk yet, all of it.
        rig.append(txn_batch(5, 0)).unwrap();
        end(&mut rig, 5, ControlMarker::Abort);
        let image = rig.disk.crash(seed);
        let (mut rig, _) = rig.reopen_on(image);
        for _ in 0..4 {
            rig.append(batch_of(3)).unwrap();
        }
        rig.commit();
        // The recovery point moves on.
        rig.dir.tick(T0.plus_ms(60_000)).unwrap();
        rig.commit();
        let image = rig.disk.crash(seed + 1_000);
        let (rig, _) = rig.reopen_on(image);
        let end = rig.log().log_end_offset();
        for txn in rig.log().aborted_txns(Offset(0), end).unwrap() {
            let read = rig.log().read(txn.last_offset, 1, end).unwrap();
            let bytes = read.slices[0].read().unwrap();
            let view = weir_protocol::batch::BatchView::parse_shared(&bytes).unwrap();
            let is_marker = view.is_control() && view.producer_id() == txn.producer_id;
            assert!(is_marker, "seed {seed}: {txn:?}");
        }
    }
}
