//! What an unclean stop, or a bad disk, leaves.

use std::path::{Path, PathBuf};

use weir_log::disk::{Fault, FaultKind, OpenMode};
use weir_log::verify::{verify, VerifyOptions};
use weir_log::{AppendOrigin, Disk, MemDisk};
use weir_protocol::{batch, LeaderEpoch, Offset, PartitionId, Uuid};

use crate::rig::{batch_at, batch_of, exists, open, path, read_all, Rig, DIR, T0, TOPIC};

/// `batches` of 5 records in segments of 3 batches, synced.
fn filled(batches: usize) -> Rig {
    let segment_bytes = (3 * batch_of(5).len()).to_string();
    let mut rig = Rig::with(&[("segment.bytes", &segment_bytes), ("index.interval.bytes", "50")]);
    for _ in 0..batches {
        rig.append(batch_of(5)).unwrap();
    }
    rig.commit();
    rig.empty_journal();
    rig
}

#[test]
fn torn_tail_batch_is_cut_on_open() {
    let size = batch_of(5).len();
    for cut in 1..size {
        let rig = filled(2);
        rig.disk.damage(&rig.path(0, "log"), |bytes| bytes.truncate(2 * size - cut)).unwrap();
        let (mut rig, report) = rig.kill_and_reopen();
        assert_eq!(rig.log().log_end_offset(), Offset(5), "{cut}");
        assert_eq!(report.bytes_cut, (size - cut) as u64);
        assert!(report.damage.is_empty(), "{cut}: {report:?}");
        assert_eq!(rig.file(0, "log").len(), size);
        assert_eq!(rig.append(batch_of(1)).unwrap().base_offset, Offset(5));
        if cut < size - 61 {
            assert_eq!(report.records_cut, 5);
        }
    }
}

#[test]
fn zeros_at_the_end_are_a_torn_tail() {
    let rig = filled(2);
    rig.disk.damage(&rig.path(0, "log"), |bytes| bytes.extend([0; 5000])).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!((report.bytes_cut, report.damage.len()), (5000, 0));
    assert_eq!(rig.log().log_end_offset(), Offset(10));
}

#[test]
fn damage_inside_is_reported_and_its_bytes_are_kept() {
    let size = batch_of(5).len();
    for at in [0, 8, 16, 17, 30, 61, size - 1] {
        let rig = filled(3);
        let before = rig.file(0, "log");
        rig.disk.damage(&rig.path(0, "log"), |bytes| bytes[size + at] ^= 0x55).unwrap();
        let damaged = rig.file(0, "log");
        assert_ne!(before, damaged);
        let (mut rig, report) = rig.kill_and_reopen();
        let [damage] = report.damage.as_slice() else { panic!("{at}: {report:?}") };
        assert_eq!((damage.position, damage.offset), (size as u64, Offset(5)), "{at}");
        assert_eq!(damage.bytes_cut, 2 * size as u64);
        assert_eq!(damage.kept_in, rig.path(0, &format!("log.damaged-{size}")));
        assert_eq!(rig.disk.files()[&damage.kept_in], damaged[size..]);
        assert!(report.records_cut >= 5);
        assert_eq!(rig.offsets_from(0), [0, 1, 2, 3, 4]);
        assert_eq!(rig.append(batch_of(1)).unwrap().base_offset, Offset(5));
    }
}

#[test]
fn segments_behind_damage_are_kept_aside() {
    let size = batch_of(5).len();
    let rig = filled(9);
    rig.disk.damage(&rig.path(0, "log"), |bytes| bytes[2 * size + 70] ^= 1).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!(report.damage.len(), 3, "{report:?}");
    assert_eq!(report.bytes_cut, 7 * size as u64);
    assert_eq!(report.records_cut, 35);
    assert_eq!(rig.log().log_end_offset(), Offset(10));
    for base in [15, 30] {
        assert!(!exists(&rig.disk, &rig.path(base, "log")));
        assert_eq!(rig.file(base, "log.damaged-0").len(), 3 * size);
    }
    let (rig, report) = rig.kill_and_reopen();
    assert!(report.damage.is_empty(), "it is reported once");
    assert_eq!(rig.log().log_end_offset(), Offset(10));
}

#[test]
fn a_missing_segment_is_a_hole_and_not_passed_over() {
    let rig = filled(9);
    rig.disk.remove(&rig.path(15, "log")).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(rig.log().log_end_offset(), Offset(15));
}

