//! The command line of care: `weir log`, `weir ops`, `weir doctor`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Brokers, ConfigFile};

/// The directory of a command that reads files.
#[derive(Debug, Args)]
pub(crate) struct DataDir {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// weir's data directory, or Kafka's log directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print what stands in segments, indexes, snapshots and checkpoints
    Dump(DumpArgs),
    /// Check every batch, index and checkpoint; repair them if asked
    Verify(VerifyArgs),
    /// Compact a topic now, on a running or a stopped broker
    Clean(CleanArgs),
}

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFilter {
    /// Segments
    Log,
    /// Offset indexes
    Index,
    /// Time indexes
    Timeindex,
    /// Transaction indexes
    Txnindex,
    /// Producer snapshots
    Snapshot,
    /// Checkpoints, partition.metadata, meta.properties
    Checkpoint,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) dir: DataDir,
    /// Only this topic
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Only this partition
    #[arg(long)]
    pub(crate) partition: Option<i32>,
    /// Only this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "topic", "partition"])]
    pub(crate) file: Option<PathBuf>,
    /// Only these: log, index, timeindex, ...
    #[arg(long, value_name = "KIND", value_delimiter = ',', hide_possible_values = true)]
    pub(crate) only: Vec<FileFilter>,
    /// Records too: keys, values, headers
    #[arg(long)]
    pub(crate) records: bool,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) dir: DataDir,
    /// Only this topic
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Only this partition
    #[arg(long)]
    pub(crate) partition: Option<i32>,
    /// Decode every record too
    #[arg(long)]
    pub(crate) deep: bool,
    /// Mend what can be mended (on a stopped broker)
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    #[command(flatten)]
    pub(crate) dir: DataDir,
    /// The topic
    #[arg(long)]
    pub(crate) topic: String,
    /// Only this partition
    #[arg(long)]
    pub(crate) partition: Option<i32>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OpsArgs {
    #[command(subcommand)]
    pub(crate) command: OpsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OpsCommand {
    /// Every consumer group with its partitions and lag
    CheckGroups(CheckGroupsArgs),
    /// Set the committed offsets of a group (dry run first)
    ResetOffset(ResetOffsetArgs),
    /// Sizes of topics and partitions
    MonitorSize(MonitorSizeArgs),
    /// Delete old records through the broker (dry run first)
    Cleanup(CleanupArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckGroupsArgs {
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    /// Only this group
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Warn of a group further behind
    #[arg(long, value_name = "RECORDS", default_value_t = 10_000)]
    pub(crate) threshold: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResetOffsetArgs {
    /// The group
    pub(crate) group: String,
    /// The topic
    pub(crate) topic: String,
    /// An offset, `earliest`, `latest`, or a time (RFC 3339)
    pub(crate) offset: String,
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    /// Only this partition
    #[arg(long)]
    pub(crate) partition: Option<i32>,
    /// Really set them
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MonitorSizeArgs {
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    /// Read this directory instead of asking a broker
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Only this topic
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Warn of a topic above this size (10GB)
    #[arg(long, value_name = "BYTES")]
    pub(crate) threshold: Option<String>,
    /// Measure again so often; shows growth per hour
    #[arg(long, value_name = "SECONDS")]
    pub(crate) watch: Option<u64>,
    /// Stop after so many measurements
    #[arg(long, value_name = "N", requires = "watch")]
    pub(crate) count: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Delete what is older than this many days; default 7
    #[arg(conflicts_with_all = ["before", "keep_bytes"])]
    pub(crate) days: Option<u32>,
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    /// Only this topic; default: all that may be cleaned
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Delete what is older than this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "keep_bytes")]
    pub(crate) before: Option<String>,
    /// Keep about this much of each partition (500MB)
    #[arg(long, value_name = "BYTES")]
    pub(crate) keep_bytes: Option<String>,
    /// Really delete
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) dir: DataDir,
    /// Kafka to look at, not what runs
    #[arg(long, value_name = "LIST", env = "KAFKA_BROKERS")]
    pub(crate) brokers: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
