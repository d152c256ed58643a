//! [`LogDir`]: a data directory with all its logs.
//!
//! ```text
//! <dir>/.lock                             held while open; contains the process id
//! <dir>/meta.properties                   cluster, node and directory id
//! <dir>/.kafka_cleanshutdown              there only between a clean stop and the next start
//! <dir>/recovery-point-offset-checkpoint  below it, recovery looks at nothing
//! <dir>/log-start-offset-checkpoint       where DeleteRecords moved a log's start into a segment
//! <dir>/replication-offset-checkpoint     high watermarks, which here are the synced offsets
//! <dir>/weir-commit-journal               commits whose segments are not synced yet
//! <dir>/weir-producer-batches             batches of producers that their snapshots have no room for
//! <dir>/cleaner-offset-checkpoint         up to where compacted logs are clean
//! <dir>/<topic>-<partition>/              one log
//! <dir>/<topic>-<partition>.<id>-delete/  a deleted one, until its files are removed
//! ```

mod clock;
mod open;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use weir_protocol::{LeaderEpoch, NodeId, Offset, PartitionId, TimestampMs, Uuid};

use crate::checkpoint;
use crate::cleaner::CleanerOptions;
use crate::commit::{CheckpointOutcome, CommitGroup, Committed, CommittedLog, Work};
use crate::config::LogConfig;
use crate::disk::{replace_files, Disk, DiskFile, DiskLock, OpenMode};
use crate::error::{CommitError, LogError};
use crate::files;
use crate::index::Place;
use crate::journal::{Journal, GROUP_BYTES_MAX};
use crate::log::{Log, LogPosition};
use crate::producer_state::remembered;
use crate::recovery::{RecoveryReport, RecoveryWatch};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::upkeep::UpkeepState;

/// Files that the checkpoints in one commit write, about. It bounds how long a commit of appends can be
/// held up by them, and how many files are open; the other logs follow with the next.
const CHECKPOINT_FILES_MAX: usize = 200;
/// As above while nobody waits but for the start. Still less than the 1,024 that a process may have
/// open by default.
const CHECKPOINT_FILES_AT_START_MAX: usize = 800;

/// How often producers are looked through for ones to forget (Kafka's
/// `producer.id.expiration.check.interval.ms`).
const EXPIRY_INTERVAL_MS: i64 = 600_000;

/// One log of a directory, for as long as the process lives. An id is not used again after its log
/// was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

/// How to open a directory.
#[derive(Debug, Clone)]
pub struct LogDirOptions {
    /// The cluster the directory must belong to, and is given if it is new. `None` takes what it
    /// has, or `new_cluster_id`.
    pub cluster_id: Option<String>,
    /// For a new directory, if `cluster_id` is not given: random bits of the caller.
    pub new_cluster_id: Uuid,
    /// For a new directory: random bits of the caller.
    pub new_directory_id: Uuid,
    /// The node.
    pub node_id: NodeId,
    /// Settings of logs in the directory whose topic is not in `topic_configs`.
    pub default_config: LogConfig,
    /// Settings by topic. [`Log::set_config`] changes them later.
    pub topic_configs: HashMap<String, LogConfig>,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// Producers without an open transaction that one log remembers. One takes some 270 bytes, and 46 in
    /// each snapshot.
    pub producers_per_log_max: usize,
    /// Producers of all logs together. Beyond it a log that has many forgets one for each new one.
    pub producers_max: usize,
    /// How often recovery points, log starts and high watermarks are written down
    /// (`log.flush.offset.checkpoint.interval.ms`).
    pub checkpoint_interval_ms: i64,
    /// A checkpoint is also written after this many appended bytes: recovery reads at most about
    /// that much.
    pub checkpoint_bytes: u64,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: i64,
    /// How large the commit journal may grow. It begins at 1 MiB, and doubles while commits fill it.
    /// `None`: there is none, and each commit syncs the segments.
    pub journal_bytes_max: Option<u64>,
    /// A commit of more bytes goes to the segments, unless they are many: see [`crate::journal`].
    pub journal_group_bytes_max: u64,
    /// How logs are compacted.
    pub cleaner: CleanerOptions,
    /// Who is told how far a recovery is.
    pub recovery_watch: RecoveryWatch,
}

