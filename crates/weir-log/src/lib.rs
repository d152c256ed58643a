//! The commit log in Kafka's directory format.

pub mod commit;
pub mod config;
pub mod disk;
pub mod error;
pub mod log;
pub mod log_dir;
pub mod recovery;
pub mod slice;

pub use commit::{CommitGroup, Committed};
pub use config::{ConfigError, LogConfig, TimestampType};
pub use disk::{Disk, DiskFile, FileDisk, MemDisk};
pub use error::{AppendError, CommitError, LogError};
pub use log::{AbortedTxn, AppendOrigin, Appended, BatchAt, Log, ReadResult};
pub use log_dir::{LogDir, LogDirOptions, LogId, TickReport};
pub use recovery::{Damage, RecoveryReport};
pub use slice::FileSlice;
