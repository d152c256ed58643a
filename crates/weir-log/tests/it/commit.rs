//! Durability: what is synced, and what happens when syncing fails.

use weir_log::disk::{Fault, FaultKind};
use weir_log::{AppendError, LogError};
use weir_protocol::Offset;

use crate::rig::{batch_of, producer_batch, Rig, T0};

#[test]
fn the_synced_offset_moves_only_when_a_group_is_finished() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(5)).unwrap();
    assert_eq!(rig.log().synced_offset(), Offset(0));
    let group = rig.dir.begin_commit().unwrap();
    assert_eq!((group.log_count(), group.size_bytes()), (1, batch_of(5).len() as u64));
    // Appended while the group is under way: it belongs to the next one.
    rig.append(batch_of(5)).unwrap();
    assert!(rig.dir.begin_commit().is_none(), "one group at a time");
    let committed = group.run().unwrap();
    assert_eq!(rig.log().synced_offset(), Offset(0));
    assert_eq!(rig.dir.finish_commit(committed), [(rig.id, Offset(5))]);
    assert_eq!(rig.log().synced_offset(), Offset(5));
    assert!(rig.dir.has_dirty());
    rig.commit();
    assert_eq!(rig.log().synced_offset(), Offset(10));
    assert!(!rig.dir.has_dirty());
    assert!(rig.dir.begin_commit().is_none());
}

#[test]
fn what_was_finished_survives_a_power_cut_also_across_a_roll() {
    for seed in 0..50 {
        let mut rig = Rig::with(&[("segment.bytes", "400")]);
        for _ in 0..5 {
            rig.append(batch_of(5)).unwrap();
        }
        rig.commit();
        for _ in 0..5 {
            rig.append(batch_of(5)).unwrap();
        }
        let image = rig.disk.crash(seed);
        let (rig, _) = rig.reopen_on(image);
        let end = rig.log().log_end_offset().get();
        assert!((25..=50).contains(&end), "seed {seed}: {end}");
        assert_eq!(rig.offsets_from(0), (0..end).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_failed_sync_takes_the_directory_offline() {
    let mut rig = Rig::without_journal();
    rig.append(batch_of(5)).unwrap();
    rig.commit();
    rig.append(batch_of(5)).unwrap();
    let group = rig.dir.begin_commit().unwrap();
    rig.disk.inject(Fault { after: 0, kind: FaultKind::SyncError });
    let error = group.run().unwrap_err();
    assert_eq!(error.code(), "WEIR-0203");
    assert_eq!(rig.log().synced_offset(), Offset(5), "nothing unsynced is shown");
    assert!(rig.dir.failure().is_some());

    // The disk works again, and would say so; nobody asks it.
    let error = rig.append(batch_of(5)).unwrap_err();
    assert!(matches!(error, AppendError::Log(LogError::Offline { .. })), "{error}");
    assert!(rig.dir.begin_commit().is_none(), "nothing new waits");
    assert!(rig.dir.tick(T0).is_err());
    assert_eq!(rig.offsets_from(0), [0, 1, 2, 3, 4], "what is synced can be read");

    // What the failed sync should have made durable is not there after a power cut, as the kernel
    // had marked it clean. What was acknowledged is.
    let image = rig.disk.crash(1);
    let (rig, report) = rig.reopen_on(image);
    assert_eq!(rig.log().log_end_offset(), Offset(5));
    assert!(report.damage.is_empty());
    assert!(rig.dir.failure().is_none());
}

#[test]
fn appends_that_wait_when_a_sync_fails_are_failed_too() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(5)).unwrap();
    let group = rig.dir.begin_commit().unwrap();
    rig.append(batch_of(5)).unwrap();
    rig.disk.inject(Fault { after: 0, kind: FaultKind::SyncError });
    group.run().unwrap_err();
    let next = rig.dir.begin_commit().expect("whoever waits must learn of it");
    next.run().unwrap_err();
    assert!(rig.dir.begin_commit().is_none());
}

#[test]
fn a_group_that_is_abandoned_takes_the_directory_offline() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(5)).unwrap();
    drop(rig.dir.begin_commit());
    assert!(rig.append(batch_of(5)).is_err());
}

#[test]
fn a_failed_write_takes_the_directory_offline() {
    let mut rig = Rig::with(&[]);
    rig.disk.inject(Fault { after: 0, kind: FaultKind::IoError });
    rig.append(batch_of(5)).unwrap_err();
    assert!(rig.dir.failure().is_some());
}