#[test]
fn what_lies_below_the_recovery_point_is_not_scanned() {
    let rig = filled(9);
    let (rig, report) = rig.kill_and_reopen();
    assert!(report.bytes_scanned > 0);
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!((report.bytes_scanned, report.logs_recovered), (0, 0));
    assert_eq!(rig.log().synced_offset(), Offset(45));
    assert_eq!(rig.offsets_from(0), (0..45).collect::<Vec<_>>());
}

#[test]
fn an_unclean_start_raises_the_leader_epoch_and_a_clean_one_does_not() {
    let rig = filled(2);
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(0));
    let (mut rig, _) = rig.kill_and_reopen();
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(1));
    assert_eq!(rig.log().end_offset_for_epoch(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(10))));
    rig.append(batch_of(5)).unwrap();
    assert_eq!(rig.log().epoch_for_offset(Offset(9)), Some(LeaderEpoch(0)));
    assert_eq!(rig.log().epoch_for_offset(Offset(10)), Some(LeaderEpoch(1)));
    let (rig, _) = rig.close_and_reopen();
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(1));
    assert_eq!(rig.log().end_offset_for_epoch(LeaderEpoch(1)), Some((LeaderEpoch(1), Offset(15))));
    // An epoch in which nothing was written may be given again.
    let (rig, _) = rig.kill_and_reopen();
    let (rig, _) = rig.kill_and_reopen();
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(2));
    let (mut rig, _) = rig.close_and_reopen();
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(2));
    rig.append(batch_of(5)).unwrap();
    let (rig, _) = rig.kill_and_reopen();
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(3));
    assert_eq!(rig.log().end_offset_for_epoch(LeaderEpoch(4)), None);
    let image = rig.disk.crash(7);
    let (mut rig, _) = rig.reopen_on(image);
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(3));
    // Written under and synced, it is known though no checkpoint came after it.
    rig.append(batch_of(5)).unwrap();
    rig.commit();
    let image = rig.disk.crash(8);
    let (rig, _) = rig.reopen_on(image);
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(4));
}

#[test]
fn epochs_are_read_from_batches_if_their_file_is_lost() {
    let rig = filled(2);
    let (mut rig, _) = rig.kill_and_reopen();
    rig.append(batch_of(5)).unwrap();
    rig.commit();
    let file = rig.log().dir().join("leader-epoch-checkpoint");
    rig.disk.damage(&file, |bytes| bytes.truncate(3)).unwrap();
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!(report.bad_files.len(), 1);
    assert_eq!(rig.log().leader_epoch(), LeaderEpoch(2));
    assert_eq!(rig.log().epoch_for_offset(Offset(12)), Some(LeaderEpoch(1)));
}

#[test]
fn missing_and_impossible_indexes_are_built_again() {
    for (clean, damage) in [(true, "gone"), (true, "size"), (false, "gone"), (false, "size")] {
        let rig = filled(9);
        let (rig, _) = rig.close_and_reopen();
        let expect = (rig.file(15, "index"), rig.file(15, "timeindex"));
        assert!(!expect.0.is_empty());
        let disk = rig.disk.clone();
        let rig = if clean {
            rig.dir.close().unwrap();
            None
        } else {
            Some(rig)
        };
        for suffix in ["index", "timeindex"] {
            let path = crate::rig::path(15, suffix);
            match damage {
                "gone" => disk.remove(&path).unwrap(),
                _ => disk.damage(&path, |bytes| bytes.push(1)).unwrap(),
            }
        }
        drop(rig);
        disk.kill();
        let config = weir_log::LogConfig::from_pairs([("index.interval.bytes", "50")]).unwrap();
        let (dir, report) = crate::rig::open(&disk, &config).unwrap();
        assert_eq!((report.clean, report.indexes_rebuilt), (clean, 1), "{damage}");
        let files = disk.files();
        assert_eq!(files[&crate::rig::path(15, "index")], expect.0);
        assert_eq!(files[&crate::rig::path(15, "timeindex")], expect.1);
        drop(dir);
    }
}

#[test]
fn a_clean_mark_over_a_damaged_tail_is_not_believed() {
    let size = batch_of(5).len();
    let rig = filled(2);
    let disk = rig.disk.clone();
    let config = rig.config.clone();
    rig.dir.close().unwrap();
    disk.damage(&crate::rig::path(0, "log"), |bytes| bytes.truncate(size + 20)).unwrap();
    let (dir, report) = crate::rig::open(&disk, &config).unwrap();
    assert_eq!((report.bytes_cut, report.logs_recovered), (20, 1), "{report:?}");
    let (_, log) = dir.logs().next().unwrap();
    assert_eq!((log.log_end_offset(), log.synced_offset()), (Offset(5), Offset(5)));
}

