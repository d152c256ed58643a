//! The directory: lock, identity, many logs.

use std::path::Path;
use std::sync::Arc;

use weir_log::{AppendOrigin, Disk, FileDisk, LogConfig, LogDir, LogError, MemDisk};
use weir_protocol::{NodeId, Offset, PartitionId, Uuid};

use crate::rig::{batch_of, open, options, Rig, DIR, T0, TOPIC};

#[test]
fn a_second_open_names_the_process_that_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let open_files =
        || LogDir::open(Arc::new(FileDisk), dir.path(), options(&LogConfig::default()), T0);
    let first = open_files().unwrap();
    let error = open_files().unwrap_err();
    assert_eq!(error.code(), "WEIR-0202");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(first);
    open_files().unwrap();
    // The twin refuses as the files do.
    let disk = MemDisk::new();
    let _held = open(&disk, &LogConfig::default()).unwrap();
    let error = open(&disk, &LogConfig::default()).unwrap_err();
    assert_eq!(error.code(), "WEIR-0202");
}

#[test]
fn a_directory_of_another_cluster_or_node_is_refused() {
    let rig = Rig::with(&[]);
    let disk = rig.disk.clone();
    rig.dir.close().unwrap();
    let open_as = |cluster_id: Option<&str>, node_id: i32| {
        let options = weir_log::LogDirOptions {
            cluster_id: cluster_id.map(str::to_owned),
            node_id: NodeId(node_id),
            ..options(&LogConfig::default())
        };
        LogDir::open(Arc::new(disk.clone()), Path::new(DIR), options, T0)
    };
    assert_eq!(open_as(Some("other"), 0).unwrap_err().code(), "WEIR-0207");
    assert_eq!(open_as(None, 1).unwrap_err().code(), "WEIR-0207");
    let same = Uuid([1; 16]).to_string();
    let (dir, report) = open_as(Some(&same), 0).unwrap();
    assert_eq!(dir.cluster_id(), same);
    assert!(report.clean, "a refused start changes nothing");
}

#[test]
fn logs_are_found_by_topic_and_partition_after_a_restart() {
    let disk = MemDisk::new();
    let (mut dir, _) = open(&disk, &LogConfig::default()).unwrap();
    for partition in 0..12 {
        let config = LogConfig::default();
        dir.create_log("a-b.c_d", Uuid([9; 16]), PartitionId(partition), config, T0).unwrap();
    }
    let error = dir
        .create_log("a-b.c_d", Uuid([9; 16]), PartitionId(3), LogConfig::default(), T0)
        .unwrap_err();
    assert!(matches!(error, LogError::Exists { .. }));
    for name in ["", ".", "a/b", "ä", &"x".repeat(250)] {
        let made = dir.create_log(name, Uuid::ZERO, PartitionId(0), LogConfig::default(), T0);
        assert!(matches!(made, Err(LogError::BadTopicName { .. })), "{name}");
    }
    dir.close().unwrap();
    let (dir, report) = open(&disk, &LogConfig::default()).unwrap();
    assert_eq!((report.logs, dir.logs().count()), (12, 12));
    let log = dir.get(dir.find("a-b.c_d", PartitionId(11)).unwrap()).unwrap();
    assert_eq!((log.topic_id(), log.partition()), (Uuid([9; 16]), PartitionId(11)));
    assert_eq!(dir.find("a-b.c_d", PartitionId(12)), None);
}

#[test]
fn a_deleted_log_can_be_made_again_at_once() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(5)).unwrap();
    rig.commit();
    let read = rig.log().read(Offset(0), 1000, Offset(5)).unwrap();
    rig.dir.delete_log(rig.id, T0).unwrap();
    assert!(rig.dir.get(rig.id).is_none());
    let config = rig.config.clone();
    rig.id = rig.dir.create_log(TOPIC, Uuid([4; 16]), PartitionId(0), config, T0).unwrap();
    rig.commit();
    assert_eq!(rig.log().log_end_offset(), Offset(0));
    assert_eq!(read.slices[0].read().unwrap().len(), read.size_bytes, "readers can finish");
    let removed = rig.upkeep(T0.plus_ms(60_000));
    assert_eq!(removed.files_removed, 1);
    for seed in 0..10 {
        let image = rig.disk.crash(seed);
        let (dir, report) = open(&image, &rig.config).unwrap();
        let log = dir.get(dir.find(TOPIC, PartitionId(0)).unwrap()).unwrap();
        assert_eq!(log.topic_id(), Uuid([4; 16]), "seed {seed}");
        assert_eq!((log.log_end_offset(), report.damage.len()), (Offset(0), 0));
    }
}

#[test]
fn a_log_deleted_while_a_commit_runs_is_passed_over() {
    let mut rig = Rig::with(&[("segment.bytes", "400")]);
    for _ in 0..10 {
        rig.append(batch_of(5)).unwrap();
    }
    rig.dir.tick(T0.plus_ms(60_000)).unwrap();
    let group = rig.dir.begin_commit().unwrap();
    rig.dir.delete_log(rig.id, T0).unwrap();
    let config = rig.config.clone();
    let id = rig.dir.create_log(TOPIC, Uuid([4; 16]), PartitionId(0), config, T0).unwrap();
    let committed = group.run().unwrap();
    assert!(rig.dir.finish_commit(committed).is_empty());
    rig.commit();
    rig.id = id;
    rig.append(batch_of(3)).unwrap();
    rig.commit();
    assert_eq!(rig.offsets_from(0), [0, 1, 2]);
    let (rig, report) = rig.kill_and_reopen();
    assert!(report.damage.is_empty());
    assert_eq!(rig.offsets_from(0), [0, 1, 2]);
}

