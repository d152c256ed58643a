//! What can go wrong in a log.
//!
//! Three enums, because callers branch on different things: [`AppendError`] is answered to a
//! producer, [`CommitError`] takes the directory offline, [`LogError`] is everything else.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use weir_protocol::batch::BatchError;
use weir_protocol::{Offset, ProducerEpoch, ProducerId, Sequence};

/// An operation on the directory or on one log failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted, as a verb: "open", "read", "rename".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room left. Nothing was appended; later appends may succeed.
    #[error("no space left on the disk of {path}", path = path.display())]
    DiskFull {
        /// The file that should have grown.
        path: PathBuf,
    },
    /// Another process uses the directory.
    #[error("{path} is in use by process {pid}", path = path.display())]
    Locked {
        /// The log directory.
        path: PathBuf,
        /// The process id in its `.lock` file; "unknown" if it holds none.
        pid: String,
    },
    /// A write or sync failed earlier, so the state of the files is not known.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The first failure.
        reason: Arc<str>,
    },
    /// The offset asked for is not in the log.
    #[error("offset {offset} is outside {log_start_offset} to {log_end_offset}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset that is kept.
        log_start_offset: Offset,
        /// One past the last.
        log_end_offset: Offset,
    },
    /// Bytes in a segment are not the batch that must be there.
    #[error("damage in {path} at byte {position}: {what}", path = path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A file beside the segments (checkpoint, `meta.properties`, snapshot) cannot be understood.
    #[error("{path} is not valid: {what}", path = path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The directory belongs to another cluster or node.
    #[error("{path} has {key} {found}, but {wanted} was asked for", path = path.display())]
    WrongIdentity {
        /// `meta.properties`.
        path: PathBuf,
        /// The property.
        key: &'static str,
        /// What the file says.
        found: String,
        /// What the options say.
        wanted: String,
    },
    /// The commit journal is not this directory's, or a later weir wrote it.
    #[error("{path} is not used: {what}", path = path.display())]
    ForeignJournal {
        /// The journal.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// A log for this partition exists.
    #[error("the log {topic}-{partition} exists already")]
    Exists {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// No log has this id, or it was deleted.
    #[error("there is no such log")]
    NoSuchLog,
    /// It stopped uncleanly, and its commit journal holds what its segments may lack.
    #[error("{path} was not stopped cleanly, and its commit journal is not replayed yet", path = path.display())]
    Unrecovered {
        /// The log directory.
        path: PathBuf,
    },
    /// A name that cannot be a topic's: empty, over 249 characters, or with others than
    /// `[a-zA-Z0-9._-]`.
    #[error("{name:?} cannot be the name of a topic")]
    BadTopicName {
        /// What was asked for.
        name: String,
    },
}

impl LogError {
    /// The code of the page that explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "WEIR-0201",
            Self::Locked { .. } => "WEIR-0202",
            Self::Offline { .. } => "WEIR-0203",
            Self::DiskFull { .. } => "WEIR-0204",
            Self::Damaged { .. } => "WEIR-0205",
            Self::BadFile { .. } => "WEIR-0206",
            Self::WrongIdentity { .. } => "WEIR-0207",
            Self::OffsetOutOfRange { .. } => "WEIR-0208",
            Self::Exists { .. } | Self::NoSuchLog => "WEIR-0209",
            Self::BadTopicName { .. } => "WEIR-0210",
            Self::ForeignJournal { .. } => "WEIR-0217",
            Self::Unrecovered { .. } => "WEIR-0221",
        }
    }

    /// Wraps what the system said. "No space" becomes [`LogError::DiskFull`].
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if is_full(&source) {
            Self::DiskFull { path }
        } else {
            Self::Io { action, path, source }
        }
    }
}

/// Whether the disk or the quota is exhausted, so that trying again later makes sense.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether trying again later makes sense: there is no room, or too many files are open. Neither says
/// anything of what was written before.
#[must_use]
pub fn is_passing(error: &io::Error) -> bool {
    is_full(error) || lacks_handle(error)
}

/// Whether a file was not opened because too many are.
pub(crate) fn lacks_handle(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// A batch was not appended. The log is as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The bytes are not one whole record batch of format v2.
    #[error("not a record batch: {0}")]
    Batch(#[from] BatchError),
    /// The batch breaks a rule that its header alone shows (count, offsets, control bit).
    #[error("invalid record batch: {what}")]
    InvalidBatch {
        /// The rule.
        what: &'static str,
    },
    /// Larger than `max.message.bytes`.
    #[error("batch of {batch_bytes} bytes is over max.message.bytes = {batch_bytes_max}")]
    TooLarge {
        /// Its size.
        batch_bytes: usize,
        /// The topic's limit.
        batch_bytes_max: usize,
    },
    /// Larger than `segment.bytes`, so no segment can hold it.
    #[error("batch of {batch_bytes} bytes is over segment.bytes = {segment_bytes_max}")]
    LargerThanSegment {
        /// Its size.
        batch_bytes: usize,
        /// The topic's limit.
        segment_bytes_max: u64,
    },
    /// Sequences of an idempotent producer have a gap, or a repeat that is too old to answer.
    #[error(
        "producer {producer_id} sent sequence {found} where {expected} follows \
         (Kafka: OUT_OF_ORDER_SEQUENCE_NUMBER)"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The sequence that comes next.
        expected: Sequence,
        /// The first sequence of the batch.
        found: Sequence,
    },
    /// A newer incarnation of this producer has written.
    #[error(
        "producer {producer_id} has epoch {found}, but {current} has written already \
         (Kafka: INVALID_PRODUCER_EPOCH)"
    )]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The newest epoch seen.
        current: ProducerEpoch,
        /// That of the batch.
        found: ProducerEpoch,
    },
    /// A batch outside a transaction while one is open, or the other way round.
    #[error("producer {producer_id}: {what} (Kafka: INVALID_TXN_STATE)")]
    InvalidTxnState {
        /// The producer.
        producer_id: ProducerId,
        /// The rule.
        what: &'static str,
    },
    /// A marker of a transaction coordinator that has been replaced.
    #[error(
        "marker of coordinator epoch {found}, but {current} has written already \
         (Kafka: TRANSACTION_COORDINATOR_FENCED)"
    )]
    CoordinatorFenced {
        /// The newest epoch seen.
        current: i32,
        /// That of the marker.
        found: i32,
    },
    /// The files failed: disk full, offline, or an I/O error.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl AppendError {
    /// The code of the page that explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Batch(_) | Self::InvalidBatch { .. } => "WEIR-0211",
            Self::TooLarge { .. } | Self::LargerThanSegment { .. } => "WEIR-0212",
            Self::OutOfOrderSequence { .. } => "WEIR-0213",
            Self::InvalidProducerEpoch { .. } | Self::CoordinatorFenced { .. } => "WEIR-0214",
            Self::InvalidTxnState { .. } => "WEIR-0215",
            Self::Log(error) => error.code(),
        }
    }
}

/// A commit failed: what it covered is not known to be on disk, and the directory is offline.
///
/// There is no retry. After a failed fsync the kernel marks the pages clean, and a second one
/// "succeeds" without the data (Rebello et al., "Can Applications Recover from fsync Failures?",
/// ATC 2020). Opening the directory again recovers what is really there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("commit failed, the log directory is offline: {reason}")]
pub struct CommitError {
    /// The first failure, with the file.
    pub reason: Arc<str>,
}

impl CommitError {
    /// The code of the page that explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "WEIR-0203"
    }
}