#[test]
fn a_damaged_recovery_point_file_means_a_full_scan() {
    let rig = filled(9);
    let disk = rig.disk.clone();
    let config = rig.config.clone();
    rig.dir.close().unwrap();
    let path = std::path::Path::new(crate::rig::DIR).join("recovery-point-offset-checkpoint");
    disk.damage(&path, |bytes| bytes.truncate(4)).unwrap();
    let (_, report) = crate::rig::open(&disk, &config).unwrap();
    assert!(!report.clean);
    assert_eq!(report.bytes_scanned, 9 * batch_of(5).len() as u64);
    assert_eq!(report.bad_files.len(), 1);
}

#[test]
fn the_index_preallocated_by_a_crashed_kafka_is_no_obstacle() {
    let rig = filled(2);
    for suffix in ["index", "timeindex"] {
        rig.disk.damage(&rig.path(0, suffix), |bytes| bytes.resize(12 * 1024, 0)).unwrap();
    }
    let (mut rig, _) = rig.kill_and_reopen();
    assert_eq!(rig.offsets_from(0), (0..10).collect::<Vec<_>>());
    rig.append(batch_of(5)).unwrap();
    let (rig, _) = rig.close_and_reopen();
    assert!(rig.file(0, "index").len() < 100);
}

#[test]
fn truncate_cuts_whole_batches_and_the_log_goes_on() {
    let mut rig = filled(9);
    rig.log_mut().truncate(Offset(22)).unwrap();
    assert_eq!(rig.log().log_end_offset(), Offset(20));
    assert_eq!(rig.log().synced_offset(), Offset(20));
    assert_eq!(rig.append(batch_of(2)).unwrap().base_offset, Offset(20));
    rig.commit();
    assert_eq!(rig.offsets_from(0), (0..22).collect::<Vec<_>>());
    for seed in 0..10 {
        let image = rig.disk.crash(seed);
        let (dir, report) = crate::rig::open(&image, &rig.config).unwrap();
        let (_, log) = dir.logs().next().unwrap();
        assert_eq!(log.log_end_offset(), Offset(22), "seed {seed} {report:?}");
    }
    let _ = T0;
}

#[test]
fn a_roll_that_fails_half_way_loses_nothing() {
    for kind in [FaultKind::Full, FaultKind::IoError] {
        for after in 0..8 {
            let case = format!("{kind:?} after {after}");
            // Three batches of 5 fill a segment, the fourth rolls it.
            let mut rig = filled(3);
            rig.disk.inject(Fault { after, kind });
            let failed = rig.append(batch_of(5)).is_err();
            rig.disk.clear_fault();
            if rig.dir.failure().is_some() {
                let (rig, report) = rig.kill_and_reopen();
                assert!(report.damage.is_empty() && report.bad_files.is_empty(), "{case}");
                assert_eq!(rig.offsets_from(0), (0..15).collect::<Vec<_>>(), "{case}");
                continue;
            }
            let end = rig.log().log_end_offset().get();
            assert_eq!(end, if failed { 15 } else { 20 }, "{case}");
            // A roll that was whole, before a write that failed, is no leftover.
            if rig.log().segment_count() == 1 {
                assert!(!exists(&rig.disk, &rig.path(15, "log")), "{case}");
            }
            // This one goes to the old segment if that one has room.
            let mut config = rig.config.clone();
            config.segment_bytes_max += batch_of(1).len() as u64;
            rig.log_mut().set_config(config);
            rig.append(batch_of(1)).unwrap();
            rig.commit();
            let (mut rig, report) = rig.close_and_reopen();
            assert!(report.clean && report.bad_files.is_empty(), "{case}: {report:?}");
            assert_eq!(rig.offsets_from(0), (0..=end).collect::<Vec<_>>(), "{case}");
            assert_eq!(rig.append(batch_of(5)).unwrap().base_offset, Offset(end + 1), "{case}");
        }
    }
}

#[test]
fn an_empty_segment_below_the_end_of_its_predecessor_is_removed() {
    for clean in [true, false] {
        let rig = filled(3);
        let (disk, config) = (rig.disk.clone(), rig.config.clone());
        if clean {
            rig.dir.close().unwrap();
        } else {
            drop(rig.dir);
            disk.kill();
        }
        for suffix in ["log", "index", "timeindex"] {
            disk.open(&crate::rig::path(10, suffix), OpenMode::Create).unwrap();
        }
        let (dir, report) = crate::rig::open(&disk, &config).unwrap();
        assert_eq!((report.clean, report.bad_files.len()), (clean, 1), "{report:?}");
        assert!(!exists(&disk, &crate::rig::path(10, "log")));
        let (_, log) = dir.logs().next().unwrap();
        assert_eq!((log.log_end_offset(), log.synced_offset()), (Offset(15), Offset(15)));
    }
}