impl Default for LogDirOptions {
    fn default() -> Self {
        Self {
            cluster_id: None,
            new_cluster_id: Uuid::ZERO,
            new_directory_id: Uuid::ZERO,
            node_id: NodeId(0),
            default_config: LogConfig::default(),
            topic_configs: HashMap::new(),
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            producers_per_log_max: 50_000,
            producers_max: 500_000,
            checkpoint_interval_ms: 60_000,
            checkpoint_bytes: 1 << 30,
            retention_check_interval_ms: 300_000,
            journal_bytes_max: Some(64 << 20),
            journal_group_bytes_max: GROUP_BYTES_MAX,
            cleaner: CleanerOptions::default(),
            recovery_watch: RecoveryWatch::default(),
        }
    }
}

/// What a tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Segments that retention took out of their logs.
    pub segments_deleted: usize,
    /// Producers that were forgotten before their time, for want of room, since the last tick.
    pub producers_forgotten: u64,
}

/// A data directory, held by this process.
#[derive(Debug)]
pub struct LogDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
    journal: Option<Arc<Journal>>,
    cluster_id: String,
    directory_id: Uuid,
    pub(crate) options: LogDirOptions,
    /// By id; `None` once deleted.
    logs: Vec<Option<Log>>,
    by_name: HashMap<String, HashMap<i32, LogId>>,
    commit_running: bool,
    /// Logs that the checkpoint under way has not come to yet.
    pub(crate) checkpoint_logs: VecDeque<LogId>,
    /// The offset checkpoints found no room; they are written with the next commit that can.
    offsets_put_off: bool,
    /// The commit that runs writes them.
    offsets_under_way: bool,
    checkpoint_files_max: usize,
    next_checkpoint: TimestampMs,
    next_retention: TimestampMs,
    next_expiry: TimestampMs,
    pub(crate) upkeep: UpkeepState,
    /// Counts deletions, for unique names.
    deletions: u64,
    _lock: Box<dyn DiskLock>,
}

