//! The commit log in Kafka's directory format.
//!
//! Files that Kafka's own tools read, an answer only after a sync, and no look at a record: batches
//! are appended and served as the producer made them. Synchronous, without a clock, a thread or a
//! random number: `now` is passed in, and blocking I/O happens where the caller wants it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`log_dir`] | [`LogDir`]: the directory with all its logs; open, create, delete, housekeeping |
//! | [`log`] | [`Log`]: one partition; append, read, find by time, truncate |
//! | [`commit`] | the one seam of durability: [`CommitGroup`] |
//! | [`cleaner`] | compaction: the last record of each key |
//! | [`mod@upkeep`] | the slow work that nobody waits for: [`Upkeep`] |
//! | [`journal`] | what makes many small appends durable in one write |
//! | [`recovery`] | what an unclean stop leaves, and the [`RecoveryReport`] |
//! | [`disk`] | [`Disk`], the one seam to storage, with [`FileDisk`] and its twin [`MemDisk`] |
//! | [`config`] | [`LogConfig`]: Kafka's topic keys |
//! | [`mod@slice`] | [`FileSlice`]: batches to be read or sent outside any lock |
//! | [`inspect`], [`verify`] | the files of a directory, looked at and judged without opening it |
//! | [`error`] | what can go wrong |
//!
//! # What holds
//! - A synced offset never exceeds what was really synced, and readers are bounded by it.
//! - A failed write or sync takes the directory offline; nothing is retried. A full disk refuses
//!   appends and goes on when there is room.
//! - Recovery never drops bytes in silence: a torn tail is counted, anything else is kept.
//!
//! # Non-obvious
//! - An index entry names the *last* offset of a batch and the position where that batch *begins*.
//! - Indexes are sparse and may lag behind in their files while the log is open; they are complete
//!   once a segment is sealed, the log is closed, or a checkpoint was written.
//! - A duplicate is answered with the original offsets, so they may lie above the synced offset.
//! - `fdatasync` does not make a new file's name durable: its directory must be synced first.

pub mod cleaner;
pub mod commit;
pub mod config;
pub mod disk;
pub mod error;
pub mod inspect;
pub mod journal;
pub mod log;
pub mod log_dir;
pub mod recovery;
pub mod slice;
pub mod upkeep;
pub mod verify;

mod checkpoint;
mod files;
mod header;
mod index;
mod leader_epochs;
mod offset_index;
mod producer_state;
mod retention;
mod segment;
mod shared;
mod time_index;
mod txn_index;

pub use cleaner::{
    CleanOutcome, CleanState, CleanedPartition, CleanerOptions, CleanerStats, Uncleanable,
};
pub use commit::{CommitGroup, Committed};
pub use config::{ConfigError, LogConfig, TimestampType};
pub use disk::{Disk, DiskFile, FileDisk, MemDisk, ReadOnlyDisk};
pub use error::{is_passing, AppendError, CommitError, LogError};
pub use files::check_topic_name;
pub use journal::Flush;
pub use log::{
    AbortedTxn, AppendOrigin, Appended, BatchAt, Log, MaxTimestamp, ProducerInfo, ReadResult,
    TimeWalk,
};
pub use log_dir::{LogDir, LogDirOptions, LogId, TickReport};
pub use recovery::{Damage, RecoveryProgress, RecoveryReport, RecoveryWatch};
pub use slice::FileSlice;
pub use upkeep::{Upkeep, UpkeepDone, UpkeepReport};