#[test]
fn a_log_that_was_not_committed_is_gone_or_whole_after_a_power_cut() {
    for seed in 0..50 {
        let disk = MemDisk::new();
        let (mut dir, _) = open(&disk, &LogConfig::default()).unwrap();
        let id =
            dir.create_log(TOPIC, Uuid([9; 16]), PartitionId(0), LogConfig::default(), T0).unwrap();
        let log = dir.get_mut(id).unwrap();
        log.append(&mut batch_of(5), AppendOrigin::Client, T0).unwrap();
        let image = disk.crash(seed);
        let (dir, _) = open(&image, &LogConfig::default()).unwrap();
        if let Some(id) = dir.find(TOPIC, PartitionId(0)) {
            let log = dir.get(id).unwrap();
            let end = log.log_end_offset();
            assert!(end == Offset(0) || end == Offset(5), "seed {seed}: {end}");
        }
    }
}

#[test]
fn one_commit_covers_many_logs_and_checkpoints_come_in_portions() {
    let disk = MemDisk::new();
    let (mut dir, _) = open(&disk, &LogConfig::default()).unwrap();
    let ids: Vec<_> = (0..150)
        .map(|partition| {
            let config = LogConfig::default();
            dir.create_log(TOPIC, Uuid([9; 16]), PartitionId(partition), config, T0).unwrap()
        })
        .collect();
    for id in &ids {
        let log = dir.get_mut(*id).unwrap();
        log.append(&mut batch_of(5), AppendOrigin::Client, T0).unwrap();
    }
    dir.tick(T0.plus_ms(60_000)).unwrap();
    let mut groups = 0;
    let mut moved = Vec::new();
    while let Some(group) = dir.begin_commit() {
        groups += 1;
        moved.extend(dir.finish_commit(group.run().unwrap()));
    }
    assert_eq!(moved.len(), 150, "all with the first group");
    assert!((2..=4).contains(&groups), "checkpoints of about 67 logs with each: {groups}");
    drop(dir);
    disk.kill();
    let (_, report) = open(&disk, &LogConfig::default()).unwrap();
    assert_eq!((report.logs, report.bytes_scanned), (150, 0));
}

#[test]
fn foreign_directories_and_files_are_left_alone() {
    let rig = Rig::with(&[]);
    let disk = rig.disk.clone();
    for dir in ["lost+found", "t-0-future", "t-0.abc-stray"] {
        disk.create_dir_all(&Path::new(DIR).join(dir)).unwrap();
    }
    let (rig, report) = rig.kill_and_reopen();
    assert_eq!((report.logs, rig.dir.logs().count()), (1, 1));
    assert!(disk.list(&Path::new(DIR).join("t-0-future")).is_ok());
}

#[test]
fn real_files_behave_as_the_twin() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig::from_pairs([("segment.bytes", "1000")]).unwrap();
    let open_files = || LogDir::open(Arc::new(FileDisk), dir.path(), options(&config), T0).unwrap();
    let (mut log_dir, _) = open_files();
    let ids: Vec<_> = (0..10)
        .map(|partition| {
            let config = config.clone();
            log_dir.create_log(TOPIC, Uuid([9; 16]), PartitionId(partition), config, T0).unwrap()
        })
        .collect();
    for _ in 0..20 {
        for id in &ids {
            let log = log_dir.get_mut(*id).unwrap();
            log.append(&mut batch_of(5), AppendOrigin::Client, T0).unwrap();
        }
        while let Some(group) = log_dir.begin_commit() {
            let committed = group.run().unwrap();
            log_dir.finish_commit(committed);
        }
    }
    let check = |log_dir: &LogDir| {
        for (_, log) in log_dir.logs() {
            assert_eq!(log.synced_offset(), Offset(100));
            let read = log.read(Offset(3), 1 << 20, Offset(100)).unwrap();
            let bytes = crate::rig::read_all(&read.slices);
            assert_eq!(weir_protocol::batch::batches(&bytes).count(), 20);
            assert!(read.slices[0].as_file().is_some());
        }
    };
    check(&log_dir);
    drop(log_dir);
    let (log_dir, report) = open_files();
    assert_eq!((report.clean, report.logs_recovered, report.bytes_cut), (false, 10, 0));
    check(&log_dir);
    log_dir.close().unwrap();
    let (log_dir, report) = open_files();
    assert!(report.clean);
    check(&log_dir);
}

/// A commit runs on another thread than the core, and slices are read on a third.
#[test]
fn what_crosses_threads_may() {
    fn crosses<T: Send + Sync>() {}
    crosses::<LogDir>();
    crosses::<weir_log::CommitGroup>();
    crosses::<weir_log::Committed>();
    crosses::<weir_log::FileSlice>();
}

#[test]
fn directories_that_are_gone_are_passed_over_by_a_sync_of_many() {
    let root = tempfile::tempdir().unwrap();
    let dirs: Vec<_> = (0..6).map(|n| root.path().join(format!("t-{n}"))).collect();
    dirs.iter().for_each(|dir| FileDisk.create_dir_all(dir).unwrap());
    for gone in &dirs {
        FileDisk.remove(gone).unwrap();
        FileDisk.sync_many(&[], &dirs).unwrap();
        FileDisk.sync_many(&[], std::slice::from_ref(gone)).unwrap();
    }
}