#[test]
fn a_log_that_ends_below_what_was_synced_is_reported() {
    let size = batch_of(5).len();
    for (clean, keep) in [(true, size), (true, 0), (false, size), (false, 0)] {
        let (rig, _) = filled(2).close_and_reopen();
        let (disk, config) = (rig.disk.clone(), rig.config.clone());
        if clean {
            rig.dir.close().unwrap();
        } else {
            drop(rig.dir);
            disk.kill();
        }
        // At a batch boundary, so that nothing but the checkpoints tells of it.
        disk.damage(&crate::rig::path(0, "log"), |bytes| bytes.truncate(keep)).unwrap();
        for suffix in ["index", "timeindex"] {
            disk.damage(&crate::rig::path(0, suffix), Vec::clear).unwrap();
        }
        let (dir, report) = crate::rig::open(&disk, &config).unwrap();
        assert!(!report.clean, "{report:?}");
        let [damage] = report.damage.as_slice() else { panic!("{clean} {keep}: {report:?}") };
        let end = if keep == 0 { 0 } else { 5 };
        assert_eq!((damage.position, damage.offset), (keep as u64, Offset(end)));
        assert!(damage.what.contains("synced up to 10"), "{}", damage.what);
        drop(dir);
        disk.kill();
        let (_, report) = crate::rig::open(&disk, &config).unwrap();
        assert!(report.damage.is_empty(), "it is reported once: {report:?}");
    }
}

#[test]
fn the_last_time_entry_of_a_segment_sealed_before_a_crash_is_synced_with_the_next_checkpoint() {
    let mut rig = Rig::with(&[("cleanup.policy", "compact")]);
    rig.append(batch_of(1)).unwrap();
    rig.dir.tick(T0.plus_ms(60_000)).unwrap();
    rig.commit();
    // A checkpoint does not force a last entry; the roll does, and the process is killed.
    rig.dir.request_clean(rig.id).unwrap();
    drop(rig.dir.begin_upkeep(T0));
    assert_eq!((rig.log().segment_count(), rig.file(0, "timeindex").len()), (2, 12));
    let (mut rig, _) = rig.kill_and_reopen();
    rig.append(batch_of(1)).unwrap();
    rig.dir.tick(T0.plus_ms(120_000)).unwrap();
    rig.commit();
    for seed in 0..20 {
        let image = rig.disk.crash(seed);
        let (dir, _) = open(&image, &rig.config).unwrap();
        let found = dir.logs().next().unwrap().1.offset_for_timestamp(T0).unwrap().unwrap();
        assert_eq!(found.base_offset, Offset(0), "seed {seed}");
    }
}

#[test]
fn a_recovery_tells_how_far_it_is_and_reads_nothing_before_the_recovery_point() {
    let mut rig = Rig::with(&[("segment.bytes", "30000000")]);
    for round in 0..2 {
        for _ in 0..45 {
            rig.append(batch_at(1_000, 1_000, T0)).unwrap();
        }
        rig.commit();
        if round == 0 {
            rig.dir.tick(T0.plus_ms(60_000)).unwrap();
            rig.commit();
        }
    }
    let unchecked = 45 * batch_at(1_000, 1_000, T0).len() as u64;
    let (disk, config) = (rig.disk.clone(), rig.config.clone());
    drop(rig.dir);
    disk.kill();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let watch = {
        let told = std::sync::Arc::clone(&told);
        weir_log::RecoveryWatch::new(move |progress| told.lock().unwrap().push(progress.clone()))
    };
    let options = weir_log::LogDirOptions { recovery_watch: watch, ..crate::rig::options(&config) };
    let disk = std::sync::Arc::new(disk);
    let opened = weir_log::LogDir::open(disk, std::path::Path::new(crate::rig::DIR), options, T0);
    assert_eq!(opened.unwrap().1.bytes_scanned, unchecked);
    let told = told.lock().unwrap();
    let is_said = told
        .iter()
        .all(|one| one.bytes_total == unchecked && (one.logs_done, one.logs_total) == (0, 1));
    assert!(is_said, "{told:?}");
    let done: Vec<u64> = told.iter().map(|one| one.bytes_done >> 20).collect();
    assert_eq!(done, [0, 16, 32], "{told:?}");
}

