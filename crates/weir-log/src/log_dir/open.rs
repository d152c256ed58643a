//! Opening a data directory.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_protocol::{Offset, PartitionId, TimestampMs, Uuid};

use super::{
    LogDir, LogDirOptions, LogId, CHECKPOINT_FILES_AT_START_MAX, CHECKPOINT_FILES_MAX,
    EXPIRY_INTERVAL_MS,
};
use crate::checkpoint::{self, MetaProperties, Offsets};
use crate::disk::{read_all, replace_files, Disk, DiskFile, DiskLock, LockFailure, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::index::Place;
use crate::journal::{self, OpenJournal};
use crate::log::Log;
use crate::producer_state::remembered::{self, Remembered};
use crate::producer_state::ProducerRoom;
use crate::recovery::{open_log, Damage, OpenRequest, RecoveryProgress, RecoveryReport, Watched};
use crate::shared::Shared;
use crate::upkeep::UpkeepState;

/// See [`LogDir::open`].
pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: LogDirOptions,
    now: TimestampMs,
) -> Result<(LogDir, RecoveryReport), LogError> {
    create_dir(&*disk, dir)?;
    let lock = take_lock(&*disk, dir)?;
    let (mut meta, is_new) = load_meta(&*disk, dir, &options)?;
    if !is_new {
        journal::refuse_foreign(&*disk, dir, meta.directory_id)?;
    }
    let is_clean = has_clean_mark(&*disk, dir)?;
    let mut report = RecoveryReport { clean: is_clean, ..RecoveryReport::default() };
    let request = OpenJournal {
        disk: &disk,
        dir,
        directory_id: meta.directory_id,
        bytes_max: options.journal_bytes_max,
        group_bytes_max: options.journal_group_bytes_max,
        clean: is_clean,
        expected: (!is_new).then_some(meta.has_journal),
    };
    // While the mark is there: a journal that another program knew nothing of is not applied, also if
    // this start is cut off.
    let journal = journal::open(&request, &mut report)?;
    if is_clean {
        remove_clean_mark(&*disk, dir)?;
    }
    if is_new || meta.has_journal != journal.is_some() {
        meta.has_journal = journal.is_some();
        match write_meta(&*disk, dir, &meta) {
            // Only whether a journal that is missing is told of depends on it.
            Err(LogError::DiskFull { .. }) if !is_new => {}
            outcome => outcome?,
        }
    }
    let anchor = open_anchor(&*disk, dir)?;
    let room = ProducerRoom::new(options.producers_per_log_max, options.producers_max);
    let mut log_dir = LogDir {
        shared: Arc::new(Shared::new(anchor, room)),
        journal: journal.map(Arc::new),
        dir: dir.to_owned(),
        cluster_id: meta.cluster_id,
        directory_id: meta.directory_id,
        logs: Vec::new(),
        by_name: HashMap::new(),
        commit_running: false,
        checkpoint_logs: VecDeque::new(),
        offsets_put_off: false,
        offsets_under_way: false,
        checkpoint_files_max: CHECKPOINT_FILES_AT_START_MAX,
        next_checkpoint: now.plus_ms(options.checkpoint_interval_ms),
        next_retention: now,
        next_expiry: now.plus_ms(EXPIRY_INTERVAL_MS),
        upkeep: UpkeepState::default(),
        deletions: 0,
        _lock: lock,
        options,
        disk,
    };
    load_logs(&mut log_dir, &mut report, now)?;
    if !report.clean {
        sync_recovered(&mut log_dir)?;
    }
    log_dir.checkpoint_files_max = CHECKPOINT_FILES_MAX;
    Ok((log_dir, report))
}

/// A file that is always there, for syncing the file system of the directory.
fn open_anchor(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn DiskFile>, LogError> {
    let path = dir.join(files::META_PROPERTIES);
    disk.open(&path, OpenMode::Existing).map_err(|error| LogError::io("open", path, error))
}

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, LogError> {
    disk.lock(&dir.join(files::LOCK)).map_err(|failure| match failure {
        LockFailure::Held { pid } => LogError::Locked {
            path: dir.to_owned(),
            pid: if pid.is_empty() { "unknown".to_owned() } else { pid },
        },
        LockFailure::Io(error) => LogError::io("lock", dir, error),
    })
}

fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    let is_named = |path: &&Path| !path.as_os_str().is_empty();
    // The deepest that is there: a name in it is the first that is new.
    let there = dir.ancestors().skip(1).filter(is_named).position(|path| disk.list(path).is_ok());
    let create = || {
        disk.create_dir_all(dir)?;
        let parents = dir.ancestors().skip(1).filter(is_named).take(there.unwrap_or(0) + 1);
        parents.into_iter().try_for_each(|parent| disk.sync_dir(parent))
    };
    create().map_err(|error| LogError::io("create", dir, error))
}