#[test]
fn a_full_disk_refuses_appends_and_recovers_when_there_is_room() {
    let mut rig = Rig::with(&[("segment.bytes", "400")]);
    for _ in 0..5 {
        rig.append(batch_of(5)).unwrap();
    }
    for after in 0..12 {
        let end = rig.log().log_end_offset();
        rig.disk.inject(Fault { after, kind: FaultKind::Full });
        let mut appended = 0;
        while rig.append(batch_of(5)).is_ok() {
            appended += 5;
        }
        let error = rig.append(batch_of(5)).unwrap_err();
        assert_eq!(error.code(), "WEIR-0204");
        assert_eq!(rig.log().log_end_offset(), end.plus(appended));
        // Checkpoints find no room either; that is no reason to go offline.
        rig.dir.tick(T0.plus_ms(100_000_000 + i64::try_from(after).unwrap() * 60_000)).unwrap();
        rig.commit();
        rig.disk.clear_fault();
        rig.append(batch_of(5)).unwrap();
        rig.commit();
    }
    let end = rig.log().log_end_offset().get();
    let start = rig.log().log_start_offset().get();
    assert_eq!(rig.offsets_from(start), (start..end).collect::<Vec<_>>());
    let (rig, report) = rig.close_and_reopen();
    assert!(report.clean);
    assert_eq!(rig.offsets_from(start), (start..end).collect::<Vec<_>>());
}

/// Names of producer snapshots that are cut.
fn torn_snapshots(rig: &Rig) -> Vec<std::path::PathBuf> {
    let files = rig.disk.files().into_iter();
    let is_torn = |bytes: &[u8]| bytes.len() < 10 || !(bytes.len() - 10).is_multiple_of(46);
    files
        .filter(|(path, bytes)| path.extension().is_some_and(|e| e == "snapshot") && is_torn(bytes))
        .map(|(path, _)| path)
        .collect()
}

#[test]
fn a_full_disk_leaves_no_torn_snapshots() {
    let mut rig = Rig::with(&[("segment.bytes", "400")]);
    let mut sequence = 0;
    for after in 0..40 {
        let mut append = |rig: &mut Rig| {
            let appended = rig.append(producer_batch(9, 0, sequence, 3)).map(|_| sequence += 3);
            appended.is_ok()
        };
        append(&mut rig);
        rig.disk.inject(Fault { after, kind: FaultKind::Full });
        for _ in 0..4 {
            append(&mut rig);
        }
        rig.dir.tick(T0.plus_ms(100_000_000 + i64::try_from(after).unwrap() * 60_000)).unwrap();
        rig.commit();
        rig.disk.clear_fault();
        assert_eq!(torn_snapshots(&rig), Vec::<std::path::PathBuf>::new(), "after {after}");
        append(&mut rig);
        rig.commit();
    }
    let (mut rig, report) = rig.close_and_reopen();
    assert!(report.clean && report.warnings.is_empty(), "{report:?}");
    assert!(rig.append(producer_batch(9, 0, sequence - 3, 3)).unwrap().duplicate);
}

#[test]
fn a_start_removes_torn_snapshots_and_reads_the_log_instead() {
    for clean in [true, false] {
        let mut rig = Rig::with(&[("segment.bytes", "400")]);
        for n in 0..12 {
            rig.append(producer_batch(9, 0, n * 3, 3)).unwrap();
        }
        rig.commit();
        rig.dir.tick(T0.plus_ms(60_000)).unwrap();
        rig.commit();
        let (disk, config) = (rig.disk.clone(), rig.config.clone());
        if clean {
            rig.dir.close().unwrap();
        } else {
            drop(rig.dir);
            disk.kill();
        }
        // As an earlier weir left them on a full disk: one in the middle, and the last.
        let snapshots: Vec<_> = disk
            .files()
            .into_keys()
            .filter(|path| path.extension().is_some_and(|extension| extension == "snapshot"))
            .collect();
        assert!(snapshots.len() > 2, "{snapshots:?}");
        disk.damage(&snapshots[1], Vec::clear).unwrap();
        disk.damage(&snapshots[snapshots.len() - 1], |bytes| bytes.truncate(20)).unwrap();
        let (dir, report) = crate::rig::open(&disk, &config).unwrap();
        assert_eq!((report.clean, report.warnings.len()), (clean, if clean { 2 } else { 0 }));
        let id = dir.find(crate::rig::TOPIC, weir_protocol::PartitionId(0)).unwrap();
        let mut rig = Rig { disk, dir, id, config };
        assert_eq!(torn_snapshots(&rig), Vec::<std::path::PathBuf>::new());
        assert!(rig.append(producer_batch(9, 0, 33, 3)).unwrap().duplicate);
        let (_, report) = rig.close_and_reopen();
        assert!(report.clean && report.warnings.is_empty(), "{report:?}");
    }
}

