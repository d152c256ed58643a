//! What stands in the files of a log directory, without opening it: for `weir log dump`, and for
//! [`crate::verify`], which judges it.
//!
//! Nothing here writes, takes a lock, or believes a length that it reads: batches are read one at a
//! time, indexes in blocks. A directory may be looked at while a broker uses it; its tails may move
//! meanwhile.

mod entries;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use weir_protocol::{LeaderEpoch, Offset, Uuid};

use crate::checkpoint;
use crate::disk::{read_all, Disk};
use crate::error::LogError;
use crate::files::{self, FileKind};
use crate::producer_state;
use crate::txn_index::{self, AbortedTxn};

pub use crate::producer_state::SnapshotEntry;
pub use entries::{OffsetIndexReader, TimeIndexReader};
pub use walk::{BadRegion, Found, Mend, WalkRules};

/// Offsets by topic and partition, as in a checkpoint.
pub type OffsetLines = BTreeMap<(String, i32), Offset>;

/// The files of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFiles {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its directory.
    pub dir: PathBuf,
    /// By base offset.
    pub segments: Vec<SegmentFiles>,
    /// The offsets of producer snapshots, rising.
    pub snapshots: Vec<Offset>,
    /// Indexes without a segment, and what nobody knows: names only.
    pub others: Vec<String>,
}

/// The files of one segment, with their sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFiles {
    /// Its base offset, which its files are named by.
    pub base: Offset,
    /// Bytes of the `.log`.
    pub log_bytes: u64,
    /// Bytes of the offset index, if there is one.
    pub offset_index_bytes: Option<u64>,
    /// Bytes of the time index, if there is one.
    pub time_index_bytes: Option<u64>,
    /// Bytes of the transaction index, if there is one.
    pub txn_index_bytes: Option<u64>,
}

impl SegmentFiles {
    /// The path of one of its files: suffix `log`, `index`, `timeindex` or `txnindex`.
    #[must_use]
    pub fn path(&self, dir: &Path, suffix: &str) -> PathBuf {
        files::at_offset(dir, self.base, suffix)
    }
}

impl PartitionFiles {
    /// Lists the directory of a partition. `None` if its name is not `<topic>-<partition>`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, LogError> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((topic, partition)) = files::parse_partition_dir(&name) else { return Ok(None) };
        let entries = disk.list(dir).map_err(|error| LogError::io("list", dir, error))?;
        let mut sizes: BTreeMap<Offset, BTreeMap<&'static str, u64>> = BTreeMap::new();
        let (mut snapshots, mut others) = (Vec::new(), Vec::new());
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            match files::kind_of(&entry.name) {
                FileKind::AtOffset(offset, files::SNAPSHOT) => snapshots.push(offset),
                FileKind::AtOffset(offset, suffix) => {
                    sizes.entry(offset).or_default().insert(suffix, entry.len_bytes);
                }
                _ => others.push(entry.name),
            }
        }
        let mut segments = Vec::new();
        for (base, of_base) in sizes {
            let bytes = |suffix| of_base.get(suffix).copied();
            match bytes(files::LOG) {
                Some(log_bytes) => segments.push(SegmentFiles {
                    base,
                    log_bytes,
                    offset_index_bytes: bytes(files::OFFSET_INDEX),
                    time_index_bytes: bytes(files::TIME_INDEX),
                    txn_index_bytes: bytes(files::TXN_INDEX),
                }),
                None => {
                    let orphan = |suffix: &&str| format!("{:020}.{suffix}", base.get());
                    others.extend(of_base.keys().map(orphan));
                }
            }
        }
        snapshots.sort_unstable();
        others.sort_unstable();
        let (topic, dir) = (topic.to_owned(), dir.to_owned());
        Ok(Some(Self { topic, partition, dir, segments, snapshots, others }))
    }
}

/// The partitions of a log directory, by topic and number. One that is removed meanwhile is left out.
///
/// # Errors
/// What the disk says.
pub fn partitions(disk: &dyn Disk, dir: &Path) -> Result<Vec<PartitionFiles>, LogError> {
    let entries = disk.list(dir).map_err(|error| LogError::io("list", dir, error))?;
    let mut found = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.is_dir) {
        match PartitionFiles::read(disk, &dir.join(&entry.name)) {
            Ok(partition) => found.extend(partition),
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(found)
}

/// Whether the last stop was clean. While a broker runs there is no mark.
///
/// # Errors
/// What the disk says.
pub fn has_clean_mark(disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
    let path = dir.join(files::CLEAN_SHUTDOWN);
    match read_all(disk, &path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LogError::io("read", path, error)),
    }
}

/// Reads an offset checkpoint; no lines if there is no file.
///
/// # Errors
/// [`LogError::BadFile`], or what the disk says.
pub fn offset_checkpoint(disk: &dyn Disk, path: &Path) -> Result<OffsetLines, LogError> {
    checkpoint::read_offsets(disk, path)
}

/// Reads a `leader-epoch-checkpoint`. `None` if there is no file.
///
/// # Errors
/// [`LogError::BadFile`], or what the disk says.
pub fn leader_epochs(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Option<Vec<(LeaderEpoch, Offset)>>, LogError> {
    checkpoint::read_epochs(disk, path)
}

/// The topic id in a partition's directory. `None` if there is no `partition.metadata`.
///
/// # Errors
/// [`LogError::BadFile`], or what the disk says.
pub fn topic_id(disk: &dyn Disk, dir: &Path) -> Result<Option<Uuid>, LogError> {
    checkpoint::read_partition_metadata(disk, dir)
}

/// The producers in a snapshot file, by id.
///
/// # Errors
/// [`LogError::BadFile`], or what the disk says.
pub fn producer_snapshot(disk: &dyn Disk, path: &Path) -> Result<Vec<SnapshotEntry>, LogError> {
    let bytes = read_all(disk, path).map_err(|error| LogError::io("read", path, error))?;
    producer_state::list(&bytes)
        .map_err(|what| LogError::BadFile { path: path.to_owned(), what: what.to_owned() })
}

/// The aborted transactions in a transaction index, in the order of their markers.
///
/// # Errors
/// [`LogError::BadFile`], or what the disk says.
pub fn aborted_txns(disk: &dyn Disk, path: &Path) -> Result<Vec<AbortedTxn>, LogError> {
    let bytes = read_all(disk, path).map_err(|error| LogError::io("read", path, error))?;
    txn_index::decode_all(&bytes)
        .map_err(|what| LogError::BadFile { path: path.to_owned(), what: what.to_owned() })
}

/// Walks over one `.log` file from its beginning and hands each thing found to `visit`, in the order
/// of its positions. Memory: one batch, and the offset index of the segment.
///
/// # Errors
/// What the disk or `visit` says. What is wrong with the bytes is no error but a [`Found::Bad`].
pub fn walk_segment(
    disk: &dyn Disk,
    dir: &Path,
    segment: &SegmentFiles,
    rules: &WalkRules,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), LogError>,
) -> Result<walk::WalkEnd, LogError> {
    walk::walk(disk, dir, segment, rules, visit)
}