impl LogDir {
    /// Opens `dir`, makes it if there is none, and recovers it after an unclean stop.
    ///
    /// What it returns is synced: readers may see all of it.
    ///
    /// # Errors
    /// [`LogError::Locked`] names the process that has the directory;
    /// [`LogError::WrongIdentity`]; or what the disk says.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogDirOptions,
        now: TimestampMs,
    ) -> Result<(Self, RecoveryReport), LogError> {
        open::open(disk, dir, options, now)
    }

    /// The cluster id in `meta.properties`.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The id of this directory in `meta.properties`.
    #[must_use]
    pub const fn directory_id(&self) -> Uuid {
        self.directory_id
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the log of a new partition.
    ///
    /// It is durable with the next commit ([`LogDir::has_dirty`] is true afterwards), so that many
    /// partitions share one sync; answer CreateTopics then.
    ///
    /// # Errors
    /// [`LogError::Exists`], [`LogError::BadTopicName`], or what the disk says; nothing is left of
    /// it then.
    pub fn create_log(
        &mut self,
        topic: &str,
        topic_id: Uuid,
        partition: PartitionId,
        config: LogConfig,
        now: TimestampMs,
    ) -> Result<LogId, LogError> {
        self.shared.check()?;
        if files::check_topic_name(topic).is_err() || partition < PartitionId(0) {
            return Err(LogError::BadTopicName { name: topic.to_owned() });
        }
        if self.find(topic, partition).is_some() {
            return Err(LogError::Exists { topic: topic.to_owned(), partition: partition.get() });
        }
        let dir: Arc<Path> = self.dir.join(files::partition_dir(topic, partition.get())).into();
        let place = Place::new(Arc::clone(&self.disk), Arc::clone(&dir));
        let id = LogId(u32::try_from(self.logs.len()).unwrap_or(u32::MAX));
        let log = self.make_log(id, place, topic, topic_id, config, now).map_err(|error| {
            // What is left of it is removed by the next unclean start at the latest.
            let _ = self.disk.remove(&dir);
            self.shared.judge(error)
        })?;
        let log = Log { partition, ..log };
        let root = self.dir.clone();
        self.shared.note(|dirty| {
            dirty.dirs.insert(root);
            dirty.dirs.insert(dir.to_path_buf());
        });
        self.insert(log);
        Ok(id)
    }

    fn make_log(
        &self,
        id: LogId,
        place: Place,
        topic: &str,
        topic_id: Uuid,
        config: LogConfig,
        now: TimestampMs,
    ) -> Result<Log, LogError> {
        let dir = Arc::clone(&place.dir);
        self.disk.create_dir_all(&dir).map_err(|error| LogError::io("create", &*dir, error))?;
        let epochs = [(LeaderEpoch(0), Offset(0))];
        let small_files = [
            (files::PARTITION_METADATA, checkpoint::encode_partition_metadata(topic_id)),
            (files::LEADER_EPOCHS, checkpoint::encode_epochs(&epochs)),
        ];
        let mut new_files: Vec<Arc<dyn DiskFile>> = Vec::new();
        for (name, bytes) in small_files {
            let path = dir.join(name);
            let file = place.open(&path, OpenMode::Truncate)?;
            file.write_at(&bytes, 0).map_err(|error| LogError::io("write", path, error))?;
            new_files.push(file);
        }
        let mut segment = Segment::create(&place, Offset(0), now)?;
        segment.close_file();
        self.shared.note(|dirty| dirty.files.extend(new_files));
        Ok(Log::new(Arc::clone(&self.shared), id, place, topic, topic_id, config, segment, now))
    }

    fn insert(&mut self, log: Log) {
        let (id, partition) = (log.id, log.partition.get());
        self.by_name.entry(log.topic.to_string()).or_default().insert(partition, id);
        debug_assert_eq!(id.0 as usize, self.logs.len(), "ids are places in the list");
        self.logs.push(Some(log));
    }

    /// Deletes a log. Its name is free at once; its directory is renamed, and removed by a later
    /// upkeep, after `file.delete.delay.ms`. Durable with the next commit.
    ///
    /// # Errors
    /// [`LogError::NoSuchLog`], or what the disk says.
    pub fn delete_log(&mut self, id: LogId, now: TimestampMs) -> Result<(), LogError> {
        self.shared.check()?;
        let log = self.get(id).ok_or(LogError::NoSuchLog)?;
        let from = log.dir().to_path_buf();
        let (topic, partition) = (log.topic().to_owned(), log.partition().get());
        let due = now.plus_ms(log.config().file_delete_delay_ms);
        self.deletions += 1;
        // As Kafka's `<topic>-<partition>.<unique id>-delete`; the time tells deletions of
        // different processes apart.
        let unique = format!(".{:x}{:08x}{}", now.get(), self.deletions, files::DELETE_DIR);
        let mut name = files::partition_dir(&topic, partition);
        name.truncate(255 - unique.len());
        let to = self.dir.join(name + &unique);
        self.disk
            .rename(&from, &to)
            .map_err(|error| self.shared.judge(LogError::io("rename", from, error)))?;
        self.upkeep.graveyard.push((due, to));
        if let Some(log) = self.logs.get_mut(id.0 as usize) {
            *log = None;
        }
        if let Some(partitions) = self.by_name.get_mut(&topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.by_name.remove(&topic);
            }
        }
        let root = self.dir.clone();
        self.shared.note(|dirty| {
            dirty.dirs.insert(root);
            // A recovery point of this name must not be applied to a later log.
            dirty.offsets = true;
        });
        Ok(())
    }

    /// The log of a partition.
    #[must_use]
    pub fn find(&self, topic: &str, partition: PartitionId) -> Option<LogId> {
        self.by_name.get(topic)?.get(&partition.get()).copied()
    }

    /// A log. `None` once it is deleted.
    #[must_use]
    pub fn get(&self, id: LogId) -> Option<&Log> {
        self.logs.get(id.0 as usize)?.as_ref()
    }

    /// A log, to append to. `None` once it is deleted.
    #[must_use]
    pub fn get_mut(&mut self, id: LogId) -> Option<&mut Log> {
        self.logs.get_mut(id.0 as usize)?.as_mut()
    }

    /// Changes what the cleaner is told. It holds from the next log it looks at.
    pub fn set_cleaner(&mut self, options: CleanerOptions) {
        self.options.cleaner = options;
    }

    /// All logs, in the order of their ids.
    pub fn logs(&self) -> impl Iterator<Item = (LogId, &Log)> {
        self.logs.iter().flatten().map(|log| (log.id, log))
    }

    /// Whether something waits for a commit. It may be one that runs already.
    #[must_use]
    pub fn has_dirty(&self) -> bool {
        self.shared.has_dirty() || !self.checkpoint_logs.is_empty()
    }

    /// Whether a group was begun and not finished.
    #[must_use]
    pub const fn commit_is_running(&self) -> bool {
        self.commit_running
    }

    /// Why the directory is offline, if it is. Appends and commits are then refused.
    #[must_use]
    pub fn failure(&self) -> Option<CommitError> {
        self.shared.failure()
    }

    /// Collects everything that waits. `None` if nothing does, or while a group is running; ask
    /// again after [`LogDir::finish_commit`]. See [`crate::commit`].
    ///
    /// When the directory is offline the group fails at once, so that whoever waits learns of it.
    pub fn begin_commit(&mut self) -> Option<CommitGroup> {
        if self.shared.failure().is_some() {
            let waits = self.has_dirty();
            self.shared.take();
            self.checkpoint_logs.clear();
            return waits.then(|| self.group(Work::default()));
        }
        if self.commit_running {
            return None;
        }
        if self.shared.appended_bytes().load(Ordering::Relaxed) >= self.options.checkpoint_bytes {
            self.begin_checkpoint(Log::needs_checkpoint);
        }
        if !self.has_dirty() {
            return None;
        }
        self.commit_running = true;
        let work = self.collect().unwrap_or_else(|error| {
            // The group's run() reports it.
            self.shared.fail(&error.to_string());
            Work::default()
        });
        Some(self.group(work))
    }

    fn group(&self, work: Work) -> CommitGroup {
        let journal = self.journal.clone();
        CommitGroup::new(Arc::clone(&self.disk), Arc::clone(&self.shared), journal, work)
    }

    fn collect(&mut self) -> Result<Work, LogError> {
        let dirty = self.shared.take();
        let is_straight = !dirty.dirs.is_empty() || !dirty.files.is_empty();
        let mut work =
            Work { dirs: dirty.dirs, files: dirty.files, is_straight, ..Work::default() };
        for id in dirty.logs {
            let Some(log) = self.get_mut(id) else { continue };
            let taken = log.take_commit_work()?;
            work.files.extend(taken.files);
            match taken.appended {
                Some(appended) => work.appended.push(appended),
                None => work.is_straight = true,
            }
            work.size_bytes += taken.bytes;
            let (end, generation) = (taken.end, taken.generation);
            let rolled = taken.snapshots.into_iter();
            work.snapshots.extend(rolled.map(|snapshot| (id, generation, snapshot)));
            work.logs.push(CommittedLog { id, end, generation });
        }
        let is_round = !self.checkpoint_logs.is_empty();
        let mut full = false;
        let mut open_files = 0;
        while open_files < self.checkpoint_files_max {
            let Some(id) = self.checkpoint_logs.pop_front() else { break };
            let Some(log) = self.get_mut(id) else { continue };
            match log.take_checkpoint_work() {
                Ok(taken) => {
                    open_files += taken.writes.len() + taken.files.len();
                    work.checkpoints.push((id, taken));
                }
                // No room, or no handle: recovery will take longer, nothing else.
                Err(LogError::DiskFull { .. } | LogError::Io { action: "open", .. }) => full = true,
                Err(error) => return Err(error),
            }
        }
        let round_ends = is_round && self.checkpoint_logs.is_empty() && !full;
        if std::mem::take(&mut self.offsets_put_off) || dirty.offsets || round_ends {
            work.offsets = self.offset_files(&work);
        }
        // Recovery points are moved only past what is in the segments for good.
        work.is_straight |= !work.checkpoints.is_empty() || !work.offsets.is_empty();
        self.offsets_under_way = !work.offsets.is_empty();
        Ok(work)
    }

    /// The offset checkpoints as they will be true when this work is done.
    fn offset_files(&self, work: &Work) -> Vec<(PathBuf, Vec<u8>)> {
        let synced: HashMap<LogId, Offset> =
            work.logs.iter().map(|log| (log.id, log.end.offset)).collect();
        let points: HashMap<LogId, Offset> =
            work.checkpoints.iter().map(|(id, work)| (*id, work.done.end.offset)).collect();
        let line = |log: &Log, offset: Offset| (log.topic.to_string(), log.partition.get(), offset);
        let encode = |lines: Vec<(String, i32, Offset)>| {
            checkpoint::encode_offsets(lines.iter().map(|(t, p, offset)| (&**t, *p, *offset)))
        };
        let logs = || self.logs.iter().flatten();
        let recovery_points = logs()
            .map(|log| line(log, points.get(&log.id).map_or(log.recovery_point, |at| *at)))
            .collect();
        let starts = logs()
            .filter(|log| log.segments.front().is_some_and(|first| log.log_start > first.base))
            .map(|log| line(log, log.log_start))
            .collect();
        let high_watermarks = logs()
            .map(|log| line(log, synced.get(&log.id).map_or(log.synced.offset, |at| *at)))
            .collect();
        let mut written = vec![
            (self.dir.join(files::LOG_STARTS), encode(starts)),
            (self.dir.join(files::HIGH_WATERMARKS), encode(high_watermarks)),
            (self.dir.join(files::RECOVERY_POINTS), encode(recovery_points)),
        ];
        if self.upkeep.cleaner.has_offsets {
            let cleaned: Vec<(String, i32, Offset)> =
                logs().filter_map(|log| Some(line(log, log.cleaned_to?))).collect();
            written.push((self.dir.join(files::CLEANED_OFFSETS), encode(cleaned)));
        }
        written
    }

    /// Takes a finished group in: the new synced offset of each log that moved.
    pub fn finish_commit(&mut self, committed: Committed) -> Vec<(LogId, Offset)> {
        self.commit_running = false;
        if self.shared.failure().is_some() {
            return Vec::new();
        }
        let mut moved = Vec::with_capacity(committed.logs.len());
        for CommittedLog { id, end, generation } in committed.logs {
            let Some(log) = self.get_mut(id) else { continue };
            if log.set_synced(end, generation) {
                moved.push((id, end.offset));
            }
        }
        for (id, unwritten) in committed.unwritten {
            if let Some(log) = self.get_mut(id) {
                log.forget_snapshot(unwritten);
            }
        }
        match committed.checkpoint {
            CheckpointOutcome::Written(logs) => {
                for (id, done) in logs {
                    if let Some(log) = self.get_mut(id) {
                        log.set_checkpoint(&done);
                    }
                }
                if self.offsets_under_way {
                    let logs = self.logs.iter_mut().flatten();
                    logs.for_each(|log| log.recovery_point_on_file = log.recovery_point);
                }
            }
            CheckpointOutcome::PutOff { logs, offsets } => {
                // Not as dirty: who commits while something waits would never come to an end.
                self.offsets_put_off |= offsets;
                for (id, work) in logs {
                    if let Some(log) = self.get_mut(id) {
                        log.restore_checkpoint(work);
                    }
                }
            }
        }
        moved
    }

    /// Begins a round of checkpoints of the logs that need one, unless one is under way.
    pub(crate) fn begin_checkpoint(&mut self, needs: fn(&Log) -> bool) {
        self.shared.appended_bytes().store(0, Ordering::Relaxed);
        if self.checkpoint_logs.is_empty() {
            let due = self.logs.iter().flatten().filter(|log| needs(log));
            self.checkpoint_logs = due.map(|log| log.id).collect();
        }
    }

    /// Deletes segments over `retention.ms` or `retention.bytes` of their topic. Returns how many.
    ///
    /// # Errors
    /// What the disk says.
    pub fn enforce_retention(&mut self, now: TimestampMs) -> Result<usize, LogError> {
        self.shared.check()?;
        let (mut deleted, mut failed) = (0, None);
        for log in self.logs.iter_mut().flatten() {
            match log.enforce_retention(now) {
                Ok(count) => deleted += count,
                // The others may make the room that this one wants.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        self.shared.check()?;
        failed.map_or(Ok(deleted), Err)
    }

    /// Does the housekeeping that is due and short: retention, which renames files, and forgetting of
    /// producers. When a checkpoint is due, [`LogDir::has_dirty`] is true afterwards. Call it about
    /// once a second. What takes long is [`LogDir::begin_upkeep`]'s.
    ///
    /// # Errors
    /// What the disk says.
    pub fn tick(&mut self, now: TimestampMs) -> Result<TickReport, LogError> {
        self.shared.check()?;
        let mut report = TickReport::default();
        if now >= self.next_retention {
            self.next_retention = now.plus_ms(self.options.retention_check_interval_ms);
            report.segments_deleted = self.enforce_retention(now)?;
        }
        if now >= self.next_expiry {
            self.next_expiry = now.plus_ms(EXPIRY_INTERVAL_MS);
            let then = now.plus_ms(-self.options.producer_id_expiration_ms);
            self.logs.iter_mut().flatten().for_each(|log| log.producers.expire(then, now));
        }
        let producers = &self.shared.producers;
        producers.recount(self.logs.iter().flatten().map(Log::producer_count).sum());
        report.producers_forgotten = producers.take_forgotten();
        if now >= self.next_checkpoint {
            self.next_checkpoint = now.plus_ms(self.options.checkpoint_interval_ms);
            self.begin_checkpoint(Log::needs_checkpoint);
            if std::mem::take(&mut self.offsets_put_off) {
                self.shared.note(|dirty| dirty.offsets = true);
            }
        }
        Ok(report)
    }

    /// Everything with names of files that are to be removed.
    pub(crate) fn graveyards(&mut self) -> impl Iterator<Item = &mut Vec<(TimestampMs, PathBuf)>> {
        let of_logs = self.logs.iter_mut().flatten().map(|log| &mut log.graveyard);
        of_logs.chain([&mut self.upkeep.graveyard])
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// Commits everything, writes snapshots, indexes, checkpoints and the mark of a clean stop, and
    /// releases the directory. The next start scans nothing.
    ///
    /// # Errors
    /// If a group is running, or the directory is or goes offline. The next start then recovers.
    pub fn close(mut self) -> Result<(), LogError> {
        if self.commit_running {
            let reason = Arc::from("it was closed while a commit was running");
            return Err(LogError::Offline { reason });
        }
        let offline = |error: CommitError| LogError::Offline { reason: error.reason };
        for log in self.logs.iter_mut().flatten() {
            log.prepare_close()?;
        }
        self.checkpoint_logs.clear();
        self.begin_checkpoint(Log::needs_last_checkpoint);
        while let Some(group) = self.begin_commit() {
            let committed = group.run().map_err(offline)?;
            self.finish_commit(committed);
        }
        if let Some(log) = self.logs.iter().flatten().find(|log| log.needs_last_checkpoint()) {
            return Err(LogError::DiskFull { path: log.dir().to_path_buf() });
        }
        if let Some(journal) = &self.journal {
            journal.close().map_err(|error| LogError::io("close", &self.dir, error))?;
        }
        let mut last = self.offset_files(&Work::default());
        let logs = self.logs.iter().flatten();
        let producers = remembered::encode(
            logs.map(|log| (&*log.topic, log.partition.get(), log.end.offset, &log.producers)),
        );
        last.push((self.dir.join(files::PRODUCER_BATCHES), producers));
        // As Kafka's CleanShutdownFileHandler; weir has no broker epoch.
        let mark = br#"{"version":0,"brokerEpoch":-1}"#.to_vec();
        last.push((self.dir.join(files::CLEAN_SHUTDOWN), mark));
        replace_files(&*self.disk, &last)
            .map_err(|error| LogError::io("write checkpoints to", &self.dir, error))
    }
}

impl Log {
    /// A log whose only segment is empty.
    #[allow(clippy::too_many_arguments)] // Each is a field.
    fn new(
        shared: Arc<Shared>,
        id: LogId,
        place: Place,
        topic: &str,
        topic_id: Uuid,
        config: LogConfig,
        segment: Segment,
        now: TimestampMs,
    ) -> Self {
        let start = LogPosition { offset: Offset(0), base: Offset(0), position: 0 };
        let mut epochs = crate::leader_epochs::LeaderEpochs::default();
        epochs.assign(LeaderEpoch(0), Offset(0));
        Self {
            shared,
            id,
            place,
            topic: topic.into(),
            partition: PartitionId(0),
            topic_id,
            config,
            segments: VecDeque::from([segment]),
            log_start: Offset(0),
            end: start,
            synced: start,
            recovery_point: Offset(0),
            recovery_point_on_file: Offset(0),
            cleaned_to: None,
            gaps_to: Offset(0),
            epochs,
            epochs_changed: false,
            epoch_is_unused: false,
            leader_epoch: LeaderEpoch(0),
            producers: crate::producer_state::ProducerStates::default(),
            snapshots: Vec::new(),
            commit: crate::log::CommitState::at(start),
            graveyard: Vec::new(),
            hints: std::sync::Mutex::default(),
            opened: now,
        }
    }
}