#[test]
fn a_checkpoint_shortens_recovery() {
    let mut rig = Rig::with(&[("segment.bytes", "2000"), ("index.interval.bytes", "100")]);
    for _ in 0..100 {
        rig.append(batch_of(5)).unwrap();
    }
    rig.commit();
    rig.dir.tick(T0.plus_ms(60_000)).unwrap();
    rig.commit();
    for _ in 0..3 {
        rig.append(batch_of(5)).unwrap();
    }
    rig.commit();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!(report.bytes_scanned, 3 * batch_of(5).len() as u64);
    assert_eq!((report.records_cut, report.indexes_rebuilt), (0, 0));
    assert_eq!(rig.offsets_from(0), (0..515).collect::<Vec<_>>());
    // Recovery itself leaves a checkpoint.
    let (_, report) = rig.kill_and_reopen();
    assert_eq!((report.bytes_scanned, report.logs_recovered), (0, 0));
}

#[test]
fn a_checkpoint_comes_after_enough_bytes() {
    let mut rig = Rig::with(&[]);
    let config = rig.config.clone();
    drop(rig.dir);
    rig.disk.kill();
    let options =
        weir_log::LogDirOptions { checkpoint_bytes: 1000, ..crate::rig::options(&config) };
    let disk = std::sync::Arc::new(rig.disk.clone());
    let (dir, _) =
        weir_log::LogDir::open(disk, std::path::Path::new(crate::rig::DIR), options, T0).unwrap();
    rig.dir = dir;
    for _ in 0..50 {
        rig.append(batch_of(5)).unwrap();
        rig.commit();
    }
    let (_, report) = rig.kill_and_reopen();
    assert!(report.bytes_scanned < 1000 + batch_of(5).len() as u64, "{report:?}");
}

#[test]
fn a_checkpoint_that_finds_no_handle_is_put_off() {
    for after in 0..12 {
        let mut rig = Rig::with(&[("segment.bytes", "400")]);
        for _ in 0..7 {
            rig.append(batch_of(5)).unwrap();
        }
        rig.commit();
        rig.append(batch_of(1)).unwrap();
        rig.dir.tick(T0.plus_ms(60_000)).unwrap();
        rig.disk.inject(Fault { after, kind: FaultKind::TooManyOpen });
        rig.commit();
        assert!(rig.dir.failure().is_none(), "{after}: {:?}", rig.dir.failure());
        assert_eq!(rig.log().synced_offset(), Offset(36), "the data needs no handle");
        rig.disk.clear_fault();
        rig.append(batch_of(1)).unwrap();
        rig.dir.tick(T0.plus_ms(120_000)).unwrap();
        rig.commit();
        let (rig, report) = rig.kill_and_reopen();
        assert_eq!((report.bytes_scanned, report.damage.len()), (0, 0), "{after}");
        assert_eq!(rig.offsets_from(0), (0..37).collect::<Vec<_>>());
    }
}

#[test]
fn a_log_start_that_found_no_room_is_written_with_the_next_commit() {
    for kind in [FaultKind::Full, FaultKind::TooManyOpen] {
        let mut rig = Rig::with(&[]);
        for _ in 0..4 {
            rig.append(batch_of(5)).unwrap();
        }
        rig.commit();
        rig.log_mut().delete_records(Offset(7), T0).unwrap();
        rig.disk.inject(Fault { after: 0, kind });
        rig.commit();
        assert!(rig.dir.failure().is_none(), "{:?}", rig.dir.failure());
        rig.disk.clear_fault();
        rig.append(batch_of(1)).unwrap();
        rig.commit();
        let (rig, _) = rig.kill_and_reopen();
        assert_eq!(rig.log().log_start_offset(), Offset(7), "{kind:?}");
    }
}
