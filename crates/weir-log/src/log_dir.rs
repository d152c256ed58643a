//! [`LogDir`]: a data directory with all its logs.
use std::path::Path;
use std::sync::Arc;

use weir_protocol::{NodeId, Offset, PartitionId, TimestampMs, Uuid};

use crate::commit::{CommitGroup, Committed};
use crate::config::LogConfig;
use crate::disk::Disk;
use crate::error::{CommitError, LogError};
use crate::log::Log;
use crate::recovery::RecoveryReport;

/// One log of a directory, as long as the process lives. Ids are not used again after a log is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

/// How to open a directory.
#[derive(Debug, Clone)]
pub struct LogDirOptions {
    /// The cluster the directory must belong to. `None` takes what it has, or `new_cluster_id`.
    pub cluster_id: Option<String>,
    /// Written to `meta.properties` when the directory is new and `cluster_id` is not given.
    pub new_cluster_id: Uuid,
    /// Written to `meta.properties` when the directory has no id (random bits of the caller; the log has no randomness of its own).
    pub new_directory_id: Uuid,
    /// The node.
    pub node_id: NodeId,
    /// Settings of logs found in the directory whose topic is not in `topic_configs`.
    pub default_config: LogConfig,
    /// Settings per topic. (Change later by `Log::set_config`.)
    pub topic_configs: std::collections::HashMap<String, LogConfig>,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// How often recovery point, log start and high watermark are written down.
    pub checkpoint_interval_ms: i64,
    /// ... and after how many appended bytes, so that recovery stays short.
    pub checkpoint_bytes: u64,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: i64,
}

/// What `tick` did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Segments that retention took out of their logs.
    pub segments_deleted: usize,
    /// Files and directories removed for good.
    pub files_removed: usize,
}

/// A data directory, held by this process.
#[derive(Debug)]
pub struct LogDir {}

impl LogDir {
    /// Opens `dir`, creating it if needed: takes the lock, reads all logs, recovers after an unclean stop.
    ///
    /// # Errors
    /// [`LogError::Locked`] names the process that has it; [`LogError::WrongIdentity`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: LogDirOptions, now: TimestampMs) -> Result<(Self, RecoveryReport), LogError> { let _ = (disk, dir, options, now); unimplemented!() }

    /// The cluster id of `meta.properties`.
    #[must_use]
    pub fn cluster_id(&self) -> &str { unimplemented!() }
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path { unimplemented!() }

    /// Makes the log of a new partition. Durable with the next commit (`has_dirty()` is true after it), so answer CreateTopics then.
    pub fn create_log(&mut self, topic: &str, topic_id: Uuid, partition: PartitionId, config: LogConfig, now: TimestampMs) -> Result<LogId, LogError> { let _ = (topic, topic_id, partition, config, now); unimplemented!() }
    /// Takes a log out; its directory is renamed `-delete` and removed by a later tick. Its name is free at once. Durable with the next commit.
    pub fn delete_log(&mut self, id: LogId, now: TimestampMs) -> Result<(), LogError> { let _ = (id, now); unimplemented!() }
    /// The log of a partition.
    #[must_use]
    pub fn find(&self, topic: &str, partition: PartitionId) -> Option<LogId> { let _ = (topic, partition); unimplemented!() }
    /// A log. `None` once it is deleted.
    #[must_use]
    pub fn get(&self, id: LogId) -> Option<&Log> { let _ = id; unimplemented!() }
    /// A log, to append to. `None` once it is deleted.
    #[must_use]
    pub fn get_mut(&mut self, id: LogId) -> Option<&mut Log> { let _ = id; unimplemented!() }
    /// All logs, in the order of their ids.
    pub fn logs(&self) -> impl Iterator<Item = (LogId, &Log)> { std::iter::empty() }

    /// Whether something waits for a commit.
    #[must_use]
    pub fn has_dirty(&self) -> bool { unimplemented!() }
    /// Collects everything that waits. `None` if nothing does. See [`crate::commit`].
    pub fn begin_commit(&mut self) -> Option<CommitGroup> { unimplemented!() }
    /// Takes a finished group in: the new synced offset of each log that moved.
    pub fn finish_commit(&mut self, committed: Committed) -> Vec<(LogId, Offset)> { let _ = committed; unimplemented!() }
    /// Why the directory is offline, if it is. Appends and commits are then refused.
    #[must_use]
    pub fn failure(&self) -> Option<CommitError> { unimplemented!() }

    /// Deletes segments that are over their topic's `retention.ms` or `retention.bytes`. Returns how many.
    pub fn enforce_retention(&mut self, now: TimestampMs) -> Result<usize, LogError> { let _ = now; unimplemented!() }
    /// Housekeeping that is due: retention, removal of deleted files, expiry of producers; marks a checkpoint as due (`has_dirty()` is then true). Call about once a second.
    pub fn tick(&mut self, now: TimestampMs) -> Result<TickReport, LogError> { let _ = now; unimplemented!() }
    /// Commits everything, writes snapshots, indexes, checkpoints and `.kafka_cleanshutdown`, and releases the lock.
    pub fn close(self, now: TimestampMs) -> Result<(), LogError> { let _ = now; unimplemented!() }
}