/// What `meta.properties` says, or is to say in a new directory.
fn load_meta(
    disk: &dyn Disk,
    dir: &Path,
    options: &LogDirOptions,
) -> Result<(MetaProperties, bool), LogError> {
    let path = dir.join(files::META_PROPERTIES);
    if let Some(mut meta) = MetaProperties::read(disk, &path)? {
        let wrong = |key, found: String, wanted: String| {
            Err(LogError::WrongIdentity { path: path.clone(), key, found, wanted })
        };
        if let Some(wanted) = options.cluster_id.as_ref().filter(|id| **id != meta.cluster_id) {
            return wrong("cluster.id", meta.cluster_id, wanted.clone());
        }
        if meta.node_id != options.node_id {
            return wrong("node.id", meta.node_id.to_string(), options.node_id.to_string());
        }
        if meta.directory_id == Uuid::ZERO {
            // As Kafka does with a directory older than KIP-858.
            meta.directory_id = options.new_directory_id;
            write_meta(disk, dir, &meta)?;
        }
        return Ok((meta, false));
    }
    let meta = MetaProperties {
        cluster_id: options
            .cluster_id
            .clone()
            .unwrap_or_else(|| options.new_cluster_id.to_string()),
        node_id: options.node_id,
        directory_id: options.new_directory_id,
        has_journal: false,
    };
    Ok((meta, true))
}

fn write_meta(disk: &dyn Disk, dir: &Path, meta: &MetaProperties) -> Result<(), LogError> {
    let path = dir.join(files::META_PROPERTIES);
    replace_files(disk, &[(path.clone(), meta.encode())])
        .map_err(|error| LogError::io("write", path, error))
}

/// Whether the last stop was clean.
fn has_clean_mark(disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
    let path = dir.join(files::CLEAN_SHUTDOWN);
    // Kafka before 3.8 wrote an empty file; what it says is of no interest here.
    match read_all(disk, &path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LogError::io("read", path, error)),
    }
}

/// Removes the mark of a clean stop for good, before anything is appended.
fn remove_clean_mark(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    let path = dir.join(files::CLEAN_SHUTDOWN);
    let remove = || disk.remove(&path).and_then(|()| disk.sync_dir(dir));
    remove().map_err(|error| LogError::io("remove", &path, error))
}

/// An offset checkpoint. One that is damaged makes the start an unclean one.
fn load_offsets(
    log_dir: &LogDir,
    name: &str,
    report: &mut RecoveryReport,
) -> Result<Offsets, LogError> {
    match checkpoint::read_offsets(&*log_dir.disk, &log_dir.dir.join(name)) {
        Err(error @ LogError::BadFile { .. }) => {
            report.bad_files.push(error.to_string());
            report.clean = false;
            Ok(Offsets::new())
        }
        outcome => outcome,
    }
}

/// Up to where logs are clean. Without it they are cleaned from the front, nothing else.
fn load_cleaned_offsets(
    log_dir: &mut LogDir,
    report: &mut RecoveryReport,
) -> Result<Offsets, LogError> {
    match checkpoint::read_offsets(&*log_dir.disk, &log_dir.dir.join(files::CLEANED_OFFSETS)) {
        Ok(offsets) => {
            log_dir.upkeep.cleaner.has_offsets = !offsets.is_empty();
            Ok(offsets)
        }
        Err(error @ LogError::BadFile { .. }) => {
            report.bad_files.push(error.to_string());
            log_dir.upkeep.cleaner.has_offsets = true;
            Ok(Offsets::new())
        }
        Err(error) => Err(error),
    }
}