/// Three segments and more, all synced and checkpointed.
fn three_segments() -> Rig {
    let mut rig = Rig::with(&[("segment.bytes", "700"), ("file.delete.delay.ms", "0")]);
    for _ in 0..20 {
        rig.append(batch_of(5)).unwrap();
        rig.commit();
    }
    assert!(rig.log().segment_count() > 3);
    rig.empty_journal();
    rig.dir.tick(T0.plus_ms(100_000)).unwrap();
    rig.commit();
    rig
}

/// Base offsets of the segments.
fn bases(disk: &MemDisk) -> Vec<i64> {
    let dir = Path::new(DIR).join(format!("{TOPIC}-0"));
    let of_log =
        |path: &PathBuf| path.starts_with(&dir) && path.extension().is_some_and(|end| end == "log");
    let names = disk.files().into_keys().filter(of_log);
    names.map(|path| path.file_stem().unwrap().to_string_lossy().parse().unwrap()).collect()
}

#[test]
fn a_segment_that_is_gone_or_empty_is_told_of_and_readers_go_on_behind_it() {
    for clean in [true, false] {
        for is_gone in [true, false] {
            let rig = three_segments();
            let (disk, config) = (rig.disk.clone(), rig.config.clone());
            match clean {
                true => rig.dir.close().unwrap(),
                false => drop(rig),
            }
            disk.kill();
            let bases = bases(&disk);
            let path = path(bases[1], "log");
            match is_gone {
                true => disk.remove(&path).unwrap(),
                false => disk.damage(&path, Vec::clear).unwrap(),
            }
            for _ in 0..2 {
                let (dir, report) = open(&disk, &config).unwrap();
                assert_eq!(report.damage.len(), 1, "clean {clean}, gone {is_gone}: {report:?}");
                assert_eq!(report.damage[0].offset, Offset(bases[1]));
                let log = dir.get(dir.find(TOPIC, PartitionId(0)).unwrap()).unwrap();
                let read = log.read(Offset(bases[1]), 1, log.synced_offset()).unwrap();
                let first =
                    batch::batches(&read_all(&read.slices)).next().unwrap().unwrap().base_offset();
                assert_eq!(first, Offset(bases[2]));
            }
        }
    }
}

#[test]
fn indexes_of_a_segment_that_was_being_deleted_are_removed_without_a_word() {
    let rig = three_segments();
    let (disk, config) = (rig.disk.clone(), rig.config.clone());
    drop(rig);
    disk.kill();
    let first = bases(&disk)[0];
    // The log goes first; then the power is cut.
    let to = path(first, "log.deleted");
    disk.rename(&path(first, "log"), &to).unwrap();
    let (dir, report) = open(&disk, &config).unwrap();
    assert!(report.damage.is_empty() && report.warnings.is_empty(), "{report:?}");
    drop(dir);
    for suffix in ["index", "timeindex"] {
        assert!(!exists(&disk, &path(first, suffix)), "{suffix}");
    }
}

#[test]
fn a_partition_whose_directory_is_gone_is_reported_after_a_clean_stop() {
    let mut rig = Rig::with(&[]);
    let (config, id) = (rig.config.clone(), Uuid([5; 16]));
    let other = rig.dir.create_log("deleted", id, PartitionId(0), config.clone(), T0).unwrap();
    let log = rig.dir.get_mut(other).unwrap();
    log.append(&mut batch_of(5), AppendOrigin::Client, T0).unwrap();
    rig.append(batch_of(5)).unwrap();
    rig.commit();
    // One that was deleted in order is not missed.
    rig.dir.delete_log(other, T0).unwrap();
    rig.commit();
    let Rig { dir, disk, .. } = rig;
    dir.close().unwrap();
    let gone = path(0, "log").parent().unwrap().to_path_buf();
    disk.remove(&gone).unwrap();
    let verified = verify(&disk, Path::new(DIR), &VerifyOptions::default(), &mut |_| {}).unwrap();
    assert_eq!((verified.problems, &verified.findings[0].file), (1, &gone));
    let (_, report) = open(&disk, &config).unwrap();
    let [damage] = &*report.damage else { panic!("{:?}", report.damage) };
    assert!(damage.what.contains("synced up to offset 5"), "{damage:?}");
    assert_eq!((&*damage.topic, &damage.segment), (TOPIC, &gone));
}