/// What the clean stop wrote down of producers. Without it their logs are read back.
fn load_remembered(log_dir: &LogDir) -> Result<Remembered, LogError> {
    let path = log_dir.dir.join(files::PRODUCER_BATCHES);
    match read_all(&*log_dir.disk, &path) {
        Ok(bytes) => Ok(remembered::decode(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Remembered::new()),
        Err(error) => Err(LogError::io("read", path, error)),
    }
}

/// Where logs start is written whenever recovery points are, and before them: without it records come back
/// that DeleteRecords took away.
fn tell_of_missing_starts(log_dir: &LogDir, report: &mut RecoveryReport) -> Result<(), LogError> {
    let entries = log_dir
        .disk
        .list(&log_dir.dir)
        .map_err(|error| LogError::io("list", &log_dir.dir, error))?;
    let is_there = |name: &str| entries.iter().any(|entry| entry.name == name);
    if is_there(files::RECOVERY_POINTS) && !is_there(files::LOG_STARTS) {
        report.warnings.push(format!(
            "{} is gone: records that were deleted by DeleteRecords may be there again",
            log_dir.dir.join(files::LOG_STARTS).display()
        ));
    }
    Ok(())
}

fn load_logs(
    log_dir: &mut LogDir,
    report: &mut RecoveryReport,
    now: TimestampMs,
) -> Result<(), LogError> {
    let bad_files = report.bad_files.len();
    let recovery_points = load_offsets(log_dir, files::RECOVERY_POINTS, report)?;
    let points_are_known = report.bad_files.len() == bad_files;
    let log_starts = load_offsets(log_dir, files::LOG_STARTS, report)?;
    tell_of_missing_starts(log_dir, report)?;
    let high_watermarks = load_offsets(log_dir, files::HIGH_WATERMARKS, report)?;
    let cleaned = load_cleaned_offsets(log_dir, report)?;
    let mut remembered = if report.clean { load_remembered(log_dir)? } else { Remembered::new() };
    // Each log for itself: that one contradicts the mark says nothing of the others.
    let is_clean = report.clean;
    let entries = log_dir
        .disk
        .list(&log_dir.dir)
        .map_err(|error| LogError::io("list", &log_dir.dir, error))?;
    let mut names: Vec<String> =
        entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect();
    // The same directory gives the same ids, whatever order the system lists it in.
    names.sort_unstable();
    let is_log = |name: &&String| files::parse_partition_dir(name).is_some();
    let logs_total = names.iter().filter(is_log).count();
    for name in names {
        let path = log_dir.dir.join(&name);
        if name.ends_with(files::DELETE_DIR) {
            log_dir.upkeep.graveyard.push((now, path));
            continue;
        }
        let Some((topic, partition)) = files::parse_partition_dir(&name) else { continue };
        let key = (topic.to_owned(), partition);
        let config = log_dir.options.topic_configs.get(topic);
        let request = OpenRequest {
            place: Place::new(Arc::clone(&log_dir.disk), path.into()),
            shared: Arc::clone(&log_dir.shared),
            id: LogId(u32::try_from(log_dir.logs.len()).unwrap_or(u32::MAX)),
            topic: topic.to_owned(),
            partition,
            config: config.unwrap_or(&log_dir.options.default_config).clone(),
            recovery_point: (!is_clean)
                .then(|| recovery_points.get(&key).copied().unwrap_or(Offset(0))),
            recovery_point_on_file: points_are_known
                .then(|| recovery_points.get(&key).copied().unwrap_or(Offset(0))),
            log_start: log_starts.get(&key).copied(),
            synced: recovery_points.get(&key).max(high_watermarks.get(&key)).copied(),
            cleaned_to: cleaned.get(&key).copied(),
            remembered: remembered.remove(&key),
            now,
        };
        let progress = RecoveryProgress {
            logs_done: log_dir.logs.len(),
            logs_total,
            topic: topic.to_owned(),
            partition,
            bytes_done: 0,
            bytes_total: 0,
        };
        let mut watched = Watched::new(log_dir.options.recovery_watch.clone(), progress);
        let (log, one) = open_log(request, &mut watched)?;
        report.add(one);
        if let Some(log) = log {
            log_dir.insert(log);
        }
    }
    if is_clean {
        tell_of_missing_logs(log_dir, &recovery_points, report);
    }
    Ok(())
}

/// A clean stop leaves points for those logs that there are, and none else. After any other a log may have been deleted
/// since they were written.
fn tell_of_missing_logs(log_dir: &LogDir, points: &Offsets, report: &mut RecoveryReport) {
    for ((topic, partition), point) in points.iter().filter(|(_, point)| **point > Offset(0)) {
        let name = files::partition_dir(topic, *partition);
        let is_log = files::parse_partition_dir(&name).is_some();
        if !is_log || log_dir.find(topic, PartitionId(*partition)).is_some() {
            continue;
        }
        let path = log_dir.dir.join(name);
        report.damage.push(Damage {
            topic: topic.clone(),
            partition: *partition,
            segment: path.clone(),
            position: 0,
            offset: Offset(0),
            bytes_cut: 0,
            kept_in: path,
            what: format!("the directory is gone; the log in it was synced up to offset {point}"),
        });
    }
}

/// Makes what recovery found durable, and writes down that it was: a second crash starts from here.
fn sync_recovered(log_dir: &mut LogDir) -> Result<(), LogError> {
    let root = log_dir.dir.clone();
    let dirs: Vec<_> = log_dir.logs().map(|(_, log)| log.dir().to_path_buf()).collect();
    log_dir.shared.note(|dirty| {
        dirty.dirs.insert(root);
        dirty.dirs.extend(dirs);
        dirty.offsets = true;
    });
    log_dir.begin_checkpoint(Log::needs_checkpoint);
    while let Some(group) = log_dir.begin_commit() {
        let committed = group.run().map_err(|error| LogError::Offline { reason: error.reason })?;
        log_dir.finish_commit(committed);
    }
    Ok(())
}
